"""What the scenarios' tests share: another host, from which to look at the one under test."""

from __future__ import annotations

import pytest
import testinfra


@pytest.fixture(scope="module")
def ops1(host: testinfra.host.Host) -> testinfra.host.Host:
    """The machine that operators work from."""
    return testinfra.get_host("ssh://ops1", ssh_config=host.backend.ssh_config)
