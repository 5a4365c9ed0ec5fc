# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of a backup job: what is compared, sealed, spooled and shipped, and what is left when any of it fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from backup_box import RECIPIENT, SIGKILL, Box

from ansible_collections.hearth.fleet.plugins.module_utils import backup_files, backup_pipeline, backup_run, backup_snapshot, free_space
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

DAY = 86400
DATABASE = "database-0.zst.age"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(tmp_path, monkeypatch)


def restored(box: Box, tmp_path: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the keys in the database that a manifest's first part holds."""
    path = tmp_path / "restored.db"
    path.write_bytes(box.plain(manifest["parts"][0]["key"]))
    with closing(sqlite3.connect(path)) as database:
        return [row[0] for row in database.execute("SELECT key FROM kv ORDER BY key")]


def test_a_backup(box: Box, tmp_path: Path) -> None:
    result = box.run()
    manifest = box.manifests[0]
    part = manifest["parts"][0]
    assert result["id"] == manifest["id"] == "20261121T141500Z-000001-" + manifest["id"][-6:]
    assert (manifest["release"], manifest["same_as"], manifest["clock_skew_seconds"]) == ("1.4.2", "", 0)
    assert (part["tables"], part["sentinel"], part["sentinel_query"]) == (["kv"], "1", "SELECT count(*) FROM kv")
    assert (part["uid"], part["mode"]) == (os.getuid(), 0o644)
    assert sorted(box.objects) == [f"v1/data-30d/relay1/relay/{manifest['id']}/{name}" for name in (DATABASE, "manifest.json")]
    assert len(box.objects[part["key"]]) == part["size"] == result["bytes"]
    assert restored(box, tmp_path, manifest) == ["a"]
    assert box.left_over == []


def test_the_manifest_is_written_last(box: Box) -> None:
    box.run(files=[str(box.files)])
    sent = [words[-1].rpartition("/")[2] for words in box.calls("rclone")]
    assert sent == [DATABASE, "files.tar.zst.age", "manifest.json"]


def test_unchanged_data_are_not_even_read(box: Box) -> None:
    first = box.run()
    box.forget_calls()
    box.clock.now += 3600
    second = box.run()
    assert (second["same_as"], second["bytes"]) == (first["id"], 0)
    assert [words[-1].rpartition("/")[2] for words in box.calls("rclone")] == ["manifest.json"]
    assert box.calls("zstd") == []
    old, new = box.manifests
    assert (new["same_as"], new["parts"], new["sequence"]) == (old["id"], old["parts"], 2)
    box.clock.now += 3600
    assert box.run()["same_as"] == first["id"]  # not the second, which has no data of its own


def test_the_same_content_is_not_sent_again(box: Box) -> None:
    first = box.run()
    os.utime(box.database)
    second = box.run()
    assert (second["same_as"], second["bytes"]) == (first["id"], 0)
    assert [Path(key).name for key in box.objects].count(DATABASE) == 1
    assert box.manifests[1]["parts"] == box.manifests[0]["parts"]
    assert box.left_over == []


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        pytest.param("INSERT INTO kv VALUES ('b')", True, id="row"),
        pytest.param("PRAGMA user_version = 7", True, id="version"),
        pytest.param("SELECT 1", False, id="read"),
    ],
)
def test_what_is_a_change(box: Box, statement: str, changed: bool) -> None:
    with closing(sqlite3.connect(box.database, isolation_level=None)) as daemon:  # keeps the log from being folded in
        box.run()
        daemon.execute(statement).fetchall()
        assert (box.run()["same_as"] == "") is changed


@pytest.mark.parametrize(
    ("days", "full"), [pytest.param(7.9, False, id="young"), pytest.param(8.0, True, id="old"), pytest.param(-1, True, id="from-the-future")]
)
def test_data_that_would_expire_too_soon_are_sent_again(box: Box, days: float, full: bool) -> None:
    box.run()
    box.clock.now += days * DAY
    assert (box.run()["same_as"] == "") is full


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"recipients": [RECIPIENT, "age1another"]}, id="recipients"),
        pytest.param({"bucket": "elsewhere"}, id="bucket"),
        pytest.param({"class": "data-60d", "keep_days": 60}, id="class"),
    ],
)
def test_another_order_makes_a_whole_backup(box: Box, changes: dict[str, Any]) -> None:
    box.run()
    assert box.run(**changes)["same_as"] == ""


def test_a_bandwidth_is_no_reason_to_send_anything_again(box: Box) -> None:
    box.run()
    assert box.run(bandwidth="1M")["same_as"] != ""


