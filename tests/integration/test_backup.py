# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a real host into a real store, through a gate that makes faults: what goes wrong is said, and nothing is lost.

Host ops1 is client and store. The job is a test's own, with a database of its own; the tools, the credentials and the store
are those that site.yml installed.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lab_hosts import ansible, shell, wait_until

HOST = "ops1"
JOB = "drill.data"
HOME, DATABASE = f"/var/lib/hearth/backup/{JOB}", "/var/lib/hearth-test/relay.db"
ORDER = f"/etc/hearth/backup/{JOB}.json"
UNIT = "hearth-test-backup.service"
OBJECTS = "/var/lib/object-store/buckets/backups"
GATE = "http://127.0.0.1:9001"
PREFIX = f"v1/data-30d/{HOST}/drill"
RUN = f"/usr/local/sbin/hearthctl backup run {JOB}"

FILL = """
import os, sqlite3, sys
path, mib, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with sqlite3.connect(path) as database:
    database.execute(f"PRAGMA journal_mode = {mode}")
    database.execute("PRAGMA user_version = 41")
    database.execute("CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value BLOB)")
    for number in range(mib * 4):
        database.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (f"k{number}", os.urandom(1 << 18)))
"""
WRITER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
rate, begun, count = int(sys.argv[2]), time.monotonic(), 0
while True:
    database.execute("INSERT INTO kv VALUES (hex(randomblob(16)), 'x')")
    count += 1
    time.sleep(max(0, begun + count / rate - time.monotonic()))
"""


@pytest.fixture(scope="module", autouse=True)
def store() -> None:
    """Have the store, the tools and the credentials on the host."""
    ansible("ansible-playbook", "site.yml", "--limit", HOST)


class Job:
    """The job of a test."""

    def __init__(self) -> None:
        # What an order says of the store and of whom to encrypt for is that of any other job of the host.
        self.known: dict[str, Any] = json.loads(shell(HOST, "cd /etc/hearth/backup && cat $(ls *.json | grep -v ^drill | head -n 1)"))

    def order(self, **changes: Any) -> None:
        database = {"path": DATABASE, "engine": "sqlite", "tables": ["kv"], "sentinel": "SELECT count(*) FROM kv"}
        names = {"service": "drill", "set": "data", "class": "data-30d", "host": HOST, "user": "root", "release_home": "/nonexistent"}
        content = {"databases": [database], "files": [], "command": [], "keep_days": 30, "refresh_days": 8, "max_age": 0}
        wanted = {**self.known, **names, **content, **changes}
        shell(HOST, f"install -d -m 0700 {HOME} && cat > {ORDER}", json.dumps(wanted).encode())

    def fill(self, mib: int = 8, mode: str = "WAL") -> None:
        shell(HOST, f"python3 -c {shlex.quote(FILL)} {DATABASE} {mib} {mode}")

    def run(self, *, before: str = "") -> tuple[int, str]:
        """Run the job; return its exit status, and all that it said."""
        said, _newline, code = shell(HOST, f"{before} {RUN} 2>&1; code=$?; echo; echo $code").rstrip().rpartition("\n")
        return int(code), said

    def start(self) -> None:
        """Start the job as a unit, so that it can be killed as a whole."""
        shell(HOST, f"systemctl reset-failed {UNIT} 2>/dev/null; systemd-run --quiet --unit={UNIT} --service-type=exec {RUN}")

    def wait(self) -> None:
        wait_until(lambda: shell(HOST, f"systemctl is-active {UNIT} || true").strip() not in ("active", "activating"), 120)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(shell(HOST, f"cat {HOME}/state.json"))
        return found

    def manifests(self) -> list[dict[str, Any]]:
        """Return the manifests in the store, the oldest first."""
        text = shell(HOST, f"find {OBJECTS}/{PREFIX} -name manifest.json -exec cat {{}} + 2>/dev/null || true").lstrip()
        found = []
        while text:
            manifest, end = json.JSONDecoder().raw_decode(text)
            found.append(manifest)
            text = text[end:].lstrip()
        return sorted(found, key=lambda manifest: int(manifest["sequence"]))

    def want_whole(self) -> list[dict[str, Any]]:
        """Return the manifests, all of whose parts are in the store as they say."""
        found = self.manifests()
        for part in (part for manifest in found for part in manifest["parts"]):
            assert shell(HOST, f"sha256sum < {OBJECTS}/{part['key']}").split()[0] == part["sha256"]
        return found

    def left_over(self) -> list[str]:
        return shell(HOST, f"find {HOME} -type f ! -name lock ! -name state.json").split()

    def fault(self, **fault: Any) -> None:
        shell(HOST, f"curl --fail --silent --max-time 5 --data {shlex.quote(json.dumps(fault))} {GATE}/fault")

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests of the job that the gate let through or refused since the last time."""
        found = json.loads(shell(HOST, f"curl --fail --silent --max-time 5 -X DELETE {GATE}/requests"))
        return [request for request in found if PREFIX in request["path"]]


