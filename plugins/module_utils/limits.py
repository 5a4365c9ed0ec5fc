# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of a unit's limits: numbers and sizes, and what else systemd takes in their place (systemd.resource-control(5), systemd.exec(5))."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.quantities import seconds, size_bytes
from ansible_collections.hearth.fleet.plugins.module_utils.schema import DURATION, SIZE, Scalar, describe, integer

INFINITY = "infinity"
"""systemd's word for no limit."""

_PERCENTAGE = re.compile(r"(\d+)\s*%")
_LEAST_MEMORY = 2**20


def limit(kind: Scalar, *, share: bool = False) -> Scalar:
    """Return the kind of a limit: what ``kind`` reads, ``infinity``, and with ``share`` a percentage of what the host has."""
    also = "'80%' of the host's, or infinity" if share else "or infinity"

    def parse(value: Any) -> Any:
        text = value.strip() if isinstance(value, str) else ""
        percentage = _PERCENTAGE.fullmatch(text) if share else None
        if percentage:
            if not 1 <= int(percentage[1]) <= 100:
                raise ValueError(f"{text} is out of range; percentages go from 1% to 100%")
            return f"{int(percentage[1])}%"
        if text == INFINITY:
            return text
        try:
            return kind.parse(value)
        except ValueError as error:
            raise ValueError(f"{error}{', ' if ';' in str(error) else '; write a number, '}{also}") from None

    return Scalar(f"{kind.label.partition(' (')[0]}{', percentage' if share else ''} or infinity", parse)


def _memory(value: Any) -> int:
    count = size_bytes(value)
    if count < _LEAST_MEMORY:
        raise ValueError(f"{value} is {count} bytes, which no daemon can live with; write it with its unit, such as 512M")
    return count


def _timeout(value: Any) -> int:
    # To systemd, 0 is no limit either.
    if value == INFINITY or seconds(value) == 0:
        raise ValueError(f"{value} is no limit to systemd, and a rollout or a restore needs one; write the longest that it may take, such as 30m")
    return seconds(value)


def _interval(value: Any) -> int:
    if value == INFINITY:
        raise ValueError("'infinity' would count all starts since the boot, rollouts' too; write 0 if systemd is never to give up, or a duration")
    return seconds(value)


def _cpus(value: Any) -> str:
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text)
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise ValueError(f"{describe(value)} is not a CPU; write its number, from 0, or a range such as '0-3'")
    return text


COUNT_LIMIT = limit(integer(1))
TASKS_LIMIT = limit(integer(1), share=True)
SIZE_LIMIT = limit(SIZE)
SWAP_LIMIT = limit(SIZE, share=True)
MEMORY_LIMIT = limit(Scalar(SIZE.label, _memory), share=True)
TIMEOUT = Scalar(DURATION.label, _timeout)
INTERVAL = Scalar(DURATION.label, _interval)
CPUS = Scalar("CPU or range ('0-3')", _cpus)
