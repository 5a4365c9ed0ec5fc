# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one join: catalogue, placement, tiers and overrides become the finished service specs of every host.

Pure: the inventory comes in as plain data, the specs go out as plain data, and every mistake is collected with the
inventory path of the key that holds it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, attempt
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.fleet_check import check_fleet, check_fleet_wide, check_names, check_overridden
from ansible_collections.hearth.fleet.plugins.module_utils.host_check import account_mistakes, clashes, order_mistakes
from ansible_collections.hearth.fleet.plugins.module_utils.inventory import Fleet, Host
from ansible_collections.hearth.fleet.plugins.module_utils.overrides import merge, where_written
from ansible_collections.hearth.fleet.plugins.module_utils.placement import layers_of, placement_path, services_of, tier_of
from ansible_collections.hearth.fleet.plugins.module_utils.schema import suggest
from ansible_collections.hearth.fleet.plugins.module_utils.service_check import check_service, check_units
from ansible_collections.hearth.fleet.plugins.module_utils.service_fill import add_home, fill, join_sources, name_units, place_commands
from ansible_collections.hearth.fleet.plugins.module_utils.service_schema import SERVICE, TIER


def finish_host(
    host: Host, fleet: Fleet, known_services: Collection[str], mistakes: list[Mistake], origins: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return a host's finished service specs by name, every default filled in; mistakes go to ``mistakes``.

    ``origins`` learns what of the specs comes from overrides (see ``merge``).
    """
    origins = {} if origins is None else origins
    tier = tier_of(host, mistakes)
    finished: dict[str, Any] = {}
    for name in services_of(host, mistakes):
        if name not in known_services:
            mistakes.append(Mistake(placement_path(host, name), f"{name!r} is not in fleet_services", suggest(name, known_services)))
            continue
        spec = finish_service(name, host, tier, fleet, mistakes, known_services, origins)
        if spec is not None:
            finished[name] = spec
    mistakes.extend(clashes(finished, origins))
    mistakes.extend(account_mistakes(finished, origins))
    mistakes.extend(where_written(one, origins) for one in order_mistakes(finished))
    return finished


def finish_service(
    name: str,
    host: Host,
    tier: str,
    fleet: Fleet,
    mistakes: list[Mistake],
    known_services: Collection[str] = (),
    origins: dict[str, str] | None = None,
) -> dict[str, Any] | None:
    """Return one finished service spec on one host, or None when it cannot be read at all. What of it cannot be read is BROKEN.

    ``known_services`` names every service of the catalogue, for what depends on another one; ``origins`` learns what of the spec
    comes from overrides (see ``merge``).
    """
    path = join_path("fleet_services", name)
    origins = {} if origins is None else origins
    described: Any = host.catalogue.get(name)
    for layer in layers_of(host, tier):
        override = host.overrides.get(layer)
        if isinstance(override, Mapping) and isinstance(override.get(name), Mapping):  # all else is reported by the schema
            layer_path = join_path(join_path("fleet_overrides", layer), name)
            described = merge(described, override[name], path, layer_path, origins)
    found: list[Mistake] = []
    spec = BROKEN if described is BROKEN else SERVICE.read(described, path, found)
    if spec is not BROKEN:
        spec["name"] = name
        fill(spec)
        attempt(place_commands, spec, path, origins)
        join_sources(spec, host, fleet, found, path)
        check_service(spec, found, path)
        check_units(spec, host, known_services, found, path)
        attempt(name_units, spec)
        attempt(add_home, spec)
    mistakes.extend(where_written(one, origins) for one in found)
    return None if spec is BROKEN else spec


def finish_tier(host: Host, mistakes: list[Mistake]) -> dict[str, Any]:
    """Return the finished tier of a host: its name and what ``fleet_tiers`` says about it."""
    name = tier_of(host, [])
    found: list[Mistake] = []
    described = host.tiers.get(name)
    finished = TIER.read({} if described is None or described is BROKEN else described, join_path("fleet_tiers", name), found)
    mistakes.extend(found)
    return {"name": name, **(TIER.read({}, "", []) if found else finished)}


def join(fleet: Fleet, known_services: Mapping[str, Collection[str]], mistakes: list[Mistake]) -> dict[str, dict[str, Any]]:
    """Return for every host ``tier``, its finished ``services`` by name, their ``origins``, and ``deserted``: whether no host has any.

    ``origins`` says what of them was written in overrides (see ``merge``). ``known_services`` names, per host, every service
    of the catalogue. ``mistakes`` collects all that is wrong, everywhere.
    """
    mistakes.extend(check_fleet(fleet))
    mistakes.extend(check_overridden(fleet, {name for services in known_services.values() for name in services}))
    for names in known_services.values():
        check_names(names, mistakes)
    joined: dict[str, dict[str, Any]] = {}
    for name, host in fleet.hosts.items():
        origins: dict[str, str] = {}
        found: list[Mistake] = []
        services = finish_host(host, fleet, known_services[name], found, origins)
        joined[name] = {"tier": finish_tier(host, found), "services": services, "origins": origins}
        mistakes.extend(one._replace(host=name) for one in found)
    check_fleet_wide(fleet, joined, mistakes)
    deserted = not any(one["services"] for one in joined.values())
    return {name: {**one, "deserted": deserted} for name, one in joined.items()}
