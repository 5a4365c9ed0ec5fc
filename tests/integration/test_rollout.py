# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts on real hosts: what goes well, and what goes wrong. What takes longer is in test_rollout_matrix.py."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lab_hosts
import pytest
import rollouts
from rollouts import NEW, NEW_CONFIG, NODE, OLD, Fleet, flat

OTHER_LOCK = {
    "id": "20261101T080000Z-0a0b0c",
    "owner": "ada@elsewhere",
    "pid": 1,
    "boot": "another machine's",
    "plan": "0" * 64,
    "playbook": "rolling_upgrade",
    "taken": 1793520000.0,
}
LONG_SOAK = {"rollout": {"soak": "8s"}}
HOME = f"/opt/{NODE}"
DATABASE = "/var/lib/kontinuum-node/data/node.db"


RESTORE = {
    "id": "20261121T115900Z-beef01",
    "service": NODE,
    "unit": f"{NODE}.service",
    "home": HOME,
    "user": "kontinuum-node",
    "group": "kontinuum-node",
    "health": {"ready": rollouts.READY},
    "stop_timeout": 30,
    "start_timeout": 30,
    "databases": [{"path": DATABASE, "sentinel": ""}],
    "files": [],
    "other_databases": [],
    "backup": {"parts": [{"name": "database-0.zst.age", "kind": "database", "path": DATABASE, "size": 1, "plain_size": 1}]},
}


def hearthctl(command: str, host: str = "relay1") -> str:
    """Return what hearthctl says on a host, and at the end its exit status."""
    return lab_hosts.shell(host, f"hearthctl {command} 2>&1; echo exit status $?")


def restore_step(state: str) -> dict[str, Any]:
    """Do a step of RESTORE on home1; return what came of it."""
    return lab_hosts.module("home1", "hearth.fleet.restore_step", {"state": state, "order": RESTORE})


@pytest.fixture
def home(converged_again: None, tmp_path: Path) -> Iterator[Fleet]:
    """Return home1 with the old release of the simulated node, and see to it that no restore is left there."""
    yield Fleet(tmp_path, ["home1"]).begin()
    lab_hosts.shell("home1", f"rm -rf /var/lib/hearth/restore/{NODE}")


# What goes well


def test_f30_a_fleet_is_upgraded_batch_by_batch_and_only_once(fleet: Fleet) -> None:
    before = fleet.looks()
    fleet.good(NEW, NEW_CONFIG)
    upgraded = fleet.looks()
    for host in fleet.hosts:
        assert (upgraded[host]["current"], upgraded[host]["previous"]) == (NEW, OLD)
        assert rollouts.consistent(upgraded[host], before[host])
    report = fleet.report()
    assert report["outcome"] == "committed"
    assert [batch["hosts"] for batch in report["batches"]] == [["home1"], ["relay1"], ["relay2"]]
    assert all(first["ended"] <= second["started"] for first, second in zip(report["batches"], report["batches"][1:], strict=False))
    assert (fleet.directory / "report.html").stat().st_size > 1000
    assert f"{NODE} is already at {NEW} on home1, relay1, relay2" in fleet.good(NEW, NEW_CONFIG)
    assert f"{OLD} is older than {NEW}, which runs on home1, relay1, relay2" in fleet.bad(OLD, NEW_CONFIG)
    fleet.check_untouched(upgraded)
    rollouts.fault("relay1", never_ready=True)
    assert "Nothing is to be changed, but not all is ready" in fleet.bad(NEW, NEW_CONFIG)
    assert rollouts.locked(fleet.hosts) == []


def test_f39_a_controller_that_is_killed_between_two_batches_is_followed_by_the_next_run(fleet: Fleet) -> None:
    with fleet.start(NEW) as controller:
        rollouts.on_phase("home1", "commit", "")
        lab_hosts.kill(controller)
    assert rollouts.outcome("home1") == "committed"
    before = fleet.looks()
    fleet.good(NEW)
    after = fleet.looks()
    assert {host: found["current"] for host, found in after.items()} == dict.fromkeys(fleet.hosts, NEW)
    assert after["home1"] == before["home1"], "what was done is not done again"
    assert rollouts.locked(fleet.hosts) == []


