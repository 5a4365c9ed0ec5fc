# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall on real hosts of the lab: what is open and closed from outside, and what survives mistakes.

Needs the lab (`tests/lab/lab up`); run with `pytest tests/integration/test_firewall.py`. The hosts are made anew, before and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lab_hosts
import pytest
from lab_hosts import connects, console, wait_until

MODULE = "hearth.fleet.ufw_ruleset"
SSH = {"owner": "host/ssh", "port": "22", "proto": "tcp"}
NODE = {"owner": "node/libp2p", "port": "4001"}
PORT, OTHER_PORT = 4001, 4002
# How long new rules wait for their confirmation where none will come: as short as the module lets it be. Ansible's first attempt
# gives up before that, its second one, five seconds later, comes after the host has restored the old rules.
UNCONFIRMED = {"keep_connection": False, "confirm_seconds": 10}
CONNECTION_TIMEOUT = ("--timeout", "6")

KEEP = """
set -e
tar -C / -cf /root/{name}.tar etc/ufw etc/default/ufw
iptables-save -t filter >/root/{name}.ipv4
ip6tables-save -t filter >/root/{name}.ipv6
"""
RESTORE = """
systemctl stop -q hearth-firewall-revert.timer
rm -rf /run/hearth/firewall /etc/ufw
set -e
tar -C / -xf /root/{name}.tar
iptables-restore </root/{name}.ipv4
ip6tables-restore </root/{name}.ipv6
if ! systemctl is-enabled -q ufw; then systemctl unmask -q ufw; systemctl enable -q ufw; fi
"""
LISTEN = f"""
set -e
for port in {PORT} {OTHER_PORT}; do
  systemctl is-active -q listen-$port || systemd-run -q --collect --unit=listen-$port python3 -m http.server --bind :: $port
done
until [ "$(ss -Hltn 'sport = :{PORT} or sport = :{OTHER_PORT}' | wc -l)" = 2 ]; do sleep 0.1; done
"""


@dataclass(frozen=True)
class Host:
    """A host of the lab, with somebody listening on two ports."""

    name: str

    def shell(self, script: str) -> str:
        return lab_hosts.shell(self.name, script)

    def converge(self, *rules: dict[str, str], flags: tuple[str, ...] = (), **settings: Any) -> dict[str, Any]:
        return lab_hosts.module(self.name, MODULE, {"rules": rules, **settings}, *flags)

    def reachable(self, port: int) -> list[bool]:
        return lab_hosts.reachable(self.name, port)

    def files(self) -> str:
        return self.shell("sha256sum /etc/default/ufw /etc/ufw/*.rules /etc/ufw/ufw.conf")

    def kernel(self) -> str:
        return self.shell("(iptables-save -t filter; ip6tables-save -t filter) | sed 's/\\[[0-9:]*\\]//; /^#/d'")

    def pending(self) -> list[str]:
        return self.shell("ls /run/hearth/firewall 2>/dev/null; systemctl is-active hearth-firewall-revert.timer || true").split()


@pytest.fixture(scope="module", params=["relay1", "relay2"])
def fresh_host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host made anew, which keeps two states of its firewall to return to: ``closed`` and ``open``."""
    host = Host(request.param)
    lab_hosts.lab("reset", host.name)
    for name, rules in (("closed", [SSH]), ("open", [SSH, NODE])):
        assert host.converge(*rules)["confirmed"]
        host.shell(KEEP.format(name=name))
    yield host
    lab_hosts.lab("reset", host.name)


@pytest.fixture
def host(fresh_host: Host) -> Host:
    """A host whose firewall lets in SSH alone, by a rule of ours."""
    fresh_host.shell(RESTORE.format(name="closed") + LISTEN)
    return fresh_host


@pytest.fixture
def open_host(fresh_host: Host) -> Host:
    """A host whose firewall lets in SSH and the node's port."""
    fresh_host.shell(RESTORE.format(name="open") + LISTEN)
    return fresh_host


def items(result: dict[str, Any]) -> list[str]:
    return [f"{difference['item']}: {difference['reason']}" for difference in result["differences"]]


