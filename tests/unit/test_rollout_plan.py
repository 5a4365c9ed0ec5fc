# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollout: order, batches, arithmetic; and everything that must keep it from beginning."""

from __future__ import annotations

import copy
import random
from typing import Any

import fleets
import pytest
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.hearth.fleet.plugins.action.rollout_plan import asked
from ansible_collections.hearth.fleet.plugins.filter import rollouts
from ansible_collections.hearth.fleet.plugins.module_utils import rollout_batches, rollout_plan, rollout_plan_text, slices, transaction
from ansible_collections.hearth.fleet.plugins.module_utils.rollout_plan import Settings
from ansible_collections.hearth.fleet.plugins.modules import readiness
from ansible_collections.hearth.fleet.plugins.modules.transaction import candidates

ALL = Settings()
FOUR = {"home1": "tier2", "relay1": "tier1", "relay2": "tier1", "anchor1": "tier0"}
ORDERS = {"tier0": 0, "tier1": 1, "tier2": 2, "": 0}
RUN = {"id": "20261121T120000Z-ab12cd", "owner": "ops@laptop", "playbook": "rolling_upgrade"}


def wanted(service: str = "icnd", **described: Any) -> dict[str, Any]:
    """Return the rollout slice of a service, as the join makes it of a description."""
    joined, mistakes = fleets.join(fleets.fleet(services={service: {**copy.deepcopy(fleets.ICND), **described}}, placement={"icn": [service]}))
    assert mistakes == []
    spec = joined["relay1"]["services"][service]
    files = [{"path": "/etc/icn/config.toml", "owner": "root", "group": "icnd", "mode": "0640", "sha256": fleets.DIGEST, "content": "a = 1\n"}]
    unit = {"service": service, "name": f"{service}.service", "sha256": fleets.DIGEST, "stamp": ["/etc/icn/config.toml"]}
    return slices.rollout(spec, files, unit, joined["relay1"]["services"])


class Lab:
    """A fleet in which every host runs 0.2.0 of icnd, ready, and 0.3.0 is wanted; a test then changes what it is about."""

    def __init__(self, hosts: dict[str, str] | None = None, services: tuple[str, ...] = ("icnd",), **described: Any) -> None:
        slice_of = {service: wanted(service, **described) for service in services}
        release = [{"service": service, "artifacts": {"amd64": {"sha256": fleets.DIGEST, "url": "https://example.org"}}} for service in services]
        self.specs: dict[str, Any] = {
            host: {
                "host": {"name": host, "tier": tier, "order": ORDERS[tier], "addresses": [], "offline": "skip" if tier == "tier2" else "fail"},
                "rollout": [copy.deepcopy(slice_of[service]) for service in services],
                "release": copy.deepcopy(release),
            }
            for host, tier in (hosts or FOUR).items()
        }
        self.looks: dict[str, Any] = {host: {"plan": {"services": {}, "staged": [], "rollout": [], "release": []}} for host in self.specs}
        for host in self.specs:
            for service in services:
                self.runs(host, "0.2.0", service=service)

    def runs(self, host: str, version: str, service: str = "icnd", **state: Any) -> Lab:
        installed = sorted({version, "0.2.0"})
        seen = {"release": version, "installed": installed, "state": "active", "since": "", "restarts": 0, "ready": True}
        self.looks[host]["plan"]["services"][service] = {**seen, **state}
        return self

    def pending(self, host: str, action: str, reason: str = "config changed", service: str = "icnd") -> Lab:
        self.looks[host]["plan"]["rollout"].append({"item": f"{service}.service", "reason": reason, "service": service, "action": action})
        return self

    def set(self, **changes: Any) -> Lab:
        for spec in self.specs.values():
            for one in spec["rollout"]:
                one.update(changes)
        return self

    def requires(self, service: str, required: str) -> Lab:
        """Have a service stop along with another one, wherever both are."""
        for spec in self.specs.values():
            next(one for one in spec["rollout"] if one["service"] == required)["along"].append(service)
        return self

    def off(self, host: str) -> Lab:
        self.looks[host] = {"away": True, "msg": "ssh: connect to host timed out\n"}
        return self

    def plan(self, settings: Settings = ALL) -> dict[str, Any]:
        return rollout_plan.plan(self.specs, self.looks, settings)

    def batches(self, settings: Settings = ALL) -> list[list[str]]:
        planned = self.plan(settings)
        assert planned["mistakes"] == []
        return [batch["hosts"] for batch in planned["batches"]]

    def mistakes(self, settings: Settings = ALL) -> list[str]:
        return self.plan(settings)["mistakes"]


def done(*hosts: str) -> Lab:
    """Return the fleet after its upgrade, or after that of some hosts."""
    lab = Lab()
    for host in hosts or FOUR:
        lab.runs(host, "0.3.0")
    return lab


# Order and batches


def test_the_canary_first_then_from_the_edge_inwards_the_anchors_last() -> None:
    planned = Lab().plan()
    assert planned["batches"] == [
        {"service": "icnd", "number": 1, "of": 4, "canary": True, "tier": "tier2", "hosts": ["home1"]},
        {"service": "icnd", "number": 2, "of": 4, "canary": False, "tier": "tier1", "hosts": ["relay1"]},
        {"service": "icnd", "number": 3, "of": 4, "canary": False, "tier": "tier1", "hosts": ["relay2"]},
        {"service": "icnd", "number": 4, "of": 4, "canary": False, "tier": "tier0", "hosts": ["anchor1"]},
    ]
    assert planned["mistakes"] == []
    assert not planned["nothing"]


