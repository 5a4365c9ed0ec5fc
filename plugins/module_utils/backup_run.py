# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a backup job on its host: what to back up is compared, copied, encrypted, spooled, and brought to the store.

    lock      one run at a time
    clean     the plaintext of an interrupted run goes, what is complete in the spool is brought to the store
    compare   nothing changed, and the data in the store are young enough: only a manifest that says so
    seal      each part is copied consistently, checked, compressed and encrypted into the spool; its plaintext goes
    spool     the manifest, last: from here on nothing is lost
    ship      the parts, then the manifest

Directories of a job below its home: ``work`` (plaintext, only while a run lasts), ``spool/<id>`` (encrypted), and
``state.json``: ``sequence`` of the last backup, ``last`` (the newest in the store), ``attempt`` (the last run), ``clock_skew_seconds``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_clock as clocks
from ansible_collections.hearth.fleet.plugins.module_utils import backup_files as files
from ansible_collections.hearth.fleet.plugins.module_utils import backup_fingerprint as fingerprints
from ansible_collections.hearth.fleet.plugins.module_utils import backup_manifest as manifests
from ansible_collections.hearth.fleet.plugins.module_utils import backup_names as names
from ansible_collections.hearth.fleet.plugins.module_utils import backup_pipeline as pipeline
from ansible_collections.hearth.fleet.plugins.module_utils import backup_snapshot as snapshots
from ansible_collections.hearth.fleet.plugins.module_utils import journal
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly, want_free
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Store
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text, size_text

STATE = "state.json"
COMMAND_SECONDS = 6 * 3600.0
"""How long a service's own backup command may take."""

_WORK, _SPOOL, _LOCK, _ENTRY, _SENT = "work", "spool", "lock", "entry.json", ".sent"
_OUTPUT = "{output}"
_COMPARED = ("name", "kind", "path", "plain_size", "plain_sha256")
_STORED = ("key", "size", "sha256")


class AlreadyRunning(FleetError):
    """Another run of the same job has not ended."""

    exit_status = os.EX_TEMPFAIL


class Stopped(FleetError):
    """The run was asked to end."""


def run(
    order: Mapping[str, Any],
    home: Path,
    store: Store,
    *,
    skew_seconds: Callable[[], int | None] = lambda: None,
    now: Callable[[], float] = time.time,
    tell: Callable[[str], None] = lambda _said: None,
) -> dict[str, Any]:
    """Make one backup by an order.

    Return its ``id`` (empty: not even a manifest was needed), ``same_as``, ``bytes`` sent, ``seconds``, ``notes`` and what to say.
    ``home`` is the job's directory, ``store`` where backups go, ``skew_seconds`` says by how much the clock of the host is ahead of
    the store's, ``now`` is the host's clock. Raises AlreadyRunning, or FleetError or OSError with what is wrong; then no
    backup was made, and what was complete in the spool is brought to the store by the next run.
    """
    with _locked(home):
        return _Run(order, home, store, skew_seconds, now, tell).attempt()