def test_second_run_changes_nothing(host: Host) -> None:
    first = host.converge(SSH, NODE)
    assert first["changed"]
    assert first["confirmed"]
    assert items(first) == ["allow 4001 from any (node/libp2p): missing"]
    second = host.converge(SSH, NODE)
    assert not second["changed"]
    assert items(second) == []
    assert "active" not in host.pending()


def test_f49_ports_open_and_close_in_both_families(host: Host) -> None:
    assert host.reachable(PORT) == [False, False]
    host.converge(SSH, NODE)
    assert host.reachable(PORT) == [True, True]
    assert host.reachable(OTHER_PORT) == [False, False]


def test_f49_a_source_opens_its_own_family_alone(host: Host) -> None:
    ipv4, ipv6 = lab_hosts.controller_addresses(host.name)
    host.converge(SSH, {**NODE, "source": ipv4})
    assert host.reachable(PORT) == [True, False]
    host.converge(SSH, {**NODE, "source": ipv6})
    assert host.reachable(PORT) == [False, True]


def test_f51_foreign_rules_stay_unless_exclusive(host: Host) -> None:
    host.shell("ufw allow 4002/tcp comment 'a person' && iptables -N f2b-test && iptables -I INPUT -j f2b-test")
    assert "\n allow 4002/tcp from any [foreign: a person]\n" in host.converge(SSH, NODE, flags=("--diff",))["output"]
    assert host.reachable(OTHER_PORT) == [True, True]
    exclusive = host.converge(SSH, NODE, exclusive=True)
    assert items(exclusive) == ["allow 4002/tcp from any [foreign: a person]: foreign"]
    assert host.reachable(OTHER_PORT) == [False, False]
    assert "-A INPUT -j f2b-test" in host.kernel()


def test_f52_rules_of_a_removed_service_go(open_host: Host) -> None:
    assert open_host.reachable(PORT) == [True, True]
    assert items(open_host.converge(SSH)) == ["allow 4001 from any (node/libp2p): stale"]
    assert open_host.reachable(PORT) == [False, False]


def test_limit_rejects_the_peer_that_knocks_too_often(host: Host) -> None:
    host.converge(SSH, {**NODE, "proto": "tcp", "action": "limit"})
    ipv4, _ipv6 = lab_hosts.addresses(host.name)
    assert [connects(ipv4, PORT) for _knock in range(8)] == [True] * 5 + [False] * 3


def test_settings_are_set(host: Host) -> None:
    result = host.converge(SSH, NODE, logging="medium", defaults={"incoming": "reject", "outgoing": "allow", "routed": "reject"})
    assert result["confirmed"]
    said = host.shell("ufw status verbose")
    assert "Logging: on (medium)" in said
    assert "Default: reject (incoming), allow (outgoing)" in said
    assert not host.converge(SSH, NODE, logging="medium", defaults={"incoming": "reject", "outgoing": "allow", "routed": "reject"})["changed"]
    assert host.converge(SSH, NODE)["confirmed"]
    assert "Default: deny (incoming)" in host.shell("ufw status verbose")


def test_without_ipv6_only_ipv4_gets_in(host: Host) -> None:
    assert host.converge(SSH, NODE, ipv6=False)["confirmed"]
    assert host.reachable(PORT) == [True, False]
    assert not host.converge(SSH, NODE, ipv6=False)["changed"]
    assert host.converge(SSH, NODE)["confirmed"]
    assert host.reachable(PORT) == [True, True]


def test_disabled(host: Host) -> None:
    assert items(host.converge(SSH, enabled=False)) == ["ufw: is active, wanted inactive"]
    assert "inactive" in host.shell("ufw status")
    assert not host.converge(SSH, enabled=False)["changed"]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(NODE, id="no-rule-for-ssh"),
        pytest.param({**SSH, "port": "2222"}, id="other-port"),
        pytest.param({**SSH, "source": "192.0.2.7"}, id="other-source"),
        pytest.param({**SSH, "source": "2001:db8::/32"}, id="ipv6-only"),
    ],
)
@pytest.mark.parametrize("flags", [pytest.param((), id="run"), pytest.param(("--check",), id="check")])
def test_f48_rules_that_cut_ssh_are_refused(host: Host, rule: dict[str, str], flags: tuple[str, ...]) -> None:
    files, kernel = host.files(), host.kernel()
    result = host.converge(rule, flags=flags)
    assert result["failed"]
    assert "refused, nothing was changed" in result["msg"]
    assert "could not open its next SSH connection to port 22" in result["msg"]
    assert (host.files(), host.kernel()) == (files, kernel)


