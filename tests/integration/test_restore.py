# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores on a real host, from a real store: `pytest tests/integration/test_restore.py`, after `make lab artifacts`.

A node runs on anchor1, and is backed up to the store on ops1. What goes wrong is done to the objects on the store's disk, to
the data on the host, and to the processes that restore.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import converged
import lab_hosts
import pytest
import yaml
from lab_hosts import shell

HOST, STORE = "anchor1", "ops1"
SERVICE = "kontinuum-node-server"
DATABASE = "/var/lib/kontinuum-node/data/node.db"
BUCKET = "/var/lib/object-store/buckets/backups"
JOB = f"{SERVICE}.data"
IDENTITY = lab_hosts.CHECKOUT / "tests/fixtures/backup_identity.txt"
GUIDE = lab_hosts.CHECKOUT / "docs/guides/restore.md"


VARIABLES = json.dumps({"fleet_placement": {"storage": ["object-store", "store-gate"], HOST: [SERVICE]}})


def playbook(name: str, *arguments: str, limit: str = HOST) -> subprocess.CompletedProcess[str]:
    """Run a playbook, which may fail."""
    path = name if name == "site.yml" else f"playbooks/{name}.yml"
    return lab_hosts.ansible("ansible-playbook", path, "--limit", limit, "-e", VARIABLES, *arguments, check=False)


def restore(*arguments: str) -> subprocess.CompletedProcess[str]:
    return playbook("restore", "-e", f"restore_service={SERVICE}", *arguments)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a playbook said as one line."""
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module", autouse=True)
def fleet() -> Iterator[None]:
    """The store, and a host with a node that is backed up; the host is left as it was in the beginning."""
    converged.reset(HOST)
    for limit in (STORE, HOST):
        done = playbook("site.yml", limit=limit)
        assert done.returncode == 0, done.stdout + done.stderr
    yield
    empty_store()
    converged.reset(HOST)


def empty_store() -> None:
    in_store(f"rm -rf {BUCKET}/v1/*/{HOST}")


def in_store(script: str) -> None:
    """Run a shell script on the store's disk. The server is started anew, as it remembers what directories held."""
    shell(STORE, f"{script}; systemctl reset-failed object-store; systemctl restart object-store")
    lab_hosts.wait_until(lambda: shell(STORE, "curl -s -o /dev/null http://127.0.0.1:9000/ && echo up; true") == "up\n")


@pytest.fixture(autouse=True)
def node() -> None:
    """A node that holds key a = 1, and of which nothing is in the store yet."""
    empty_store()
    shell(HOST, f"systemctl stop {SERVICE}; rm -f {DATABASE}*; rm -rf /var/lib/hearth/restore; rm -f /var/lib/hearth/backup/{JOB}/state.json")
    shell(HOST, f"systemctl reset-failed {SERVICE}; systemctl start {SERVICE}")
    put("a", "1")


def put(key: str, value: str) -> None:
    shell(HOST, f"curl -sf --retry 20 --retry-connrefused --retry-delay 1 -X PUT --data-binary {value} http://127.0.0.1:9100/kv/{key}")


def get(key: str) -> str:
    """Return what a key holds; empty for one that is not there."""
    return shell(HOST, f"curl -s http://127.0.0.1:9100/kv/{key} -o /tmp/value -w '%{{http_code}}' | grep -q 200 && cat /tmp/value; true").strip()


def backup() -> str:
    """Make a backup, as the timer does; return its id."""
    shell(HOST, f"systemctl start hearth-backup-{JOB}.service")
    return str(json.loads(shell(HOST, f"cat /var/lib/hearth/backup/{JOB}/state.json"))["last"]["id"])


def main_pid() -> str:
    return shell(HOST, f"systemctl show --property=MainPID --value {SERVICE}").strip()


def objects(identifier: str, host: str = HOST) -> str:
    """Return where the objects of a backup lie on the store's disk."""
    return f"{BUCKET}/v1/data-30d/{host}/{SERVICE}/{identifier}"


def left_behind() -> str:
    """Return what a restore has left on the host in the clear."""
    return shell(HOST, f"ls -A {Path(DATABASE).parent} | grep hearth; find /var/lib/hearth/restore -path '*/received/*' 2>/dev/null; true")