def read_state(home: Path) -> dict[str, Any]:
    """Return the state of a job as its directory has it, with all keys; of a job that never ran, or whose state is torn, the first one."""
    state: dict[str, Any] = {"sequence": 0, "last": None, "attempt": None, "clock_skew_seconds": None}
    try:
        # A root that looks at an account's directory must not be led elsewhere, nor be kept waiting by a pipe.
        with open(os.open(home / STATE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return state
    return {**state, **found} if isinstance(found, dict) else state


def is_running(home: Path) -> bool:
    """Return whether a run of the job is under way."""
    try:
        with _locked(home, create=False):
            return False
    except AlreadyRunning:
        return True
    except OSError:
        return False


def spooled(home: Path) -> list[str]:
    """Return the identifiers of the backups that are complete, but not in the store yet."""
    return [path.name for path in sorted((home / _SPOOL).glob("*")) if (path / names.MANIFEST).is_file()]


def remove_plaintext(home: Path) -> None:
    """Remove what an interrupted run left in the clear. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(home / _WORK)


@contextlib.contextmanager
def _locked(home: Path, *, create: bool = True) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    file = os.open(home / _LOCK, flags, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(f"{home.name}: the run before has not ended; this one leaves it alone") from None
        yield
    finally:
        os.close(file)


class _Run:
    """One run, with what it knows by now."""

    def __init__(
        self,
        order: Mapping[str, Any],
        home: Path,
        store: Store,
        skew_seconds: Callable[[], int | None],
        now: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self.order, self.home, self.store, self.now, self.tell = order, home, store, now, tell
        self.work, self.spool = home / _WORK, home / _SPOOL
        self.state = read_state(home)
        self.last: Mapping[str, Any] | None = self.state["last"]
        self.notes: list[str] = []
        self._ask_skew = skew_seconds
        self._begun = time.monotonic()

    def attempt(self) -> dict[str, Any]:
        """Run, and note in the state what came of it."""
        self._note_attempt(None, "under way")
        try:
            result = self._run()
        except (FleetError, OSError) as error:
            with contextlib.suppress(OSError):  # a full disk takes no state either, and is what the error says
                self._note_attempt(False, str(error))
            raise
        finally:
            remove_plaintext(self.home)
            self._remove_incomplete()
        self._note_attempt(True, result["said"])
        return result

    def _run(self) -> dict[str, Any]:
        remove_plaintext(self.home)
        self._remove_incomplete()
        self._compare_clocks()
        self._ship_spooled()
        pipeline.want_recipients(self.order["recipients"])
        sizes = [snapshots.size_bytes(database) for database in self.order["databases"]]
        # Before anything is read: what changes from now on is seen by the next run.
        fingerprint = fingerprints.of_data(self.order)
        if self.last and fingerprint and fingerprint == self.last["fingerprint"] and self._is_young():
            return self._unchanged(self.last, self.last["parts"], fingerprint)
        self._want_space(sizes)
        identifier = self._next_identifier()
        with said_plainly(self.home, "for the backup"):
            self.work.mkdir(mode=0o700)
            (self.spool / identifier).mkdir(mode=0o700, parents=True)
        parts = self._seal(identifier)
        remove_plaintext(self.home)
        if self.last and self._holds(parts) and self._is_young():
            shutil.rmtree(self.spool / identifier)
            stored = {part["name"]: part for part in self.last["parts"]}
            return self._unchanged(
                self.last, [{**part, **{key: stored[part["name"]][key] for key in _STORED}} for part in parts], fingerprint, identifier
            )
        return self._finish(identifier, parts, fingerprint, same_as="")

    # Cleaning up

    def _remove_incomplete(self) -> None:
        for directory in self.spool.glob("*"):
            if not (directory / names.MANIFEST).is_file():
                shutil.rmtree(directory)

    def _ship_spooled(self) -> None:
        for identifier in spooled(self.home):
            torn = _torn_part(self.spool / identifier)
            if torn:
                self._remark(f"{identifier} was not in the store yet, and its {torn} is torn, as a power cut leaves files; it is made again")
                shutil.rmtree(self.spool / identifier)
            else:
                self.tell(f"{identifier} was complete, but not in the store; it goes there now")
                self._ship(identifier, again=True)

    def _compare_clocks(self) -> None:
        skew = self._ask_skew()
        self.state["clock_skew_seconds"] = skew
        if skew is not None and abs(skew) > clocks.TOLERABLE_SECONDS:
            self._remark(f"this host's clock is {duration_text(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the store's\n  → see timedatectl")

    def _remark(self, note: str) -> None:
        self.notes.append(note)
        self.tell(note)

    # Comparing

    def _store_time(self) -> float:
        """Return the time by the store's clock, as far as it is known."""
        return self.now() - (self.state["clock_skew_seconds"] or 0)

    def _is_young(self) -> bool:
        """Return whether the last data stay in the store for as long as a backup that refers to them now."""
        if not self.last or self.last["order"] != fingerprints.of_order(self.order):
            return False
        days = self.order["refresh_days"]
        age = self._store_time() - self.last["full_at"]
        return not days or -clocks.TOLERABLE_SECONDS <= age < days * names.DAY_SECONDS

    def _holds(self, parts: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether the last data are of the same content as these parts."""
        old = self.last["parts"] if self.last else []
        return [[part[key] for key in _COMPARED] for part in parts] == [[part[key] for key in _COMPARED] for part in old]

    def _unchanged(self, last: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], fingerprint: str, identifier: str = "") -> dict[str, Any]:
        """Say that nothing changed: in a manifest, and where data are kept for ever, nowhere."""
        data = last["same_as"] or last["id"]
        if not self.order["keep_days"]:
            self.state["last"] = {**last, "fingerprint": fingerprint}
            return self._result("", data, 0, f"unchanged since {last['id']}, which is kept for ever")
        identifier = identifier or self._next_identifier()
        (self.spool / identifier).mkdir(mode=0o700, parents=True)
        return self._finish(identifier, parts, fingerprint, same_as=data)

    def _next_identifier(self) -> str:
        self.state["sequence"] += 1
        self._write_state()
        return names.identifier(self.now(), self.state["sequence"], os.urandom(3).hex())

    # Sealing

    def _want_space(self, databases: Sequence[int]) -> None:
        """Raise SpaceError, with both numbers, unless there is room for the largest snapshot (of these bytes) and all encrypted parts."""
        total = sum(databases) + files.size_bytes(self.order["files"])
        needed = max(databases, default=0) + int(total * self._expected_ratio())
        want_free(self.home, needed, f"for a snapshot and the encrypted backup of {size_text(total)}")

    def _expected_ratio(self) -> float:
        """Return how much smaller the parts become, going by the last time with a reserve; what was never tried may not shrink at all."""
        parts = self.last["parts"] if self.last else []
        plain = sum(part["plain_size"] for part in parts)
        return min(1.0, 1.25 * sum(part["size"] for part in parts) / plain) if plain else 1.0

    def _seal(self, identifier: str) -> list[dict[str, Any]]:
        parts = [self._seal_database(identifier, number, database) for number, database in enumerate(self.order["databases"])]
        if self.order["files"]:
            parts.append(self._seal_files(identifier))
        if self.order["command"]:
            parts.append(self._seal_output(identifier))
        return parts

    def _seal_database(self, identifier: str, number: int, database: Mapping[str, Any]) -> dict[str, Any]:
        snapshot = snapshots.take(database, self.work / f"database-{number}")
        if snapshot.blocking:
            self._remark(
                f"{database['path']} is in rollback-journal mode: writers waited for up to {snapshot.seconds:.1f} s\n"
                "  → PRAGMA journal_mode = WAL, set once, spares them that"
            )
        with snapshots.begin_check(snapshot, database["sentinel"]) as check:
            part = self._seal_part(identifier, names.database_part(number), manifests.DATABASE, database["path"], pipeline.file_feed(snapshot.path))
            answer = check.result()
        snapshots.remove(snapshot.path)
        if part["plain_size"] != snapshot.size:
            raise FleetError(f"{database['path']}: the snapshot has {snapshot.size} bytes, but {part['plain_size']} were encrypted")
        facts = {key: getattr(snapshot, key) for key in ("schema", "tables", "uid", "gid", "mode")}
        return {**part, **facts, "sentinel_query": database["sentinel"], "sentinel": answer}

    def _seal_files(self, identifier: str) -> dict[str, Any]:
        def feed(write: pipeline.Write) -> None:
            for path in files.archive(self.order["files"], write):
                self._remark(f"{path} changed while it was read; the backup has it as it was read")

        return self._seal_part(identifier, names.FILES_PART, manifests.FILES, "/", feed)

    def _seal_output(self, identifier: str) -> dict[str, Any]:
        output = self.work / "output"
        run_command(self.order["command"], output)
        want_free(self.home, int(output.stat().st_size * self._expected_ratio()), "for the encrypted backup")
        return self._seal_part(identifier, names.COMMAND_PART, manifests.COMMAND, "", pipeline.file_feed(output))

    def _seal_part(self, identifier: str, name: str, kind: str, path: str, feed: pipeline.Feed) -> dict[str, Any]:
        sealed = pipeline.seal(feed, self.spool / identifier / name, self.order["recipients"])
        key = names.object_key(self.order["class"], self.order["host"], self.order["service"], identifier, name)
        return {"name": name, "kind": kind, "path": path, "key": key, **sealed._asdict()}

    # Spooling and shipping

    def _finish(self, identifier: str, parts: Sequence[Mapping[str, Any]], fingerprint: str, *, same_as: str) -> dict[str, Any]:
        """Complete a backup in the spool, and bring it to the store."""
        manifest = manifests.build(
            self.order,
            identifier=identifier,
            parts=parts,
            same_as=same_as,
            release=_release(self.order),
            clock_skew_seconds=self.state["clock_skew_seconds"],
        )
        sent = 0 if same_as else sum(part["size"] for part in parts)
        entry = {
            "id": identifier,
            "at": manifest["at"],
            "same_as": same_as,
            "order": fingerprints.of_order(self.order),
            "fingerprint": fingerprint,
            "parts": manifest["parts"],
            "full_at": self.last["full_at"] if same_as and self.last else self._store_time(),
            "bytes": sent,
            "stored": sum(part["size"] for part in parts),
        }
        directory = self.spool / identifier
        with said_plainly(self.home, "for the manifest"):
            journal.write_whole(directory / _ENTRY, json.dumps(entry).encode(), durable=True)
            journal.write_whole(directory / names.MANIFEST, manifests.text(manifest).encode(), durable=True)
            journal.sync_directory(self.spool)
        self._ship(identifier, again=False)
        said = f"unchanged, the same as {same_as}" if same_as else f"{size_text(sent)} in the store"
        return self._result(identifier, same_as, sent, said)

    def _ship(self, identifier: str, *, again: bool) -> None:
        """Bring a complete backup from the spool to the store: the parts, then the manifest. Raises StoreError; then it stays in the spool."""
        directory = self.spool / identifier
        text = (directory / names.MANIFEST).read_bytes()
        manifest = manifests.parse(text)
        for part in () if manifest["same_as"] else manifest["parts"]:
            self._ship_part(directory / part["name"], part, again=again)
        self.store.put(directory / names.MANIFEST, manifests.key_of(manifest), again=again)
        self.last = json.loads((directory / _ENTRY).read_text(encoding="utf-8"))
        self.state["last"] = self.last
        self._write_state()
        shutil.rmtree(directory)

    def _ship_part(self, file: Path, part: Mapping[str, Any], *, again: bool) -> None:
        sent = file.with_name(file.name + _SENT)
        if not sent.exists():
            if not self.store.put(file, part["key"], again=again):
                self._remark(f"{part['key']} was in the store already")
            sent.touch()
            journal.sync_directory(file.parent)
        file.unlink(missing_ok=True)

    # What came of it

    def _result(self, identifier: str, same_as: str, sent: int, said: str) -> dict[str, Any]:
        return {
            "job": self.home.name,
            "id": identifier,
            "same_as": same_as,
            "bytes": sent,
            "seconds": round(time.monotonic() - self._begun, 2),
            "clock_skew_seconds": self.state["clock_skew_seconds"],
            "notes": self.notes,
            "said": said,
        }

    def _note_attempt(self, ok: bool | None, said: str) -> None:
        seconds = round(time.monotonic() - self._begun, 2)
        self.state["attempt"] = {"at": self.now(), "ok": ok, "seconds": seconds, "said": said, "notes": self.notes}
        if ok:
            self.state["success_at"] = self.now()
        self._write_state()

    def _write_state(self) -> None:
        journal.write_whole(self.home / STATE, json.dumps(self.state, ensure_ascii=False).encode(), durable=True)


def _torn_part(directory: Path) -> str:
    """Return the name of a part in the spool that is not as its manifest says; empty where all are."""
    manifest = manifests.parse((directory / names.MANIFEST).read_bytes())
    for part in () if manifest["same_as"] else manifest["parts"]:
        file = directory / part["name"]
        if not file.with_name(file.name + _SENT).exists() and not (file.is_file() and pipeline.sha256_of(file) == part["sha256"]):
            return str(part["name"])
    return ""


def _release(order: Mapping[str, Any]) -> str:
    """Return which release of the service is current; empty where there is none."""
    try:
        return os.path.basename(os.readlink(os.path.join(order["release_home"], "current")))
    except OSError:
        return ""


def run_command(command: Sequence[str], output: Path, seconds: float = COMMAND_SECONDS) -> None:
    """Let a service's own backup command write ``output``. What it says goes to this process's output. Raises FleetError."""
    words = [str(word).replace(_OUTPUT, str(output)) for word in command]
    environment = {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"}
    try:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with  # in a session of its own, to be ended as a whole
            words, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    except OSError as error:
        raise FleetError(f"{words[0]} cannot be run: {error.strerror}\n  → correct backup.command") from None
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise FleetError(f"{words[0]} took more than {duration_text(int(seconds))} and was given up") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code != 0:
        raise FleetError(f"{words[0]} ended with status {code}, so there is no backup; what it said is above")
    if output.is_symlink() or not output.is_file() or not output.stat().st_size:
        raise FleetError(f"{words[0]} ended well, but wrote nothing to {_OUTPUT}\n  → it must write one file there; correct backup.command")
