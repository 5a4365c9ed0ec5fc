# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills on backups made by hand: what comes back, what is found out, what must be refused, and what is left afterwards."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest
import restoring

from ansible_collections.hearth.fleet.plugins.module_utils import (
    backup_manifest,
    backup_names,
    drill_negative,
    drill_run,
    drill_sandbox,
    identities,
)
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Object, Store, StoreError

pytestmark = pytest.mark.skipif(not shutil.which("age") or not shutil.which("zstd"), reason="needs age and zstd")

DATA = "/var/lib/node/node.db"
KEY = "/var/lib/node/keys/node.key"
SETTINGS = {"older": 1}
NOW = int(time.time())


class Shelf(Store):
    """A store whose objects lie on a shelf: key, content, and when it was put there."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"), "bucket")
        self.objects: dict[str, tuple[bytes, float]] = {}

    def list(self, prefix: str = "") -> list[Object]:
        rows = ((key, content, at) for key, (content, at) in sorted(self.objects.items()) if key.startswith(prefix))
        return [Object(key, len(content), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))) for key, content, at in rows]

    def get(self, key: str, file: Path) -> int:
        return file.write_bytes(self.objects[key][0])

    def cat(self, key: str, limit: int = 1 << 20) -> bytes:
        return self.objects[key][0]

    def reader(self, key: str, limit: int = -1) -> contextlib.AbstractContextManager[IO[bytes]]:
        raise AssertionError("a drill reads what it has fetched")

    def damage(self, ending: str, content: bytes) -> None:
        """Replace the newest object whose key ends so."""
        key = max(key for key in self.objects if key.endswith(ending))
        self.objects[key] = (content, self.objects[key][1])


class Fleet:
    """One host whose set ``data`` has a database and a directory of files, and the runner of its drills, whose sandbox is a stand-in."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tmp_path = tmp_path
        self.shelf = Shelf()
        self.calls: list[Any] = []
        self.told: list[str] = []
        self.ready = True
        _changed, keys = identities.bring_about(tmp_path / "keys", ["drill", "other"], [], check_mode=False)
        self.recipients = {key["name"]: str(key["recipient"]) for key in keys}
        self.place = drill_run.Place(tmp_path / "home", tmp_path / "keys" / "drill.txt", getpass.getuser())
        self.place.home.mkdir()
        self.order: dict[str, Any] = {
            "host": "relay1",
            "service": "node",
            "set": "data",
            "class": "data-30d",
            "keep_days": 30,
            "max_age": 7200,
            "databases": [{"path": DATA, "engine": "sqlite", "tables": ["kv"], "sentinel": restoring.SENTINEL}],
            "files": [],
            "other_databases": [],
            "start": True,
            "type": "exec",
            "command": ["/usr/local/bin/node"],
            "working_directory": "/",
            "release": {"version": "1.0.1", "root": "/opt/hearth-drill/node", "binaries": ["node"]},
            "environment": {},
            "secrets": {},
            "config": [],
            "directories": ["/var/lib/node"],
            "bootstrap": [],
            "capabilities": [],
            "ready": "http://127.0.0.1:1/",
            "deadline": 10,
            "passes": 1,
            "interval": 1,
        }
        monkeypatch.setattr(drill_sandbox, "stop", lambda: None)
        monkeypatch.setattr(drill_sandbox, "last_lines", lambda since: ["  | why"])
        monkeypatch.setattr(drill_sandbox, "start", self._start)
        monkeypatch.setattr(drill_sandbox, "wait_ready", lambda order, secrets: drill_sandbox.Waited(self.ready, "HTTP 503"))
        self.daemon: Any = lambda root: None

    def _start(self, argv: list[str], order: Any) -> None:
        root = self.place.work / "root"
        self.calls.append((argv, {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and not path.is_symlink()}))
        self.daemon(root)

    def seal(self, plain: bytes, recipients: list[str]) -> bytes:
        command = ["age", *(word for one in recipients for word in ("--recipient", one))]
        return subprocess.run(command, input=restoring.compressed(plain), capture_output=True, check=True).stdout

    def back_up(self, count: int = 3, *, ago: int = 60, sequence: int = 7, files: bytes = b"", to: str = "drill") -> str:
        """Put a backup into the store, of a database with so many rows; return its id."""
        source = restoring.database(self.tmp_path / f"{sequence}.db", map(str, range(count)))
        identifier = backup_names.identifier(NOW - ago, sequence, "ab12cd")
        parts = [(restoring.database_part(source, DATA), source.read_bytes())]
        if files:
            parts.append((restoring.part("files.tar.zst.age", "files", "/", files), files))
        finished = []
        for part, plain in parts:
            sealed = self.seal(plain, [self.recipients[to]])
            key = backup_names.object_key("data-30d", "relay1", "node", identifier, part["name"])
            self.shelf.objects[key] = (sealed, NOW - ago)
            finished.append({**part, "key": key, "size": len(sealed), "sha256": hashlib.sha256(sealed).hexdigest()})
        order = {**self.order, "recipients": [self.recipients[to]]}
        manifest = backup_manifest.build(order, identifier=identifier, parts=finished, release="1.0.1")
        self.shelf.objects[backup_manifest.key_of(manifest)] = (backup_manifest.text(manifest).encode(), NOW - ago)
        return identifier

    def drill(self, former: Any = None, settings: Any = None) -> dict[str, Any]:
        report = drill_run.perform([self.order], settings or SETTINGS, self.shelf, self.place, former, self.told.append)
        assert not self.place.work.exists(), "data in the clear were left"
        (row,) = report["rows"]
        assert report["ok"] == row["ok"]
        assert json.loads(json.dumps(row)) == row
        return dict(row)


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(tmp_path, monkeypatch)