def test_what_is_kept_for_ever_is_written_once(box: Box) -> None:
    forever = {"set": "identity", "class": "identity-forever", "keep_days": 0, "refresh_days": 0, "databases": [], "files": [str(box.files)]}
    first = box.run(**forever)
    box.clock.now += 400 * DAY
    again = box.run(**forever)
    assert (again["id"], again["same_as"]) == ("", first["id"])
    assert "kept for ever" in again["said"]
    assert len(box.manifests) == 1
    (box.files / "key.pem").write_text("another key")
    assert box.run(**forever)["same_as"] == ""


def test_files_go_into_the_archive_as_they_are(box: Box, tmp_path: Path) -> None:
    (box.files / "link").symlink_to("key.pem")
    os.mkfifo(box.files / "pipe")
    result = box.run(databases=[], files=[str(box.files)])
    archive = tmp_path / "files.tar"
    archive.write_bytes(box.plain(box.manifests[0]["parts"][0]["key"]))
    target = tmp_path / "out"
    shutil.unpack_archive(archive, target, "tar", **({"filter": "fully_trusted"} if hasattr(__import__("tarfile"), "data_filter") else {}))
    found = target / str(box.files).lstrip("/")
    assert sorted(path.name for path in found.iterdir()) == ["key.pem", "link"]
    assert (found / "key.pem").read_text() == "key"
    assert (box.manifests[0]["parts"][0]["path"], result["notes"]) == ("/", [])


def test_a_file_that_changes_while_it_is_read_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 100_000)
    cut = False

    def write(chunk: bytes) -> None:
        nonlocal cut
        if not cut:
            cut = True
            os.truncate(path, 10)

    assert backup_files.archive([str(path)], write) == [str(path)]


def test_a_service_makes_its_own_backup(box: Box) -> None:
    command = ["/bin/sh", "-c", 'test -z "$CREDENTIALS_DIRECTORY" && echo dump > "$1"', "sh", "{output}"]
    first = box.run(databases=[], command=command)
    assert box.plain(box.manifests[0]["parts"][0]["key"]) == b"dump\n"
    assert box.run(databases=[], command=command)["same_as"] == first["id"]
    assert box.left_over == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param(["/bin/sh", "-c", "exit 3"], "ended with status 3, so there is no backup", id="fails"),
        pytest.param(["/bin/true"], "wrote nothing to {output}", id="writes-nothing"),
        pytest.param(["/bin/sh", "-c", ": > {output}"], "wrote nothing to {output}", id="writes-an-empty-file"),
        pytest.param(["/nonexistent/tool"], "cannot be run: No such file", id="missing"),
    ],
)
def test_a_command_that_makes_no_backup(box: Box, command: list[str], said: str) -> None:
    with pytest.raises(FleetError, match=said):
        box.run(databases=[], command=command)
    assert (box.objects, box.left_over) == ({}, []) if (box.bin / "objects/fleet").exists() else True


def test_a_command_that_never_ends_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="was given up"):
        backup_run.run_command(["/bin/sh", "-c", "sleep 60"], tmp_path / "output", seconds=0.2)


# Databases


def test_f02_a_rollback_journal_is_said(box: Box) -> None:
    box.write("PRAGMA journal_mode = DELETE")
    result = box.run()
    assert "rollback-journal mode: writers waited for up to" in result["notes"][0]


