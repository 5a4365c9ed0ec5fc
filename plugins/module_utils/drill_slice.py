# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the desired state of all hosts to what their drill's runner does: orders, releases, the unit and its timer. Pure.

The runner restores the backups of the hosts whose store is its own. It gets an identity of its own, credentials that read, the
releases of the services, and their rendered config; never a secret, and never what a service's ``bootstrap`` makes, which is
its identity. A drill's release is the newest that any of a service's hosts wants: older data are brought forward by it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ansible_collections.hearth.fleet.plugins.module_utils import (
    backup_formats,
    backup_slice,
    backup_spec,
    headers,
    host_tools,
    object_store,
    unit_file,
    versions,
)
from ansible_collections.hearth.fleet.plugins.module_utils.broken import attempt, readable, value_at
from ansible_collections.hearth.fleet.plugins.module_utils.errors import HOSTS, FleetError, Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.overrides import where_written
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import seconds
from ansible_collections.hearth.fleet.plugins.module_utils.unit_marks import UNITS

CONFIG = "/etc/hearth/drill"
ORDERS = f"{CONFIG}/orders"
STATE = "/var/lib/hearth/drill"
RELEASES = "/opt/hearth-drill"
"""Where the releases of drills are: not where the runner's own services have theirs."""

ACCOUNT = "hearth-drill"
SERVICE, TIMER = "hearth-drill.service", "hearth-drill.timer"
SETTINGS, CREDENTIAL, IDENTITY, CA = "settings.json", "rclone.conf", "identity", "ca.pem"

_TIMERS = "timers.target"
_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@%-]+\.(service|target)")
_STORE_KEYS = ("endpoint", "bucket", "prefix")

Specs = Mapping[str, Mapping[str, Any]]
Inputs = Mapping[str, Any]


def nothing() -> dict[str, Any]:
    """Return the slice of a host that is no runner."""
    return {"packages": {}, "releases": [], "paths": [], "units": [], "timers": []}


def add_to(
    specs: Mapping[str, dict[str, Any]],
    inputs: Mapping[str, Inputs],
    read: Callable[[str], str],
    mistakes: list[Mistake],
    origins: Mapping[str, Mapping[str, str]],
) -> None:
    """Give every host its slice ``drill``, and each runner the account in which daemons are started.

    ``specs`` are the other slices of all hosts, ``inputs`` those of the roles drill and backup, together, by host; so are
    ``origins``, what of the services was written in overrides (see ``overrides.merge``).
    """
    for name, spec in specs.items():
        runs = value_at(inputs, name, "drill_runner") is True
        spec["drill"] = attempt(drill_slice, name, specs, inputs[name], read, mistakes, origins) if runs else nothing()
        if runs:
            spec["account"] = attempt(_with_account, spec["account"])