@pytest.mark.parametrize(
    "settings",
    [pytest.param({}, id="rules"), pytest.param({"defaults": {"routed": "reject"}}, id="policy"), pytest.param({"ipv6": False}, id="ipv6")],
)
def test_f48_rules_that_cut_ssh_are_reverted(host: Host, settings: dict[str, Any]) -> None:
    files, kernel = host.files(), host.kernel()
    result = host.converge(NODE, flags=CONNECTION_TIMEOUT, **UNCONFIRMED, **settings)
    assert result["failed"]
    assert result["reverted"]
    assert "the host restored its old ones" in result["msg"]
    assert (host.files(), host.kernel()) == (files, kernel)
    assert host.pending() == ["lock", "revert", "inactive"]


def test_f48_a_first_start_of_the_firewall_is_reverted(host: Host) -> None:
    host.shell("ufw --force reset >/dev/null")
    assert host.converge(NODE, flags=CONNECTION_TIMEOUT, **UNCONFIRMED)["reverted"]
    assert host.shell("ufw status") == "Status: inactive\n"
    assert host.reachable(OTHER_PORT) == [True, True]
    assert host.converge(SSH, NODE)["confirmed"]
    assert host.reachable(OTHER_PORT) == [False, False]


def _cut_off(host: Host) -> bool:
    return "--dport 22 " not in console(host.name, "(iptables-save; ip6tables-save) | grep -e '-user-input '")


@pytest.fixture
def abandoned(host: Host) -> Iterator[Host]:
    """A host whose new rules cut SSH, and whose controller was killed before it could confirm anything.

    What happens there can only be seen from its console, which `podman exec` stands for.
    """
    call = lab_hosts.module_call(host.name, MODULE, {"rules": [NODE], **UNCONFIRMED})
    with lab_hosts.start_ansible("ansible", *call) as controller:
        wait_until(lambda: controller.poll() is not None or _cut_off(host))
        assert controller.poll() is None, controller.communicate()
        lab_hosts.kill(controller)
    yield host
    console(host.name, "systemctl stop hearth-firewall-revert.timer; ufw allow 22/tcp; ufw reload")


def test_f48_the_host_reverts_when_the_controller_vanishes(abandoned: Host) -> None:
    assert abandoned.reachable(22) == [False, False]
    wait_until(lambda: abandoned.reachable(22) == [True, True])
    assert not abandoned.converge(SSH)["changed"]


def test_f48_who_comes_late_does_not_revert_the_change_of_the_next_run(abandoned: Host) -> None:
    console(abandoned.name, "sh /run/hearth/firewall/revert 0123456789abcdef")
    assert console(abandoned.name, "ls /run/hearth/firewall; systemctl is-active hearth-firewall-revert.timer").split() == [
        "lock",
        "pending",
        "revert",
        "active",
    ]
    assert abandoned.reachable(22) == [False, False]
    wait_until(lambda: abandoned.reachable(22) == [True, True])


def test_f50_a_reboot_before_the_confirmation_brings_the_old_rules(abandoned: Host) -> None:
    assert b"hearth:host/ssh".hex() in console(abandoned.name, "cat /etc/ufw/user.rules")
    assert b"hearth:node/libp2p".hex() not in console(abandoned.name, "cat /etc/ufw/user.rules")
    lab_hosts.lab("reboot", abandoned.name)
    assert abandoned.reachable(22) == [True, True]
    assert not abandoned.converge(SSH)["changed"]