# Coming back


def test_a_node_comes_back_to_an_earlier_moment_and_forward_again() -> None:
    backup()
    time.sleep(1.1)  # ids count whole seconds
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    time.sleep(1.1)
    put("a", "2")
    later = backup()
    put("a", "3")
    pid = main_pid()

    shown = restore("--check", "-e", f"restore_at={moment}")
    assert shown.returncode == 0, said(shown)
    assert "Would be restored: service kontinuum-node-server.data of anchor1, to anchor1" in said(shown)
    assert (get("a"), main_pid()) == ("3", pid)

    done = restore("-e", f"restore_at={moment}")
    assert done.returncode == 0, said(done)
    assert re.search(r"in \d+\.\d s \(\d+\.\d s from stop to ready\)", said(done))
    assert get("a") == "1"
    assert main_pid() != pid
    aside = re.search(rf"/var/lib/hearth/restore/{SERVICE}/before-\S+", said(done))
    assert aside
    assert shell(HOST, f"sqlite3 {aside[0]}/node.db \"SELECT value FROM kv WHERE key = 'a'\"").strip() == "3"
    assert shell(HOST, f"stat -c '%U %a' {DATABASE}").split()[0] == "kontinuum-node"

    assert restore("-e", f"restore_id={later[:-3]}").returncode == 0
    assert get("a") == "2"


def test_the_identity_of_a_node_comes_back(tmp_path: Path) -> None:
    key = "/var/lib/kontinuum-node/keys/node.key"
    before = shell(HOST, f"stat -c '%U:%G %a' {key}; sha256sum {key}")
    shell(HOST, f"systemctl start hearth-backup-{SERVICE}.identity.service; rm {key}")
    done = restore("-e", "restore_set=identity")
    assert done.returncode == 0, said(done)
    assert shell(HOST, f"stat -c '%U:%G %a' {key}; sha256sum {key}") == before


# What is refused, with nothing changed

