# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in a service's spec there are requests, commands and paths, each with its inventory path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_spec
from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, numbered, readable, value_at

BINARIES = "/usr/local/bin"

RELEASES = "/opt"
"""Where every service keeps its releases, in a directory of its own."""

DEPENDENCIES = ("after", "wants", "requires", "on_failure")
"""The keys of ``unit`` that name other services of the host, or units of its distribution."""


def default_home(service: str) -> str:
    """Return the home of a service's account where nobody says another."""
    return f"/var/lib/{service}"


def secret_path(spec: Mapping[str, Any], key: str) -> str:
    """Return the file in which a host keeps a secret of a service, for root's eyes only."""
    return str(spec["environment_file"]) if spec["secrets"][key]["as"] == "environment" else f"/etc/{spec['name']}/credentials/{key}"


def artifact_places(artifact: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return where an artifact and its signature are, each with its key."""
    signature = artifact["signature"]
    return [
        *((key, artifact[key]) for key in ("url", "file")),
        *((f"signature.{key}", value_at(signature, key)) for key in ("url", "file") if signature is not None),
    ]


def requests(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the requests of a service that may have headers, each with its inventory path."""
    for where, request in asked(spec, path):
        if "url" in request:
            yield where, request
    for index, analysis in numbered(value_at(spec, "rollout", "analysis")):
        yield f"{path}.rollout.analysis[{index}]", analysis


def asked(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a service is asked, unless it is a plain URL, each with its inventory path."""
    for section, keys in (("health", ("ready", "live", "version")), ("drain", ("request", "done", "resume"))):
        for key in keys:
            request = None if spec[section] is None else value_at(spec, section, key)
            if isinstance(request, dict):
                yield f"{path}.{section}.{key}", request


def asked_in_drills(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a service is asked in drills alone, each with its inventory path."""
    for name, one in backup_spec.sets_of(spec).items():
        if isinstance(value_at(one, "drill", "ready"), dict):
            yield f"{path}.backup{'' if name == backup_spec.DATA else f'.more.{name}'}.drill.ready", one["drill"]["ready"]


def commands_of_binaries(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, list[str]]]:
    """Return the commands whose first word, where it is bare, is one of the service's binaries, each with its path."""
    yield f"{path}.command", spec["command"]
    if isinstance(spec["reload"], dict) and "command" in spec["reload"]:
        yield f"{path}.reload.command", spec["reload"]["command"]
    for index, one in numbered(spec["bootstrap"]):
        yield f"{path}.bootstrap[{index}].command", one["command"]
    for name, one in backup_spec.sets_of(spec).items():
        yield f"{path}.backup{'' if name == backup_spec.DATA else f'.more.{name}'}.command", one["command"]


def all_commands(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every command of a service, each with its path."""
    yield from commands_of_binaries(spec, path)
    yield f"{path}.version_command", spec["version_command"]
    for index, config in numbered(spec["config"]):
        yield f"{path}.config[{index}].validate", config["validate"]
    for where, one in (*asked(spec, path), *asked_in_drills(spec, path)):
        if "command" in one:
            yield f"{where}.command", one["command"]


def written_places(spec: Mapping[str, Any], path: str, *sections: str) -> list[tuple[str, str]]:
    """Return the paths on the host that items of these sections name, each with its inventory path."""
    items = [(f"{path}.{section}[{index}].path", item["path"]) for section in sections for index, item in numbered(spec[section])]
    return [(where, place) for where, place in items if place is not BROKEN]


def home_place(spec: Mapping[str, Any], path: str) -> list[tuple[str, str]]:
    """Return the home of the service's account with its inventory path; nothing where it cannot be read."""
    return [(f"{path}.account.home", home) for home in readable([value_at(spec, "account", "home")])]
