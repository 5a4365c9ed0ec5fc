# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests on hosts share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lab_hosts
import pytest
from rollouts import Fleet


@pytest.fixture(scope="session", autouse=True)
def connections() -> Iterator[None]:
    """Leave no connection open in the end."""
    yield
    lab_hosts.hang_up()


@pytest.fixture(scope="module")
def converged_again() -> Iterator[None]:
    """Leave the hosts as site.yml would have them."""
    yield
    Fleet.end()


@pytest.fixture
def fleet(converged_again: None, tmp_path: Path) -> Fleet:
    """Return three hosts with the old release of the simulated node."""
    return Fleet(tmp_path).begin()


@pytest.fixture
def relay(converged_again: None, tmp_path: Path) -> Fleet:
    """Return one host with the old release of the simulated node."""
    return Fleet(tmp_path, ["relay1"]).begin()
