# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of databases, with real ones: under a steady writer, of a stopped daemon, put aside and back."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import cold_copy
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError


def make(path: Path, *statements: str, wal: bool = True) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
        for statement in ("CREATE TABLE kv (key TEXT, value TEXT)", "INSERT INTO kv VALUES ('a', '1')", "PRAGMA user_version = 1", *statements):
            database.execute(statement)
    return path


def rows(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT key, value FROM kv ORDER BY key").fetchall()


def leave_a_wal(path: Path, directory: Path) -> Path:
    """Return a copy of the database as a killed daemon leaves it: the last row is in the WAL alone."""
    directory.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("INSERT INTO kv VALUES ('z', 'late')")
        for part in cold_copy.parts_of(path):
            (directory / part.name).write_bytes(part.read_bytes())
    return directory / path.name


@pytest.mark.parametrize(
    "refused", [pytest.param((), id="best"), pytest.param(("_clone",), id="kernel"), pytest.param(("_clone", "_copy_in_kernel"), id="plain")]
)
def test_copy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]) -> None:
    def refuse(_source: int, _destination: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    for name in refused:
        monkeypatch.setattr(cold_copy, name, refuse)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 << 20))
    source.chmod(0o640)
    os.utime(source, (5, 6))
    cold_copy.copy_file(source, tmp_path / "copy", durable=True)
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    found = (tmp_path / "copy").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o640, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source"]


def test_copy_file_does_not_hide_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_source: int, _destination: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cold_copy, "_copy_in_kernel", full)
    monkeypatch.setattr(cold_copy, "_clone", full)
    database = make(tmp_path / "x.db")
    with pytest.raises(FleetError, match="the disk is full"):
        cold_copy.copy_cold(database, tmp_path / "0", durable=True)


def test_a_cold_copy_has_what_is_in_the_wal(tmp_path: Path) -> None:
    crashed = leave_a_wal(make(tmp_path / "x.db"), tmp_path / "crashed")
    (tmp_path / "cold").mkdir()
    cold_copy.copy_cold(crashed, tmp_path / "cold/0", durable=True)
    assert rows(tmp_path / "cold/0") == [("a", "1"), ("z", "late")]


def test_a_repeated_cold_copy_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    crashed = leave_a_wal(make(tmp_path / "x.db"), tmp_path / "crashed")
    (tmp_path / "0-wal").write_bytes(b"of another")
    (tmp_path / "0-journal").write_bytes(b"of another")
    cold_copy.copy_cold(crashed, tmp_path / "0", durable=False)
    assert (tmp_path / "0-wal").read_bytes() == (crashed.with_name("x.db-wal")).read_bytes()
    assert not (tmp_path / "0-journal").exists()


def test_no_database_is_no_copy(tmp_path: Path) -> None:
    assert cold_copy.copy_cold(tmp_path / "none.db", tmp_path / "0", durable=True) == ""
    assert cold_copy.snapshot(tmp_path / "none.db", tmp_path / "0") is False
    assert cold_copy.schema(tmp_path / "none.db") == cold_copy.ABSENT


@pytest.mark.parametrize("wal", [pytest.param(True, id="wal"), pytest.param(False, id="journal")])
def test_a_snapshot_under_a_steady_writer_is_consistent(tmp_path: Path, wal: bool) -> None:
    """Two rows are written in each transaction; a consistent copy has both or neither."""
    path = make(tmp_path / "x.db", "CREATE TABLE pairs (n INTEGER, side TEXT)", wal=wal)
    stop = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as database:
            number = 0
            while not stop.is_set():
                number += 1
                database.execute("BEGIN IMMEDIATE")
                database.execute("INSERT INTO pairs VALUES (?, 'left')", (number,))
                database.execute("INSERT INTO pairs VALUES (?, 'right')", (number,))
                database.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _copy in range(5):
            assert cold_copy.snapshot(path, tmp_path / "copy")
    finally:
        stop.set()
        writer.join()
    with closing(sqlite3.connect(tmp_path / "copy")) as database:
        left, right = (database.execute("SELECT count(*) FROM pairs WHERE side = ?", (side,)).fetchone()[0] for side in ("left", "right"))
    assert left == right
    assert not list(tmp_path.glob("copy-*"))
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_f44_a_damaged_database_makes_no_snapshot(tmp_path: Path) -> None:
    path = make(tmp_path / "x.db", wal=False)
    path.write_bytes(path.read_bytes()[:4096] + b"\x55" * 4096)
    with pytest.raises(FleetError, match=r"x\.db"):
        cold_copy.snapshot(path, tmp_path / "copy")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.db"]


@pytest.mark.parametrize(
    ("statement", "same"),
    [
        pytest.param("INSERT INTO kv VALUES ('b', '2')", True, id="rows"),
        pytest.param("ANALYZE", True, id="statistics"),
        pytest.param("VACUUM", True, id="vacuum"),
        pytest.param("PRAGMA user_version = 2", False, id="version"),
        pytest.param("ALTER TABLE kv ADD COLUMN more", False, id="column"),
        pytest.param("CREATE INDEX one ON kv (key)", False, id="index"),
    ],
)
def test_schema(tmp_path: Path, statement: str, same: bool) -> None:
    before = cold_copy.schema(make(tmp_path / "x.db"))
    assert before.startswith("1:")
    assert (cold_copy.schema(make(tmp_path / "y.db", statement)) == before) is same


def test_f36_a_database_that_cannot_be_read_has_another_schema(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database" * 1000)
    assert cold_copy.schema(tmp_path / "x.db").startswith("unreadable: ")


def test_reading_a_schema_does_not_change_the_database(tmp_path: Path) -> None:
    path = make(tmp_path / "x.db")
    before = path.read_bytes()
    cold_copy.schema(path)
    assert path.read_bytes() == before
    assert rows(path) == [("a", "1")]


def test_f36_put_back_after_a_migration(tmp_path: Path) -> None:
    path = leave_a_wal(make(tmp_path / "x.db"), tmp_path / "data")
    for name in ("cold", "aside"):
        (tmp_path / name).mkdir()
    cold_copy.copy_cold(path, tmp_path / "cold/0", durable=True)
    before = {part.name: part.read_bytes() for part in cold_copy.parts_of(path)}
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("ALTER TABLE kv ADD COLUMN more")
        database.execute("INSERT INTO kv VALUES ('new', '2', '3')")
        for _time in range(2):  # the second as after an interruption
            cold_copy.put_aside(path, tmp_path / "aside/0")
    for _time in range(2):
        cold_copy.put_back(tmp_path / "cold/0", path)
        assert {part.name: part.read_bytes() for part in cold_copy.parts_of(path)} == before
    assert rows(path) == [("a", "1"), ("z", "late")]
    assert ("new", "2") in rows(tmp_path / "aside/0")


def test_put_back_where_there_was_no_database(tmp_path: Path) -> None:
    path = make(tmp_path / "x.db")
    cold_copy.put_back(tmp_path / "none", path)
    assert list(tmp_path.iterdir()) == []
