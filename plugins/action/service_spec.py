# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join the inventory into the desired state of every host, on the controller; see the module's documentation."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.utils.yaml import from_yaml
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible.utils.display import Display

from ansible_collections.hearth.fleet.plugins.module_utils import backup_slice, drill_slice, inventory, placement, service_spec, slices
from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, attempt, holds_broken
from ansible_collections.hearth.fleet.plugins.module_utils.config_formats import plain
from ansible_collections.hearth.fleet.plugins.module_utils.errors import HOSTS, FleetError, InventoryError, Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.schema import describe, nearest, suggest
from ansible_collections.hearth.fleet.plugins.module_utils.service_schema import FLEET

ROLES = Path(__file__).resolve().parents[2] / "roles"
ROLES_WITH_INPUTS = ("account", "release", "config", "unit", "firewall", "backup", "drill", "preflight", "rollout")
FLEET_VARIABLES = ("fleet_services", "fleet_placement", "fleet_overrides", "fleet_tiers")
HOST_VARIABLES = ("fleet_addresses",)
PLUGIN_VARIABLES = ("rollout_report",)
"""Variables of the collection's callback, whose names begin as those of a role do."""
PLAYBOOK_VARIABLES = ("backup_service", "backup_hold", "backup_status_report")
"""Variables that playbooks take from the command line, whose names begin as those of a role do."""


@cache
def role_options(role: str) -> dict[str, Any]:
    """Return the inputs of a role, as its argument_specs describe them: the one reference for types and defaults."""
    spec = from_yaml((ROLES / role / "meta" / "argument_specs.yml").read_text())
    options: dict[str, Any] = spec["argument_specs"]["main"]["options"]
    return options


