# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout at a time: who may take a lock, and what everybody else is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import rollout_lock

NOW = 1795262400.0  # 2026-11-21 12:00:00 UTC
WANTED = {"icnd": [["home1", "0.3.0", "aa"], ["relay1", "0.3.0", "aa"]]}


def lock(**changes: Any) -> dict[str, Any]:
    return {
        "id": "20261121T115000Z-ab12cd",
        "owner": "ops@laptop",
        "pid": 4711,
        "boot": "b1",
        "plan": "f" * 64,
        "wanted": WANTED,
        "playbook": "rolling_upgrade",
        "taken": NOW - 600,
        "beat": NOW - 5,
        **changes,
    }


MINE = lock(id="20261121T120000Z-ef34ab", pid=4800, taken=NOW, beat=NOW)


@pytest.mark.parametrize(
    ("found", "alive", "verdict"),
    [
        pytest.param(None, [], "free", id="free"),
        pytest.param(MINE, [], "mine", id="mine"),
        pytest.param(lock(), [4711], "taken", id="f40-the-same-person-in-another-terminal"),
        pytest.param(lock(), [], "dead_mine", id="f39-mine-and-its-process-is-gone"),
        pytest.param(lock(beat=NOW - 86400), [], "dead_mine", id="f39-mine-and-long-gone"),
        pytest.param(lock(boot="b0"), [], "taken", id="f40-my-machine-was-started-anew"),
        pytest.param(lock(owner="eve@laptop"), [], "taken", id="f40-another-person"),
        pytest.param(lock(owner="ops@desk", boot="b2"), [4711], "taken", id="f40-another-machine"),
        pytest.param(lock(owner="ops@desk", boot="b2", beat=NOW - 600), [], "taken", id="f41-not-stale-yet"),
        pytest.param(lock(owner="ops@desk", boot="b2", beat=NOW - 601), [], "stale", id="f41-stale"),
        pytest.param(lock(beat=NOW - 601), [4711], "stale", id="f41-mine-hangs"),
        pytest.param(lock(owner="ops@desk", beat=NOW + 3600), [], "taken", id="f41-the-clock-was-set-back"),
        pytest.param(rollout_lock.read("{"), [], "stale", id="f41-unreadable"),
    ],
)
def test_f40_f41_whose_lock_it_is(found: Any, alive: list[int], verdict: str) -> None:
    assert rollout_lock.judge(found, MINE, NOW, alive) == verdict


@pytest.mark.parametrize(
    ("verdict", "break_lock", "may"),
    [
        pytest.param("taken", "", False, id="taken"),
        pytest.param("stale", "", False, id="stale-is-not-broken-by-itself"),
        pytest.param("stale", "20261121T115000Z-ab12cd", True, id="broken-by-its-id"),
        pytest.param("taken", "20261121T115000Z-ab12cd", True, id="broken-by-its-id-while-it-lives"),
        pytest.param("stale", "20261121T115000Z-000000", False, id="another-id"),
        pytest.param("stale", "true", False, id="no-id"),
        pytest.param("dead_mine", "", True, id="dead-mine"),
        pytest.param("mine", "", True, id="mine"),
    ],
)
def test_f41_a_lock_is_broken_only_by_its_very_id(verdict: str, break_lock: str, may: bool) -> None:
    assert rollout_lock.may_take(verdict, lock(), break_lock) is may


def test_f40_the_other_one_is_told_who_what_and_since_when() -> None:
    found = lock(owner="eve@desk")
    assert rollout_lock.refusal({"relay1": found, "home1": found}, {"relay1": NOW, "home1": NOW}).splitlines() == [
        "on home1, relay1: eve@desk runs rolling_upgrade since 2026-11-21 11:50:00 UTC (10m ago); last sign of life 5s ago; "
        "rollout 20261121T115000Z-ab12cd, plan ffffffffffff, of icnd",
        "  → wait until it has ended, or ask eve@desk. Only if it has gone for certain: -e rollout_break_lock=20261121T115000Z-ab12cd",
    ]