EIGHT = {f"relay{number}": "tier1" for number in (1, 2, 3, 4, 9, 10, 11, 12)}


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        pytest.param({"batch": 1}, [1, 1, 1, 1, 1, 1, 1, 1], id="one-at-a-time"),
        pytest.param({"batch": 3, "min_available": 1}, [1, 3, 3, 1], id="number"),
        pytest.param({"batch": "25%", "min_available": 1}, [1, 2, 2, 2, 1], id="percentage"),
        pytest.param({"batch": "49%", "min_available": 1}, [1, 3, 3, 1], id="percentage-is-rounded-down"),
        pytest.param({"batch": "1%", "min_available": 1}, [1] * 8, id="percentage-is-at-least-one"),
        pytest.param({"batch": "100%"}, [1, 3, 3, 1], id="never-more-than-half-are-away-by-default"),
        pytest.param({"batch": "100%", "min_available": "70%"}, [1, 2, 2, 2, 1], id="percentage-of-ready-is-rounded-up"),
        pytest.param({"batch": "100%", "min_available": 0, "canary": 0}, [8], id="all-at-once"),
        pytest.param({"batch": 4, "min_available": 0, "canary": 3}, [3, 4, 1], id="several-canaries"),
        pytest.param({"batch": 4, "min_available": 6, "canary": 3}, [2, 1, 2, 2, 1], id="canaries-keep-to-min_available"),
    ],
)
def test_sizes_of_batches(changes: dict[str, Any], sizes: list[int]) -> None:
    planned = Lab(EIGHT).set(**changes).plan()
    assert [len(batch["hosts"]) for batch in planned["batches"]] == sizes
    assert sum(len(batch["hosts"]) for batch in planned["batches"] if batch["canary"]) == changes.get("canary", 1)
    assert [row["host"] for row in planned["rows"]] == list(EIGHT), "relay9 comes before relay10"


def test_a_percentage_is_that_of_the_tier() -> None:
    hosts = {**{f"home{number}": "tier2" for number in range(1, 5)}, "relay1": "tier1", "relay2": "tier1", "anchor1": "tier0"}
    assert Lab(hosts).set(batch="50%", min_available=1, canary=0).batches() == [
        ["home1", "home2"],
        ["home3", "home4"],
        ["relay1"],
        ["relay2"],
        ["anchor1"],
    ]


def test_a_tier_may_have_another_batch() -> None:
    lab = Lab(EIGHT).set(canary=0, min_available=0)
    lab.specs["anchor1"] = copy.deepcopy(lab.specs["relay1"]) | {"host": {**lab.specs["relay1"]["host"], "tier": "tier0", "order": 0}}
    lab.looks["anchor1"] = copy.deepcopy(lab.looks["relay1"])
    for host in EIGHT:
        lab.specs[host]["rollout"][0]["batch"] = 5
    assert [len(batch) for batch in lab.batches()] == [5, 3, 1]


def test_two_services_of_one_host_go_one_after_the_other() -> None:
    planned = Lab(services=("icnd", "gatewayd")).plan()
    assert [(batch["service"], batch["hosts"]) for batch in planned["batches"]] == [
        (service, [host]) for service in ("gatewayd", "icnd") for host in FOUR
    ]
    assert len({(row["service"], row["host"]) for row in planned["rows"]}) == len(planned["rows"]) == 8


def test_only_the_services_and_hosts_that_are_asked_for() -> None:
    planned = Lab(services=("icnd", "gatewayd")).plan(Settings(services=["icnd"], hosts=["relay2"]))
    assert [(row["service"], row["host"]) for row in planned["rows"]] == [("icnd", "relay2")]
    assert {one["host"] for one in planned["held"]} == {"home1", "relay1", "anchor1"}
    assert planned["arithmetic"]["icnd"]["hosts"] == 4, "min_available still counts all hosts"


@pytest.mark.parametrize(("partition", "hosts"), [(0, []), (1, ["home1"]), (3, ["home1", "relay1", "relay2"]), (4, list(FOUR))])
def test_a_partition_holds_the_rest(partition: int, hosts: list[str]) -> None:
    planned = Lab().set(partition=partition).plan()
    assert [row["host"] for row in planned["rows"]] == hosts
    assert [one["host"] for one in planned["held"]] == list(FOUR)[partition:]


def test_a_partition_is_the_same_again_when_it_is_done() -> None:
    planned = done("home1", "relay1").set(partition=2).plan()
    assert planned["nothing"]
    assert [one["host"] for one in planned["held"]] == ["relay2", "anchor1"]


# Canary and promotion


def test_after_the_canary_a_rerun_needs_no_other() -> None:
    assert [batch["canary"] for batch in done("home1").plan()["batches"]] == [False, False, False]


def test_a_host_that_runs_the_new_release_and_is_not_ready_was_no_canary() -> None:
    mistakes = done("home1").runs("home1", "0.3.0", ready=False).mistakes()
    assert mistakes == [
        "icnd on home1: 0.3.0 runs there already, but is not ready, so no other host gets it before that is understood\n"
        "  → see why (journalctl -u icnd.service), or restart it: -e rollout_restart=true"
    ]


def test_a_canary_that_is_promoted_by_hand_holds_the_others() -> None:
    lab = Lab().set(promote="manual")
    planned = lab.plan()
    assert [batch["hosts"] for batch in planned["batches"]] == [["home1"]]
    assert [one["host"] for one in planned["held"]] == ["relay1", "relay2", "anchor1"]
    lab.runs("home1", "0.3.0")
    assert lab.plan()["nothing"], "a second run promotes nobody"
    assert lab.batches(Settings(promote=["icnd"])) == [["relay1"], ["relay2"], ["anchor1"]]


