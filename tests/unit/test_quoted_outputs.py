"""What playbooks print, as the guides show it: each table is what the program makes of such a fleet, to the letter."""

from __future__ import annotations

import re
from typing import Any

import test_runbooks

from ansible_collections.hearth.fleet.plugins.filter import restores
from ansible_collections.hearth.fleet.plugins.module_utils import (
    audit,
    backup_catalogue,
    backup_review,
    drill_report,
    object_store,
    restore_plan,
    status,
)
from ansible_collections.hearth.fleet.plugins.module_utils.plan import AREAS

GUIDES = test_runbooks.ROOT / "docs" / "guides"
MINUTE, HOUR, DAY = 60, 3600, 86400
NODE, ADMIN, NATS = "kontinuum-node-server", "kontinuum-node-admin", "nats-server"
DATABASE = "/var/lib/kontinuum-node/data/node.db"
BACKUP, KEY_BACKUP = "20261121T110000Z-000381-5be0c1", "20261002T081141Z-000001-4cec46"
TAKEN = backup_catalogue.stored_at("2026-11-21T11:00:00Z")
NOTHING: dict[str, list[Any]] = {area: [] for area in (*AREAS, "preflight", "staged", "waits", "rollout", "start")}


def shown(page: str, begin: str) -> str:
    """Return the block of a guide that begins like this."""
    found = [block.rstrip("\n") for block in test_runbooks.blocks(page, "text") if block.startswith(begin)]
    assert len(found) == 1, found
    return found[0]


# Status, and verify


def seen(release: str = "1.0.0", state: str = "active", since: str = "", *, ready: bool = True) -> dict[str, Any]:
    return {"release": release, "state": state, "since": since, "ready": ready}


def look(services: dict[str, Any], **plan: list[dict[str, Any]]) -> dict[str, Any]:
    return {"plan": {**NOTHING, "services": services, **plan}, "facts": {"clock": {"time": TAKEN}}}


def test_the_status_of_a_fleet() -> None:
    tiers = {"anchor1": "tier0", "relay1": "tier1", "home1": "tier2"}
    broker = seen("2.11.11", since="Wed 2026-11-18 07:00:00 UTC")
    config = {"service": NATS, "item": "/etc/nats-server/nats.json", "reason": "content"}
    reload = {"service": NATS, "action": "reload", "item": f"{NATS}.service", "reason": "config /etc/nats-server/nats.json changed"}
    staged = {"service": NODE, "action": "stage", "item": f"{NODE} 1.1.0", "reason": "1.0.0 runs; 1.1.0 is staged"}
    looks = {
        "anchor1": look({NATS: broker}),
        "relay1": look({NODE: seen(since="Sat 2026-11-21 10:47:55 UTC"), NATS: broker}, staged=[staged], rollout=[reload], config=[config]),
        "home1": {"away": True},
    }
    rows = status.rows({name: {"host": {"tier": tier}} for name, tier in tiers.items()}, looks)
    assert status.render(rows) == shown("guides/verify.md", "HOST     TIER")


def service(name: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "unit": {"name": f"{name}.service"}, "sandbox": {"private_network": False}, "ports": [*ports]}


def test_what_verify_finds() -> None:
    metrics = {"name": "metrics", "port": "9100", "proto": ["tcp"], "sources": ["10.77.0.41"], "listen": True}
    relay2 = {NODE: service(NODE, metrics), NATS: service(NATS)}
    specs = {
        "ops1": {"services": {ADMIN: service(ADMIN)}, "unit": {"units": []}},
        "relay2": {"services": relay2, "unit": {"units": [{"service": NODE, "name": f"{NODE}.service", "exposure_max": 1.5}]}},
    }
    drop_in = f"/etc/systemd/system/{NODE}.service.d/local.conf"
    start = {"service": ADMIN, "action": "start", "item": f"{ADMIN}.service", "reason": "not running (inactive)"}
    looks = {
        "ops1": look({ADMIN: seen(state="inactive", ready=False)}, rollout=[start], start=[{"service": ADMIN}]),
        "relay2": look({NODE: seen(), NATS: seen("2.11.11")}),
    }
    sockets = [
        {"proto": "tcp", "address": address, "port": port, "unit": f"{name}.service", "closed": True}
        for address, port, name in (("::", 9100, NODE), ("0.0.0.0", 7777, NATS))
    ]
    score = {"score": 3.4, "causes": ["ProtectSystem=", "PrivateUsers=", "ProtectHome="], "drop_ins": [drop_in]}
    exposed = {"ops1": {"units": {}, "sockets": []}, "relay2": {"units": {f"{NODE}.service": score}, "sockets": sockets}}
    probe = {"host": "relay2", "address": "10.77.0.22", "port": 9100, "service": NODE, "name": "metrics", "expect": "closed", "outcome": "open"}
    reached = {"anchor1": {"probes": [probe]}, "ops1": {"probes": []}, "relay2": {"probes": []}}
    report = audit.report(specs, looks, {name: {**one, "ephemeral": [32768, 60999]} for name, one in exposed.items()}, reached)
    assert audit.render({**report, **counts_of_the_guide()}) == shown("guides/verify.md", "HOST    SERVICE                CHECK")


