# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollout for people: the table that ``--check`` shows and the confirmation asks about, and what stands against it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import wrapped_table
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text, since_text

_COLUMNS = {
    "batch": "BATCH",
    "service": "SERVICE",
    "host": "HOST",
    "tier": "TIER",
    "change": "CHANGE",
    "schema_risk": "SCHEMA RISK",
    "backup": "LAST BACKUP",
    "down": "STOP TO READY",
    "note": "NOTE",
}
_WIDTHS = {"note": 40}


def render(plan: Mapping[str, Any]) -> str:
    """Return a rollout plan as text: one line for each service and host, the arithmetic of each service, and what else there is to say."""
    parts = ["\n".join(_adopted(one) for one in plan["adopted"])]
    if plan["rows"]:
        parts += [wrapped_table.render(map(_shown, plan["rows"]), _COLUMNS, _WIDTHS), "\n".join(_arithmetic(plan)), _expected(plan)]
    elif not plan["mistakes"] and not plan["adopted"]:
        parts.append("Nothing to do.")
    parts.append("\n".join(plan["said"]))
    return "\n\n".join(filter(None, parts))


def _adopted(one: Mapping[str, str]) -> str:
    begun = f"rollout {one['id']} of {one['service']} on {one['host']}"
    return f"First the interrupted {begun} is followed to its end; it is in phase {one['phase'] or 'begin'}."


def refusal(plan: Mapping[str, Any]) -> str:
    """Return why the rollout must not begin, or why there being nothing to do is no success; empty when all is well."""
    said = [*plan["mistakes"]]
    if plan["nothing"] and not said:
        said = [str(Mistake(f"{one['service']} on {one['host']}", one["why"], one["remedy"])) for one in plan["unready"]]
    heading = "The rollout cannot begin; no service was stopped:" if plan["mistakes"] else "Nothing is to be changed, but not all is ready:"
    return "\n".join([heading, *said]) if said else ""


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    version = f"{row['from'] or 'nothing'} → {row['to']}" if row["from"] != row["to"] else row["to"]
    return {
        **row,
        "batch": f"{row['batch']}/{row['of']}{' canary' if row['canary'] else ''}",
        "change": f"{row['kind']} {version}",
        "backup": "none" if row["backup_age"] is None else f"{since_text(row['backup_age'])} ago",
        "down": _down(row),
        "note": row["note"] or ("; ".join(row["reasons"]) if row["from"] == row["to"] else ""),
    }


def _down(row: Mapping[str, Any]) -> str:
    if row["kind"] == "reload":
        return "not stopped"
    limit = f"at most {duration_text(math.ceil(row['downtime_limit']))}"
    return limit if row["expected_downtime"] is None else f"{row['expected_downtime']:.1f} s last time, {limit}"


def _arithmetic(plan: Mapping[str, Any]) -> Iterator[str]:
    for service in dict.fromkeys(row["service"] for row in plan["rows"]):
        own = plan["arithmetic"][service]
        yield f"{service}: {_must_stay(own)}; {own['batch'] or 'none'} at a time"
        for name, one in own["along"].items():
            yield f"{name}, which stops with {service}: {_must_stay(one)}"


def _must_stay(one: Mapping[str, Any]) -> str:
    hosts = f"{one['hosts']} host{'' if one['hosts'] == 1 else 's'}"
    return f"{one['ready']} of {hosts} ready, {one['min_available']} must stay so ({one['because']})"


def _expected(plan: Mapping[str, Any]) -> str:
    count = len(plan["batches"])
    expected = duration_text(math.ceil(plan["expected_seconds"]))
    return f"{count} batch{'' if count == 1 else 'es'}, about {expected} with soaks, beside draining and copying."
