# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's one look leaves out, and what the plan makes of that."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import plan, ufw_rules

NOTHING: dict[str, Any] = {
    "account": {"groups": [], "users": [], "paths": []},
    "release": [],
    "config": {"paths": [], "bootstrap": []},
    "unit": {"units": [], "paths": []},
    "firewall": {"managed": False},
    "backup": {"packages": {}, "paths": [], "units": [], "timers": []},
    "drill": {"packages": {}, "releases": [], "paths": [], "units": [], "timers": []},
    "preflight": {"disk": [], "ports": [], "dns": [], "on_finding": {"disk_full": "ignore", "read_only": "ignore"}},
    "rollout": [],
}


def test_a_firewall_that_is_not_managed_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ufw_rules, "look", None)
    monkeypatch.setattr(ufw_rules, "diff", None)
    planned = plan.plan(NOTHING, plan.look(NOTHING, controller_time=None, resolved=None), every=True)
    assert planned["firewall"] == []


def release(service: str, **artifacts: Any) -> dict[str, Any]:
    return {"service": service, "version": "1.0", "root": f"/opt/{service}", "artifacts": artifacts, "binaries": {}, "keep": 3, "unit": ""}


@pytest.mark.parametrize(
    ("arch", "found", "wanted"),
    [
        pytest.param("armhf", "no digest for armhf, which this host needs (found: amd64, arm64)", "a digest for armhf", id="another-architecture"),
        pytest.param("", "the host has no dpkg, so its architecture is unknown", "dpkg", id="no-dpkg"),
    ],
)
def test_a_release_without_a_digest_for_the_host_is_a_finding_that_hides_no_other(arch: str, found: str, wanted: str) -> None:
    described = {**NOTHING, "release": [release("icnd", amd64={"sha256": "a"}, arm64={"sha256": "b"}), release("any", any={"sha256": "c"})]}
    observed = plan.look(described, controller_time=None, resolved=None)
    observed["release"]["arch"] = arch
    planned = plan.plan(described, observed)
    digests = [one for one in planned["preflight"] if one["check"] == "digest" and "icnd" in one["path"]]
    assert [(one["level"], one["found"], one["wanted"], one["path"]) for one in digests] == [
        ("fail", found, wanted, "fleet_services.icnd.artifact.sha256")
    ]
    assert {one["service"] for one in planned["release"]} == ({"any"} if arch else set())


TAKEN = {"id": "r1", "rollout": {"owner": "ada"}, "started": 0, "phase": "soak", "said": "watched", "next": "", "resolved": False}
HAD = "transaction r1 of ada has the service since 1970-01-01 00:00:00 UTC (in phase soak: watched) → wait for it: hearthctl status icnd"


@pytest.mark.parametrize(
    ("outcome", "installed", "waits"),
    [
        pytest.param(None, "", [HAD], id="under-way"),
        pytest.param("needs_operator", "", [HAD.replace("in phase soak", "needs_operator")], id="waits-for-a-person"),
        pytest.param(None, "1.0", [], id="as-it-should-be"),
        pytest.param("committed", "", None, id="done"),
    ],
)
def test_f40_what_a_rollout_has_of_a_service_waits_for_it(outcome: str | None, installed: str, waits: list[str] | None) -> None:
    described = {
        **NOTHING,
        "release": [release("icnd", any={"sha256": "c"}), release("other", any={"sha256": "d"})],
        "rollout": [{"service": "icnd", "unit": "icnd.service", "reloadable": []}],
    }
    observed = plan.look(described, controller_time=None, resolved=None)
    observed["release"]["services"]["icnd"].update(current=installed, installed={installed: {"sha256": "c", "installed": 0}} if installed else {})
    observed["unit"]["units"]["icnd.service"] = {"active": "active", "since": 0, "restarts": 0}
    observed["rollout"]["transactions"] = {"icnd": {**TAKEN, "outcome": outcome}}
    planned = plan.plan(described, observed)
    assert {one["service"] for one in planned["release"]} == ({"other", "icnd"} if waits is None else {"other"})
    assert [one["reason"] for one in planned["waits"]] == (waits or [])
    assert planned["taken"] == planned["held"] == ([] if waits is None else ["icnd"])
    assert [one["item"] for one in planned["waits"]] == ["icnd"] * len(waits or [])