def test_the_newest_and_an_older_one_come_back(fleet: Fleet) -> None:
    older, newest = fleet.back_up(2, ago=3600, sequence=6), fleet.back_up(3)
    row = fleet.drill()
    assert row["problems"] == []
    assert (row["id"], row["older"], row["started"], row["last_success"] is not None) == (newest, [older], True, True)
    assert row["rpo"] == pytest.approx(time.time() - (NOW - 60), abs=5)
    assert 0 < row["rto"] < 30
    assert "SELECT count(*) FROM kv: 3" in row["said"][0]
    assert row["said"][-2:] == ["refused: truncated, truncated with a manifest that fits, wrong key, stale -wal", "and 1 older"]
    assert len(fleet.calls) == 2


def test_without_older_ones_there_is_one_start(fleet: Fleet) -> None:
    fleet.back_up(2, ago=3600, sequence=6)
    fleet.back_up()
    assert fleet.drill(settings={"older": 0})["older"] == []
    assert len(fleet.calls) == 1


def test_an_older_one_from_before_there_was_a_runner_is_passed_over(fleet: Fleet) -> None:
    fleet.back_up(ago=3600, sequence=6, to="other")
    fleet.back_up()
    row = fleet.drill()
    assert (row["ok"], row["older"]) == (True, [])


@pytest.mark.parametrize(
    ("ending", "content", "said"),
    [
        pytest.param("/database-0.zst.age", b"age-encryption.org/v1\ncut", "has 25 bytes, its manifest says", id="f19-cut"),
        pytest.param("/manifest.json", b"{}", "the manifest is of version None", id="manifest-of-nothing"),
    ],
)
def test_f27_a_damaged_newest_backup_fails_the_drill(fleet: Fleet, ending: str, content: bytes, said: str) -> None:
    fleet.back_up(2, ago=3600, sequence=6)
    newest = fleet.back_up()
    fleet.shelf.damage(ending, content)
    row = fleet.drill({"rows": [{"host": "relay1", "service": "node", "set": "data", "last_success": 5.0}]})
    assert (row["ok"], row["rto"], row["last_success"]) == (False, None, 5.0)
    assert len(row["problems"]) == 1
    assert row["problems"][0].startswith(f"{newest}: ")
    assert said in row["problems"][0]
    assert len(row["older"]) == 1, "the older one is restored all the same"


