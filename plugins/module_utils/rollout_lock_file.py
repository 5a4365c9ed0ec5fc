# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rollout lock of a host as a file: compared and written while nobody else does. What it means is ``rollout_lock``'s."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import exclusive, journal, rollout_lock
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.rollout_look import LOCK, ROLLOUT


def _alone() -> AbstractContextManager[None]:
    """Keep others out while the lock is compared and written."""
    return exclusive.held(Path(ROLLOUT, ".guard"))


def _find() -> dict[str, Any] | None:
    try:
        with open(LOCK, encoding="utf-8", errors="replace") as file:
            return rollout_lock.read(file.read())
    except FileNotFoundError:
        return None


def _write(lock: Mapping[str, Any]) -> None:
    journal.write_whole(Path(LOCK), json.dumps(lock).encode(), durable=True)


def take(mine: Mapping[str, Any], over: str = "", *, check_mode: bool = False) -> dict[str, Any] | None:
    """Take the lock, and return what was there before; ``over`` is the id of the one lock of others that may be replaced.

    Raises FleetError while another one lies there.
    """
    with _alone():
        found, now = _find(), time.time()
        if found and found["id"] not in (mine["id"], over):
            host = os.uname().nodename
            raise FleetError(rollout_lock.refusal({host: found}, {host: now}))
        if not check_mode:
            is_mine = found and found["id"] == mine["id"]
            _write({**mine, "taken": found["taken"] if found and is_mine else now, "beat": now})
    return found


def release(identifier: str, *, check_mode: bool = False) -> dict[str, Any] | None:
    """Give a lock back, where it lies here; return what was there."""
    with _alone():
        found = _find()
        if found and found["id"] == identifier and not check_mode:
            os.unlink(LOCK)
    return found


def beat(identifier: str) -> None:
    """Give a sign of life of a lock, where it lies here."""
    with _alone():
        found = _find()
        if found and found["id"] == identifier:
            _write({**found, "beat": time.time()})