def test_f02_a_locked_database_is_given_up(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.hearth.fleet.plugins.module_utils.cold_copy.BUSY_SECONDS", 0.2)
    box.write("PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(box.database, isolation_level=None)) as daemon:
        daemon.execute("BEGIN EXCLUSIVE")
        with pytest.raises(FleetError, match="database is locked\n  → it is in rollback-journal mode"):
            box.run()
    assert box.left_over == []


def test_f01_a_snapshot_has_a_deadline(box: Box, tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="took more than 0 s and was given up"):
        backup_snapshot.take(box.order()["databases"][0], tmp_path / "copy", seconds=1e-9)
    assert not (tmp_path / "copy").exists()


def test_f03_a_snapshot_of_another_schema_is_none(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["1:a", "1:b"])
    monkeypatch.setattr("ansible_collections.hearth.fleet.plugins.module_utils.cold_copy.schema_of", lambda _connection: next(answers))
    with pytest.raises(FleetError, match="the schema of the snapshot is not that of the database"):
        box.run()
    assert box.left_over == []


def test_f03_a_damaged_database_makes_no_backup(box: Box) -> None:
    box.write(
        "CREATE TABLE more (a)",
        *["INSERT INTO more VALUES (randomblob(900))"] * 40,
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA journal_mode = DELETE",
    )
    content = bytearray(box.database.read_bytes())
    content[5 * 4096 : 6 * 4096] = b"\x55" * 4096
    box.database.write_bytes(content)
    with pytest.raises(FleetError, match=r"the database is damaged|cannot be checked"):
        box.run()
    assert (box.manifests if (box.bin / "objects/fleet").exists() else [], box.left_over) == ([], [])


@pytest.mark.parametrize(
    ("path", "tables", "said"),
    [
        pytest.param("node/missing.db", ["kv"], "there is no database", id="wrong-path"),
        pytest.param("node/relay.db", ["blobs"], r"no table blobs \(found: kv\)", id="wrong-database"),
    ],
)
def test_f04_a_wrong_path_is_no_empty_database(box: Box, path: str, tables: list[str], said: str) -> None:
    with pytest.raises(FleetError, match=said):
        box.run(databases=[{"path": str(box.root / path), "engine": "sqlite", "tables": tables, "sentinel": ""}])
    assert not (box.root / "node/missing.db").exists()


def test_f04_a_database_without_any_table_is_not_backed_up(box: Box) -> None:
    box.write("DROP TABLE kv")
    with pytest.raises(FleetError, match="no table at all"):
        box.run(databases=[{**box.order()["databases"][0], "tables": []}])


def test_f05_an_old_snapshot_does_not_pass_for_the_new_one(box: Box, tmp_path: Path) -> None:
    (box.home / "work").mkdir()
    shutil.copy(box.database, box.home / "work/database-0")
    box.write("INSERT INTO kv VALUES ('new')")
    box.run()
    assert restored(box, tmp_path, box.manifests[0]) == ["a", "new"]
    with pytest.raises(FleetError, match="is in the way of a snapshot"):
        backup_snapshot.take(box.order()["databases"][0], box.database)
    assert box.database.exists()


def test_f06_versions_survive(box: Box, tmp_path: Path) -> None:
    box.write("PRAGMA user_version = 41", "PRAGMA application_id = 77")
    box.run()
    restored(box, tmp_path, box.manifests[0])
    with closing(sqlite3.connect(tmp_path / "restored.db")) as database:
        found = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")]
    assert found == [41, 77]
    assert box.manifests[0]["parts"][0]["schema"].startswith("41:")


# Encrypting


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param({"program": "zstd", "cut": 100, "code": 1}, "zstd failed with status 1: it gave no reason", id="zstd-dies-late"),
        pytest.param({"program": "zstd", "code": 0, "cut": 100}, "zstd ended before it had read everything", id="zstd-ends-early"),
        pytest.param(
            {"program": "age", "word": "--recipient", "count": 2, "code": 1, "say": "no entropy"}, "age does not encrypt.*no entropy", id="age"
        ),
    ],
)
def test_f07_a_stage_that_dies_makes_no_backup(box: Box, fault: dict[str, Any], said: str) -> None:
    box.write("CREATE TABLE more (a)", *["INSERT INTO more VALUES (randomblob(90000))"] * 9)
    box.fail(**fault)
    with pytest.raises(FleetError, match=said):
        box.run()
    assert not (box.bin / "objects/fleet").exists()
    assert box.left_over == []


def test_f07_who_died_first_is_named(box: Box) -> None:
    """Those before it in the pipeline are ended by SIGPIPE."""
    box.fail("age", code=1, say="no entropy")
    with pytest.raises(FleetError, match="age failed with status 1: no entropy"):
        backup_pipeline.seal(lambda write: write(bytes(1 << 22)), box.root / "out", [RECIPIENT])


def test_f07_a_wrong_key_is_not_blamed_on_zstd(box: Box) -> None:
    """What comes after is left with nothing to read."""
    (box.root / "part").write_bytes(b"junk")
    box.fail("zstd", code=1, say="unexpected end of file")
    with (box.root / "part").open("rb") as source, pytest.raises(FleetError, match="age failed with status 1: no age file"):
        backup_pipeline.unseal(source, lambda _chunk: None, ["--identity", "key"])


@pytest.mark.parametrize(
    ("recipients", "said"),
    [
        pytest.param([], "nobody to encrypt for", id="none"),
        pytest.param(["rubbish"], "malformed recipient", id="malformed"),
        pytest.param(["AGE-SECRET-KEY-1QQQ"], "private identity is given as a recipient", id="private"),
    ],
)
def test_f14_nothing_is_ever_written_in_the_clear(box: Box, recipients: list[str], said: str) -> None:
    with pytest.raises(FleetError, match=said) as raised:
        box.run(recipients=recipients)
    assert "QQQ" not in str(raised.value)
    assert not (box.bin / "objects/fleet").exists()
    with pytest.raises(FleetError):
        backup_pipeline.seal(lambda write: write(b"secret"), box.root / "out", recipients)
    assert not (box.root / "out").exists()


