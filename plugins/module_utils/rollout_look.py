# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's files say of rollouts: whose lock lies there, and how each service's last transaction ended. Changes nothing.

Part of every look at a host, so it reads no more than a few small files, and imports nothing of the engine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from typing import Any

ROLLOUT = "/var/lib/hearth/rollout"
LOCK = f"{ROLLOUT}/lock.json"


def new_identifier() -> str:
    """Return a name for a rollout and its transactions. It begins with the time, so that the latest is the last by name."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(3).hex()}"


def look(services: Iterable[str], root: str = "/") -> dict[str, Any]:
    """Return ``lock`` (the text of the host's lock file, None for none), ``now`` (seconds since 1970) and ``transactions``.

    ``transactions`` holds, for each service that had one, the state of the one that is open, else of the last one.
    """
    found = {service: _transaction(os.path.join(root, ROLLOUT[1:], service)) for service in services}
    return {
        "lock": _text(os.path.join(root, LOCK[1:])),
        "now": time.time(),
        "transactions": {service: state for service, state in found.items() if state},
    }


def _transaction(home: str) -> dict[str, Any] | None:
    return _state(os.path.join(home, "active")) or _state(os.path.join(home, _latest(home)))


def _latest(home: str) -> str:
    """Return the name of a service's last transaction; their names begin with the time."""
    try:
        return max((name for name in os.listdir(home) if name[0].isdigit()), default="")
    except OSError:
        return ""


def _state(directory: str) -> dict[str, Any] | None:
    try:
        state = json.loads(_text(os.path.join(directory, "state.json")) or "")
    except ValueError:
        return None
    return state if isinstance(state, dict) else None


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