def test_a_restart_for_new_config_needs_no_promotion() -> None:
    lab = done().set(promote="manual")
    for host in FOUR:
        lab.pending(host, "restart")
    assert [row["host"] for row in lab.plan()["rows"]] == list(FOUR)


# What is to be done


def test_f30_nothing_to_do_where_version_digest_and_readiness_agree() -> None:
    planned = done().plan()
    assert planned["nothing"]
    assert planned["mistakes"] == []
    assert planned["said"] == ["icnd is already at 0.3.0 on home1, relay1, relay2, anchor1"]
    assert rollout_plan_text.refusal(planned) == ""


def test_f30_the_same_version_from_another_artifact_is_something_to_do() -> None:
    lab = done()
    reason = "installed from another artifact (sha256 aaaa, wanted bbbb)"
    lab.looks["relay1"]["plan"]["release"].append({"item": "icnd 0.3.0", "reason": reason, "service": "icnd", "action": "install"})
    assert [(row["host"], row["kind"], row["reasons"]) for row in lab.plan()["rows"]] == [("relay1", "restart", [reason])]


def test_f30_the_same_version_that_is_not_ready_is_no_success() -> None:
    planned = done().runs("relay1", "0.3.0", ready=False).plan()
    assert planned["nothing"]
    assert rollout_plan_text.refusal(planned).splitlines() == [
        "Nothing is to be changed, but not all is ready:",
        "icnd on relay1: 0.3.0 runs there already, but is not ready",
        "  → see why (journalctl -u icnd.service), or restart it: -e rollout_restart=true",
    ]


@pytest.mark.parametrize(
    ("action", "kind"),
    [pytest.param("restart", "restart", id="restart"), pytest.param("reload", "reload", id="reload"), pytest.param("start", "restart", id="start")],
)
def test_what_is_pending_becomes_an_order(action: str, kind: str) -> None:
    [row] = done().pending("relay1", action).plan()["rows"]
    assert (row["kind"], row["from"], row["to"], row["reasons"]) == (kind, "0.3.0", "0.3.0", ["config changed"])


def test_a_proposed_plan_counts_what_will_have_to_restart() -> None:
    lab = done()
    lab.looks["relay1"]["plan"]["follows"] = [{"item": "icnd.service", "reason": "config is to change", "service": "icnd", "action": "restart"}]
    [row] = lab.plan(Settings(proposed=True))["rows"]
    assert (row["host"], row["kind"], row["reasons"]) == ("relay1", "restart", ["config is to change"])
    assert lab.plan()["nothing"], "once the hosts are converged, what restarts is seen"


def test_a_restart_that_is_asked_for() -> None:
    planned = done().runs("relay1", "0.3.0", ready=False).plan(Settings(restart=True, hosts=["relay1"]))
    assert [(row["host"], row["kind"], row["note"]) for row in planned["rows"]] == [("relay1", "restart", "not ready now")]
    assert planned["mistakes"] == []


def test_site_yml_restarts_what_is_pending_and_brings_no_release() -> None:
    lab = done("home1").pending("home1", "restart")
    for host in ("relay1", "relay2", "anchor1"):
        lab.looks[host]["plan"]["staged"] = [{"service": "icnd", "reason": "0.3.0 runs; 0.4.0 is staged"}]
    planned = lab.plan(Settings(pending_only=True))
    assert [(row["host"], row["kind"]) for row in planned["rows"]] == [("home1", "restart")]
    assert planned["held"][0] == {"service": "icnd", "host": "relay1", "why": "0.3.0 is staged; rolling-upgrade.yml brings it"}
    assert not any("already at" in said for said in planned["said"])


def test_a_service_that_never_ran_there_is_for_site_yml() -> None:
    planned = Lab().runs("relay1", "", state="inactive", ready=False).plan()
    assert "relay1" not in [row["host"] for row in planned["rows"]]
    assert [(one["host"], one["why"]) for one in planned["skipped"]] == [("relay1", "it was never started there; site.yml installs and starts it")]


@pytest.mark.parametrize(
    ("old", "mistake"),
    [
        pytest.param("0.2.9", False, id="upgrade"),
        pytest.param("0.3.0-rc.1", False, id="from-a-pre-release"),
        pytest.param("0.3.1", True, id="downgrade"),
        pytest.param("0.10.0", True, id="numbers-are-numbers"),
    ],
)
def test_a_downgrade_must_be_meant(old: str, mistake: bool) -> None:
    lab = Lab().runs("relay1", old)
    assert bool(lab.mistakes()) is mistake
    if mistake:
        assert lab.mistakes()[0].startswith(f"fleet_services.icnd.version: 0.3.0 is older than {old}, which runs on relay1\n  → ")
    assert lab.set(allow_downgrade=True).mistakes() == []


def test_versions_whose_order_nobody_can_tell_are_said() -> None:
    planned = Lab().runs("relay1", "9f86d08").plan()
    assert planned["mistakes"] == []
    assert "icnd: nobody can tell whether 0.3.0 is newer than 9f86d08; it is taken for an upgrade" in planned["said"]


@pytest.mark.parametrize(
    ("databases", "old", "risk"),
    [
        pytest.param([], "0.2.0", "none", id="no-database"),
        pytest.param([{"path": "/var/lib/icnd/a.db", "engine": "sqlite", "tables": []}], "0.2.0", "possible", id="upgrade"),
        pytest.param([{"path": "/var/lib/icnd/a.db", "engine": "sqlite", "tables": []}], "0.4.0", "older release", id="downgrade"),
    ],
)
def test_the_risk_for_databases(databases: list[Any], old: str, risk: str) -> None:
    rows = Lab().set(databases=databases, allow_downgrade=True).runs("home1", old).plan()["rows"]
    assert rows[0]["schema_risk"] == risk


# Hosts that are not there


