# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which services a host has, of what tier it is, and which overrides hold for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.broken import numbered
from ansible_collections.hearth.fleet.plugins.module_utils.errors import HOSTS, Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.inventory import Host
from ansible_collections.hearth.fleet.plugins.module_utils.schema import suggest


def placed(placement: Mapping[str, Any], name: str, mistakes: list[Mistake], trail: tuple[str, ...] = ()) -> list[str]:
    """Return the services that ``placement`` names for one group or host, with ``like:<group>`` followed."""
    path = join_path("fleet_placement", name)
    if name in trail:
        closed = circle(trail[trail.index(name) :])
        mistakes.append(
            Mistake(
                join_path("fleet_placement", closed[0]), f"circular placement: {' → '.join(closed)}", "name the services themselves in one of them"
            )
        )
        return []
    entry = placement.get(name)
    items = [entry] if isinstance(entry, str) else entry if isinstance(entry, list) else []
    services: list[str] = []
    for index, item in enumerate(items):
        if not isinstance(item, str):
            continue  # reported by the schema
        if not item.startswith("like:"):
            services.append(item)
        elif item[5:] in placement:
            services.extend(placed(placement, item[5:], mistakes, (*trail, name)))
        else:
            mistakes.append(Mistake(join_path(path, index), f"fleet_placement has no entry {item[5:]!r}", suggest(item[5:], placement)))
    return services


def circle(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return a circle of names, closed, beginning with the least, so that it is said once wherever one enters it."""
    first = names.index(min(names))
    return (*names[first:], *names[:first], names[first])


def services_of(host: Host, mistakes: list[Mistake]) -> list[str]:
    """Return the names of the services placed on a host, through its groups and by its own name, each once, sorted."""
    names = [name for name in (*host.groups, host.name) if name in host.placement]
    return sorted({service for name in names for service in placed(host.placement, name, mistakes)})


def hosts_of(service: str, placement: Mapping[str, Any], groups: Mapping[str, list[str]]) -> list[str]:
    """Return the hosts that ``placement`` puts a service on, sorted."""
    found: set[str] = set()
    for name in placement:
        if service in placed(placement, name, []):
            found.update(groups.get(name, [name]))
    return sorted(found)


def tier_of(host: Host, mistakes: list[Mistake]) -> str:
    """Return the tier of a host: the one of its groups that is a key of ``fleet_tiers``, or nothing."""
    tiers = [group for group in host.groups if group in host.tiers]
    if len(tiers) > 1:
        problem = f"several tiers hold {HOSTS}: {', '.join(tiers)}"
        mistakes.append(Mistake("fleet_tiers", problem, "keep a host in one of these groups"))
    return tiers[-1] if tiers else ""


def placement_path(host: Host, service: str) -> str:
    """Return the path of the placement entry that puts ``service`` on ``host``."""
    for name in (*host.groups, host.name):
        entry = host.placement.get(name)
        items = [entry] if isinstance(entry, str) else entry if isinstance(entry, list) else []
        for index, item in numbered(items):
            if item == service:
                return join_path(join_path("fleet_placement", name), index)
    return "fleet_placement"


def layers_of(host: Host, tier: str) -> list[str]:
    """Return the keys of ``fleet_overrides`` that hold for a host, in the order in which they win."""
    # Every host is in `all`, which therefore says less of any of them than its tier does.
    return list(dict.fromkeys(layer for layer in ("all", tier, *host.groups, host.name) if layer))