@pytest.fixture
def job() -> Iterator[Job]:
    found = Job()
    clean = f"systemctl stop {UNIT} 2>/dev/null; rm -rf {HOME} {ORDER} /var/lib/hearth-test {OBJECTS}/{PREFIX}"
    shell(HOST, f"{clean}; mkdir -p /var/lib/hearth-test")
    found.fault()
    found.order()
    found.fill()
    found.requests()
    yield found
    found.fault()
    shell(HOST, clean)


@pytest.mark.parametrize("rate", [50, 500])
def test_f01_a_steady_writer_does_not_keep_a_snapshot_from_ending(job: Job, rate: int) -> None:
    job.fill(200)
    shell(HOST, f"systemd-run --quiet --unit=hearth-test-writer --service-type=exec python3 -c {shlex.quote(WRITER)} {DATABASE} {rate}")
    try:
        begun = time.monotonic()
        assert job.run()[0] == 0
        assert time.monotonic() - begun < 60
    finally:
        shell(HOST, "systemctl stop hearth-test-writer.service")
    assert int(job.want_whole()[0]["parts"][0]["sentinel"]) > 800


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST"])
def test_f02_a_rollback_journal_is_detected_and_said(job: Job, mode: str) -> None:
    job.fill(1, mode)
    code, said = job.run()
    assert code == 0, said
    assert "is in rollback-journal mode: writers waited for up to" in said


@pytest.mark.parametrize("after", [0.1, 0.3, 0.6, 0.9, 1.2, 1.8])
def test_f03_killed_at_any_moment(job: Job, after: float) -> None:
    job.fill(100)
    job.start()
    time.sleep(after)
    shell(HOST, f"systemctl kill --signal=KILL {UNIT} || true")
    job.wait()
    job.want_whole()
    code, said = job.run()
    assert code == 0, said
    assert job.want_whole()
    assert job.left_over() == []


def test_f04_a_wrong_path_is_no_empty_database(job: Job) -> None:
    job.order(databases=[{"path": "/var/lib/hearth-test/none.db", "engine": "sqlite", "tables": ["kv"], "sentinel": ""}])
    code, said = job.run()
    assert (code, job.manifests()) == (2, [])
    assert "none.db: there is no database" in said
    shell(HOST, "test ! -e /var/lib/hearth-test/none.db")


def test_f05_an_old_snapshot_does_not_pass_for_the_new_one(job: Job) -> None:
    shell(HOST, f"mkdir {HOME}/work && cp {DATABASE} {HOME}/work/database-0")
    job.fill(9)
    assert job.run()[0] == 0
    assert job.want_whole()[0]["parts"][0]["sentinel"] == "36"


def test_f06_versions_are_in_the_snapshot(job: Job) -> None:
    assert job.run()[0] == 0
    assert job.manifests()[0]["parts"][0]["schema"].startswith("41:")


@pytest.mark.parametrize("program", ["zstd", "age"])
def test_f07_a_stage_that_is_killed_makes_no_backup(job: Job, program: str) -> None:
    job.fill(200)
    job.start()
    # Once the pipeline stands: age alone may also be the trial of the recipients.
    look = f"main=$(systemctl show --value --property=MainPID {UNIT}); pgrep --parent $main zstd > /dev/null"
    shell(HOST, f"for turn in $(seq 500); do {look} && pkill -KILL --parent $main --exact {program} && exit 0; sleep 0.02; done; exit 1")
    job.wait()
    assert job.manifests() == []
    assert f"{program} was killed by signal 9" in job.state()["attempt"]["said"]
    assert job.run()[0] == 0


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 503, "count": 2}, id="503"),
        pytest.param({"cut_after": 100_000, "count": 2}, id="cut"),
        pytest.param({"delay": 3, "count": 2}, id="slow"),
        pytest.param({"duplicate": True, "count": 2}, id="twice"),
        pytest.param({"status": 503, "count": 2, "path": "manifest.json"}, id="503-at-the-manifest"),
    ],
)
def test_f08_faults_that_pass(job: Job, fault: dict[str, Any]) -> None:
    job.fault(**fault, methods=["PUT"])
    code, said = job.run()
    assert code == 0, said
    assert len(job.want_whole()) == 1


def test_f08_a_store_that_is_away_for_long(job: Job) -> None:
    job.fault(status=503, count=1000, methods=["PUT"])
    code, said = job.run()
    assert (code, job.manifests()) == (2, [])
    assert "attempt 4 of 5" in said
    assert "cannot be reached, or is in trouble" in job.state()["attempt"]["said"]
    job.fault()
    job.fill(9)
    assert job.run()[0] == 0
    assert [manifest["sequence"] for manifest in job.want_whole()] == [1, 2]
    assert job.left_over() == []


