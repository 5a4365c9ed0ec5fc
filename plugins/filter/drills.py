# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with drills, out of what their runners answered, as a filter."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any


def drill_problems(answers: Mapping[str, Mapping[str, Any]], hosts: Collection[str]) -> list[str]:
    """Return what is wrong with the drills of these hosts' backups, in words.

    ``answers`` are the results of ``hearthctl drill status --json``, by the host that was asked.
    """
    return [f"drills on {name}: {problem}" for name, answer in answers.items() if not answer.get("skipped") for problem in _problems(answer, hosts)]


def _problems(answer: Mapping[str, Any], hosts: Collection[str]) -> list[str]:
    try:
        found: dict[str, list[str]] = json.loads(answer["stdout"])["problems"]
    except (KeyError, TypeError, ValueError):
        said = " ".join(str(answer.get("stderr") or answer.get("msg") or "no answer").split())
        return [f"nobody knows what they came to: {said}"]
    return [problem for host, problems in found.items() if host in hosts for problem in problems]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Return the filters by name."""
        return {"drill_problems": drill_problems}