def drill_slice(
    runner: str, specs: Specs, inputs: Inputs, read: Callable[[str], str], mistakes: list[Mistake], origins: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Return what a runner needs: ``packages``, ``releases``, ``paths``, ``units`` and ``timers``, as ``backup_slice`` has them."""
    before = len(mistakes)
    mistakes += _input_mistakes(runner, inputs)
    store = inputs["backup_store"]
    if len(mistakes) > before or not store.get("endpoint"):
        return nothing()
    wanted = {key: str(store.get(key) or "") for key in _STORE_KEYS}
    wanted["prefix"] = wanted["prefix"].strip("/")
    jobs = [
        (name, job)
        for name in sorted(specs)
        for job in readable(value_at(specs[name], "backup", "jobs"))
        if all(job[key] == wanted[key] for key in _STORE_KEYS)
    ]
    chosen = [(name, job) for name, job in jobs if _drill_of(specs[name], job)["enabled"]]
    orders = []
    for name, job in chosen:
        found: list[Mistake] = []
        orders.append(attempt(order_of, specs[name], job, found))
        mistakes.extend(where_written(one, origins[name]) for one in found)
    try:
        conf, ca = _conf(store, inputs), read(store["ca"]) if store.get("ca") else ""
    except FleetError as error:
        mistakes.append(Mistake("backup_store", f"cannot be read by the drills of {HOSTS}: {error}", host=runner))
        return nothing()
    releases = _releases(specs, sorted({order["service"] for order in orders if order["start"]}))
    for order in orders:
        order["release"]["version"] = next((one["version"] for one in releases if one["service"] == order["service"]), order["release"]["version"])
    settings = {
        **{key: wanted[key] for key in ("bucket", "prefix")},
        "older": inputs["drill_older"],
        "max_age": seconds(inputs["drill_max_age"]),
        "metrics_directory": inputs["backup_metrics_directory"],
    }
    paths = [
        *_directories(),
        _file(f"{CONFIG}/{SETTINGS}", _json(settings)),
        _file(f"{CONFIG}/{CREDENTIAL}", conf, secret=True),
        _file(f"{CONFIG}/{IDENTITY}", inputs["drill_identity"].strip() + "\n", secret=True),
        *([_file(f"{CONFIG}/{CA}", ca)] if ca else []),
        *(_file(f"{ORDERS}/{order['host']}.{order['service']}.{order['set']}.json", _json(order), mode="0600") for order in orders),
        _file(f"{UNITS}/{SERVICE}", service_text(inputs["drill_on_failure"]), mode="0644"),
        _file(f"{UNITS}/{TIMER}", timer_text(inputs["drill_schedule"]), mode="0644"),
        {"path": f"{UNITS}/{_TIMERS}.wants/{TIMER}", "state": "link", "target": f"{UNITS}/{TIMER}", "service": ""},
    ]
    return {"packages": backup_slice.PACKAGES, "releases": releases, "paths": paths, "units": [SERVICE, TIMER], "timers": [TIMER]}


def without_content(wanted: Mapping[str, Any], bare: Callable[[Iterable[Mapping[str, Any]]], list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the slice as the host needs it to look at itself; ``bare`` takes the contents out of paths."""
    releases = [{key: value for key, value in one.items() if key != "headers"} for one in wanted["releases"]]
    return {**wanted, "paths": bare(wanted["paths"]), "releases": releases}


def _input_mistakes(runner: str, inputs: Inputs) -> list[Mistake]:
    """Return what is wrong with what the runner is told."""
    found = []

    def want(name: str, *, right: bool, problem: str, remedy: str) -> None:
        if not right:
            found.append(Mistake(name, f"{problem} ({HOSTS})", remedy, runner))

    identity = inputs["drill_identity"]
    remedy = "write the text of the drill's own identity, from a vault; playbooks/keys.yml makes one"
    want("drill_identity", right=bool(identity), problem="missing, but drill_runner is true", remedy=remedy)
    is_one = "AGE-SECRET-KEY-" in identity or "PRIVATE KEY-----" in identity
    want("drill_identity", right=is_one or not identity, problem="is no private identity (it is not shown)", remedy=remedy)
    want("backup_store", right=bool(inputs["backup_store"].get("endpoint")), problem="names no store to restore from", remedy="name it")
    for name in ("drill_read_access_key_id", "drill_read_secret_access_key"):
        want(name, right=bool(inputs[name]), problem="missing, but drill_runner is true", remedy="write credentials that read and list, from a vault")
    want("drill_older", right=inputs["drill_older"] >= 0, problem="is below zero", remedy="write 1, or 0 for the newest alone")
    unit = inputs["drill_on_failure"]
    want(
        "drill_on_failure",
        right=not unit or bool(_UNIT_NAME.fullmatch(unit)),
        problem=f"{unit!r} is no unit",
        remedy="write it like alert@%n.service",
    )
    for name, read in (("drill_max_age", seconds), ("drill_schedule", backup_formats.schedule)):
        try:
            read(inputs[name])
        except ValueError as error:
            problem, _semicolon, remedy = str(error).partition("; ")
            found.append(Mistake(name, problem, remedy))
    if inputs["drill_schedule"] == backup_formats.CHANGES:
        found.append(Mistake("drill_schedule", "is for backups of files", "write daily, weekly, monthly, or a calendar expression"))
    return found


def _conf(store: Mapping[str, Any], inputs: Inputs) -> str:
    given = {key: value for key, value in store.items() if value is not None}
    return object_store.conf_text(given, inputs["drill_read_access_key_id"], inputs["drill_read_secret_access_key"])


def _with_account(account: Mapping[str, Any]) -> dict[str, Any]:
    user: dict[str, Any] = {
        "name": ACCOUNT,
        "group": ACCOUNT,
        "groups": [],
        "uid": None,
        "home": "/nonexistent",
        "shell": "/usr/sbin/nologin",
        "system": True,
        "create_home": False,
        "comment": "Daemons of restore drills",
        "service": "",
    }
    return {**account, "groups": [*account["groups"], {"name": ACCOUNT, "gid": None, "system": True}], "users": [*account["users"], user]}


# Orders


def _drill_of(spec: Mapping[str, Any], job: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = backup_spec.sets_of(spec["services"][job["service"]])[job["set"]]["drill"]
    return found


def order_of(spec: Mapping[str, Any], job: Mapping[str, Any], mistakes: list[Mistake]) -> dict[str, Any]:
    """Return what the runner is told about one set of one host. ``spec`` are the slices of that host, ``job`` is its backup order."""
    service = spec["services"][job["service"]]
    sets = backup_spec.sets_of(service)
    drill = sets[job["set"]]["drill"]
    start = bool(job["databases"]) if drill["start"] is None else drill["start"]
    command = drill["command"] or service["command"]
    return {
        **{key: job[key] for key in ("host", "service", "set", "class", "keep_days", "max_age", "databases", "files")},
        "other_databases": [one["path"] for name, other in sets.items() if name != job["set"] for one in other["databases"]],
        "start": start,
        "release": {"version": service["version"], "root": posixpath.join(RELEASES, service["name"]), "binaries": sorted(service["binaries"])},
        "type": "forking" if service["unit"]["type"] == "forking" else "exec",
        "command": _executable(command),
        "working_directory": service["unit"]["working_directory"],
        "environment": {**service["environment"], **drill["environment"]},
        "secrets": {key: _secret_of(service, key) for key in sorted(service["secrets"])},
        "config": _config(spec, service, drill, mistakes) if start else [],
        "directories": [one["path"] for one in service["directories"] if one["writable"]],
        "bootstrap": [{"command": _executable(one["command"]), **{key: one[key] for key in ("creates", "timeout")}} for one in service["bootstrap"]],
        "capabilities": [one for one in service["sandbox"]["capabilities"] if one == "CAP_NET_BIND_SERVICE"],
        "ready": _ready(drill["ready"] or service["health"]["ready"], service),
        "deadline": service["health"]["deadline"] if drill["deadline"] is None else drill["deadline"],
        **{key: service["health"][key] for key in ("passes", "interval")},
    }


def _executable(command: list[str]) -> list[str]:
    return [unit_file.executable(command[0]), *command[1:]]


def _secret_of(service: Mapping[str, Any], key: str) -> dict[str, str]:
    """Return where the daemon would find a secret; its value stays where it is."""
    kind = service["secrets"][key]["as"]
    return {"as": kind, "path": service["environment_file"] if kind == "environment" else f"/etc/{service['name']}/credentials/{key}"}


def _config(spec: Mapping[str, Any], service: Mapping[str, Any], drill: Mapping[str, Any], mistakes: list[Mistake]) -> list[dict[str, str]]:
    """Return the files that the daemon reads. One with secrets is not copied, so that somebody must write another for the sandbox."""
    own = {one["path"]: {"path": one["path"], "mode": "0640", "content": one["content"]} for one in drill["files"]}
    rendered = {path["path"]: path for path in spec["config"]["paths"] if path["service"] == service["name"] and path["state"] == "file"}
    found = []
    for index, config in enumerate(service["config"]):
        path = config["path"]
        if path in own:
            continue
        if config["secret"]:
            where = join_path("fleet_services", service["name"]) + f".config[{index}]"
            problem = f"{path} is secret, so that no drill's runner may have it"
            mistakes.append(Mistake(where, problem, "write one for the sandbox in backup.drill.files, or drill: {start: false}"))
        elif path in rendered:
            found.append({"path": path, "mode": rendered[path]["mode"], "content": rendered[path]["content"]})
    return [*found, *own.values()]


def _ready(ready: Any, service: Mapping[str, Any]) -> Any:
    """Return the probe, with where the secrets of its headers are in the sandbox."""
    if not isinstance(ready, Mapping) or "url" not in ready:
        return ready
    named = {name for value in (ready.get("headers") or {}).values() for name in headers.references(str(value)) if name in service["secrets"]}
    return {**ready, "secret_files": {name: _secret_of(service, name) for name in sorted(named)}}


def _releases(specs: Specs, services: Iterable[str]) -> list[dict[str, Any]]:
    """Return the releases to stage: of each service the newest that any host wants, without unit and links."""
    found = []
    for service in services:
        offered = [one for name in sorted(specs) for one in specs[name]["release"] if one["service"] == service]
        newest = max(offered, key=functools.cmp_to_key(_compare))
        found.append({**newest, "root": posixpath.join(RELEASES, service), "keep": 1, "unit": "", "linked": False})
    return found


def _compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return versions.compare(one["version"], other["version"]) or 0


# Files


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _file(path: str, text: str, *, mode: str = "0600", secret: bool = False) -> dict[str, Any]:
    content = {"secret_content" if secret else "content": text}
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"path": path, "state": "file", "service": "", "owner": "root", "group": "root", "mode": mode, "sha256": digest, **content}


def _directory(path: str, mode: str) -> dict[str, Any]:
    return {"path": path, "state": "directory", "service": "", "owner": "root", "group": "root", "mode": mode}


def _directories() -> list[dict[str, Any]]:
    return [
        _directory(posixpath.dirname(CONFIG), "0755"),
        _directory(CONFIG, "0700"),
        _directory(ORDERS, "0700"),
        _directory(posixpath.dirname(STATE), "0711"),  # as the role backup has it, where the runner has jobs of its own
        _directory(STATE, "0700"),
        _directory(RELEASES, "0755"),
        _directory(f"{UNITS}/{_TIMERS}.wants", "0755"),
    ]


# Units


def service_text(on_failure: str) -> str:
    """Return the unit of the drill. It is root's: it makes sandboxes, and enters their networks."""
    return "\n".join(
        [
            "# Managed by hearth.fleet: drill",
            "",
            "[Unit]",
            "Description=Prove that the newest backups come back as running daemons",
            "After=network-online.target",
            "Wants=network-online.target",
            *([f"OnFailure={on_failure}"] if on_failure else []),
            "",
            "[Service]",
            "Type=oneshot",
            f"LoadCredential={CREDENTIAL}:{CONFIG}/{CREDENTIAL}",
            f"LoadCredential={IDENTITY}:{CONFIG}/{IDENTITY}",
            f"ExecStart={host_tools.HEARTHCTL} drill perform",
            f"ExecStopPost={host_tools.HEARTHCTL} drill tidy",
            "TimeoutStartSec=1d",
            "Nice=10",
            "IOSchedulingClass=idle",
            "ProtectHome=true",
            "PrivateTmp=true",
            "NoNewPrivileges=true",
            "",
        ]
    )


def timer_text(schedule: str) -> str:
    """Return the timer of the drill."""
    return "\n".join(
        [
            "# Managed by hearth.fleet: drill",
            "",
            "[Unit]",
            f"Description=Drill the restore of backups: {schedule}",
            "",
            "[Timer]",
            f"OnCalendar={schedule}",
            "# A runner that was off at the hour catches up, once.",
            "Persistent=true",
            "RandomizedDelaySec=30min",
            "FixedRandomDelay=true",
            "",
            "[Install]",
            f"WantedBy={_TIMERS}",
            "",
        ]
    )
