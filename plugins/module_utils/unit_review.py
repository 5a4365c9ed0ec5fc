# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge unit files before they replace anything: what ``systemd-analyze`` says about them, read and put into words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.unit_marks import UNITS

_NOT_THERE = re.compile(r": Command \S+ is not executable: No such file or directory$")
_OVERALL = re.compile(r"Overall exposure level for (\S+): (\d+(?:\.\d+)?)")
_CONTRIBUTOR = re.compile(r"^\S\s+(\S+=\S*)\s.*\s(\d+\.\d+)\s*$")


def complaints(said: str, directory: str, *, tolerate_missing: bool) -> list[str]:
    """Return what ``systemd-analyze verify`` says about the candidates in ``directory``: any line of it is an error.

    ``--recursive-errors=no`` keeps lines about other units out (found on systemd 252 and 257). A program that is not there is
    tolerated where nothing is installed yet.
    """
    lines = dict.fromkeys(line.replace(f"{directory}/", "").rstrip() for line in said.splitlines() if line.strip())
    return [line for line in lines if not (tolerate_missing and _NOT_THERE.search(line))]


def exposures(said: str) -> dict[str, tuple[float, list[tuple[str, float]]]]:
    """Return the exposure of each unit, of 10, with its contributors (directive, share), the largest first.

    ``said`` is the output of ``systemd-analyze security --offline=true UNIT...``: for each unit a table, then its total.
    """
    found: dict[str, tuple[float, list[tuple[str, float]]]] = {}
    contributors: list[tuple[str, float]] = []
    for line in said.splitlines():
        contributor, overall = _CONTRIBUTOR.match(line), _OVERALL.search(line)
        if contributor:
            contributors.append((contributor[1], float(contributor[2])))
        elif overall:
            found[overall[1]] = (float(overall[2]), sorted(contributors, key=lambda one: -one[1]))
            contributors = []
    return found


def too_exposed(wanted: Mapping[str, Any], exposure: float, contributors: Iterable[tuple[str, float]]) -> str:
    """Return the error about a unit that is more exposed than it may be; empty when it is not."""
    if exposure <= wanted["exposure_max"]:
        return ""
    largest = ", ".join(f"{directive} {share}" for directive, share in list(contributors)[:5])
    sandbox = f"fleet_services.{wanted['service']}.sandbox"
    return (
        f"{wanted['name']}: its exposure is {exposure} of 10, over the {wanted['exposure_max']} that is allowed\n"
        f"  most of it: {largest}\n"
        f"  → take back a relaxation in {sandbox} (or a drop-in in {UNITS}/{wanted['name']}.d), or accept it: {sandbox}.exposure_max: {exposure}"
    )
