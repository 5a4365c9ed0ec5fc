"""The role backup alone: timers that run, orders that only their account reads, and a first backup that opens with the identity."""

import json
from pathlib import Path

import pytest

testinfra_hosts = ["ssh://relay1", "ssh://relay2"]

IDENTITY = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "backup_identity.txt"
JOBS = ["kontinuum-node-server.data", "kontinuum-node-server.identity"]
STORE = "/var/lib/object-store/buckets/backups"


@pytest.mark.parametrize("job", JOBS)
def test_timers_run_and_start_at_boot(host, job):
    timer = host.service(f"hearth-backup-{job}.timer")
    assert timer.is_running
    assert timer.is_enabled


def test_changes_of_the_identity_are_waited_for(host):
    path = host.service("hearth-backup-kontinuum-node-server.identity.path")
    assert path.is_running
    assert path.is_enabled


@pytest.mark.parametrize("job", JOBS)
def test_f53_systemd_has_nothing_to_say(host, job):
    units = f"/etc/systemd/system/hearth-backup-{job}.service /etc/systemd/system/hearth-backup-{job}.timer"
    verified = host.run(f"systemd-analyze verify --man=no --recursive-errors=no {units}")
    assert (verified.rc, verified.stdout, verified.stderr) == (0, "", "")


@pytest.mark.parametrize("job", JOBS)
def test_f55_the_exposure_is_below_the_threshold(host, job):
    assert host.run("systemd-analyze security --no-pager --threshold=15 hearth-backup-%s.service", job).rc == 0


def test_f15_credentials_are_roots_and_no_identity_is_there(host):
    conf = host.file("/etc/hearth/backup/rclone.conf")
    assert (conf.user, conf.group, conf.mode) == ("root", "root", 0o600)
    assert host.run("runuser -u kontinuum-node -- cat /etc/hearth/backup/rclone.conf").rc != 0
    assert host.run("grep -rqs AGE-SECRET-KEY /etc /var/lib/hearth").rc == 1


def test_orders_are_read_by_their_account(host):
    order = json.loads(host.check_output("runuser -u kontinuum-node -- cat /etc/hearth/backup/kontinuum-node-server.data.json"))
    assert (order["host"], order["class"], order["user"]) == (host.check_output("hostname"), "data-30d", "kontinuum-node")


def test_a_backup_opens_with_the_identity_alone(host, ops1):
    name = host.check_output("hostname")
    assert host.run("systemctl start hearth-backup-kontinuum-node-server.data.service").rc == 0
    found = ops1.check_output(f"find {STORE}/v1/data-30d/{name} -name 'database-0.zst.age' | sort | tail -n 1")
    assert found, "nothing of this host is in the store"
    identity = IDENTITY.read_text().splitlines()[-1]
    opened = ops1.run(f"printf '%s\\n' {identity} | age --decrypt -i - {found} | zstd -dc > /tmp/{name}.db && sqlite3 /tmp/{name}.db .tables")
    assert (opened.rc, "kv" in opened.stdout) == (0, True), opened.stderr


def test_a_change_of_the_key_is_backed_up_by_itself(host, ops1):
    name = host.check_output("hostname")
    host.check_output("touch /var/lib/kontinuum-node/keys/node.key")
    waited = ops1.run(f"timeout 60 sh -c 'until find {STORE}/v1/identity-forever/{name} -name manifest.json | grep -q .; do sleep 1; done'")
    assert waited.rc == 0, host.run("journalctl -u 'hearth-backup-*' --no-pager | tail -n 20").stdout


def test_timers_of_a_set_that_is_gone_are_gone(host):
    assert host.check_output("ls /etc/systemd/system | grep -c '^hearth-backup-'") == "5"
