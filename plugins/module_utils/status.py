# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs where: one row for each service of each host, out of what the hosts' looks returned. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import wrapped_table
from ansible_collections.hearth.fleet.plugins.module_utils.plan import AREAS
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import since_text

_COLUMNS = {
    "host": "HOST",
    "tier": "TIER",
    "service": "SERVICE",
    "release": "RELEASE",
    "ready": "READY",
    "since": "SINCE",
    "state": "STATE",
    "pending": "PENDING",
}


def rows(specs: Mapping[str, Any], looks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the state of each service: ``host``, ``tier``, ``service``, ``release``, ``ready``, ``since_seconds``, ``state``, ``pending``.

    ``specs`` holds the slices of each host, ``looks`` what observe returned on each (with its probe, else ``ready`` is None).
    ``pending`` says in words what waits: a start or restart, a staged release, differences by area. A host gets a row of its
    own, without a service, where something differs that belongs to none, where it has no services, and where it cannot be
    seen: its ``state`` is then ``unreachable`` or the error.
    """
    return [row for host in looks for row in _rows(host, specs[host]["host"]["tier"], looks[host])]


def render(status: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as a table for people."""
    shown = [{**row, "since": since_text(row["since_seconds"]), "pending": "; ".join(row["pending"])} for row in status]
    return wrapped_table.render(shown, _COLUMNS, {"state": 24, "pending": 40})


def since_seconds(timestamp: str, now: float) -> int | None:
    """Return the seconds since a time as systemd shows it (``Sat 2026-11-21 08:40:01 UTC``); None for none, or another time zone.

    ``now`` is the host's own clock (seconds since 1970), so that a wrong one does no harm.
    """
    words = timestamp.split()
    if len(words) != 4 or words[3] != "UTC":
        return None
    try:
        then = datetime.fromisoformat(f"{words[1]}T{words[2]}+00:00")
    except ValueError:
        return None
    return max(0, int(now - then.timestamp()))


def _rows(host: str, tier: str, look: Mapping[str, Any]) -> list[dict[str, Any]]:
    def row(state: str, pending: list[str], service: str | None = None, **more: Any) -> dict[str, Any]:
        nothing = {"release": None, "ready": None, "since_seconds": None}
        return {"host": host, "tier": tier or None, "service": service, **nothing, "state": state, "pending": pending, **more}

    if "plan" not in look:
        said = "unreachable" if look.get("away") else f"not seen: {' '.join(str(look.get('msg') or 'no answer').split())}"
        return [row(said, [])]
    plan, now = look["plan"], look["facts"]["clock"]["time"]
    found = []
    for service, seen in plan["services"].items():
        more = {"release": seen["release"] or None, "ready": seen.get("ready")}
        running = seen["state"] in ("active", "reloading")
        since = since_seconds(seen["since"], now) if running else None
        found.append(row(seen["state"], _pending(plan, service), service, since_seconds=since, **more))
    of_the_host = _pending(plan, "")
    return [*found, row("reachable", of_the_host)] if of_the_host or not found else found


def _pending(plan: Mapping[str, Any], service: str) -> list[str]:
    """Return in words what waits for a run or a rollout; for the service "" what belongs to none."""
    actions = dict.fromkeys(one["action"] for one in plan["rollout"] if one["service"] == service)
    staged = [f"staged: {one['item'].rpartition(' ')[2]}" for one in plan["staged"] if one["service"] == service]
    counts = {area: sum(one["service"] == service for one in plan[area]) for area in AREAS}
    differs = ", ".join(f"{area} ({count})" for area, count in counts.items() if count)
    waits = [one["reason"] for one in plan["waits"] if one["service"] == service]
    return [*actions, *staged, *waits, *([f"differs: {differs}"] if differs else [])]
