# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the defaults of a service's spec that depend on other keys of it, or on the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.hearth.fleet.plugins.module_utils import backup_spec, headers
from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, attempt, numbered, readable, value_at
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.inventory import Fleet, Host, address_order, is_loopback
from ansible_collections.hearth.fleet.plugins.module_utils.overrides import original_path
from ansible_collections.hearth.fleet.plugins.module_utils.service_parts import (
    DEPENDENCIES,
    asked,
    asked_in_drills,
    default_home,
    requests,
    secret_path,
)


def fill(spec: dict[str, Any]) -> None:
    """Fill the defaults that depend on other keys. One that depends on what is broken is broken, too."""
    name = spec["name"]
    spec["description"] = attempt(lambda: " ".join((spec["description"] or name).split()))
    spec["binaries"] = attempt(_binaries, spec)
    spec["secrets"] = attempt(_secrets, spec["secrets"])
    spec["environment_file"] = _given(spec["environment_file"], lambda: f"/etc/{name}/{name}.env")
    for part in (
        _fill_account,
        _fill_owners,
        _fill_secret_files,
        _fill_unit,
        _fill_capabilities,
        _fill_control_groups,
        backup_spec.fill,
        _fill_methods,
    ):
        attempt(part, spec)


def _given(value: Any, default: Callable[[], Any]) -> Any:
    return attempt(default) if value is None else value


def _binaries(spec: Mapping[str, Any]) -> dict[str, str]:
    binaries = spec["binaries"]
    if binaries is None:
        binaries = [spec["command"][0]] if spec["command"] and "/" not in spec["command"][0] else []
    return binaries if isinstance(binaries, dict) else {one: one for one in binaries}


def _secrets(secrets: Mapping[str, Any]) -> dict[str, Any]:
    """Return all secrets in their long form."""
    return {
        key: value if isinstance(value, dict) else {"value": value, "as": BROKEN if value is BROKEN else "environment"}
        for key, value in secrets.items()
    }


def _fill_account(spec: dict[str, Any]) -> None:
    account = spec["account"]
    account["user"] = _given(account["user"], lambda: spec["name"])
    account["group"] = _given(account["group"], lambda: account["user"])
    account["home"] = _given(account["home"], lambda: default_home(spec["name"]))


def _fill_owners(spec: dict[str, Any]) -> None:
    """Fill who owns the files and directories of a service, and when it must restart for a file."""
    user, group = value_at(spec, "account", "user"), value_at(spec, "account", "group")
    for directory in readable(spec["directories"]):
        directory["owner"] = _given(directory["owner"], lambda: user)
        directory["group"] = _given(directory["group"], lambda: group)
    for config in readable(spec["config"]):
        _fill_config(config, user, group, reloads=spec["reload"] is not None)


def _fill_config(config: dict[str, Any], user: Any, group: Any, *, reloads: bool) -> None:
    config["owner"] = _given(config["owner"], lambda: user if config["secret"] else "root")
    config["group"] = _given(config["group"], lambda: group)
    config["mode"] = _given(config["mode"], lambda: "0600" if config["secret"] else "0640")
    config["reloadable"] = _given(config["reloadable"], lambda: reloads)


def _fill_secret_files(spec: dict[str, Any]) -> None:
    for _where, request in requests(spec, ""):
        request["secret_files"] = attempt(_secret_files, spec, request)