def test_f39_ctrl_c_leaves_the_host_to_itself(relay: Fleet) -> None:
    before = rollouts.look("relay1")
    with rollouts.meanwhile(rollouts.catch, "relay1", "drain") as caught, relay.start(NEW, NEW_CONFIG) as controller:
        engine, _phase = caught.result()
        os.kill(controller.pid, signal.SIGINT)
        controller.communicate(timeout=30)
        assert controller.returncode != 0
    lab_hosts.shell("relay1", f"kill -CONT {engine}")
    assert rollouts.outcome("relay1") == "committed"
    relay.good(NEW, NEW_CONFIG)
    assert rollouts.consistent(rollouts.look("relay1"), before)
    assert rollouts.locked(["relay1"]) == []


def test_f43_another_rollout_than_the_interrupted_one_is_refused(fleet: Fleet) -> None:
    with rollouts.meanwhile(rollouts.catch, "home1", "ready") as caught, fleet.start(NEW) as controller:
        engine, _phase = caught.result()
        lab_hosts.kill(controller)
    lab_hosts.shell("home1", f"kill -CONT {engine}")
    assert rollouts.outcome("home1") == "committed"
    identifier = rollouts.lock("home1")["id"]
    assert f"version {NEW} became 1.1.0 on home1, relay1, relay2" in fleet.bad("1.1.0")
    said = fleet.bad(NEW, rollout_hosts=["home1", "relay1"])
    assert "hosts removed: relay2" in said
    assert f"-e rollout_replan={identifier}" in said
    fleet.good(NEW, rollout_hosts=["home1", "relay1"], rollout_replan=identifier)
    assert [found["current"] for found in fleet.looks().values()] == [NEW, NEW, OLD]
    assert rollouts.locked(fleet.hosts) == []


# What goes wrong with a release


def test_f46_a_canary_that_goes_back_halts_the_rollout(fleet: Fleet) -> None:
    before = fleet.looks()
    said = fleet.bad("1.0.5", NEW_CONFIG)  # which says that it is 1.0.1
    assert rollouts.outcome("home1") == "rolled_back"
    after = rollouts.look("home1")
    assert {**after, "pid": 0} == {**before["home1"], "pid": 0}
    assert rollouts.consistent(after, before["home1"])
    fleet.check_untouched(before, "relay1", "relay2")
    assert [rollouts.state(host) for host in ("relay1", "relay2")] == [{}, {}]
    report = fleet.report()
    assert (report["outcome"], report["counts"]) == ("halted", {"rolled_back": 1, "pending": 2})
    assert {"unit.journal", "unit.status", "probes.txt"} <= {path.name for path in Path(report["rows"][0]["evidence"]).iterdir()}
    assert re.search(r"next: ansible-playbook rolling-upgrade\.yml .*--check runbook: docs/runbooks\.md#a-host-went-back", said)
    assert "does not say that it is 1.0.5" in said
    assert rollouts.locked(fleet.hosts) == []


@pytest.mark.parametrize(
    ("version", "why"),
    [
        pytest.param("1.0.4", "it does not stay ready|not ready", id="flapping"),
        pytest.param("1.0.3", "it crashed, and systemd starts it again and again", id="crash loop"),
    ],
)
def test_f34_a_release_that_is_ready_only_now_and_then_goes_back(relay: Fleet, version: str, why: str) -> None:
    before = rollouts.look("relay1")
    said = relay.bad(version, NEW_CONFIG)
    assert any(one in said for one in why.split("|")), said
    assert rollouts.outcome("relay1") == "rolled_back"
    assert {**rollouts.look("relay1"), "pid": 0} == {**before, "pid": 0}


def test_f33_a_drain_that_never_ends_is_given_up(relay: Fleet) -> None:
    rollouts.fault("relay1", drain_never=True)
    before = rollouts.look("relay1")
    assert "not drained within 4s" in relay.bad(NEW, NEW_CONFIG)
    assert rollouts.outcome("relay1") == "aborted"
    assert rollouts.look("relay1") == before, "never stopped, and in use again"


