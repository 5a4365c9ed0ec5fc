# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From finished service specs to what backs one host up: orders, units, and how the store is reached. Pure.

An *order* is all that ``hearthctl backup run`` knows of a job. The host gets public recipients and write-only credentials; what
reads and what administers the store stays on the controller.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any, Callable
from urllib.parse import urlsplit

from ansible_collections.hearth.fleet.plugins.module_utils import (
    backup_formats,
    backup_names,
    backup_spec,
    backup_units,
    object_store,
    unit_file,
    unit_text,
)
from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, attempt, readable
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.unit_marks import UNITS

PACKAGES = {"age": "/usr/bin/age", "rclone": "/usr/bin/rclone", "zstd": "/usr/bin/zstd"}
"""The distribution's packages that make backups, and the program by which each is known to be there."""

RELEASES = "/opt"
CA = posixpath.join(backup_units.CONFIG, "ca.pem")

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(?!.*(?:^|/)\.\.?(?:/|$))[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@%-]+\.(service|target)")
_BANDWIDTH = re.compile(r"off|[0-9A-Za-z.:,: -]*\d[0-9A-Za-z.:,: -]*")

Inputs = Mapping[str, Any]


def backup_slice(
    host: str, services: Mapping[str, Any], inputs: Inputs, exposure_max: float, read: Callable[[str], str], mistakes: list[Mistake]
) -> dict[str, Any]:
    """Return what a host needs to back its services up.

    ``sets`` describes every set of the host, also where there is no store; ``jobs`` are the orders, ``paths`` all files with them,
    ``units`` the names of all units and ``timers`` of those that are to be active, ``packages`` program by package, ``check`` what
    ``hearth.fleet.backup_check`` looks at, with ``paths``, before anything is installed. ``read`` returns the text of a file
    of the controller, or raises FleetError.
    """
    described = [(spec, name, one) for spec in services.values() for name, one in backup_spec.sets_of(spec).items()]
    found: dict[str, Any] = {
        "sets": readable(attempt(_set, host, *one) for one in described),
        "jobs": [],
        "packages": {},
        "paths": [],
        "units": [],
        "timers": [],
    }
    store = _store(inputs, read, mistakes)
    if store is None:
        return {**found, "check": None}
    recipients = _recipients(inputs["backup_recipients"], mistakes)
    candidates: list[dict[str, Any]] = []
    for spec, name, one in described:
        to = attempt(_recipients_of, recipients, one, _path_of(spec, name), mistakes)
        found["jobs"].append(attempt(_order, host, spec, name, one, store, to, inputs))
        for key, units in readable(attempt(_units, spec, name, one, store, inputs, exposure_max, mistakes)):
            (candidates if key == "candidates" else found["timers"]).extend(units)
    found["jobs"], found["units"] = readable(found["jobs"]), [one["name"] for one in candidates]
    if not described or store is BROKEN or recipients is BROKEN:
        return {**found, "check": None}
    paths = [
        *_directories(),
        *_store_files(store, inputs),
        *(path for order, (spec, _name, one) in zip(found["jobs"], described) for path in _job_paths(order, spec, one)),
        *(_file(one["service"], posixpath.join(UNITS, one["name"]), one["content"]) for one in candidates),
        *_links(found["timers"], {one["name"]: one["service"] for one in candidates}),
    ]
    return {**found, "packages": PACKAGES, "paths": paths, "check": _check(host, described, candidates, store, inputs)}


