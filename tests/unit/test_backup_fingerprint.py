# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints: equal only if nothing was written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import backup_fingerprint
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

STATEMENT = "INSERT INTO kv VALUES ('x')"


@pytest.fixture(params=["WAL", "DELETE", "TRUNCATE", "PERSIST"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "relay.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.execute("CREATE TABLE kv (key TEXT)")
        yield connection


def test_every_write_shows(daemon: sqlite3.Connection, tmp_path: Path) -> None:
    path = str(tmp_path / "relay.db")
    seen = [backup_fingerprint.of_database(path)]
    for _count in range(40):
        daemon.execute(STATEMENT)
        seen.append(backup_fingerprint.of_database(path))
        assert seen[-1] != seen[-2]
    daemon.execute("SELECT * FROM kv").fetchall()
    assert backup_fingerprint.of_database(path) == seen[-1]


def test_a_log_that_begins_anew_shows_without_the_clock(tmp_path: Path) -> None:
    """After a checkpoint, the log is written from its start again: its size stays, and a coarse clock may stand still."""
    path, log = tmp_path / "relay.db", tmp_path / "relay.db-wal"
    with closing(sqlite3.connect(path, isolation_level=None)) as daemon:
        daemon.execute("PRAGMA journal_mode = WAL")
        daemon.execute("CREATE TABLE kv (key TEXT)")
        for _count in range(50):
            daemon.execute(STATEMENT)
        daemon.execute("PRAGMA wal_checkpoint(RESTART)")
        seen = []
        for _count in range(10):
            daemon.execute(STATEMENT)
            os.utime(log, (0, 0))
            seen.append(backup_fingerprint.of_database(str(path)))
        sizes = {log.stat().st_size}
        assert len(sizes) == 1
        assert all(one != other for one, other in pairwise(seen))


def test_the_last_frame_is_found_by_halving(tmp_path: Path) -> None:
    salts, page = b"saltsalt", 512
    header = bytes(8) + page.to_bytes(4, "big") + bytes(4) + salts + bytes(8)
    for count in range(9):
        frames = [bytes(8) + (salts if number < count else b"oldsalts") + number.to_bytes(8, "big") + bytes(page) for number in range(8)]
        path = tmp_path / "log"
        path.write_bytes(header + b"".join(frames))
        with path.open("rb") as file:
            found, last = backup_fingerprint._last_frame(file.fileno(), path.stat().st_size, header)
        assert found == min(count, 8)
        assert last[16:] == ((found - 1).to_bytes(8, "big") if found else b"")


def order(tmp_path: Path, **changes: object) -> dict[str, object]:
    return {"databases": [], "files": [str(tmp_path / "tls")], "command": [], "recipients": ["age1x"], "bandwidth": "", **changes}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda top: (top / "key").write_text("new key"), id="content"),
        pytest.param(lambda top: (top / "key").chmod(0o600), id="mode"),
        pytest.param(lambda top: (top / "more").touch(), id="new-file"),
        pytest.param(lambda top: (top / "key").unlink(), id="file-gone"),
        pytest.param(lambda top: (top / "key").replace(top / "other"), id="renamed"),
    ],
)
def test_every_change_of_files_shows(tmp_path: Path, change: object) -> None:
    top = tmp_path / "tls"
    top.mkdir()
    (top / "key").write_text("key")
    before = backup_fingerprint.of_data(order(tmp_path))
    assert backup_fingerprint.of_data(order(tmp_path)) == before
    assert backup_fingerprint.of_data(order(tmp_path, bandwidth="1M")) == before
    assert backup_fingerprint.of_data(order(tmp_path, recipients=["age1y"])) != before
    assert callable(change)
    change(top)
    assert backup_fingerprint.of_data(order(tmp_path)) != before


def test_a_commands_output_has_none(tmp_path: Path) -> None:
    assert backup_fingerprint.of_data(order(tmp_path, files=[], command=["tool"])) == ""


def test_f04_a_path_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="tls is not there, but shall be backed up"):
        backup_fingerprint.of_data(order(tmp_path))
