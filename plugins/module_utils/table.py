# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Aligned text tables for people: no colour, no borders, nothing that a log file or a mail would garble."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_GAP = "  "
_WIDE = ("W", "F")
_ZERO_WIDTH_CATEGORIES = ("Mn", "Me", "Cf")
_CONTROL_CATEGORIES = ("Cc", "Zl", "Zp")

_FINDING_COLUMNS = {"host": "HOST", "level": "LEVEL", "check": "CHECK", "found": "FOUND", "wanted": "WANTED", "path": "SET BY"}


def width(text: str) -> int:
    """Return how many terminal columns a text takes: 2 for wide East Asian characters, 0 for combining marks."""
    return sum(_character_width(character) for character in text)


def render(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return ``rows`` as an aligned table, one line per row below a line of headings; no trailing spaces or newline.

    ``columns`` maps keys of the rows to headings, in the order of the columns. A missing key or None is shown as ``-``;
    a column of numbers alone is aligned to the right.
    """
    cells = [[_cell(row.get(key)) for key in columns] for row in rows]
    lines = [list(columns.values()), *cells]
    widths = [max(width(line[index]) for line in lines) for index in range(len(columns))]
    rights = [_all_numbers(row.get(key) for row in rows) for key in columns]
    return "\n".join(_GAP.join(map(_pad, line, widths, rights)).rstrip() for line in lines)


def render_findings(per_host: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the preflight findings of all hosts as one table, failures first, and below it what to do about them.

    ``per_host`` maps host names to findings as data (``preflight.Finding.as_dict``). Without findings: one sentence.
    """
    rows = [{"host": host, **finding} for host, findings in per_host.items() for finding in findings]
    if not rows:
        count = len(per_host)
        return f"preflight: nothing found on {count} host{'' if count == 1 else 's'}"
    rows.sort(key=lambda row: (row["level"] != "fail", str(row["host"]), str(row["check"])))
    hosts_by_advice: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        hosts = hosts_by_advice.setdefault((str(row["check"]), str(row["remedy"])), [])
        if row["host"] not in hosts:
            hosts.append(str(row["host"]))
    advice = [f"  {check} on {', '.join(hosts)}: {remedy}" for (check, remedy), hosts in hosts_by_advice.items()]
    return "\n".join([render(rows, _FINDING_COLUMNS), "", "What to do:", *advice])


def _character_width(character: str) -> int:
    if unicodedata.category(character) in _ZERO_WIDTH_CATEGORIES:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    # A line break would tear the row apart, and an escape sequence from a host could repaint the reader's terminal.
    return "".join(" " if unicodedata.category(character) in _CONTROL_CATEGORIES else character for character in text)


def _all_numbers(values: Iterable[object]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)


def _pad(text: str, wanted: int, right: bool) -> str:
    space = " " * (wanted - width(text))
    return space + text if right else text + space
