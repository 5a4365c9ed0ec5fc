# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore on its host: nothing happens before everything was checked, and what happens can be undone, whatever interrupts it."""

from __future__ import annotations

import grp
import io
import json
import os
import pwd
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import restoring

from ansible_collections.hearth.fleet.plugins.module_utils import (
    journal,
    probe,
    restore_host,
    restore_stage,
    restore_swap,
    transaction_host,
    unit_control,
)
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError


class Systemd:
    """Stands in for systemd and for the service: what was asked of it, and whether the service becomes ready."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.needing: list[str] = []  # what stops along with the service
        self.active = "active"
        self.ready: Callable[[], bool] = lambda: True
        self.at_stop: Callable[[], None] = lambda: None

    def ctl(self, verb: str, *units: str, seconds: float) -> None:
        assert seconds > 0
        if "node.service" not in units:
            self.asked.append(f"{verb} {' '.join(units)}")
            return
        if verb != "reset-failed":
            self.asked.append(verb)
            self.active = {"stop": "inactive", "start": "active"}[verb]
        if verb == "stop":
            self.at_stop()

    def state(self, unit: str) -> probe.UnitState:
        return probe.UnitState(unit, "loaded", self.active, "running", "success", 0, 0, 0, "", "")

    def wait(self, *args: Any, **more: Any) -> probe.ProbeResult:
        ready = self.ready()
        return probe.ProbeResult(ready, 0.1, 1, int(ready), "HTTP 200" if ready else "HTTP 503")


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Systemd:
    stand_in = Systemd()
    monkeypatch.setattr(restore_host, "_systemctl", stand_in.ctl)
    monkeypatch.setattr(unit_control, "stopped_along", lambda unit: stand_in.needing if stand_in.active == "active" else [])
    monkeypatch.setattr(probe, "unit_state", stand_in.state)
    monkeypatch.setattr(probe, "wait_ready", stand_in.wait)
    monkeypatch.setattr(restore_host, "_last_lines", lambda unit: ["  | it said no"])
    monkeypatch.setattr(restore_swap, "RESTORE", tmp_path / "state" / "restore")
    monkeypatch.setattr(transaction_host, "ROLLOUT", tmp_path / "state" / "rollout")
    (tmp_path / "state").mkdir()
    return stand_in


def order(data: Path, manifest: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an order for the service ``node``, whose database is ``data/node.db``."""
    return {
        "id": "20261121T130000Z-beef01",
        "service": "node",
        "unit": "node.service",
        "home": str(data.parent / "opt"),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "group": grp.getgrgid(os.getgid()).gr_name,
        "health": {"ready": None, "deadline": 5, "passes": 1, "interval": 0.1},
        "stop_timeout": 5,
        "start_timeout": 5,
        "databases": [{"path": str(data / "node.db"), "sentinel": restoring.SENTINEL}],
        "files": [],
        "other_databases": [],
        "backup": manifest,
        **more,
    }


def send(given: dict[str, Any], contents: dict[str, bytes], tmp_path: Path, piece_bytes: int = 1000) -> None:
    """Send the parts of a backup in pieces, as the action does."""
    piece = tmp_path / "piece"
    for name, content in contents.items():
        for offset in range(0, len(content), piece_bytes):
            piece.write_bytes(content[offset : offset + piece_bytes])
            restore_host.receive(given, name, offset, piece)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the directory of a service with a database that holds ``old``."""
    directory = tmp_path / "data"
    directory.mkdir()
    restoring.database(directory / "node.db", ["old"])
    return directory


@pytest.fixture
def backup(tmp_path: Path, data: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the parts of a backup whose database holds ``new``."""
    source = restoring.database(tmp_path / "source.db", ["new", "newer"])
    return restoring.manifest(restoring.database_part(source, str(data / "node.db"))), {
        "database-0.zst.age": restoring.compressed(source.read_bytes())
    }


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_database_is_restored_and_the_old_one_kept(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    owner = (data / "node.db").stat().st_uid
    assert restore_host.prepare(given) == []
    send(given, backup[1], tmp_path)
    assert restoring.values(data / "node.db") == ["old"]
    done = restore_host.run(given)
    assert restoring.values(data / "node.db") == ["new", "newer"]
    assert systemd.asked == ["stop", "start"]
    aside = restore_swap.RESTORE / "node" / "before-20261121T130000Z-beef01" / "0"
    assert done["aside"] == [str(aside)]
    assert restoring.values(aside / "node.db") == ["old"]
    assert names_in(data) == ["node.db"]
    assert aside.parent.stat().st_mode & 0o777 == 0o700
    found = (data / "node.db").stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o640, owner)
    assert "2 tables" not in done["said"][0]
    assert "SELECT count(*) FROM kv: 2" in done["said"][0]
    directory = restore_swap.directory_of("node", given["id"])
    assert not (directory / "received").exists()
    assert restore_swap.summary(journal.read(directory))["outcome"] == "restored"


