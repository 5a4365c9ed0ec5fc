# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories below /run, which vanish at every boot: those that a service's unit makes anew, and those that only tmpfiles.d(5) can. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import unit_text
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

RUN = "/run/"
TMPFILES = "/etc/tmpfiles.d/hearth.conf"
"""What systemd-tmpfiles makes at boot on a host, before the services."""
HEADER = "# Managed by hearth.fleet: what no unit can make below /run\n"


def of_unit(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the directories that the unit itself makes before each start: all of a service's or none.

    ``RuntimeDirectory=`` gives all of them to the account and its group, with one mode, and what is in them, too.
    """
    found = _below_run(spec)
    owners = {(one["owner"], one["group"], one["writable"]) for one in found}
    modes = {one["mode"].rjust(4, "0") for one in found}
    return found if found and owners == {(spec["account"]["user"], spec["account"]["group"], True)} and len(modes) == 1 else []


def at_boot(services: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of TMPFILES, for the directories of a host's services that no unit makes; empty where there are none.

    Raises FleetError, with the inventory path, for one that systemd-tmpfiles would not make.
    """
    below = {name: _below_run(spec) for name, spec in services.items()}
    owners = {one["path"]: str(one["owner"]) for directories in below.values() for one in directories}
    needing = [name for name, spec in services.items() if not of_unit(spec) or _is_nested(name, below)]
    found = [(f"fleet_services.{name}.directories", one) for name in needing for one in below[name]]
    found.sort(key=lambda place: str(place[1]["path"]))  # what holds others comes first
    for where, one in found:
        _require_trusted(one["path"], owners, where)
    lines = [f"d {unit_text.word(one['path'], where)} {one['mode'].rjust(4, '0')} {one['owner']} {one['group']} -\n" for where, one in found]
    return "".join([HEADER, *dict.fromkeys(lines)]) if lines else ""


def _below_run(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in spec["directories"] if one["path"].startswith(RUN)]


def _is_nested(name: str, below: Mapping[str, list[Mapping[str, Any]]]) -> bool:
    """Return whether a service's directories hold another's or lie in them: a unit that makes the outer one takes all that is in it."""
    others = [f"{one['path']}/" for other, directories in below.items() if other != name for one in directories]
    own = [f"{one['path']}/" for one in below[name]]
    return any(outer != inner and (outer.startswith(inner) or inner.startswith(outer)) for outer in own for inner in others)


def _require_trusted(path: str, owners: Mapping[str, str], where: str) -> None:
    """Refuse a directory on whose way an account holds what is somebody else's: the account could put a link in its place."""
    above = [str(parent) for parent in reversed(PurePosixPath(path).parents)]
    for outer, inner in zip(above, above[1:]):
        owner, other = owners.get(outer, "root"), owners.get(inner, "root")
        if owner not in ("root", other):
            raise FleetError(
                f"{where}: {path} would not be there after a boot, as systemd-tmpfiles leaves {outer}, which is {owner}'s, for nothing of"
                f" another owner, and {inner} is {other}'s\n  → give both the same owner, or {outer} to root; groups and modes are free"
            )
