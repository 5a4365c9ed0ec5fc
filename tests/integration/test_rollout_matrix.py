# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts that are killed in every phase, and what else takes longer than the tests of test_rollout.py: `make integration-rollout`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lab_hosts
import pytest
import rollouts
from rollouts import CONFIG, NEW, NEW_CONFIG, NODE, NODES, OLD, Fleet

FORWARD = ("backup", "drain", "stop", "copy", "switch", "start", "ready", "resume", "soak", "commit")
BACK = ("evidence", "back_stop", "back_database", "back_switch", "back_start", "back_ready", "back_resume")
STILL_OLD = ("aborted", "rolled_back")

PROMETHEUS = "127.0.0.1:9990"
SCRAPE = """
global: {scrape_interval: 500ms, scrape_timeout: 400ms}
scrape_configs: [{job_name: node, static_configs: [{targets: ["127.0.0.1:9100"]}]}]
"""
"""What Prometheus does on relay1: it reads the metrics of the node there."""

ERROR_RATE = "sum(rate(kontinuum_request_errors_total[4s])) / sum(rate(kontinuum_requests_total[4s]))"
LATENCY = "sum(rate(kontinuum_request_seconds_sum[4s])) / sum(rate(kontinuum_request_seconds_count[4s]))"


def spread(phases: Sequence[str]) -> list[Any]:
    """Return parameters: one host after the other for the phases, so that the tests of one host can run beside those of another."""
    return [pytest.param(host, phase, id=f"{host}-{phase}") for phase, host in zip(phases, itertools.cycle(NODES), strict=False)]


def interrupt(fleet: Fleet, host: str, phase: str, version: str, *, engine_too: bool) -> None:
    """Kill the controller of a rollout when its host begins a phase, and the host's engine if that is to die too."""
    with rollouts.meanwhile(rollouts.catch, host, phase) as caught, fleet.start(version, NEW_CONFIG) as controller:
        engine, begun = caught.result()
        lab_hosts.kill(controller)
    assert begun == phase, "it was caught later than it should have been"
    if engine:
        lab_hosts.shell(host, f"kill -{'KILL' if engine_too else 'CONT'} {engine}")


@pytest.mark.parametrize(("host", "phase"), spread(("prepared", *FORWARD)))
def test_f39_a_controller_that_is_killed_leaves_a_whole_release(tmp_path: Path, host: str, phase: str) -> None:
    fleet = Fleet(tmp_path, [host]).begin()
    before = rollouts.look(host)
    interrupt(fleet, host, phase, NEW, engine_too=False)
    if phase == "prepared":
        assert (rollouts.state(host), rollouts.look(host)) == ({}, before)
    else:
        assert rollouts.outcome(host) == "committed"
    assert rollouts.consistent(rollouts.look(host), before)
    fleet.good(NEW, NEW_CONFIG)
    after = rollouts.look(host)
    assert (after["current"], rollouts.consistent(after, before), rollouts.locked([host])) == (NEW, True, [])


@pytest.mark.parametrize(("host", "phase"), spread(FORWARD))
def test_f31_an_engine_that_is_killed_goes_on_or_back(tmp_path: Path, host: str, phase: str) -> None:
    fleet = Fleet(tmp_path, [host]).begin()
    before = rollouts.look(host)
    interrupt(fleet, host, phase, NEW, engine_too=True)
    outcome, found = rollouts.outcome(host), rollouts.look(host)
    assert rollouts.consistent(found, before)
    assert found["current"] == (OLD if outcome in STILL_OLD else NEW)
    assert outcome in (*STILL_OLD, "committed")
    fleet.good(NEW, NEW_CONFIG)
    after = rollouts.look(host)
    assert (after["current"], rollouts.consistent(after, before), rollouts.locked([host])) == (NEW, True, [])