def counts_of_the_guide() -> dict[str, int]:
    """Return the numbers of a fleet with which nothing is wrong; the lab's own say so in tests/integration/test_verify.py."""
    found = re.search(r"`verified: (\d+) hosts, (\d+) services, (\d+) probes, nothing found`", (GUIDES / "verify.md").read_text())
    assert found
    return dict(zip(("hosts", "services", "probes"), map(int, found.groups()), strict=True))


# Backups


def test_what_backups_are_refused_for() -> None:
    schedule = "*-*-* 25:00"
    said = f"Failed to parse calendar specification {schedule!r}: Invalid argument"
    abilities = object_store.Abilities(write=True, conditional=True, read=True, list=True, delete=False, said={})
    mistakes = [
        backup_review.about_schedule("fleet_services.ntfy.backup.schedule", schedule, said),
        *backup_review.problems({"store": {"bucket": "my-backups"}, "readable_credentials": False}, abilities),
    ]
    heading, *answer = shown("guides/backup.md", "relay1 could not be backed up").splitlines()
    assert answer == "\n".join(map(str, mistakes)).splitlines()
    assert test_runbooks.uncovered(heading.removeprefix("relay1")) == []


def test_the_backups_there_are() -> None:
    row = {"host": "relay1", "service": NODE, "met": True, "problems": []}
    data = {"newest": "2026-11-21 11:00:00 UTC", "age_seconds": 45 * MINUTE + 10, "size": int(1.2 * 2**20), "expires": "2026-12-29 11:00:00 UTC"}
    identity = {"newest": "2026-10-02 08:11:41 UTC", "age_seconds": 50 * DAY + 3 * HOUR, "size": 312, "expires": None}
    rows = [{**row, "set": "data", **data}, {**row, "set": "identity", **identity}]
    assert backup_catalogue.render(rows) == shown("guides/restore.md", "HOST    SERVICE")


def manifest() -> dict[str, Any]:
    recipients = re.findall(r"^for +(.*)$", (GUIDES / "restore.md").read_text(), re.MULTILINE)
    part = {"kind": "database", "path": DATABASE, "size": int(1.2 * 2**20), "plain_size": int(5.1 * 2**20)}
    described = {"host": "relay1", "service": NODE, "set": "data", "release": "1.0.0", "same_as": "", "recipients": recipients}
    return {"id": BACKUP, "parts": [part], **described}


def test_what_would_be_restored() -> None:
    text = restore_plan.render(manifest(), "relay1", {"release": "1.0.0"}, TAKEN, TAKEN + 45 * MINUTE + 12)
    assert restores.restore_report({"shown": text}) == shown("guides/restore.md", "Would be restored:")


def test_what_was_restored() -> None:
    aside = f"/var/lib/hearth/restore/{NODE}/before-20261121T114512Z-5f955e/0"
    said = [f"{DATABASE}: 1 table, integrity ok, SELECT count(*) FROM kv: 1841"]
    done = {"backup": manifest(), "rto": 4.6, "downtime": 2.2, "said": said, "aside": [aside]}
    assert restores.restore_report(done) == shown("guides/restore.md", "Restored")


def test_what_came_of_a_drill() -> None:
    cut = "refused: truncated, truncated with a manifest that fits, wrong key"
    told = ["1 table, integrity ok, SELECT count(*) FROM kv: 1841", f"{NODE} 1.0.0 ready after 3.5 s", f"{cut}, stale -wal", "and 1 older"]
    row = {"host": "relay1", "service": NODE, "problems": [], "last_success": TAKEN}
    rows = [
        {**row, "set": "data", "id": BACKUP, "rpo": 45 * MINUTE + 12, "rto": 4.9, "said": told},
        {**row, "set": "identity", "id": KEY_BACKUP, "rpo": 50 * DAY + 3 * HOUR, "rto": 0.6, "said": ["1 of 1 paths", cut]},
    ]
    assert drill_report.render({"rows": rows}, TAKEN) == shown("guides/drill.md", "HOST    SERVICE")
