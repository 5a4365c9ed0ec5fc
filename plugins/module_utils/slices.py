# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From finished service specs to what each role must bring about on one host: one slice per role.

Pure: whatever must be read from the controller (templates, files) comes in through ``Sources``.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Callable

from ansible_collections.hearth.fleet.plugins.module_utils import (
    backup_slice,
    backup_spec,
    config_formats,
    drill_slice,
    firewall_formats,
    host_tools,
    preflight_policy,
    runtime_directories,
    unit_file,
    unit_marks,
    unit_text,
)
from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, attempt, holds_broken, numbered, readable, value_at
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, InventoryError, Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.host_check import said_of_accounts
from ansible_collections.hearth.fleet.plugins.module_utils.operators import operator_slices
from ansible_collections.hearth.fleet.plugins.module_utils.overrides import original_path, where_written
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import seconds, size_bytes
from ansible_collections.hearth.fleet.plugins.module_utils.schema import DURATION, Scalar
from ansible_collections.hearth.fleet.plugins.module_utils.service_parts import RELEASES, secret_path
from ansible_collections.hearth.fleet.plugins.module_utils.system_directories import is_systems

_TO_LOOK_AT_SERVICES = ("service", "unit", "health", "reload", "reloadable")

Inputs = Mapping[str, Mapping[str, Any]]
"""Role inputs of one host, by role and by name, defaults filled in."""


@dataclass(frozen=True)
class Sources:
    """How the text of a user's own file comes in, and the absolute path of one; both raise FleetError.

    ``addresses`` returns those behind a group or host of the inventory, or raises ValueError (see ``inventory.Fleet``).
    """

    template: Callable[[str], str]
    read: Callable[[str], str]
    find: Callable[[str], str]
    addresses: Callable[[str], list[str]] = lambda source: [source]


def slices(name: str, addresses: list[str], joined: Mapping[str, Any], inputs: Inputs, sources: Sources, mistakes: list[Mistake]) -> dict[str, Any]:
    """Return the desired state of host ``name``: its services, and one slice per role."""
    found: list[Mistake] = []
    wanted = _slices(name, addresses, joined, inputs, sources, found)
    mistakes.extend(where_written(one, joined["origins"])._replace(host=name) for one in found)
    check = value_at(wanted, "backup", "check")
    for schedule in [] if check is None else readable(value_at(check, "schedules")):
        schedule["path"] = original_path(schedule["path"], joined["origins"])
    return wanted


def _slices(name: str, addresses: list[str], joined: Mapping[str, Any], inputs: Inputs, sources: Sources, mistakes: list[Mistake]) -> dict[str, Any]:
    services = joined["services"]
    mistakes.extend(readable(attempt(firewall_mistakes, inputs["firewall"])))
    firewall = attempt(with_addresses, inputs["firewall"], sources.addresses, mistakes)
    files = {service: config_paths(spec, sources, mistakes) for service, spec in services.items()}
    unit = attempt(unit_slice, services, files, inputs["unit"], mistakes)
    return {
        "host": {
            "name": name,
            "tier": joined["tier"]["name"],
            "order": joined["tier"]["order"],
            "addresses": addresses,
            "offline": joined["tier"]["offline"],
        },
        "services": services,
        "account": attempt(account_slice, services, inputs["account"], mistakes),
        "release": readable(attempt(release, spec, inputs["release"], sources, mistakes) for spec in services.values()),
        "config": attempt(_config_slice, services, files),
        "unit": unit,
        "firewall": attempt(firewall_slice, services, firewall),
        "backup": attempt(
            backup_slice.backup_slice, name, services, inputs["backup"], value_at(inputs, "unit", "unit_exposure_max"), sources.read, mistakes
        ),
        "drill": drill_slice.nothing(),  # until the whole fleet is known
        "preflight": attempt(_preflight, joined, inputs["preflight"], addresses, mistakes),
        "rollout": readable(
            attempt(rollout, services[one["service"]], files[one["service"]], one, services) for one in readable(value_at(unit, "units"))
        ),
    }