def test_f36_a_migration_that_fails_leaves_the_data_as_it_was(relay: Fleet) -> None:
    before = rollouts.look("relay1")
    lab_hosts.shell("relay1", "curl -fsS -o /dev/null -X PUT -d kept http://127.0.0.1:9100/kv/mine")
    relay.bad("1.1.1", NEW_CONFIG)
    assert rollouts.outcome("relay1") == "rolled_back"
    assert rollouts.state("relay1")["facts"]["database"] == "restored"
    after = rollouts.look("relay1")
    assert {**after, "pid": 0} == {**before, "pid": 0}
    assert (after["schema"], rollouts.consistent(after, before)) == (1, True)
    assert "kept" in lab_hosts.shell("relay1", "curl -fsS http://127.0.0.1:9100/kv/mine")
    assert lab_hosts.shell("relay1", f"ls {rollouts.ROLLOUT}/{NODE}/*/aside/0"), "what the migration made of it is kept"


@pytest.mark.parametrize(
    ("decision", "there"),
    [
        pytest.param("promote", {"current": "1.1.0", "schema": 2}, id="promote"),
        pytest.param("rollback --restore-database", {"current": OLD, "schema": 1}, id="rollback"),
    ],
)
def test_f37_a_database_that_was_migrated_and_written_to_is_a_persons_to_decide_about(relay: Fleet, decision: str, there: Mapping[str, Any]) -> None:
    worse = f"curl -fsS -o /dev/null -X POST -d '{json.dumps({'never_ready': True})}' {rollouts.FAULT}"
    with rollouts.meanwhile(rollouts.on_phase, "relay1", "soak", worse):
        said = relay.bad("1.1.0", NEW_CONFIG, LONG_SOAK)
    assert f"hearthctl promote {NODE}" in said
    assert f"hearthctl rollback {NODE} --restore-database" in said
    waiting = rollouts.look("relay1")
    assert (rollouts.outcome("relay1"), waiting["current"], waiting["schema"]) == ("needs_operator", "1.1.0", 2)
    assert "a person has to decide (needs_operator" in relay.bad(NEW)
    assert "exit status 1" in hearthctl(f"status {NODE}")
    assert "would lose what was written" in hearthctl(f"rollback {NODE}")
    rollouts.fault("relay1", never_ready=False)
    assert rollouts.look("relay1") == {**waiting, "ready": True}, "nothing was touched"
    verb, _space, options = decision.partition(" ")
    assert "exit status 0" in hearthctl(f"{verb} {NODE} {options}")
    after = rollouts.look("relay1")
    assert (after["ready"], {name: after[name] for name in there}) == (True, there)
    assert "exit status 0" in hearthctl(f"status {NODE}")


def test_f38_a_rollback_that_fails_waits_for_a_person(relay: Fleet) -> None:
    before = rollouts.look("relay1")
    binary = f"{HOME}/releases/{OLD}/bin/{NODE}"
    with rollouts.meanwhile(rollouts.on_phase, "relay1", "start", f"mv {binary} /var/tmp/"):
        assert "the way back failed" in relay.bad("1.0.3", NEW_CONFIG)
    assert rollouts.outcome("relay1") == "needs_operator"
    assert "a person has to decide (needs_operator" in relay.bad(NEW)
    assert f"hearthctl resolve {NODE}" in hearthctl(f"status {NODE}")
    lab_hosts.shell("relay1", f"mv /var/tmp/{NODE} {binary}")
    assert "exit status 0" in hearthctl(f"rollback {NODE}")
    assert {**rollouts.look("relay1"), "pid": 0} == {**before, "pid": 0}
    relay.good(NEW, NEW_CONFIG)


# What is wrong beforehand


def test_f29_a_wrong_digest_stops_before_any_drain(fleet: Fleet) -> None:
    before = fleet.looks()
    digests = json.loads((lab_hosts.CHECKOUT / "tests/fixtures/kontinuum/digests.json").read_text())
    digests[NODE][NEW]["amd64"] = "0" * 64
    assert "the artifact has another digest" in fleet.bad(NEW, lab_kontinuum_digests=digests)
    fleet.check_untouched(before)
    assert [rollouts.state(host) for host in fleet.hosts] == [{}, {}, {}]


