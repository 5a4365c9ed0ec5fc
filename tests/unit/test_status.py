"""The table of what runs where."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import status
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import since_text

NOW = 1795250401.0  # Sat 2026-11-21 08:40:01 UTC
SPECS = {name: {"host": {"tier": tier}} for name, tier in (("relay1", "tier1"), ("home1", "tier2"), ("ops1", ""))}


def look(**plan: Any) -> dict[str, Any]:
    areas = {area: [] for area in ("account", "release", "config", "unit", "firewall", "backup", "drill")}
    service = {"release": "1.0.1", "installed": ["1.0.1"], "state": "active", "since": "Sat 2026-11-21 08:30:00 UTC", "restarts": 0, "ready": True}
    return {"plan": {**areas, "staged": [], "waits": [], "rollout": [], "services": {"icnd": service}, **plan}, "facts": {"clock": {"time": NOW}}}


def test_a_service_that_runs() -> None:
    assert status.rows(SPECS, {"relay1": look()}) == [
        {
            "host": "relay1",
            "tier": "tier1",
            "service": "icnd",
            "release": "1.0.1",
            "ready": True,
            "since_seconds": 601,
            "state": "active",
            "pending": [],
        }
    ]


def test_what_waits_is_said_shortly() -> None:
    seen = look(
        rollout=[{"service": "icnd", "action": "restart", "item": "icnd.service", "reason": reason} for reason in ("one", "two")],
        staged=[{"service": "icnd", "item": "icnd 1.1.0", "reason": "staged", "action": "stage"}],
        waits=[{"service": "icnd", "item": "icnd", "reason": "transaction r1 of ada has the service", "action": "wait"}],
        config=[{"service": "icnd", "item": "/etc/icn", "reason": "mode"}],
        firewall=[{"service": "", "item": "ufw", "reason": "is inactive"}],
    )
    rows = status.rows(SPECS, {"relay1": seen})
    assert [(row["service"], row["pending"]) for row in rows] == [
        ("icnd", ["restart", "staged: 1.1.0", "transaction r1 of ada has the service", "differs: config (1)"]),
        (None, ["differs: firewall (1)"]),
    ]


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        pytest.param({"away": True, "msg": "ssh: no route"}, "unreachable", id="unreachable"),
        pytest.param({"msg": "no python"}, "not seen: no python", id="module-failed"),
        pytest.param({}, "not seen: no answer", id="nothing"),
        pytest.param(look(services={}), "reachable", id="without-services"),
    ],
)
def test_f47_a_host_without_an_answer_stands_in_the_table(seen: dict[str, Any], state: str) -> None:
    rows = status.rows(SPECS, {"home1": seen})
    assert [(row["host"], row["service"], row["state"]) for row in rows] == [("home1", None, state)]


def test_the_time_of_a_stopped_service_is_not_told() -> None:
    seen = look()
    seen["plan"]["services"]["icnd"]["state"] = "failed"
    assert status.rows(SPECS, {"relay1": seen})[0]["since_seconds"] is None


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        pytest.param("Sat 2026-11-21 08:40:00 UTC", 1, id="utc"),
        pytest.param("Sat 2026-11-21 08:41:00 UTC", 0, id="the-clock-was-set-back"),
        pytest.param("Sat 2026-11-21 09:40:00 CET", None, id="another-time-zone"),
        pytest.param("", None, id="never"),
        pytest.param("Sat yesterday noon UTC", None, id="no-time"),
    ],
)
def test_since(timestamp: str, seconds: int | None) -> None:
    assert status.since_seconds(timestamp, NOW) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(0, "0s", id="now"),
        pytest.param(59, "59s", id="seconds"),
        pytest.param(725, "12m5s", id="minutes"),
        pytest.param(3600, "1h", id="an-hour"),
        pytest.param(3 * 86400 + 4 * 3600 + 59 * 60, "3d4h", id="days"),
        pytest.param(None, "", id="unknown"),
    ],
)
def test_since_in_words(seconds: int | None, text: str) -> None:
    assert since_text(seconds) == text


def test_the_table() -> None:
    rows = status.rows(SPECS, {"relay1": look(), "home1": {"away": True}})
    assert status.render(rows).splitlines() == [
        "HOST    TIER   SERVICE  RELEASE  READY  SINCE  STATE        PENDING",
        "relay1  tier1  icnd     1.0.1    yes    10m1s  active       -",
        "home1   tier2  -        -        -      -      unreachable  -",
    ]
