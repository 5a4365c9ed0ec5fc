# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in a description for a value that could not be read, so that everything else of it can still be checked.

Whoever needs ``BROKEN`` for anything (compares it, counts it, puts it into a text) is stopped by Unusable. So no mistake ever follows from
another one: a check that depends on what is broken finds nothing, and all others go on. ``attempt`` is where they are told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Callable


class Unusable(Exception):
    """A value was needed that could not be read, which has been said already."""


def _stop(*_arguments: Any) -> Any:
    raise Unusable


_USES = """
    abs add and bool call contains delitem divmod enter eq exit float floordiv format fspath ge getattr getitem gt hash index int invert
    iter le len lt mod mul ne neg next or pos pow radd rand repr rmod rmul ror rsub setitem str sub truediv xor
"""

BROKEN: Any = type("Broken", (), {**{f"__{use}__": _stop for use in _USES.split()}, "__deepcopy__": lambda self, _memo: self})()
"""It may be moved, and told by ``is``; nothing else."""


def attempt(part: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``part`` makes of its arguments; BROKEN where it would need what could not be read."""
    try:
        return part(*arguments)
    except Unusable:
        return BROKEN
    except TypeError:
        # Functions written in C look at the type, and ask nothing of the value.
        if not holds_broken(arguments):
            raise
        return BROKEN


def holds_broken(value: Any) -> bool:
    """Return whether anything in a value could not be read."""
    if isinstance(value, (list, tuple)):
        return any(map(holds_broken, value))
    return value is BROKEN or (isinstance(value, Mapping) and any(map(holds_broken, value.values())))


def readable(values: Iterable[Any]) -> list[Any]:
    """Return the values that could be read; none of a list that could not be read itself."""
    return [] if values is BROKEN else [value for value in values if value is not BROKEN]


def numbered(values: Iterable[Any]) -> list[tuple[int, Any]]:
    """Return the values that could be read, with their places in the list."""
    return [] if values is BROKEN else [(index, value) for index, value in enumerate(values) if value is not BROKEN]


def value_at(value: Any, *keys: str) -> Any:
    """Return what a mapping has at a path of keys; BROKEN where something on the way could not be read."""
    for key in keys:
        if value is BROKEN:
            break
        value = value[key]
    return value
