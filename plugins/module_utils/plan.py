# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe a host once, and plan: what differs from its desired state, per role, each with its reason.

``look`` reads everything that any role cares about; ``plan`` is pure. Both work on the slices of ``slices.without_content``.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import (
    accounts,
    backup_area,
    drill_area,
    host_tools,
    paths,
    preflight,
    releases,
    rollout_look,
    ufw_rules,
    unit_marks,
    units,
)
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

AREAS = ("account", "release", "config", "unit", "firewall", "backup", "drill")
"""The roles that bring a host to its desired state, in the order in which they act."""


def look(wanted: Mapping[str, Any], *, controller_time: float | None, resolved: Mapping[str, list[str]] | None) -> dict[str, Any]:
    """Return what the host is like, as far as any role cares. Changes nothing.

    ``controller_time`` (seconds since 1970) and ``resolved`` (name: addresses) are what only the controller knows.
    """
    seen_units = units.look(wanted["unit"]["units"], others=[*wanted["backup"]["units"], *wanted["drill"]["units"]])
    account = wanted["account"]
    return {
        "account": accounts.look(account),
        "paths": paths.look([*account["paths"], *wanted["config"]["paths"], *wanted["unit"]["paths"]]),
        "bootstrap": {one["creates"]: os.path.lexists(one["creates"]) for one in wanted["config"]["bootstrap"]},
        "release": releases.look(wanted["release"], units.running(seen_units)),
        "unit": seen_units,
        "firewall": ufw_rules.look(wanted["firewall"]) if wanted["firewall"]["managed"] else None,
        "backup": backup_area.look(wanted["backup"], seen_units["others"]),
        "drill": drill_area.look(wanted["drill"], seen_units["others"]),
        "rollout": rollout_look.look(one["service"] for one in wanted["rollout"]),
        "preflight": preflight.look({**wanted["preflight"], "controller_time": controller_time, "resolved": resolved}),
    }


def plan(wanted: Mapping[str, Any], observed: Mapping[str, Any], *, every: bool = False) -> dict[str, Any]:
    """Return what differs, by area, and what follows for running services. Pure.

    ``differs`` says whether there is anything to do at all. ``due`` names the areas whose roles must act: those that
    differ, or ``every`` one when asked. ``held`` names the services whose new release is staged while the old one runs:
    their config and unit wait with it. ``start`` and ``restart`` are what ``hearth.fleet.services`` is to do; ``staged`` is
    what waits for a rollout. ``follows`` says which running services will have to restart or reload when all that is done.
    """
    undigested = _undigested(wanted["release"], observed["release"]["arch"])
    installable = [one for one in wanted["release"] if one["service"] not in undigested]
    staged = releases.pending_release(installable, observed["release"])
    held = sorted({one.service for one in staged})
    found: dict[str, list[Difference]] = {
        "account": [*accounts.diff(wanted["account"], observed["account"]), *_paths(wanted["account"], observed, [])],
        "release": releases.diff(installable, observed["release"]),
        "config": [*_paths(wanted["config"], observed, held), *_bootstraps(wanted["config"]["bootstrap"], observed["bootstrap"])],
        "unit": [*_paths(wanted["unit"], observed, []), *units.diff(wanted["unit"]["units"], observed["unit"], held=held)],
        "firewall": ufw_rules.diff(wanted["firewall"], observed["firewall"]) if wanted["firewall"]["managed"] else [],
        "backup": backup_area.diff(wanted["backup"], observed["backup"]),
        "drill": drill_area.diff(wanted["drill"], observed["drill"]),
    }
    facts = {**observed["preflight"], "leaving": sorted({one.service for one in found["unit"] if one.action == "remove"} - {""})}
    reloadable = {one["service"]: one["reloadable"] for one in wanted["rollout"]}
    pending = units.pending(wanted["unit"]["units"], observed["unit"], reloadable)
    follows = units.following(wanted["unit"]["units"], observed["unit"], _changing(wanted, found), reloadable)
    return {
        "differs": every or bool(pending) or any(found.values()),
        **{area: [one.as_dict() for one in differences] for area, differences in found.items()},
        "preflight": [one.as_dict() for one in (*undigested.values(), *preflight.findings(wanted["preflight"], facts))],
        "due": list(AREAS) if every else [area for area in AREAS if found[area]],
        "held": held,
        "staged": [one.as_dict() for one in staged],
        "rollout": [one.as_dict() for one in pending],
        "follows": [one.as_dict() for one in follows],
        "start": _actions(wanted["rollout"], pending, ("start",)),
        "restart": _actions(wanted["rollout"], pending, ("restart", "reload")),
        **{key: observed["rollout"][key] for key in ("lock", "now")},
        "services": {one["service"]: _status(one["service"], one["unit"], observed) for one in wanted["rollout"]},
    }