def test_f47_a_host_that_is_switched_off_is_skipped_by_its_tier() -> None:
    planned = Lab().off("home1").plan()
    assert [row["host"] for row in planned["rows"]] == ["relay1", "relay2", "anchor1"]
    assert planned["batches"][0]["canary"], "the first of the others is the canary"
    assert [(one["service"], one["host"]) for one in planned["skipped"]] == [("icnd", "home1")]
    assert planned["arithmetic"]["icnd"]["hosts"] == 3
    assert any(said.startswith("icnd on home1 is skipped: switched off") for said in planned["said"])


def test_f47_it_is_caught_up_by_the_next_run() -> None:
    assert done("relay1", "relay2", "anchor1").batches() == [["home1"]]


def test_f47_a_host_that_answers_but_cannot_be_seen_is_not_switched_off() -> None:
    lab = Lab()
    lab.looks["home1"] = {"msg": "no python"}
    assert lab.mistakes()[0].startswith("icnd on home1: the host cannot be seen: no python\n  → repair that")


def test_f45_an_unreachable_host_stops_the_rollout_before_it_begins() -> None:
    lab = Lab().off("relay1")
    assert lab.mistakes()[0].startswith(
        "icnd on relay1: the host cannot be reached: ssh: connect to host timed out\n  → repair that; or set fleet_tiers.tier1"
    )
    assert lab.set(min_available=2).mistakes(Settings(hosts=["relay2"])) == [], "it counts as not ready, which leaves enough"


# min_available