def test_what_is_received_is_for_root_alone(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    received = restore_swap.directory_of("node", given["id"]) / "received"
    assert [path.stat().st_mode & 0o777 for path in (received.parent, received, received / "0")] == [0o700, 0o700, 0o600]


def test_what_was_received_is_not_left_behind_silently(
    systemd: Systemd, data: Path, backup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = order(data, backup[0])
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    directory = restore_swap.directory_of("node", given["id"])

    def refuse(path: Path, *_arguments: Any, **_options: Any) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        with pytest.raises(PermissionError, match="received"):
            restore_host.discard(given, "the connection broke")
    assert restore_swap.summary(journal.read(directory))["outcome"] is None
    restore_host.discard(given, "the connection broke")
    assert not (directory / "received").exists()
    assert restore_swap.summary(journal.read(directory))["outcome"] == "discarded"


def test_a_piece_that_is_sent_again_is_no_harm_and_a_missing_one_is_noticed(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    restore_host.prepare(given)
    piece = tmp_path / "piece"
    piece.write_bytes(b"abc")
    assert restore_host.receive(given, "database-0.zst.age", 0, piece) == 3
    assert restore_host.receive(given, "database-0.zst.age", 0, piece) == 3
    with pytest.raises(FleetError, match="a piece is missing before byte 7; only 3 bytes arrived"):
        restore_host.receive(given, "database-0.zst.age", 7, piece)


def corrupt(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda content: content[:-20], "cannot be decompressed|has \\d+ bytes once decompressed", id="truncated"),
        pytest.param(corrupt, "cannot be decompressed|SHA-256", id="bit-flipped"),
        pytest.param(lambda content: content + restoring.compressed(b"more"), "bytes once decompressed", id="extended"),
        pytest.param(lambda content: restoring.compressed(b"x" * 8192), "not what was backed up|bytes once decompressed", id="other-data"),
        pytest.param(lambda content: b"", "bytes once decompressed|cannot be decompressed", id="empty"),
    ],
)
def test_f19_what_is_not_whole_changes_nothing(
    change: Callable[[bytes], bytes], said: str, systemd: Systemd, data: Path, backup: Any, tmp_path: Path
) -> None:
    given = order(data, backup[0])
    restore_host.prepare(given)
    send(given, {name: change(content) or b"\0" for name, content in backup[1].items()}, tmp_path)
    with pytest.raises(FleetError, match=said):
        restore_host.run(given)
    assert restoring.values(data / "node.db") == ["old"]
    assert names_in(data) == ["node.db"]
    assert systemd.asked == []
    assert not (restore_swap.directory_of("node", given["id"]) / "received").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param({"tables": ["kv", "blobs"]}, "lacks the tables blobs", id="table"),
        pytest.param({"schema": "9:0123456789abcdef"}, "its manifest says 9:0123456789abcdef", id="schema"),
        pytest.param({"sentinel": "77"}, "answers '2' to 'SELECT count.*the answer was '77'", id="sentinel"),
        pytest.param({"path": "/etc/shadow"}, "/etc/shadow, which is no database of set data of node", id="a-path-of-somebody-else"),
    ],
)
def test_f03_a_database_that_is_not_as_its_manifest_says_changes_nothing(
    more: dict[str, Any], said: str, systemd: Systemd, data: Path, backup: Any, tmp_path: Path
) -> None:
    manifest = {**backup[0], "parts": [{**backup[0]["parts"][0], **more}]}
    given = order(data, manifest)
    if "path" not in more:
        restore_host.prepare(given)
    else:
        restore_host.prepare({**given, "backup": backup[0]})
    send(given, backup[1], tmp_path)
    with pytest.raises(FleetError, match=said):
        restore_host.run(given)
    assert (restoring.values(data / "node.db"), names_in(data), systemd.asked) == (["old"], ["node.db"], [])


