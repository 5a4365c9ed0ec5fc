# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of one host for people: by area, and what differs for one reason together. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import host_tools
from ansible_collections.hearth.fleet.plugins.module_utils.plan import AREAS

_RULE = re.compile(r"(?P<before>(?:IPv[46] only: )?(?:allow|deny|limit|reject) .* from )(?P<source>\S+)(?P<after>.*)")
_WIDTH = 110
_OF_THEIR_OWN = ("firewall",)
"""Areas whose items are sentences, so that each has a line of its own."""

Difference = Mapping[str, Any]


def render(planned: Mapping[str, Any]) -> str:
    """Return what differs on a host, in the order in which roles act, and what follows from it; empty for nothing."""
    parts: list[tuple[str, list[str]]] = [(area, _by_reason(summed(planned[area]), apart=area in _OF_THEIR_OWN)) for area in AREAS]
    for prefix, differences in (("", planned["rollout"]), ("then ", planned["follows"])):
        parts += [(f"{prefix}{action}", _by_reason(some)) for action, some in _by(differences, "action")]
    for heading, differences in (("waits for a rollout", planned["staged"]), ("waits", planned["waits"])):
        parts.append((heading, [line for one in differences for line in _wrapped(f"{one['item']}: {one['reason']}")]))
    present = [(heading, lines) for heading, lines in parts if lines]
    margin = max((len(heading) for heading, _lines in present), default=0) + 2
    return "\n".join(line for heading, lines in present for line in _beside(heading, lines, margin))


def summed(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """Return the differences of an area for a person to read: what only repeats itself, as one of them.

    These are the collection's own programs, of which there are dozens, and firewall rules that differ in nothing but where from.
    """
    alike: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for one in differences:
        alike.setdefault((*_likeness(one["item"]), one["reason"], one["service"]), []).append(one)
    return [{**some[0], **(_sum(some) if len(some) > 1 else {})} for some in alike.values()]


def _likeness(item: str) -> tuple[str, str]:
    """Return what an item shares with those that it is told with."""
    rule = _RULE.fullmatch(item)
    if rule:
        return rule["before"], rule["after"]
    return (host_tools.LIBRARY if f"{item}/".startswith(f"{host_tools.LIBRARY}/") else item), ""


def _sum(alike: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    rules = [rule for one in alike if (rule := _RULE.fullmatch(one["item"]))]
    if rules:
        return {"item": f"{rules[0]['before']}{', '.join(rule['source'] for rule in rules)}{rules[0]['after']}"}
    return {"item": f"{len(alike)} files and directories of this collection's own in {host_tools.LIBRARY}"}


def _by(differences: Iterable[Difference], key: str) -> list[tuple[str, list[Difference]]]:
    """Return differences by what they have under a key, in the order of their first ones."""
    found: dict[str, list[Difference]] = {}
    for one in differences:
        found.setdefault(one[key], []).append(one)
    return list(found.items())


def _by_reason(differences: Sequence[Difference], *, apart: bool = False) -> list[str]:
    """Return lines that say what there is for each reason; each item in a line of its own where they are ``apart``."""
    lines: list[str] = []
    for reason, some in _by(differences, "reason"):
        items = [one["item"] for one in some]
        if not apart or len(items) == 1:
            lines += _wrapped(f"{reason}: {', '.join(items)}")
            continue
        lines += [f"{reason}:", *(line for item in items for line in _wrapped(f"  {item}"))]
    return lines


def _wrapped(text: str) -> list[str]:
    indent = "  " if not text.startswith(" ") else "    "
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def _beside(heading: str, lines: Sequence[str], margin: int) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{heading if number == 0 else '':{margin}}{line}"
