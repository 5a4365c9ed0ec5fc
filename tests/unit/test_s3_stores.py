# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups against stores that others wrote: what they can do is used and said, and what they lack is said too.

moto's store has lifecycle rules, versions, object lock, conditional writes and policies; `rclone serve s3` has none of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import restoring
import s3_servers
import test_store_gate
import yaml
from s3_servers import Server

from ansible_collections.hearth.fleet.plugins.action import backup_lifecycle as lifecycle_action
from ansible_collections.hearth.fleet.plugins.action import restore as restore_action
from ansible_collections.hearth.fleet.plugins.module_utils import (
    backup_lifecycle,
    backup_manifest,
    backup_review,
    backup_run,
    identities,
    object_store,
    restore_stage,
    restore_stream,
)
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Abilities, Store, StoreError
from ansible_collections.hearth.fleet.plugins.modules import backup_check
from ansible_collections.hearth.fleet.plugins.plugin_utils import store_access

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = "/usr/bin/rclone"
NEEDS_AGE = pytest.mark.skipif(not shutil.which("age") or not shutil.which("zstd"), reason="needs age and zstd")
pytestmark = pytest.mark.skipif(not shutil.which("rclone"), reason="needs rclone")


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_servers.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="module")
def plain_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a store that has nothing but objects."""
    with s3_servers.rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
def bucket(moto: Server, request: pytest.FixtureRequest) -> str:
    """Return a new bucket of the test's own."""
    return moto.bucket(f"b{abs(hash(request.node.nodeid)):x}")