def test_f14_an_age_that_does_not_encrypt_is_found_out(box: Box) -> None:
    box.fail("age", plain=True)
    with pytest.raises(FleetError, match="not encrypted"):
        backup_pipeline.seal(lambda write: write(b"secret"), box.root / "out", [RECIPIENT])
    assert not (box.root / "out").exists()


def test_the_way_back(box: Box, tmp_path: Path) -> None:
    sealed = backup_pipeline.seal(lambda write: write(b"plain" * 1000), tmp_path / "part", [RECIPIENT])
    found: list[bytes] = []
    with (tmp_path / "part").open("rb") as source:
        assert backup_pipeline.unseal(source, found.append, ["--identity", "key"]) == sealed
    assert b"".join(found) == b"plain" * 1000
    assert (sealed.plain_size, sealed.size) == (5000, 5022)


# Sending


@pytest.mark.parametrize("word", [DATABASE, "manifest.json"])
@pytest.mark.parametrize(
    "say",
    [
        pytest.param("Failed to copyto: ServiceUnavailable status code: 503, request id: x", id="503"),
        pytest.param('RequestError: Put "http://x": dial tcp: i/o timeout', id="timeout"),
        pytest.param("RequestError: write: connection reset by peer", id="cut"),
    ],
)
def test_f08_a_store_in_trouble_is_asked_again(box: Box, word: str, say: str) -> None:
    box.fail("rclone", count=3, word=word, say=say, code=1)
    box.run()
    assert len(box.manifests) == 1
    assert len(box.told) == 3
    assert "attempt 3 of 5" in box.told[-1]


@pytest.mark.parametrize("word", [DATABASE, "manifest.json"])
def test_f08_what_is_complete_in_the_spool_is_not_lost(box: Box, tmp_path: Path, word: str) -> None:
    box.fail("rclone", count=99, word=word, say="ServiceUnavailable status code: 503", code=1)
    with pytest.raises(FleetError, match="cannot be reached, or is in trouble"):
        box.run()
    assert [key for key in box.objects if key.endswith(".json")] == [] if (box.bin / "objects/fleet").exists() else True
    spooled = backup_run.spooled(box.home)
    assert len(spooled) == 1
    assert backup_run.read_state(box.home)["attempt"]["ok"] is False
    box.heal()
    box.write("INSERT INTO kv VALUES ('later')")
    box.clock.now += 3600
    box.run()
    first, second = box.manifests
    assert (first["id"], first["sequence"], second["sequence"]) == (spooled[0], 1, 2)
    assert (restored(box, tmp_path, first), restored(box, tmp_path, second)) == (["a"], ["a", "later"])
    assert box.left_over == []


def test_f08_a_part_that_is_there_is_not_sent_again(box: Box) -> None:
    box.fail("rclone", count=99, word="manifest.json", say="status code: 503", code=1)
    with pytest.raises(FleetError):
        box.run()
    box.heal()
    box.forget_calls()
    box.run()
    assert [words[-1].rpartition("/")[2] for words in box.calls("rclone")] == ["manifest.json", "manifest.json"]


def test_f08_a_spool_that_a_power_cut_tore_is_made_again(box: Box) -> None:
    box.fail("rclone", count=99, say="status code: 503", code=1)
    with pytest.raises(FleetError):
        box.run()
    box.heal()
    part = next(box.home.rglob(DATABASE))
    part.write_bytes(bytes(part.stat().st_size))
    result = box.run()
    assert "is torn" in result["notes"][0]
    assert [manifest["sequence"] for manifest in box.manifests] == [2]


def test_f09_nothing_is_overwritten(box: Box) -> None:
    box.run()
    for words in box.calls("rclone"):
        assert words[words.index("--header") + 1] == "If-None-Match: *"


def test_f09_an_answer_that_got_lost_is_no_second_object(box: Box) -> None:
    """The object was written, but its writer died before it heard so."""
    box.fail("rclone", count=99, word="manifest.json", say="status code: 503", code=1)
    with pytest.raises(FleetError):
        box.run()
    box.heal()
    next(box.home.rglob("*.sent")).unlink()
    directory = next((box.home / "spool").iterdir())
    part = json.loads((directory / "manifest.json").read_text())["parts"][0]
    (directory / DATABASE).write_bytes(box.objects[part["key"]])
    result = box.run()
    assert "was in the store already" in result["notes"][0]
    assert len(box.manifests) == 2


