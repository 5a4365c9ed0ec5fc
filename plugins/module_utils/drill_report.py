# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What drills came to: the report, what is wrong with it, as a table, and as metrics. Pure.

A report is a mapping: ``began`` and ``ended`` (Unix seconds), ``ok``, and ``rows``, one for each set of each host. A row has
``host``, ``service``, ``set``, ``ok``, ``id`` of the newest backup (empty for none), ``older`` (ids of older ones that were
restored too), ``rpo`` (age of the newest in seconds, None for none), ``max_age``, ``rto`` (seconds until the daemon was ready,
or the data were restored; None where they were not), ``started`` (whether the daemon was), ``said`` and ``problems`` (in words), and
``last_success`` (Unix seconds, None for never).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import wrapped_table
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import since_text

_COLUMNS = {
    "host": "HOST",
    "service": "SERVICE",
    "set": "SET",
    "id": "BACKUP",
    "rpo": "RPO",
    "rto": "RTO",
    "proven": "PROVEN",
    "said": "WHAT CAME OF IT",
}
_METRICS = (
    ("ok", "1 if the last drill of this set succeeded."),
    ("last_success_timestamp_seconds", "When a drill of this set last succeeded."),
    ("rpo_seconds", "How old the newest backup was when it was restored."),
    ("rto_seconds", "How long it took from the store to a daemon that is ready."),
)
_RUN_METRICS = (
    ("last_run_timestamp_seconds", "When the last drill ended."),
    ("last_run_ok", "1 if all of the last drill succeeded."),
    ("max_age_seconds", "From which age of the last success on a drill is overdue."),
)

Row = Mapping[str, Any]


def job_of(row: Row) -> tuple[str, str, str]:
    """Return host, service and set of a row, or of an order."""
    return row["host"], row["service"], row["set"]


def with_successes(rows: Iterable[dict[str, Any]], former: Mapping[str, Any] | None, now: float) -> list[dict[str, Any]]:
    """Return rows with the time at which each last succeeded: now, or what the former report says."""
    before = {job_of(row): row["last_success"] for row in (former or {}).get("rows", [])}
    return [{**row, "last_success": now if row["ok"] else before.get(job_of(row))} for row in rows]


def problems(report: Mapping[str, Any] | None, orders: Iterable[Row], max_age: int, now: float) -> dict[str, list[str]]:
    """Return what is wrong with drills, in words, by the host whose backups they are: those that failed, are overdue, or never were.

    ``orders`` are those of the runner, each with ``since``, the time (Unix seconds) since when it has it: a new one has as long as an old one.
    """
    found = {job_of(row): row for row in (report or {}).get("rows", [])}
    said: dict[str, list[str]] = {}
    for order in sorted(orders, key=job_of):
        row = found.get(job_of(order), {"problems": [], "last_success": None})
        last = row["last_success"]
        wrong = [f"the drill failed: {problem}" for problem in row["problems"]]
        if last is not None and now - last > max_age:
            wrong.append(f"the drill is overdue: the last that succeeded was {since_text(int(now - last))} ago")
        elif last is None and not wrong and now - order["since"] > max_age:
            wrong.append("the drill is overdue: none has restored it yet")
        said.setdefault(order["host"], []).extend(f"{order['service']}.{order['set']} of {order['host']}: {one}" for one in wrong)
    return {host: wrong for host, wrong in said.items() if wrong}


def render(report: Mapping[str, Any] | None, now: float) -> str:
    """Return a report as a table for people."""
    if not report or not report["rows"]:
        return "no drill has run yet" if not report else "there is no backup to drill"
    return wrapped_table.render([_shown(row, now) for row in report["rows"]], _COLUMNS, {"said": 60})


def _shown(row: Row, now: float) -> dict[str, Any]:
    last = row["last_success"]
    return {
        **{key: row[key] for key in ("host", "service", "set", "id")},
        "rpo": since_text(row["rpo"]),
        "rto": None if row["rto"] is None else f"{row['rto']:.1f} s",
        "proven": None if last is None else f"{since_text(max(0, int(now - last)))} ago",
        "said": f"FAILED: {'; '.join(map(_first_line, row['problems']))}" if row["problems"] else "; ".join(row["said"]),
    }


def _first_line(text: str) -> str:
    return text.splitlines()[0]


def metrics(report: Mapping[str, Any], max_age: int) -> str:
    """Return a report as metrics for the textfile collector of the node exporter."""
    lines = []
    for name, said in _METRICS:
        values = [(row, _value(row, name)) for row in report["rows"]]
        lines += _metric(name, said, [(_labels(row), value) for row, value in values if value is not None])
    of_the_run = {"last_run_timestamp_seconds": report["ended"], "last_run_ok": int(report["ok"]), "max_age_seconds": max_age}
    for name, said in _RUN_METRICS:
        lines += _metric(name, said, [("", of_the_run[name])])
    return "\n".join(lines) + "\n"


def _value(row: Row, name: str) -> float | None:
    values: dict[str, float | None] = {
        "ok": int(row["ok"]),
        "last_success_timestamp_seconds": row["last_success"],
        "rpo_seconds": row["rpo"],
        "rto_seconds": row["rto"],
    }
    return values[name]


def _metric(name: str, said: str, values: Sequence[tuple[str, float]]) -> list[str]:
    metric = f"hearth_drill_{name}"
    if not values:
        return []
    shown = [f"{metric}{labels} {value if isinstance(value, int) else f'{value:.3f}'}" for labels, value in values]
    return [f"# HELP {metric} {said}", f"# TYPE {metric} gauge", *shown]


def _labels(row: Row) -> str:
    return "{" + ",".join(f'{name}="{_escaped(row[name])}"' for name in ("host", "service", "set")) + "}"


def _escaped(value: object) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