@pytest.fixture(params=["on-the-path", "of-the-distribution"])
def any_rclone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the one that hosts have too, where there is one."""
    if request.param == "of-the-distribution":
        if not os.path.exists(DISTRIBUTION) or shutil.which("rclone") == DISTRIBUTION:
            pytest.skip("there is no other rclone")
        monkeypatch.setenv("PATH", f"{os.path.dirname(DISTRIBUTION)}:{os.environ['PATH']}")


def store_of(server: Server, user: str, bucket: str, directory: Path, *, endpoint: str = "", **more: Any) -> Store:
    """Return the store as the tools use it, with the credentials of a user."""
    conf = directory / f"{user}.conf"
    conf.write_text(object_store.conf_text({"endpoint": endpoint or server.endpoint}, *server.keys[user]))
    return Store(conf, bucket, sleep=lambda _seconds: None, **more)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


# What credentials can do, and the store


@pytest.mark.parametrize(
    ("user", "can"),
    [
        pytest.param("writer", {}, id="only-write"),
        pytest.param("deleter", {"delete": True}, id="write-and-delete"),
        pytest.param("getter", {"read": True}, id="write-and-read"),
        pytest.param("reader", {"write": False, "conditional": None, "read": None, "list": True, "delete": None}, id="read"),
    ],
)
def test_f15_what_credentials_can_do_is_found_out(moto: Server, bucket: str, tmp_path: Path, user: str, can: dict[str, Any]) -> None:
    check = {"host": "relay1", "store": {"endpoint": moto.endpoint, "bucket": bucket, "prefix": ""}, "readable_credentials": False}
    conf = object_store.conf_text(check["store"], *moto.keys[user])
    found = backup_check.ask_store(check, conf, "", str(tmp_path))
    only_write = Abilities(write=True, conditional=True, read=False, list=False, delete=False, said={})
    assert found._replace(said={}) == only_write._replace(**can)
    assert bool(backup_review.problems(check, found)) == (user != "writer")
    assert backup_review.lacks(found) == []


@pytest.mark.usefixtures("any_rclone")
def test_f15_what_may_delete_without_looking_is_found_out_by_every_rclone(moto: Server, bucket: str, tmp_path: Path, file: Path) -> None:
    found = object_store.probe(store_of(moto, "deleter", bucket, tmp_path), "v1/probe-1d/relay1/x", file)
    assert (found.delete, found.read, found.list, found.conditional) == (True, False, False, True)
    assert "Contents" not in moto.client.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    ("user", "bucket_name", "path", "remedy"),
    [
        pytest.param("writer", "not-there", "backup_store.bucket", "create it there", id="no-bucket"),
        pytest.param("stranger", "", "backup_access_key_id", "copy ID and secret again, or give them s3:PutObject", id="unknown-id"),
        pytest.param("mistaken", "", "backup_access_key_id", "copy ID and secret again, or give them s3:PutObject", id="wrong-secret"),
    ],
)
def test_what_is_wrong_with_the_store_is_said_with_its_place(
    moto: Server, bucket: str, tmp_path: Path, user: str, bucket_name: str, path: str, remedy: str
) -> None:
    check = {"host": "relay1", "store": {"endpoint": moto.endpoint, "bucket": bucket_name or bucket, "prefix": ""}, "readable_credentials": False}
    try:
        found = backup_check.ask_store(check, object_store.conf_text(check["store"], *moto.keys[user]), "", str(tmp_path))
    except StoreError as error:
        mistakes = [backup_review.about_error(check, error.kind, str(error))]
    else:
        mistakes = backup_review.problems(check, found)
    assert [one.path for one in mistakes] == [path]
    assert remedy in mistakes[0].remedy
    assert "RequestID" not in mistakes[0].problem


def test_f09_a_store_without_conditions_is_found_out(plain_store: Server, tmp_path: Path) -> None:
    check = {"host": "relay1", "store": {"endpoint": plain_store.endpoint, "bucket": plain_store.bucket("probed"), "prefix": ""}}
    found = backup_check.ask_store(check, object_store.conf_text(check["store"], *plain_store.keys["admin"]), "", str(tmp_path))
    assert found.conditional is False
    assert ["it knows no If-None-Match" in said for said in backup_review.lacks(found)] == [True]


# Nothing is overwritten


@pytest.mark.usefixtures("any_rclone")
def test_f09_the_store_refuses_a_second_object_of_the_same_name(moto: Server, bucket: str, tmp_path: Path, file: Path) -> None:
    store = store_of(moto, "writer", bucket, tmp_path)
    moto.put(bucket, "v1/a", b"of somebody else")
    with pytest.raises(StoreError) as refused:
        store.put(file, "v1/a")
    assert refused.value.kind == object_store.EXISTS
    assert str(refused.value).startswith("v1/a: an object of this name is there already (")
    assert "PreconditionFailed" in str(refused.value)
    assert moto.content(bucket, "v1/a") == b"of somebody else"


def test_f09_an_upload_whose_answer_was_lost_is_known_again(moto: Server, bucket: str, tmp_path: Path, file: Path) -> None:
    told: list[str] = []
    store = store_of(moto, "writer", bucket, tmp_path, tell=told.append)
    ask, count = store._ask, iter((1,))

    def lose(*args: Any, **more: Any) -> str:
        said = ask(*args, **more)
        if next(count, None):
            raise StoreError("the answer was lost", object_store.UNREACHABLE)
        return said

    store._ask = lose  # type: ignore[method-assign]
    assert store.put(file, "v1/a") is False
    assert [line.partition(";")[0] for line in told] == ["the answer was lost"]
    assert moto.content(bucket, "v1/a") == file.read_bytes()


def test_f09_without_conditions_the_tools_write_all_the_same(plain_store: Server, tmp_path: Path, file: Path) -> None:
    name = plain_store.bucket("overwritten")
    store = store_of(plain_store, "admin", name, tmp_path)
    assert [store.put(file, "v1/a"), store.put(file, "v1/a")] == [True, True]
    assert plain_store.content(name, "v1/a") == file.read_bytes()


def test_an_object_in_chunks(moto: Server, bucket: str, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "WHOLE_BYTES", 1 << 20)
    content = os.urandom(6 << 20)
    file.write_bytes(content)
    assert store_of(moto, "writer", bucket, tmp_path).put(file, "v1/large")
    assert moto.client.head_object(Bucket=bucket, Key="v1/large")["ETag"].endswith('-2"')
    assert store_of(moto, "reader", bucket, tmp_path).get("v1/large", tmp_path / "copy") == len(content)
    assert (tmp_path / "copy").read_bytes() == content


@pytest.mark.usefixtures("any_rclone")
def test_f10_what_is_no_larger_than_a_request_may_be_is_one_for_every_rclone(
    moto: Server, bucket: str, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Newer ones would copy files of 256 MiB in chunks; here, smaller ones already.
    monkeypatch.setattr(object_store, "_KEPT_ENVIRONMENT", (*object_store._KEPT_ENVIRONMENT, "RCLONE_MULTI_THREAD_CUTOFF"))
    monkeypatch.setenv("RCLONE_MULTI_THREAD_CUTOFF", "1M")
    file.write_bytes(os.urandom(12 << 20))
    assert store_of(moto, "writer", bucket, tmp_path).put(file, "v1/large")
    assert "-" not in moto.client.head_object(Bucket=bucket, Key="v1/large")["ETag"], "the MD5 of all, and no number of chunks"


# The rules by which the store expires backups

FLEET = {
    "all": {
        "hosts": {"relay1": {"ansible_host": "192.0.2.1", "ansible_user": "nobody", "fleet_addresses": ["192.0.2.1"]}},
        "vars": {
            "fleet_placement": {"all": ["node"]},
            "fleet_services": {
                "node": {
                    "version": "1.0.0",
                    "artifact": {"url": "https://example.org/node-{arch}", "sha256": dict.fromkeys(("amd64", "arm64"), "0123456789abcdef" * 4)},
                    "command": ["node"],
                    "backup": {
                        "databases": [{"path": "/var/lib/node/node.db"}],
                        "keep": "30d",
                        "more": {"keys": {"files": ["/var/lib/node/key"], "keep": "forever"}},
                    },
                }
            },
            "backup_recipients": ["age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"],
        },
    }
}
SET = {"databases": [{"path": "/var/lib/node/node.db"}], "files": [], "command": [], "keep": 30 * 86400, "max_age": 0}
FOREIGN = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}


class Operator:
    """Runs the playbooks, with an inventory of one host, which nobody can reach."""

    def __init__(self, server: Server, bucket: str, directory: Path) -> None:
        self.server, self.bucket, self.directory = server, bucket, directory
        self.inventory = directory / "hosts.yml"
        self.inventory.write_text(yaml.safe_dump(FLEET))

    def play(self, playbook: str, *options: str, **variables: Any) -> tuple[int, str]:
        """Return the status and what was said."""
        users = {"backup": "writer", "backup_read": "reader", "backup_admin": "admin"}
        given = {
            "backup_store": {"endpoint": self.server.endpoint, "bucket": self.bucket},
            **{f"{begin}_{name}": value for begin, user in users.items() for name, value in self.server.keys[user]._asdict().items()},
            **variables,
        }
        (self.directory / "given.json").write_text(json.dumps(given))
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [program, f"playbooks/{playbook}", "-i", str(self.inventory), "-e", f"@{self.directory / 'given.json'}", *options]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_LOCAL_TEMP": str(self.directory),
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr

    def act(self, state: str = "applied", user: str = "admin") -> dict[str, Any]:
        """Let the action do its work without a playbook; return its result."""
        arguments = {
            "store": {"endpoint": self.server.endpoint, "bucket": self.bucket},
            **self.server.keys[user]._asdict(),
            "specs": {"relay1": {"services": {"node": {"backup": {**SET, "more": {}}}}}},
            "state": state,
        }
        task = Mock(args=arguments, check_mode=False, async_val=0)
        result = lifecycle_action.ActionModule(task, Mock(), Mock(), Mock(), Mock(), Mock()).run(task_vars={})
        return dict(result)


@pytest.fixture
def operator(moto: Server, bucket: str, tmp_path: Path) -> Operator:
    return Operator(moto, bucket, tmp_path)


def test_f10_rules_are_shown_then_set_then_left_alone(operator: Operator, moto: Server, bucket: str) -> None:
    moto.set_rules(bucket, [FOREIGN])
    status, said = operator.play("backup_lifecycle.yml", "--check", "--diff")
    assert status == 0, said
    assert '+   "ID": "hearth-data-30d",' in said
    assert "changed=1" in said
    assert moto.rules(bucket) == [FOREIGN]
    status, said = operator.play("backup_lifecycle.yml")
    assert status == 0, said
    assert "changed=1" in said
    assert f"bucket {bucket} keeps no versions" in said
    found = moto.rules(bucket)
    assert found == [FOREIGN, *backup_lifecycle.wanted(["data-30d"])]
    status, said = operator.play("backup_lifecycle.yml")
    assert (status, "changed=0" in said) == (0, True)
    assert moto.rules(bucket) == found


def test_a_class_that_is_no_more_keeps_its_rule(operator: Operator, moto: Server, bucket: str) -> None:
    key = "v1/old-7d/relay1/node/20261121T120000Z-000007-ab12cd/manifest.json"
    moto.put(bucket, key)
    assert operator.act()["changed"]
    rules = moto.rules(bucket)
    assert rules == backup_lifecycle.wanted(["data-30d", "old-7d"])
    moto.set_rules(bucket, [rule for rule in rules if rule["ID"] != "hearth-old-7d"])
    assert operator.act("checked")["problems"] == ["v1/old-7d/: there is no rule; expiry after 9 days is wanted"]
    moto.set_rules(bucket, rules)
    moto.client.delete_object(Bucket=bucket, Key=key)
    assert operator.act("checked")["problems"] == []  # nothing is left that the rule is about, and it harms nobody
    assert not operator.act()["changed"]


def test_rules_that_are_missing_or_wrong_are_found(operator: Operator, moto: Server, bucket: str, tmp_path: Path) -> None:
    wanted = backup_lifecycle.wanted(["data-30d"])
    everything = {"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    present = [{**wanted[0], "Expiration": {"Days": 3}}, *wanted[2:], everything]
    moto.set_rules(bucket, present)
    report = tmp_path / "report.json"
    status, _said = operator.play("backup_status.yml", backup_status_report=str(report))
    assert status == 2
    assert [one for one in json.loads(report.read_text())["problems"] if not one.startswith("node.")] == [
        "v1/data-30d/: the rule hearth-data-30d says expiry after 3 days of v1/data-30d/, wanted is expiry after 38 days",
        "v1/probe-1d/: there is no rule; expiry after 2 days is wanted",
        "everything: the rule all, which is not the collection's, removes backups too",
    ]
    assert moto.rules(bucket) == present
    assert operator.act()["problems"] == ["everything: the rule all, which is not the collection's, removes backups too"]
    assert moto.rules(bucket) == [wanted[0], wanted[2], everything, wanted[1]]


@pytest.mark.parametrize(
    ("kind", "versions", "lock"),
    [
        pytest.param({}, "", False, id="none"),
        pytest.param({"versions": "Enabled"}, "Enabled", False, id="versions"),
        pytest.param({"versions": "Suspended"}, "Suspended", False, id="no-more"),
        pytest.param({"lock": True}, "Enabled", True, id="lock"),
    ],
)
def test_f15_in_a_bucket_with_versions_they_expire_too(
    operator: Operator, moto: Server, bucket: str, kind: dict[str, Any], versions: str, lock: bool
) -> None:
    operator.bucket = moto.bucket(f"{bucket}v", **kind)
    done = operator.act()
    assert (done["changed"], done["problems"], done["versions"], done["object_lock"]) == (True, [], versions, lock)
    assert [one.partition(":")[0] for one in done["warnings"]] == ([] if versions == "Enabled" else [f"bucket {operator.bucket} keeps no versions"])
    assert moto.rules(operator.bucket) == backup_lifecycle.wanted(["data-30d"], versioned=bool(versions))
    assert not operator.act()["changed"]


def test_a_bucket_that_is_not_there_is_said(operator: Operator) -> None:
    operator.bucket = "not-there"
    said = operator.act()["msg"]
    assert said == f"backup_store.bucket: the store {operator.server.endpoint} has no bucket 'not-there'\n  → create it there, or correct its name"


@pytest.mark.parametrize("user", ["stranger", "mistaken"])
def test_credentials_that_the_store_does_not_know_are_said(operator: Operator, user: str) -> None:
    said = operator.act(user=user)["msg"]
    assert said.startswith(f"backup_admin_access_key_id: the store {operator.server.endpoint} refuses these credentials (")
    assert said.endswith(f"\n  → copy ID and secret again, or give them all rights in bucket {operator.bucket}")
    assert "wr0ng" not in said


def test_credentials_that_may_not_set_rules_are_said(operator: Operator) -> None:
    said = operator.act(user="lister")["msg"]
    assert said.startswith(f"backup_admin_access_key_id: bucket {operator.bucket}: its lifecycle rules cannot be read: ")
    assert said.endswith("\n  → give these credentials s3:GetBucketVersioning, s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration")


def test_a_store_without_rules_is_said_to_have_none(plain_store: Server, tmp_path: Path) -> None:
    done = Operator(plain_store, plain_store.bucket("ruled"), tmp_path).act()
    said = "bucket ruled: the store has no lifecycle rules (it does not know them), so that nothing expires by itself"
    assert (done["supported"], done["versions"], done["object_lock"], done["problems"]) == (False, "", False, [said])


# A backup, from its host into the store and back


class Host:
    """A host with a database, and a store with a user for each purpose."""

    def __init__(self, server: Server, bucket: str, directory: Path, rows: int = 3) -> None:
        self.server, self.bucket, self.directory = server, bucket, directory
        _changed, keys = identities.bring_about(directory / "keys", ["operator"], [], check_mode=False)
        self.home, self.database = directory / "node.data", restoring.database(directory / "node.db", map(str, range(rows)))
        self.home.mkdir()
        self.order = {
            "service": "node",
            "set": "data",
            "host": "relay1",
            "class": "data-30d",
            "keep_days": 30,
            "refresh_days": 8,
            "databases": [{"path": str(self.database), "engine": "sqlite", "tables": ["kv"], "sentinel": restoring.SENTINEL}],
            "files": [],
            "command": [],
            "recipients": [keys[0]["recipient"]],
            "release_home": str(directory),
        }

    def back_up(self, endpoint: str = "") -> dict[str, Any]:
        return backup_run.run(self.order, self.home, store_of(self.server, "writer", self.bucket, self.directory, endpoint=endpoint))

    def restore(self, identifier: str = "") -> Path:
        """Bring a backup back, as the action and its host do; return the database."""
        given = {"service": "node", "set": "data", "at": "", "id": identifier, "from_host": ""}
        store = store_of(self.server, "reader", self.bucket, self.directory)
        _backup, manifest = restore_action.find(store, given, "relay1")
        part = manifest["parts"][0]
        received = self.directory / "received"
        with received.open("wb") as file:
            file.writelines(restore_stream.pieces(store, manifest, part, [str(self.directory / "keys" / "operator.txt")], "", 1 << 16))
        (self.directory / "back").mkdir(exist_ok=True)
        place = restore_stage.target(str(self.directory / "back" / "node.db"), "20261121T130000Z-beef01", 0, self.directory / "before")
        said = restore_stage.stage_database(received, part, place, restore_stage.Owner("root", "root"), restoring.SENTINEL)
        assert "integrity ok" in said
        return place.staged

    def manifests(self) -> list[dict[str, Any]]:
        store = store_of(self.server, "reader", self.bucket, self.directory)
        keys = [key for key in store_access.catalogue(store) if key.endswith("/manifest.json")]
        return [backup_manifest.parse(store.cat(key)) for key in keys]


@NEEDS_AGE
def test_a_backup_in_chunks_comes_back(moto: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "WHOLE_BYTES", 1)
    host = Host(moto, bucket, tmp_path)
    done = host.back_up()
    (manifest,) = host.manifests()
    assert manifest["id"] == done["id"]
    assert moto.client.head_object(Bucket=bucket, Key=manifest["parts"][0]["key"])["ETag"].endswith('-1"')
    assert restoring.values(host.restore(done["id"])) == ["0", "1", "2"]


@NEEDS_AGE
def test_f15_what_a_thief_wrote_over_is_refused_and_still_there_in_a_bucket_with_versions(moto: Server, bucket: str, tmp_path: Path) -> None:
    host = Host(moto, moto.bucket(f"{bucket}v", versions="Enabled"), tmp_path)
    host.back_up()
    key = host.manifests()[0]["parts"][0]["key"]
    s3_servers.client("s3", moto.endpoint, moto.keys["writer"]).put_object(Bucket=host.bucket, Key=key, Body=b"junk")
    with pytest.raises(FleetError, match="cannot be restored"):
        host.restore()
    thiefs, good = moto.client.list_object_versions(Bucket=host.bucket, Prefix=key)["Versions"]
    assert thiefs["IsLatest"]
    moto.client.delete_object(Bucket=host.bucket, Key=key, VersionId=thiefs["VersionId"])
    assert good["Size"] > thiefs["Size"]
    assert restoring.values(host.restore()) == ["0", "1", "2"]


@NEEDS_AGE
def test_f09_an_upload_that_arrived_twice_is_no_second_backup(moto: Server, bucket: str, tmp_path: Path) -> None:
    """The second one is refused by the store, and its answer is all that the host hears; the next run knows the object again."""
    gate = test_store_gate.load()
    keys = {moto.keys["writer"].access_key_id: "write"}
    server = gate.serve({"listen": "127.0.0.1:0", "store": moto.endpoint.removeprefix("http://"), "keys": keys})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        port = server.server_address[1]
        host = Host(moto, bucket, tmp_path)
        fault = json.dumps({"duplicate": True, "methods": ["PUT"], "path": "database-0"}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/fault", fault) as answer:
            assert answer.status == 200
        with pytest.raises(StoreError, match="an object of this name is there already"):
            host.back_up(f"http://127.0.0.1:{port}")
        assert host.manifests() == []
        (spooled,) = backup_run.spooled(host.home)
        done = host.back_up(f"http://127.0.0.1:{port}")
    finally:
        server.shutdown()
        server.server_close()
    assert done["notes"] == [f"v1/data-30d/relay1/node/{spooled}/database-0.zst.age was in the store already"]
    assert spooled in [one["id"] for one in host.manifests()]
    assert restoring.values(host.restore(spooled)) == ["0", "1", "2"]