DAMAGE = {
    "truncated": "truncate --size=-16 {part}",
    "extended": "printf x >> {part}",
    "gone": "rm {part}",
    "bit-flipped": "printf '\\377' | dd of={part} bs=1 seek=300 conv=notrunc status=none",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_f19_a_damaged_backup_changes_nothing(damage: str) -> None:
    identifier = backup()
    put("a", "2")
    pid = main_pid()
    in_store(DAMAGE[damage].format(part=f"{objects(identifier)}/database-0.zst.age"))
    done = restore()
    assert done.returncode != 0
    assert re.search(r"bytes, its manifest says|is missing|is not the object that was uploaded", said(done)), said(done)
    assert (get("a"), main_pid()) == ("2", pid)
    assert left_behind() == ""


def test_f20_a_wrong_identity_changes_nothing_and_is_told_whose_the_backup_is(tmp_path: Path) -> None:
    backup()
    pid = main_pid()
    subprocess.run(["age-keygen", "-o", str(tmp_path / "other.txt")], check=True, capture_output=True)
    recipient = subprocess.run(["age-keygen", "-y", str(IDENTITY)], check=True, capture_output=True, text=True).stdout.strip()
    done = restore("-e", f"restore_identity={tmp_path / 'other.txt'}")
    assert done.returncode != 0
    assert f"cannot be opened with this identity. It was made for: {recipient}" in said(done)
    assert main_pid() == pid
    assert left_behind() == ""


def test_f60_an_identity_from_standard_input_is_on_no_command_line(tmp_path: Path) -> None:
    backup()
    put("a", "2")
    given = tmp_path / "identity.json"
    given.write_text(json.dumps({"restore_identity_text": IDENTITY.read_text(), "backup_identity": ""}))
    arguments = ("playbooks/restore.yml", "--limit", HOST, "-e", VARIABLES, "-e", f"restore_service={SERVICE}", "-e", "@/dev/stdin")
    with given.open() as source, lab_hosts.start_ansible("ansible-playbook", *arguments, stdin=source) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert "AGE-SECRET-KEY" not in output + errors
    assert get("a") == "1"


def test_f21_a_wal_that_a_killed_daemon_left_does_not_replace_what_is_restored() -> None:
    backup()
    put("a", "2")
    shell(HOST, f"systemctl kill --signal=KILL {SERVICE}; systemctl stop {SERVICE}; test -s {DATABASE}-wal")
    done = restore()
    assert done.returncode == 0, said(done)
    assert get("a") == "1"


def test_f22_a_daemon_that_is_stopped_is_started_by_the_restore() -> None:
    backup()
    put("a", "2")
    shell(HOST, f"systemctl stop {SERVICE}")
    assert restore().returncode == 0
    assert get("a") == "1"


def test_f23_data_of_a_newer_release_are_refused_and_the_release_is_named() -> None:
    shell(HOST, f"systemctl stop {SERVICE}; sqlite3 {DATABASE} 'PRAGMA user_version = 2; CREATE TABLE newer (x)'")
    with_release("1.1.0")
    shell(HOST, f"sqlite3 {DATABASE} 'PRAGMA user_version = 1; DROP TABLE newer'; systemctl start {SERVICE}")
    pid = main_pid()
    done = restore()
    assert done.returncode != 0
    assert "has schema 2, made by kontinuum-node-server 1.1.0; installed is 1.0.0" in said(done)
    assert "install 1.1.0 first" in said(done)
    assert (get("a"), main_pid()) == ("1", pid)


def with_release(version: str) -> None:
    """Make a backup as a host does on which this release is current."""
    order = f"/etc/hearth/backup/{JOB}.json"
    shell(HOST, f"mkdir -p /opt/hearth-test; ln -sfn releases/{version} /opt/hearth-test/current; cp -a {order} /run/order.json")
    shell(HOST, f'sed -i \'s|"release_home": ".*"|"release_home": "/opt/hearth-test"|\' {order}')
    try:
        backup()
    finally:
        shell(HOST, f"cp -a /run/order.json {order}; rm -rf /opt/hearth-test")


def test_f24_a_backup_without_manifest_is_not_there() -> None:
    first = backup()
    put("a", "2")
    last = backup()
    put("a", "3")
    in_store(f"rm {objects(last)}/manifest.json")
    assert f"no backup of {JOB} of {HOST} is called {last}" in said(restore("-e", f"restore_id={last}"))
    done = restore()
    assert done.returncode == 0, said(done)
    assert first in said(done)
    assert get("a") == "1"


def test_f25_a_backup_of_another_host_needs_to_be_asked_for() -> None:
    identifier = backup()
    put("a", "2")
    other = objects(identifier, "gone1")
    in_store(f"mkdir -p {Path(other).parent}; cp -a {objects(identifier)} {other}; sed -i 's/{HOST}/gone1/g' {other}/manifest.json")
    try:
        empty_store()
        done = restore()
        assert done.returncode != 0
        assert f"the store holds no backup of {JOB} of {HOST}; of {HOST} there is none at all" in said(done)
        done = restore("-e", "restore_from_host=gone1")
        assert done.returncode == 0, said(done)
        assert f"{JOB} of gone1, to {HOST}" in said(done)
        assert get("a") == "1"
        # A manifest that was laid under the name of another host is not that host's backup.
        in_store(f"mkdir -p {Path(objects(identifier)).parent}; cp -a {other} {objects(identifier)}")
        assert "its manifest cannot be read" in said(playbook("backup_status")) or "is that of another backup" in said(restore())
    finally:
        in_store(f"rm -rf {BUCKET}/v1/*/gone1")


# Undone


def test_data_that_the_daemon_refuses_are_exchanged_back() -> None:
    shell(HOST, f"systemctl stop {SERVICE}; sqlite3 {DATABASE} 'PRAGMA user_version = 99'")
    backup()
    shell(HOST, f"sqlite3 {DATABASE} 'PRAGMA user_version = 1'; systemctl start {SERVICE}")
    put("a", "2")
    done = restore()
    assert done.returncode != 0
    assert "does not become ready on the restored data: it" in said(done)
    assert f"The old data are in place; {SERVICE} is ready on them" in said(done)
    assert get("a") == "2"
    assert left_behind() == ""


ENGINE = "ansible_collections/hearth/fleet/plugins/module_utils"
INTERRUPTED = """
import base64, json, os, signal, sys
from pathlib import Path
from ansible_collections.hearth.fleet.plugins.module_utils import restore_host
given = json.load(sys.stdin)
rename, left = os.rename, given["renames"]
def cut(source, target):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    rename(source, target)
restore_host.prepare(given["order"])
Path("/run/hearth-piece").write_bytes(base64.b64decode(given["piece"]))
restore_host.receive(given["order"], "database-0.zst.age", 0, Path("/run/hearth-piece"))
os.rename = cut
restore_host.run(given["order"])
"""
RESUME = f"from {ENGINE.replace('/', '.')} import restore_swap; print(*restore_swap.resume_all())"


def interrupt(renames: int) -> None:
    """Restore that ``a`` is 1, over a 2, and kill that after so many renames of three; the daemon that had the data was killed, too."""
    identifier = backup()
    put("a", "2")
    shell(HOST, f"systemctl kill --signal=KILL {SERVICE}; systemctl stop {SERVICE}; test -s {DATABASE}-wal")
    send_engine()
    given = {"renames": renames, "order": order(identifier), "piece": decrypted(identifier)}
    shell(HOST, f"PYTHONPATH=/run/hearth-engine python3 -c {shlex.quote(INTERRUPTED)}; test $? = 137", stdin=json.dumps(given).encode())
    assert shell(HOST, f"test -e {DATABASE} || echo gone").strip() == ("gone" if renames == 3 else "")


@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_f26_a_kill_in_the_midst_of_the_exchange_is_undone(renames: int) -> None:
    interrupt(renames)
    assert f"{SERVICE}: interrupted while the data were exchanged; the old data are back" in shell(
        HOST, f"PYTHONPATH=/run/hearth-engine python3 -c {shlex.quote(RESUME)}"
    )
    shell(HOST, f"systemctl reset-failed {SERVICE}; systemctl start {SERVICE}")
    put("b", "1")
    assert get("a") == "2"
    assert left_behind() == ""


def test_f26_a_reboot_undoes_the_exchange_before_the_daemon_starts() -> None:
    interrupt(renames=3)
    lab_hosts.lab("reboot", HOST)
    put("b", "1")
    assert get("a") == "2"
    assert left_behind() == ""
    log = shell(HOST, "journalctl --boot --unit=hearth-resume --output=cat")
    assert f"{SERVICE}: interrupted while the data were exchanged; the old data are back" in log


def send_engine() -> None:
    packed = subprocess.run(
        ["tar", "--create", "--exclude=__pycache__", f"--transform=s|^plugins/module_utils|{ENGINE}|", "plugins/module_utils"],
        cwd=lab_hosts.CHECKOUT, capture_output=True, check=True,
    ).stdout  # fmt: skip
    shell(HOST, "rm -rf /run/hearth-engine; mkdir /run/hearth-engine; tar --extract --directory /run/hearth-engine", stdin=packed)


def order(identifier: str) -> dict[str, Any]:
    return {
        "id": "20261121T000000Z-abcdef",
        "service": SERVICE,
        "unit": f"{SERVICE}.service",
        "home": f"/opt/{SERVICE}",
        "user": "kontinuum-node",
        "group": "kontinuum-node",
        "health": {"ready": "http://127.0.0.1:9100/readyz", "deadline": 30, "passes": 1, "interval": 0.2},
        "stop_timeout": 30,
        "start_timeout": 30,
        "databases": [{"path": DATABASE, "sentinel": ""}],
        "files": [],
        "other_databases": [],
        "backup": json.loads(shell(STORE, f"cat {objects(identifier)}/manifest.json")),
    }


def decrypted(identifier: str) -> str:
    """Return the database of a backup, still compressed, in base64."""
    sealed = base64.b64decode(shell(STORE, f"base64 {objects(identifier)}/database-0.zst.age"))
    plain = subprocess.run(["age", "--decrypt", "--identity", str(IDENTITY)], input=sealed, capture_output=True, check=True).stdout
    return base64.b64encode(plain).decode()


def test_a_controller_that_dies_leaves_a_host_that_goes_on_by_itself() -> None:
    backup()
    put("a", "2")
    delay = "/etc/systemd/system/kontinuum-node-server.service.d/hearth-test.conf"
    shell(HOST, f"mkdir -p {Path(delay).parent}; printf '[Service]\\nExecStartPre=/bin/sleep 4\\n' > {delay}; systemctl daemon-reload")
    try:
        arguments = ("playbooks/restore.yml", "--limit", HOST, "-e", VARIABLES, "-e", f"restore_service={SERVICE}")
        with lab_hosts.start_ansible("ansible-playbook", *arguments) as process:
            lab_hosts.wait_until(lambda: "swapped" in shell(HOST, f"cat /var/lib/hearth/restore/{SERVICE}/2*/journal.jsonl 2>/dev/null; true"))
            lab_hosts.kill(process)
        lab_hosts.wait_until(lambda: '"outcome"' in shell(HOST, f"cat /var/lib/hearth/restore/{SERVICE}/2*/journal.jsonl"), 30)
        assert '"outcome":"restored"' in shell(HOST, f"cat /var/lib/hearth/restore/{SERVICE}/2*/journal.jsonl")
        assert get("a") == "1"
    finally:
        shell(HOST, f"rm {delay}; systemctl daemon-reload")


# The catalogue


def test_f16_held_backups_outlive_the_others(tmp_path: Path) -> None:
    backup()
    put("a", "2")
    report = tmp_path / "report.json"
    done = playbook("backup_status", "-e", f"backup_hold={HOST}", "-e", f"backup_status_report={report}")
    rows = {(row["service"], row["set"]): row for row in json.loads(report.read_text())["backups"] if row["host"] == HOST}
    assert rows[SERVICE, "data"]["expires"] is None, said(done)
    in_store(f"rm -r {BUCKET}/v1/data-30d/{HOST}")  # as the store's rule would
    done = restore()
    assert done.returncode == 0, said(done)
    assert get("a") == "1"


def test_backup_status_fails_for_what_is_wrong(tmp_path: Path) -> None:
    identifier = backup()
    in_store(f"truncate --size=7 {objects(identifier)}/database-0.zst.age")
    report = tmp_path / "report.json"
    done = playbook("backup_status", "-e", f"backup_status_report={report}")
    assert done.returncode != 0
    found: dict[str, Any] = json.loads(report.read_text())
    assert any(f"{JOB} of {HOST}: its database-0.zst.age has 7 bytes, its manifest says" in problem for problem in found["problems"])
    assert "PROBLEMS" in done.stdout


def test_backup_now_shows_what_came_of_each_job() -> None:
    put("a", "2")
    done = playbook("backup", "-e", f"backup_service={SERVICE}")
    assert done.returncode == 0, said(done)
    assert re.search(rf"{re.escape(JOB)}: .* in the store", said(done))


# By hand


def test_the_guide_brings_a_database_back_without_the_collection(tmp_path: Path) -> None:
    backup()
    put("a", "2")
    commands = "\n".join(re.findall(r"(?ms)^```sh\n((?:umask|rclone|manifest=|set -o).*?)^```$", GUIDE.read_text()))
    assert commands.count("rclone ") == 4
    store = yaml.safe_load((lab_hosts.CHECKOUT / "inventories/lab/group_vars/all/backup.yml").read_text())["lab_store_keys"]["read"]
    values = {
        "https://s3.example.org": f"http://{lab_hosts.addresses(STORE)[0]}:9001",
        "the-key-that-reads": store["id"],
        "its-secret": store["secret"],
        "identity=operator.txt": f"identity={shlex.quote(str(IDENTITY))}",
        "relay1": HOST,
    }
    for placeholder, value in values.items():
        assert placeholder in commands
        commands = commands.replace(placeholder, value)
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}  # rclone minds AWS_* of somebody else's
    done = subprocess.run(["bash", "-e", "-c", commands], cwd=tmp_path, env=plain, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "ok"
    digest = re.search(r"^([0-9a-f]{64})  part.age$", done.stdout, re.MULTILINE)
    assert digest
    assert f'"sha256": "{digest[1]}"' in done.stdout
    found = subprocess.run(["sqlite3", str(tmp_path / "node.db"), "SELECT value FROM kv WHERE key = 'a'"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "node.db", "part.age"]
