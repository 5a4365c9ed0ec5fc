# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill: the newest backup of every set, and older ones at random, back from the store to a daemon that runs on them.

Each backup goes the way of a restore, through the same functions: fetched, compared, decrypted, unpacked, checked. Then the
daemon itself is started on it in a sandbox (``drill_sandbox``), and must be ready and still give the sentinel's answer. What must
be refused is tried as well, on the same objects: a drill that would take anything proves nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils import (
    backup_catalogue,
    backup_manifest,
    cold_copy,
    drill_negative,
    drill_report,
    drill_sandbox,
    object_store,
    programs,
    restore_stage,
    restore_stream,
)
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import want_free
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Store
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import since_text

ALL = "v1/"
_PIECE_BYTES = 1 << 20
_DOWNLOADS = 3
_KEYGEN_SECONDS = 60

Order = Mapping[str, Any]
Tell = Callable[[str], None]


class Place(NamedTuple):
    """Where a drill works, with which identity, and as which account daemons run."""

    home: Path
    identity: Path
    account: str = drill_sandbox.ACCOUNT

    @property
    def work(self) -> Path:
        """Return the directory of what is restored; it is gone when a drill has ended."""
        return self.home / "work"


class Restored(NamedTuple):
    """Restored data: the root directory in which they lie, the sentinels' answers by path of a database, and what was seen."""

    root: Path
    answers: Mapping[str, str | None]
    said: list[str]


class Fetched(Store):
    """Objects that were fetched already, by key; whoever reads them does not notice."""

    def __init__(self, store: Store, files: Mapping[str, Path]) -> None:
        super().__init__(store.conf, store.bucket, store.prefix, store.ca)
        self.files = files

    @contextlib.contextmanager
    def reader(self, key: str, limit: int = -1) -> Iterator[IO[bytes]]:
        """Give an object's content as a stream."""
        del limit
        with self.files[key].open("rb") as file:
            yield file


def perform(orders: Sequence[Order], settings: Mapping[str, Any], store: Store, place: Place, former: Any, tell: Tell) -> dict[str, Any]:
    """Drill all orders, and return the report (``drill_report``). ``former`` is the report before. Raises FleetError while another drill runs."""
    with _alone(place):
        tidy(place)
        began = time.time()
        try:
            entries = backup_catalogue.listing(store.list(ALL))
            rows = [_drill(order, settings, entries, store, place, tell) for order in orders]
        except FleetError as error:
            rows = [_row(order, problems=[str(error)]) for order in orders]
        finally:
            tidy(place)
    ended = time.time()
    return {
        "began": began,
        "ended": ended,
        "ok": all(row["ok"] for row in rows),
        "rows": drill_report.with_successes(rows, former, ended),
    }


def tidy(place: Place) -> None:
    """Stop what runs in the sandbox, and remove what lies there in the clear."""
    drill_sandbox.stop()
    if place.work.exists():
        shutil.rmtree(place.work)


def is_running(place: Place) -> bool:
    """Return whether a drill is under way."""
    try:
        with _alone(place):
            return False
    except FleetError:
        return True