def lines(planned: Mapping[str, Any]) -> list[str]:
    """Return the plan as one line for each difference, in the order in which roles act, for a person to read."""
    said = [f"{area}: {item}: {reason}" for area in AREAS for item, reason in _without_sources(planned[area])]
    said += [f"{one['action']}: {one['item']}: {one['reason']}" for one in planned["rollout"]]
    said += [f"then {one['action']}: {one['item']}: {one['reason']}" for one in planned["follows"]]
    said += [f"waits for a rollout: {one['item']}: {one['reason']}" for one in planned["staged"]]
    return said


def _without_sources(differences: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Return item and reason of each difference; the collection's own sources, of which there are dozens, once for each reason."""
    home = host_tools.SOURCES_HOME
    items = [(one["item"], one["reason"]) for one in differences]
    alike = Counter(reason for item, reason in items if posixpath.dirname(item) == home)
    told = set()
    for item, reason in items:
        if posixpath.dirname(item) != home or alike[reason] == 1:
            yield item, reason
        elif reason not in told:
            told.add(reason)
            yield home, f"{alike[reason]} files of this collection's own: {reason}"


def _paths(area: Mapping[str, Any], observed: Mapping[str, Any], held: list[str]) -> list[Difference]:
    """Return which paths differ. The files of services that are held wait; their directories do not, as the rollout writes into them."""
    directories = {one["path"] for one in area["paths"] if one["state"] == "directory"}
    return [one for one in paths.diff(area["paths"], observed["paths"]) if one.service not in held or one.item in directories]


def _changing(wanted: Mapping[str, Any], found: Mapping[str, list[Difference]]) -> dict[str, str]:
    """Return the digests of the files that the roles config and unit are about to write, by path."""
    due = {one.item for one in (*found["config"], *found["unit"])}
    files = [one for one in wanted["config"]["paths"] if one["state"] == "file"] + [unit_marks.entry(one) for one in wanted["unit"]["units"]]
    return {one["path"]: one["sha256"] for one in files if one["path"] in due}


def _bootstraps(wanted: list[dict[str, Any]], done: Mapping[str, bool]) -> list[Difference]:
    return [Difference(one["creates"], "not there yet; bootstrap makes it", one["service"], "create") for one in wanted if not done[one["creates"]]]


def _undigested(wanted: list[dict[str, Any]], arch: str) -> dict[str, preflight.Finding]:
    """Return a finding for each release that has no digest for the host's architecture, by service."""
    found = {}
    for release in wanted:
        try:
            releases.artifact_of(release, arch)
        except FleetError as error:
            problem, _arrow, remedy = str(error).partition("\n  → ")
            path, _colon, what = problem.partition(": ")
            found[release["service"]] = preflight.Finding("digest", "fail", what, f"a digest for {arch}" if arch else "dpkg", remedy, path)
    return found


def _actions(rollouts: list[dict[str, Any]], pending: list[Difference], actions: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return what the services module is to do: one entry for each service that has a pending action out of ``actions``."""
    due = {one.service: one.action for one in pending if one.action in actions}
    return [
        {"service": one["service"], "unit": one["unit"], "action": due[one["service"]], "health": one["health"]}
        for one in rollouts
        if one["service"] in due
    ]


def _status(service: str, unit: str, observed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table of services shows about one of them."""
    seen = observed["release"]["services"][service]
    state = observed["unit"]["units"][unit]
    backed_up = observed["backup"]["succeeded"].get(f"{service}.data")
    return {
        "release": seen["started"] or seen["current"] if seen["running"] else seen["current"],
        "installed": sorted(seen["installed"]),
        "previous": seen["previous"],
        "transaction": observed["rollout"]["transactions"].get(service),
        "restore": observed["rollout"]["restores"].get(service),
        "state": state["active"],
        "since": state["since"],
        "restarts": state["restarts"],
        "backup_age": None if backed_up is None else max(0, int(observed["rollout"]["now"] - backed_up)),
    }