def test_f44_no_upgrade_without_the_backup_before_it(relay: Fleet) -> None:
    before = lab_hosts.shell("relay1", f"systemctl show --property=MainPID {NODE}")
    lab_hosts.shell("relay1", "dd if=/dev/zero of=/var/lib/kontinuum-node/data/node.db bs=100 count=1 conv=notrunc status=none")
    assert "the pre-upgrade backup failed" in relay.bad(NEW)
    assert rollouts.outcome("relay1") == "aborted"
    assert lab_hosts.shell("relay1", f"systemctl show --property=MainPID {NODE}") == before


def test_f42_a_host_that_is_not_ready_counts_against_the_minimum(fleet: Fleet) -> None:
    rollouts.fault("relay2", never_ready=True)
    before = fleet.looks()
    said = fleet.bad(NEW)
    assert "2 of 3 hosts must stay ready and 2 are (not ready: relay2" in said
    assert "-e rollout_hosts=relay2" in said
    fleet.check_untouched(before)


def test_f42_a_host_that_fails_meanwhile_stops_the_next_batch(fleet: Fleet) -> None:
    before = fleet.looks()
    with fleet.start(NEW, LONG_SOAK) as controller:
        rollouts.on_phase("home1", "soak", "true")
        rollouts.fault("relay2", never_ready=True)
        said = " ".join("".join(controller.communicate(timeout=120)).split())
    assert controller.returncode != 0
    assert "while relay1 is out of service, 1 of 3 hosts would be ready (home1), and 2 must be; not ready now: relay2" in said
    assert rollouts.look("home1")["says"] == NEW
    fleet.check_untouched({**before, "relay2": {**before["relay2"], "ready": False}}, "relay1", "relay2")
    assert rollouts.locked(fleet.hosts) == []


@pytest.mark.parametrize(
    ("layer", "variables", "said"),
    [
        pytest.param({"rollout": {"batch": 0}}, {}, "a batch of 0|would upgrade nobody", id="batch of 0"),
        pytest.param({"min_available": 4}, {}, "min_available", id="min_available"),
        pytest.param({"drain": {"done": {"url": "http://127.0.0.1:9199/"}}}, {}, "http://127.0.0.1:9199/ does not answer", id="drain"),
        pytest.param({}, {"rollout_service": ["node"]}, "no host runs a service called 'node'", id="service"),
        pytest.param({}, {"lab_kontinuum_version": "9.9.9"}, "9.9.9", id="version"),
    ],
)
def test_bad_input_is_refused_before_the_first_drain(relay: Fleet, layer: Mapping[str, Any], variables: Mapping[str, Any], said: str) -> None:
    before = rollouts.look("relay1")
    output = relay.bad(NEW, layer, **variables)
    assert any(one in output for one in said.split("|")), output
    assert (rollouts.look("relay1"), rollouts.state("relay1"), rollouts.locked(["relay1"])) == (before, {}, [])


# Who may


def test_f40_of_two_operators_one_wins(relay: Fleet, tmp_path: Path) -> None:
    with relay.start(NEW, LONG_SOAK) as first:
        lab_hosts.wait_until(lambda: bool(rollouts.locked(["relay1"])))
        second = Fleet(tmp_path / "second", ["relay1"])
        said = second.bad("1.1.0")
        assert f"{rollouts.lock('relay1')['owner']} runs rolling_upgrade since" in said
        output, errors = first.communicate(timeout=rollouts.END_SECONDS)
    assert first.returncode == 0, output + errors
    assert rollouts.look("relay1")["current"] == NEW


@pytest.mark.parametrize("silent", [pytest.param(10, id="taken"), pytest.param(7200, id="stale")])
def test_f41_a_lock_is_broken_only_on_purpose(relay: Fleet, silent: int) -> None:
    lab_hosts.shell("relay1", f"mkdir -p {rollouts.ROLLOUT}")
    now = float(lab_hosts.shell("relay1", "date +%s"))
    lab_hosts.shell("relay1", f"cat > {rollouts.ROLLOUT}/lock.json", json.dumps({**OTHER_LOCK, "beat": now - silent}).encode())
    before = rollouts.look("relay1")
    said = relay.bad(NEW)
    assert "ada@elsewhere runs rolling_upgrade since 2026-11-01 08:00:00 UTC" in said
    assert f"-e rollout_break_lock={OTHER_LOCK['id']}" in said
    assert rollouts.look("relay1") == before
    relay.good(NEW, rollout_break_lock=OTHER_LOCK["id"])
    assert (rollouts.look("relay1")["current"], rollouts.locked(["relay1"])) == (NEW, [])


