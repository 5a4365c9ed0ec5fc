# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a host the runner of drills, looked at and compared: programs, releases, files, the timer; and what a former one left.

A wanted drill is a mapping: ``packages`` (program by package), ``releases`` (as for ``releases``), ``paths`` (as for ``paths``),
``units`` and ``timers`` (names). What a drill reported stays.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_area, paths, releases
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.unit_marks import UNITS

OURS = (
    f"{UNITS}/hearth-drill.service", f"{UNITS}/hearth-drill.timer", f"{UNITS}/timers.target.wants/hearth-drill.timer",
    "/etc/hearth/drill/orders/*.json", "/etc/hearth/drill/settings.json", "/etc/hearth/drill/rclone.conf", "/etc/hearth/drill/identity",
    "/etc/hearth/drill/ca.pem",
)  # fmt: skip


def look(wanted: Mapping[str, Any], states: Mapping[str, Mapping[str, Any]], root: str = "/") -> dict[str, Any]:
    """Return what is on the host; changes nothing, starts no process. ``states`` is what systemd says of ``units``, by name."""
    return {
        "programs": {package: os.path.exists(os.path.join(root, program[1:])) for package, program in wanted["packages"].items()},
        "releases": releases.look(wanted["releases"], root=root) if wanted["releases"] else None,
        "paths": paths.look(wanted["paths"]),
        "units": {name: states[name] for name in wanted["units"]},
        "ours": backup_area.ours(root, OURS),
    }


def diff(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> list[Difference]:
    """Return what differs. Pure. The actions are those of ``backup_area.diff`` and ``releases.diff``."""
    changes = paths.diff(wanted["paths"], observed["paths"])
    new = {one.item for one in changes}
    known = [name for name in wanted["units"] if f"{UNITS}/{name}" not in new]
    return [
        *(Difference(package, "not installed", "", "install") for package, there in observed["programs"].items() if not there),
        *(releases.diff(wanted["releases"], observed["releases"]) if wanted["releases"] else []),
        *changes,
        *backup_area.unit_differences(known, wanted["timers"], observed["units"]),
        *backup_area.stale_differences({one["path"] for one in wanted["paths"]}, observed["ours"]),
    ]
