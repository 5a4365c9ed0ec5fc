# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations and sizes as people write them (``90s``, ``2h30m``, ``4G``), as the numbers that programs use."""

from __future__ import annotations

import re

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_UNITS_OF_TIME = (86400, 3600, 60, 1)

_DURATION = re.compile(r"(?:\d+(?:min|[smhdw]))+")
_DURATION_PART = re.compile(r"(\d+)(min|[smhdw])")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?")


def seconds(text: object) -> int:
    """Return a duration in seconds.

    ``text`` is a number of seconds or a string such as ``90s``, ``5m``, ``2h30m``, ``30d``.
    Raises ValueError, worded for the person who wrote it.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return int(text)
    if isinstance(text, str):
        words = text.replace(" ", "")
        if words.isdigit():
            return int(words)
        if _DURATION.fullmatch(words):
            return sum(int(count) * _SECONDS[unit] for count, unit in _DURATION_PART.findall(words))
    raise ValueError(f"{text!r} is not a duration; write it like 90s, 5m, 2h30m or 30d")


def size_bytes(text: object) -> int:
    """Return a size in bytes; suffixes are powers of 1024, as systemd reads them.

    ``text`` is a number of bytes or a string such as ``512M``, ``4G``, ``1.5G``.
    Raises ValueError, worded for the person who wrote it.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return int(text)
    if isinstance(text, str):
        match = _SIZE.fullmatch(text.strip())
        if match:
            return int(float(match[1]) * _BYTES[match[2]])
    raise ValueError(f"{text!r} is not a size; write it like 512M, 4G or 1.5G")


def duration_text(total: int) -> str:
    """Return seconds as a short text for people: 90 as ``1m30s``."""
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, total = divmod(total, _SECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def since_text(seconds: int | None) -> str:
    """Return how long something lasts in its two largest units of time: ``3d4h``, ``12m5s``; empty when nobody knows."""
    if seconds is None:
        return ""
    largest = next((unit for unit in _UNITS_OF_TIME if seconds >= unit), 1)
    smaller = _UNITS_OF_TIME[min(_UNITS_OF_TIME.index(largest) + 1, len(_UNITS_OF_TIME) - 1)]
    return duration_text(seconds - seconds % smaller)


def size_text(count: int) -> str:
    """Return bytes as a short text for people: 4294967296 as ``4.0 GiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def part_of(total: int, part: int | str, *, up: bool) -> int:
    """Return a number as it is, and a percentage (``25%``) as its share of ``total``, rounded ``up`` or down."""
    if isinstance(part, int):
        return part
    share = total * int(part.rstrip("%"))
    return -(-share // 100) if up else share // 100
