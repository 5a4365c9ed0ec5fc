# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's files say of rollouts: whose lock lies there, how each service's last transaction ended, which restores are under way.

Changes nothing. Part of every look at a host, so it reads no more than a few small files, and imports nothing of the engine. Here is
also said what such a state means for others: whether a service is somebody's, and what they are told.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

ROLLOUT = "/var/lib/hearth/rollout"
LOCK = f"{ROLLOUT}/lock.json"
RESTORE = "/var/lib/hearth/restore"

OPEN_OUTCOMES = ("inconclusive", "needs_operator")
"""A person has the next word; until then, a transaction that ended so has its service."""


class InTheWay(NamedTuple):
    """A change that has a service: the ``problem`` and its ``remedy`` on the host, for people."""

    problem: str
    remedy: str

    def about(self, service: str) -> str:
        """Return both as an error about the service has them."""
        return f"{service}: {self.problem}\n  → {self.remedy}"


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


def in_the_way(service: str, seen: Mapping[str, Any]) -> InTheWay | None:
    """Return the transaction or the restore that has a service, out of what ``look`` has seen; None where it is free."""
    state, restored = seen["transactions"].get(service), seen["restores"].get(service)
    if state and is_open(state):
        return of_transaction(service, state)
    return of_restore(service, restored) if restored else None


def is_open(state: Mapping[str, Any]) -> bool:
    """Return whether a transaction in this state has its service, because it runs or waits for a person."""
    return not state.get("outcome") or (state["outcome"] in OPEN_OUTCOMES and not state.get("resolved"))


def of_transaction(service: str, state: Mapping[str, Any]) -> InTheWay:
    """Return what an open transaction means for others."""
    owner = (state["rollout"] or {}).get("owner") or "somebody"
    where = state["outcome"] or f"in phase {state['phase'] or 'start'}"
    return InTheWay(
        f"transaction {state['id']} of {owner} has the service since {_moment(state['started'])} ({where}: {state['said']})",
        state["next"] or f"wait for it: hearthctl status {service}",
    )


def of_restore(service: str, found: Mapping[str, Any]) -> InTheWay:
    """Return what an open restore means for others."""
    return InTheWay(
        f"restore {found['id']} has the service since {_moment(found['since'])} ({found['said']})",
        f"wait until it has ended: hearthctl status {service}. Only if it does not go on any more: restore again, or give it up, hearthctl resume",
    )


def refuse_while_taken(service: str) -> None:
    """Raise FleetError while a transaction or a restore has a service."""
    found = in_the_way(service, look([service]))
    if found:
        raise FleetError(found.about(service))


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


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
