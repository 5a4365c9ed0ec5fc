"""Events of rollouts, as the reports are made of them."""

from __future__ import annotations

from typing import Any

START = 1795262400.0  # 2026-11-21 12:00:00 UTC
ID = "20261121T120000Z-ab12cd"
OLD, NEW = "2.11.4", "2.12.8"
SERVICE = "nats-server"
TIERS = {
    "tier2": [f"home{number}" for number in range(1, 6)],
    "tier1": [f"relay{number}" for number in range(1, 5)],
    "tier0": ["anchor1", "anchor2", "anchor3"],
}
GAP = {"stop": 0.6, "copy": 0.2, "switch": 0.1, "start": 0.3, "ready": 1.0}
FORWARD = {"backup": 1.9, "drain": 9.0, **GAP, "resume": 0.2, "soak": 40.0, "commit": 0.1}
BACK = {"evidence": 0.4, "back_stop": 0.5, "back_switch": 0.1, "back_start": 0.3, "back_ready": 1.1, "back_resume": 0.2}
SAID = {
    "drain": "drained: 0 of 214 connections left",
    "copy": "jetstream meta, 18.2 MiB",
    "ready": "ready 3 times in a row",
    "soak": "12 probes, 0 restarts",
}


def phases(begin: float, seconds: dict[str, float], **said: str) -> list[dict[str, Any]]:
    """Return phases one after the other, as state.json has them."""
    found = []
    for phase, took in seconds.items():
        found.append({"phase": phase, "begin": begin, "end": begin + took, "said": said.get(phase, "")})
        begin += took
    return found


def state(begin: float = START, outcome: str | None = "committed", passed: dict[str, float] | None = None, **more: Any) -> dict[str, Any]:
    """Return a state.json; ``passed`` are its phases and what each took."""
    done = phases(begin, FORWARD if passed is None else passed, **SAID)
    ended = done[-1]["end"] if done and outcome else None
    facts = {"served": True, "restarts": 0, "database": "kept"}
    order = {"id": ID, "service": SERVICE, "kind": "upgrade", "from": OLD, "to": NEW}
    reached = {"phase": done[-1]["phase"] if done else "", "outcome": outcome}
    return {**order, **reached, "said": "", "started": begin, "ended": ended, "downtime": 2.2, "phases": done, "facts": facts, "next": "", **more}


def plan(**more: Any) -> dict[str, Any]:
    """Return the plan of twelve hosts: a canary, then tier by tier."""
    groups = [("tier2", ["home1"]), ("tier2", TIERS["tier2"][1:]), ("tier1", ["relay1", "relay2"]), ("tier1", ["relay3", "relay4"])]
    groups += [("tier0", [host]) for host in TIERS["tier0"]]
    batches = [
        {"service": SERVICE, "number": number, "of": len(groups), "canary": number == 1, "tier": tier, "hosts": hosts}
        for number, (tier, hosts) in enumerate(groups, 1)
    ]
    change = {"service": SERVICE, "from": OLD, "to": NEW, "kind": "upgrade", "expected_seconds": 50}
    rows = [{**change, "host": host} for one in batches for host in one["hosts"]]
    rest = {"skipped": [{"host": "home6", "service": SERVICE, "why": "switched off, and its tier may be"}], "held": [], "nothing": False, "said": []}
    arithmetic = {SERVICE: {"hosts": 12, "ready": 12, "min_available": 7, "batch": 4}}
    return {"sha256": "9f2c" * 16, "batches": batches, "rows": rows, "arithmetic": arithmetic, **rest, **more}


def begin(**more: Any) -> dict[str, Any]:
    return {"event": "rollout", "at": START - 20, "id": ID, "owner": "ops@laptop", "playbook": "rolling_upgrade", "plan": plan(), **more}


def transaction(host: str, told: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    batch = next((one for one in plan()["batches"] if host in one["hosts"]), None)
    return {"event": "transaction", "at": None, "host": host, "batch": batch, "state": told, **more}


def rolled_back(begin: float, host: str = "relay3") -> dict[str, Any]:
    """Return the transaction of a host whose soak failed."""
    why = "soak: error_rate is 0.081, which must stay below 0.01 (3 of 3 measurements)"
    passed = {phase: took for phase, took in FORWARD.items() if phase != "commit"}
    told = state(begin, "rolled_back", {**passed, "soak": 18.0, **BACK}, said=why, next=f"hearthctl log {SERVICE} {ID}")
    told["facts"] = {"served": True, "restarts": 0, "database": "kept", "schema_before": "7", "schema_after": "7"}
    return transaction(host, told, evidence=f"reports/{ID}/{host}/{SERVICE}")


def halted() -> list[dict[str, Any]]:
    """Return twelve hosts: two batches and two relays go well, one relay goes back, one of its batch commits, the anchors stay as they are."""
    events = [begin(), {"event": "decision", "at": START - 12, "said": "ops@laptop confirmed the plan"}]
    at = START
    for number, batch in enumerate(plan()["batches"][:4]):
        for index, host in enumerate(batch["hosts"]):
            if host == "relay3":
                events.append(rolled_back(at))
                continue
            slower = {"drain": 9.0 + 4 * index, "ready": 1.0 + 0.6 * index, "start": 0.3 + 0.15 * number}
            told = state(at + 0.3 * index, "committed", {**FORWARD, **slower})
            told["downtime"] = sum({**FORWARD, **slower}[phase] for phase in GAP)
            events.append(transaction(host, told))
        at += 75
        if number == 0:
            events.append({"event": "decision", "at": at - 5, "said": "the canary held for 5 s: promoted by time"})
    end = {"event": "end", "at": at, "failed": True, "said": "relay3 rolled back", "next": "ansible-playbook rolling-upgrade.yml --check"}
    return [*events, end]
