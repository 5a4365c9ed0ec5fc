# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service description says about its rollout: defaults, mistakes with their paths, and what the host's slice carries."""

from __future__ import annotations

from typing import Any

import fleets
import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import slices
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import part_of

ERRORS = {"name": "errors", "url": "http://monitoring.example.org:9090", "query": "sum(rate(errors[1m]))", "pass": "< 0.01"}


def spec(host: str = "relay1", **parts: Any) -> dict[str, Any]:
    joined, mistakes = fleets.join(fleets.fleet(**parts))
    assert mistakes == []
    return joined[host]["services"]["icnd"]


def said(path: str = "", value: Any = None, **parts: Any) -> list[str]:
    services = {"services": {"icnd": fleets.changed(path, value)}} if path else {}
    return [str(mistake) for mistake in fleets.join(fleets.fleet(**services, **parts))[1]]


def test_the_defaults_are_careful() -> None:
    icnd = spec()
    assert icnd["rollout"] == {
        "canary": 1,
        "batch": 1,
        "soak": 30,
        "canary_soak": 30,
        "promote": "auto",
        "partition": None,
        "allow_downgrade": False,
        "analysis": [],
        "on_inconclusive": "pause",
    }
    assert icnd["min_available"] is None
    assert spec(services={"icnd": fleets.changed("drain", {"request": {"signal": "SIGTERM"}})})["drain"]["force"] is False


@pytest.mark.parametrize(
    ("path", "value", "finished"),
    [
        pytest.param("rollout.batch", 2, 2, id="number"),
        pytest.param("rollout.batch", "2", 2, id="number-out-of-a-template"),
        pytest.param("rollout.batch", "25 %", "25%", id="percentage"),
        pytest.param("min_available", 0, 0, id="nobody-must-stay"),
        pytest.param("min_available", "50%", "50%", id="half-must-stay"),
        pytest.param("rollout.soak", "5m", 300, id="duration"),
        pytest.param("rollout.partition", 0, 0, id="hold-everybody"),
    ],
)
def test_values_are_read(path: str, value: Any, finished: Any) -> None:
    found: Any = spec(services={"icnd": fleets.changed(path, value)})
    for key in path.split("."):
        found = found[key]
    assert found == finished


def test_the_canary_is_watched_as_long_as_the_others_unless_it_says_otherwise() -> None:
    assert spec(services={"icnd": fleets.changed("rollout.soak", "2m")})["rollout"]["canary_soak"] == 120
    assert spec(services={"icnd": fleets.changed("rollout", {"soak": "2m", "canary_soak": "10m"})})["rollout"]["canary_soak"] == 600


@pytest.mark.parametrize(("condition", "finished"), [("<0.01", "< 0.01"), (" >= 1e-3 ", ">= 1e-3"), ("== -2", "== -2")])
def test_conditions_are_read(condition: str, finished: str) -> None:
    [analysis] = spec(services={"icnd": fleets.changed("rollout.analysis", [{**ERRORS, "pass": condition}])})["rollout"]["analysis"]
    assert (analysis["pass"], analysis["fail"], analysis["count"], analysis["failure_limit"]) == (finished, None, 3, 0)


