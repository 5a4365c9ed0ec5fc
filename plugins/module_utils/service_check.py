# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold between several keys of one service on one host."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import archive, backup_spec, command_words, headers
from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, attempt, numbered, readable, value_at
from ansible_collections.hearth.fleet.plugins.module_utils.errors import HOSTS, Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.inventory import Host
from ansible_collections.hearth.fleet.plugins.module_utils.placement import services_of
from ansible_collections.hearth.fleet.plugins.module_utils.schema import suggest
from ansible_collections.hearth.fleet.plugins.module_utils.service_parts import (
    BINARIES,
    DEPENDENCIES,
    RELEASES,
    all_commands,
    artifact_places,
    commands_of_binaries,
    home_place,
    requests,
    written_places,
)
from ansible_collections.hearth.fleet.plugins.module_utils.service_schema import ROOT_GROUPS
from ansible_collections.hearth.fleet.plugins.module_utils.system_directories import is_systems

HOMES = ("/home", "/root", "/run/user")
"""What a sandbox hides of a host unless it says otherwise (systemd's ProtectHome=)."""

TEMPORARY = ("/tmp", "/var/tmp")
"""Of what a sandbox gives the daemon one of its own, unless it says otherwise (systemd's PrivateTmp=)."""

_TELLING = 8
"""A secret of so many characters does not stand in an argument by accident."""


def check_service(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
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
    for key, place in artifact_places(artifact):
        attempt(_check_place, place, f"{path}.artifact.{key}", mistakes)


def _check_digests(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that there is a digest of each file, and a file for each digest."""
    artifact, below = spec["artifact"], f"{path}.artifact"
    digests, places = artifact["sha256"], artifact_places(artifact)
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


def _check_braces(text: str, path: str, known: tuple[str, ...], mistakes: list[Mistake]) -> None:
    for part in text.split("{")[1:]:
        word = part.partition("}")[0]
        if word not in known:
            mistakes.append(Mistake(path, f"{{{word}}} is not filled in here", f"known: {', '.join('{' + one + '}' for one in known)}"))


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
        places = [
            place for key, place in artifact_places(artifact)[:2] for place in (place.values() if isinstance(place, Mapping) else [place]) if place
        ]
        kinds = {archive.format_of(place, artifact["format"]) for place in places}
        if kinds & {"binary", *archive.COMPRESSED}:
            remedy = f"write binaries: [{spec['name']}] if it is a program, artifact.name if it is a file for one, or artifact.format for an archive"
            mistakes.append(Mistake(f"{path}.artifact", "is one file by its name, and the command calls no binary of the release", remedy))
        if any("{binary}" in word for word in spec["version_command"]):
            mistakes.append(Mistake(f"{path}.version_command", "{binary} stands for nothing, as the release has no binaries", "write its path"))


def _check_command(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    if spec["command"] is not BROKEN and not spec["command"]:
        mistakes.append(Mistake(f"{path}.command", "empty", "write the daemon and its arguments"))
    for where, command in commands_of_binaries(spec, path):
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
    for where, command in all_commands(spec, path):
        for index, word in numbered(command):
            found = [key for key, value in telling if value in word]
            if found:
                remedy = "have the program read it from its environment, or from a file of $CREDENTIALS_DIRECTORY"
                mistakes.append(Mistake(f"{where}[{index}]", f"holds secret {found[0]!r}, and the arguments of a process are no secret", remedy))


def _check_words(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that nothing is left to a shell that is not there."""
    variables = {key for section in ("environment", "secrets") for key in readable(spec[section])}
    for where, command in all_commands(spec, path):
        attempt(_check_words_of, command, spec["name"], variables, where, mistakes)
    for name, value in spec["environment"].items():
        if value is not BROKEN and command_words.refers_to_itself(name, value):
            problem = f"${name} is not filled in here, as there is no shell, and was nothing before"
            mistakes.append(Mistake(join_path(f"{path}.environment", name), problem, "write the value out"))


def _check_words_of(command: list[str], service: str, variables: Collection[str], path: str, mistakes: list[Mistake]) -> None:
    for one in command_words.complaints(command, service, variables):
        mistakes.append(Mistake(f"{path}[{one.place}]", one.problem, one.remedy))


def _check_headers(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check the secrets that headers refer to, and that no header holds one itself. No value of a header is in an error."""
    for where, request in requests(spec, path):
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


def _check_hidden(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that the daemon's sandbox does not hide what it needs."""
    places = written_places(spec, path, "config", "directories")
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
    own, configs = written_places(spec, path, "directories"), written_places(spec, path, "config")
    found = []
    for where, place in [*home_place(spec, path), *own]:
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


def _check_released(spec: dict[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check that nothing of the daemon's own is to lie among its releases, which come and go and which only root may write."""
    name = spec["name"]
    for where, place in [*written_places(spec, path, "config", "directories"), *home_place(spec, path)]:
        if f"{place}/".startswith(f"{RELEASES}/{name}/"):
            remedy = f"keep it elsewhere, such as in {'/etc' if '.config[' in where else '/var/lib'}/{name}"
            mistakes.append(Mistake(where, f"{RELEASES}/{name} is for the service's releases, which only root may write", remedy))


def check_units(spec: dict[str, Any], host: Host, known_services: Collection[str], mistakes: list[Mistake], path: str) -> None:
    """Check the services that the unit depends on: those of the fleet by their names, all other units with their suffix."""
    here = services_of(host, [])
    for key in DEPENDENCIES:
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
