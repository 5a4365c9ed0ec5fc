# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of two versions is the older one, as far as their names tell. Pure."""

from __future__ import annotations

import re
from itertools import zip_longest

_VERSION = re.compile(r"[vV]?(\d+(?:\.\d+)+|\d+(?![0-9A-Za-z]))(?:[-~._]?([A-Za-z][0-9A-Za-z.~_-]*))?(?:\+(.*))?")
_PRE_RELEASES = {"a": 1, "alpha": 1, "b": 2, "beta": 2, "pre": 3, "preview": 3, "rc": 4}
"""What comes before the release itself, in the order in which it comes."""

Key = tuple[int, ...]


def compare(one: str, other: str) -> int | None:
    """Return -1 where ``one`` is older than ``other``, 0 where they are the same, 1 where it is newer; None where nobody can tell.

    Numbers count as numbers (1.9 is older than 1.10), 1.0 and 1.0.0 are the same, and 2.0-rc.1 is older than 2.0. Commits,
    and suffixes of unknown meaning on the same number, tell nothing.
    """
    if one == other:
        return 0
    first, second = _VERSION.fullmatch(one), _VERSION.fullmatch(other)
    if not first or not second:
        return None
    decided = _sign(_numbers(first[1]), _numbers(second[1]))
    if decided or (first[2], first[3]) == (second[2], second[3]):
        return decided
    suffixes = _pre_release(first[2]), _pre_release(second[2])
    if suffixes[0] is None or suffixes[1] is None or suffixes[0] == suffixes[1]:
        return None  # of unknown meaning, or two builds of one version
    return _sign(suffixes[0], suffixes[1])


def _numbers(text: str) -> Key:
    return tuple(map(int, text.split(".")))


def _sign(one: Key, other: Key) -> int:
    pairs = list(zip_longest(one, other, fillvalue=0))
    return next(((first > second) - (first < second) for first, second in pairs if first != second), 0)


def _pre_release(suffix: str | None) -> Key | None:
    """Return a key that sorts pre-releases, and the release itself last; None for a suffix of unknown meaning."""
    if not suffix:
        return (max(_PRE_RELEASES.values()) + 1,)
    match = re.fullmatch(r"([A-Za-z]+)[-._]?(\d+(?:\.\d+)*)?", suffix)
    rank = _PRE_RELEASES.get(match[1].lower()) if match else None
    return None if rank is None or match is None else (rank, *_numbers(match[2] or "0"))
