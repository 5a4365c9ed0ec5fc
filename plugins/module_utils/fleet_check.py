# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold between the hosts of a fleet, and for what is said once for all of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.broken import attempt, readable
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.inventory import Fleet
from ansible_collections.hearth.fleet.plugins.module_utils.overrides import original_path
from ansible_collections.hearth.fleet.plugins.module_utils.placement import services_of
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import part_of
from ansible_collections.hearth.fleet.plugins.module_utils.schema import suggest
from ansible_collections.hearth.fleet.plugins.module_utils.service_schema import FLEET, SERVICE, SERVICE_NAME

FLEET_WIDE = (("min_available",), ("rollout", "canary"), ("rollout", "promote"), ("rollout", "partition"))
"""What a service says about all of its hosts together, so that it cannot differ between them."""

HOST_UNITS = ("cron", "dbus", "networking", "nftables", "rsyslog", "ssh", "sshd", "sudo", "ufw")
"""Units of the distribution without which a host cannot be reached or kept; so are those that begin with one of HOST_UNIT_PREFIXES."""

HOST_UNIT_PREFIXES = ("hearth-", "systemd-")

Specs = Mapping[str, Mapping[str, Any]]

Joined = Mapping[str, Mapping[str, Any]]


def check_fleet(fleet: Fleet) -> list[Mistake]:
    """Return the mistakes of what is said once for the whole fleet: placement, tiers, and the layers of overrides."""
    mistakes: list[Mistake] = []
    layers = {*fleet.groups, *fleet.hosts}
    for host in fleet.hosts.values():
        for name, value in (("fleet_placement", host.placement), ("fleet_overrides", host.overrides), ("fleet_tiers", host.tiers)):
            FLEET.fields[name].kind.read(value, name, mistakes)
            for key in value if isinstance(value, Mapping) else ():
                if key not in layers:
                    mistakes.append(Mistake(join_path(name, key), "no inventory group or host has this name", suggest(str(key), layers)))
    return sorted(set(mistakes))


def check_overridden(fleet: Fleet, known_services: Collection[str]) -> list[Mistake]:
    """Return the mistakes in what overrides name, also where they hold for no host that runs the service, which nobody else reads."""
    mistakes = set()
    for host in fleet.hosts.values():
        for layer, services in host.overrides.items():
            for name, override in services.items() if isinstance(services, Mapping) else ():
                path = join_path(join_path("fleet_overrides", layer), name)
                if name not in known_services:
                    mistakes.add(Mistake(path, f"{name!r} is not in fleet_services", suggest(str(name), known_services)))
                for key in override if isinstance(override, Mapping) else ():
                    if key not in SERVICE.fields:
                        mistakes.add(Mistake(join_path(path, key), "unknown key", suggest(str(key), SERVICE.fields)))
    return sorted(mistakes)


def check_names(services: Iterable[Any], mistakes: list[Mistake]) -> None:
    """Check the names of services: each becomes a unit, an account and directories."""
    for name in services:
        path = join_path("fleet_services", name)
        if not isinstance(name, str) or not re.fullmatch(SERVICE_NAME, name):
            remedy = "write at most 63 lower-case letters, digits, - and _, the first one a letter"
            mistakes.append(Mistake(path, f"{name!r} cannot name a service", remedy))
        elif name in HOST_UNITS or name.startswith(HOST_UNIT_PREFIXES):
            mistakes.append(
                Mistake(path, f"{name}.service is a unit of the host's own, which it would replace", f"write another name, such as my-{name}")
            )


def check_fleet_wide(fleet: Fleet, joined: Mapping[str, Mapping[str, Any]], mistakes: list[Mistake]) -> None:
    """Check what a service says about all of its hosts together, against the hosts that it is placed on."""
    placements: dict[str, list[str]] = {}
    for name, host in fleet.hosts.items():
        for service in services_of(host, []):
            placements.setdefault(service, []).append(name)
    for service, names in sorted(placements.items()):
        specs = {name: joined[name]["services"][service] for name in names if service in joined[name]["services"]}
        if len(specs) < len(names):
            continue  # what is wrong with the others comes first
        for keys in FLEET_WIDE:
            mistakes.extend(readable(attempt(_disagreement, service, keys, specs, joined)))
        mistakes.extend(readable(attempt(_different_batches, service, specs, joined)))
        for check in (_impossible_minimum, _impossible_parts):
            mistakes.extend(readable(attempt(check, service, specs, joined)))