def _config_slice(services: Mapping[str, Any], files: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "paths": _once([*config_parents(services, files), *(path for service in services for path in files[service])]),
        "bootstrap": [one for spec in services.values() for one in bootstraps(spec)],
    }


def _preflight(joined: Mapping[str, Any], inputs: Mapping[str, Any], addresses: list[str], mistakes: list[Mistake]) -> dict[str, Any]:
    return {**preflight_slice(joined["services"], joined["tier"], inputs, addresses, mistakes), "deserted": joined["deserted"]}


def without_content(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the slices as the host needs them to look at itself: digests instead of content, nothing secret."""

    def bare(paths: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in path.items() if key not in ("content", "secret_content", "validate")} for path in paths]

    return {
        "account": {**wanted["account"], "paths": bare(wanted["account"]["paths"])},
        "release": [{key: value for key, value in one.items() if key != "headers"} for one in wanted["release"]],
        "config": {**wanted["config"], "paths": bare(wanted["config"]["paths"])},
        "unit": {
            "paths": bare(wanted["unit"]["paths"]),
            "units": [{key: value for key, value in unit.items() if key != "content"} for unit in wanted["unit"]["units"]],
        },
        "firewall": wanted["firewall"],
        "backup": backup_slice.without_content(wanted["backup"], bare),
        "drill": drill_slice.without_content(wanted["drill"], bare),
        "preflight": wanted["preflight"],
        "rollout": [{key: one[key] for key in _TO_LOOK_AT_SERVICES} for one in wanted["rollout"]],
    }


def digest(text: str) -> str:
    """Return the SHA-256 of a text as it will stand in a file."""
    return hashlib.sha256(text.encode()).hexdigest()


def _file(service: str, path: str, text: str, *, owner: str, group: str, mode: str, secret: bool = False, **more: Any) -> dict[str, Any]:
    content = {"secret_content" if secret else "content": text}
    return {
        "path": path,
        "state": "file",
        "service": service,
        "owner": owner,
        "group": group,
        "mode": _mode(mode),
        "sha256": digest(text),
        **content,
        **more,
    }


def _directory(service: str, path: str, *, owner: str, group: str, mode: str) -> dict[str, Any]:
    return {"path": path, "state": "directory", "service": service, "owner": owner, "group": group, "mode": _mode(mode)}


def _mode(mode: str) -> str:
    return mode.rjust(4, "0")


def _once(paths: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the paths without repetition; the first description of a path wins."""
    seen: dict[str, dict[str, Any]] = {}
    for path in paths:
        seen.setdefault(path["path"], path)
    return list(seen.values())


def account_slice(services: Mapping[str, Any], inputs: Mapping[str, Any], mistakes: list[Mistake]) -> dict[str, Any]:
    """Return groups, users and directories: of the services, and of the host's operators."""
    operators: dict[str, Any] = {"groups": [], "users": [], "paths": []}
    try:
        operators = operator_slices(inputs["account_operators"], exclusive_keys=inputs["account_operators_exclusive_keys"])
    except InventoryError as error:
        mistakes.extend(error.mistakes)
    groups: dict[str, Any] = {}
    users: dict[str, Any] = {}
    for name, spec in services.items():
        account = spec["account"]
        groups.setdefault(account["group"], {"name": account["group"], "gid": account["gid"], "system": True})
        users.setdefault(
            account["user"],
            {
                "name": account["user"],
                "group": account["group"],
                "groups": sorted(account["groups"]),
                "uid": account["uid"],
                "home": account["home"],
                "shell": "/usr/sbin/nologin",
                "system": True,
                "create_home": False,
                "comment": spec["description"].replace(":", " "),
                "service": name,
            },
        )
    # Of services that share an account, one may say what the others leave to the defaults.
    for kind, called, key, value, _service in said_of_accounts(services):
        (users if kind == "account" else groups)[called][key] = value
    directories = [
        _directory(name, one["path"], owner=one["owner"], group=one["group"], mode=one["mode"])
        for name, spec in services.items()
        for one in spec["directories"]
        if not is_systems(one["path"])
    ]
    directories.sort(key=lambda one: one["path"])  # so that what holds others comes first, in whatever order they are written
    return {
        "groups": [*groups.values(), *operators["groups"]],
        "users": [*users.values(), *operators["users"]],
        "paths": _once([*directories, *_at_boot(services, mistakes), *operators["paths"]]),
    }


def _at_boot(services: Mapping[str, Any], mistakes: list[Mistake]) -> list[dict[str, Any]]:
    """Return the file by which directories below /run come back after a boot; absent where no service needs it."""
    path, text = runtime_directories.TMPFILES, ""
    try:
        text = runtime_directories.at_boot(services)
    except FleetError as error:
        mistakes.extend(unit_text.mistakes_of(error))
    if text:
        return [_file("", path, text, owner="root", group="root", mode="0644")]
    return [{"path": path, "state": "absent", "service": ""}]


def per_architecture(value: Any, architectures: Iterable[str]) -> dict[str, str]:
    """Return a value for each architecture: its own entry, or the one that stands for any."""
    if isinstance(value, str):
        return dict.fromkeys(architectures, value)
    return {arch: value.get(arch, value.get("any")) for arch in architectures if value.get(arch, value.get("any"))}


def release(spec: Mapping[str, Any], inputs: Mapping[str, Any], sources: Sources, mistakes: list[Mistake]) -> dict[str, Any]:
    """Return the release of a service, with where its artifact is for each architecture."""
    artifact = spec["artifact"]
    path = join_path("fleet_services", spec["name"]) + ".artifact"
    digests = artifact["sha256"] if isinstance(artifact["sha256"], dict) else {"any": artifact["sha256"]}
    signature = artifact["signature"] and dict(artifact["signature"])
    return {
        "service": spec["name"],
        "version": spec["version"],
        "root": posixpath.join(RELEASES, spec["name"]),
        "artifacts": {
            arch: {"sha256": sha256, **_location(artifact, arch, spec["version"], path, sources, mistakes)} for arch, sha256 in digests.items()
        },
        "format": artifact["format"],
        "name": artifact["name"] or "",
        "binaries": spec["binaries"],
        "signature": signature and {**signature, **_signatures(signature, digests, spec["version"], path, sources, mistakes)},
        "keep": spec["keep"] or inputs["release_keep"],
        "version_command": spec["version_command"],
        "version_pattern": spec["version_pattern"] or "",
        "via": artifact["via"] or inputs["release_via"],
        "headers": artifact["headers"],
        "proxy": inputs["release_proxy"],
        "timeout": DURATION.read(inputs["release_timeout"], "release_timeout", mistakes),
        "retries": inputs["release_retries"],
        "unit": spec["unit"]["name"],
    }


def _location(artifact: Mapping[str, Any], arch: str, version: str, path: str, sources: Sources, mistakes: list[Mistake]) -> dict[str, str]:
    """Return ``{"url": …}`` or ``{"file": …}`` of one architecture, filled in."""
    kind = "url" if artifact["url"] else "file"
    text = per_architecture(artifact[kind], [arch]).get(arch) if artifact[kind] else None
    if text is None:
        return {}  # which the join has said
    text = text.replace("{version}", version).replace("{arch}", arch)
    if kind == "url":
        return {"url": text}
    try:
        return {"file": sources.find(text)}
    except FleetError as error:
        mistakes.append(Mistake(f"{path}.file", str(error)))
        return {}


def _signatures(
    signature: Mapping[str, Any], architectures: Iterable[str], version: str, path: str, sources: Sources, mistakes: list[Mistake]
) -> dict[str, Any]:
    if not signature["url"] and not signature["file"]:
        return {"url": {}, "file": {}}
    found = {arch: _location(signature, arch, version, f"{path}.signature", sources, mistakes) for arch in architectures}
    return {kind: {arch: one[kind] for arch, one in found.items() if kind in one} for kind in ("url", "file")}


def config_paths(spec: Mapping[str, Any], sources: Sources, mistakes: list[Mistake]) -> list[dict[str, Any]]:
    """Return the files that a service reads: rendered config, the secrets' environment file, credentials."""
    name = spec["name"]
    base = join_path("fleet_services", name)
    files = [attempt(_config_file, spec, config, f"{base}.config[{index}]", sources, mistakes) for index, config in numbered(spec["config"])]
    files.append(attempt(_environment_text, spec, f"{base}.secrets", mistakes))
    files.extend(attempt(_secret_text, spec, key) for key in readable(spec["secrets"]))
    return [file for file in readable(files) if file and file["path"] is not BROKEN]


def _config_file(spec: Mapping[str, Any], config: Mapping[str, Any], path: str, sources: Sources, mistakes: list[Mistake]) -> dict[str, Any] | None:
    text = _config_text(config, path, sources, mistakes)
    return (
        text
        if text is None
        else _file(
            spec["name"],
            config["path"],
            text,
            owner=config["owner"],
            group=config["group"],
            mode=config["mode"],
            secret=config["secret"],
            validate=config["validate"],
            validate_as=spec["account"]["user"],
        )
    )


def _environment_text(spec: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> dict[str, Any] | None:
    """Return the file with the secrets that are environment variables, if there are any."""
    environment = {key: secret["value"] for key, secret in spec["secrets"].items() if secret["as"] == "environment"}
    if not environment or any(value is BROKEN for value in environment.values()):
        return None
    try:
        text = config_formats.encode("env", environment, path)
    except config_formats.ContentError as error:
        mistakes.extend(error.mistakes)
        return None
    return _file(spec["name"], spec["environment_file"], text, owner="root", group="root", mode="0600", secret=True)


def _secret_text(spec: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Return the file of a secret that is no environment variable."""
    secret = spec["secrets"][key]
    if secret["as"] == "environment":
        return None
    return _file(spec["name"], secret_path(spec, key), secret["value"], owner="root", group="root", mode="0600", secret=True)


def _config_text(config: Mapping[str, Any], path: str, sources: Sources, mistakes: list[Mistake]) -> Any:
    if holds_broken([config[key] for key in ("content", "template", "file")]):
        return None
    try:
        if config["template"] is not None:
            return sources.template(config["template"])
        if config["file"] is not None:
            return sources.read(config["file"])
        if config["content"] is None:
            return None  # which the join has said
        return config_formats.encode(config["format"] or config_formats.guess_format(config["path"]), config["content"], f"{path}.content")
    except config_formats.ContentError as error:
        mistakes.extend(error.mistakes)
    except FleetError as error:
        mistakes.append(Mistake(path, str(error)))
    return None


def config_parents(services: Mapping[str, Any], files: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the directories that hold services' files and are nobody's else: root's, readable by the group, or by all where groups share one."""
    own = {one["path"] for spec in services.values() for one in spec["directories"]}
    owners: dict[str, dict[str, str]] = {}
    for name, spec in services.items():
        for file in files[name]:
            parent = posixpath.dirname(file["path"])
            while not is_systems(parent) and parent not in own:
                owners.setdefault(parent, {})[name] = spec["account"]["group"]
                parent = posixpath.dirname(parent)
    return [_parent(path, groups) for path, groups in sorted(owners.items())]


def _parent(path: str, groups: Mapping[str, str]) -> dict[str, Any]:
    service, group = next(iter(groups.items()))
    if len(set(groups.values())) == 1:
        return _directory(service, path, owner="root", group=group, mode="0750")
    return _directory(service, path, owner="root", group="root", mode="0755")


def credentials(spec: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the systemd credentials of a service: name, and the path that only root can read."""
    return [{"name": key, "path": secret_path(spec, key)} for key, secret in spec["secrets"].items() if secret["as"] == "credential"]


def environment_files(spec: Mapping[str, Any]) -> list[str]:
    """Return the environment files of a service: the one of its secrets, where it has any."""
    return [spec["environment_file"]] if any(secret["as"] == "environment" for secret in spec["secrets"].values()) else []


def bootstraps(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the commands that run once before a service's first start."""
    return [
        {
            "service": spec["name"],
            "command": [unit_file.executable(one["command"][0]), *one["command"][1:]],
            "creates": one["creates"],
            "timeout": one["timeout"],
            "user": spec["account"]["user"],
            "group": spec["account"]["group"],
            "environment": spec["environment"],
            "environment_files": environment_files(spec),
            "credentials": [f"{secret['name']}:{secret['path']}" for secret in credentials(spec)],
            "working_directory": spec["unit"]["working_directory"],
        }
        for one in spec["bootstrap"]
    ]


def unit_slice(
    services: Mapping[str, Any], files: Mapping[str, list[dict[str, Any]]], inputs: Mapping[str, Any], mistakes: list[Mistake]
) -> dict[str, Any]:
    """Return the units, rendered, and the host tool that they call when they start."""
    units = (attempt(_unit, spec, files[name], inputs["unit_exposure_max"], mistakes) for name, spec in services.items())
    wanted = [unit for unit in readable(units) if unit]
    return {"units": wanted, "paths": _host_tools([one["name"] for one in wanted]) if wanted else []}


def _unit(spec: Mapping[str, Any], files: list[dict[str, Any]], exposure_max: float, mistakes: list[Mistake]) -> dict[str, Any] | None:
    """Return the unit of one service; None, and mistakes, for what no unit file can say."""
    # What the daemon does not get needs no restart when it changes.
    apart = readable(attempt(_for_requests, spec))
    stamped = [path["path"] for path in files if path["path"] not in apart]
    more = {"credentials": attempt(credentials, spec), "environment_files": attempt(environment_files, spec), "stamp": stamped}
    try:
        content = unit_file.render({**spec, **more})
    except FleetError as error:
        mistakes.extend(unit_text.mistakes_of(error))
        return None
    threshold = spec["sandbox"]["exposure_max"]
    return {
        "service": spec["name"],
        "name": spec["unit"]["name"],
        "content": content,
        "sha256": digest(content),
        "exposure_max": exposure_max if threshold is None else threshold,
        "enabled": True,
        "stamp": stamped,
    }


def _for_requests(spec: Mapping[str, Any]) -> list[str]:
    """Return the files of the secrets that the daemon does not get."""
    return [secret_path(spec, key) for key, secret in spec["secrets"].items() if secret["as"] == "request"]


def _host_tools(service_units: Iterable[str]) -> list[dict[str, Any]]:
    """Return what the host needs to start services, and to finish their rollouts by itself: the stamp, hearthctl, what runs at boot."""
    library = [host_tools.LIBRARY]
    for package in host_tools.PACKAGES:
        library.append(posixpath.join(library[-1], package))
    programs = {unit_marks.STAMP_PATH: unit_marks.STAMP_SCRIPT, host_tools.HEARTHCTL: host_tools.LAUNCHER}
    resume = posixpath.join(unit_marks.UNITS, host_tools.RESUME_UNIT)
    texts = {resume: host_tools.resume_unit(list(service_units))}
    boot = posixpath.join(unit_marks.UNITS, "multi-user.target.wants", host_tools.RESUME_UNIT)
    return [
        *(_directory("", path, owner="root", group="root", mode="0755") for path in (*library, posixpath.dirname(boot))),
        *(_file("", path, text, owner="root", group="root", mode="0755") for path, text in programs.items()),
        *(_file("", path, text, owner="root", group="root", mode="0644") for path, text in texts.items()),
        *_engine(),
        {"path": boot, "state": "link", "target": resume, "service": ""},
    ]


@cache
def _engine() -> list[dict[str, Any]]:
    """Return the sources of the engine. Their contents would weigh on every run; the action of ``paths`` adds them where they are due."""
    here = Path(host_tools.__file__).parent
    found = []
    for name in host_tools.SOURCES:
        text = (here / name).read_text(encoding="utf-8")
        file = _file("", posixpath.join(host_tools.SOURCES_HOME, name), text, owner="root", group="root", mode="0644")
        del file["content"]
        found.append({**file, "part": name})
    return found


def firewall_slice(services: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole rule set of a host: SSH, the host's own rules, and one rule per port, protocol and source."""
    rules = [
        _rule("limit" if inputs["firewall_ssh_limit"] else "allow", str(port), "tcp", source, "host/ssh")
        for port in inputs["firewall_ssh_ports"]
        for source in inputs["firewall_ssh_from"]
    ]
    rules += [_host_rule(one, proto, source) for one in inputs["firewall_rules"] for proto in one["proto"] for source in one["from"]]
    closed = inputs["firewall_default_incoming"] != "allow"
    for name, spec in services.items():
        for port in spec["ports"]:
            for source in port["sources"]:
                if source == "none" and closed:
                    continue  # what the default policy closes needs no rule
                action = "deny" if source == "none" else "limit" if port["limit"] else "allow"
                rules += [
                    _rule(action, port["port"], proto, "any" if source == "none" else source, f"{name}/{port['name']}") for proto in port["proto"]
                ]
    return {
        "managed": inputs["firewall_managed"],
        "enabled": inputs["firewall_enabled"],
        "defaults": {direction: inputs[f"firewall_default_{direction}"] for direction in ("incoming", "outgoing", "routed")},
        "ipv6": inputs["firewall_ipv6"],
        "logging": inputs["firewall_logging"],
        "exclusive": inputs["firewall_exclusive"],
        "rules": [dict(rule) for rule in dict.fromkeys(tuple(rule.items()) for rule in rules)],
        "keep_connection": inputs["firewall_keep_connection"],
        "confirm_seconds": inputs["firewall_confirm_seconds"],
        "ssh_ports": inputs["firewall_ssh_ports"],
    }


def _host_rule(one: Mapping[str, Any], proto: str, source: str) -> dict[str, str]:
    return _rule(one["action"], str(one["port"]).replace("-", ":"), proto, source, f"host/{one['name']}", one["interface"])


def with_addresses(inputs: Mapping[str, Any], addresses: Callable[[str], list[str]], mistakes: list[Mistake]) -> dict[str, Any]:
    """Return the inputs of the firewall with the addresses of the groups and hosts that they let in."""

    def resolve(given: Iterable[str], path: str) -> list[str]:
        found = []
        for index, source in enumerate(given):
            try:
                found += addresses(source)
            except ValueError as error:
                problem, _semicolon, remedy = str(error).partition("; ")
                mistakes.append(Mistake(join_path(path, index), problem, remedy))
        return list(dict.fromkeys(found))

    rules = [{**one, "from": resolve(one["from"], f"firewall_rules[{index}].from")} for index, one in enumerate(inputs["firewall_rules"])]
    return {**inputs, "firewall_rules": rules, "firewall_ssh_from": resolve(inputs["firewall_ssh_from"], "firewall_ssh_from")}


def firewall_mistakes(inputs: Mapping[str, Any]) -> list[Mistake]:
    """Return what is wrong with the host's own rules, which the host would say of one rule at a time."""
    found = []
    for index, one in enumerate(inputs["firewall_rules"]):
        for place, source in _plain_sources(one["from"]) or [(0, "any")]:
            keys = {"owner": "name", "source": f"from[{place}]"}
            found += [
                Mistake(f"firewall_rules[{index}].{keys.get(key, key)}", problem, remedy)
                for key, problem, remedy in firewall_formats.complaints(_host_rule(one, "any", source))
            ]
    for name, key in (("firewall_ssh_ports", "port"), ("firewall_ssh_from", "source")):
        for index, value in _plain_sources(map(str, inputs[name])):
            rule = {**_rule("allow", "22", "tcp", "any", "host/ssh"), key: value}
            found += [Mistake(f"{name}[{index}]", problem, remedy) for _key, problem, remedy in firewall_formats.complaints(rule)]
    shortest = firewall_formats.SHORTEST_CONFIRMATION_SECONDS
    if inputs["firewall_confirm_seconds"] < shortest:
        found.append(Mistake("firewall_confirm_seconds", f"{inputs['firewall_confirm_seconds']} is too short", f"write {shortest} or more"))
    return found


def _plain_sources(sources: Iterable[str]) -> list[tuple[int, str]]:
    """Return what is no group or host of the inventory, with its place."""
    return [(index, source) for index, source in enumerate(sources) if not source.startswith(("group:", "host:"))]


def _rule(action: str, port: str, proto: str, source: str, owner: str, interface: str = "") -> dict[str, str]:
    return {"action": action, "port": port, "proto": proto, "source": source, "interface": interface or "", "owner": owner}


def preflight_slice(
    services: Mapping[str, Any], tier: Mapping[str, Any], inputs: Mapping[str, Any], addresses: list[str], mistakes: list[Mistake]
) -> dict[str, Any]:
    """Return what a host must have: the tier's requirements, and the host's own inputs where they say more."""
    requires = tier["requires"]
    mistakes.extend(preflight_policy.on_finding_mistakes(inputs["preflight_on_finding"], "preflight_on_finding"))
    memory = _read_input(size_bytes, inputs["preflight_memory"], "preflight_memory", mistakes) if inputs["preflight_memory"] else requires["memory"]
    sizes = {path: _read_input(size_bytes, size, join_path("preflight_disk", path), mistakes) for path, size in inputs["preflight_disk"].items()}
    disk = {**requires["disk"], **sizes}
    offset = _read_input(seconds, inputs["preflight_clock_offset"], "preflight_clock_offset", mistakes)
    return {
        "tier": tier["name"],
        "cpus": inputs["preflight_cpus"] or requires["cpus"],
        "memory_bytes": memory,
        "disk": [{"path": path, "free_bytes": free} for path, free in sorted(disk.items())],
        "architectures": inputs["preflight_architectures"] or requires["architectures"],
        "python": inputs["preflight_python"],
        "clock": True,
        "clock_offset": offset,
        "iops": inputs["preflight_iops"] or requires["iops"],
        "dns": inputs["preflight_dns"] or requires["dns"],
        "addresses": addresses,
        "ports": [
            {"service": name, "port": port["port"], "proto": proto, "unit": spec["unit"]["name"]}
            for name, spec in services.items()
            for port in spec["ports"]
            if port["listen"]
            for proto in port["proto"]
        ],
        "on_finding": inputs["preflight_on_finding"],
        # So that a finding names the place that asks for it.
        "origin": {
            key: join_path("fleet_tiers", tier["name"]) + f".requires.{key}"
            for key in ("cpus", "memory", "disk", "architectures", "iops", "dns")
            if requires[key] and not inputs[f"preflight_{key}"]
        },
    }


def _read_input(parse: Callable[[Any], int], value: Any, path: str, mistakes: list[Mistake]) -> Any:
    return Scalar("", parse).read(value, path, mistakes)


def rollout(
    spec: Mapping[str, Any], files: Iterable[Mapping[str, Any]], unit: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return all that starting, restarting and upgrading a service needs to know; ``rollout_plan`` makes orders of it.

    ``files`` are the service's config files and secrets, ``unit`` its unit, as their roles get them. They are named here with
    their digests, the unit last; ``running`` names those that the daemon has read when it runs. ``along`` names those of the host's
    ``services`` that stop whenever this one does.
    """
    unit_entry = unit_marks.entry(unit)
    return {
        "service": spec["name"],
        "unit": spec["unit"]["name"],
        "health": spec["health"],
        "reload": spec["reload"] is not None,
        "reloadable": [config["path"] for config in spec["config"] if config["reloadable"]],
        "version": spec["version"],
        "version_pattern": spec["version_pattern"] or "",
        "home": posixpath.join(RELEASES, spec["name"]),
        "user": spec["account"]["user"],
        "group": spec["account"]["group"],
        "files": [{key: file[key] for key in ("path", "owner", "group", "mode", "sha256")} for file in (*files, unit_entry)],
        "running": [*unit["stamp"], unit_entry["path"]],
        "along": stopping_along(spec["name"], services),
        "databases": backup_spec.databases_of(spec),
        "backup_command": (spec["backup"] or {}).get("command", []),
        "drain": spec["drain"],
        "stop_timeout": spec["unit"]["stop_timeout"],
        "start_timeout": spec["unit"]["start_timeout"],
        "min_available": spec["min_available"],
        **spec["rollout"],
    }


def stopping_along(service: str, services: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return those of a host's services that stop whenever ``service`` does, as they require it, or one that does; sorted."""
    found: set[str] = set()
    due = {service}
    while due:
        units = {services[name]["unit"]["name"] for name in due}
        due = {name for name, spec in services.items() if units & set(spec["unit"]["requires"])} - found - {service}
        found |= due
    return sorted(found)