BATCH = "fleet_services.icnd.rollout.batch"
AVAILABLE = "fleet_services.icnd.min_available"
ANALYSIS = "fleet_services.icnd.rollout.analysis[0]"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        pytest.param(
            "rollout.batch", 0, f"{BATCH}: 0 hosts in a batch would upgrade nobody\n  → write a number from 1, or a percentage", id="batch-0"
        ),
        pytest.param("rollout.batch", "0%", f"{BATCH}: 0% hosts in a batch would upgrade nobody", id="batch-0-percent"),
        pytest.param("rollout.batch", "101%", f"{BATCH}: 101% is out of range\n  → percentages go from 1% to 100%", id="batch-too-much"),
        pytest.param(
            "rollout.batch", "half", f"{BATCH}: 'half' (a text) is not a number or a percentage\n  → write it like 2 or '25%'", id="batch-word"
        ),
        pytest.param("rollout.batch", 0.5, f"{BATCH}: 0.5 (a number) is not a number or a percentage", id="batch-fraction"),
        pytest.param("rollout.batch", True, f"{BATCH}: True (a truth value) is not a number or a percentage", id="batch-truth"),
        pytest.param(
            "rollout.batch",
            {"tier1": 2, "default": 1},
            f"{BATCH}: one number or percentage stands here\n  → what is different for a tier goes into fleet_overrides",
            id="batch-by-tier",
        ),
        pytest.param(
            "min_available", 3, f"{AVAILABLE}: 3 hosts can never be ready: the service is placed on 2 hosts\n  → write a number up to 1", id="never"
        ),
        pytest.param("min_available", 2, f"{AVAILABLE}: 2 of 2 hosts leaves none that may be restarted\n  → write a number up to 1", id="all"),
        pytest.param("min_available", "51%", f"{AVAILABLE}: 51% of 2 hosts leaves none that may be restarted", id="all-by-percentage"),
        pytest.param("min_available", -1, f"{AVAILABLE}: -1 (a number) is not a number or a percentage", id="negative"),
        pytest.param(
            "rollout.canary", 3, "fleet_services.icnd.rollout.canary: 3 is more than the 2 hosts that the service is placed on", id="canary"
        ),
        pytest.param("rollout.partition", 3, "fleet_services.icnd.rollout.partition: 3 is more than the 2 hosts", id="partition"),
        pytest.param("rollout.soak", "soon", "fleet_services.icnd.rollout.soak: 'soon' is not a duration\n  → write it like 90s", id="soak"),
        pytest.param("rollout.promote", "yes", "fleet_services.icnd.rollout.promote: 'yes' is not one of auto, manual", id="promote"),
        pytest.param(
            "rollout",
            {"promote": "manual", "canary": 0},
            "fleet_services.icnd.rollout.promote: there is no canary to promote\n  → set rollout.canary to 1 or more",
            id="nobody-to-promote",
        ),
        pytest.param("rollout.sok", "30s", "fleet_services.icnd.rollout.sok: unknown key\n  → did you mean 'soak'?", id="unknown-key"),
        pytest.param(
            "rollout.analysis",
            [{**ERRORS, "pass": "less"}],
            f"{ANALYSIS}.pass: 'less' (a text) is not a condition\n  → write a comparison with a number, in quotes, such as '< 0.01'",
            id="condition",
        ),
        pytest.param("rollout.analysis", [{**ERRORS, "pass": 0.01}], f"{ANALYSIS}.pass: 0.01 (a number) is not a condition", id="condition-number"),
        pytest.param(
            "rollout.analysis", [{**ERRORS, "url": "monitoring:9090"}], f"{ANALYSIS}.url: 'monitoring:9090' is not a URL", id="analysis-url"
        ),
        pytest.param("rollout.analysis", [{**ERRORS, "failure_limit": 3}], f"{ANALYSIS}.failure_limit: all measurements may be bad", id="toothless"),
        pytest.param(
            "rollout.analysis",
            [{**ERRORS, "headers": {"Authorization": "Bearer {secret:NOBODY}"}}],
            f"{ANALYSIS}.headers.Authorization: there is no secret 'NOBODY'",
            id="unknown-secret",
        ),
    ],
)
def test_mistakes_are_said_with_their_path(path: str, value: Any, message: str) -> None:
    errors = said(path, value)
    assert len(errors) == 1, errors
    assert errors[0].startswith(message)


def test_a_single_host_has_nobody_to_stay() -> None:
    errors = said("min_available", 1, placement={"relay1": ["icnd"]})
    assert errors == [f"{AVAILABLE}: 1 of 1 host leaves none that may be restarted\n  → write a number up to 0, or place the service on more hosts"]


def test_an_impossible_number_is_said_where_it_is_written() -> None:
    errors = said(overrides={"icn": {"icnd": {"min_available": 5}}})
    assert [error.partition(":")[0] for error in errors] == ["fleet_overrides.icn.icnd.min_available"]


@pytest.mark.parametrize(
    ("described", "message"),
    [
        pytest.param({"min_available": 1}, "min_available: is 1 on relay1 and not set on home1, but it counts", id="min_available"),
        pytest.param({"rollout": {"canary": 0}}, "rollout.canary: is 0 on relay1 and 1 on home1, but it counts", id="canary"),
        pytest.param({"rollout": {"promote": "manual"}}, "rollout.promote: is manual on relay1 and auto on home1", id="promote"),
        pytest.param({"rollout": {"partition": 1}}, "rollout.partition: is 1 on relay1 and not set on home1", id="partition"),
    ],
)
def test_what_counts_for_all_hosts_cannot_differ(described: dict[str, Any], message: str) -> None:
    [error] = said(overrides={"tier1": {"icnd": described}})
    assert error.startswith(f"fleet_overrides.tier1.icnd.{message}")
    assert error.endswith("write it once, under fleet_services; fleet_overrides are for what may differ")


