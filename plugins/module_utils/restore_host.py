# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore as its host sees it: looked at, prepared, received in pieces, staged and proven, exchanged, and seen ready, or else undone.

    look(order)                         what the host has: the release, the schemas of its databases; changes nothing
    prepare(order)                      takes the service and writes the order; settles what an interrupted restore left
    receive(order, part, offset, file)  appends a piece of a part, decrypted and still compressed
    run(order)                          stages, checks, stops the service, exchanges the data, starts it and waits until it is ready
    discard(order, why)                 removes what came in; the data are the old ones

An order is plain data: ``id``, ``service``, ``unit``, ``home``, ``user``, ``group``, ``health``, ``stop_timeout``, ``start_timeout``,
``backup`` (the manifest), ``databases`` (``path`` and ``sentinel`` of those of the set), ``files`` (its files and directories),
``other_databases`` (the paths of those of the service's other sets).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import (
    cold_copy,
    journal,
    releases,
    restore_stage,
    restore_swap,
    transaction_host,
    unit_control,
)
from ansible_collections.hearth.fleet.plugins.module_utils import probe as probes
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly, want_free

BUSY_SECONDS = 60
"""A restore that received something so short a time ago is still under way."""


def look(order: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the host has. Raises FleetError where a rollout has the service, or systemd does not know it."""
    service = order["service"]
    transaction_host.refuse_while_changed(service)
    state = probes.unit_state(order["unit"])
    if state.load == "not-found":
        raise FleetError(f"{service}: systemd knows no unit {order['unit']} on this host\n  → converge the host first: site.yml")
    return {
        "release": releases.read_version(Path(order["home"]) / "current"),
        "active": state.active,
        "schemas": {one["path"]: cold_copy.schema(Path(one["path"])) for one in order["databases"]},
    }


# Receiving


def prepare(order: Mapping[str, Any]) -> list[str]:
    """Make ready to receive; return what became of interrupted restores of the service, in words.

    The service is the restore's from here to its outcome. Raises FleetError, also while a rollout or another restore has it, or OSError.
    """
    directory = _directory(order)
    with transaction_host.deciding(order["service"]):
        transaction_host.refuse_while_changed(order["service"])
        said = [_settle(other, order) for other in restore_swap.open_restores(order["service"])]
        _take(order, directory)
    return said


def _take(order: Mapping[str, Any], directory: Path) -> None:
    """Take a service that nobody has. Raises FleetError or OSError where it could not be restored anyway; then nobody has it still."""
    _places(order)  # finds what cannot be exchanged, before gigabytes are fetched
    for path in (restore_swap.RESTORE.parent, restore_swap.RESTORE, directory.parent, directory, directory / restore_swap.RECEIVED):
        path.mkdir(mode=0o700, exist_ok=True)
    needed = sum(part["size"] for part in order["backup"]["parts"])
    want_free(directory, needed, "for the parts of the backup")
    for part in order["backup"]["parts"]:
        if part["kind"] == "database":
            want_free(Path(part["path"]).parent, part["plain_size"] + _also_there(directory, part, needed), f"for the restored {part['path']}")
    with restore_swap.open_journal(directory) as book:
        restore_swap.note(book, "receiving", "the backup comes in")
    journal.write_whole(directory / restore_swap.ORDER, json.dumps(order, ensure_ascii=False).encode(), durable=True)


def _also_there(directory: Path, part: Mapping[str, Any], received: int) -> int:
    """Return how much more room a staged database takes, where what is received lies on the same file system."""
    return received if os.stat(directory).st_dev == os.stat(os.path.dirname(part["path"])).st_dev else 0


def _directory(order: Mapping[str, Any]) -> Path:
    for name in (order["service"], order["id"]):
        if "/" in name or name.startswith("."):
            raise FleetError(f"{name!r} names no service and no restore")
    return restore_swap.directory_of(order["service"], order["id"])


def _settle(other: Path, order: Mapping[str, Any]) -> str:
    """End an interrupted restore of the same service, and start the service where that had stopped it."""
    silent = time.time() - max(path.stat().st_mtime for path in (other, *other.rglob("*")))
    if silent < BUSY_SECONDS and restore_swap.interrupted(journal.read(other)) == "close":
        raise FleetError(
            f"{order['service']}: restore {other.name} is under way, and received something {silent:.0f} s ago\n"
            f"  → let it end; if its controller is gone, try again in a minute"
        )
    lines = journal.read(other)
    was_active = any(line.get("was_active") for line in lines)
    said = restore_swap.settle(other)
    if was_active and probes.unit_state(order["unit"]).active not in unit_control.RUNNING:
        along = [unit for line in lines for unit in line.get("along", [])]
        _systemctl("start", order["unit"], *along, seconds=order["start_timeout"])
    return said


def receive(order: Mapping[str, Any], name: str, offset: int, piece: Path) -> int:
    """Append a piece to a part, and return how much of it is there now. Raises FleetError where something is missing before it."""
    part = next((one for one in order["backup"]["parts"] if one["name"] == name), None)
    if part is None:
        raise FleetError(f"the backup has no part {name}")
    directory = _directory(order)
    _want_open(order, journal.read(directory))
    file = _received(directory, order, part)
    with said_plainly(directory, "for the parts of the backup"):
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(handle, "r+b") as target, open(piece, "rb") as source:
            arrived = target.seek(0, os.SEEK_END)
            if arrived < offset:
                raise FleetError(f"{name}: a piece is missing before byte {offset}; only {arrived} bytes arrived")
            target.truncate(offset)  # a piece that is sent again, after a broken connection
            target.seek(offset)
            shutil.copyfileobj(source, target, 1 << 20)
            return target.tell()


def _want_open(order: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> None:
    """Raise FleetError for a restore that has the service no longer."""
    found = restore_swap.summary(lines)
    if found["outcome"]:
        raise FleetError(f"restore {order['id']} was ended by somebody else: {found['said']}")


def _received(directory: Path, order: Mapping[str, Any], part: Mapping[str, Any]) -> Path:
    return directory / restore_swap.RECEIVED / str(order["backup"]["parts"].index(part))


def discard(order: Mapping[str, Any], why: str) -> None:
    """Remove what came in, if nothing was exchanged. Raises JournalError while the restore is at work."""
    directory = _directory(order)
    if not (directory / restore_swap.ORDER).exists():
        return
    with restore_swap.open_journal(directory) as book:
        if not restore_swap.summary(book.lines)["outcome"] and restore_swap.interrupted(book.lines) == "close":
            restore_swap.close(book, restore_swap.DISCARDED, why)


# Restoring


def run(order: Mapping[str, Any]) -> dict[str, Any]:
    """Restore what was received; return ``downtime`` (seconds from stop to ready, None where nothing was stopped), ``aside``, ``said``.

    ``aside`` lists where the old data lie. Raises FleetError: then the old data are in place, and the service runs if it did.
    """
    directory = _directory(order)
    with restore_swap.open_journal(directory) as book, _undisturbed():
        _want_open(order, book.lines)
        try:
            files, databases, said = _stage(order, book)
            downtime = _exchange(order, book, files, databases) if files or databases else None
        except (FleetError, OSError) as error:
            if not restore_swap.summary(book.lines)["outcome"]:
                restore_swap.close(book, restore_swap.DISCARDED, str(error))
            raise
        restore_swap.close(book, restore_swap.RESTORED, f"restored {order['backup']['id']}")
    restore_swap.prune(order["service"])
    aside = sorted({str(place.aside.parent) for place in (*files, *databases) if place.aside.parent.is_dir()})
    return {"downtime": downtime, "aside": aside, "said": said}


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Go on to the end although the connection breaks: a service half way would be worse than a report that nobody reads."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _places(order: Mapping[str, Any]) -> dict[str, restore_stage.Target]:
    """Return the places of the set by path. Raises FleetError for those that cannot be exchanged."""
    paths = [*order["files"], *(one["path"] for one in order["databases"])]
    before = _directory(order).with_name(restore_swap.BEFORE.format(id=order["id"]))
    return {path: restore_stage.target(path, order["id"], number, before) for number, path in enumerate(paths)}


def _stage(order: Mapping[str, Any], book: journal.Journal) -> tuple[list[restore_stage.Target], list[restore_stage.Target], list[str]]:
    """Write everything beside its place and check it; return the places of files and of databases, and what was seen."""
    places = _places(order)
    owner = restore_stage.Owner(order["user"], order["group"])
    paths = {"staged": [str(place.staged) for place in places.values()], "aside": [str(place.aside.parent) for place in places.values()]}
    restore_swap.note(book, "staging", "unpacking and checking", **paths)
    files: list[restore_stage.Target] = []
    databases: list[restore_stage.Target] = []
    said = []
    for part in order["backup"]["parts"]:
        received = _received(book.directory, order, part)
        if part["kind"] == "files":
            files = restore_stage.stage_files(received, part, [places[path] for path in order["files"]], owner)
            # A copy of a database that came along as a file is none to rely on, least of all its -wal.
            restore_stage.leave_out(files, [*(one["path"] for one in order["databases"]), *order["other_databases"]])
            said.append(f"{', '.join(str(place.path) for place in files) or 'no files'}")
    for part in order["backup"]["parts"]:
        received = _received(book.directory, order, part)
        if part["kind"] == "database":
            place, sentinel = _database(order, part, places)
            databases.append(place)
            said.append(f"{place.path}: {restore_stage.stage_database(received, part, place, owner, sentinel)}")
        elif part["kind"] == "command":
            said.append(_put_output(received, part, order))
    return files, databases, said


def _database(order: Mapping[str, Any], part: Mapping[str, Any], places: Mapping[str, restore_stage.Target]) -> tuple[restore_stage.Target, str]:
    """Return the place of a database of the backup, and its sentinel. Raises FleetError where the inventory knows no such database."""
    listed = {one["path"]: one.get("sentinel") or "" for one in order["databases"]}
    if part["path"] not in listed:
        raise FleetError(
            f"{part['name']} is {part['path']}, which is no database of set {order['backup']['set']} of {order['service']} "
            f"({', '.join(listed) or 'it has none'})\n  → list it in the service's backup, if it belongs there"
        )
    return places[part["path"]], listed[part["path"]]


def _put_output(received: Path, part: Mapping[str, Any], order: Mapping[str, Any]) -> str:
    """Put what the service's own backup command had written where a person can use it; return where."""
    home = restore_swap.RESTORE / order["service"] / "output"
    home.mkdir(mode=0o700, exist_ok=True)
    output = home / order["backup"]["id"]
    output.unlink(missing_ok=True)
    with restore_stage.Unpacked(received) as plain, restore_stage.created(output) as file:
        shutil.copyfileobj(plain, file, 1 << 20)
        plain.verify(part)
    return f"what the service's own backup command had written is in {output}: restore it with the service's own program, then remove it"


def _moves(order: Mapping[str, Any], files: Sequence[restore_stage.Target], databases: Sequence[restore_stage.Target]) -> list[restore_swap.Move]:
    """Return the renames: the old data aside, with all that stands beside a database, and the new ones in.

    A directory is exchanged whole, so that nothing newer is left in it; databases of other sets, that lie in it, stay.
    """
    moves: list[restore_swap.Move] = []
    for place in files:
        _make_private(place.aside.parent)
        if os.path.lexists(place.path):
            moves.append({"from": str(place.path), "to": str(place.aside)})
        moves.append({"from": str(place.staged), "to": str(place.path)})
        moves += _carried(order, place)
    for place in databases:
        around = next((one for one in files if one.path in place.path.parents), None)
        if around:  # it was staged in a directory that has just been moved aside, together with the old database
            moves.append({"from": str(around.aside / place.staged.relative_to(around.path)), "to": str(place.path)})
            continue
        _make_private(place.aside.parent)
        moves += [{"from": str(path), "to": str(place.aside.with_name(path.name))} for path in restore_stage.contents(place.path)]
        moves.append({"from": str(place.staged), "to": str(place.path)})
    return moves


def _make_private(directory: Path) -> None:
    for path in (directory.parent, directory):
        path.mkdir(mode=0o700, exist_ok=True)


def _carried(order: Mapping[str, Any], place: restore_stage.Target) -> Iterator[restore_swap.Move]:
    """Yield the renames that keep databases of other sets, which lie in an exchanged directory, where they are."""
    for name in order["other_databases"]:
        for path in restore_stage.contents(Path(name)):
            if place.path in path.parents:
                below = path.relative_to(place.path)
                yield {"from": str(place.aside / below), "to": str(path)}


def _exchange(
    order: Mapping[str, Any], book: journal.Journal, files: Sequence[restore_stage.Target], databases: Sequence[restore_stage.Target]
) -> float:
    """Stop the service, exchange, start, and wait until it is ready; return how long it was gone, in seconds.

    Raises FleetError when it does not become ready: then all is as it was before.
    """
    unit = order["unit"]
    was_active = probes.unit_state(unit).active in unit_control.RUNNING
    began = time.monotonic()
    along = unit_control.stopped_along(unit)
    restore_swap.note(book, "stopping", "the service stops", was_active=was_active, along=along)
    try:
        _systemctl("stop", unit, seconds=order["stop_timeout"])
        # Only now: a daemon that ends takes its -wal away.
        restore_swap.swap(book, _moves(order, files, databases))
        problem = _start(order, along)
        if not problem:
            return round(time.monotonic() - began, 2)
        problem = "\n".join([f"{order['service']} does not become ready on the restored data: {problem}", *_last_lines(unit)])
        _systemctl("stop", unit, seconds=order["stop_timeout"])
    except (FleetError, OSError) as error:
        problem = f"the data cannot be exchanged: {error}"
    restore_swap.undo(book, problem)
    try:
        now = _as_before(order, along, was_active=was_active)
    finally:
        restore_swap.close(book, restore_swap.REVERTED, problem)  # last, as a rollout may have the service from there
    raise FleetError(f"{problem}\nThe old data are in place; {now}")


def _as_before(order: Mapping[str, Any], along: Sequence[str], *, was_active: bool) -> str:
    """Bring the service to what it was before; return in words what it is now."""
    if not was_active:
        _systemctl("stop", order["unit"], seconds=order["stop_timeout"])
        return f"{order['service']} is stopped, as it was"
    problem = _start(order, along)
    return f"{order['service']} is not ready on them either: {problem}" if problem else f"{order['service']} is ready on them"


def _start(order: Mapping[str, Any], along: Sequence[str]) -> str:
    """Start the service, wait until it is ready, and start what stopped along with it; return why it is not, empty when it is."""
    unit, health = order["unit"], order["health"]
    try:
        unit_control.forget_failures(unit)
        _systemctl("start", unit, seconds=order["start_timeout"])
        waited = probes.wait_ready(
            probes.of_unit(health.get("ready"), probes.unit_state(unit)),
            deadline=health.get("deadline", 120),
            passes=health.get("passes", 3),
            interval=health.get("interval", 1),
            hopeless=lambda: probes.why_hopeless(probes.unit_state(unit), 0),
        )
        if waited.ready and along:
            _systemctl("start", *along, seconds=order["start_timeout"])
    except FleetError as error:
        return probes.why_hopeless(probes.unit_state(unit), 0) or str(error)
    if waited.ready:
        return ""
    if waited.hopeless and waited.hopeless != probes.CANNOT_BE_ASKED:
        return waited.hopeless
    return f"{waited.hopeless or f'not within {waited.seconds:.0f} s'} ({waited.answer})"


def _systemctl(verb: str, *units: str, seconds: float) -> None:
    """Raise FleetError when systemd does not do it."""
    problem = unit_control.act(verb, *units, seconds=seconds + unit_control.MARGIN)
    if problem:
        raise FleetError(problem)


def _last_lines(unit: str) -> list[str]:
    return [f"  | {line}" for line in unit_control.last_words(unit)]