def test_f19_a_flipped_bit_of_the_same_size_fails_the_drill(fleet: Fleet) -> None:
    fleet.back_up()
    (key,) = (key for key in fleet.shelf.objects if key.endswith(".age"))
    content = fleet.shelf.objects[key][0]
    fleet.shelf.damage(".age", content[:-1] + bytes([content[-1] ^ 1]))
    assert "is not the object that was uploaded" in fleet.drill()["problems"][0]


def test_f27_no_backup_at_all_fails_the_drill(fleet: Fleet) -> None:
    assert fleet.drill()["problems"] == ["there is no backup of it in the store"]


def test_f27_a_newest_backup_that_is_too_old_fails_the_drill(fleet: Fleet) -> None:
    fleet.back_up(ago=3 * 86400)
    row = fleet.drill()
    assert row["problems"] == ["the newest backup is 3d old, wanted is at most 2h"]
    assert row["rto"] is not None, "it is restored all the same"


def test_f27_a_store_that_cannot_be_asked_fails_the_drill(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_prefix: str) -> list[Object]:
        raise StoreError("the store cannot be reached")

    monkeypatch.setattr(fleet.shelf, "list", unreachable)
    assert fleet.drill()["problems"] == ["the store cannot be reached"]


def test_f20_a_backup_for_somebody_else_fails_the_drill(fleet: Fleet) -> None:
    fleet.back_up(to="other")
    assert "cannot be opened with this identity" in fleet.drill()["problems"][0]


def test_a_daemon_that_is_not_ready_fails_the_drill_with_what_it_said(fleet: Fleet) -> None:
    fleet.back_up()
    fleet.ready = False
    assert "node is not ready on the restored data: HTTP 503\n  | why" in fleet.drill()["problems"][0]


def _begin_anew(root: Path) -> None:
    (root / DATA[1:]).unlink()
    restoring.database(root / DATA[1:], [])


def _write(root: Path) -> None:
    with closing(sqlite3.connect(root / DATA[1:])) as database:
        database.execute("INSERT INTO kv VALUES ('more', 'x')")
        database.commit()


@pytest.mark.parametrize(
    ("daemon", "said"),
    [
        pytest.param(_write, "", id="it-writes"),
        pytest.param(_begin_anew, "answers '0' to 'SELECT count(*) FROM kv'; it was '3'", id="it-begins-anew"),
        pytest.param(lambda root: (root / DATA[1:]).write_bytes(b"x" * 4096), "does not answer", id="it-destroys"),
    ],
)
def test_the_sentinel_is_asked_again_once_the_daemon_runs(fleet: Fleet, daemon: Any, said: str) -> None:
    fleet.back_up()
    fleet.daemon = daemon
    problems = fleet.drill()["problems"]
    assert (said in problems[0]) if said else (problems == [])


def test_f28_what_bootstrap_makes_is_left_out_and_made_anew(fleet: Fleet, tmp_path: Path) -> None:
    keys = tmp_path / "source" / "keys"
    keys.mkdir(parents=True)
    (keys / "node.key").write_text("production")
    archive = restoring.archive([keys])
    fleet.order["files"] = ["/var/lib/node/keys"]
    fleet.order["bootstrap"] = [{"command": ["/usr/local/bin/node", "init"], "creates": KEY, "timeout": 5}]
    packed = _moved(archive, str(keys), "/var/lib/node/keys")
    fleet.back_up(files=packed)
    row = fleet.drill()
    assert row["problems"] == []
    argv, files = fleet.calls[0]
    assert files == {"var/lib/node/node.db"}
    pre = [word.partition("=")[2] for word in argv if word.startswith("--property=ExecStartPre=")]
    assert pre == [
        f'ExecStartPre="/usr/local/sbin/hearthctl" "drill" "guard" "/etc/hearth" "/var/lib/hearth" "{KEY}"',
        'ExecStartPre="/usr/local/bin/node" "init"',
    ]
    assert f"without {KEY}" in " ".join(row["said"])