def _recipients_of(recipients: list[str], one: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> list[str]:
    to = list(dict.fromkeys([*recipients, *one["recipients"]]))
    if not to:
        mistakes.append(Mistake(f"{path}.recipients", "there is nobody to encrypt for", "set backup_recipients, the public keys of your identities"))
    return to


def _units(
    spec: Mapping[str, Any],
    name: str,
    one: Mapping[str, Any],
    store: Mapping[str, Any],
    inputs: Inputs,
    exposure_max: float,
    mistakes: list[Mistake],
) -> list[tuple[str, list[Any]]]:
    """Return ``candidates``, the units of a set, and the names of those that start it, ``timers``."""
    try:
        texts = backup_units.render(spec, name, one, endpoint=store["endpoint"], on_failure=inputs["backup_on_failure"])
    except FleetError as error:
        mistakes.extend(unit_text.mistakes_of(error))
        return []
    job = backup_names.job_of(spec["name"], name)
    limit = max(exposure_max, backup_units.ROOT_EXPOSURE_MAX) if one["user"] == "root" else exposure_max
    names = {kind: backup_units.unit_name(job, kind) for kind in texts}
    candidates = [{"name": names[kind], "content": text, "service": spec["name"], "exposure_max": limit} for kind, text in texts.items()]
    return [("candidates", candidates), ("timers", [names[kind] for kind in backup_units.kinds(one)])]


def without_content(wanted: Mapping[str, Any], bare: Callable[[Iterable[Mapping[str, Any]]], list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the slice as the host needs it to look at itself; ``bare`` takes the contents out of paths."""
    return {"packages": wanted["packages"], "paths": bare(wanted["paths"]), "units": wanted["units"], "timers": wanted["timers"]}


def _path_of(spec: Mapping[str, Any], name: str) -> str:
    path = join_path("fleet_services", spec["name"]) + ".backup"
    return path if name == backup_spec.DATA else join_path(f"{path}.more", name)


def _set(host: str, spec: Mapping[str, Any], name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    days = one["keep"] // backup_names.DAY_SECONDS
    return {
        "service": spec["name"],
        "set": name,
        "host": host,
        "job": backup_names.job_of(spec["name"], name),
        "class": backup_names.class_of(name, days),
        "keep_days": days,
        "schedule": one["schedule"],
        "max_age": one["max_age"],
    }


def _order(
    host: str, spec: Mapping[str, Any], name: str, one: Mapping[str, Any], store: Mapping[str, Any], recipients: list[str], inputs: Inputs
) -> dict[str, Any]:
    about = _set(host, spec, name, one)
    command = one["command"]
    return {
        **{key: about[key] for key in ("service", "set", "host", "class", "keep_days")},
        "refresh_days": backup_names.refresh_days(about["keep_days"]),
        "databases": [{**database, "sentinel": database["sentinel"] or ""} for database in one["databases"]],
        "files": one["files"],
        "command": [unit_file.executable(command[0]), *command[1:]] if command else [],
        "recipients": recipients,
        "bucket": store["bucket"],
        "prefix": store["prefix"],
        "endpoint": store["endpoint"],
        "bandwidth": inputs["backup_bandwidth"],
        "metrics_directory": inputs["backup_metrics_directory"],
        "max_age": one["max_age"],
        "release_home": posixpath.join(RELEASES, spec["name"]),
        "user": one["user"],
    }


# What is written for the whole fleet


def unstored(specs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the services of a fleet that have backups on a host that knows no store, so that none are made; ``specs`` by host."""
    backups = [spec["backup"] for spec in specs.values() if not spec["backup"]["jobs"]]
    return sorted({one["service"] for backup in backups for one in backup["sets"]})


def _store(inputs: Inputs, read: Callable[[str], str], mistakes: list[Mistake]) -> Any:
    """Return the store, checked, with the text of its ``ca``; None where there is none, BROKEN where it is wrong."""
    given = {key: value for key, value in inputs["backup_store"].items() if value is not None}
    before = len(mistakes)
    _check_texts(inputs, mistakes)
    if not any(given.get(key) for key in ("endpoint", "bucket")):
        return None
    store = {"endpoint": "", "bucket": "", "region": "us-east-1", "path_style": True, "ca": "", "prefix": "", **given}
    store["prefix"] = store["prefix"].strip("/")
    _check_endpoint(store["endpoint"], mistakes)
    if not _BUCKET.fullmatch(store["bucket"]):
        problem = f"{store['bucket']!r} cannot name a bucket" if store["bucket"] else "missing"
        mistakes.append(
            Mistake("backup_store.bucket", problem, "write the name of a bucket that exists: 3 to 63 lower-case letters, digits, - and .")
        )
    if store["prefix"] and not _PREFIX.fullmatch(store["prefix"]):
        mistakes.append(Mistake("backup_store.prefix", f"{store['prefix']!r} is not a prefix", "write it like fleets/home, or leave it out"))
    if not re.fullmatch(r"[a-z0-9-]+", store["region"]):
        mistakes.append(
            Mistake("backup_store.region", f"{store['region']!r} is not a region", "write it like eu-central-1; many stores take us-east-1")
        )
    store["ca_text"] = _ca(store["ca"], read, mistakes)
    for name in ("backup_access_key_id", "backup_secret_access_key"):
        if not inputs[name]:
            mistakes.append(Mistake(name, "missing, but backup_store names a store", "write the write-only credentials of the hosts, from a vault"))
        elif not re.fullmatch(r"[!-~]+", inputs[name]):
            mistakes.append(Mistake(name, "has spaces or characters that no key has (its value is not shown)", "copy it again"))
    return store if len(mistakes) == before else BROKEN


def _check_texts(inputs: Inputs, mistakes: list[Mistake]) -> None:
    on_failure, bandwidth, directory = (inputs[f"backup_{name}"] for name in ("on_failure", "bandwidth", "metrics_directory"))
    if on_failure and not _UNIT_NAME.fullmatch(on_failure):
        mistakes.append(Mistake("backup_on_failure", f"{on_failure!r} is not a unit", "write it like alert@%n.service, or leave it out"))
    if bandwidth and not _BANDWIDTH.fullmatch(bandwidth):
        mistakes.append(
            Mistake("backup_bandwidth", f"{bandwidth!r} is not a limit", "write it like 1M (bytes per second), or '08:00,512k 23:00,off'")
        )
    if not directory.startswith("/") or "/../" in f"{directory}/":
        mistakes.append(Mistake("backup_metrics_directory", f"{directory!r} is not an absolute path", "begin it with /"))


def _check_endpoint(endpoint: str, mistakes: list[Mistake]) -> None:
    def mistake(problem: str, remedy: str = "write it like https://s3.example.org") -> None:
        mistakes.append(Mistake("backup_store.endpoint", problem, remedy))

    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        mistake(f"{endpoint!r} has no sound address or port")
        return
    if not endpoint:
        mistake("missing, but backup_store names a bucket")
    elif parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", endpoint) or port == 0:
        mistake(f"{endpoint!r} is not the URL of a store")
    elif parts.username or parts.password:
        mistake("has credentials in it (it is not shown)", "write them as backup_access_key_id and backup_secret_access_key")
    elif parts.path.strip("/") or parts.query or parts.fragment:
        mistake(f"{endpoint!r} has more than an address", "write the bucket as backup_store.bucket, what comes below it as backup_store.prefix")


def _ca(path: str, read: Callable[[str], str], mistakes: list[Mistake]) -> str:
    if not path:
        return ""
    try:
        text = read(path)
    except FleetError as error:
        mistakes.append(Mistake("backup_store.ca", str(error)))
        return ""
    if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY" in text:
        problem = f"{path} holds a private key" if "PRIVATE KEY" in text else f"{path} holds no certificate in PEM"
        mistakes.append(Mistake("backup_store.ca", problem, "name the file with the certificate that signed the store's"))
    return text


def _recipients(given: Iterable[str], mistakes: list[Mistake]) -> Any:
    """Return the recipients of all backups; BROKEN where one of them is wrong, as it was meant to be one."""
    found, before = [], len(mistakes)
    for index, value in enumerate(given):
        try:
            found.append(backup_formats.recipient(value))
        except ValueError as error:
            problem, _semicolon, remedy = str(error).partition("; ")
            mistakes.append(Mistake(f"backup_recipients[{index}]", problem, remedy))
    return found if len(mistakes) == before else BROKEN


# What lies on the host


def _file(service: str, path: str, text: str, *, group: str = "root", mode: str = "0644", secret: bool = False) -> dict[str, Any]:
    content = {"secret_content" if secret else "content": text}
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"path": path, "state": "file", "service": service, "owner": "root", "group": group, "mode": mode, "sha256": digest, **content}


def _directory(service: str, path: str, *, owner: str = "root", group: str = "root", mode: str = "0755") -> dict[str, Any]:
    return {"path": path, "state": "directory", "service": service, "owner": owner, "group": group, "mode": mode}


def _directories() -> list[dict[str, Any]]:
    # 0711: an account comes to its own directory, and sees no other.
    return [
        _directory("", posixpath.dirname(backup_units.CONFIG)),
        _directory("", backup_units.CONFIG),
        _directory("", posixpath.dirname(backup_units.STATE), mode="0711"),
        _directory("", backup_units.STATE, mode="0711"),
    ]


def _store_files(store: Mapping[str, Any], inputs: Inputs) -> list[dict[str, Any]]:
    conf = object_store.conf_text(store, inputs["backup_access_key_id"], inputs["backup_secret_access_key"])
    files = [_file("", posixpath.join(backup_units.CONFIG, backup_units.CREDENTIAL), conf, mode="0600", secret=True)]
    return [*files, *([_file("", CA, store["ca_text"])] if store["ca_text"] else [])]


def _job_paths(order: Mapping[str, Any], spec: Mapping[str, Any], one: Mapping[str, Any]) -> list[dict[str, Any]]:
    service, job = order["service"], backup_names.job_of(order["service"], order["set"])
    group = spec["account"]["group"] if one["user"] == spec["account"]["user"] else one["user"]
    text = json.dumps(order, indent=1, ensure_ascii=False) + "\n"
    return [
        _file(service, posixpath.join(backup_units.CONFIG, f"{job}.json"), text, group=group, mode="0640"),
        _directory(service, posixpath.join(backup_units.STATE, job), owner=one["user"], group=group, mode="0700"),
    ]


def _links(timers: Iterable[str], services: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what starts the timers at boot; ``services`` names the service of each."""
    found = []
    for name in timers:
        wanted_by = posixpath.join(UNITS, f"{backup_units.PATHS if name.endswith('.path') else backup_units.TIMERS}.wants")
        link = {"path": posixpath.join(wanted_by, name), "state": "link", "target": posixpath.join(UNITS, name), "service": services[name]}
        found += [_directory("", wanted_by), link]
    return list({path["path"]: path for path in found}.values())


def _check(
    host: str,
    described: Iterable[tuple[Mapping[str, Any], str, Mapping[str, Any]]],
    candidates: list[dict[str, Any]],
    store: Mapping[str, Any],
    inputs: Inputs,
) -> dict[str, Any]:
    return {
        "host": host,
        "schedules": [
            {"path": f"{_path_of(spec, name)}.schedule", "schedule": one["schedule"]}
            for spec, name, one in described
            if one["schedule"] != backup_formats.CHANGES
        ],
        "units": [{key: one[key] for key in ("name", "service", "exposure_max")} for one in candidates],
        "store": {key: store[key] for key in ("endpoint", "bucket", "prefix")},
        "readable_credentials": inputs["backup_readable_credentials"],
        "unreachable": inputs["backup_unreachable"],
    }
