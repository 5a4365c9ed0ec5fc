# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a backup job: the service that makes one backup, its timer, and what watches the files of a set. Pure.

The sandbox is the strictest that a backup can have: it reads what it backs up, writes its own directory alone (and where a
database is, since SQLite needs its shared memory file even to read), and reaches the network. A service's own backup
command has the sandbox of its service, for which it was written.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.hearth.fleet.plugins.module_utils import (
    backup_formats,
    backup_names,
    backup_spec,
    hardening,
    host_tools,
    service_parts,
    service_schema,
    unit_text,
)
from ansible_collections.hearth.fleet.plugins.module_utils.hardening import Directive

HEADER = "# Managed by hearth.fleet: backup "
"""The first line of the units of a job, followed by its name."""

CONFIG = "/etc/hearth/backup"
STATE = "/var/lib/hearth/backup"
CREDENTIAL = "rclone.conf"
TIMERS = "timers.target"
PATHS = "paths.target"

ROOT_EXPOSURE_MAX = 2.5
"""The exposure of a job that runs as root, since it reads what belongs to several accounts."""

_RESOURCES = {"memory_max": 512 << 20, "tasks_max": 256, "core": 0, "cpu_weight": 20, "io_weight": 20, "nice": 10}
_TIMEOUT = "1d"  # 100 GB at 10 Mbit/s; without an end, a run that hangs would be the last one
_HIDDEN_HOMES = ("/home", "/root", "/run/user")


def unit_name(job: str, kind: str) -> str:
    """Return the name of a job's unit of this kind (``service``, ``timer``, ``path``)."""
    return f"hearth-backup-{job}.{kind}"


def kinds(one: Mapping[str, Any]) -> list[str]:
    """Return the kinds of the units that start a set's backup.

    What waits for changes has a daily timer as well: for a change that nobody saw, and so that what does not change for long is
    written anew before the store expires it.
    """
    return ["path", "timer"] if one["schedule"] == backup_formats.CHANGES else ["timer"]


def render(spec: Mapping[str, Any], name: str, one: Mapping[str, Any], *, endpoint: str, on_failure: str) -> dict[str, str]:
    """Return the texts of a set's units by kind. Raises FleetError, with the inventory path, for what a unit file cannot say."""
    job = backup_names.job_of(spec["name"], name)
    texts = {"service": _service(spec, name, one, endpoint, on_failure), "timer": _timer(spec, name, one)}
    if "path" in kinds(one):
        texts["path"] = _path(spec, name, one)
    return {kind: f"{HEADER}{job}\n{text}" for kind, text in texts.items()}


def _text(sections: Mapping[str, Iterable[Directive]]) -> str:
    lines: list[str] = []
    for section, found in sections.items():
        lines += ["", f"[{section}]", *(f"{directive}={value}" for directive, value in found)]
    return "\n".join(lines) + "\n"


def _service(spec: Mapping[str, Any], name: str, one: Mapping[str, Any], endpoint: str, on_failure: str) -> str:
    where = f"fleet_services.{spec['name']}.backup"
    job = backup_names.job_of(spec["name"], name)
    state = f"{STATE}/{job}"
    run, export = ([host_tools.HEARTHCTL, "backup", verb, job] for verb in ("run", "export"))
    reads = [*(database["path"] for database in one["databases"]), *one["files"]]
    unit = [
        ("Description", unit_text.line(f"Back up {spec['name']} ({name})", where)),
        ("After", "network-online.target"),
        ("Wants", "network-online.target"),
        ("RequiresMountsFor", unit_text.words(hardening.outermost([state, *reads]), where)),
        *([("OnFailure", on_failure)] if on_failure else []),
    ]
    service = [
        ("Type", "oneshot"),
        ("User", one["user"]),
        ("Group", spec["account"]["group"] if one["user"] == spec["account"]["user"] else one["user"]),
        *_of_the_command(spec, one, where),
        ("LoadCredential", f"{CREDENTIAL}:{CONFIG}/{CREDENTIAL}"),
        ("ExecStart", unit_text.command(run, where)),
        # As root and outside of the sandbox: the directory of the metrics is the exporter's.
        ("ExecStopPost", "+" + unit_text.command(export, where)),
        ("TimeoutStartSec", _TIMEOUT),
        ("IOSchedulingClass", "idle"),
        *hardening.directives(_sandboxed(spec, one, state, endpoint)),
    ]
    return _text({"Unit": unit, "Service": service})