@pytest.mark.parametrize(("hosts", "least"), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_min_available_is_by_default_more_than_half(hosts: int, least: int) -> None:
    assert rollout_batches.least_available(None, hosts) == least


@pytest.mark.parametrize(("wish", "least"), [(0, 0), (3, 3), ("50%", 3), ("51%", 3), ("67%", 4), ("100%", 5)])
def test_min_available_as_a_share_is_rounded_up(wish: Any, least: int) -> None:
    assert rollout_batches.least_available(wish, 5) == least


def test_a_single_host_is_restarted() -> None:
    assert Lab({"relay1": "tier1"}).batches() == [["relay1"]]


def test_f42_a_peer_that_is_down_is_counted() -> None:
    lab = Lab({"relay1": "tier1", "relay2": "tier1", "relay3": "tier1"}).runs("relay3", "0.2.0", state="failed", ready=False)
    assert lab.mistakes() == [
        "fleet_services.icnd.min_available: 2 of 3 hosts must stay ready and 2 are (not ready: relay3, failed), "
        "so relay1 cannot be taken out of service\n"
        "  → bring them back first; or change them first: -e rollout_hosts=relay3; or lower it"
    ]


def test_f42_the_host_that_is_down_may_be_repaired_by_the_upgrade() -> None:
    lab = Lab({"relay1": "tier1", "relay2": "tier1", "relay3": "tier1"}).runs("relay3", "0.2.0", state="failed", ready=False)
    assert lab.batches(Settings(hosts=["relay3"])) == [["relay3"]]


def test_f42_a_host_that_is_down_and_comes_first_makes_room_for_the_others() -> None:
    lab = Lab({"relay1": "tier1", "relay2": "tier1", "relay3": "tier1"}).runs("relay1", "0.2.0", state="failed", ready=False)
    assert lab.batches() == [["relay1"], ["relay2"], ["relay3"]]


def test_f42_hosts_that_were_not_looked_at_count_as_not_ready_where_somebody_says_how_many_must_be() -> None:
    lab = Lab({"relay1": "tier1", "relay2": "tier1", "relay3": "tier1"}, min_available=1)
    del lab.looks["relay2"], lab.looks["relay3"]
    planned = lab.plan()
    assert "not ready: relay2, outside --limit, relay3, outside --limit" in planned["mistakes"][0]
    assert "icnd on relay2 was not looked at (--limit, or it failed before), and counts as not ready" in planned["said"]


def test_f42_by_default_a_limit_says_which_hosts_count() -> None:
    lab = Lab({"relay1": "tier1", "relay2": "tier1", "relay3": "tier1"})
    del lab.looks["relay2"], lab.looks["relay3"]
    planned = lab.plan()
    assert [batch["hosts"] for batch in planned["batches"]] == [["relay1"]]
    assert (planned["arithmetic"]["icnd"]["hosts"], planned["arithmetic"]["icnd"]["min_available"]) == (1, 0)


@pytest.mark.parametrize(
    ("batch", "ready", "problem"),
    [
        pytest.param(["relay1"], ["home1", "relay1", "relay2", "anchor1"], "", id="all-ready"),
        pytest.param(["relay1"], ["home1", "relay1", "relay2"], "not ready now: anchor1", id="another-one-is-down"),
        pytest.param(["relay1"], ["home1", "relay2", "anchor1"], "", id="the-one-in-the-batch-is-down"),
        pytest.param(["relay1"], ["home1"], "", id="the-one-in-the-batch-is-down-and-others-too"),
        pytest.param(["relay1", "relay2"], ["home1", "relay1", "relay2", "anchor1"], "2 of 4 hosts would be ready (anchor1, home1)", id="too-many"),
        pytest.param(["relay1", "relay2"], ["home1", "relay2", "anchor1"], "while relay2 is out of service, 2 of 4", id="one-of-two-is-down"),
    ],
)
def test_f42_the_gate_counts_who_is_ready_just_before_a_batch(batch: list[str], ready: list[str], problem: str) -> None:
    said = rollout_batches.gate(Lab().plan(), {"service": "icnd", "hosts": batch}, {"icnd": ready})
    assert problem in said
    assert bool(said) is bool(problem)


def test_f42_what_a_host_is_asked_before_a_batch_is_what_the_module_takes() -> None:
    lab = Lab(services=("icnd", "gatewayd"))

    def asked_of(slice_of: list[dict[str, Any]]) -> list[dict[str, Any]]:
        planned = lab.plan()
        return rollouts.rollout_questions(slice_of, planned, next(batch for batch in planned["batches"] if batch["service"] == "icnd"))

    questions = asked_of(lab.specs["relay1"]["rollout"])
    assert [(one["service"], one["unit"]) for one in questions] == [("icnd", "icnd.service")]
    assert asked_of([]) == [], "nothing about what is not placed there"
    lab.requires("gatewayd", "icnd")
    assert [one["service"] for one in asked_of(lab.specs["relay1"]["rollout"])] == ["icnd", "gatewayd"]
    spec = {"services": {"type": "list", "elements": "dict", "options": readiness.SERVICE}}
    assert ArgumentSpecValidator(spec).validate({"services": questions}).error_messages == []


def test_f42_only_a_ready_answer_counts_for_the_gate() -> None:
    answers = {
        "home1": {"services": {"icnd": {"ready": True}}},
        "relay1": {"services": {"icnd": {"ready": True}}},
        "relay2": {"services": {"icnd": {"ready": False}}},
        "anchor1": {"unreachable": True, "msg": "timed out"},
    }
    said = rollouts.rollout_gate(Lab().plan(), {"service": "icnd", "hosts": ["relay1"]}, answers)
    assert "1 of 4 hosts would be ready (home1)" in said
    assert "not ready now: relay2, anchor1" in said
    assert "relay2: the module broke" in rollouts.rollout_gate(
        Lab().plan(), {"service": "icnd", "hosts": ["relay1"]}, {"relay2": {"msg": "the module broke"}}
    )


# What stops along with a service


def paired(**settings: Any) -> Lab:
    """Return three hosts with a gateway that requires icnd."""
    lab = Lab({"relay1": "tier1", "relay2": "tier1", "relay3": "tier1"}, services=("icnd", "gatewayd"), **settings)
    return lab.requires("gatewayd", "icnd")


ICND = Settings(services=["icnd"])


def test_f42_what_stops_along_keeps_its_minimum_too() -> None:
    lab = paired().set(batch="100%", canary=0, min_available=0)
    assert lab.batches(ICND) == [["relay1", "relay2", "relay3"]]
    for spec in lab.specs.values():
        next(one for one in spec["rollout"] if one["service"] == "gatewayd")["min_available"] = 2
    assert lab.batches(ICND) == [["relay1"], ["relay2"], ["relay3"]]


def test_f42_a_peer_of_what_stops_along_is_down() -> None:
    lab = paired().runs("relay3", "0.2.0", service="gatewayd", state="failed", ready=False)
    assert lab.mistakes(ICND) == [
        "fleet_services.gatewayd.min_available: 2 of 3 hosts must stay ready and 2 are (not ready: relay3, failed), "
        "so relay1 cannot be taken out of service, which it is while icnd restarts\n"
        "  → bring them back first; or lower it"
    ]
    assert lab.batches(Settings(services=["icnd"], hosts=["relay3"])) == [["relay3"]], "it takes nothing away there"


def test_f42_a_reload_stops_nothing_along() -> None:
    lab = paired().runs("relay3", "0.2.0", service="gatewayd", ready=False)
    for host in lab.specs:
        lab.runs(host, "0.3.0").pending(host, "reload")
    assert lab.batches(ICND) == [["relay1"], ["relay2"], ["relay3"]]


@pytest.mark.parametrize(
    ("ready", "problem"),
    [
        pytest.param({"icnd": ["relay1", "relay2", "relay3"], "gatewayd": ["relay1", "relay2", "relay3"]}, "", id="all-ready"),
        pytest.param(
            {"icnd": ["relay1", "relay2", "relay3"], "gatewayd": ["relay1", "relay2"]},
            "gatewayd, which stops with icnd: while relay1 is out of service, 1 of 3 hosts would be ready (relay2), and 2 must be; "
            "not ready now: relay3\n  → bring these back first, then run the same command again; or lower fleet_services.gatewayd.min_available",
            id="a-peer-is-down",
        ),
        pytest.param({"icnd": ["relay1", "relay2", "relay3"], "gatewayd": ["relay2"]}, "", id="it-does-not-run-there-anyway"),
        pytest.param({"icnd": ["relay1", "relay2", "relay3"]}, "", id="it-runs-nowhere"),
    ],
)
def test_f42_the_gate_counts_what_stops_along(ready: dict[str, list[str]], problem: str) -> None:
    planned = paired().plan(ICND)
    assert rollout_batches.gate(planned, planned["batches"][0], ready) == problem


def test_the_plan_says_what_stops_along() -> None:
    text = rollout_plan_text.render(paired().plan(ICND))
    assert "with it, gatewayd stops and starts" in " ".join(text.split())
    assert "gatewayd, which stops with icnd: 3 of 3 hosts ready, 2 must stay so (by default)" in text


# Transactions that are there already


@pytest.mark.parametrize(
    ("state", "mistake"),
    [
        pytest.param(
            {"outcome": None, "phase": "soak"},
            "icnd on relay1: a transaction of rollout r1 is under way there (phase soak)\n  → it ends",
            id="f31-unfinished",
        ),
        pytest.param(
            {"outcome": "needs_operator", "said": "the schema changed", "next": "hearthctl resolve icnd"},
            "icnd on relay1: a person has to decide (needs_operator, rollout r1): the schema changed\n  → on relay1: hearthctl resolve icnd",
            id="f38-needs-a-person",
        ),
        pytest.param(
            {"outcome": "inconclusive", "next": "hearthctl keep icnd"}, "icnd on relay1: a person has to decide (inconclusive", id="f35-inconclusive"
        ),
        pytest.param({"outcome": "needs_operator", "resolved": True}, "", id="a-person-has-decided"),
        pytest.param({"outcome": "committed"}, "", id="committed"),
    ],
)
def test_what_a_transaction_left_behind(state: dict[str, Any], mistake: str) -> None:
    lab = Lab().runs("relay1", "0.2.0", transaction={"id": "r1", "from": "0.1.0", "to": "0.2.0", **state})
    assert [said[: len(mistake)] for said in lab.mistakes()] == ([mistake] if mistake else [])


RESTORE = {"id": "s1", "since": 0, "said": "the service stops"}


@pytest.mark.parametrize(
    ("version", "settings", "mistake"),
    [
        pytest.param(
            "0.2.0",
            ALL,
            "icnd on relay1: restore s1 has the service since 1970-01-01 00:00:00 UTC (the service stops)\n"
            "  → on relay1: wait until it has ended: hearthctl status icnd",
            id="to-be-upgraded",
        ),
        pytest.param("0.3.0", ALL, "", id="nothing-to-do-there"),
        pytest.param("0.3.0", Settings(restart=True), "icnd on relay1: restore s1 has the service since", id="to-be-restarted"),
        pytest.param("0.2.0", Settings(hosts=["relay2"]), "", id="not-asked-for"),
    ],
)
def test_f40_a_restore_keeps_a_rollout_from_beginning(version: str, settings: Settings, mistake: str) -> None:
    lab = Lab().runs("relay1", version, restore=RESTORE)
    assert [said[: len(mistake)] for said in lab.mistakes(settings)] == ([mistake] if mistake else [])


def test_f39_ones_own_transactions_are_adopted() -> None:
    lab = Lab().runs("home1", "0.3.0", transaction={"id": "r1", "outcome": None, "phase": "soak", "to": "0.3.0"})
    planned = lab.plan(Settings(adopt="r1"))
    assert planned["mistakes"] == []
    assert planned["adopted"] == [{"service": "icnd", "host": "home1", "id": "r1", "phase": "soak"}]
    assert "home1" not in [row["host"] for row in planned["rows"]]
    assert not planned["batches"][0]["canary"], "it is followed to its end first, and was the canary"


def test_a_release_that_was_rolled_back_here_is_said() -> None:
    last = {"id": "r1", "outcome": "rolled_back", "from": "0.2.0", "to": "0.3.0", "failed": "never ready", "downtime": 2.5}
    [row, *_others] = Lab().runs("home1", "0.2.0", transaction=last).plan()["rows"]
    assert row["note"] == "0.3.0 was rolled back here before (never ready)"
    assert row["expected_downtime"] == 2.5


# Going back


def back(version: str = "", **more: Any) -> Settings:
    return Settings(services=["icnd"], rollback=True, version=version, **more)


def test_a_rollback_goes_to_the_version_that_is_named() -> None:
    planned = done().plan(back("0.2.0"))
    assert [(row["host"], row["kind"], row["from"], row["to"]) for row in planned["rows"]] == [(host, "rollback", "0.3.0", "0.2.0") for host in FOUR]
    assert planned["mistakes"] == []
    assert "fleet_services.icnd.version still says 0.3.0: write 0.2.0 there, or the next rollout goes forward again" in planned["said"]


def test_a_rollback_to_what_ran_before() -> None:
    lab = done()
    for host in FOUR:
        lab.runs(host, "0.3.0", transaction={"id": "r1", "outcome": "committed", "from": "0.2.0", "to": "0.3.0"})
    lab.runs("anchor1", "0.3.0", previous="0.2.0")
    assert [row["to"] for row in lab.plan(back())["rows"]] == ["0.2.0"] * 4


def test_a_host_that_never_changed_does_not_keep_another_from_going_back() -> None:
    lab = done()
    lab.runs("relay2", "0.3.0", previous="0.2.0")
    planned = lab.plan(back(hosts=["relay2"]))
    assert planned["mistakes"] == []
    assert [(row["host"], row["to"]) for row in planned["rows"]] == [("relay2", "0.2.0")]


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        pytest.param(
            back("9.9"),
            "icnd on anchor1: release 9.9 is not installed there (installed: 0.2.0, 0.3.0)\n  → choose one of these",
            id="unknown-version",
        ),
        pytest.param(
            back(),
            "icnd on anchor1: nobody knows what ran before 0.3.0\n  → write -e rollout_version=…; installed there: 0.2.0, 0.3.0",
            id="no-earlier-one",
        ),
        pytest.param(Settings(rollback=True, version="0.2.0"), "rollout_service: missing: which service is to go back?", id="no-service"),
        pytest.param(
            Settings(services=["icn"]), "rollout_service: no host runs a service called 'icn'\n  → did you mean 'icnd'?", id="unknown-service"
        ),
        pytest.param(Settings(hosts=["relay7"]), "rollout_hosts: no inventory host is called 'relay7'\n  → did you mean 'relay", id="unknown-host"),
        pytest.param(Settings(promote=["nobody"]), "rollout_promote: no host runs a service called 'nobody'", id="promote-unknown"),
    ],
)
def test_extra_variables_that_cannot_be(settings: Settings, mistake: str) -> None:
    mistakes = done().mistakes(settings)
    assert mistakes
    assert mistakes[0].startswith(mistake)