def test_f41_a_stale_lock_says_how_it_is_broken() -> None:
    said = rollout_lock.refusal({"relay1": lock(owner="eve@desk", beat=NOW - 7200)}, {"relay1": NOW})
    assert "last sign of life 2h ago" in said
    assert "  → it seems to have gone; if eve@desk says so too: -e rollout_break_lock=20261121T115000Z-ab12cd" in said


def test_f41_two_locks_are_told_apart() -> None:
    said = rollout_lock.refusal({"relay1": lock(owner="eve@desk"), "home1": rollout_lock.read("nonsense") or {}}, {"relay1": NOW, "home1": NOW})
    assert [line.partition(":")[0] for line in said.splitlines() if line.startswith("on ")] == ["on home1", "on relay1"]
    assert "on home1: the rollout lock cannot be read\n  → when nobody rolls out anything: -e rollout_break_lock=unreadable" in said


def test_f40_every_rollout_locks_in_the_same_order() -> None:
    assert rollout_lock.locking_order(["relay2", "home1", "anchor1"]) == rollout_lock.locking_order(["anchor1", "relay2", "home1"])


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        pytest.param(json.dumps(lock()), "20261121T115000Z-ab12cd", id="a-lock"),
        pytest.param("", "unreadable", id="empty"),
        pytest.param("[]", "unreadable", id="a-list"),
        pytest.param(json.dumps({**lock(), "beat": "now"}), "unreadable", id="wrong-type"),
        pytest.param(json.dumps({"id": "x"}), "unreadable", id="half"),
    ],
)
def test_reading_a_lock(text: str, id_: str) -> None:
    found = rollout_lock.read(text)
    assert found is not None
    assert found["id"] == id_


def test_no_file_is_no_lock() -> None:
    assert rollout_lock.read(None) is None


@pytest.mark.parametrize(
    ("after", "said"),
    [
        pytest.param(WANTED, [], id="the-same"),
        pytest.param({"icnd": [["relay1", "0.3.0", "aa"]]}, ["icnd: hosts removed: home1"], id="limit"),
        pytest.param({"icnd": [*WANTED["icnd"], ["relay2", "0.3.0", "aa"]]}, ["icnd: hosts added: relay2"], id="new-host"),
        pytest.param(
            {"icnd": [["home1", "0.3.1", "bb"], ["relay1", "0.3.1", "bb"]]}, ["icnd: version 0.3.0 became 0.3.1 on home1, relay1"], id="version"
        ),
        pytest.param(
            {"icnd": [["home1", "0.3.0", "aa"], ["relay1", "0.3.0", "cc"]]}, ["icnd: config, unit or artifact changed on relay1"], id="config"
        ),
        pytest.param({"icnd": WANTED["icnd"][::-1]}, ["icnd: the order of its hosts changed"], id="order"),
        pytest.param({**WANTED, "gatewayd": []}, ["gatewayd is part of it now"], id="another-service"),
        pytest.param({}, ["icnd is no longer part of it"], id="no-service"),
    ],
)
def test_f43_what_has_changed_since_the_interruption_is_said(after: Any, said: list[str]) -> None:
    assert rollout_lock.changes(json.loads(json.dumps(WANTED)), after) == said


def test_f43_the_interrupted_rollout_must_be_finished_or_planned_anew() -> None:
    assert rollout_lock.changes(None, WANTED) == ["what the interrupted run was to do is not known"]
    assert rollout_lock.changed_refusal(lock(), ["icnd: hosts removed: home1"]).splitlines() == [
        "the rollout 20261121T115000Z-ab12cd of ops@laptop was interrupted, and this one is not the same:",
        "  - icnd: hosts removed: home1",
        "  → undo that (inventory, --limit) and run it again, to finish it; or plan anew from where the hosts are: "
        "-e rollout_replan=20261121T115000Z-ab12cd",
    ]
