# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables whose long texts go on in the next line, so that every line fits a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import table

_BLANK = " "  # nothing at all would be shown as a dash


def render(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], widths: Mapping[str, int]) -> str:
    """Return ``rows`` as ``table.render`` does; texts of the columns in ``widths`` take so many characters at most per line."""
    return table.render([line for row in rows for line in _lines(row, columns, widths)], columns)


def _lines(row: Mapping[str, Any], columns: Mapping[str, str], widths: Mapping[str, int]) -> list[dict[str, Any]]:
    parts = {key: wrap(str(row.get(key) or ""), width) for key, width in widths.items()}
    first = {key: parts[key][0] if parts.get(key) else row.get(key) for key in columns}
    count = max((len(lines) for lines in parts.values()), default=1)
    return [first, *({key: _part(parts.get(key, []), index) for key in columns} for index in range(1, count))]


def _part(lines: Sequence[str], index: int) -> str:
    return lines[index] if index < len(lines) else _BLANK


def wrap(text: str, width: int) -> list[str]:
    """Return a text in lines of at most ``width`` characters; only a longer word is broken."""
    return textwrap.wrap(text, width, break_on_hyphens=False)