@pytest.mark.parametrize(("host", "phase"), spread(BACK))
def test_f31_an_engine_that_is_killed_on_its_way_back_gets_there(tmp_path: Path, host: str, phase: str) -> None:
    fleet = Fleet(tmp_path, [host]).begin()
    before = rollouts.look(host)
    interrupt(fleet, host, phase, "1.0.5", engine_too=True)
    assert rollouts.outcome(host) == "rolled_back"
    assert {**rollouts.look(host), "pid": 0} == {**before, "pid": 0}


@pytest.fixture(scope="module")
def prometheus() -> Iterator[None]:
    """Have a Prometheus on relay1, Debian's, which watches the node there."""
    unit, home = "hearth-test-prometheus", "/var/tmp/prometheus"
    lab_hosts.shell(
        "relay1", "apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus && systemctl disable -q --now prometheus"
    )
    lab_hosts.shell("relay1", f"mkdir -p {home} && cat > {home}/prometheus.yml", SCRAPE.encode())
    command = f"prometheus --config.file={home}/prometheus.yml --storage.tsdb.path={home}/data --web.listen-address={PROMETHEUS}"
    lab_hosts.shell("relay1", f"systemd-run --quiet --collect --unit={unit} {command}")
    # curl fails until it listens, which is what is waited for.
    lab_hosts.wait_until(lambda: "Ready" in lab_hosts.shell("relay1", f"curl -s http://{PROMETHEUS}/-/ready || true"))
    yield
    lab_hosts.shell("relay1", f"systemctl stop {unit}; rm -r {home}; apt-get purge -y -qq prometheus")


@pytest.mark.usefixtures("prometheus")
@pytest.mark.parametrize(
    ("query", "faults", "outcome", "there"),
    [
        pytest.param(ERROR_RATE, {}, "committed", NEW, id="errors-as-before"),
        pytest.param(ERROR_RATE, {"error_rate": 0.3}, "rolled_back", OLD, id="more-errors"),
        pytest.param(LATENCY, {"latency": 0.2}, "rolled_back", OLD, id="slower"),
        pytest.param(ERROR_RATE.replace("kontinuum", "nobody"), {}, "inconclusive", NEW, id="no-metrics"),
    ],
)
def test_f35_a_release_is_judged_by_its_metrics(relay: Fleet, query: str, faults: dict[str, Any], outcome: str, there: str) -> None:
    analysis = {"name": "traffic", "url": f"http://{PROMETHEUS}", "query": query, "pass": "< 0.05", "fail": "> 0.1", "interval": "5s", "count": 2}
    config = {"config": [{"path": CONFIG, "content": {"faults": {"load": 20, **faults}}}]}
    done = relay.run(NEW, config, {"rollout": {"soak": "2s", "analysis": [analysis]}})
    found = rollouts.look("relay1")
    assert (rollouts.outcome("relay1"), found["current"], found["ready"]) == (outcome, there, True), done.stdout + done.stderr
    assert (done.returncode == 0) == (outcome == "committed")
    if outcome == "inconclusive":
        lab_hosts.shell("relay1", f"hearthctl promote {NODE}")
        assert rollouts.outcome("relay1") == "committed"


def test_f45_a_host_that_stays_away_halts_the_rollout(fleet: Fleet) -> None:
    before = fleet.looks()
    brief = {"unit": {"stop_timeout": "5s"}, "backup": {"databases": []}}  # so that the host's own deadline comes soon
    with rollouts.meanwhile(lab_hosts.console, "home1", rollouts.on_phase_script("stop", rollouts.cut_off(280))):
        said = fleet.bad(NEW, NEW_CONFIG, brief)
    assert "home1 was not seen again before its own deadline" in said
    assert lab_hosts.console("home1", f"readlink /opt/{NODE}/current").strip() == f"releases/{NEW}", "it finished by itself"
    fleet.check_untouched(before, "relay1", "relay2")
    lab_hosts.console("home1", f"systemctl stop hearth-test-heal.timer; iptables --delete {rollouts.SILENCE}")
    lab_hosts.hang_up()
    fleet.good(NEW, NEW_CONFIG, brief)
    assert {found["current"] for found in fleet.looks().values()} == {NEW}


