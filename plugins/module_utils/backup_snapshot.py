# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consistent snapshots of SQLite databases for backups: in one step, within a deadline, and checked while they are encrypted.

A copy in parts would begin again whenever somebody writes, so under a steady writer never end. In one step, writers in WAL mode
go on; in rollback-journal mode they wait as long as it takes, which is said.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ansible_collections.hearth.fleet.plugins.module_utils import cold_copy
from ansible_collections.hearth.fleet.plugins.module_utils.bounded_child import BoundedChild
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly

SECONDS = 60.0
"""How long a snapshot or its check may take, besides what its size makes of it."""

BYTES_PER_SECOND = 10 << 20
"""A disk that is slower than this is no disk to back up from."""

_JOURNAL_MODE = slice(18, 20)  # write and read version in the header of the file: 1 rollback journal, 2 WAL
_ROLLBACK = b"\x01\x01"


class Snapshot(NamedTuple):
    """A plaintext copy of a database, and what is known of its source.

    ``schema`` is as ``cold_copy.schema`` says it. ``seconds`` is how long the copy took; ``blocking`` whether writers waited so long.
    """

    path: Path
    size: int
    schema: str
    tables: list[str]
    uid: int
    gid: int
    mode: int
    seconds: float
    blocking: bool


def deadline_seconds(size: int) -> float:
    """Return how long the snapshot, or the check, of a database of this size in bytes may take."""
    return SECONDS + size / BYTES_PER_SECOND


def size_bytes(database: Mapping[str, Any]) -> int:
    """Return how large a database's snapshot becomes at most. Raises FleetError where there is no database."""
    path = Path(database["path"])
    if not path.is_file():
        raise FleetError(
            f"{path}: there is no database\n  → correct the path below backup.databases; if the service is new, start it once, so that it makes one"
        )
    return cold_copy.size_bytes([path])


def take(database: Mapping[str, Any], target: Path, *, seconds: float = 0) -> Snapshot:
    """Copy a database (``path``, ``tables`` that it must have) to ``target``, where nothing may be. ``seconds``: the deadline, 0 for the usual one.

    Raises FleetError; then there is no copy.
    """
    path = Path(database["path"])
    size = size_bytes(database)
    if target.exists():
        raise FleetError(f"{target} is in the way of a snapshot")  # an old one must not pass for the new one
    begun = time.monotonic()
    try:
        with BoundedChild(lambda: _copy(path, target), seconds or deadline_seconds(size), f"the snapshot of {path}") as child:
            facts = child.result()
        _want_tables(database, facts["tables"])
        found = path.stat()
        return Snapshot(
            path=target,
            size=target.stat().st_size,
            schema=facts["schema"],
            tables=facts["tables"],
            uid=found.st_uid,
            gid=found.st_gid,
            mode=stat.S_IMODE(found.st_mode),
            seconds=time.monotonic() - begun,
            blocking=facts["blocking"],
        )
    except BaseException:
        remove(target)
        raise


def remove(target: Path) -> None:
    """Remove a snapshot with whatever lies beside it."""
    for path in (target, *(target.with_name(target.name + part) for part in ("-wal", "-shm", "-journal"))):
        path.unlink(missing_ok=True)


def begin_check(snapshot: Snapshot, query: str) -> BoundedChild:
    """Begin to check that a snapshot is sound, and to ask it the sentinel's question (empty: none); the result is the answer or None."""
    return BoundedChild(lambda: _check(snapshot.path, query), deadline_seconds(snapshot.size), f"the check of {snapshot.path.name}")


def _copy(path: Path, target: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        blocking = file.read(100)[_JOURNAL_MODE] == _ROLLBACK
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    with said_plainly(target.parent, f"for a snapshot of {path}"):
        try:
            with closing(cold_copy.open_to_read(path)) as source, closing(sqlite3.connect(target)) as copy:
                source.isolation_level = None
                source.execute("BEGIN")  # so that what is asked here is of the same moment as the copy
                schema, tables = cold_copy.schema_of(source), _tables(source)
                copy.execute("PRAGMA synchronous = OFF")  # after a power cut it is made anew
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                if cold_copy.schema_of(copy) != schema:
                    raise FleetError(f"{path}: the schema of the snapshot is not that of the database")
        except sqlite3.Error as error:
            raise FleetError(f"{path} cannot be copied while it is in use: {error}{_advice(path, blocking, error)}") from error
    return {"schema": schema, "tables": tables, "blocking": blocking}


def _advice(path: Path, blocking: bool, error: sqlite3.Error) -> str:
    if not os.access(path.parent, os.W_OK) and "unable to open" in str(error):
        return f"\n  → in WAL mode, readers write {path}-shm; let the unit write to {path.parent}"
    if blocking and "locked" in str(error):
        return "\n  → it is in rollback-journal mode, where a writer keeps readers out: PRAGMA journal_mode = WAL, set once, spares them that"
    return ""


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite@_%' ESCAPE '@' ORDER BY name")
    return [row[0] for row in rows]


def _want_tables(database: Mapping[str, Any], found: list[str]) -> None:
    missing = sorted(set(database["tables"]) - set(found))
    if missing or not found:
        raise FleetError(
            f"{database['path']}: the database has no table {', '.join(missing) or 'at all'} (found: {', '.join(found) or 'none'})\n"
            "  → correct the path or the tables below backup.databases"
        )


def _check(path: Path, query: str) -> str | None:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as copy:
            said = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if said != "ok":
                raise FleetError(f"the database is damaged: {said}\n  → restore it, or repair it with sqlite3's .recover; older backups stay")
            answer = copy.execute(query).fetchone() if query else None
    except sqlite3.Error as error:
        raise FleetError(f"the snapshot cannot be checked: {error}") from error
    return None if answer is None or answer[0] is None else str(answer[0])
