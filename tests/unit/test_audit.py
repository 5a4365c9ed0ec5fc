"""Findings: what was seen of a healthy fleet, spoilt in one place, and what the audit then says."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import audit

PORTS = [
    {"name": "api", "port": "8080", "proto": ["tcp"], "sources": ["any"], "listen": True},
    {"name": "metrics", "port": "9100", "proto": ["tcp"], "sources": ["192.0.2.9"], "listen": True},
    {"name": "admin", "port": "9000", "proto": ["tcp"], "sources": ["none"], "listen": True},
]
SPECS: dict[str, Any] = {
    name: {
        "host": {"name": name, "tier": tier, "offline": offline},
        "services": {"icnd": {"name": "icnd", "unit": {"name": "icnd.service"}, "sandbox": {"private_network": False}, "ports": PORTS}},
        "unit": {"units": [{"service": "icnd", "name": "icnd.service", "exposure_max": 1.5}]},
    }
    for name, tier, offline in (("relay1", "tier1", "fail"), ("home1", "tier2", "skip"))
}


def socket(port: int, address: str = "::", unit: str = "icnd.service", proto: str = "tcp", closed: bool | None = False) -> dict[str, Any]:
    return {"proto": proto, "address": address, "port": port, "unit": unit, "closed": closed}


def probe(expect: str, outcome: str, port: int = 9100, name: str = "metrics", address: str = "192.0.2.1") -> dict[str, Any]:
    return {"host": "relay1", "address": address, "port": port, "service": "icnd", "name": name, "expect": expect, "outcome": outcome}


class Fleet:
    """What the modules saw of two hosts on which everything is right."""

    def __init__(self) -> None:
        areas = {
            area: []
            for area in ("account", "release", "config", "unit", "firewall", "backup", "drill", "preflight", "staged", "waits", "rollout", "start")
        }
        service = {"state": "active", "ready": True}
        sockets = [socket(8080), socket(9100), socket(9000, "127.0.0.1", closed=True), socket(22, "0.0.0.0", unit="")]
        units = {"icnd.service": {"score": 1.1, "causes": ["PrivateNetwork="], "drop_ins": []}}
        self.looks = {host: copy.deepcopy({"plan": {**areas, "services": {"icnd": service}}}) for host in SPECS}
        self.exposed = {host: copy.deepcopy({"units": units, "sockets": sockets, "ephemeral": [32768, 60999]}) for host in SPECS}
        self.reached: dict[str, dict[str, Any]] = {
            "relay1": {"probes": []},
            "home1": {"probes": [probe("closed", "timed out"), probe("open", "open")]},
        }
        self.plan = self.looks["relay1"]["plan"]
        self.sockets = self.exposed["relay1"]["sockets"]

    def report(self, specs: Any = SPECS) -> dict[str, Any]:
        return audit.report(specs, self.looks, self.exposed, self.reached)

    def only(self, specs: Any = SPECS) -> dict[str, str]:
        """Return the one finding there is."""
        findings = self.report(specs)["findings"]
        assert len(findings) == 1, findings
        return findings[0]


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_nothing_found(fleet: Fleet) -> None:
    report = fleet.report()
    assert report["findings"] == []
    assert report["verified"]
    assert audit.render(report) == "verified: 2 hosts, 2 services, 2 probes, nothing found"


@pytest.mark.parametrize("area", ["account", "release", "config", "unit", "firewall", "backup", "drill"])
def test_every_difference_of_the_plan_is_drift(fleet: Fleet, area: str) -> None:
    fleet.plan[area].append({"item": "/etc/icn/config.toml", "reason": "content differs", "service": "icnd", "action": ""})
    finding = fleet.only()
    assert (finding["host"], finding["service"], finding["check"], finding["level"]) == ("relay1", "icnd", "drift", "fail")
    assert finding["found"] == "/etc/icn/config.toml: content differs"
    assert finding["wanted"] == f"{area} as described"


@pytest.mark.parametrize("action", ["start", "restart", "reload"])
def test_what_is_pending_is_drift(fleet: Fleet, action: str) -> None:
    fleet.plan["rollout"].append(
        {"item": "icnd.service", "reason": "unit file changed since the service started", "service": "icnd", "action": action}
    )
    assert fleet.only()["found"] == "icnd.service: unit file changed since the service started"


def test_a_stopped_service_is_told_once_and_not_asked_what_it_listens_on(fleet: Fleet) -> None:
    fleet.plan["services"]["icnd"] = {"state": "inactive", "ready": False}
    fleet.plan["start"].append({"service": "icnd"})
    fleet.plan["rollout"].append({"item": "icnd.service", "reason": "not running (inactive)", "service": "icnd", "action": "start"})
    fleet.sockets.clear()
    fleet.reached["home1"]["probes"] = [probe("open", "refused")]
    assert fleet.only()["found"] == "icnd.service: not running (inactive)"


def test_a_staged_release_is_no_finding(fleet: Fleet) -> None:
    fleet.plan["staged"].append({"item": "icnd 0.4.0", "reason": "0.3.0 runs; 0.4.0 is staged", "service": "icnd", "action": "stage"})
    assert fleet.report()["verified"]
    assert audit.render(fleet.report()).splitlines() == [
        "waits for a rollout, on relay1: icnd: 0.3.0 runs; 0.4.0 is staged",
        "verified: 2 hosts, 2 services, 2 probes, nothing found",
    ]


def test_preflight_counts_only_what_fails(fleet: Fleet) -> None:
    finding = {"check": "clock", "level": "warn", "found": "not synchronised", "wanted": "NTP", "remedy": "install it", "path": "preflight_clock"}
    fleet.plan["preflight"] += [finding, {**finding, "check": "cpus", "level": "fail"}]
    assert fleet.only()["found"] == "cpus: not synchronised"


def test_f55_a_unit_that_a_drop_in_opens_is_too_exposed(fleet: Fleet) -> None:
    drop_in = "/etc/systemd/system/icnd.service.d/open.conf"
    fleet.exposed["relay1"]["units"]["icnd.service"] = {"score": 4.2, "causes": ["ProtectSystem=", "User="], "drop_ins": [drop_in]}
    finding = fleet.only()
    assert (finding["check"], finding["wanted"]) == ("exposure", "at most 1.5")
    assert finding["found"] == f"4.2 of 10, most of it ProtectSystem=, User=; drop-in {drop_in}"
    assert drop_in in finding["remedy"]


def test_an_exposure_at_its_threshold_is_allowed(fleet: Fleet) -> None:
    fleet.exposed["relay1"]["units"]["icnd.service"]["score"] = 1.5
    assert fleet.report()["findings"] == []


def test_a_service_that_is_not_ready(fleet: Fleet) -> None:
    fleet.plan["services"]["icnd"]["ready"] = False
    assert (fleet.only()["check"], fleet.only()["found"]) == ("ready", "active, but not ready")


@pytest.mark.parametrize(
    ("opened", "level", "found"),
    [
        pytest.param(socket(7777), "fail", "listens on [::]:7777/tcp", id="port-that-nobody-described"),
        pytest.param(socket(7777, "192.0.2.1", proto="udp"), "fail", "listens on 192.0.2.1:7777/udp", id="udp"),
        pytest.param(socket(40000), "fail", "listens on [::]:40000/tcp", id="tcp-listens-whatever-the-number"),
        pytest.param(socket(8080, proto="udp"), "fail", "listens on [::]:8080/udp", id="described-for-tcp-only"),
        pytest.param(socket(9000, "0.0.0.0"), "warn", "listens on 0.0.0.0:9000/tcp, which no firewall closes", id="from-none-unguarded"),
    ],
)
def test_what_listens_but_should_not(fleet: Fleet, opened: dict[str, Any], level: str, found: str) -> None:
    fleet.sockets.append(opened)
    assert (fleet.only()["check"], fleet.only()["level"], fleet.only()["found"]) == ("listening", level, found)


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(socket(7777, "127.0.0.1"), id="loopback"),
        pytest.param(socket(7777, "::1"), id="loopback-ipv6"),
        pytest.param(socket(7777, unit=""), id="of-somebody-else"),
        pytest.param(socket(40000, proto="udp"), id="udp-of-a-client"),
        pytest.param(socket(9000, "0.0.0.0", closed=True), id="from-none-behind-the-firewall"),
        pytest.param(socket(9000, "0.0.0.0", closed=None), id="from-none-behind-somebody-else's-firewall"),
    ],
)
def test_what_may_listen(fleet: Fleet, opened: dict[str, Any]) -> None:
    fleet.sockets.append(opened)
    assert fleet.report()["findings"] == []


def test_a_warning_does_not_fail_the_audit(fleet: Fleet) -> None:
    fleet.sockets.append(socket(9000, "0.0.0.0"))
    assert fleet.report()["verified"]
    assert audit.summary(fleet.report()) == "verified: 2 hosts, 2 services, 2 probes, 1 warning"


def test_a_port_on_which_nobody_listens(fleet: Fleet) -> None:
    fleet.sockets[:] = [one for one in fleet.sockets if one["port"] != 8080]
    assert (fleet.only()["found"], fleet.only()["wanted"]) == ("nobody listens on 8080/tcp", "api on 8080/tcp")


def test_a_port_for_others_that_only_the_host_itself_reaches(fleet: Fleet) -> None:
    fleet.sockets[0]["address"] = "127.0.0.1"
    assert fleet.only()["found"] == "listens on 127.0.0.1:8080/tcp only"


def test_sockets_in_a_network_of_their_own_cannot_be_seen(fleet: Fleet) -> None:
    specs = copy.deepcopy(SPECS)
    specs["relay1"]["services"]["icnd"]["sandbox"]["private_network"] = True
    fleet.sockets.clear()
    assert fleet.report(specs)["findings"] == []


def test_f49_a_closed_port_that_answers(fleet: Fleet) -> None:
    fleet.reached["home1"]["probes"] = [probe("closed", "open", address="2001:db8::1")]
    finding = fleet.only()
    assert (finding["host"], finding["service"], finding["check"]) == ("relay1", "icnd", "reach")
    assert (finding["found"], finding["wanted"]) == ("home1 connects to [2001:db8::1]:9100", "metrics closed to home1")


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        pytest.param("timed out", "fail", id="dropped"),
        pytest.param("refused", "fail", id="rejected"),
        pytest.param("no route", "warn", id="the-network-rather-than-the-host"),
    ],
)
def test_an_open_port_that_does_not_answer(fleet: Fleet, outcome: str, level: str) -> None:
    fleet.reached["home1"]["probes"] = [probe("open", outcome)]
    assert (fleet.only()["found"], fleet.only()["level"]) == (f"home1 to 192.0.2.1:9100: {outcome}", level)


def test_the_remedy_of_a_blocked_port_names_the_firewall_where_that_differs(fleet: Fleet) -> None:
    fleet.plan["firewall"].append({"item": "allow 9100/tcp", "reason": "missing", "service": "icnd", "action": "add"})
    fleet.reached["home1"]["probes"] = [probe("open", "timed out")]
    assert [one["remedy"] for one in fleet.report()["findings"] if one["check"] == "reach"] == [
        "its firewall differs: ansible-playbook site.yml --limit relay1"
    ]


@pytest.mark.parametrize(
    ("outcome", "listening", "remedy"),
    [
        pytest.param("refused", "::", "it may listen on IPv6 alone", id="ipv6-alone-or-rejected"),
        pytest.param("refused", "0.0.0.0", "the rules of relay1 let it in", id="listens-on-ipv4"),
        pytest.param("timed out", "::", "the rules of relay1 let it in", id="no-daemon-times-out"),
    ],
)
def test_the_remedy_of_a_refused_port_thinks_of_daemons_that_take_ipv6_alone(fleet: Fleet, outcome: str, listening: str, remedy: str) -> None:
    fleet.sockets[1]["address"] = listening
    fleet.reached["home1"]["probes"] = [probe("open", outcome)]
    assert fleet.only()["remedy"].startswith(remedy)


def test_a_family_on_which_the_service_does_not_listen_is_not_missed(fleet: Fleet) -> None:
    fleet.sockets[1]["address"] = "0.0.0.0"
    fleet.reached["home1"]["probes"] = [probe("open", "refused", address="2001:db8::1")]
    assert fleet.report()["findings"] == []


def test_an_unreachable_host_is_a_finding_and_hides_no_other(fleet: Fleet) -> None:
    fleet.looks["relay1"] = {"away": True, "msg": "Task failed: no data. ssh: connect to host 192.0.2.1 port 22: Connection timed out"}
    fleet.exposed["relay1"], fleet.reached["relay1"] = {"skipped": True}, {"skipped": True}
    fleet.looks["home1"]["plan"]["services"]["icnd"]["ready"] = False
    assert [(one["host"], one["check"], one["found"]) for one in fleet.report()["findings"]] == [
        ("home1", "ready", "active, but not ready"),
        ("relay1", "look", "unreachable: ssh: connect to host 192.0.2.1 port 22: Connection timed out"),
    ]


def test_f47_a_home_host_that_is_off_is_no_finding(fleet: Fleet) -> None:
    fleet.looks["home1"] = {"away": True, "msg": "ssh: no route"}
    fleet.exposed["home1"], fleet.reached["home1"] = {"skipped": True}, {"skipped": True}
    assert audit.render(fleet.report()).splitlines() == [
        "not verified, may be off and is: home1",
        "verified: 1 host, 1 service, 0 probes, nothing found",
    ]


@pytest.mark.parametrize(
    ("part", "answer", "check"),
    [
        pytest.param("looks", {"failed": True, "msg": "no python"}, "look", id="observe"),
        pytest.param("exposed", {"msg": "crashed"}, "exposure", id="exposure"),
        pytest.param("reached", {"unreachable": True}, "reach", id="reach"),
    ],
)
def test_silence_never_passes_for_health(fleet: Fleet, part: str, answer: dict[str, Any], check: str) -> None:
    getattr(fleet, part)["relay1"] = answer
    if part == "looks":
        fleet.exposed["relay1"] = fleet.reached["relay1"] = {}
    assert (fleet.only()["check"], fleet.only()["level"]) == (check, "fail")


def test_the_table_fits_120_columns_and_says_what_to_do(fleet: Fleet) -> None:
    for host in fleet.looks:
        for number in range(3):
            difference = {"item": f"/etc/kontinuum-node-server/some-long-name-of-a-file-{number}.toml", "reason": "content differs: " + "x " * 60}
            fleet.looks[host]["plan"]["config"].append({**difference, "service": "a-service-with-a-long-name", "action": ""})
    lines = audit.render(fleet.report()).splitlines()
    assert max(map(len, lines)) <= 120 - 8
    assert lines[0].split() == ["HOST", "SERVICE", "CHECK", "FOUND", "WANTED"]
    assert any(line.startswith("  drift on home1, relay1: ansible-playbook site.yml") for line in lines)
    assert lines[-1] == "not verified: 2 hosts, 2 services, 2 probes, 6 findings"