# One rollout, or another


def test_the_digest_is_that_of_what_is_wanted_not_of_how_hosts_are() -> None:
    whole = Lab().plan()["sha256"]
    assert done("home1", "relay1").plan()["sha256"] == whole
    assert Lab().off("home1").plan()["sha256"] == whole
    assert Lab().runs("relay2", "0.2.0", ready=False).plan()["sha256"] == whole


def _limited(lab: Lab) -> Settings:
    del lab.looks["relay2"]
    return ALL


def _new_version(lab: Lab) -> Settings:
    lab.specs["relay2"]["rollout"][0]["version"] = "0.4.0"
    return ALL


def _new_config(lab: Lab) -> Settings:
    lab.specs["relay2"]["rollout"][0]["files"][0]["sha256"] = "f" * 64
    return ALL


def _new_artifact(lab: Lab) -> Settings:
    lab.specs["relay2"]["release"][0]["artifacts"]["amd64"]["sha256"] = "f" * 64
    return ALL


def _other_hosts(lab: Lab) -> Settings:
    return Settings(hosts=["relay1"])


@pytest.mark.parametrize("change", [_limited, _new_version, _new_config, _new_artifact, _other_hosts])
def test_f43_another_limit_or_inventory_is_another_rollout(change: Any) -> None:
    lab = Lab()
    whole = lab.plan()["sha256"]
    settings = change(lab)
    assert lab.plan(settings)["sha256"] != whole