def test_a_damaged_database_is_found_out_although_it_is_what_was_backed_up(systemd: Systemd, data: Path, tmp_path: Path) -> None:
    source = restoring.database(tmp_path / "source.db", [f"value {number:06}" for number in range(3000)])
    about = restoring.database_part(source, str(data / "node.db"))
    damaged = bytearray(source.read_bytes())
    damaged[4096 * 3 : 4096 * 3 + 200] = bytes(200)
    part = restoring.part("database-0.zst.age", "database", str(data / "node.db"), bytes(damaged))
    given = order(data, restoring.manifest({**about, **{key: part[key] for key in ("size", "sha256", "plain_size", "plain_sha256")}}))
    restore_host.prepare(given)
    send(given, {"database-0.zst.age": restoring.compressed(bytes(damaged))}, tmp_path, 1 << 20)
    with pytest.raises(FleetError, match=r"damaged database|no database that can be used"):
        restore_host.run(given)
    assert (restoring.values(data / "node.db"), systemd.asked) == (["old"], [])


def test_f21_nothing_that_stood_beside_the_old_database_is_left_beside_the_new_one(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    (data / "node.db").unlink()
    with closing(sqlite3.connect(data / "node.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT)")
        writer.execute("INSERT INTO kv VALUES ('0', 'in the wal')")
        writer.commit()
        stale = {ending: (data / f"node.db{ending}").read_bytes() for ending in ("-wal", "-shm")}
    for ending, content in stale.items():
        (data / f"node.db{ending}").write_bytes(content)
    (data / "node.db-journal").write_bytes(b"hot")
    given = order(data, backup[0])
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    restore_host.run(given)
    assert restoring.values(data / "node.db") == ["new", "newer"]
    aside = restore_swap.RESTORE / "node" / "before-20261121T130000Z-beef01" / "0"
    assert names_in(aside) == ["node.db", "node.db-journal", "node.db-shm", "node.db-wal"]


def test_f22_what_the_daemon_takes_away_when_it_is_stopped_is_not_missed(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    (data / "node.db-wal").write_bytes(b"")
    systemd.at_stop = (data / "node.db-wal").unlink
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    restore_host.run(given)
    assert restoring.values(data / "node.db") == ["new", "newer"]


def test_a_service_that_does_not_become_ready_gets_its_old_data_back(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    systemd.ready = lambda: restoring.values(data / "node.db") == ["old"]
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    with pytest.raises(FleetError) as refused:
        restore_host.run(given)
    assert "node does not become ready on the restored data: not within 0 s (HTTP 503)\n  | it said no\n" in str(refused.value)
    assert str(refused.value).endswith("The old data are in place; node is ready on them")
    assert (restoring.values(data / "node.db"), names_in(data)) == (["old"], ["node.db"])
    assert systemd.asked == ["stop", "start", "stop", "start"]


@pytest.mark.parametrize(("holds", "more"), [(["new", "newer"], []), (["old"], ["stop", "start"])], ids=["restored", "back"])
def test_what_stops_along_with_the_service_is_started_again(
    holds: list[str], more: list[str], systemd: Systemd, data: Path, backup: Any, tmp_path: Path
) -> None:
    given = order(data, backup[0])
    systemd.needing = ["app.service"]
    systemd.ready = lambda: restoring.values(data / "node.db") == holds
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    with nullcontext() if not more else pytest.raises(FleetError, match="node is ready on them"):
        restore_host.run(given)
    assert systemd.asked == ["stop", "start", *more, "start app.service"]


def test_f40_a_restore_has_its_service_until_that_runs_again_on_the_old_data(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    has_it = []

    def ready() -> bool:
        has_it.append(bool(restore_swap.open_of("node")))
        return restoring.values(data / "node.db") == ["old"]

    systemd.ready = ready
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    with pytest.raises(FleetError, match="node is ready on them"):
        restore_host.run(given)
    assert has_it == [True, True]
    assert restore_swap.open_of("node") is None


def test_a_service_that_was_stopped_stays_so_when_it_does_not_become_ready(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    systemd.active, systemd.ready = "inactive", lambda: False
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    with pytest.raises(FleetError, match="The old data are in place; node is stopped, as it was"):
        restore_host.run(given)
    assert systemd.active == "inactive"


class PowerCut(BaseException):
    """The end of the process, wherever it is."""


STEPS = ("os.rename-1", "os.rename-2", "os.rename-3", "swapped", "stop")


@pytest.mark.parametrize("step", [pytest.param(number, id=f"before-rename-{number}") for number in range(1, 6)])
def test_f26_a_power_cut_between_any_two_renames_is_undone_at_boot(
    step: int, systemd: Systemd, data: Path, backup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "node.db-wal").write_bytes(b"")
    (data / "node.db-shm").write_bytes(b"shm")
    (data / "node.db-journal").write_bytes(b"")
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    given = order(data, backup[0])
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    rename, count = os.rename, iter(range(1, 100))

    def cut(source: str, target: str) -> None:
        if next(count) == step:
            raise PowerCut
        rename(source, target)

    monkeypatch.setattr(os, "rename", cut)
    with pytest.raises(PowerCut):
        restore_host.run(given)
    monkeypatch.setattr(os, "rename", rename)
    assert restore_swap.resume_all() == ["node: interrupted while the data were exchanged; the old data are back"]
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    assert restore_swap.open_restores() == []
    assert names_in(restore_swap.RESTORE / "node") == [given["id"]]


def test_f26_an_undoing_that_is_cut_off_as_well_goes_on(
    systemd: Systemd, data: Path, backup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    given = order(data, backup[0])
    systemd.ready = lambda: False
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    rename = os.rename

    def cut_while_undoing(source: str, target: str) -> None:
        if "hearth-restore" in target:  # the new database goes back to its stage, the old one is still aside
            rename(source, target)
            raise PowerCut
        rename(source, target)

    monkeypatch.setattr(os, "rename", cut_while_undoing)
    with pytest.raises(PowerCut):
        restore_host.run(given)
    assert not (data / "node.db").exists()
    monkeypatch.setattr(os, "rename", rename)
    restore_swap.resume_all()
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_f26_a_power_cut_after_the_undoing_needs_nothing_that_the_daemon_has_removed_since(
    systemd: Systemd, data: Path, backup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "node.db-wal").write_bytes(b"")
    given = order(data, backup[0])

    def ready_or_cut() -> bool:
        if restoring.values(data / "node.db") == ["old"]:
            raise PowerCut
        return False

    systemd.ready = ready_or_cut
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    with monkeypatch.context() as dead:
        dead.setattr(restore_swap, "close", Mock(side_effect=PowerCut))
        with pytest.raises(PowerCut):
            restore_host.run(given)
    (data / "node.db-wal").unlink(missing_ok=True)
    assert restore_swap.resume_all() == ["node: interrupted while the data were exchanged; the old data are back"]
    assert restoring.values(data / "node.db") == ["old"]


def test_f26_a_file_system_that_is_not_mounted_at_boot_is_not_taken_for_empty(
    systemd: Systemd, data: Path, backup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = order(data, backup[0])
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    monkeypatch.setattr(restore_swap, "_sync", Mock(side_effect=PowerCut))
    with pytest.raises(PowerCut):
        restore_host.run(given)
    monkeypatch.undo()
    monkeypatch.setattr(restore_swap, "RESTORE", tmp_path / "state" / "restore")
    data.rename(tmp_path / "not mounted")
    (said,) = restore_swap.resume_all()
    assert "node: its interrupted restore cannot be settled: neither " in said
    (tmp_path / "not mounted").rename(data)
    assert restore_swap.resume_all() == ["node: interrupted while the data were exchanged; the old data are back"]
    assert restoring.values(data / "node.db") == ["old"]


def test_f26_after_the_last_rename_the_new_data_stay_and_the_old_ones_are_kept(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])

    def cut() -> bool:
        raise PowerCut

    systemd.ready = cut
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    with pytest.raises(PowerCut):
        restore_host.run(given)
    assert restore_swap.resume_all() == ["node: interrupted when the restored data were in place; nobody has seen the service ready on them yet"]
    assert restoring.values(data / "node.db") == ["new", "newer"]
    assert restoring.values(restore_swap.RESTORE / "node" / "before-20261121T130000Z-beef01" / "0" / "node.db") == ["old"]
    assert restore_swap.open_restores() == [], "or it would keep rollouts out for ever"


def test_a_restore_that_stopped_the_service_and_died_starts_it_again(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    directory = restore_swap.directory_of("node", given["id"])
    with restore_swap.open_journal(directory) as book:
        restore_swap.note(book, "stopping", "the service stops", was_active=True)
    systemd.active = "inactive"
    for path in (directory, *directory.rglob("*")):
        os.utime(path, (0, 0))
    said = restore_host.prepare(order(data, backup[0], id="20261121T140000Z-beef02"))
    assert said == ["node: interrupted before anything was exchanged; the data are the old ones"]
    assert systemd.asked == ["start"]


def test_two_restores_of_one_service_do_not_mix(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    restore_host.prepare(given)
    with pytest.raises(FleetError, match="restore 20261121T130000Z-beef01 is under way, and received something 0 s ago"):
        restore_host.prepare(order(data, backup[0], id="20261121T140000Z-beef02"))
    restore_host.discard(given, "the connection broke")
    assert restore_host.prepare(order(data, backup[0], id="20261121T140000Z-beef02")) == []
    with pytest.raises(FleetError, match="was ended by somebody else: the connection broke"):
        send(given, backup[1], tmp_path)


def test_a_restore_that_was_given_up_exchanges_nothing(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    given = order(data, backup[0])
    restore_host.prepare(given)
    send(given, backup[1], tmp_path)
    assert restore_swap.resume_all() == ["node: interrupted before anything was exchanged; the data are the old ones"]
    with pytest.raises(FleetError, match="was ended by somebody else: interrupted before anything was exchanged"):
        restore_host.run(given)
    assert (restoring.values(data / "node.db"), systemd.asked) == (["old"], [])


ROLLOUT_ID = "20261121T125900Z-aaaaaa"
ROLLOUT_ORDER = {"service": "node", "unit": "node.service", "kind": "restart", "from": "1", "to": "1", "home": "/opt/node", "health": {}}


@pytest.mark.parametrize("step", [pytest.param(restore_host.look, id="look"), pytest.param(restore_host.prepare, id="prepare")])
def test_f40_a_rollout_keeps_restores_of_its_service_out(
    step: Callable[[Any], Any], systemd: Systemd, data: Path, backup: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_host, "_run_engine", lambda *_names: None)
    transaction_host.prepare({**ROLLOUT_ORDER, "id": ROLLOUT_ID, "rollout": {"owner": "ops@laptop"}}, {})
    transaction_host.launch("node", ROLLOUT_ID)
    with pytest.raises(FleetError, match=rf"transaction {ROLLOUT_ID} of ops@laptop has the service since (.|\n)*hearthctl status node"):
        step(order(data, backup[0]))
    assert restore_swap.open_restores() == []


@pytest.mark.parametrize("first", [pytest.param("restore", id="restore"), pytest.param("rollout", id="rollout")])
def test_f40_of_a_restore_and_a_rollout_at_once_the_first_has_the_service(
    first: str, systemd: Systemd, data: Path, backup: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_host, "_run_engine", lambda *_names: None)
    transaction_host.prepare({**ROLLOUT_ORDER, "id": ROLLOUT_ID}, {})
    begins = {"restore": lambda: restore_host.prepare(order(data, backup[0])), "rollout": lambda: transaction_host.launch("node", ROLLOUT_ID)}
    where, look = {"restore": (transaction_host, "active"), "rollout": (restore_swap, "open_of")}[first]
    looked = getattr(where, look)
    second = begins["rollout" if first == "restore" else "restore"]
    begun = threading.Event()
    with ThreadPoolExecutor() as pool:
        attempts: list[Future[Any]] = []

        def look_and_let_the_second_begin(service: str) -> Any:
            found = looked(service)
            if not begun.is_set():
                begun.set()
                attempts.append(pool.submit(second))
                wait(attempts, timeout=0.3)
            return found

        monkeypatch.setattr(where, look, look_and_let_the_second_begin)
        begins[first]()
        with pytest.raises(FleetError, match="has the service since"):
            attempts[0].result()
    assert [bool(transaction_host.active("node")), bool(restore_swap.open_of("node"))] == [first == "rollout", first == "restore"]


def test_f17_too_little_room_is_said_before_anything_is_received(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    manifest = {**backup[0], "parts": [{**backup[0]["parts"][0], "plain_size": 1 << 60}]}
    with pytest.raises(FleetError, match=r"11529215046\d+ bytes .* are needed for the restored .*/node.db, \d+ bytes .* are free"):
        restore_host.prepare(order(data, manifest))
    assert restore_swap.open_of("node") is None, "or it would keep rollouts out"


# Files


def files_backup(files: list[Path], **more: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    plain = restoring.archive(files)
    return restoring.manifest(restoring.part("files.tar.zst.age", "files", "/", plain), **more), {"files.tar.zst.age": restoring.compressed(plain)}


def test_a_directory_comes_back_as_it_was(systemd: Systemd, data: Path, tmp_path: Path) -> None:
    keys = data / "keys"
    (keys / "deep").mkdir(parents=True)
    (keys / "deep" / "node.key").write_text("secret")
    (keys / "deep" / "node.key").chmod(0o600)
    (keys / "deep").chmod(0o2750)
    (keys / "link").symlink_to("deep/node.key")
    manifest, contents = files_backup([keys])
    (keys / "deep" / "node.key").write_text("other")
    (keys / "newer").write_text("made since")
    given = order(data, manifest, databases=[], files=[str(keys)])
    restore_host.prepare(given)
    send(given, contents, tmp_path)
    done = restore_host.run(given)
    assert (keys / "deep" / "node.key").read_text() == "secret"
    assert (keys / "deep" / "node.key").stat().st_mode & 0o7777 == 0o600
    assert (keys / "deep").stat().st_mode & 0o7777 == 0o2750
    assert os.readlink(keys / "link") == "deep/node.key"
    assert not (keys / "newer").exists()
    assert (Path(done["aside"][0]) / "keys" / "newer").read_text() == "made since"


def test_databases_within_a_restored_directory_are_never_those_of_its_archive(systemd: Systemd, data: Path, tmp_path: Path) -> None:
    source = restoring.database(tmp_path / "source.db", ["new"])
    (data / "node.db-wal").write_bytes(b"stale")
    restoring.database(data / "other.db", ["at the time"])
    (data / "file").write_text("then")
    database = restoring.database_part(source, str(data / "node.db"))
    plain = restoring.archive([data])
    manifest = restoring.manifest(database, restoring.part("files.tar.zst.age", "files", "/", plain))
    (data / "other.db").unlink()
    restoring.database(data / "other.db", ["now"])
    (data / "file").write_text("now")
    given = order(data, manifest, files=[str(data)], other_databases=[str(data / "other.db")])
    restore_host.prepare(given)
    contents = {"database-0.zst.age": restoring.compressed(source.read_bytes()), "files.tar.zst.age": restoring.compressed(plain)}
    send(given, contents, tmp_path, 1 << 20)
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    systemd.ready = lambda: False
    with pytest.raises(FleetError):
        restore_host.run(given)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    again = {**given, "id": "20261121T140000Z-beef02"}
    systemd.ready = lambda: True
    restore_host.prepare(again)
    send(again, contents, tmp_path, 1 << 20)
    restore_host.run(again)
    assert restoring.values(data / "node.db") == ["new"]
    assert restoring.values(data / "other.db") == ["now"]
    assert (data / "file").read_text() == "then"
    assert names_in(data) == ["file", "node.db", "other.db"]


def member(name: str, **more: Any) -> bytes:
    """Return an archive with one member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        for key, value in more.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(b"x" * info.size))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("archives", "said"),
    [
        pytest.param([{"name": "etc/shadow", "size": 1}], "/etc/shadow of the archive is not among the files of this set", id="elsewhere"),
        pytest.param([{"name": "{keys}/../../x", "size": 1}], "is not among the files of this set", id="dots"),
        pytest.param([{"name": "{keys}x", "size": 1}], "is not among the files of this set", id="a-name-that-begins-the-same"),
        pytest.param([{"name": "{keys}/null", "type": tarfile.CHRTYPE}], "is a device, which is not restored", id="device"),
        pytest.param(
            [{"name": "{keys}/out", "type": tarfile.SYMTYPE, "linkname": "/etc"}, {"name": "{keys}/out/shadow", "size": 1}],
            "lies behind a link of the same archive",
            id="through-a-link",
        ),
        pytest.param(
            [{"name": "{keys}", "type": tarfile.SYMTYPE, "linkname": "/etc"}, {"name": "{keys}/shadow", "size": 1}],
            "lies behind a link of the same archive",
            id="through-the-place-itself",
        ),
        pytest.param([{"name": "{keys}/hard", "type": tarfile.LNKTYPE, "linkname": "etc/shadow"}], "not among the files of this set", id="hard-link"),
    ],
)
def test_a_strangers_archive_writes_nothing_elsewhere(
    archives: list[dict[str, Any]], said: str, systemd: Systemd, data: Path, tmp_path: Path
) -> None:
    keys = data / "keys"
    keys.mkdir()
    where = str(keys).lstrip("/")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for one in archives:
            info = tarfile.TarInfo(one["name"].format(keys=where))
            for key in set(one) - {"name"}:
                setattr(info, key, one[key])
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    plain = buffer.getvalue()
    given = order(data, restoring.manifest(restoring.part("files.tar.zst.age", "files", "/", plain)), databases=[], files=[str(keys)])
    restore_host.prepare(given)
    send(given, {"files.tar.zst.age": restoring.compressed(plain)}, tmp_path, 1 << 20)
    with pytest.raises(FleetError, match=said):
        restore_host.run(given)
    assert (names_in(data), systemd.asked) == (["keys", "node.db"], [])


def test_programs_of_an_archive_do_not_run_as_their_owner(systemd: Systemd, data: Path, tmp_path: Path) -> None:
    tool = data / "tool"
    tool.write_text("#!/bin/sh")
    tool.chmod(0o4755)
    manifest, contents = files_backup([tool])
    given = order(data, manifest, databases=[], files=[str(tool)])
    restore_host.prepare(given)
    send(given, contents, tmp_path)
    restore_host.run(given)
    assert tool.stat().st_mode & 0o7777 == 0o755


def test_the_output_of_a_backup_command_is_laid_down_for_a_person(systemd: Systemd, data: Path, tmp_path: Path) -> None:
    given = order(data, restoring.manifest(restoring.part("command.zst.age", "command", "", b"dump")), databases=[])
    restore_host.prepare(given)
    send(given, {"command.zst.age": restoring.compressed(b"dump")}, tmp_path)
    done = restore_host.run(given)
    output = restore_swap.RESTORE / "node" / "output" / restoring.ID
    assert (output.read_bytes(), output.stat().st_mode & 0o777, systemd.asked) == (b"dump", 0o600, [])
    assert str(output) in done["said"][0]


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        pytest.param(
            lambda data: (data / "node.db").rename(data / "real.db") and (data / "node.db").symlink_to("real.db"), "symbolic link", id="link"
        ),
        pytest.param(lambda data: data.rename(data.with_name("gone")), "there is no directory .*data on this host", id="no-directory"),
    ],
)
def test_places_that_cannot_be_exchanged_are_refused_beforehand(
    prepare: Callable[[Path], Any], said: str, systemd: Systemd, data: Path, backup: Any
) -> None:
    prepare(data)
    with pytest.raises(FleetError, match=said):
        restore_host.prepare(order(data, backup[0]))


def test_a_mount_point_is_refused(systemd: Systemd) -> None:
    with pytest.raises(FleetError, match="/proc is a mount point"):
        restore_stage.target("/proc", "x", 0, Path("/"))


def test_look_says_what_the_host_has(systemd: Systemd, data: Path, backup: Any) -> None:
    given = order(data, backup[0])
    seen = restore_host.look(given)
    assert (seen["release"], seen["active"]) == ("", "active")
    assert seen["schemas"][str(data / "node.db")].startswith("1:")
    assert json.dumps(seen)


def test_only_a_few_past_restores_are_remembered(systemd: Systemd, data: Path, backup: Any, tmp_path: Path) -> None:
    for number in range(restore_swap.KEPT + 2):
        given = order(data, backup[0], id=f"20261121T1300{number:02}Z-beef01")
        restore_host.prepare(given)
        send(given, backup[1], tmp_path)
        restore_host.run(given)
    found = names_in(restore_swap.RESTORE / "node")
    assert sum(name.startswith("before-") for name in found) == restore_swap.KEPT + 2
    assert sum(not name.startswith("before-") for name in found) == restore_swap.KEPT


def test_old_data_on_another_file_system_stay_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(restore_stage, "_device", lambda path: 1 if "before" in path.name else 2)
    found = restore_stage.target(str(tmp_path / "node.db"), "x", 0, tmp_path / "before-x")
    assert found.aside == tmp_path / ".before-restore-x" / "node.db"
