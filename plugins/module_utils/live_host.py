# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host of a transaction as it really is: systemd, files, links, databases and probes (see ``transaction.Host``).

Below a transaction's directory:

    new/<name>     candidate files, named by the order
    old/<n>        what they replace, and all else that the service read when it started; ``old.json`` says which is which
    old/previous   the version that ran before the old one, empty for none
    before/<n>     copies of the databases made while the service ran
    cold/<n>       copies of the databases made while it was stopped
    aside/<n>      databases that a rollback replaced
    evidence/      what was seen of a failure
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pwd
import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import analysis as analyses
from ansible_collections.hearth.fleet.plugins.module_utils import (
    cold_copy,
    journal,
    programs,
    releases,
    staging,
    transaction,
    unit_control,
    unit_marks,
    units,
)
from ansible_collections.hearth.fleet.plugins.module_utils import probe as probes
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly, want_free

DIRECTORIES = ("new", "old", "before", "cold", "aside", "evidence")
OLD_FILES = "old.json"
PREVIOUS = "previous"
_FACTS = "facts.json"  # written last

_BACKUP_SECONDS = 3600
_EVIDENCE_SECONDS = 10
_EVIDENCE_LINES = 5000


class LiveHost:
    """Does what the engine decides, for one order. ``directory`` is the transaction's own."""

    def __init__(self, order: Mapping[str, Any], directory: Path) -> None:
        self._order = order
        self._directory = directory
        self._databases = [Path(one["path"]) for one in order["databases"]]

    # Time and questions

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since the boot."""
        return time.monotonic()

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
        time.sleep(seconds)

    def unit(self) -> probes.UnitState:
        """Return what systemd says of the service's unit."""
        return probes.unit_state(self._order["unit"])

    def ask(self, request: Any, *, timeout: float = probes.ATTEMPT_SECONDS) -> probes.Answer:
        """Ask a probe; a command runs as the service does (``service_process``), a signal goes to the service's main process."""
        if isinstance(request, Mapping) and "signal" in request:
            return self._signal(str(request["signal"]), timeout)
        try:
            return probes.probe_once(probes.as_service(request, self._order["unit"], self._order["user"]), timeout=timeout)
        except FleetError as error:
            return probes.Answer(False, str(error))

    def _signal(self, name: str, timeout: float) -> probes.Answer:
        # Older systemd calls it --kill-who, and newer ones still understand that.
        code, said = _run(["systemctl", "kill", "--kill-who=main", f"--signal={name}", "--", self._order["unit"]], timeout)
        return probes.Answer(code == 0, "sent" if code == 0 else _first_line(said) or f"exit status {code}")

    def measure(self, analysis: Mapping[str, Any]) -> analyses.Measurement:
        """Ask Prometheus once."""
        return analyses.measure(analysis)

    def running_release(self) -> str:
        """Return the version that the service was started from, by its stamp; empty if there is none."""
        release = (self._stamp() or {}).get("release", units.NOTHING)
        return Path(release).name if release.startswith(f"{self._order['home']}/releases/") else ""

    def schemas(self) -> list[str]:
        """Return the schema of each database."""
        return [cold_copy.schema(database) for database in self._databases]

    # Before anything changes

    def back_up(self) -> str:
        """Check that all is there, keep what runs, and copy what may be lost. Raises FleetError, BackupError for the copies."""
        order, directory = self._order, self._directory
        self._check_candidates()
        if order["to"] and not (Path(order["home"]) / "releases" / order["to"] / releases.MANIFEST).is_file():
            raise FleetError(f"release {order['to']} is not installed in {order['home']}/releases")
        for name in DIRECTORIES:
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        with said_plainly(directory, "to keep what runs now"):
            journal.set_ballast(directory)
            notes = self._keep_old()
        if not transaction.may_migrate(order):
            return "; ".join(notes) or "kept what runs now"
        try:
            return "; ".join([*notes, *self._copy_running_databases(), *self._run_backup_command()]) or "kept what runs now"
        except (FleetError, OSError) as error:
            raise transaction.BackupError(f"the pre-upgrade backup failed: {error}") from error

    def _check_candidates(self) -> None:
        for file in self._order["files"]:
            if file.get("new") is not None and _digest(self._directory / "new" / file["new"]) != file["sha256"]:
                raise FleetError(f"the new {file['path']} did not arrive whole; prepare the transaction again")
        if self._order["restore_from"]:
            for number, database in enumerate(self._databases):
                if not (self._restored_from(number)).is_file():
                    raise FleetError(f"transaction {self._order['restore_from']} has no copy of {database}")

    def _restored_from(self, number: int) -> Path:
        return self._directory.parent / str(self._order["restore_from"]) / "cold" / str(number)

    def _stamp(self) -> dict[str, Any] | None:
        try:
            return units.parse_stamp(Path(units.STAMPS, f"{self._order['service']}.started").read_text(encoding="utf-8", errors="surrogateescape"))
        except OSError:
            return None

    def _keep_old(self) -> list[str]:
        """Copy the files as the service has read them, even those that have changed on the disk since. Return what could not be had."""
        order, old = self._order, self._directory / "old"
        stamped = (self._stamp() or {}).get("files", {})
        kept, notes = [], []
        for number, path in enumerate(dict.fromkeys([*order["running"], *(file["path"] for file in order["files"])])):
            present = _digest(Path(path))
            wanted = stamped.get(path, present)
            source = Path(path)
            if wanted != present:
                source = Path(units.STAMPS, f"{order['service']}.files", wanted)
                if wanted != units.NOTHING and _digest(source) != wanted:
                    notes.append(f"{path} changed since the service started, and nobody has its old content")
                    source, wanted = Path(path), present
            name = None if wanted == units.NOTHING else str(number)
            if name is not None:
                cold_copy.copy_file(source, old / name, durable=True)
            kept.append({"path": path, "name": name})
        before = releases.read_version(Path(order["home"]) / PREVIOUS)
        journal.write_whole(old / PREVIOUS, before.encode(), durable=True)
        journal.sync_directory(old)
        journal.write_whole(self._directory / OLD_FILES, json.dumps(kept).encode(), durable=True)
        return notes

    def _copy_running_databases(self) -> list[str]:
        directory = self._directory / "before"
        needed = 3 * cold_copy.size_bytes(self._databases)
        if needed:
            want_free(directory, needed, "for two copies of the databases, and to put one back")
        return [
            f"copied {database}" if cold_copy.snapshot(database, directory / str(number)) else f"there is no {database} yet"
            for number, database in enumerate(self._databases)
        ]

    def _run_backup_command(self) -> list[str]:
        """Run the service's own backup command as the service, and keep the file that it writes."""
        command = self._order["backup"]["command"]
        if not command:
            return []
        account = pwd.getpwnam(self._order["user"])
        with tempfile.TemporaryDirectory(prefix="hearth-backup-", dir="/var/tmp") as scratch:
            os.chown(scratch, account.pw_uid, account.pw_gid)
            output = Path(scratch, "output")
            words = [str(word).replace("{output}", str(output)) for word in command]
            where = f"fleet_services.{self._order['service']}.backup.command"
            answer = self.ask({"command": words, "where": where}, timeout=_BACKUP_SECONDS)
            if not answer.ok:
                raise FleetError(f"{shlex.join(map(str, command))}: {answer.said}")
            written = any("{output}" in str(word) for word in command)
            if written and not output.is_file():
                raise FleetError(f"{shlex.join(map(str, command))}: succeeded, but wrote no {{output}}")
            if written:
                cold_copy.copy_file(output, self._directory / "before" / "command", durable=True)
        return [f"ran {command[0]}"]

    # Changing

    def stop(self) -> float:
        """Stop the service and wait for it; return when that began. Raises FleetError."""
        # Earlier starts count towards the start limit, and could make systemd refuse the start that matters.
        unit_control.forget_failures(self._order["unit"])
        at = time.time()
        problem = unit_control.act("stop", self._order["unit"], seconds=self._order["stop_timeout"] + unit_control.MARGIN)
        if problem:
            raise FleetError(f"it cannot be stopped: {problem}")
        return at

    def copy_databases(self) -> str:
        """Copy the databases cold, and flush the copies: the new release may change what they are copies of."""
        began = time.monotonic()
        how = {cold_copy.copy_cold(database, self._directory / "cold" / str(number), durable=True) for number, database in enumerate(self._databases)}
        return f"copied in {time.monotonic() - began:.2f} s ({', '.join(sorted(filter(None, how))) or 'there is none yet'})"

    def switch_forward(self) -> str:
        """Put the new files in place, then the release, so that what is current is never without its config."""
        order, new = self._order, self._directory / "new"
        changed = [
            file["path"]
            for file in order["files"]
            if (_remove(Path(file["path"])) if file.get("new") is None else _install(new / file["new"], Path(file["path"]), _ownership(file)))
        ]
        if order["restore_from"]:
            for number, database in enumerate(self._databases):
                cold_copy.put_back(self._restored_from(number), database)
        return self._switch(str(order["to"]), changed)

    def switch_back(self) -> str:
        """Put back what ``old`` holds, then the old release."""
        (self._directory / journal.BALLAST).unlink(missing_ok=True)  # from here on, its room has no better use
        old = self._directory / "old"
        changed = []
        for kept in old_files(self._directory):
            path = Path(kept["path"])
            if kept["name"] is None:
                replaced = _remove(path)
            else:
                found = (old / kept["name"]).stat()
                replaced = _install(old / kept["name"], path, (found.st_uid, found.st_gid, found.st_mode & 0o7777))
            if replaced:
                changed.append(kept["path"])
        said = self._switch(str(self._order["from"]), changed)
        self._put_previous_back()
        return said

    def _put_previous_back(self) -> None:
        """Let ``previous`` name what it named before, or a later rollback would lead to the release that has just failed."""
        home = Path(self._order["home"])
        before = (self._directory / "old" / PREVIOUS).read_text(encoding="utf-8")
        if before and (home / "releases" / before).is_dir():
            staging.replace_link(home / PREVIOUS, f"releases/{before}")
        else:
            _remove(home / PREVIOUS)

    def _switch(self, version: str, changed: Sequence[str]) -> str:
        if version:
            staging.switch(Path(self._order["home"]), version)
        if any(path.startswith(f"{unit_marks.UNITS}/") for path in changed):
            problem = unit_control.act("daemon-reload")
            if problem:
                raise FleetError(f"systemd cannot read its units again: {problem}")
        return ", ".join([*([f"current is {version}"] if version else []), *changed])

    def start(self) -> transaction.Starting:
        """Ask systemd to start the service, and do not wait for it."""
        return _Job("start", self._order["unit"])

    def stopped_along(self) -> list[str]:
        """Return the units that run and that systemd stops together with the service. Raises FleetError."""
        return unit_control.stopped_along(self._order["unit"])

    def start_along(self, units: Sequence[str]) -> None:
        """Ask systemd to start these units again, and do not wait for it. Raises FleetError."""
        problem = unit_control.act("start", *units, wait=False)
        if problem:
            raise FleetError(f"what stopped with it cannot be started again: {problem}")

    def not_running(self, units: Sequence[str]) -> list[str]:
        """Return those of these units that do not run. Raises FleetError."""
        return unit_control.not_running(units)

    def reload(self) -> transaction.Starting:
        """Ask systemd to reload the service, and do not wait for it."""
        return _Job("reload", self._order["unit"])

    def restore_databases(self) -> str:
        """Put the databases aside as they are, and the cold copies back."""
        for number, database in enumerate(self._databases):
            cold_copy.put_aside(database, self._directory / "aside" / str(number))
            cold_copy.put_back(self._directory / "cold" / str(number), database)
        return f"the databases are back as they were before the switch; what they had become is in {self._directory / 'aside'}"

    # Afterwards

    def keep_evidence(self, facts: Mapping[str, Any]) -> str:
        """Keep the unit's log since the transaction began, its state, and what it answers now; return where."""
        directory = self._directory / "evidence"
        directory.mkdir(mode=0o700, exist_ok=True)
        if (directory / _FACTS).exists():
            return str(directory)  # what was seen first is what matters
        unit = self._order["unit"]
        since = facts.get("stopped_at") or (self._directory / "order.json").stat().st_mtime
        log = unit_control.last_words(unit, since=since, lines=_EVIDENCE_LINES, style="short-iso-precise")
        texts = {
            "unit.journal": "".join(f"{line}\n" for line in log),
            "unit.status": _run(["systemctl", "status", "--no-pager", "--full", "--lines=0", "--", unit], _EVIDENCE_SECONDS)[1],
            "probes.txt": "".join(self._answers()),
            _FACTS: json.dumps(facts, indent=1) + "\n",
        }
        for name, text in texts.items():
            journal.write_whole(directory / name, text.encode(errors="replace"), durable=False)
        return str(directory)

    def _answers(self) -> list[str]:
        health = self._order["health"]
        asked = [(name, health[name]) for name in ("ready", "live", "version") if health[name]]
        return [f"{name}: {probes.describe(request)}: {self.ask(request, timeout=2).said}\n" for name, request in asked]

    def settle(self, *, waits: bool) -> None:
        """Let the next transaction have the service, unless this one waits for a person."""
        (self._directory / journal.BALLAST).unlink(missing_ok=True)
        active = self._directory.parent / "active"
        if not waits and active.is_symlink() and str(active.readlink()) == self._directory.name:
            active.unlink()