# Orders


def test_an_order_has_all_that_the_host_needs() -> None:
    drain = {"request": "http://127.0.0.1:9100/drain", "deadline": "30s", "force": True}
    rollout = {"soak": "10s", "canary_soak": "60s", "on_inconclusive": "pass"}
    backup = {"databases": [{"path": "/var/lib/icnd/a.db"}], "command": ["icnctl", "backup", "{output}"]}
    lab = Lab(drain=drain, rollout=rollout, backup=backup, binaries=["icnd", "icnctl"], version_pattern="icnd (.*)")
    planned = lab.plan()
    orders = [rollout_plan.order(planned, batch, batch["hosts"][0], lab.specs["home1"]["rollout"][0], RUN) for batch in planned["batches"]]
    assert [order["soak"]["duration"] for order in orders] == [60, 10, 10, 10]
    order = orders[0]
    assert transaction.complete(order) == order
    assert order["files"] == [
        {"path": "/etc/icn/config.toml", "owner": "root", "group": "icnd", "mode": "0640", "sha256": fleets.DIGEST, "new": "0"},
        {"path": "/etc/systemd/system/icnd.service", "owner": "root", "group": "root", "mode": "0644", "sha256": fleets.DIGEST, "new": "1"},
    ]
    expected = {
        "id": RUN["id"], "service": "icnd", "unit": "icnd.service", "kind": "upgrade", "from": "0.2.0", "to": "0.3.0", "home": "/opt/icnd",
        "user": "icnd", "group": "icnd", "running": ["/etc/icn/config.toml", "/etc/systemd/system/icnd.service"],
        "databases": [{"path": "/var/lib/icnd/a.db", "engine": "sqlite", "tables": []}], "version": {"pattern": "icnd (.*)"},
        "on_inconclusive": "pass", "rollout": {"owner": "ops@laptop", "plan": planned["sha256"], "playbook": "rolling_upgrade"},
    }  # fmt: skip
    assert {key: order[key] for key in expected} == expected
    assert (order["drain"]["force"], order["drain"]["deadline"], order["backup"]["command"]) == (True, 30, ["icnctl", "backup", "{output}"])


@pytest.mark.parametrize("action", ["restart", "reload"])
def test_only_an_upgrade_brings_files(action: str) -> None:
    lab = done().pending("relay1", action)
    planned = lab.plan()
    order = rollout_plan.order(planned, planned["batches"][0], "relay1", lab.specs["relay1"]["rollout"][0], RUN)
    assert (order["kind"], order["from"], order["to"], order["files"]) == (action, "0.3.0", "0.3.0", [])


# What people see


def test_the_table() -> None:
    lab = Lab({"home1": "tier2", "relay1": "tier1"}, health={"ready": "http://127.0.0.1:1/", "deadline": "30s"}, unit={"stop_timeout": "10s"})
    lab.runs("home1", "0.2.0", backup_age=7380, transaction={"id": "r1", "outcome": "committed", "to": "0.2.0", "downtime": 0.61})
    assert rollout_plan_text.render(lab.plan()).splitlines() == [
        "BATCH       SERVICE  HOST    TIER   CHANGE                 SCHEMA RISK  LAST BACKUP  STOP TO READY                 NOTE",
        "1/2 canary  icnd     home1   tier2  upgrade 0.2.0 → 0.3.0  none         2h3m ago     0.6 s last time, at most 40s  -",
        "2/2         icnd     relay1  tier1  upgrade 0.2.0 → 0.3.0  none         none         at most 40s                   -",
        "",
        "icnd: 2 of 2 hosts ready, 1 must stay so (by default); 1 at a time",
        "",
        "2 batches, about 1m7s with soaks, beside draining and copying.",
    ]


def test_the_table_of_nothing() -> None:
    assert rollout_plan_text.render(done().plan()) == "Nothing to do.\n\nicnd is already at 0.3.0 on home1, relay1, relay2, anchor1"


def test_the_table_of_what_was_interrupted() -> None:
    planned = {**done().plan(), "adopted": [{"service": "icnd", "host": "home1", "id": "r1", "phase": "soak"}], "said": []}
    said = "First the interrupted rollout r1 of icnd on home1 is followed to its end; it is in phase soak."
    assert rollout_plan_text.render(planned) == said


def test_a_refusal_names_everything_at_once() -> None:
    lab = Lab().off("relay1").runs("relay2", "0.4.0")
    said = rollout_plan_text.refusal(lab.plan())
    assert said.startswith("The rollout cannot begin; no service was stopped:\nfleet_services.icnd.version: 0.3.0 is older")
    assert "\nicnd on relay1: the host cannot be reached: ssh" in said
    assert "min_available" not in said, "that follows from the host that is missing"


