# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What backs a host up, looked at and compared with what is wanted: programs, files, timers, and jobs that nobody wants.

A wanted backup is a mapping: ``packages`` (program by package), ``paths`` (as for ``paths``), ``units`` (names of all units of
the jobs), ``timers`` (those of them that are to be active). What a job has stored of its own stays when the job goes: there may
be a backup in it that the store has not got yet.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import paths
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.unit_marks import UNITS

CONFIG = "/etc/hearth/backup"
STATE = "/var/lib/hearth/backup"
_OURS = (
    f"{UNITS}/hearth-backup-*.service", f"{UNITS}/hearth-backup-*.timer", f"{UNITS}/hearth-backup-*.path",
    f"{UNITS}/timers.target.wants/hearth-backup-*", f"{UNITS}/paths.target.wants/hearth-backup-*",
    f"{CONFIG}/*.json", f"{CONFIG}/rclone.conf", f"{CONFIG}/ca.pem",
)  # fmt: skip

ACTIVE = ("active", "activating")


def look(wanted: Mapping[str, Any], states: Mapping[str, Mapping[str, Any]], root: str = "/") -> dict[str, Any]:
    """Return what is on the host; changes nothing, starts no process. ``states`` is what systemd says of ``units``, by name."""
    return {
        "programs": {package: os.path.exists(os.path.join(root, program[1:])) for package, program in wanted["packages"].items()},
        "paths": paths.look(wanted["paths"]),
        "units": {name: states[name] for name in wanted["units"]},
        "ours": ours(root),
        "succeeded": {job: _succeeded(os.path.join(root, STATE[1:], job, "state.json")) for job in _jobs(wanted["units"])},
    }


def _jobs(units: Iterable[str]) -> list[str]:
    return [name[len("hearth-backup-") : -len(".service")] for name in units if name.endswith(".service")]


def _succeeded(path: str) -> float | None:
    """Return when a job last succeeded (seconds since 1970, by the host's clock); None for never."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file).get("success_at")
    except (OSError, ValueError, AttributeError):
        return None
    return float(found) if isinstance(found, (int, float)) else None


def ours(root: str = "/", patterns: Iterable[str] = _OURS) -> list[str]:
    """Return the paths of all files of backup jobs (or others of ours, by ``patterns``) that are on the host."""
    return sorted("/" + os.path.relpath(path, root) for pattern in patterns for path in glob.glob(os.path.join(root, pattern[1:])))


def diff(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> list[Difference]:
    """Return what differs. Pure.

    Actions, beside those of ``paths.diff``: ``install`` for a package, ``start`` for a timer, ``daemon-reload``, and ``remove`` for what a
    job left that nobody wants any more.
    """
    changes = paths.diff(wanted["paths"], observed["paths"])
    new = {one.item for one in changes}
    known = [name for name in wanted["units"] if f"{UNITS}/{name}" not in new]  # what systemd thinks of the others follows from that
    return [
        *(Difference(package, "not installed", "", "install") for package, there in observed["programs"].items() if not there),
        *changes,
        *unit_differences(known, wanted["timers"], observed["units"]),
        *stale_differences({one["path"] for one in wanted["paths"]}, observed["ours"]),
    ]


def stale_differences(kept: Collection[str], found: Iterable[str]) -> list[Difference]:
    """Return the paths of ours that belong to no wanted job, as differences."""
    return [Difference(path, "no job wants it any more; what it has stored stays", "", "remove") for path in found if path not in kept]


def unit_differences(names: Iterable[str], timers: Sequence[str], states: Mapping[str, Mapping[str, Any]]) -> list[Difference]:
    """Return what systemd must be told: to read its files again, to start timers."""
    return [found for name in names for found in _unit(name, states[name], timers)]


def _unit(name: str, state: Mapping[str, Any], timers: Sequence[str]) -> list[Difference]:
    found = (
        [Difference(name, "systemd has not read its file since it changed", "", "daemon-reload")]
        if state["needs_reload"] or state["load"] == "not-found"
        else []
    )
    if name in timers and state["active"] not in ACTIVE:
        found.append(Difference(name, f"not active ({state['active']})", "", "start"))
    return found