@contextlib.contextmanager
def _alone(place: Place) -> Iterator[None]:
    with open(place.home / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FleetError("a drill is under way already\n  → hearthctl drill status shows what came of it") from None
        yield


def _row(order: Order, **more: Any) -> dict[str, Any]:
    row = {"id": "", "older": [], "rpo": None, "rto": None, "started": False, "said": [], "problems": [], **more}
    return {**{key: order[key] for key in ("host", "service", "set", "max_age")}, **row, "ok": not row["problems"]}


def _drill(order: Order, settings: Mapping[str, Any], entries: backup_catalogue.Listing, store: Store, place: Place, tell: Tell) -> dict[str, Any]:
    """Drill the newest backup of a set, and older ones; return its row."""
    name = f"{order['service']}.{order['set']} of {order['host']}"
    found = {one.id: one for one in reversed(backup_catalogue.read(entries)) if one.job == drill_report.job_of(order)}
    if not found:
        return _row(order, problems=["there is no backup of it in the store"])
    newest, *others = reversed(found.values())
    age = max(0, int(time.time() - newest.at))
    late = f"the newest backup is {since_text(age)} old, wanted is at most {since_text(order['max_age'])}"
    row: dict[str, Any] = {
        "id": newest.id,
        "older": [],
        "rpo": age,
        "said": [],
        "problems": [late] if order["max_age"] and age > order["max_age"] else [],
    }
    for backup in (newest, *_older(others, settings["older"], entries, store, place)):
        tell(f"{name}: {backup}")
        try:
            seconds, said = _prove(order, backup, entries, store, place, thoroughly=backup is newest)
        except (FleetError, OSError) as error:
            row["problems"].append(f"{backup.id}: {error}")
            tell(f"{name}: FAILED: {error}")
            continue
        tell(f"{name}: {'; '.join(said)} ({seconds:.1f} s)")
        if backup is newest:
            row.update(rto=round(seconds, 3), started=order["start"], said=said)
        else:
            row["older"].append(backup.id)
    row["said"] = [*row["said"], *([f"and {len(row['older'])} older"] if row["older"] else [])]
    return _row(order, **row)


def _older(
    others: Sequence[backup_catalogue.Backup], count: int, entries: backup_catalogue.Listing, store: Store, place: Place
) -> Iterator[backup_catalogue.Backup]:
    """Yield older backups at random, but for those that were made before there was a runner who could open them."""
    mine = _recipient_of(place.identity) if others and count else ""
    for backup in secrets.SystemRandom().sample(others, len(others)):
        if not count:
            return
        with contextlib.suppress(FleetError):  # what is wrong with it is said by whoever tries to restore it
            if mine and mine not in manifest_of(backup, entries, store)["recipients"]:
                continue
        count -= 1
        yield backup


def _recipient_of(identity: Path) -> str:
    """Return the recipient of an identity; empty where age cannot tell it, as of an SSH key."""
    said = _age_keygen("-y", str(identity))
    return said.output.split()[0] if said.status == 0 and said.output else ""


def _prove(
    order: Order, backup: backup_catalogue.Backup, entries: backup_catalogue.Listing, store: Store, place: Place, *, thoroughly: bool
) -> tuple[float, list[str]]:
    """Bring a backup back; return after how many seconds it served, and what was seen.

    ``thoroughly``: try what must be refused, too. Raises FleetError or OSError unless all of it is as it must be.
    """
    began = time.monotonic()
    tidy(place)
    place.work.mkdir(mode=0o700)
    try:
        manifest = manifest_of(backup, entries, store)
        fetched = fetch(manifest, store, place)
        restored = stage(order, manifest, fetched, place)
        said = [*restored.said]
        if order["start"]:
            said.append(_start(order, restored, place))
        seconds = time.monotonic() - began
        if thoroughly:
            said.append(_refusals(order, manifest, fetched, place))
    finally:
        tidy(place)
    return seconds, said


# From the store


def manifest_of(backup: backup_catalogue.Backup, entries: backup_catalogue.Listing, store: Store) -> dict[str, Any]:
    """Return the manifest of a backup. Raises FleetError unless it is that of this backup, and its parts are there."""
    manifest = backup_manifest.parse(store.cat(backup.key, backup_manifest.MAX_BYTES))
    said = [*filter(None, [backup_catalogue.mismatch(manifest, backup)]), *backup_catalogue.part_problems(manifest, entries)]
    if said:
        raise FleetError("; ".join(said))
    return manifest


def fetch(manifest: Mapping[str, Any], store: Store, place: Place) -> Fetched:
    """Fetch the objects of a backup. Raises FleetError or OSError."""
    parts = manifest["parts"]
    want_free(place.work, sum(2 * part["size"] + part["plain_size"] for part in parts), "for the drill of a backup")
    objects = place.work / "objects"
    objects.mkdir()
    files = {}
    for number, part in enumerate(parts):
        files[part["key"]] = objects / str(number)
        _download(store, part["key"], files[part["key"]])
    return Fetched(store, files)


def _download(store: Store, key: str, file: Path) -> None:
    for left in reversed(range(_DOWNLOADS)):
        try:
            store.get(key, file)
        except object_store.StoreError as error:
            if error.kind != object_store.UNREACHABLE or not left:
                raise
        else:
            return


def open_part(fetched: Store, manifest: Mapping[str, Any], part: Mapping[str, Any], identity: Path, target: Path) -> None:
    """Decrypt a part into a file, still compressed. Raises FleetError unless all of it is what the manifest says; then there is no file."""
    try:
        with restore_stage.created(target) as file:
            for piece in restore_stream.pieces(fetched, manifest, part, [str(identity)], "", _PIECE_BYTES):
                file.write(piece)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


# Into the sandbox


def stage(order: Order, manifest: Mapping[str, Any], fetched: Store, place: Place) -> Restored:
    """Unpack and check a backup in the root directory of its sandbox. Raises FleetError or OSError."""
    root, received = place.work / "root", place.work / "received"
    received.mkdir()
    drill_sandbox.make_root(root, order)
    owner = restore_stage.Owner(place.account, place.account)
    answers: dict[str, str | None] = {}
    said = []
    for part in sorted(manifest["parts"], key=lambda one: one["kind"] != backup_manifest.FILES):  # databases go into directories of files
        file = received / part["name"]
        open_part(fetched, manifest, part, place.identity, file)
        if part["kind"] == backup_manifest.FILES:
            said.append(_stage_files(order, part, file, root, owner))
        elif part["kind"] == backup_manifest.DATABASE:
            database = _database(order, part)
            target = _target(root, database["path"])
            said.append(restore_stage.stage_database(file, part, target, owner, database["sentinel"]))
            answers[part["path"]] = part["sentinel"] if database["sentinel"] == part["sentinel_query"] else None
        else:
            with restore_stage.Unpacked(file) as plain:
                plain.verify(part)
            said.append(f"{plain.size} bytes of the service's own backup command, whole")
        file.unlink()
    return Restored(root, answers, said)


def _stage_files(order: Order, part: Mapping[str, Any], received: Path, root: Path, owner: restore_stage.Owner) -> str:
    targets = [_target(root, path) for path in order["files"]]
    if not targets:
        raise FleetError(f"{part['name']} has files, but this set has none in the inventory")
    found = restore_stage.stage_files(received, part, targets, owner)
    restore_stage.leave_out(found, [*(one["path"] for one in order["databases"]), *order["other_databases"]])
    return f"{len(found)} of {len(targets)} paths"


def _target(root: Path, path: str) -> restore_stage.Target:
    staged = drill_sandbox.inside(root, path)
    staged.parent.mkdir(parents=True, exist_ok=True)
    return restore_stage.Target(Path(path), staged, staged)


def _database(order: Order, part: Mapping[str, Any]) -> Mapping[str, Any]:
    for one in order["databases"]:
        if one["path"] == part["path"]:
            return one  # type: ignore[no-any-return]  # plain data
    raise FleetError(f"{part['name']} is {part['path']}, which is no database of this set in the inventory")


# The daemon


def _start(order: Order, restored: Restored, place: Place) -> str:
    """Start the daemon on restored data, wait until it is ready, ask its databases again; return what was seen. Raises FleetError."""
    for path in restored.answers:
        want_alone(drill_sandbox.inside(restored.root, path))
    made_up = {name: secrets.token_hex(16) for name in order["secrets"]}
    left_out = _leave_identity_out(order, restored.root)
    _write_config(order, restored.root, made_up)
    _give_to_the_account(order, restored.root, place.account)
    bootstrap = [one for one in order["bootstrap"] if not os.path.lexists(drill_sandbox.inside(restored.root, one["creates"]))]
    unseen = ["/etc/hearth", "/var/lib/hearth", *(one["creates"] for one in bootstrap)]
    began = time.time()
    try:
        drill_sandbox.start(drill_sandbox.command(restored.root, order, made_up, bootstrap, unseen), order)
        waited = drill_sandbox.wait_ready(order, made_up)
        if not waited.ready:
            lines = [f"{order['service']} is not ready on the restored data: {waited.answer}", *drill_sandbox.last_lines(began)]
            raise FleetError("\n".join(lines))
        seconds = time.time() - began
        for path, before in restored.answers.items():
            query = next(one["sentinel"] for one in order["databases"] if one["path"] == path)
            want_answer(path, query, before, sentinel_of(drill_sandbox.inside(restored.root, path), query))
    finally:
        drill_sandbox.stop()
    without = f", without {', '.join(left_out)}" if left_out else ""
    return f"{order['service']} {order['release']['version']} ready after {seconds:.1f} s{without}"


def want_alone(database: Path) -> None:
    """Raise FleetError where something stands beside a restored database that SQLite would take for a part of it."""
    beside = [path.name for path in restore_stage.contents(database) if path != database]
    if beside:
        raise FleetError(f"beside the restored {database.name} there is {', '.join(beside)}, of which nobody knows what it would do to it")


def _leave_identity_out(order: Order, root: Path) -> list[str]:
    """Remove what ``bootstrap`` makes from restored data: it is the service's identity, and no second node must have it."""
    found = []
    for one in order["bootstrap"]:
        path = drill_sandbox.inside(root, one["creates"])
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
        else:
            continue
        found.append(one["creates"])
    return found


def _write_config(order: Order, root: Path, made_up: Mapping[str, str]) -> None:
    """Write the rendered config, and made-up secrets where requests look for them."""
    texts = {one["path"]: (one["content"], int(one["mode"], 8)) for one in order["config"]}
    for path in sorted({one["path"] for one in order["secrets"].values()}):
        here = {name: value for name, value in made_up.items() if order["secrets"][name]["path"] == path}
        variables = any(order["secrets"][name]["as"] == "environment" for name in here)
        texts[path] = ("".join(f"{name}={value}\n" if variables else value for name, value in here.items()), 0o600)
    for path, (text, mode) in texts.items():
        file = drill_sandbox.inside(root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        with restore_stage.created(file) as target:
            target.write(text.encode())
            os.fchmod(target.fileno(), mode & 0o777)


def _give_to_the_account(order: Order, root: Path, account: str) -> None:
    """Make everything that was restored or rendered the account's, under which all daemons of drills run."""
    uid, gid = restore_stage.Owner(account, account).ids()
    tops = [*order["directories"], *order["files"], *(one["path"] for one in (*order["databases"], *order["config"]))]
    for top in tops:
        path = drill_sandbox.inside(root, top)
        below = [Path(parent, name) for parent, folders, files in os.walk(path) for name in (*folders, *files)]
        for one in (path, *below):
            if os.path.lexists(one):
                os.chown(one, uid, gid, follow_symlinks=False)


def sentinel_of(database: Path, query: str) -> str | None:
    """Return the answer to a sentinel, while the daemon may be writing; None without a query. Raises FleetError."""
    if not query:
        return None
    try:
        with closing(cold_copy.open_to_read(database)) as connection:
            row = connection.execute(query).fetchone()
    except sqlite3.Error as error:
        raise FleetError(f"{database.name} does not answer {query!r} any more, now that the daemon has it: {error}") from None
    return None if row is None or row[0] is None else str(row[0])


def want_answer(path: str, query: str, before: str | None, after: str | None) -> None:
    """Raise FleetError where a daemon has lost data: no answer any more, or a smaller number. It may well have written some."""
    if before is None:
        return
    lost = after is None
    with contextlib.suppress(TypeError, ValueError):
        lost = float(after) < float(before)  # type: ignore[arg-type]  # None is none of these
    if lost:
        raise FleetError(f"once the daemon has started, {path} answers {after!r} to {query!r}; it was {before!r}")


# What must be refused


def _refusals(order: Order, manifest: Mapping[str, Any], fetched: Fetched, place: Place) -> str:
    """Try what must be refused; return how much was. Raises FleetError for what was taken."""
    part = min(manifest["parts"], key=lambda one: one["size"])
    room = place.work / "negative"
    room.mkdir()
    wrong = room / "identity"
    _make_identity(wrong)

    def opened(objects: Mapping[str, Path], about: Mapping[str, Any], identity: Path) -> None:
        open_part(Fetched(fetched, objects), manifest, about, identity, room / "opened")

    tries = drill_negative.of_object(fetched.files[part["key"]], part, room, opened, place.identity, wrong)
    if order["databases"]:
        tries.append(drill_negative.stale_wal(room, want_alone))
    for one in tries:
        drill_negative.want_refusal(one)
    return f"refused: {', '.join(one.name for one in tries)}"


def _make_identity(file: Path) -> None:
    said = _age_keygen("-o", str(file))
    if said.status:
        raise FleetError(f"no other identity can be made, to see that it is refused: {said.why}")


def _age_keygen(*words: str) -> programs.Said:
    """Return what age-keygen says; where it does not run, that is an error, and not an identity without a recipient."""
    said = programs.run(["age-keygen", *words], seconds=_KEYGEN_SECONDS)
    if not said.ended:
        raise FleetError(said.error)
    return said
