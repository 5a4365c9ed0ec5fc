# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of SQLite databases: consistent while the daemon writes, exact while it is stopped, and back in their place.

A database is its file with whatever of ``-wal`` and ``-journal`` stands beside it. ``-shm`` is no part of it: whoever opens
the database first makes it anew.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly
from ansible_collections.hearth.fleet.plugins.module_utils.journal import sync_directory

PARTS = ("", "-wal", "-journal")
ABSENT = "absent"
"""The schema of a database that is not there (yet)."""
BUSY_SECONDS = 10.0

_FICLONE = 0x40049409
_CHUNK_BYTES = 1 << 26
_NOT_HERE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EBADF, errno.EACCES)


def copy_file(source: Path, destination: Path, *, durable: bool) -> str:
    """Copy a file with its owner, mode and times, replacing ``destination`` whole. Return how: ``clone``, ``kernel`` or ``copy``.

    A clone shares the blocks and takes no time (btrfs, XFS); the kernel's own copy is next. Raises OSError.
    """
    temporary = destination.with_name(f".{destination.name}.hearth-copy")
    with source.open("rb") as reader, temporary.open("wb") as writer:
        how = _transfer(reader.fileno(), writer.fileno())
        found = os.fstat(reader.fileno())
        os.fchmod(writer.fileno(), stat.S_IMODE(found.st_mode))
        if os.geteuid() == 0:
            os.fchown(writer.fileno(), found.st_uid, found.st_gid)
        os.utime(writer.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
        if durable:
            os.fsync(writer.fileno())
    temporary.replace(destination)
    return how


def _transfer(source: int, destination: int) -> str:
    for how, attempt in (("clone", _clone), ("kernel", _copy_in_kernel)):
        try:
            attempt(source, destination)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
        else:
            return how
    os.lseek(source, 0, os.SEEK_SET)
    os.lseek(destination, 0, os.SEEK_SET)
    with open(source, "rb", closefd=False) as reader, open(destination, "wb", closefd=False) as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
    return "copy"


def _clone(source: int, destination: int) -> None:
    fcntl.ioctl(destination, _FICLONE, source)


def _copy_in_kernel(source: int, destination: int) -> None:
    call: Callable[..., int] | None = getattr(os, "copy_file_range", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    left = os.fstat(source).st_size
    while left > 0:
        done = call(source, destination, min(left, _CHUNK_BYTES))
        if done == 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # some file systems say nothing instead of an error
        left -= done


def parts_of(database: Path) -> list[Path]:
    """Return the files of a database that are there."""
    return [path for path in (database.with_name(database.name + part) for part in PARTS) if path.is_file()]


def size_bytes(databases: Sequence[Path]) -> int:
    """Return how much room copies of these databases take."""
    return sum(path.stat().st_size for database in databases for path in parts_of(database))


def copy_cold(database: Path, destination: Path, *, durable: bool) -> str:
    """Copy a database that nobody has open; return how, empty where there is none. Raises FleetError or OSError.

    A repetition replaces what an interrupted copy left.
    """
    if not database.is_file():
        return ""
    with said_plainly(destination.parent, f"for a copy of {database}"):
        for part in PARTS:
            destination.with_name(destination.name + part).unlink(missing_ok=True)
        # The main file last: a copy is one only if that is there.
        for path in reversed(parts_of(database)):
            how = copy_file(path, destination.with_name(destination.name + path.name[len(database.name) :]), durable=durable)
        if durable:
            sync_directory(destination.parent)
    return how


def snapshot(database: Path, destination: Path) -> bool:
    """Copy a database consistently while others write to it, check the copy, and flush it; False where there is none.

    Raises FleetError; then there is no copy.
    """
    if not database.is_file():
        return False
    temporary = destination.with_name(f".{destination.name}.hearth-copy")
    temporary.unlink(missing_ok=True)
    with said_plainly(destination.parent, f"for a copy of {database}"):
        try:
            with closing(open_to_read(database)) as source, closing(sqlite3.connect(temporary)) as target:
                source.backup(target)  # in one go: under a steady writer, one in parts would begin again and again
                target.execute("PRAGMA journal_mode = DELETE")
                said = target.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            temporary.unlink(missing_ok=True)
            raise FleetError(f"{database} cannot be copied while it is in use: {error}") from error
        if said != "ok":
            temporary.unlink(missing_ok=True)
            raise FleetError(f"{database} is damaged: {said}")
        with temporary.open("rb") as copy:
            os.fchmod(copy.fileno(), 0o600)
            os.fsync(copy.fileno())
        temporary.replace(destination)
        sync_directory(destination.parent)
    return True


def schema(database: Path) -> str:
    """Return what identifies a database's schema: ``<user_version>:<digest>``, ABSENT, or ``unreadable: …``.

    What SQLite keeps for itself (statistics, counters) does not count.
    """
    if not database.exists():
        return ABSENT
    try:
        with closing(open_to_read(database)) as connection:
            return schema_of(connection)
    except sqlite3.Error as error:
        return f"unreadable: {error}"


def schema_of(connection: sqlite3.Connection) -> str:
    """Return what identifies the schema of an open database, as ``schema`` does. Raises sqlite3.Error."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite@_%' ESCAPE '@'").fetchall()
    return f"{version}:{hashlib.sha256(repr(sorted(map(repr, rows))).encode()).hexdigest()[:16]}"


def open_to_read(database: Path) -> sqlite3.Connection:
    """Open a database to read it: nothing is created, and no other reader or writer is kept waiting.

    Only where a crash left a journal to be rolled back is it opened to be written, as that is what SQLite wants then.
    """
    mode = "rw" if database.with_name(f"{database.name}-journal").exists() else "ro"
    return sqlite3.connect(f"file:{quote(str(database))}?mode={mode}", uri=True, timeout=BUSY_SECONDS)


def put_aside(database: Path, destination: Path) -> None:
    """Keep what a database is now, before it is replaced by ``put_back``; what was put aside already stays. Raises OSError.

    Where it can be, this is a second name of the same file: it takes no room on a disk that may be full.
    """
    if destination.exists():
        return
    for path in reversed(parts_of(database)):
        target = destination.with_name(destination.name + path.name[len(database.name) :])
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:
            copy_file(path, target, durable=False)


def put_back(copy: Path, database: Path) -> None:
    """Replace a database, that nobody has open, by a cold copy; without a copy there was none, and none stays. Raises OSError.

    May be repeated after an interruption: it always starts from the copy, which it leaves alone.
    """
    for part in ("-wal", "-shm", "-journal"):
        database.with_name(database.name + part).unlink(missing_ok=True)
    if not copy.is_file():
        database.unlink(missing_ok=True)
    else:
        for path in parts_of(copy):
            copy_file(path, database.with_name(database.name + path.name[len(copy.name) :]), durable=True)
    sync_directory(database.parent)