def _disagreement(service: str, keys: tuple[str, ...], specs: Specs, joined: Joined) -> list[Mistake]:
    values = {name: _value(spec, keys) for name, spec in specs.items()}
    if len(set(values.values())) <= 1:
        return []
    remedy = "write it once, under fleet_services; fleet_overrides are for what may differ"
    return [Mistake(_other_origin(service, keys, values, joined), f"{_two(values)}, but it counts for all hosts together", remedy)]


def _different_batches(service: str, specs: Specs, joined: Joined) -> list[Mistake]:
    found = []
    tiers: dict[str, dict[str, Any]] = {}
    for name, spec in specs.items():
        tiers.setdefault(joined[name]["tier"]["name"], {})[name] = spec["rollout"]["batch"]
    for tier, batches in tiers.items():
        if len(set(batches.values())) > 1:
            path = _other_origin(service, ("rollout", "batch"), batches, joined)
            remedy = f"write it once for the tier, under fleet_overrides.{tier}.{service}" if tier else "write it once, under fleet_services"
            found.append(Mistake(path, f"{_two(batches)}, which are of one tier and go through the same batches", remedy))
    return found


def _value(spec: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    value: Any = spec
    for key in keys:
        value = value[key]
    return value


def _two(values: Mapping[str, Any]) -> str:
    """Return in words two hosts that have different values."""
    first, second = _two_hosts(values)
    return f"is {_or_unset(values[first])} on {first} and {_or_unset(values[second])} on {second}"


def _two_hosts(values: Mapping[str, Any]) -> tuple[str, str]:
    (first, value), *others = values.items()
    return first, next(name for name, other in others if other != value)


def _other_origin(service: str, keys: tuple[str, ...], values: Mapping[str, Any], joined: Mapping[str, Mapping[str, Any]]) -> str:
    """Return where a value is written that differs between hosts: in an override, as the description says the same to all."""
    path = ".".join((join_path("fleet_services", service), *keys))
    written = [original_path(path, joined[name]["origins"]) for name in _two_hosts(values)]
    return next((one for one in written if one != path), path)


def _or_unset(value: Any) -> str:
    return "not set" if value is None else str(value)


def _impossible_minimum(service: str, specs: Specs, joined: Joined) -> list[Mistake]:
    count, available = len(specs), specs[min(specs)]["min_available"]
    hosts = _counted(count)
    ready = None if available is None else part_of(count, available, up=True)
    if ready is not None and ready > count:
        problem = f"{available} hosts can never be ready: the service is placed on {hosts}"
    elif ready == count:
        problem = f"{available} of {hosts} leaves none that may be restarted"
    else:
        return []
    return [_too_many(service, ("min_available",), problem, count - 1, specs, joined)]


def _impossible_parts(service: str, specs: Specs, joined: Joined) -> list[Mistake]:
    count, rollout = len(specs), specs[min(specs)]["rollout"]
    return [
        _too_many(service, ("rollout", key), f"{rollout[key]} is more than the {_counted(count)} that the service is placed on", count, specs, joined)
        for key in ("canary", "partition")
        if attempt(lambda key=key: (rollout[key] or 0) > count) is True
    ]


def _counted(hosts: int) -> str:
    return f"{hosts} host{'' if hosts == 1 else 's'}"


def _too_many(service: str, keys: tuple[str, ...], problem: str, most: int, specs: Specs, joined: Joined) -> Mistake:
    path = original_path(".".join((join_path("fleet_services", service), *keys)), joined[min(specs)]["origins"])
    return Mistake(path, problem, f"write a number up to {most}, or place the service on more hosts")
