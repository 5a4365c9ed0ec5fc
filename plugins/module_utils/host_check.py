# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold between the services of one host: ports, paths and accounts of their own, and an order to start in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, attempt, numbered, readable, value_at
from ansible_collections.hearth.fleet.plugins.module_utils.errors import HOSTS, Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.overrides import original_path, where_written
from ansible_collections.hearth.fleet.plugins.module_utils.placement import circle
from ansible_collections.hearth.fleet.plugins.module_utils.service_parts import BINARIES, default_home, secret_path, written_places

Claim = tuple[str, str, str]


def _claims(spec: dict[str, Any]) -> Iterator[Claim]:
    """Yield what a service claims for itself on its host: (what, how it is called, inventory path)."""
    path = join_path("fleet_services", spec["name"])
    for index, port in numbered(spec["ports"]):
        yield from readable(attempt(_port_claims, port, f"{path}.ports[{index}].port"))
    for claims in (_account_claims, _config_claims, _secret_claims, _directory_claims, _binary_claims):
        yield from readable(attempt(claims, spec, path))


def _port_claims(port: Mapping[str, Any], path: str) -> list[Claim]:
    first, _colon, last = port["port"].partition(":")
    numbers = range(int(first), int(last or first) + 1) if port["listen"] else ()
    return [(f"port {proto}/{number}", f"port {number}/{proto}", path) for proto in port["proto"] for number in numbers]


def _account_claims(spec: Mapping[str, Any], path: str) -> list[Claim]:
    user = spec["account"]["user"]
    return [] if spec["account"]["shared"] else [(f"user {user}", f"account {user!r}", f"{path}.account.user")]


def _config_claims(spec: Mapping[str, Any], path: str) -> list[Claim]:
    return [(f"path {place}", f"path {place}", where) for where, place in written_places(spec, path, "config")]


def _secret_claims(spec: Mapping[str, Any], path: str) -> list[Claim]:
    files = dict.fromkeys(readable([attempt(secret_path, spec, key) for key in spec["secrets"]]))
    return [(f"path {file}", f"path {file}", f"{path}.{'environment_file' if file == spec['environment_file'] else 'secrets'}") for file in files]


def _directory_claims(spec: Mapping[str, Any], path: str) -> list[Claim]:
    account = spec["account"]
    shared = account["home"] if account["shared"] else ""
    places = [place for _where, place in written_places(spec, path, "directories") if place != shared]
    return [(f"path {place}", f"path {place}", f"{path}.directories") for place in places]


def _binary_claims(spec: Mapping[str, Any], path: str) -> list[Claim]:
    return [(f"path {BINARIES}/{binary}", f"binary {BINARIES}/{binary}", f"{path}.binaries") for binary in spec["binaries"]]


def clashes(specs: Mapping[str, dict[str, Any]], origins: Mapping[str, str]) -> list[Mistake]:
    """Return a mistake for each thing that two services of one host both claim, naming both."""
    mistakes: list[Mistake] = []
    owners: dict[str, tuple[str, str]] = {}
    told: set[tuple[str, str]] = set()
    for name, spec in specs.items():
        for thing, called, path in _claims(spec):
            first, first_path = owners.setdefault(thing, (name, path))
            if (path, first_path) in told or (first == name and path == first_path):
                continue
            if first == name and not thing.startswith("port") and _section(path) == _section(first_path):
                continue  # what stands in one list twice is said of the list
            told.add((path, first_path))
            problem = f"{called} is taken on {HOSTS} by {first} ({original_path(first_path, origins)})"
            mistakes.append(where_written(Mistake(path, problem, _way_out(thing, spec)), origins))
    return mistakes


def _section(path: str) -> str:
    return path.partition("[")[0]


def _way_out(thing: str, spec: Mapping[str, Any]) -> str:
    """Return what to write where a service claims what another one has: a second instance of a daemon gives its binary another link."""
    name, binary = spec["name"], thing.rpartition("/")[2]
    if thing == f"path {BINARIES}/{binary}" and name not in spec["binaries"]:
        return f"a second instance of one daemon names its link otherwise: binaries: {{{name}: {spec['binaries'][binary]}}}, command: [{name}, …]"
    return "give one of the two another, or place them on different hosts"


def said_of_accounts(specs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str, Any, str]]:
    """Yield what services say about users and groups: which, its name, key, value, and which service. What is left to a default is not said."""
    for service, spec in specs.items():
        account = spec["account"]
        if account is BROKEN or account["user"] is BROKEN:
            continue
        for key, value in account.items():
            if key in ("uid", "gid", "group", "home", "groups") and attempt(_is_said, service, account, key) is True:
                kind, name = ("group", account["group"]) if key == "gid" else ("account", account["user"])
                yield kind, name, key, value, service


def _is_said(service: str, account: Mapping[str, Any], key: str) -> bool:
    value, defaults = account[key], {"uid": None, "gid": None, "group": account["user"], "home": default_home(service), "groups": []}
    # Whose number it is must be known as well.
    return bool(value != defaults[key]) and (key != "gid" or bool(account["group"]))


def account_mistakes(specs: Mapping[str, dict[str, Any]], origins: Mapping[str, str]) -> list[Mistake]:
    """Return a mistake for all that services say of one account or group differently, and for each ID that two of them would have."""
    mistakes: list[Mistake] = []
    told: dict[tuple[str, str, str], tuple[Any, str, str]] = {}
    owners: dict[tuple[str, int], tuple[str, str]] = {}
    for kind, name, key, value, service in said_of_accounts(specs):
        path = f"{join_path('fleet_services', service)}.account.{key}"
        first, first_path, first_service = told.setdefault((kind, name, key), (value, path, service))
        if first != value:
            if kind == "account" and not any(specs[one]["account"]["shared"] for one in (service, first_service)):
                continue  # that they have one account is a mistake already
            problem = f"is {value}, but {kind} {name!r}, which both have on {HOSTS}, has {first} ({original_path(first_path, origins)})"
            mistakes.append(Mistake(path, problem, "write the same for both, or give one of the two an account of its own"))
        elif key in ("uid", "gid"):
            owner, owner_path = owners.setdefault((key, value), (name, path))
            if owner != name:
                problem = f"{value} is taken on {HOSTS} by {kind} {owner!r} ({original_path(owner_path, origins)})"
                mistakes.append(Mistake(path, problem, "write another number, or leave it out and let the host choose"))
    return [where_written(one, origins) for one in mistakes]


def _service_of(unit: str) -> str:
    return unit.removesuffix(".service")


def order_mistakes(specs: Mapping[str, dict[str, Any]]) -> list[Mistake]:
    """Return a mistake for each circle in the start order of one host's services."""
    mistakes: list[Mistake] = []
    edges = {
        name: [other for key in ("after", "requires") for other in map(_service_of, readable(value_at(spec, "unit", key))) if other in specs]
        for name, spec in specs.items()
    }

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            ordered = circle(trail[trail.index(name) :])
            problem = f"circular start order on {HOSTS}: {' → '.join(ordered)}"
            mistakes.append(Mistake(f"fleet_services.{ordered[0]}.unit.after", problem, "take one of them out"))
            return
        for other in edges[name]:
            visit(other, (*trail, name))

    for name in edges:
        visit(name, ())
    return sorted(set(mistakes))
