# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests on hosts share."""

from __future__ import annotations

from collections.abc import Iterator

import lab_hosts
import pytest


@pytest.fixture(scope="session", autouse=True)
def connections() -> Iterator[None]:
    """Leave no connection open in the end."""
    yield
    lab_hosts.hang_up()