def _of_the_command(spec: Mapping[str, Any], one: Mapping[str, Any], where: str) -> list[Directive]:
    """Return what a service's own backup command is given, as the service itself is."""
    if not one["command"]:
        return []
    secret = any(secret["as"] == "environment" for secret in spec["secrets"].values())
    return [
        ("WorkingDirectory", unit_text.line(spec["unit"]["working_directory"], f"{where}.command")),
        *(("Environment", unit_text.word(f"{key}={spec['environment'][key]}", f"{where}.command")) for key in sorted(spec["environment"])),
        *([("EnvironmentFile", unit_text.line(spec["environment_file"], f"{where}.command"))] if secret else []),
        *(
            ("LoadCredential", unit_text.line(f"{key}:{service_parts.secret_path(spec, key)}", f"{where}.command"))
            for key, kept in spec["secrets"].items()
            if kept["as"] == "credential"
        ),
    ]


def _sandboxed(spec: Mapping[str, Any], one: Mapping[str, Any], state: str, endpoint: str) -> dict[str, Any]:
    """Return what ``hardening`` makes the sandbox of, in the form of a service spec."""
    databases = [database["path"] for database in one["databases"]]
    writable = [state, *(backup_spec.root_of(spec, path) for path in databases)]
    if one["command"]:
        base = {**spec["sandbox"], "private_network": False}
        writable += [directory["path"] for directory in spec["directories"] if directory["writable"]] + base["read_write"]
    else:
        base = service_schema.SANDBOX.read({}, "sandbox", [])
    at_home = any(f"{path}/".startswith(f"{root}/") for path in (*databases, *one["files"]) for root in _HIDDEN_HOMES)
    return {
        "name": spec["name"],
        "account": {"user": one["user"]},
        "directories": [],
        "ports": [],
        "egress": _egress(endpoint),
        "resources": {**_RESOURCES, **({"memory_max": None} if one["command"] else {})},
        "sandbox": {
            **base,
            "home": "read-only" if at_home and base["home"] == "hidden" else base["home"],
            **_privileges(one, base),
            "read_write": writable,
        },
    }


def _privileges(one: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return by what root's job reads the files of all accounts.

    Where a database is among them, SQLite writes its shared memory file, and gives one that it makes to the database's owner.
    """
    if one["user"] != "root":
        return {"capabilities": []}
    if not one["databases"]:
        return {"capabilities": ["CAP_DAC_READ_SEARCH"]}
    return {"capabilities": ["CAP_CHOWN", "CAP_DAC_OVERRIDE"], "syscalls": [*base["syscalls"], "@chown"]}


def _egress(endpoint: str) -> list[str]:
    """Return whom the job may talk to: only the store, where that has an address instead of a name."""
    try:
        return [str(ipaddress.ip_address(urlsplit(endpoint).hostname or ""))]
    except ValueError:
        return ["any"]


def _timer(spec: Mapping[str, Any], name: str, one: Mapping[str, Any]) -> str:
    where = f"fleet_services.{spec['name']}.backup.schedule"
    when = "daily" if one["schedule"] == backup_formats.CHANGES else one["schedule"]
    return _text(
        {
            "Unit": [("Description", unit_text.line(f"Back up {spec['name']} ({name}): {one['schedule']}", where))],
            "Timer": [
                ("OnCalendar", unit_text.line(when, where)),
                # A host that was off at the hour catches up, once.
                ("Persistent", "true"),
                ("RandomizedDelaySec", f"{backup_formats.delay_minutes(when)}min"),
                ("FixedRandomDelay", "true"),
            ],
            "Install": [("WantedBy", TIMERS)],
        }
    )


def _path(spec: Mapping[str, Any], name: str, one: Mapping[str, Any]) -> str:
    where = f"fleet_services.{spec['name']}.backup.files"
    return _text(
        {
            "Unit": [("Description", unit_text.line(f"Back up {spec['name']} ({name}) when its files change", where))],
            "Path": [("PathChanged", unit_text.line(path, where)) for path in one["files"]],
            "Install": [("WantedBy", PATHS)],
        }
    )