def test_f50_a_commit_that_was_killed_is_finished_by_the_timer(abandoned: Host) -> None:
    """The change was confirmed, one of its files is in place, and the process that moves them dies."""
    killed = (
        "cd /run/hearth/firewall && for name in user.rules user6.rules; do"
        "  cp -p pending/tree/etc/ufw/$name /etc/ufw/.$name.new; echo /etc/ufw/.$name.new /etc/ufw/$name >> pending/moves; done"
        "; mv pending committing; mv /etc/ufw/.user.rules.new /etc/ufw/user.rules"
    )
    console(abandoned.name, killed)
    wait_until(lambda: "committing" not in console(abandoned.name, "ls /run/hearth/firewall"))
    for name in ("user.rules", "user6.rules"):
        assert b"hearth:node/libp2p".hex() in console(abandoned.name, f"cat /etc/ufw/{name}")
    assert ".new" not in console(abandoned.name, "ls -A /etc/ufw")


def test_f50_a_rules_file_that_iptables_rejects_is_found_first(host: Host) -> None:
    host.shell("cp -p /etc/ufw/before.rules /root/ && sed -i 's/^COMMIT/-A ufw-before-input --nonsense\\nCOMMIT/' /etc/ufw/before.rules")
    kernel = host.kernel()
    result = host.converge(SSH, NODE)
    host.shell("mv /root/before.rules /etc/ufw/before.rules")
    assert result["failed"]
    assert "iptables-restore rejects /etc/ufw/before.rules, nothing was changed" in result["msg"]
    assert host.kernel() == kernel
    assert "active" not in host.pending()


def test_check_mode_changes_nothing(host: Host) -> None:
    files, kernel = host.files(), host.kernel()
    result = host.converge(SSH, NODE, flags=("--check", "--diff"))
    assert result["changed"]
    assert "\n+allow 4001 from any (node/libp2p)\n" in result["output"]
    assert (host.files(), host.kernel()) == (files, kernel)


@pytest.mark.parametrize(
    ("mutation", "said"),
    [
        pytest.param("ufw disable", "ufw: is inactive", id="disabled"),
        pytest.param("systemctl disable ufw", "ufw.service: does not start at boot", id="not-at-boot"),
        pytest.param("systemctl mask ufw", "ufw.service: does not start at boot", id="masked"),
        pytest.param("iptables -D ufw-user-input -p udp --dport 4001 -j ACCEPT", "ufw-user-input lacks", id="ipv4-rule-deleted"),
        pytest.param("ip6tables -I ufw6-user-input -p tcp --dport 9 -j ACCEPT", "ufw6-user-input holds", id="ipv6-rule-added"),
        pytest.param("ip6tables -P INPUT ACCEPT", "policy of INPUT (ufw6) is ACCEPT, not DROP", id="policy"),
        pytest.param("iptables -D FORWARD -j ufw-before-forward", "FORWARD does not go through all chains", id="jump"),
        pytest.param("iptables -F ufw-after-input", "ufw-after-input lacks rules", id="frame"),
        pytest.param("ufw default allow incoming", "default incoming: is allow, wanted deny", id="default"),
        pytest.param("ufw logging off", "logging: is off, wanted low", id="logging"),
        pytest.param("ufw delete allow 4001", "allow 4001 from any (node/libp2p): missing", id="rule-deleted"),
        pytest.param("ufw deny 4001 comment hearth:node/old", "deny 4001 from any (node/old): stale", id="rule-replaced"),
        pytest.param("sed -i /4001/d /etc/ufw/user6.rules", "IPv6 only: allow 4001 from any (node/libp2p): missing", id="file-edited"),
    ],
)
def test_what_a_person_does_is_observed_and_repaired(open_host: Host, mutation: str, said: str) -> None:
    open_host.shell(mutation)
    result = open_host.converge(SSH, NODE)
    assert any(said in item for item in items(result)), items(result)
    assert not open_host.converge(SSH, NODE)["changed"]
    assert open_host.reachable(PORT) == [True, True]


def test_ten_rules_come_and_go_in_one_call_each(host: Host) -> None:
    rules = [{"owner": f"node/{port}", "port": str(port), "proto": "tcp"} for port in range(5001, 5011)]
    assert [one["action"] for one in host.converge(SSH, *rules)["differences"]] == ["add"] * 10
    assert not host.converge(SSH, *rules)["changed"]
    assert len(host.converge(SSH)["differences"]) == 10
    assert not host.converge(SSH)["changed"]
