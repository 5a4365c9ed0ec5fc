# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's one look leaves out, and what the plan makes of that."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import host_tools, plan, ufw_rules

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


def test_the_collection_s_own_sources_are_one_line_of_the_plan() -> None:
    home = host_tools.SOURCES_HOME
    of_units = [
        {"item": "/usr/local/lib/hearth/stamp", "reason": "does not exist"},
        *({"item": f"{home}/{name}", "reason": "does not exist"} for name in ("a.py", "b.py", "c.py")),
        {"item": f"{home}/d.py", "reason": "content differs"},
    ]
    planned = {**{key: [] for key in (*plan.AREAS, "rollout", "follows", "staged")}, "unit": of_units}
    assert plan.lines(planned) == [
        "unit: /usr/local/lib/hearth/stamp: does not exist",
        f"unit: {home}: 3 files of this collection's own: does not exist",
        f"unit: {home}/d.py: content differs",
    ]