def test_f40_a_restore_keeps_rollouts_of_its_service_out(home: Fleet) -> None:
    home.good(NEW)
    transaction = rollouts.state("home1")
    assert not restore_step("prepared")["failed"]
    before = home.looks()
    refused = f"restore {RESTORE['id']} has the service since 20"
    said = home.bad(NEW, rollout_restart=True)
    assert f"{NODE} on home1: {refused}" in said
    assert f"on home1: wait until it has ended: hearthctl status {NODE}" in said
    assert "The rollout cannot begin; no service was stopped" in said
    said = hearthctl(f"rollback {NODE}", "home1")
    assert f"hearthctl: {NODE}: {refused}" in said
    assert said.endswith("exit status 2\n")
    assert refused in hearthctl(f"status {NODE}", "home1")
    home.check_untouched(before)
    assert rollouts.state("home1") == transaction, "none has begun"
    assert f"waits {NODE}: {refused}" in flat(home.good(NEW, NEW_CONFIG, playbook="site.yml"))
    home.check_untouched(before)
    lab_hosts.shell("home1", f"systemctl stop {NODE}")  # as a restore does while it exchanges the data
    assert f"waits {NODE}: {refused}" in flat(home.good(NEW, NEW_CONFIG, playbook="site.yml"))
    assert rollouts.look("home1")["pid"] == 0
    assert rollouts.locked(["home1"]) == []
    assert not restore_step("discarded")["failed"]
    home.good(NEW, NEW_CONFIG, playbook="site.yml")
    assert hearthctl(f"rollback {NODE}", "home1").endswith("exit status 0\n")
    assert rollouts.look("home1")["says"] == OLD


def test_f40_a_rollout_keeps_restores_of_its_service_out(home: Fleet) -> None:
    with rollouts.meanwhile(rollouts.catch, "home1", "drain") as caught, home.start(NEW) as controller:
        engine, _phase = caught.result()
        refused = restore_step("prepared")
        lab_hosts.shell("home1", f"kill -CONT {engine}")
        controller.communicate(timeout=60)
    assert refused["failed"]
    assert re.search(rf"{NODE}: transaction \S+ of \S+ has the service since .* \(in phase drain: ", refused["msg"])
    assert controller.returncode == 0
    assert rollouts.look("home1")["says"] == NEW
    assert not restore_step("prepared")["failed"]


def test_f40_a_rollout_keeps_site_yml_off_its_service(relay: Fleet, tmp_path: Path) -> None:
    other = Fleet(tmp_path / "other", ["relay1"])
    with rollouts.meanwhile(rollouts.catch, "relay1", "switch") as caught, relay.start(NEW) as controller:
        engine, _phase = caught.result()  # the service has been stopped
        before = rollouts.look("relay1")
        said = flat(other.good(NEW, NEW_CONFIG, playbook="site.yml"))
        after = rollouts.look("relay1")
        lab_hosts.shell("relay1", f"kill -CONT {engine}")
        controller.communicate(timeout=60)
    assert re.search(rf"waits {NODE}: transaction \S+ of \S+ has the service since .* \(in phase ", said)
    assert (after, after["pid"]) == (before, 0)
    assert (controller.returncode, rollouts.look("relay1")["says"]) == (0, NEW)


# On the way


def test_f32_a_host_that_cannot_be_reached_for_a_while_goes_on_by_itself(relay: Fleet) -> None:
    with rollouts.meanwhile(rollouts.on_phase, "relay1", "stop", rollouts.cut_off(40)):
        said = relay.good(NEW)
    assert "relay1 cannot be reached; the host goes on by itself" in said
    assert rollouts.look("relay1")["current"] == NEW
