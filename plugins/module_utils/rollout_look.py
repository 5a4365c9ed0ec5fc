# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's files say of rollouts: whose lock lies there, how each service's last transaction ended, which restores are under way.

Changes nothing. Part of every look at a host, so it reads no more than a few small files, and imports nothing of the engine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from typing import Any

ROLLOUT = "/var/lib/hearth/rollout"
LOCK = f"{ROLLOUT}/lock.json"
RESTORE = "/var/lib/hearth/restore"


def new_identifier() -> str:
    """Return a name for a rollout and its transactions. It begins with the time, so that the latest is the last by name."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(3).hex()}"


def look(services: Iterable[str], root: str = "/") -> dict[str, Any]:
    """Return ``lock`` (the text of the host's lock file, None for none), ``now`` (seconds since 1970), ``transactions`` and ``restores``.

    ``transactions`` holds, for each service that had one, the state of the one that is open, else of the last one; ``restores``, for
    each service that one has now, its ``id``, ``since`` (seconds since 1970) and what it ``said`` last.
    """
    names = list(services)
    changed = {service: _transaction(os.path.join(root, ROLLOUT[1:], service)) for service in names}
    restored = {service: _restore(os.path.join(root, RESTORE[1:], service)) for service in names}
    return {
        "lock": _text(os.path.join(root, LOCK[1:])),
        "now": time.time(),
        "transactions": {service: state for service, state in changed.items() if state},
        "restores": {service: state for service, state in restored.items() if state},
    }


def _transaction(home: str) -> dict[str, Any] | None:
    return _state(os.path.join(home, "active")) or _state(os.path.join(home, _latest(home)))


def _latest(home: str) -> str:
    """Return the name of a service's last transaction."""
    return max(_identifiers(home), default="")


def _restore(home: str) -> dict[str, Any] | None:
    """Return the restore that has a service. One without an order has nothing yet."""
    for name in _identifiers(home):
        state = _state(os.path.join(home, name))
        try:
            since = os.stat(os.path.join(home, name, "order.json")).st_mtime
        except OSError:
            continue
        if state and not state.get("outcome"):
            return {"id": name, "since": since, "said": state.get("said")}
    return None


def _identifiers(home: str) -> list[str]:
    """Return the names of a service's transactions, or restores; they begin with the time."""
    try:
        return [name for name in os.listdir(home) if name[0].isdigit()]
    except OSError:
        return []


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
