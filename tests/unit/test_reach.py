"""Who probes whom: each port by one host that its rules admit and by one that they do not, over every address."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections import Counter
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import reach, slices
from ansible_collections.hearth.fleet.plugins.modules.reach import outcome

FIREWALL: dict[str, Any] = {
    "firewall_managed": True,
    "firewall_enabled": True,
    "firewall_default_incoming": "deny",
    "firewall_default_outgoing": "allow",
    "firewall_default_routed": "deny",
    "firewall_ipv6": True,
    "firewall_logging": "low",
    "firewall_exclusive": False,
    "firewall_ssh_ports": [22],
    "firewall_ssh_from": ["any"],
    "firewall_ssh_limit": True,
    "firewall_rules": [],
    "firewall_keep_connection": True,
    "firewall_confirm_seconds": 60,
}
ADDRESSES = {
    "relay1": ["192.0.2.1", "2001:db8::1"],
    "relay2": ["192.0.2.2", "2001:db8::2"],
    "ops1": ["192.0.2.9", "2001:db8::9"],
}
OPS = ["192.0.2.9", "2001:db8::9"]


def port(name: str = "metrics", number: str = "9100", sources: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "port": number, "proto": ["tcp"], "sources": sources or ["any"], "limit": False, "listen": True, **more}


def fleet(*ports: dict[str, Any], on: str = "relay1", addresses: dict[str, list[str]] | None = None, **firewall: Any) -> dict[str, dict[str, Any]]:
    """Return the slices of a fleet in which one host runs one service with ``ports``."""
    services = {"icnd": {"name": "icnd", "ports": list(ports)}}
    return {
        host: {
            "host": {"name": host, "addresses": own},
            "services": services if host == on else {},
            "firewall": slices.firewall_slice(services if host == on else {}, {**FIREWALL, **firewall}),
        }
        for host, own in (addresses or ADDRESSES).items()
    }


def planned(specs: dict[str, dict[str, Any]], hosts: list[str] | None = None) -> set[tuple[str, str, str]]:
    """Return the probes as (prober, address, expectation)."""
    return {(prober, one["address"], one["expect"]) for prober, probes in reach.plan_probes(specs, hosts).items() for one in probes}


def test_a_port_for_anybody_is_probed_once_over_each_address() -> None:
    assert planned(fleet(port())) == {("relay2", "192.0.2.1", "open"), ("relay2", "2001:db8::1", "open")}


def test_f49_a_port_for_some_is_probed_by_one_of_them_and_by_a_stranger_over_ipv4_and_ipv6() -> None:
    assert planned(fleet(port(sources=OPS))) == {
        ("ops1", "192.0.2.1", "open"),
        ("ops1", "2001:db8::1", "open"),
        ("relay2", "192.0.2.1", "closed"),
        ("relay2", "2001:db8::1", "closed"),
    }


def test_a_port_for_nobody_must_be_closed() -> None:
    assert {expect for _prober, _address, expect in planned(fleet(port(sources=["none"])))} == {"closed"}


def test_a_probe_says_what_it_is_about() -> None:
    assert reach.plan_probes(fleet(port()))["relay2"][0] == {
        "host": "relay1",
        "address": "192.0.2.1",
        "port": 9100,
        "service": "icnd",
        "name": "metrics",
        "expect": "open",
    }


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param(port(proto=["udp"]), id="udp"),
        pytest.param(port(listen=False), id="nobody-listens"),
        pytest.param(port(number="22"), id="ssh-which-is-limited"),
    ],
)
def test_what_is_never_probed(silent: dict[str, Any]) -> None:
    assert planned(fleet(silent)) == set()


def test_of_a_range_the_first_port_is_probed() -> None:
    assert {one["port"] for one in reach.plan_probes(fleet(port(number="8000:8010")))["relay2"]} == {8000}


def test_a_rule_of_the_host_itself_admits_too() -> None:
    rules = [{"action": "allow", "port": 9100, "proto": ["tcp"], "from": ["192.0.2.0/24"], "interface": "", "name": "lan"}]
    assert ("relay2", "192.0.2.1", "open") in planned(fleet(port(sources=OPS), firewall_rules=rules))


def test_a_rule_for_one_interface_leaves_it_open_who_gets_in() -> None:
    rules = [{"action": "allow", "port": 9100, "proto": ["tcp"], "from": ["any"], "interface": "wg0", "name": "vpn"}]
    assert planned(fleet(port(sources=["none"]), firewall_rules=rules)) == set()


@pytest.mark.parametrize("inputs", [{"firewall_enabled": False}, {"firewall_managed": False}], ids=["off", "somebody-else's"])
def test_without_a_firewall_of_ours_nothing_must_be_closed(inputs: dict[str, bool]) -> None:
    specs = fleet(port(sources=["none"]), **inputs)
    assert "closed" not in {expect for _prober, _address, expect in planned(specs)}


def test_only_hosts_that_answer_probe_and_are_probed() -> None:
    assert planned(fleet(port()), ["relay1", "ops1"]) == {("ops1", "192.0.2.1", "open"), ("ops1", "2001:db8::1", "open")}
    assert planned(fleet(port()), ["relay2", "ops1"]) == set()


def test_every_host_that_answers_has_an_entry() -> None:
    assert set(reach.plan_probes(fleet(port()))) == {"relay1", "relay2", "ops1"}


@pytest.mark.parametrize(
    ("target", "prober", "sources", "expected"),
    [
        pytest.param(["192.0.2.1"], ["2001:db8::2"], ["any"], set(), id="no-common-family"),
        pytest.param(["198.18.0.1"], ["8.8.8.8"], ["any"], set(), id="private-target-public-prober"),
        pytest.param(["8.8.8.8"], ["192.168.1.5"], ["any"], {("other", "8.8.8.8", "open")}, id="behind-a-router-to-a-port-for-anybody"),
        pytest.param(["8.8.8.8"], ["192.168.1.5"], ["9.9.9.9"], set(), id="behind-a-router-nobody-knows-its-address"),
        pytest.param(["8.8.8.8"], ["1.1.1.1", "1.0.0.1"], ["1.1.1.1"], set(), id="one-of-two-addresses-admitted"),
        pytest.param(["8.8.8.8"], ["1.1.1.1", "10.0.0.1"], ["1.1.1.1"], {("other", "8.8.8.8", "open")}, id="the-public-one-counts"),
        pytest.param(["10.0.0.9"], ["10.0.0.1"], ["10.0.0.0/8"], {("other", "10.0.0.9", "open")}, id="within-a-network"),
        pytest.param(["fe80::1", "127.0.0.1"], ["fe80::2", "127.0.0.1"], ["any"], set(), id="link-local-and-loopback"),
    ],
)
def test_a_prober_is_used_only_where_its_address_is_known(
    target: list[str], prober: list[str], sources: list[str], expected: set[tuple[str, str, str]]
) -> None:
    assert planned(fleet(port(sources=sources), on="target", addresses={"target": target, "other": prober})) == expected


def test_the_work_is_spread() -> None:
    addresses = {f"relay{number}": [f"192.0.2.{number}"] for number in range(1, 9)}
    specs = fleet(port(), addresses=addresses)
    for host in specs.values():
        host.update(services=specs["relay1"]["services"], firewall=specs["relay1"]["firewall"])
    assert Counter(len(probes) for probes in reach.plan_probes(specs).values()) == {1: 8}


def test_a_connection_and_a_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        assert outcome("127.0.0.1", number, 2) == "open"
    assert outcome("127.0.0.1", number, 2) == "refused"


def test_silence_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        place = server.getsockname()
        waiting = [socket.socket() for _one in range(4)]  # a full queue: the kernel drops what comes next
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(place)
        threading.Event().wait(0.05)
        started = time.monotonic()
        assert outcome(place[0], place[1], 0.3) == "timed out"
        assert time.monotonic() - started < 2
        for one in waiting:
            one.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(OSError(errno.EHOSTUNREACH, "x"), "no route", id="no-route-to-host"),
        pytest.param(OSError(errno.ENETUNREACH, "x"), "no route", id="network-unreachable"),
        pytest.param(OSError(errno.EACCES, "x"), "Permission denied", id="anything-else-in-its-own-words"),
    ],
)
def test_an_error_in_words(error: OSError, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert outcome("192.0.2.1", 9, 1) == said