def test_f18_a_short_read_is_found_out(box: Box) -> None:
    box.fail("rclone", word=DATABASE, sent=7)
    with pytest.raises(FleetError, match=r"the file has \d+ bytes, but 7 of them were sent"):
        box.run()
    assert [key for key in box.objects if key.endswith("manifest.json")] == []


# Clocks, locks, space, signals


@pytest.mark.parametrize(
    ("skew", "said"),
    [pytest.param(3600, "1h ahead of", id="ahead"), pytest.param(-90, "1m30s behind", id="behind"), pytest.param(5, "", id="tolerable")],
)
def test_f11_a_wrong_clock_is_reported(box: Box, skew: int, said: str) -> None:
    box.clock.skew = skew
    result = box.run()
    assert box.manifests[0]["clock_skew_seconds"] == backup_run.read_state(box.home)["clock_skew_seconds"] == skew
    assert any(said in note for note in result["notes"]) if said else result["notes"] == []


def test_f11_a_clock_that_jumped_does_not_make_data_old(box: Box) -> None:
    box.run()
    box.clock.now -= 20 * 365 * DAY
    box.clock.skew = -20 * 365 * DAY
    assert box.run()["same_as"] != ""
    assert [manifest["sequence"] for manifest in box.manifests] == [1, 2]


def test_f13_no_second_run(box: Box) -> None:
    with backup_run._locked(box.home):
        assert backup_run.is_running(box.home)
        with pytest.raises(backup_run.AlreadyRunning, match="the run before has not ended"):
            box.run()
    assert not backup_run.is_running(box.home)
    assert backup_run.read_state(box.home)["attempt"] is None


def test_f17_a_disk_that_is_too_small_is_found_beforehand(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_space, "free_bytes", lambda _directory: 1000)
    with pytest.raises(FleetError, match=r"\d+ bytes \(.*\) are needed for a snapshot .*, 1000 bytes"):
        box.run()
    assert not (box.bin / "objects/fleet").exists()
    assert box.left_over == []


def test_f17_what_was_learned_of_the_last_time_counts(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    needed: list[int] = []
    monkeypatch.setattr(backup_run, "want_free", lambda _directory, count, _purpose: needed.append(count))
    box.run()
    state = backup_run.read_state(box.home)
    for part in state["last"]["parts"]:
        part["size"] = part["plain_size"] // 4
    (box.home / "state.json").write_text(json.dumps(state))
    box.write("INSERT INTO kv VALUES ('b')")
    box.run()
    assert needed[1] < needed[0]


@pytest.mark.parametrize(
    ("fault", "complete"),
    [
        pytest.param({"program": "age", "word": "--recipient"}, False, id="at-the-recipients"),
        pytest.param({"program": "zstd"}, False, id="while-compressing"),
        pytest.param({"program": "rclone", "word": DATABASE}, True, id="while-sending-a-part"),
        pytest.param({"program": "rclone", "word": "manifest.json"}, True, id="while-sending-the-manifest"),
    ],
)
def test_f03_a_killed_run_leaves_nothing_that_passes_for_a_backup(box: Box, tmp_path: Path, fault: dict[str, Any], complete: bool) -> None:
    box.fail(kill=True, **fault)
    assert box.in_child(box.run) == SIGKILL
    box.heal()
    assert len(backup_run.spooled(box.home)) == complete
    assert backup_run.read_state(box.home)["attempt"]["ok"] is None
    box.write("INSERT INTO kv VALUES ('later')")
    box.run()
    assert len(box.manifests) == 1 + complete
    assert restored(box, tmp_path, box.manifests[-1]) == ["a", "later"]
    if complete:
        assert restored(box, tmp_path, box.manifests[0]) == ["a"]
    assert box.left_over == []


def test_a_run_that_is_asked_to_end_cleans_up(box: Box) -> None:
    def stop(_number: int, _frame: object) -> None:
        raise backup_run.Stopped("stopped by SIGTERM")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(backup_run.Stopped):
            box.run(databases=[], command=["/bin/sh", "-c", "sleep 0.2; kill -TERM $PPID; sleep 60"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert box.left_over == []
    assert backup_run.read_state(box.home)["attempt"]["said"] == "stopped by SIGTERM"


def test_a_state_that_is_torn_is_a_first_one(box: Box) -> None:
    (box.home / "state.json").write_text('{"sequence": 7,')
    assert backup_run.read_state(box.home)["sequence"] == 0
    (box.home / "state.json").unlink()
    (box.home / "state.json").symlink_to("/etc/passwd")
    assert backup_run.read_state(box.home)["last"] is None