def old_files(directory: Path) -> list[dict[str, Any]]:
    """Return what a transaction kept: for each ``path`` its ``name`` below ``old/``, None where there was no such file."""
    try:
        found: list[dict[str, Any]] = json.loads((directory / OLD_FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FleetError(f"{directory / OLD_FILES} cannot be read: {error}") from None
    return found


class _Job:
    """A start or reload that ``systemctl`` waits for."""

    def __init__(self, verb: str, unit: str) -> None:
        self._what = f"systemctl {verb} {unit}"
        self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # no module here, and nobody waits
            ["systemctl", "--no-ask-password", verb, "--", unit],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._problem: str | None = None

    def problem(self) -> str | None:
        """Return None while it is being done, else what went wrong (empty: nothing)."""
        if self._problem is None and self._process.poll() is not None:
            _nothing, said = self._process.communicate()
            failed = self._process.returncode != 0
            self._problem = f"{self._what}: {_first_line(said) or f'exit status {self._process.returncode}'}" if failed else ""
        return self._problem


def _run(command: Sequence[str], seconds: float) -> tuple[int, str]:
    """Run a program for at most so many seconds; return its exit status and what it said. One that cannot run has failed."""
    said = programs.run(command, seconds=seconds, together=True)
    return said.status, said.output or said.error


def _first_line(said: str) -> str:
    return next((line.strip() for line in said.splitlines() if line.strip()), "")


def _digest(path: Path) -> str:
    """Return a regular file's SHA-256 in hex, following links; NOTHING for what is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else units.NOTHING
    except OSError:
        return units.NOTHING


def _ownership(file: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return uid, gid and mode of an order's file; accounts may be numbers. Raises FleetError for one that is not there."""
    owner, group = str(file["owner"]), str(file["group"])
    try:
        uid = int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
        gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise FleetError(f"{file['path']}: there is no account {error}") from None
    return uid, gid, int(file["mode"], 8)


def _install(source: Path, path: Path, ownership: tuple[int, int, int]) -> bool:
    """Replace ``path`` by a copy of ``source`` in one step; return whether it was anything else before. Raises FleetError or OSError.

    What is a link becomes a file: nothing is ever written through it.
    """
    uid, gid, mode = ownership
    content = source.read_bytes()
    with contextlib.suppress(OSError):
        found = path.lstat()
        same_owner = (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (uid, gid, mode)
        if same_owner and not path.is_symlink() and path.is_file() and path.read_bytes() == content:
            return False
    with said_plainly(path.parent, f"for {path}"):
        # The same ending as the file's own: some programs read whole directories of *.conf.
        handle, name = tempfile.mkstemp(prefix=".hearth-", suffix=f"~{path.name}", dir=path.parent)
        temporary = Path(name)
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fchown(file.fileno(), uid, gid)
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        journal.sync_directory(path.parent)
    return True


def _remove(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    path.unlink()
    journal.sync_directory(path.parent)
    return True