def test_a_batch_may_differ_between_tiers_but_not_within_one() -> None:
    other = {"relay1": {"icnd": {"rollout": {"batch": 2}}}}
    assert said(overrides=other) == []
    [error] = said(overrides=other, tiers={"icn": {}})
    assert error.startswith("fleet_overrides.relay1.icnd.rollout.batch: is ")
    assert error.endswith("which are of one tier and go through the same batches\n  → write it once for the tier, under fleet_overrides.icn.icnd")


@pytest.mark.parametrize(
    ("part", "up", "count"),
    [
        pytest.param(2, True, 2, id="a-number"),
        pytest.param("25%", False, 2, id="down"),
        pytest.param("25%", True, 3, id="up"),
        pytest.param("100%", False, 10, id="all"),
        pytest.param("50%", True, 5, id="without-rest"),
    ],
)
def test_a_part_of_ten(part: Any, up: bool, count: int) -> None:
    assert part_of(10, part, up=up) == count


# The slice


def icnd_slice(**described: Any) -> dict[str, Any]:
    """Return the rollout slice of icnd on relay1, made as the join makes it."""
    mistakes: list[Any] = []
    one = spec(services={"icnd": {**fleets.ICND, **described}})
    files = slices.config_paths(one, slices.Sources(str, str, str), mistakes)
    [unit] = slices.unit_slice({"icnd": one}, {"icnd": files}, {"unit_exposure_max": 1.5}, mistakes)["units"]
    assert mistakes == []
    return slices.rollout(one, files, unit, {one["name"]: one})


@pytest.mark.parametrize(
    ("required", "along"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"gateway": ["icnd.service"]}, ["gateway"], id="what-requires-it"),
        pytest.param({"gateway": ["icnd.service"], "board": ["gateway.service"]}, ["board", "gateway"], id="and-what-requires-that"),
        pytest.param({"icnd": ["gateway.service"]}, [], id="not-what-it-requires"),
        pytest.param({"gateway": ["icnd.service", "board.service"], "board": ["gateway.service"]}, ["board", "gateway"], id="a-circle"),
    ],
)
def test_what_stops_along_with_a_service(required: dict[str, list[str]], along: list[str]) -> None:
    services = {name: {"unit": {"name": f"{name}.service", "requires": required.get(name, [])}} for name in ("icnd", "gateway", "board")}
    assert slices.stopping_along("icnd", services) == along


def test_the_slice_names_all_files_with_their_digests_and_none_of_their_contents() -> None:
    found = icnd_slice(secrets={"TOKEN": "hunter2", "ADMIN": {"value": "hunter3", "as": "request"}})
    assert [file["path"] for file in found["files"]] == [
        "/etc/icn/config.toml",
        "/etc/icnd/icnd.env",
        "/etc/icnd/credentials/ADMIN",
        "/etc/systemd/system/icnd.service",
    ]
    assert {tuple(file) for file in found["files"]} == {("path", "owner", "group", "mode", "sha256")}
    assert found["running"] == ["/etc/icn/config.toml", "/etc/icnd/icnd.env", "/etc/systemd/system/icnd.service"]
    assert "hunter" not in str(found)


def test_an_analysis_says_where_its_secrets_are() -> None:
    headers = {"Authorization": "Bearer {secret:PROMETHEUS}"}
    found = icnd_slice(secrets={"PROMETHEUS": {"value": "hunter2", "as": "request"}}, rollout={"analysis": [{**ERRORS, "headers": headers}]})
    assert found["analysis"][0]["headers"] == headers
    assert found["analysis"][0]["secret_files"] == {"PROMETHEUS": {"path": "/etc/icnd/credentials/PROMETHEUS", "as": "request"}}


def test_a_host_that_looks_at_itself_gets_no_more_than_it_needs() -> None:
    bare = slices.without_content(
        {
            "account": {"paths": []},
            "release": [],
            "config": {"paths": []},
            "unit": {"units": [], "paths": []},
            "firewall": {},
            "backup": {"packages": {}, "paths": [], "units": [], "timers": [], "jobs": [], "sets": [], "check": None},
            "drill": {"packages": {}, "releases": [], "paths": [], "units": [], "timers": []},
            "preflight": {},
            "rollout": [icnd_slice()],
        }
    )
    assert [sorted(one) for one in bare["rollout"]] == [["health", "reload", "reloadable", "service", "unit"]]
