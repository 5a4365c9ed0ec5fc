# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a host: looked at, compared with what is wanted, and what their running services are waiting for.

A wanted unit is a mapping:

    service     the service's name
    name        the unit's name, such as ``nats-server.service``
    content     the whole unit file; only where it is to be written
    sha256      hex digest of the content
    exposure_max  the highest exposure, of 10
    enabled     whether it starts at boot
    stamp       paths of what the daemon reads when it starts

A unit of the collection begins with a header that names its service. Drop-ins are the operator's: they stay, and count.

At each start a unit calls the *stamp* script, which records what the service starts with: its release, and digests of
its files, its unit file and the drop-ins. A running service whose stamp is not what is on the host now is *pending*.
Because the host itself keeps the record, no run that was aborted can lose a restart.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Container, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import paths, programs
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.unit_marks import HEADER, UNITS, entry

STAMPS = "/run/hearth"
NOTHING = "-"
"""Stands in a stamp for the digest of a file that was not there, and for a release that was not."""

_PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "NeedDaemonReload",
    "MainPID", "ActiveEnterTimestamp", "ActiveEnterTimestampMonotonic", "NRestarts", "DropInPaths",
)  # fmt: skip


# Looking


def look(wanted: Sequence[Mapping[str, Any]], root: str = "/", others: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the host's units are like; changes nothing, and asks systemd once for all of them.

    ``units`` holds an observation for each wanted unit, ``ours`` the services of all units on the host that bear our
    header, by unit, ``others`` what systemd says of further units, by name. Without systemd, or before the first converge,
    everything is simply not there. ``root`` is where the host's files are.
    """
    ours = _units_with_header(os.path.join(root, UNITS[1:]))
    names = [one["name"] for one in wanted]
    states = states_of([*names, *others])
    files = paths.look([{"path": os.path.join(root, UNITS[1:], name)} for name in names])
    return {
        "units": {one["name"]: {**states[one["name"]], **_look_at(one, files[os.path.join(root, UNITS[1:], one["name"])], root)} for one in wanted},
        "ours": ours,
        "others": {name: states[name] for name in others},
    }


def states_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what systemd says of units, by name, asked once for all of them."""
    return parse_show(_show(names), names)


def _look_at(wanted: Mapping[str, Any], file: Mapping[str, Any], root: str) -> dict[str, Any]:
    service = wanted["service"]
    unit = os.path.join(UNITS, wanted["name"])
    drop_ins = sorted(path for path in glob.glob(os.path.join(root, f"{glob.escape(unit[1:])}.d", "*.conf")) if os.path.isfile(path))
    read = [*wanted["stamp"], unit, *("/" + os.path.relpath(path, root) for path in drop_ins)]
    return {
        "file": file,
        "stamp": parse_stamp(_text(os.path.join(root, STAMPS[1:], f"{service}.started"))),
        "present": {
            "release": _release(os.path.join(root, "opt", service, "current")),
            "files": {path: _digest(os.path.join(root, path[1:])) for path in read},
        },
    }


def _units_with_header(directory: str) -> dict[str, str]:
    found = {}
    for path in sorted(glob.glob(os.path.join(directory, "*.service"))):
        if not os.path.islink(path):
            first = (_text(path) or "").partition("\n")[0]
            if first.startswith(HEADER):
                found[os.path.basename(path)] = first[len(HEADER) :].strip()
    return found


def _show(names: Sequence[str]) -> str:
    if not names:
        return ""
    command = ["systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--", *names]
    return programs.run(command, seconds=60, environment={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}).output


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def _release(link: str) -> str:
    return os.path.realpath(link) if os.path.exists(link) else NOTHING


def _digest(path: str) -> str:
    """Return a file's SHA-256 in hex, following links as the stamp script does; NOTHING for what is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return NOTHING
    with os.fdopen(fd, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest() if stat.S_ISREG(os.fstat(fd).st_mode) else NOTHING


# Reading what systemd and the stamp say


def parse_show(shown: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the state of each unit out of the output of ``systemctl show``, which has one paragraph for each, in order."""
    paragraphs = [dict(line.partition("=")[::2] for line in paragraph.splitlines()) for paragraph in shown.strip().split("\n\n") if paragraph]
    if len(paragraphs) != len(names):
        paragraphs = [{} for _name in names]
    return {name: _state(found) for name, found in zip(names, paragraphs)}


def _state(found: Mapping[str, str]) -> dict[str, Any]:
    def number(name: str) -> int:
        text = found.get(name, "")
        return int(text) if text.isdigit() else 0

    return {
        "load": found.get("LoadState", "not-found"),
        "active": found.get("ActiveState", "inactive"),
        "sub": found.get("SubState", "dead"),
        "result": found.get("Result", ""),
        "enabled": found.get("UnitFileState", ""),
        "needs_reload": found.get("NeedDaemonReload") == "yes",
        "pid": number("MainPID"),
        "since": found.get("ActiveEnterTimestamp", ""),
        "since_monotonic": number("ActiveEnterTimestampMonotonic"),
        "restarts": number("NRestarts"),
        "drop_ins": sorted(found.get("DropInPaths", "").split()),
    }


def parse_stamp(text: str | None) -> dict[str, Any] | None:
    """Return what a stamp records (``release``, ``files``: digest by path); None where there is none."""
    if text is None:
        return None
    release, files = NOTHING, {}
    for line in text.splitlines():
        if line.startswith("release "):
            release = line[len("release ") :]
        elif "  " in line:
            digest, _spaces, path = line.partition("  ")
            files[path] = digest
    return {"release": release, "files": files}


def running(observed: Mapping[str, Any]) -> set[str]:
    """Return the units that run, or are about to: what must keep its release until a rollout."""
    return {name for name, unit in observed["units"].items() if unit["active"] in ("active", "reloading", "activating")}


# Comparing


def is_masked(unit: Mapping[str, Any]) -> bool:
    """Return whether a unit was masked by hand: its file is a link to nowhere."""
    return bool(unit["file"].get("target") == "/dev/null")


def diff(
    wanted: Sequence[Mapping[str, Any]], observed: Mapping[str, Any], *, held: Container[str] = (), remove_stale: bool = True
) -> list[Difference]:
    """Return what differs: unit files, what systemd knows of them, whether they start at boot, and units of ours that nobody wants.

    Actions: those of ``paths.diff`` for the unit file; ``unmask``, ``enable``, ``disable``, ``daemon-reload``; ``remove`` for a stale
    unit. The services in ``held`` wait for their rollout: their units stay as they are, and are not stale.
    """
    found = [difference for one in wanted if one["service"] not in held for difference in _differences(one, observed["units"][one["name"]])]
    names = {one["name"] for one in wanted}
    stale = {name: service for name, service in observed["ours"].items() if name not in names and service not in held} if remove_stale else {}
    return [
        *found,
        *(Difference(name, "nothing wants it here any more; its data and config stay", service, "remove") for name, service in stale.items()),
    ]


def _differences(wanted: Mapping[str, Any], unit: Mapping[str, Any]) -> list[Difference]:
    name, service = wanted["name"], wanted["service"]
    if is_masked(unit):
        return [Difference(name, "is masked", service, "unmask")]
    file = entry(wanted)
    found = paths.diff([file], {file["path"]: unit["file"]})
    if unit["file"]["kind"] == "absent":
        return found  # what systemd thinks of it follows from that
    if unit["load"] == "masked":
        found.append(Difference(name, "is masked", service, "unmask"))
    elif wanted["enabled"] and unit["enabled"] != "enabled":
        found.append(Difference(name, f"does not start at boot ({unit['enabled'] or 'unknown to systemd'})", service, "enable"))
    elif not wanted["enabled"] and unit["enabled"] in ("enabled", "enabled-runtime"):
        found.append(Difference(name, "starts at boot", service, "disable"))
    if unit["needs_reload"]:
        found.append(Difference(name, "systemd has not read its files since they changed", service, "daemon-reload"))
    return found


def pending(wanted: Sequence[Mapping[str, Any]], observed: Mapping[str, Any], reloadable: Mapping[str, Sequence[str]]) -> list[Difference]:
    """Return which services must be started, restarted or reloaded, and each reason why. Pure.

    ``reloadable`` names by service the files that a reload takes up. All differences of one service have the same action:
    ``reload`` only where that is enough.
    """
    return [difference for one in wanted for difference in _pending(one, observed["units"][one["name"]], reloadable.get(one["service"], ()))]


def _pending(wanted: Mapping[str, Any], unit: Mapping[str, Any], reloadable: Sequence[str]) -> list[Difference]:
    name, service = wanted["name"], wanted["service"]
    if unit["active"] not in ("active", "reloading"):
        return [Difference(name, f"not running ({_why_not(unit)})", service, "start")]
    if unit["stamp"] is None:
        return [Difference(name, "not started by this collection's unit", service, "restart")]
    changed = _changed_files(unit["stamp"]["files"], unit["present"]["files"])
    reasons = [
        *_changed_release(unit["stamp"]["release"], unit["present"]["release"]),
        *(_reason(path, wanted, f"{how} since the service started") for path, how in changed),
    ]
    only_reloadable = len(reasons) == len(changed) and all(path in reloadable for path, _how in changed)
    return [Difference(name, reason, service, "reload" if only_reloadable else "restart") for reason in reasons]


def following(
    wanted: Sequence[Mapping[str, Any]], observed: Mapping[str, Any], changing: Mapping[str, str], reloadable: Mapping[str, Sequence[str]]
) -> list[Difference]:
    """Return which services must restart or reload once files are written, and why, as ``pending`` will then. Pure.

    ``changing`` are the digests that files are to have, by path.
    """
    found = []
    for one in wanted:
        name, service, unit = one["name"], one["service"], observed["units"][one["name"]]
        if unit["active"] not in ("active", "reloading") or unit["stamp"] is None:
            continue  # it is pending already
        now = unit["present"]["files"]
        read = [path for path in (*one["stamp"], f"{UNITS}/{name}") if path in changing and changing[path] != now.get(path)]
        action = "reload" if all(path in reloadable.get(service, ()) for path in read) else "restart"
        found += [Difference(name, _reason(path, one, "is to change"), service, action) for path in read]
    return found


def _why_not(unit: Mapping[str, Any]) -> str:
    state = unit["active"] if unit["sub"] in (unit["active"], "dead") else f"{unit['active']}, {unit['sub']}"
    return state if unit["result"] in ("", "success") else f"{state}: {unit['result']}"


def _changed_release(then: str, now: str) -> list[str]:
    if now in (then, NOTHING):  # without a current release, a restart would only end the service
        return []
    return [f"release {os.path.basename(then)} runs, current is {os.path.basename(now)}"]


def _changed_files(then: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (path, what happened to it since the start) for each file that is not what it was."""
    found = []
    for path in [*now, *(path for path in then if path not in now)]:
        before, after = then.get(path, NOTHING), now.get(path, NOTHING)
        if before != after:
            found.append((path, "is new" if before == NOTHING else "is gone" if after == NOTHING else "changed"))
    return found


def _reason(path: str, wanted: Mapping[str, Any], how: str) -> str:
    if path == f"{UNITS}/{wanted['name']}":
        return f"unit file {how}"
    kind = "drop-in" if path.startswith(f"{UNITS}/{wanted['name']}.d/") else "config"
    return f"{kind} {path} {how}"