def _moved(archive: bytes, source: str, target: str) -> bytes:
    """Return an archive whose members lie elsewhere."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as old, tarfile.open(fileobj=packed, mode="w") as new:
        for member in old:
            content = old.extractfile(member) if member.isreg() else None
            member.name = f"/{member.name}".replace(source, target)[1:]
            new.addfile(member, content)
    return packed.getvalue()


def test_f28_secrets_are_made_up(fleet: Fleet) -> None:
    fleet.order["secrets"] = {"TOKEN": {"as": "environment", "path": "/etc/node/node.env"}, "cert": {"as": "credential", "path": "/etc/node/cert"}}
    fleet.order["config"] = [{"path": "/etc/node/node.toml", "mode": "0640", "content": "[x]"}]
    fleet.back_up()
    assert fleet.drill()["problems"] == []
    argv, files = fleet.calls[0]
    assert {"etc/node/node.env", "etc/node/cert", "etc/node/node.toml"} <= files
    values = [word.partition("=")[2] for word in argv if word.startswith(("--setenv=TOKEN=", "--property=SetCredential=cert:"))]
    assert [len(value.replace(":", "=").rpartition("=")[2]) for value in values] == [32, 32]


def test_a_set_that_is_not_started_is_checked_all_the_same(fleet: Fleet) -> None:
    fleet.order["start"] = False
    fleet.back_up()
    row = fleet.drill()
    assert (row["ok"], row["started"], fleet.calls) == (True, False, [])


def test_one_drill_at_a_time(fleet: Fleet) -> None:
    with drill_run._alone(fleet.place), pytest.raises(FleetError, match="a drill is under way already"):
        drill_run.perform([], SETTINGS, fleet.shelf, fleet.place, None, print)
    assert not drill_run.is_running(fleet.place)


def test_what_a_killed_drill_left_in_the_clear_is_removed(fleet: Fleet) -> None:
    (fleet.place.work / "root").mkdir(parents=True)
    fleet.back_up()
    assert fleet.drill()["ok"]


# --- What must be refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", ["-wal", "-shm", "-journal"])
def test_f21_what_stands_beside_a_restored_database_is_refused(tmp_path: Path, beside: str) -> None:
    database = restoring.database(tmp_path / "node.db")
    drill_run.want_alone(database)
    (tmp_path / f"node.db{beside}").touch()
    with pytest.raises(FleetError, match=f"beside the restored node.db there is node.db{beside}"):
        drill_run.want_alone(database)


@pytest.mark.parametrize("blind", ["truncated", "truncated with a manifest that fits", "wrong key", "stale -wal"])
def test_checks_that_take_anything_fail_the_drill(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, blind: str) -> None:
    real = drill_negative.want_refusal

    def as_if_taken(one: drill_negative.Try) -> None:
        real(drill_negative.Try(one.name, lambda: None) if one.name == blind else one)

    monkeypatch.setattr(drill_negative, "want_refusal", as_if_taken)
    fleet.back_up()
    assert f"what must be refused was not ({blind})" in fleet.drill()["problems"][0]


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        pytest.param("3", "3", False, id="same"),
        pytest.param("3", "4", False, id="grown"),
        pytest.param("3", "2", True, id="shrunk"),
        pytest.param("3", None, True, id="gone"),
        pytest.param("3", "none", False, id="a-text-now"),
        pytest.param("abc", "abd", False, id="texts-may-change"),
        pytest.param("abc", None, True, id="text-gone"),
        pytest.param(None, None, False, id="nothing-asked"),
    ],
)
def test_an_answer_may_grow_but_not_shrink(before: str | None, after: str | None, lost: bool) -> None:
    with pytest.raises(FleetError, match="once the daemon has started") if lost else contextlib.nullcontext():
        drill_run.want_answer(DATA, "SELECT 1", before, after)


def test_a_key_of_ssh_has_no_recipient_that_age_could_tell(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert drill_run._recipient_of(tmp_path / "key") == ""
    assert os.path.exists(tmp_path / "key")


def test_without_age_keygen_no_identity_is_taken_for_one_without_a_recipient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FleetError, match="age-keygen cannot be run: No such file"):
        drill_run._recipient_of(tmp_path / "key")