def test_f47_a_host_that_is_off_is_caught_up_later(fleet: Fleet) -> None:
    refuse = "INPUT --protocol tcp --dport 22 --jump REJECT --reject-with tcp-reset"
    lab_hosts.hang_up()
    lab_hosts.console("home1", f"iptables --insert {refuse}; pkill -x sshd-session; true")
    try:
        said = fleet.good(NEW)
    finally:
        lab_hosts.console("home1", f"iptables --delete {refuse}")
    assert f"{NODE} on home1 is skipped: switched off, or cannot be reached" in said
    assert {host: found["current"] for host, found in fleet.looks().items()} == {"home1": OLD, "relay1": NEW, "relay2": NEW}
    fleet.good(NEW)
    assert rollouts.look("home1")["current"] == NEW


def test_f57_a_disk_that_is_full_stops_before_any_drain(relay: Fleet) -> None:
    home = f"/opt/{NODE}"
    lab_hosts.shell("relay1", f"cp -a {home} /var/tmp/opt && mount -t tmpfs -o size=1m,mode=755 tmpfs {home} && cp -a /var/tmp/opt/. {home}")
    lab_hosts.shell("relay1", f"rm -r /var/tmp/opt; dd if=/dev/zero of={home}/releases/.fill bs=4k status=none 2>/dev/null || true")
    before = rollouts.look("relay1")
    assert "free" in relay.bad(NEW)
    assert (rollouts.look("relay1"), rollouts.state("relay1")) == (before, {})


def test_a_config_that_keeps_the_service_from_getting_ready_is_put_back_by_site(fleet: Fleet) -> None:
    fleet.good(OLD, playbook="site.yml")
    before = fleet.looks()
    bad = {"config": [{"path": CONFIG, "content": {"faults": {"never_ready": True}}}]}
    fleet.bad(OLD, bad, playbook="site.yml")
    assert rollouts.look("home1") == before["home1"], "reloaded, and back again"
    assert {host: (found["pid"], found["ready"]) for host, found in fleet.looks().items()} == {
        host: (found["pid"], True) for host, found in before.items()
    }


def test_a_unit_that_keeps_the_service_from_getting_ready_is_put_back_by_site(fleet: Fleet) -> None:
    before = fleet.looks()
    said = fleet.bad(OLD, {"environment": {"KONTINUUM_FAULTS": "never_ready"}}, playbook="site.yml")
    assert "rolled back" in said
    after = fleet.looks()
    assert {**after["home1"], "pid": 0} == {**before["home1"], "pid": 0}
    assert after["home1"]["pid"] != before["home1"]["pid"]
    for host in ("relay1", "relay2"):
        assert (after[host]["pid"], after[host]["ready"]) == (before[host]["pid"], True)
    fleet.good(OLD, playbook="site.yml")
    assert {host: found["unit"] for host, found in fleet.looks().items()} == {host: found["unit"] for host, found in before.items()}


def test_a_fleet_goes_back_to_the_release_before(fleet: Fleet) -> None:
    before = fleet.looks()
    fleet.good(NEW, NEW_CONFIG)
    fleet.good(NEW, NEW_CONFIG, playbook="rollback.yml")
    after = fleet.looks()
    for host in fleet.hosts:
        assert (after[host]["current"], after[host]["previous"]) == (OLD, NEW)
        assert rollouts.consistent(after[host], before[host])


def test_a_person_on_the_host_goes_back_without_a_controller(relay: Fleet) -> None:
    before = rollouts.look("relay1")
    relay.good(NEW, NEW_CONFIG)
    assert f"{NODE} serves {OLD}" in lab_hosts.shell("relay1", f"hearthctl rollback {NODE}")
    after = rollouts.look("relay1")
    assert (after["current"], rollouts.consistent(after, before)) == (OLD, True)
    assert f"upgrade {OLD} → {NEW}" in relay.good(NEW, NEW_CONFIG)