class Variables:
    """One host's variables, read one at a time, as plain data; what cannot be templated becomes a mistake with its path."""

    def __init__(self, action: ActionModule, host: str, values: Mapping[str, Any], mistakes: list[Mistake]) -> None:
        self.host = host
        self.values = values
        self.unreadable: dict[tuple[str, str, str], None] = {}
        self._action = action
        self._mistakes = mistakes
        # Not a copy of the action's: before ansible-core 2.19, lookups in a copy see the variables of the original's host.
        self._templar = Templar(loader=action._loader, variables=values)

    def names(self) -> list[str]:
        """Return the names of all variables that the host sees."""
        return list(self.values)

    def get(self, name: str) -> Any:
        """Return a variable, templated; None when it is not set or cannot be read (then a mistake says so)."""
        found = self.templated(self.values.get(name), name)
        return None if holds_broken(found) else found

    def templated(self, value: Any, path: str) -> Any:
        """Return ``value`` with its templates filled in for this host; BROKEN, and a mistake, in the place of each for which that fails."""
        try:
            return plain(self._templar.template(value))
        except AnsibleError as error:
            before = len(self.unreadable)
            found = self._in_parts(value, path)
            if len(self.unreadable) > before:
                return found
            self._note(path, error)
            return BROKEN

    def catalogue(self) -> dict[str, Any]:
        """Return the raw catalogue by service; entries are templated one by one, so that a host pays only for its own."""
        raw = self.values.get("fleet_services")
        found = raw if isinstance(raw, Mapping) else self.get("fleet_services")
        if found is not None and not isinstance(found, Mapping):
            self._mistakes.append(Mistake("fleet_services", f"{describe(found)} is not a mapping", "write a mapping of service name to description"))
            return {}
        return dict(found or {})

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return a variable of the fleet, templated; empty when it is not set or no mapping (then a mistake says so)."""
        found = self.templated(self.values.get(name), name)
        if found is None or found is BROKEN or isinstance(found, Mapping):
            return found if isinstance(found, Mapping) else {}
        FLEET.fields[name].kind.read(found, name, self._mistakes)
        return {}

    def template_file(self, path: str) -> str:
        """Return a template file of the user's, rendered with this host's variables."""
        text = self._action.read_text(path, "templates")
        try:
            return str(self._templar.template(_trusted(text)))
        except AnsibleError as error:
            raise FleetError(f"template {path} cannot be rendered for {HOSTS}: {_first_line(error)}") from error

    def _in_parts(self, value: Any, path: str) -> Any:
        """Return a value of which something cannot be templated, leaf by leaf."""
        if isinstance(value, Mapping):
            return {plain(key): self._in_parts(item, join_path(path, key)) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._in_parts(item, join_path(path, index)) for index, item in enumerate(value)]
        try:
            return plain(self._templar.template(value))
        except AnsibleError as error:
            self._note(path, error)
            return BROKEN

    def _note(self, path: str, error: AnsibleError) -> None:
        said = _first_line(error)
        self.unreadable[path, said, remedy_for(said)] = None


def remedy_for(said: str) -> str:
    """Return what to do about a variable that cannot be read, from what Ansible said of it; empty where nobody knows."""
    if "is undefined" in said:
        return "define it, for example in group_vars/all.yml (secrets: in a vault), or correct its name"
    if "has no attribute" in said:
        return "write that key into the mapping that the template looks it up in, or correct its name"
    if "vault" in said.lower() or "decrypt" in said.lower():
        return "give --vault-id or --ask-vault-pass, or encrypt it again"
    return ""


class ActionModule(ActionBase):
    """Runs once for the whole play: the join needs every host's variables, and says every mistake at once."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the desired state of every host of the inventory, or fail with all mistakes."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        mistakes: list[Mistake] = []
        hosts = self._read_hosts(task_vars, mistakes)
        groups = {name: [member for member in members if member in hosts] for name, members in task_vars["groups"].items()}
        fleet = inventory.Fleet({name: self._host(variables, task_vars, mistakes) for name, variables in hosts.items()}, groups)
        catalogues = {name: variables.catalogue() for name, variables in hosts.items()}
        self._fill_catalogues(fleet, hosts, catalogues)
        joined = service_spec.join(fleet, catalogues, mistakes)
        specs = {}
        of_drills = {}
        for name, variables in hosts.items():
            sources = slices.Sources(
                template=variables.template_file,
                read=lambda path: self.read_text(path, "files"),
                find=lambda path: self.find(path, "files"),
                addresses=fleet.addresses,
            )
            inputs = self._role_inputs(variables, mistakes)
            specs[name] = slices.slices(name, fleet.hosts[name].addresses, joined[name], inputs, sources, mistakes)
            of_drills[name] = attempt(lambda inputs=inputs: {**inputs["backup"], **inputs["drill"]})
        origins = {name: one["origins"] for name, one in joined.items()}
        drill_slice.add_to(specs, of_drills, lambda path: self.read_text(path, "files"), mistakes, origins)
        mistakes.extend(_unreadable(hosts.values()))
        if mistakes:
            result.update(failed=True, msg=str(InventoryError(mistakes)))
        else:
            for warning in warnings_of(fleet, specs, whole=self._task._role is None):  # those of the result would be hidden with it
                Display().warning(warning)
            # The specs carry secrets; an error never does, so only they are hidden.
            result.update(specs=specs, changed=False, _ansible_no_log=True)
        return result

    def _read_hosts(self, task_vars: Mapping[str, Any], mistakes: list[Mistake]) -> dict[str, Variables]:
        """Return every inventory host's variables, as they hold in this task."""
        hostvars = task_vars["hostvars"]
        return {name: Variables(self, name, self._values(hostvars, name), mistakes) for name in sorted(task_vars["groups"]["all"])}

    def _values(self, hostvars: Any, name: str) -> Mapping[str, Any]:
        # What the play or a role gives beside the inventory counts as well, which hostvars alone do not show.
        host = hostvars._inventory.get_host(name)
        values = hostvars._variable_manager.get_vars(host=host, play=self._task.play, task=self._task, include_hostvars=False)
        return {**values, "hostvars": hostvars}

    def _host(self, variables: Variables, task_vars: Mapping[str, Any], mistakes: list[Mistake]) -> inventory.Host:
        depths = {group.name: (group.depth, group.priority, group.name) for group in self._groups(task_vars, variables.host)}
        fleet = {name: variables.mapping(name) for name in FLEET_VARIABLES[1:]}
        known = (*FLEET_VARIABLES, *HOST_VARIABLES, "fleet_service_specs", "fleet_plan", "fleet_observe", "fleet_hosts")
        for name in variables.names():
            if name.startswith("fleet_") and name not in known:
                mistakes.append(Mistake(name, "unknown variable", suggest(name, known)))
        return inventory.Host(
            name=variables.host,
            groups=sorted(depths, key=lambda name: depths[name]),
            addresses=self._addresses(variables, mistakes),
            placement=fleet["fleet_placement"],
            overrides=fleet["fleet_overrides"],
            tiers=fleet["fleet_tiers"],
        )

    @staticmethod
    def _groups(task_vars: Mapping[str, Any], host: str) -> list[Any]:
        groups: list[Any] = task_vars["hostvars"]._inventory.get_host(host).get_groups()
        return groups

    @staticmethod
    def _addresses(variables: Variables, mistakes: list[Mistake]) -> list[str]:
        """Return the addresses of a host: what the inventory says, else where Ansible finds it."""
        given = variables.get("fleet_addresses")
        if given is None:
            name = variables.get("ansible_host") or variables.host
            try:
                resolved = {ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
            except OSError:
                return []  # a mistake only where somebody needs them
            return sorted((str(one) for one in resolved if not inventory.is_private_to_host(one)), key=inventory.address_order)
        found: list[Mistake] = []
        addresses = inventory.read_addresses(given, f"fleet_addresses of host {variables.host}", found)
        mistakes.extend(found)
        return addresses

    @staticmethod
    def _fill_catalogues(fleet: inventory.Fleet, hosts: Mapping[str, Variables], catalogues: Mapping[str, Mapping[str, Any]]) -> None:
        for name, host in fleet.hosts.items():
            wanted = [service for service in placement.services_of(host, []) if service in catalogues[name]]
            read = {service: hosts[name].templated(catalogues[name][service], join_path("fleet_services", service)) for service in wanted}
            host.catalogue = read

    @staticmethod
    def _role_inputs(variables: Variables, mistakes: list[Mistake]) -> dict[str, Any]:
        """Return the inputs of every role, validated and with their defaults; BROKEN for a role of which one is wrong."""
        inputs = dict.fromkeys(ROLES_WITH_INPUTS, BROKEN)
        for role in ROLES_WITH_INPUTS:
            options = role_options(role)
            for name in variables.names():
                if name.startswith(f"{role}_") and name not in options and name not in (*PLUGIN_VARIABLES, *PLAYBOOK_VARIABLES):
                    others = "" if nearest(name, options) else f"; a variable of yours needs another beginning than {role}_"
                    mistakes.append(Mistake(name, f"unknown input of role {role}", suggest(name, options) + others))
            before = len(variables.unreadable)
            given = {name: variables.get(name) for name in options if name in variables.values}
            if len(variables.unreadable) > before:
                continue
            try:
                checked = ArgumentSpecValidator(options).validate(given)
            except (AttributeError, TypeError) as error:  # some types that are wrong, the validator does not expect
                mistakes.append(_input_mistake(role, f"has a wrong type ({error})", options, variables.host))
                continue
            mistakes.extend(_input_mistake(role, message, options, variables.host) for message in checked.error_messages)
            if not checked.error_messages:
                inputs[role] = plain(checked.validated_parameters)
        return inputs

    def find(self, path: str, folder: str) -> str:
        """Return the absolute path of a file of the user's: absolute, or below the playbook's or an inventory's directory."""
        if os.path.isabs(path):
            candidates = [path]
        else:
            bases = [self._loader.get_basedir(), *self._inventory_directories(), os.getcwd()]
            candidates = [os.path.join(base, below, path) for base in bases for below in ("", folder)]
        for candidate in candidates:
            if os.path.isfile(candidate):
                return os.path.abspath(candidate)
        raise FleetError(f"no file {path} on the controller; looked for {', '.join(dict.fromkeys(map(os.path.abspath, candidates)))}")

    def read_text(self, path: str, folder: str) -> str:
        """Return the text of a file of the user's, decrypted where it is a vault."""
        found = self.find(path, folder)
        try:
            return Path(self._loader.get_real_file(found)).read_text()
        except (AnsibleError, OSError, UnicodeDecodeError) as error:
            raise FleetError(f"{path} cannot be read: {_first_line(error)}") from error

    def _inventory_directories(self) -> list[str]:
        sources = self._task.get_variable_manager()._inventory._sources if self._task.get_variable_manager() else []
        return [source if os.path.isdir(source) else os.path.dirname(source) for source in map(str, sources) if os.path.exists(source)]


def _input_mistake(role: str, said: str, options: Iterable[str], host: str) -> Mistake:
    """Return what Ansible's validator said of a role's inputs as a mistake of the input that it names."""
    named = [name for name in options if re.search(rf"\b{name}\b", said)]
    return Mistake(named[0] if named else f"{role}_*", f"{said} ({HOSTS})", f"see docs/reference/roles.md, role {role}", host)


def warnings_of(fleet: inventory.Fleet, specs: Mapping[str, Mapping[str, Any]], *, whole: bool) -> list[str]:
    """Return what is no mistake of the inventory, but hardly meant; ``whole``: for all roles, not for one that is used alone."""
    found = []
    if whole and not any(host.placement for host in fleet.hosts.values()):
        found.append("there is no fleet_placement, so that no host has a service; is -i the whole inventory, with its group_vars?")
    unstored = backup_slice.unstored(specs)
    if unstored:
        found.append(f"there is no store (backup_store), so that nothing is backed up: {', '.join(unstored)}")
    return found


def _trusted(text: str) -> str:
    """Mark a text as a template, which ansible-core asks for since 2.19."""
    try:
        from ansible.template import trust_as_template
    except ImportError:
        return text
    return trust_as_template(text)


def _unreadable(hosts: Iterable[Variables]) -> list[Mistake]:
    """Return what could not be read as mistakes of the hosts for which it could not."""
    return [
        Mistake(path, f"cannot be read for {HOSTS}: {said}", remedy, variables.host)
        for variables in hosts
        for path, said, remedy in variables.unreadable
    ]


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
