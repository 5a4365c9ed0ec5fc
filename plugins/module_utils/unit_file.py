# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a finished service spec to the text of its unit file. Pure, and the same text for the same spec."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import hardening, unit_text
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.hardening import Directive
from ansible_collections.hearth.fleet.plugins.module_utils.unit_marks import HEADER, STAMP_PATH

BINARIES = "/usr/local/bin"
"""Where the binaries of all services are linked."""


def executable(name: str) -> str:
    """Return the absolute path of a command's first word: a bare name is one of the service's binaries."""
    return name if name.startswith("/") else posixpath.join(BINARIES, name)


def render(spec: Mapping[str, Any]) -> str:
    """Return the unit file of one service.

    ``spec`` is the finished service spec with three keys more: ``credentials`` ([{name, path}]), ``environment_files`` and
    ``stamp`` (paths of what the daemon reads when it starts). Raises FleetError, with the inventory path, for what a
    unit file cannot say.
    """
    where = f"fleet_services.{spec['name']}"
    parts = {
        "Unit": [(_unit, spec, where)],
        "Service": [
            (_account, spec, where),
            (_environment, spec, where),
            (_commands, spec, where),
            (_behaviour, spec),
            (hardening.directives, spec),
        ],
        "Install": [(list, [("WantedBy", "multi-user.target")])],
    }
    sections = dict(unit_text.collect(*((_section, name, functions) for name, functions in parts.items())))
    text = [f"{HEADER}{spec['name']}"]
    for section, found in sections.items():
        text += ["", f"[{section}]", *(f"{directive}={value}" for directive, value in found)]
    return "\n".join(text) + "\n"


def _section(name: str, parts: list[tuple[Any, ...]]) -> list[tuple[str, list[Directive]]]:
    return [(name, unit_text.collect(*parts))]


def _unit(spec: Mapping[str, Any], where: str) -> list[Directive]:
    unit = spec["unit"]
    mounts = hardening.outermost(one["path"] for one in spec["directories"])
    requires = dict.fromkeys(["network-online.target", *unit["requires"]])
    after = [other for other in dict.fromkeys(unit["after"]) if other not in requires]
    found = [
        ("Description", unit_text.line(unit["description"], f"{where}.description")),
        ("After", " ".join(filter(None, [unit_text.words(requires, f"{where}.unit.requires"), unit_text.words(after, f"{where}.unit.after")]))),
        ("Wants", unit_text.words(dict.fromkeys(["network-online.target", *unit["wants"]]), f"{where}.unit.wants")),
        ("Requires", unit_text.words(unit["requires"], f"{where}.unit.requires")),
        # On a disk that is not there (yet), the daemon would start with an empty directory.
        ("RequiresMountsFor", unit_text.words(mounts, f"{where}.directories")),
        ("OnFailure", unit_text.words(unit["on_failure"], f"{where}.unit.on_failure")),
        ("StartLimitIntervalSec", str(unit["start_limit"]["interval"])),
        ("StartLimitBurst", str(unit["start_limit"]["burst"])),
    ]
    return [directive for directive in found if directive[1]]


def _account(spec: Mapping[str, Any], where: str) -> list[Directive]:
    unit = spec["unit"]
    groups = sorted(unit["supplementary_groups"])
    found = [
        ("Type", unit["type"]),
        ("NotifyAccess", "main" if unit["type"] == "notify" else ""),
        ("PIDFile", unit_text.line(unit["pid_file"] or "", f"{where}.unit.pid_file")),
        ("User", spec["account"]["user"]),
        ("Group", spec["account"]["group"]),
        ("SupplementaryGroups", " ".join(groups)),
        ("WorkingDirectory", unit_text.line(unit["working_directory"], f"{where}.unit.working_directory")),
    ]
    return [directive for directive in found if directive[1]]


def _environment(spec: Mapping[str, Any], where: str) -> list[Directive]:
    variables = [(_variable, key, spec["environment"][key], f"{where}.environment.{key}") for key in sorted(spec["environment"])]
    return unit_text.collect(*variables, (_environment_files, spec, where), (_credentials, spec, where))


def _environment_files(spec: Mapping[str, Any], where: str) -> list[Directive]:
    return [("EnvironmentFile", unit_text.line(path, f"{where}.environment_file")) for path in spec["environment_files"]]


def _credentials(spec: Mapping[str, Any], where: str) -> list[Directive]:
    return [("LoadCredential", unit_text.line(f"{one['name']}:{one['path']}", f"{where}.secrets.{one['name']}")) for one in spec["credentials"]]


def _variable(key: str, value: str, where: str) -> list[Directive]:
    return [("Environment", unit_text.word(f"{key}={value}", where))]


def _commands(spec: Mapping[str, Any], where: str) -> list[Directive]:
    if not spec["command"]:
        raise FleetError(f"{where}.command: empty\n  → write the daemon and its arguments")
    return unit_text.collect((_start, spec, where), (_reloads, spec, where))


def _start(spec: Mapping[str, Any], where: str) -> list[Directive]:
    return [
        ("ExecStartPre", _stamp(spec["name"], spec["stamp"])),
        ("ExecStart", _command(spec["command"], f"{where}.command")),
    ]


def _reloads(spec: Mapping[str, Any], where: str) -> list[Directive]:
    if not spec["reload"]:
        return []
    reloadable = [config["path"] for config in spec["config"] if config["reloadable"]]
    return [("ExecReload", _reload(spec["reload"], f"{where}.reload")), ("ExecReload", _stamp("--reload", [spec["name"], *reloadable]))]


def _command(argv: list[str], where: str) -> str:
    return unit_text.command([executable(argv[0]), *argv[1:]], where)


def _stamp(first: str, others: list[str]) -> str:
    """Return the call that records what the daemon reads, as root and outside of the sandbox ("+")."""
    return "+" + unit_text.command([STAMP_PATH, first, *others], "stamp")


def _reload(reload: Mapping[str, Any], where: str) -> str:
    if reload.get("command"):
        return _command(reload["command"], f"{where}.command")
    # The shell's own kill: the program of that name is not on every host.
    signal = reload["signal"]
    return unit_text.command(["/bin/sh", "-c", f"kill -s {signal.removeprefix('SIG')} $MAINPID"], where)


def _behaviour(spec: Mapping[str, Any]) -> list[Directive]:
    unit = spec["unit"]
    watchdog = [("WatchdogSec", str(unit["watchdog"]))] if unit["watchdog"] else []
    success = [("SuccessExitStatus", " ".join(map(str, unit["success_exit_status"])))] if unit["success_exit_status"] else []
    return [
        *watchdog,
        *success,
        ("Restart", unit["restart"]),
        ("RestartSec", str(unit["restart_delay"])),
        ("TimeoutStartSec", str(unit["start_timeout"])),
        ("TimeoutStopSec", str(unit["stop_timeout"])),
        *([("KillMode", unit["kill_mode"])] if unit["kill_mode"] != "control-group" else []),
        ("KillSignal", unit["kill_signal"] if unit["kill_signal"].startswith("SIG") else f"SIG{unit['kill_signal']}"),
        *([("Delegate", "true" if unit["delegate"] is True else " ".join(unit["delegate"]))] if unit["delegate"] else []),
    ]