def test_f09_every_name_is_new(job: Job) -> None:
    for size in (9, 10, 11):
        job.fill(size)
        assert job.run()[0] == 0
    paths = [request["path"].partition("?")[0] for request in job.requests() if request["method"] == "PUT"]
    assert len(paths) == len(set(paths)) == 6


def test_f10_what_is_small_enough_is_no_multipart_upload(job: Job) -> None:
    job.fill(100)
    assert job.run()[0] == 0
    assert {request["method"] for request in job.requests()} == {"PUT"}


def test_f11_names_carry_a_sequence(job: Job) -> None:
    for size in (9, 10):
        job.fill(size)
        assert job.run()[0] == 0
    assert [manifest["sequence"] for manifest in job.manifests()] == [1, 2]
    assert [manifest["id"].split("-")[1] for manifest in job.manifests()] == ["000001", "000002"]


def test_f12_a_host_that_was_off_catches_up_once() -> None:
    """The timer's stamp says when it fired last: three days ago, as on a host that was off since."""
    admin = "kontinuum-node-admin.data"
    timer, soon = f"hearth-backup-{admin}.timer", f"/run/systemd/system/hearth-backup-{admin}.timer.d"
    sequence = f'python3 -c \'import json; print(json.load(open("/var/lib/hearth/backup/{admin}/state.json"))["sequence"])\''
    shell(HOST, f"systemctl start hearth-backup-{admin}.service")
    before = int(shell(HOST, sequence))
    shell(HOST, f"mkdir -p {soon} && printf '[Timer]\\nRandomizedDelaySec=0\\n' > {soon}/soon.conf && systemctl daemon-reload")
    try:
        shell(HOST, f"systemctl stop {timer}; touch --date='3 days ago' /var/lib/systemd/timers/stamp-{timer}; systemctl start {timer}")
        wait_until(lambda: int(shell(HOST, sequence)) > before)
        wait_until(lambda: shell(HOST, f"systemctl show --value --property=ActiveState hearth-backup-{admin}.service").strip() == "inactive")
        assert int(shell(HOST, sequence)) == before + 1
        following = f'date --date="$(systemctl show --value --property=NextElapseUSecRealtime {timer})" +%s; date +%s'
        then, now = map(int, shell(HOST, following).split())
        assert then > now, "the next one is that of tomorrow"
    finally:
        shell(HOST, f"rm -r {soon}; systemctl daemon-reload")


def test_f13_no_second_run(job: Job) -> None:
    code, said = job.run(before=f"flock {HOME}/lock")
    assert code == 75
    assert "the run before has not ended" in said
    assert job.manifests() == []


@pytest.mark.parametrize("recipients", [pytest.param([], id="none"), pytest.param(["age1rubbish"], id="malformed")])
def test_f14_nothing_is_written_in_the_clear(job: Job, recipients: list[str]) -> None:
    job.order(recipients=recipients)
    assert job.run()[0] == 2
    assert (job.requests(), job.left_over()) == ([], [])


def test_f15_credentials_that_only_write_suffice(job: Job) -> None:
    assert job.run()[0] == 0
    job.want_whole()
    part = job.manifests()[0]["parts"][0]["key"]
    rclone = "env -i PATH=$PATH rclone --config /etc/hearth/backup/rclone.conf --retries 1 --low-level-retries 1"
    for verb in ("cat", "deletefile", "lsf"):
        assert shell(HOST, f"{rclone} {verb} store:backups/{part} 2>/dev/null || true") == ""
    assert {(request["method"], request["status"]) for request in job.requests() if request["status"] == 200} == {("PUT", 200)}
    assert job.want_whole()


def test_f17_a_disk_that_is_too_small_is_found_beforehand(job: Job) -> None:
    job.fill(40)
    shell(HOST, f"mount -t tmpfs -o size=30m,mode=0700 tmpfs {HOME}")
    try:
        code, said = job.run()
        assert code == 2
        assert "are needed for a snapshot and the encrypted backup" in said
        assert "are free" in said
        assert job.left_over() == []
    finally:
        shell(HOST, f"umount {HOME}")


def test_f18_what_was_sent_is_counted(job: Job) -> None:
    assert job.run()[0] == 0
    (manifest,) = job.want_whole()
    sent = {request["path"].rpartition("/")[2].partition("?")[0]: request["bytes"] for request in job.requests() if request["method"] == "PUT"}
    assert sent["database-0.zst.age"] == manifest["parts"][0]["size"]


def test_unchanged_data_cost_one_small_object(job: Job) -> None:
    assert job.run()[0] == 0
    job.requests()
    assert job.run()[0] == 0
    (request,) = [request for request in job.requests() if request["method"] == "PUT"]
    assert request["bytes"] < 4096
    first, second = job.want_whole()
    assert second["same_as"] == first["id"]