def _secret_files(spec: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    named = {secret for value in request["headers"].values() for secret in headers.references(value)}
    return {key: _secret_file(spec, key) for key in sorted(named) if key in spec["secrets"]}


def _secret_file(spec: Mapping[str, Any], key: str) -> dict[str, str]:
    """Return where a host finds a secret, and whose daemon has it, too (see ``headers.read_secrets``)."""
    kind = spec["secrets"][key]["as"]
    return {"path": secret_path(spec, key), "as": kind, **({} if kind == "request" else {"service": spec["name"]})}


def _fill_unit(spec: dict[str, Any]) -> None:
    rollout, unit = spec["rollout"], spec["unit"]
    if rollout is not BROKEN:
        rollout["canary_soak"] = _given(rollout["canary_soak"], lambda: rollout["soak"])
    unit["name"] = f"{spec['name']}.service"
    unit["description"] = _given(unit["description"], lambda: spec["description"])
    unit["working_directory"] = _given(unit["working_directory"], lambda: spec["account"]["home"])


def _fill_capabilities(spec: dict[str, Any]) -> None:
    capabilities = spec["sandbox"]["capabilities"]
    privileged = any(int(port["port"].partition(":")[0]) < 1024 and port["listen"] for port in spec["ports"])
    if privileged and "CAP_NET_BIND_SERVICE" not in capabilities:
        capabilities.append("CAP_NET_BIND_SERVICE")


def _fill_control_groups(spec: dict[str, Any]) -> None:
    if spec["unit"]["delegate"]:
        spec["sandbox"]["control_groups"] = True  # to the sandbox they are part of /sys/fs/cgroup, too


def _fill_methods(spec: Mapping[str, Any]) -> None:
    for _where, request in (*asked(spec, ""), *asked_in_drills(spec, "")):
        if "url" in request:
            request["method"] = attempt(_method, request)


def _method(request: Mapping[str, Any]) -> Any:
    return request["method"] or ("GET" if request["body"] is None else "POST")


def add_home(spec: dict[str, Any]) -> None:
    """Make the home of the account one of the directories, the first, where nobody has listed it."""
    account = spec["account"]
    if account["home"] not in [directory["path"] for directory in spec["directories"]]:
        spec["directories"].insert(
            0, {"path": account["home"], "owner": account["user"], "group": account["group"], "mode": "0750", "writable": True}
        )


def name_units(spec: Mapping[str, Any]) -> None:
    """Turn the services that the unit depends on into the names of their units."""
    for key in DEPENDENCIES:
        spec["unit"][key] = attempt(_unit_names, spec["unit"][key])


def _unit_names(names: list[str]) -> list[str]:
    return [name if "." in name else f"{name}.service" for name in names]


def place_commands(spec: Mapping[str, Any], path: str, origins: Mapping[str, str]) -> None:
    """Have the commands that are asked say where they are written: a host says so where there is no such program."""
    for where, request in (*asked(spec, path), *asked_in_drills(spec, path)):
        if "command" in request:
            request["where"] = original_path(f"{where}.command", origins)


def join_sources(spec: dict[str, Any], host: Host, fleet: Fleet, mistakes: list[Mistake], path: str) -> None:
    """Replace groups and hosts in ports and egress by their addresses."""

    def resolve(sources: list[str], where: str) -> list[str]:
        addresses: list[str] = []
        for index, source in enumerate(sources):
            if source in ("any", "none"):
                addresses.append(source)
                continue
            try:
                addresses.extend(fleet.addresses(source))
            except ValueError as error:
                problem, _semicolon, remedy = str(error).partition("; ")
                mistakes.append(Mistake(where if len(sources) == 1 else join_path(where, index), problem, remedy))
        own = {address for address in addresses if is_loopback(address)} - set(host.addresses)
        if own:
            problem = f"leads to {', '.join(sorted(own))}, which every host is to itself"
            mistakes.append(Mistake(where, problem, "set fleet_addresses of the hosts that are meant, to the addresses by which others reach them"))
        words = {"any", "none"} & set(addresses)
        if words and len(sources) > 1:
            mistakes.append(Mistake(where, f"{words.pop()!r} cannot stand beside other sources", "write it alone, or leave it out"))
        # A host is no stranger to itself: its own address in a group's list would only be noise.
        return sorted({address for address in addresses if address not in host.addresses}, key=address_order)

    for index, port in numbered(spec["ports"]):
        port["sources"] = attempt(resolve, port["from"], f"{path}.ports[{index}].from")
    spec["egress"] = attempt(resolve, spec["egress"], f"{path}.egress")
    # To the kernel's filter it is an address as any other.
    spec["own_addresses"] = list(host.addresses)
