# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one join: catalogue, placement, tiers and overrides become the finished service specs of every host.

Pure: the inventory comes in as plain data, the specs go out as plain data, and every mistake is collected with the
inventory path of the key that holds it.
"""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.hearth.fleet.plugins.module_utils import archive, backup_spec, command_words, headers
from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, attempt, numbered, readable, value_at
from ansible_collections.hearth.fleet.plugins.module_utils.errors import HOSTS, Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import part_of
from ansible_collections.hearth.fleet.plugins.module_utils.schema import suggest
from ansible_collections.hearth.fleet.plugins.module_utils.service_schema import FLEET, ROOT_GROUPS, SERVICE, SERVICE_NAME, TIER
from ansible_collections.hearth.fleet.plugins.module_utils.system_directories import is_systems

BINARIES = "/usr/local/bin"
RELEASES = "/opt"
"""Where every service keeps its releases, in a directory of its own."""

HOMES = ("/home", "/root", "/run/user")
"""What a sandbox hides of a host unless it says otherwise (systemd's ProtectHome=)."""

TEMPORARY = ("/tmp", "/var/tmp")
"""Of what a sandbox gives the daemon one of its own, unless it says otherwise (systemd's PrivateTmp=)."""

FLEET_WIDE = (("min_available",), ("rollout", "canary"), ("rollout", "promote"), ("rollout", "partition"))
"""What a service says about all of its hosts together, so that it cannot differ between them."""

HOST_UNITS = ("cron", "dbus", "networking", "nftables", "rsyslog", "ssh", "sshd", "sudo", "ufw")
"""Units of the distribution without which a host cannot be reached or kept; so are those that begin with one of HOST_UNIT_PREFIXES."""

HOST_UNIT_PREFIXES = ("hearth-", "systemd-")

_TELLING = 8
"""A secret of so many characters does not stand in an argument by accident."""

_ADDED = 3
"""So many overrides of one thing are named."""

_NAMED_LISTS = {"ports": "name", "config": "path", "directories": "path", "bootstrap": "creates"}
"""Lists of a service whose items are merged by a key of theirs, so that an override can change one port of three."""


@dataclass
class Host:
    """What the inventory says about one host, as plain data.

    ``groups`` in the order in which Ansible lets their variables win (parents first). ``catalogue`` holds the descriptions
    of the services placed here, with the host's own variables filled in.
    """

    name: str
    groups: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    placement: Mapping[str, Any] = field(default_factory=dict)
    catalogue: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    tiers: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Fleet:
    """The whole inventory: its hosts by name, and the members of its groups."""

    hosts: dict[str, Host]
    groups: Mapping[str, list[str]]

    def addresses(self, source: str) -> list[str]:
        """Return the addresses behind a source: of every member of a group, of a host, or the source itself.

        Raises ValueError, worded for the person who wrote the source.
        """
        kind, _colon, name = source.partition(":")
        if kind == "group" and name:
            if name not in self.groups:
                raise ValueError(f"no inventory group is called {name!r}; {suggest(name, self.groups)}")
            members = self.groups[name]
            if not members:
                raise ValueError(f"group {name!r} has no hosts, so nobody could connect; add a host to it, or write from: none")
            return [address for member in members for address in self._of_host(member)]
        if kind == "host" and name in self.hosts:
            return self._of_host(name)
        if kind == "host" and name and "::" not in source:
            raise ValueError(f"no inventory host is called {name!r}; {suggest(name, self.hosts)}")
        return [source]

    def _of_host(self, name: str) -> list[str]:
        addresses = self.hosts[name].addresses
        if not addresses:
            raise ValueError(f"host {name} has no known address; set fleet_addresses for it (a list of its IPv4 and IPv6 addresses)")
        return addresses


def merge(base: Any, layer: Any, path: str, layer_path: str, origins: dict[str, str], *, within: bool = False) -> Any:
    """Return ``base`` with ``layer`` laid over it: mappings per key, everything else replaced, null taking a key away.

    A service's own lists of named things are merged by these names; ``within`` one of its keys there are none.

    ``origins`` learns, for each merged path, the path of the layer it came from, so that mistakes name the right place.
    """
    if not isinstance(base, Mapping) or not isinstance(layer, Mapping):
        _note_origin(path, layer_path, origins)
        return copy.deepcopy(layer)
    merged = dict(base)
    for key, value in layer.items():
        below, layer_below = join_path(path, key), join_path(layer_path, key)
        if value is None:
            # What is then missing was taken away here.
            _note_origin(below, layer_below, origins)
            merged.pop(key, None)
        elif not within and key in _NAMED_LISTS and _is_named(merged.get(key), _NAMED_LISTS[key]) and _is_named(value, _NAMED_LISTS[key]):
            merged[key] = _merge_named(merged[key], value, _NAMED_LISTS[key], below, layer_below, origins)
        elif key in merged:
            merged[key] = merge(merged[key], value, below, layer_below, origins, within=True)
        else:
            _note_origin(below, layer_below, origins)
            merged[key] = copy.deepcopy(value)
    return merged


def _note_origin(path: str, layer_path: str, origins: dict[str, str]) -> None:
    """Note that all of ``path`` is of one layer now, whatever earlier ones wrote within."""
    for within in [noted for noted in origins if _is_within(noted, path)]:
        del origins[within]
    origins[path] = layer_path


def _is_within(path: str, whole: str) -> bool:
    return path == whole or path.startswith((f"{whole}.", f"{whole}["))


def _is_named(items: Any, name_key: str) -> bool:
    return isinstance(items, list) and all(isinstance(item, Mapping) and isinstance(item.get(name_key), str) for item in items)


def _merge_named(base: list[Any], layer: list[Any], name_key: str, path: str, layer_path: str, origins: dict[str, str]) -> list[Any]:
    merged = list(base)
    places = {item[name_key]: index for index, item in enumerate(merged)}
    for layer_index, item in enumerate(layer):
        index = places.get(item[name_key], len(merged))
        below, layer_below = join_path(path, index), join_path(layer_path, layer_index)
        if index == len(merged):
            _note_origin(below, layer_below, origins)
            merged.append(copy.deepcopy(item))
        else:
            merged[index] = merge(merged[index], item, below, layer_below, origins, within=True)
    return merged


def original_path(path: str, origins: Mapping[str, str]) -> str:
    """Return where in the inventory a merged path was written: the longest known beginning, translated."""
    known = [start for start in origins if _is_within(path, start)]
    if not known:
        return path
    start = max(known, key=len)
    return origins[start] + path[len(start) :]


def where_written(mistake: Mistake, origins: Mapping[str, str]) -> Mistake:
    """Return a mistake of a merged description with the path at which it was written, and what overrides have added below that."""
    path = original_path(mistake.path, origins)
    added = sorted({origin for start, origin in origins.items() if start != mistake.path and _is_within(start, mistake.path)})
    more = f" (with {', '.join(added[:_ADDED])}{', …' if len(added) > _ADDED else ''})" if added else ""
    return mistake._replace(path=path, problem=mistake.problem + more)


def placed(placement: Mapping[str, Any], name: str, mistakes: list[Mistake], trail: tuple[str, ...] = ()) -> list[str]:
    """Return the services that ``placement`` names for one group or host, with ``like:<group>`` followed."""
    path = join_path("fleet_placement", name)
    if name in trail:
        circle = _circle(trail[trail.index(name) :])
        mistakes.append(
            Mistake(
                join_path("fleet_placement", circle[0]), f"circular placement: {' → '.join(circle)}", "name the services themselves in one of them"
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


def _circle(names: tuple[str, ...]) -> tuple[str, ...]:
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


def _check_overridden(fleet: Fleet, known_services: Collection[str]) -> list[Mistake]:
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


def _check_names(services: Iterable[Any], mistakes: list[Mistake]) -> None:
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
            mistakes.append(Mistake(_placement_path(host, name), f"{name!r} is not in fleet_services", suggest(name, known_services)))
            continue
        spec = finish_service(name, host, tier, fleet, mistakes, known_services, origins)
        if spec is not None:
            finished[name] = spec
    mistakes.extend(_clashes(finished, origins))
    mistakes.extend(_account_mistakes(finished, origins))
    mistakes.extend(where_written(one, origins) for one in _order_mistakes(finished))
    return finished


def _placement_path(host: Host, service: str) -> str:
    """Return the path of the placement entry that puts ``service`` on ``host``."""
    for name in (*host.groups, host.name):
        entry = host.placement.get(name)
        items = [entry] if isinstance(entry, str) else entry if isinstance(entry, list) else []
        for index, item in numbered(items):
            if item == service:
                return join_path(join_path("fleet_placement", name), index)
    return "fleet_placement"


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
    for layer in _layers(host, tier):
        override = host.overrides.get(layer)
        if isinstance(override, Mapping) and isinstance(override.get(name), Mapping):  # all else is reported by the schema
            layer_path = join_path(join_path("fleet_overrides", layer), name)
            described = merge(described, override[name], path, layer_path, origins)
    found: list[Mistake] = []
    spec = BROKEN if described is BROKEN else SERVICE.read(described, path, found)
    if spec is not BROKEN:
        spec["name"] = name
        _fill(spec)
        attempt(_place_commands, spec, path, origins)
        _join_sources(spec, host, fleet, found, path)
        _check(spec, found, path)
        _check_units(spec, host, known_services, found, path)
        attempt(_add_home, spec)
    mistakes.extend(where_written(one, origins) for one in found)
    return None if spec is BROKEN else spec


def _layers(host: Host, tier: str) -> list[str]:
    """Return the keys of ``fleet_overrides`` that hold for a host, in the order in which they win."""
    # Every host is in `all`, which therefore says less of any of them than its tier does.
    return list(dict.fromkeys(layer for layer in ("all", tier, *host.groups, host.name) if layer))


def _fill(spec: dict[str, Any]) -> None:
    """Fill the defaults that depend on other keys. One that depends on what is broken is broken, too."""
    name = spec["name"]
    spec["description"] = attempt(lambda: " ".join((spec["description"] or name).split()))
    spec["binaries"] = attempt(_binaries, spec)
    spec["secrets"] = attempt(_secrets, spec["secrets"])
    spec["environment_file"] = _given(spec["environment_file"], lambda: f"/etc/{name}/{name}.env")
    for fill in (
        _fill_account,
        _fill_owners,
        _fill_secret_files,
        _fill_unit,
        _fill_capabilities,
        _fill_control_groups,
        backup_spec.fill,
        _fill_methods,
    ):
        attempt(fill, spec)


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
    for _where, request in _requests(spec, ""):
        request["secret_files"] = attempt(_secret_files, spec, request)


def _secret_files(spec: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    named = {secret for value in request["headers"].values() for secret in headers.references(value)}
    return {key: _secret_file(spec, key) for key in sorted(named) if key in spec["secrets"]}


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
    for _where, request in (*_asked(spec, ""), *_asked_in_drills(spec, "")):
        if "url" in request:
            request["method"] = attempt(_method, request)


def _method(request: Mapping[str, Any]) -> Any:
    return request["method"] or ("GET" if request["body"] is None else "POST")


def _add_home(spec: dict[str, Any]) -> None:
    """Make the home of the account one of the directories, the first, where nobody has listed it."""
    account = spec["account"]
    if account["home"] not in [directory["path"] for directory in spec["directories"]]:
        spec["directories"].insert(
            0, {"path": account["home"], "owner": account["user"], "group": account["group"], "mode": "0750", "writable": True}
        )


def secret_path(spec: Mapping[str, Any], key: str) -> str:
    """Return the file in which a host keeps a secret of a service, for root's eyes only."""
    return str(spec["environment_file"]) if spec["secrets"][key]["as"] == "environment" else f"/etc/{spec['name']}/credentials/{key}"


def _secret_file(spec: Mapping[str, Any], key: str) -> dict[str, str]:
    """Return where a host finds a secret, and whose daemon has it, too (see ``headers.read_secrets``)."""
    kind = spec["secrets"][key]["as"]
    return {"path": secret_path(spec, key), "as": kind, **({} if kind == "request" else {"service": spec["name"]})}


def _requests(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the requests of a service that may have headers, each with its inventory path."""
    for where, request in _asked(spec, path):
        if "url" in request:
            yield where, request
    for index, analysis in numbered(value_at(spec, "rollout", "analysis")):
        yield f"{path}.rollout.analysis[{index}]", analysis


def _asked(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a service is asked, unless it is a plain URL, each with its inventory path."""
    for section, keys in (("health", ("ready", "live", "version")), ("drain", ("request", "done", "resume"))):
        for key in keys:
            request = None if spec[section] is None else value_at(spec, section, key)
            if isinstance(request, dict):
                yield f"{path}.{section}.{key}", request


def _asked_in_drills(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a service is asked in drills alone, each with its inventory path."""
    for name, one in backup_spec.sets_of(spec).items():
        if isinstance(value_at(one, "drill", "ready"), dict):
            yield f"{path}.backup{'' if name == backup_spec.DATA else f'.more.{name}'}.drill.ready", one["drill"]["ready"]


def _place_commands(spec: Mapping[str, Any], path: str, origins: Mapping[str, str]) -> None:
    """Have the commands that are asked say where they are written: a host says so where there is no such program."""
    for where, request in (*_asked(spec, path), *_asked_in_drills(spec, path)):
        if "command" in request:
            request["where"] = original_path(f"{where}.command", origins)


def _join_sources(spec: dict[str, Any], host: Host, fleet: Fleet, mistakes: list[Mistake], path: str) -> None:
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
        own = {address for address in addresses if _is_loopback(address)} - set(host.addresses)
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


def read_addresses(value: Any, path: str, mistakes: list[Mistake]) -> list[str]:
    """Return a host's addresses as the inventory gives them: one address or a list, each checked."""
    addresses = []
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        try:
            address = ipaddress.ip_address(str(item).partition("/")[0])
        except ValueError:
            mistakes.append(Mistake(join_path(path, index), f"{item!r} is not an address", "write an IPv4 or IPv6 address, not a name"))
            continue
        if is_private_to_host(address) and not address.is_loopback:  # that of a fleet of one machine
            mistakes.append(
                Mistake(join_path(path, index), f"{item!r} leads no other host to this one", "write the addresses by which others reach it")
            )
        addresses.append(str(address))
    return addresses


def is_private_to_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an address means another host to everybody: loopback, link-local, multicast, or none at all."""
    return address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local


def _is_loopback(source: str) -> bool:
    try:
        return ipaddress.ip_network(source, strict=False).is_loopback
    except ValueError:
        return False


def address_order(address: str) -> tuple[int, str]:
    """Return a sort key that puts words first, then IPv4, then IPv6."""
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return (0, address)
    return (network.version, f"{int(network.network_address):040d}/{network.prefixlen:03d}")


def _check(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check what depends on several keys of one service."""
    for check in (
        _check_account,
        _check_root_groups,
        _check_artifact,
        _check_one_file,
        _check_digests,
        _check_command,
        _check_links,
        _check_version_pattern,
        _check_unit_type,
        _check_config,
        _check_secrets,
        _check_headers,
        _check_arguments,
        _check_words,
        _check_repetitions,
        backup_spec.check,
        _check_stop,
        _check_rollout,
        _check_hidden,
        _check_released,
        _check_places,
    ):
        attempt(check, spec, mistakes, path)


def _check_account(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    account = spec["account"]
    if len(account["user"]) > 32:
        problem = f"{account['user']!r} has more than 32 characters, too many for an account"
        mistakes.append(Mistake(f"{path}.account.user", problem, "set account.user"))
    if account["user"] == account["group"] and account["user"] in ROOT_GROUPS and account["user"] != "root":
        problem = f"its group would be {account['group']!r}, whose members can become root"
        mistakes.append(Mistake(f"{path}.account.user", problem, "name an account of its own"))
    if account["user"] == "root":
        remedy = "leave it out; ports below 1024 need no root, and other privileges are named in sandbox.capabilities"
        mistakes.append(Mistake(f"{path}.account.user", "daemons do not run as root, whose home and login would become the service's", remedy))


def _check_root_groups(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    if spec["sandbox"]["root_groups"]:
        return
    for index, name in numbered(spec["unit"]["supplementary_groups"]):
        if name in ROOT_GROUPS:
            remedy = "name what the daemon needs instead: sandbox.capabilities, sandbox.devices, or a port; or accept it: sandbox.root_groups: true"
            mistakes.append(Mistake(f"{path}.unit.supplementary_groups[{index}]", f"whoever is in group {name!r} can become root", remedy))


def _check_artifact(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    artifact = spec["artifact"]
    if (artifact["url"] is None) == (artifact["file"] is None):
        mistakes.append(Mistake(f"{path}.artifact", "needs exactly one of url and file", "keep the one that says where the release is"))
    for key, place in _places(artifact):
        attempt(_check_place, place, f"{path}.artifact.{key}", mistakes)


def _places(artifact: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return where an artifact and its signature are, each with its key."""
    signature = artifact["signature"]
    return [
        *((key, artifact[key]) for key in ("url", "file")),
        *((f"signature.{key}", value_at(signature, key)) for key in ("url", "file") if signature is not None),
    ]


def _check_digests(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that there is a digest of each file, and a file for each digest."""
    artifact, below = spec["artifact"], f"{path}.artifact"
    digests, places = artifact["sha256"], _places(artifact)
    if digests == {}:
        mistakes.append(Mistake(f"{below}.sha256", "empty", "write the digest for each architecture of your hosts"))
    apart = " and ".join(key for key, place in places if _differs_by_architecture(place))
    if apart and (isinstance(digests, str) or "any" in digests):
        remedy = "write one for each architecture of your hosts: sha256: {amd64: …, arm64: …}"
        where = f"{below}.sha256" + ("" if isinstance(digests, str) else ".any")
        mistakes.append(Mistake(where, f"one digest for all architectures, but {apart} gives each a file of its own", remedy))
    elif isinstance(digests, Mapping):
        for key, place in places:
            lacking = [arch for arch in digests if place and isinstance(place, Mapping) and not {arch, "any"} & set(place)]
            word = key.rpartition(".")[2]
            mistakes.extend(Mistake(f"{below}.{key}", f"nothing for {arch}, which has a digest", f"add {word}.{arch}") for arch in lacking)


def _check_place(place: Any, path: str, mistakes: list[Mistake]) -> None:
    """Check where an artifact or its signature is: a text for all architectures, or one for each."""
    if place == {}:
        mistakes.append(Mistake(path, "empty", "write where it is, for each architecture of your hosts"))
    texts = place.items() if isinstance(place, Mapping) else [("", place)] if place is not None else []
    for arch, text in texts:
        if text is BROKEN:
            continue
        where = join_path(path, arch) if arch else path
        _check_braces(text, where, ("version", "arch"), mistakes)
        if path.endswith(".url") and not text.startswith(("https://", "http://")):
            mistakes.append(Mistake(where, f"{text!r} is not a URL", "write it like https://host/path; a file on the controller is `file`"))


def _differs_by_architecture(place: Any) -> bool:
    text = place.get("any", "{arch}") if place and isinstance(place, Mapping) else place
    return "{arch}" in (text or "")


def _check_one_file(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that a release of one file says whether that is the daemon's program, or what a program of the host's runs."""
    artifact, binaries = spec["artifact"], list(spec["binaries"])
    run = f"[/usr/bin/java, -jar, {RELEASES}/{spec['name']}/current/{artifact['name'] or 'daemon.jar'}]"
    if artifact["name"] and binaries:
        problem = f"is for a file that is no program by itself, and {binaries[0]} would be the program in it"
        mistakes.append(Mistake(f"{path}.artifact.name", problem, f"leave it out, or write a command such as {run}, and no binaries"))
    elif artifact["name"] and artifact["format"] != "auto":
        mistakes.append(Mistake(f"{path}.artifact.name", "keeps the artifact as it is, which format is to change", "leave one of them out"))
    elif not artifact["name"] and not binaries:
        places = [place for key, place in _places(artifact)[:2] for place in (place.values() if isinstance(place, Mapping) else [place]) if place]
        kinds = {archive.format_of(place, artifact["format"]) for place in places}
        if kinds & {"binary", *archive.COMPRESSED}:
            remedy = f"write binaries: [{spec['name']}] if it is a program, artifact.name if it is a file for one, or artifact.format for an archive"
            mistakes.append(Mistake(f"{path}.artifact", "is one file by its name, and the command calls no binary of the release", remedy))
        if any("{binary}" in word for word in spec["version_command"]):
            mistakes.append(Mistake(f"{path}.version_command", "{binary} stands for nothing, as the release has no binaries", "write its path"))


def _check_command(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    if spec["command"] is not BROKEN and not spec["command"]:
        mistakes.append(Mistake(f"{path}.command", "empty", "write the daemon and its arguments"))
    for where, command in _commands(spec, path):
        attempt(_check_program, command, spec["binaries"], where, mistakes)


def _check_program(command: list[str], binaries: Mapping[str, str], where: str, mistakes: list[Mistake]) -> None:
    if command and not command[0].startswith("/") and command[0] not in binaries:
        folder, _slash, name = command[0].rpartition("/")
        remedy = f"one of the release's is named without a path: {name}" if folder else suggest(name, binaries)
        remedy += f"; a program of the host's is named by its path, such as /usr/bin/{name}"
        mistakes.append(Mistake(f"{where}[0]", f"{command[0]!r} is not one of the binaries", remedy))


def _check_links(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    for link in spec["binaries"]:
        if "/" in link:
            remedy = f"name the link, and where the binary is in the archive: binaries: {{{link.rpartition('/')[2]}: {link}}}"
            mistakes.append(Mistake(f"{path}.binaries", f"{link!r} cannot be the name of a link in {BINARIES}", remedy))


def _check_version_pattern(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    try:
        re.compile(spec["version_pattern"] or "")
    except re.error as error:
        mistakes.append(Mistake(f"{path}.version_pattern", f"{spec['version_pattern']!r} is no regular expression: {error}"))


def _check_unit_type(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    unit = spec["unit"]
    if unit["pid_file"] and unit["type"] != "forking":
        remedy = "leave it out, or set unit.type: forking, if the daemon puts itself in the background"
        mistakes.append(Mistake(f"{path}.unit.pid_file", f"a unit of type {unit['type']} has no use for it", remedy))
    if unit["watchdog"] and unit["type"] != "notify":
        problem = f"a unit of type {unit['type']} reports nothing to a watchdog"
        mistakes.append(Mistake(f"{path}.unit.watchdog", problem, "set unit.type: notify, if the daemon can"))


def _commands(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, list[str]]]:
    """Return the commands whose first word, where it is bare, is one of the service's binaries, each with its path."""
    yield f"{path}.command", spec["command"]
    if isinstance(spec["reload"], dict) and "command" in spec["reload"]:
        yield f"{path}.reload.command", spec["reload"]["command"]
    for index, one in numbered(spec["bootstrap"]):
        yield f"{path}.bootstrap[{index}].command", one["command"]
    for name, one in backup_spec.sets_of(spec).items():
        yield f"{path}.backup{'' if name == backup_spec.DATA else f'.more.{name}'}.command", one["command"]


def _check_config(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    for index, config in numbered(spec["config"]):
        below = f"{path}.config[{index}]"
        for check in (_check_contents, _check_validate, _check_reloadable):
            attempt(check, spec, config, below, mistakes)


def _check_contents(_spec: Mapping[str, Any], config: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    given = [key for key in ("content", "template", "file") if config[key] is not None]
    if len(given) != 1:
        mistakes.append(Mistake(path, f"needs exactly one of content, template and file, has {', '.join(given) or 'none'}"))


def _check_validate(_spec: Mapping[str, Any], config: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if config["validate"] and not any("{path}" in word for word in config["validate"]):
        mistakes.append(Mistake(f"{path}.validate", "does not say where the candidate goes", "write {path} in its place"))


def _check_reloadable(spec: Mapping[str, Any], config: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if config["reloadable"] and spec["reload"] is None:
        mistakes.append(Mistake(f"{path}.reloadable", "the service has no reload", "describe reload, or leave reloadable out"))


def _check_secrets(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    for key, secret in spec["secrets"].items():
        for check in (_check_variable, _check_one_line, _check_secret_alone):
            attempt(check, spec, key, secret, path, mistakes)


def _check_variable(_spec: Mapping[str, Any], key: str, secret: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if secret["as"] == "environment" and not key.replace("_", "a").isalnum():
        remedy = "use letters, digits and _, or as: credential"
        mistakes.append(Mistake(join_path(f"{path}.secrets", key), "cannot name an environment variable", remedy))


def _check_one_line(_spec: Mapping[str, Any], key: str, secret: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if secret["as"] == "environment" and "\n" in secret["value"]:
        problem = "an environment variable has one line (its value is not shown)"
        mistakes.append(Mistake(join_path(f"{path}.secrets", key), problem, "write as: credential"))


def _check_secret_alone(spec: Mapping[str, Any], key: str, secret: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if secret["as"] == "environment" and key in spec["environment"]:
        mistakes.append(Mistake(join_path(f"{path}.environment", key), "is a secret as well", "keep it under secrets only"))


def _check_arguments(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that no command has a secret among its arguments, which everybody on the host can read. No value is in an error."""
    secrets = [(key, secret["value"]) for key, secret in spec["secrets"].items() if secret["value"] is not BROKEN]
    telling = [(key, value) for key, value in secrets if len(value) >= _TELLING]
    for where, command in _all_commands(spec, path):
        for index, word in numbered(command):
            found = [key for key, value in telling if value in word]
            if found:
                remedy = "have the program read it from its environment, or from a file of $CREDENTIALS_DIRECTORY"
                mistakes.append(Mistake(f"{where}[{index}]", f"holds secret {found[0]!r}, and the arguments of a process are no secret", remedy))


def _check_words(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that nothing is left to a shell that is not there."""
    variables = {key for section in ("environment", "secrets") for key in readable(spec[section])}
    for where, command in _all_commands(spec, path):
        attempt(_check_words_of, command, spec["name"], variables, where, mistakes)
    for name, value in spec["environment"].items():
        if value is not BROKEN and command_words.refers_to_itself(name, value):
            problem = f"${name} is not filled in here, as there is no shell, and was nothing before"
            mistakes.append(Mistake(join_path(f"{path}.environment", name), problem, "write the value out"))


def _check_words_of(command: list[str], service: str, variables: Collection[str], path: str, mistakes: list[Mistake]) -> None:
    for one in command_words.complaints(command, service, variables):
        mistakes.append(Mistake(f"{path}[{one.place}]", one.problem, one.remedy))


def _all_commands(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every command of a service, each with its path."""
    yield from _commands(spec, path)
    yield f"{path}.version_command", spec["version_command"]
    for index, config in numbered(spec["config"]):
        yield f"{path}.config[{index}].validate", config["validate"]
    for where, one in (*_asked(spec, path), *_asked_in_drills(spec, path)):
        if "command" in one:
            yield f"{where}.command", one["command"]


def _check_headers(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check the secrets that headers refer to, and that no header holds one itself. No value of a header is in an error."""
    for where, request in _requests(spec, path):
        attempt(_check_headers_of, request["headers"], spec["secrets"], where, path, mistakes)


def _check_headers_of(given: Mapping[str, str], secrets: Mapping[str, Any], where: str, path: str, mistakes: list[Mistake]) -> None:
    for header, value in given.items():
        if value is BROKEN:
            continue
        below = join_path(f"{where}.headers", header)
        named = headers.references(value)
        if not named and headers.is_confidential(header):
            remedy = "keep it under secrets, and write {secret:NAME} in its place, for example 'Bearer {secret:ADMIN_TOKEN}'"
            mistakes.append(Mistake(below, "would show a secret in verbose output (its value is not shown here)", remedy))
        for key in named:
            attempt(_check_reference, key, secrets, below, path, mistakes)


def _check_reference(key: str, secrets: Mapping[str, Any], where: str, path: str, mistakes: list[Mistake]) -> None:
    if key not in secrets:
        known = suggest(key, secrets) if secrets else f"write it under {path}.secrets, with as: request if the daemon has no use for it"
        mistakes.append(Mistake(where, f"there is no secret {key!r}", known))
    elif not headers.is_line(secrets[key]["value"].rstrip("\n")):
        mistakes.append(Mistake(where, f"secret {key!r} has several lines, which no header can carry"))


def _check_repetitions(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    for section, key in (("ports", "name"), ("config", "path"), ("directories", "path")):
        names: list[Any] = []
        for index, item in numbered(spec[section]):
            if item[key] is BROKEN:
                continue
            if item[key] in names:
                mistakes.append(Mistake(f"{path}.{section}[{index}].{key}", f"{item[key]!r} stands there twice"))
            names.append(item[key])


def _written_places(spec: Mapping[str, Any], path: str, *sections: str) -> list[tuple[str, str]]:
    """Return the paths on the host that items of these sections name, each with its inventory path."""
    items = [(f"{path}.{section}[{index}].path", item["path"]) for section in sections for index, item in numbered(spec[section])]
    return [(where, place) for where, place in items if place is not BROKEN]


def _check_hidden(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that the daemon's sandbox does not hide what it needs."""
    places = _written_places(spec, path, "config", "directories")
    for key in ("read_write", "read_only"):
        places += [(f"{path}.sandbox.{key}[{index}]", place) for index, place in numbered(spec["sandbox"][key])]
    places += [(f"{path}.command[0]", word) for index, word in numbered(spec["command"]) if index == 0]
    places += readable([attempt(_own_home, spec, path), attempt(_own_working_directory, spec, path)])
    relaxations = {root: "sandbox.home: read-only (its own directories stay writable)" for root in HOMES if spec["sandbox"]["home"] == "hidden"}
    relaxations.update({root: "sandbox.private_tmp: false" for root in TEMPORARY if spec["sandbox"]["private_tmp"]})
    for where, place in filter(None, places):
        hidden = next((root for root in relaxations if f"{place}/".startswith(f"{root}/")), None)
        if hidden:
            remedy = f"write {relaxations[hidden]}, or keep it elsewhere, such as in /var/lib/{spec['name']}"
            mistakes.append(Mistake(where, f"{place} is in {hidden}, which the sandbox hides from the daemon", remedy))


def _own_home(spec: Mapping[str, Any], path: str) -> tuple[str, str] | None:
    """Return the home of a service, where it is not one of its directories."""
    home = spec["account"]["home"]
    return None if home in [directory["path"] for directory in spec["directories"]] else (f"{path}.account.home", f"{home}")


def _own_working_directory(spec: Mapping[str, Any], path: str) -> tuple[str, str] | None:
    directory = spec["unit"]["working_directory"]
    return None if directory == spec["account"]["home"] else (f"{path}.unit.working_directory", directory)


def _check_places(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that the service has no directory of the distribution's as its own, and nothing where a boot takes it away."""
    name, told = spec["name"], {one.path for one in mistakes}
    own, configs = _written_places(spec, path, "directories"), _written_places(spec, path, "config")
    found = []
    for where, place in [*_home_place(spec, path), *own]:
        if is_systems(place):
            remedy = f"name one of its own, such as {place.rstrip('/')}/{name}; sandbox.read_write opens one that stays the system's"
            found.append(Mistake(where, f"{place} is the system's, and would be given to the service", remedy))
    for where, place in [*own, *configs]:
        if place.startswith("/var/run/"):
            found.append(Mistake(where, f"{place} is in /run, by its old name", f"write {place[len('/var') :]}"))
    for where, place in configs:
        if place.startswith("/run/"):
            found.append(Mistake(where, f"{place} is gone after the next boot", f"keep it in /etc/{name}"))
    mistakes.extend(one for one in found if one.path not in told)


def _home_place(spec: Mapping[str, Any], path: str) -> list[tuple[str, str]]:
    return [(f"{path}.account.home", home) for home in readable([value_at(spec, "account", "home")])]


def _check_released(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that nothing of the daemon's own is to lie among its releases, which come and go and which only root may write."""
    name = spec["name"]
    for where, place in [*_written_places(spec, path, "config", "directories"), *_home_place(spec, path)]:
        if f"{place}/".startswith(f"{RELEASES}/{name}/"):
            remedy = f"keep it elsewhere, such as in {'/etc' if '.config[' in where else '/var/lib'}/{name}"
            mistakes.append(Mistake(where, f"{RELEASES}/{name} is for the service's releases, which only root may write", remedy))


def _check_units(spec: dict[str, Any], host: Host, known_services: Collection[str], mistakes: list[Mistake], path: str) -> None:
    """Check the services that the unit depends on: those of the fleet by their names, all other units with their suffix."""
    here = services_of(host, [])
    for key in ("after", "wants", "requires", "on_failure"):
        for index, other in numbered(value_at(spec, "unit", key)):
            where = f"{path}.unit.{key}[{index}]"
            if "." in other:
                continue
            if other not in known_services:
                remedy = f"{suggest(other, known_services)}; a unit that is no service of this fleet has a suffix: {other}.service"
                mistakes.append(Mistake(where, f"{other!r} is not in fleet_services", remedy))
            elif other not in here and key in ("requires", "on_failure"):
                remedy = "place it there too, or write wants and after, which do without it"
                mistakes.append(Mistake(where, f"service {other!r} is not placed on {HOSTS}", remedy))


def _check_stop(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    if spec["unit"]["kill_mode"] == "process" and backup_spec.databases_of(spec):
        problem = "what outlives the stop could write to the databases while they are copied"
        mistakes.append(Mistake(f"{path}.unit.kill_mode", problem, "write mixed or control-group, or leave backup.databases out"))


def _check_rollout(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    rollout = spec["rollout"]
    attempt(_check_promote, rollout, f"{path}.rollout", mistakes)
    for index, analysis in numbered(rollout["analysis"]):
        attempt(_check_analysis, analysis, f"{path}.rollout.analysis[{index}]", mistakes)


def _check_promote(rollout: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if rollout["promote"] == "manual" and rollout["canary"] == 0:
        mistakes.append(Mistake(f"{path}.promote", "there is no canary to promote", "set rollout.canary to 1 or more, or promote: auto"))


def _check_analysis(analysis: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if analysis["failure_limit"] >= analysis["count"]:
        remedy = f"write a number below count, which is {analysis['count']}"
        mistakes.append(Mistake(f"{path}.failure_limit", "all measurements may be bad, so that it can never fail", remedy))


def _check_fleet_wide(fleet: Fleet, joined: Mapping[str, Mapping[str, Any]], mistakes: list[Mistake]) -> None:
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


Specs = Mapping[str, Mapping[str, Any]]
Joined = Mapping[str, Mapping[str, Any]]


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


def _check_braces(text: str, path: str, known: tuple[str, ...], mistakes: list[Mistake]) -> None:
    for part in text.split("{")[1:]:
        word = part.partition("}")[0]
        if word not in known:
            mistakes.append(Mistake(path, f"{{{word}}} is not filled in here", f"known: {', '.join('{' + one + '}' for one in known)}"))


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
    return [(f"path {place}", f"path {place}", where) for where, place in _written_places(spec, path, "config")]


def _secret_claims(spec: Mapping[str, Any], path: str) -> list[Claim]:
    files = dict.fromkeys(readable([attempt(secret_path, spec, key) for key in spec["secrets"]]))
    return [(f"path {file}", f"path {file}", f"{path}.{'environment_file' if file == spec['environment_file'] else 'secrets'}") for file in files]


def _directory_claims(spec: Mapping[str, Any], path: str) -> list[Claim]:
    account = spec["account"]
    shared = account["home"] if account["shared"] else ""
    places = [place for _where, place in _written_places(spec, path, "directories") if place != shared]
    return [(f"path {place}", f"path {place}", f"{path}.directories") for place in places]


def _binary_claims(spec: Mapping[str, Any], path: str) -> list[Claim]:
    return [(f"path {BINARIES}/{binary}", f"binary {BINARIES}/{binary}", f"{path}.binaries") for binary in spec["binaries"]]


def _clashes(specs: Mapping[str, dict[str, Any]], origins: Mapping[str, str]) -> list[Mistake]:
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


def _account_mistakes(specs: Mapping[str, dict[str, Any]], origins: Mapping[str, str]) -> list[Mistake]:
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


def default_home(service: str) -> str:
    """Return the home of a service's account where nobody says another."""
    return f"/var/lib/{service}"


def _section(path: str) -> str:
    return path.partition("[")[0]


def _way_out(thing: str, spec: Mapping[str, Any]) -> str:
    """Return what to write where a service claims what another one has: a second instance of a daemon gives its binary another link."""
    name, binary = spec["name"], thing.rpartition("/")[2]
    if thing == f"path {BINARIES}/{binary}" and name not in spec["binaries"]:
        return f"a second instance of one daemon names its link otherwise: binaries: {{{name}: {spec['binaries'][binary]}}}, command: [{name}, …]"
    return "give one of the two another, or place them on different hosts"


def _service_of(unit: str) -> str:
    return unit.removesuffix(".service")


def _order_mistakes(specs: Mapping[str, dict[str, Any]]) -> list[Mistake]:
    """Return a mistake for each circle in the start order of one host's services, and turn their names into units."""
    mistakes: list[Mistake] = []
    edges = {
        name: [other for key in ("after", "requires") for other in map(_service_of, readable(value_at(spec, "unit", key))) if other in specs]
        for name, spec in specs.items()
    }

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            ordered = _circle(trail[trail.index(name) :])
            problem = f"circular start order on {HOSTS}: {' → '.join(ordered)}"
            mistakes.append(Mistake(f"fleet_services.{ordered[0]}.unit.after", problem, "take one of them out"))
            return
        for other in edges[name]:
            visit(other, (*trail, name))

    for name in edges:
        visit(name, ())
    for spec in specs.values():
        for key in ("after", "wants", "requires", "on_failure") if spec["unit"] is not BROKEN else ():
            spec["unit"][key] = attempt(_with_suffix, spec["unit"][key])
    return sorted(set(mistakes))


def _with_suffix(units: list[str]) -> list[str]:
    return [unit if "." in unit else f"{unit}.service" for unit in units]


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
    mistakes.extend(_check_overridden(fleet, {name for services in known_services.values() for name in services}))
    for names in known_services.values():
        _check_names(names, mistakes)
    joined: dict[str, dict[str, Any]] = {}
    for name, host in fleet.hosts.items():
        origins: dict[str, str] = {}
        found: list[Mistake] = []
        services = finish_host(host, fleet, known_services[name], found, origins)
        joined[name] = {"tier": finish_tier(host, found), "services": services, "origins": origins}
        mistakes.extend(one._replace(host=name) for one in found)
    _check_fleet_wide(fleet, joined, mistakes)
    deserted = not any(one["services"] for one in joined.values())
    return {name: {**one, "deserted": deserted} for name, one in joined.items()}
