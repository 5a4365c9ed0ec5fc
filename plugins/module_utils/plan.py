# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe a host once, and plan: what differs from its desired state, per role, each with its reason.

``look`` reads everything that any role cares about; ``plan`` is pure. Both work on the slices of ``slices.without_content``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import (
    accounts,
    backup_area,
    bootstrap,
    drill_area,
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
        "bootstrap": bootstrap.look(wanted["config"]["bootstrap"]),
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
    differ, or ``every`` one when asked. ``taken`` names the services that somebody's rollout or restore has: nothing of them is
    touched, and ``waits`` says what they wait for, where they differ. ``held`` names those, and the services whose new release is
    staged while the old one runs: their config and unit wait with it. ``start`` and ``restart`` are what ``hearth.fleet.services``
    is to do; ``staged`` is what waits for a rollout. ``follows`` says which running services will have to restart or reload when
    all that is done.
    """
    undigested = _undigested(wanted["release"], observed["release"]["arch"])
    installable = [one for one in wanted["release"] if one["service"] not in undigested]
    staged = releases.pending_release(installable, observed["release"])
    held = {one.service for one in staged}
    reloadable = {one["service"]: one["reloadable"] for one in wanted["rollout"]}
    taken = {one["service"]: told for one in wanted["rollout"] if (told := rollout_look.in_the_way(one["service"], observed["rollout"]))}
    found = _differences(wanted, observed, installable, held)
    pending = units.pending(wanted["unit"]["units"], observed["unit"], reloadable)
    waits = sorted({one.service for one in (*found["release"], *found["config"], *found["unit"], *pending) if one.service in taken})
    found.update({area: [one for one in found[area] if one.service not in taken] for area in ("release", "config", "unit")})
    pending = [one for one in pending if one.service not in taken]
    follows = units.following(wanted["unit"]["units"], observed["unit"], _changing(wanted, found), reloadable)
    facts = {**observed["preflight"], "leaving": sorted({one.service for one in found["unit"] if one.action == "remove"} - {""})}
    return {
        "differs": every or bool(pending or waits) or any(found.values()),
        **{area: [one.as_dict() for one in differences] for area, differences in found.items()},
        "preflight": [one.as_dict() for one in (*undigested.values(), *preflight.findings(wanted["preflight"], facts))],
        "due": list(AREAS) if every else [area for area in AREAS if found[area]],
        "taken": sorted(taken),
        "waits": [Difference(one, f"{taken[one].problem} → {taken[one].remedy}", one, "wait").as_dict() for one in waits],
        "held": sorted({*held, *taken}),
        "staged": [one.as_dict() for one in staged],
        "rollout": [one.as_dict() for one in pending],
        "follows": [one.as_dict() for one in follows],
        "start": _actions(wanted["rollout"], pending, ("start",)),
        "restart": _actions(wanted["rollout"], pending, ("restart", "reload")),
        **{key: observed["rollout"][key] for key in ("lock", "now")},
        "services": {one["service"]: _status(one["service"], one["unit"], observed) for one in wanted["rollout"]},
    }


def _differences(
    wanted: Mapping[str, Any], observed: Mapping[str, Any], installable: Sequence[Mapping[str, Any]], held: Container[str]
) -> dict[str, list[Difference]]:
    """Return what differs in each area, but for what services that are ``held`` get from their rollout."""
    return {
        "account": [*accounts.diff(wanted["account"], observed["account"]), *_paths(wanted["account"], observed, ())],
        "release": releases.diff(installable, observed["release"]),
        "config": [*_paths(wanted["config"], observed, held), *bootstrap.diff(wanted["config"]["bootstrap"], observed["bootstrap"])],
        "unit": [*_paths(wanted["unit"], observed, ()), *units.diff(wanted["unit"]["units"], observed["unit"], held=held)],
        "firewall": ufw_rules.diff(wanted["firewall"], observed["firewall"]) if wanted["firewall"]["managed"] else [],
        "backup": backup_area.diff(wanted["backup"], observed["backup"]),
        "drill": drill_area.diff(wanted["drill"], observed["drill"]),
    }


def _paths(area: Mapping[str, Any], observed: Mapping[str, Any], held: Container[str]) -> list[Difference]:
    """Return which paths differ. The files of services that are held wait; their directories do not, as the rollout writes into them."""
    directories = {one["path"] for one in area["paths"] if one["state"] == "directory"}
    return [one for one in paths.diff(area["paths"], observed["paths"]) if one.service not in held or one.item in directories]


def _changing(wanted: Mapping[str, Any], found: Mapping[str, list[Difference]]) -> dict[str, str]:
    """Return the digests of the files that the roles config and unit are about to write, by path."""
    due = {one.item for one in (*found["config"], *found["unit"])}
    files = [one for one in wanted["config"]["paths"] if one["state"] == "file"] + [unit_marks.entry(one) for one in wanted["unit"]["units"]]
    return {one["path"]: one["sha256"] for one in files if one["path"] in due}


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