# Whatever the fleet is like


def random_lab(seed: int) -> tuple[Lab, Settings]:
    dice = random.Random(seed)
    hosts = {f"{tier or 'host'}-{number}": tier for tier in ("tier2", "tier1", "tier0", "") for number in range(dice.randint(0, 4))}
    lab = Lab(hosts or {"relay1": "tier1"}, services=("icnd", "gatewayd") if dice.random() < 0.3 else ("icnd",))
    if len(next(iter(lab.specs.values()))["rollout"]) > 1 and dice.random() < 0.5:
        lab.requires("gatewayd", "icnd")
    lab.set(
        canary=dice.randint(0, 3),
        batch=dice.choice([1, 2, 3, "10%", "50%", "100%"]),
        min_available=dice.choice([None, None, 0, 1, 2, "30%", "60%"]),
        partition=dice.choice([None, None, 0, 2]),
        promote=dice.choice(["auto", "auto", "manual"]),
    )
    for host in lab.specs:
        if "gatewayd" in lab.looks[host]["plan"]["services"] and dice.random() < 0.2:
            lab.runs(host, "0.3.0", service="gatewayd", ready=False)
        if dice.random() < 0.2:
            lab.runs(host, "0.2.0", ready=False, state=dice.choice(["active", "failed"]))
        elif dice.random() < 0.2:
            lab.runs(host, "0.3.0")
        elif dice.random() < 0.1:
            lab.off(host)
    return lab, Settings(hosts=dice.sample(sorted(lab.specs), k=max(1, len(lab.specs) // 2)) if dice.random() < 0.2 else ())


@pytest.mark.parametrize("seed", range(400))
def test_whatever_the_fleet_is_like(seed: int) -> None:
    lab, settings = random_lab(seed)
    planned = lab.plan(settings)
    assert planned == lab.plan(settings), "a plan depends on nothing else"
    services = {one["service"] for spec in lab.specs.values() for one in spec["rollout"]}
    all_ready = {
        service: {host for host, look in lab.looks.items() if "plan" in look and look["plan"]["services"][service]["ready"]} for service in services
    }
    for service, numbers in planned["arithmetic"].items():
        ready = {name: set(hosts) for name, hosts in all_ready.items()}
        assert numbers["ready"] == len(ready[service])
        batches = [batch for batch in planned["batches"] if batch["service"] == service]
        turns = [host for batch in batches for host in batch["hosts"]]
        assert len(turns) == len(set(turns)), "each host once"
        levels = [lab.specs[host]["host"]["order"] for host in turns]
        assert levels == sorted(levels, reverse=True), "tiers from the edge inwards"
        for batch in batches:
            for name, one in rollout_batches.concerned(planned, batch).items():
                taken = ready[name] & set(batch["hosts"])
                assert not taken or len(ready[name] - taken) >= one["min_available"]
            assert rollout_batches.gate(planned, batch, ready) == "", "what is planned passes its gate when nothing changes"
            if not batch["canary"]:
                assert len({lab.specs[host]["host"]["tier"] for host in batch["hosts"]}) == 1
            ready[service] |= set(batch["hosts"])
        if not planned["mistakes"]:
            left_out = {one["host"] for sort in ("held", "skipped") for one in planned[sort] if one["service"] == service}
            old = {host for host, look in lab.looks.items() if "plan" in look and look["plan"]["services"][service]["release"] == "0.2.0"}
            assert set(turns) == old - left_out, "nobody is forgotten"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param({"services": "relay"}, {"services": ["relay"]}, id="one-service"),
        pytest.param({"hosts": "relay1,relay2"}, {"hosts": ["relay1", "relay2"]}, id="hosts"),
        pytest.param({"services": ["relay"]}, {"services": ["relay"]}, id="a-list-already"),
        pytest.param({"restart": "false"}, {"restart": False}, id="no-restart"),
        pytest.param({"restart": "yes"}, {"restart": True}, id="restart"),
        pytest.param({"version": 1.5}, {"version": "1.5"}, id="a-version-that-looks-like-a-number"),
        pytest.param({}, {"services": [], "pending_only": False, "replan": ""}, id="nothing"),
    ],
)
def test_what_the_command_line_gives_is_text(given: dict[str, Any], found: dict[str, Any]) -> None:
    assert asked(given) == {**asked({}), **found}


def test_what_is_no_truth_value_is_refused() -> None:
    with pytest.raises(AnsibleError, match="restart"):
        asked({"restart": "perhaps"})


@pytest.mark.parametrize(
    ("file", "validate"),
    [
        pytest.param({"validate": ["relay", "--check", "{path}"]}, ["/opt/relay/releases/1.1.0/bin/relay", "--check", "{path}"], id="by-its-name"),
        pytest.param({"validate": ["/usr/local/bin/relay", "-t"]}, ["/opt/relay/releases/1.1.0/bin/relay", "-t"], id="by-its-link"),
        pytest.param({"validate": ["/usr/bin/xmllint", "{path}"]}, ["/usr/bin/xmllint", "{path}"], id="by-another-program"),
        pytest.param({"validate": []}, [], id="by-nobody"),
        pytest.param({"secret_content": "TOKEN=x"}, [], id="secrets"),
    ],
)
def test_a_new_config_is_checked_by_the_new_release(file: dict[str, Any], validate: list[str]) -> None:
    order = {"home": "/opt/relay", "to": "1.1.0"}
    assert [one["validate"] for one in candidates([file], order, ["relay"])] == [validate]
