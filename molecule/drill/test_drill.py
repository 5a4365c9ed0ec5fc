"""The role drill alone: a timer, an identity of its own, and drills that pass on a good backup and on no other."""

import json
from pathlib import Path

import pytest

testinfra_hosts = ["ssh://ops1"]

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
OPERATORS, RUNNERS = ((FIXTURES / f"{name}_identity.txt").read_text().splitlines()[-1] for name in ("backup", "drill"))
METRICS = "/var/lib/prometheus/node-exporter"
BACKUPS = "/var/lib/object-store/buckets/backups/v1/data-30d/anchor1/kontinuum-node-server"


@pytest.fixture(scope="module", name="drilled")
def a_drill(host):
    """What `hearthctl drill run` says of a good backup."""
    host.check_output(f"mkdir -p {METRICS}")
    return host.run("hearthctl drill run")


def test_the_timer_runs_and_starts_at_boot(host):
    timer = host.service("hearth-drill.timer")
    assert timer.is_running
    assert timer.is_enabled


def test_f53_systemd_has_nothing_to_say(host):
    verified = host.run("systemd-analyze verify --man=no --recursive-errors=no /etc/systemd/system/hearth-drill.service")
    assert (verified.rc, verified.stdout, verified.stderr) == (0, "", "")


def test_f15_the_runner_has_an_identity_of_its_own_and_never_the_operators(host):
    identity = host.file("/etc/hearth/drill/identity")
    assert (identity.user, identity.group, identity.mode) == ("root", "root", 0o600)
    assert RUNNERS in identity.content_string
    for operators, place in ((OPERATORS, "/etc /opt /var /run /root /tmp"), (RUNNERS, "/opt /var /run /root /tmp")):
        assert host.run(f"grep -rqsF {operators} {place}").rc == 1


def test_the_release_is_there_for_drills_alone(host):
    assert host.file("/opt/hearth-drill/kontinuum-node-server").is_directory
    assert not host.service("kontinuum-node-server").exists
    assert not host.user("kontinuum-node").exists


def test_a_good_backup_passes(drilled):
    assert drilled.rc == 0, drilled.stdout + drilled.stderr
    assert "wrong key" in drilled.stdout


@pytest.mark.usefixtures("drilled")
def test_the_report_says_what_was_proven(host):
    report = json.loads(host.file("/var/lib/hearth/drill/report.json").content_string)
    assert {(row["host"], row["set"]): (row["ok"], row["started"]) for row in report["rows"]} == {
        ("anchor1", "data"): (True, True),
        ("anchor1", "identity"): (True, False),
    }


@pytest.mark.usefixtures("drilled")
def test_the_metrics_say_so_too(host):
    metrics = host.file(f"{METRICS}/hearth_drill.prom").content_string
    assert 'hearth_drill_ok{host="anchor1",service="kontinuum-node-server",set="data"} 1\n' in metrics
    assert "hearth_drill_last_run_ok 1\n" in metrics


@pytest.mark.usefixtures("drilled")
def test_nothing_of_it_is_left(host):
    assert not host.file("/var/lib/hearth/drill/work").exists
    assert not host.service("hearth-drill-sandbox.service").is_running


@pytest.mark.usefixtures("drilled")
def test_f27_a_damaged_backup_fails_and_the_next_good_one_passes(host):
    damaged = host.check_output(f"ls {BACKUPS}/*/database-0.zst.age")
    # The store remembers how long its files are, until it is started again.
    again = "systemctl restart object-store && timeout 30 sh -c 'until curl -s -o /dev/null http://127.0.0.1:9000; do sleep 0.2; done'"
    host.check_output(f"cp -a {damaged} /root/good && truncate --size=-1 {damaged} && {again}")
    failed = host.run("hearthctl drill run")
    assert failed.rc == 1
    assert "its manifest says" in failed.stdout
    assert "hearth_drill_last_run_ok 0\n" in host.file(f"{METRICS}/hearth_drill.prom").content_string

    host.check_output(f"mv /root/good {damaged} && {again}")
    assert host.run("hearthctl drill run").rc == 0
