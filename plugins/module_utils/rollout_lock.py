# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout at a time: whose lock this is, whether it may be taken over, and what people are told about it. Pure.

A lock lies on every host of a rollout and is a mapping:

    id        the rollout's
    owner     user@controller
    pid, boot the controller's process, and the boot of the machine that it runs on
    plan      SHA-256 of what the rollout brings about
    wanted    the same in full: per service a list of [host, version, digest]
    playbook  which playbook it is
    taken     when, and
    beat      the last sign of life: seconds since 1970, by the clock of the host that the lock lies on

Locks are taken on the first host of ``locking_order`` before all others: of two operators one wins there, and the other
has touched nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text

BEAT_SECONDS = 60
"""How often a lock gives a sign of life, at least."""

STALE_SECONDS = 600
"""After so long without one, its rollout has gone, as far as anybody can tell."""

FREE, MINE, DEAD_MINE, TAKEN, STALE = "free", "mine", "dead_mine", "taken", "stale"
MAY_TAKE = (FREE, MINE, DEAD_MINE)
"""Verdicts with which the lock may be taken without anybody's word; with DEAD_MINE ``changes`` must be asked first."""

UNREADABLE = "unreadable"
"""The id of a lock file that is none."""

Lock = Mapping[str, Any]
Wanted = Mapping[str, Iterable[Any]]

_TYPES: dict[str, Any] = {"id": str, "owner": str, "pid": int, "boot": str, "plan": str, "playbook": str, "taken": (int, float), "beat": (int, float)}


def read(text: str | None) -> dict[str, Any] | None:
    """Return the lock that a file holds; None for no file. What is no lock counts as one that is stale, and is called UNREADABLE."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in _TYPES.items()):
        return found
    return {"id": UNREADABLE, "owner": "somebody", "pid": 0, "boot": "", "plan": "", "playbook": "", "taken": 0, "beat": 0}


def judge(found: Lock | None, mine: Lock, now: float, alive: Collection[int] = ()) -> str:
    """Return what the lock that lies there means to the rollout ``mine``: FREE, MINE, DEAD_MINE, TAKEN or STALE.

    ``now`` is the time of the clock that the lock was written by. ``alive`` names the processes of the controller that live,
    at least of those that locks of this owner name: a lock of the same person on the same boot of the same machine, whose
    process is gone, is DEAD_MINE.
    """
    if not found:
        return FREE
    if found["id"] == mine["id"]:
        return MINE
    if (found["owner"], found["boot"]) == (mine["owner"], mine["boot"]) and found["pid"] not in alive:
        return DEAD_MINE
    return STALE if now - found["beat"] > STALE_SECONDS else TAKEN


def may_take(verdict: str, found: Lock | None, break_lock: str = "") -> bool:
    """Return whether the lock may be taken: it is free, one's own, or broken by its very id."""
    return verdict in MAY_TAKE or bool(found and break_lock and found["id"] == break_lock)


def locking_order(hosts: Iterable[str]) -> list[str]:
    """Return hosts in the one order in which every rollout locks them: the first alone, then the others."""
    return sorted(hosts)


def refusal(found: Mapping[str, Lock], now: Mapping[str, float]) -> str:
    """Return the error about locks of others: who, what, since when, and how to go on.

    ``found`` holds the locks that may not be taken by host, ``now`` the time of each of these hosts.
    """
    by_id: dict[str, list[str]] = {}
    for host in locking_order(found):
        by_id.setdefault(found[host]["id"], []).append(host)
    return "\n".join(_refusal(found[hosts[0]], now[hosts[0]], hosts) for hosts in by_id.values())


def _refusal(lock: Lock, now: float, hosts: list[str]) -> str:
    where = f"on {', '.join(hosts)}"
    if lock["id"] == UNREADABLE:
        return f"{where}: the rollout lock cannot be read\n  → when nobody rolls out anything: -e rollout_break_lock={UNREADABLE}"
    silent = _since(lock["beat"], now)
    said = (
        f"{where}: {lock['owner']} runs {lock['playbook']} since {_time(lock['taken'])} ({_since(lock['taken'], now)} ago); "
        f"last sign of life {silent} ago; rollout {lock['id']}, plan {lock['plan'][:12]}{_services(lock)}"
    )
    if now - lock["beat"] > STALE_SECONDS:
        remedy = f"it seems to have gone; if {lock['owner']} says so too: -e rollout_break_lock={lock['id']} (the hosts are then looked at anew)"
    else:
        remedy = f"wait until it has ended, or ask {lock['owner']}. Only if it has gone for certain: -e rollout_break_lock={lock['id']}"
    return f"{said}\n  → {remedy}"


def _services(lock: Lock) -> str:
    wanted = lock.get("wanted") or {}
    return f", of {', '.join(sorted(wanted))}" if wanted else ""


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _since(then: float, now: float) -> str:
    return duration_text(max(0, int(now - then)))


def changes(before: Wanted | None, after: Wanted) -> list[str]:
    """Return in words what a rollout would now bring about otherwise than when it was interrupted; nothing when it is the same.

    Both are ``wanted`` of locks. Which of its hosts are done, down or switched off is no change.
    """
    if before is None:
        return ["what the interrupted run was to do is not known"]
    said = [f"{service} is no longer part of it" for service in before if service not in after]
    said += [f"{service} is part of it now" for service in after if service not in before]
    for service in before:
        if service in after:
            said += _service_changes(service, list(before[service]), list(after[service]))
    return said


def _service_changes(service: str, before: list[Any], after: list[Any]) -> list[str]:
    old, new = {host: rest for host, *rest in before}, {host: rest for host, *rest in after}
    gone, added = [host for host in old if host not in new], [host for host in new if host not in old]
    said = [f"{service}: hosts removed: {', '.join(gone)}"] if gone else []
    said += [f"{service}: hosts added: {', '.join(added)}"] if added else []
    kept = [host for host in new if host in old]
    versions: dict[tuple[str, str], list[str]] = {}
    for host in kept:
        if old[host][0] != new[host][0]:
            versions.setdefault((old[host][0], new[host][0]), []).append(host)
    said += [f"{service}: version {then} became {now} on {', '.join(hosts)}" for (then, now), hosts in versions.items()]
    edited = [host for host in kept if old[host][0] == new[host][0] and old[host][1:] != new[host][1:]]
    said += [f"{service}: config, unit or artifact changed on {', '.join(edited)}"] if edited else []
    if not said and [host for host, *_rest in before] != [host for host, *_rest in after]:
        said.append(f"{service}: the order of its hosts changed")
    return said


def changed_refusal(found: Lock, said: Iterable[str]) -> str:
    """Return the error about a rollout that was interrupted and is not the same any more; ``said`` comes from ``changes``."""
    lines = [f"the rollout {found['id']} of {found['owner']} was interrupted, and this one is not the same:", *(f"  - {one}" for one in said)]
    remedy = f"undo that (inventory, --limit) and run it again, to finish it; or plan anew from where the hosts are: -e rollout_replan={found['id']}"
    return "\n".join([*lines, f"  → {remedy}"])
