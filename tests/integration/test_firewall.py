# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall on real hosts of the lab: what is open and closed from another host, and what survives mistakes.

Needs the lab (`tests/lab/lab up`); run with `pytest tests/integration/test_firewall.py`. The hosts are reset at the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests/lab/lab"
SSH_CONFIG = CHECKOUT / ".cache/lab/ssh_config"
HOSTS = json.loads((CHECKOUT / "tests/lab/lab.json").read_text())
IPV4 = os.environ.get("LAB_IPV4_PREFIX") or HOSTS["network"]["ipv4_prefix"]
IPV6 = os.environ.get("LAB_IPV6_PREFIX") or HOSTS["network"]["ipv6_prefix"]

SSH = {"owner": "host/ssh", "port": "22", "proto": "tcp"}
NODE = {"owner": "node/libp2p", "port": "4001"}
PORT = 4001


def shell(host: str, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    argv = ["ssh", "-F", str(SSH_CONFIG), "-o", "ConnectTimeout=5", host, command]
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=90)


class Host:
    """A host of the lab, seen from the controller and from ops1."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        number = HOSTS["hosts"][name]["address"]
        self.addresses = [f"{IPV4}.{number}", f"{IPV6}::{number}"]

    def shell(self, command: str, *, check: bool = True) -> str:
        return shell(self.name, command, check=check).stdout

    def converge(self, *rules: dict[str, str], flags: tuple[str, ...] = (), **settings: Any) -> dict[str, Any]:
        """Run the module as a task does, and return its result."""
        task = {"hearth.fleet.ufw_ruleset": {"rules": list(rules), **settings}, "register": "done", "ignore_errors": True}
        keep = {"ansible.builtin.copy": {"content": "{{ done }}", "dest": str(self.directory / "result.json"), "mode": "0600"}}
        tasks = [task, {**keep, "delegate_to": "localhost", "check_mode": False, "diff": False}]
        playbook = self.directory / "play.yml"
        playbook.write_text(json.dumps([{"hosts": self.name, "gather_facts": False, "tasks": tasks}]))
        argv = [".venv/bin/ansible-playbook", str(playbook), *flags]
        environment = {**os.environ, "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}
        done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        result: dict[str, Any] = json.loads((self.directory / "result.json").read_text())
        return result

    def reachable_from_ops(self, port: int) -> list[bool]:
        """Whether a TCP connection from ops1 gets through, over IPv4 and over IPv6. Somebody must listen on the port."""
        probes = (shell("ops1", f"nc -z -w 2 {address} {port}", check=False) for address in self.addresses)
        return [probe.returncode == 0 for probe in probes]

    def listen(self, *ports: int) -> None:
        for port in ports:
            command = f"python3 -m http.server --bind :: {port}"
            self.shell(f"systemctl stop -q listen-{port} 2>/dev/null; systemd-run -q --collect --unit=listen-{port} {command}")
        time.sleep(1)

    def files(self) -> str:
        return self.shell("sha256sum /etc/default/ufw /etc/ufw/*.rules /etc/ufw/ufw.conf")

    def kernel(self) -> str:
        return self.shell("(iptables-save -t filter; ip6tables-save -t filter) | sed 's/\\[[0-9:]*\\]//; /^#/d'")

    def pending(self) -> str:
        return self.shell("ls /run/hearth/firewall 2>/dev/null; systemctl is-active hearth-firewall-revert.timer", check=False)


@pytest.fixture(scope="module", params=["relay2", "relay1"])
def clean_host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(request.param, tmp_path_factory.mktemp(request.param))
    subprocess.run([LAB, "reset", host.name], check=True, capture_output=True, timeout=180)
    host.listen(PORT, 4002)
    yield host
    subprocess.run([LAB, "reset", host.name], check=True, capture_output=True, timeout=180)


@pytest.fixture
def host(clean_host: Host) -> Host:
    """A host whose firewall lets in SSH alone, by a rule of ours."""
    clean_host.shell("systemctl stop -q hearth-firewall-revert.timer; rm -rf /run/hearth/firewall; ufw --force reset >/dev/null")
    clean_host.converge(SSH)
    return clean_host


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
    assert "active" not in host.pending().splitlines()


def test_f49_ports_open_and_close_in_both_families(host: Host) -> None:
    assert host.reachable_from_ops(PORT) == [False, False]
    host.converge(SSH, NODE)
    assert host.reachable_from_ops(PORT) == [True, True]
    assert host.reachable_from_ops(4002) == [False, False]


def test_f49_a_source_opens_its_own_family_alone(host: Host) -> None:
    ops = HOSTS["hosts"]["ops1"]["address"]
    host.converge(SSH, {**NODE, "source": f"{IPV4}.{ops}"})
    assert host.reachable_from_ops(PORT) == [True, False]
    host.converge(SSH, {**NODE, "source": f"{IPV6}::{ops}"})
    assert host.reachable_from_ops(PORT) == [False, True]


def test_f51_foreign_rules_stay_unless_exclusive(host: Host) -> None:
    host.shell("ufw allow 4002/tcp comment 'a person' && iptables -N f2b-test && iptables -I INPUT -j f2b-test")
    kept = host.converge(SSH, NODE)
    assert "allow 4002/tcp from any [foreign: a person]" in kept["diff"]["after"]
    assert host.reachable_from_ops(4002) == [True, True]
    exclusive = host.converge(SSH, NODE, exclusive=True)
    assert items(exclusive) == ["allow 4002/tcp from any [foreign: a person]: foreign"]
    assert host.reachable_from_ops(4002) == [False, False]
    assert "-A INPUT -j f2b-test" in host.kernel()
    host.shell("iptables -D INPUT -j f2b-test && iptables -X f2b-test")


def test_f52_rules_of_a_removed_service_go(host: Host) -> None:
    host.converge(SSH, NODE)
    result = host.converge(SSH)
    assert items(result) == ["allow 4001 from any (node/libp2p): stale"]
    assert host.reachable_from_ops(PORT) == [False, False]


def test_limit_rejects_the_peer_that_knocks_too_often(host: Host) -> None:
    host.converge(SSH, {**NODE, "proto": "tcp", "action": "limit"})
    knocks = shell("ops1", f"for i in 1 2 3 4 5 6 7 8; do nc -z -w 1 {host.addresses[0]} {PORT} && echo in; done; true")
    assert knocks.stdout.split() == ["in"] * 5


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
    assert host.reachable_from_ops(PORT) == [True, False]
    assert not host.converge(SSH, NODE, ipv6=False)["changed"]
    assert host.converge(SSH, NODE)["confirmed"]
    assert host.reachable_from_ops(PORT) == [True, True]


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
    [pytest.param({}, id="rules"), pytest.param({"defaults": {"incoming": "reject"}}, id="policy"), pytest.param({"ipv6": False}, id="ipv6")],
)
def test_f48_rules_that_cut_ssh_are_reverted(host: Host, settings: dict[str, Any]) -> None:
    files, kernel = host.files(), host.kernel()
    result = host.converge(NODE, keep_connection=False, confirm_seconds=15, **settings)
    assert result["failed"]
    assert result["reverted"]
    assert "the host restored its old ones" in result["msg"]
    assert (host.files(), host.kernel()) == (files, kernel)
    assert host.pending().split() == ["lock", "revert", "inactive"]


def test_f48_a_first_start_of_the_firewall_is_reverted(host: Host) -> None:
    host.shell("ufw --force reset >/dev/null")
    result = host.converge(NODE, keep_connection=False, confirm_seconds=15)
    assert result["reverted"]
    assert "inactive" in host.shell("ufw status; true") or "Status: active" not in host.shell("grep ENABLED /etc/ufw/ufw.conf")
    assert host.reachable_from_ops(4002) == [True, True]
    assert host.converge(SSH, NODE)["confirmed"]
    assert host.reachable_from_ops(4002) == [False, False]


@pytest.fixture
def abandoned(host: Host) -> Iterator[Host]:
    """A host whose new rules cut SSH, and whose controller was killed before it could confirm anything.

    What happens there can only be seen from its console, which `podman exec` stands for.
    """
    arguments = {"rules": [NODE], "keep_connection": False, "confirm_seconds": 25}
    play = [{"hosts": host.name, "gather_facts": False, "tasks": [{"hearth.fleet.ufw_ruleset": arguments}]}]
    playbook = host.directory / "abandoned.yml"
    playbook.write_text(json.dumps(play))
    controller = subprocess.Popen(
        [".venv/bin/ansible-playbook", str(playbook)], cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_until(lambda: "dport 22 " not in console(host, "iptables-save -t filter | grep ufw-user-input"))
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    yield host
    console(host, "systemctl stop hearth-firewall-revert.timer; ufw allow 22/tcp; ufw reload")


def console(host: Host, command: str) -> str:
    argv = ["podman", "exec", host.name, "sh", "-c", command]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60).stdout


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def test_f48_the_host_reverts_when_the_controller_vanishes(abandoned: Host) -> None:
    assert abandoned.reachable_from_ops(22) == [False, False]
    wait_until(lambda: abandoned.reachable_from_ops(22) == [True, True])
    assert not abandoned.converge(SSH)["changed"]


def test_f50_a_reboot_before_the_confirmation_brings_the_old_rules(abandoned: Host) -> None:
    assert b"hearth:host/ssh".hex() in console(abandoned, "cat /etc/ufw/user.rules")
    assert b"hearth:node/libp2p".hex() not in console(abandoned, "cat /etc/ufw/user.rules")
    subprocess.run([LAB, "reboot", abandoned.name], check=True, capture_output=True, timeout=180)
    assert abandoned.reachable_from_ops(22) == [True, True]
    assert not abandoned.converge(SSH)["changed"]
    abandoned.listen(PORT, 4002)


def test_f50_a_commit_that_was_killed_is_finished_by_the_timer(abandoned: Host) -> None:
    """The change was confirmed, one of its files is in place, and the process that moves them dies."""
    killed = (
        "cd /run/hearth/firewall && for name in user.rules user6.rules; do"
        "  cp -p pending/tree/etc/ufw/$name /etc/ufw/.$name.new; echo /etc/ufw/.$name.new /etc/ufw/$name >> pending/moves; done"
        "; mv pending committing; mv /etc/ufw/.user.rules.new /etc/ufw/user.rules"
    )
    console(abandoned, killed)
    wait_until(lambda: "committing" not in console(abandoned, "ls /run/hearth/firewall"))
    for name in ("user.rules", "user6.rules"):
        assert b"hearth:node/libp2p".hex() in console(abandoned, f"cat /etc/ufw/{name}")
    assert ".new" not in console(abandoned, "ls -A /etc/ufw")


def test_f50_a_rules_file_that_iptables_rejects_is_found_first(host: Host) -> None:
    host.shell("cp -p /etc/ufw/before.rules /root/ && sed -i 's/^COMMIT/-A ufw-before-input --nonsense\\nCOMMIT/' /etc/ufw/before.rules")
    kernel = host.kernel()
    result = host.converge(SSH, NODE)
    host.shell("mv /root/before.rules /etc/ufw/before.rules")
    assert result["failed"]
    assert "iptables-restore rejects /etc/ufw/before.rules, nothing was changed" in result["msg"]
    assert host.kernel() == kernel
    assert "active" not in host.pending().split()


def test_check_mode_changes_nothing(host: Host) -> None:
    files, kernel = host.files(), host.kernel()
    result = host.converge(SSH, NODE, flags=("--check", "--diff"))
    assert result["changed"]
    assert "allow 4001 from any (node/libp2p)\n" in result["diff"]["after"]
    assert "libp2p" not in result["diff"]["before"]
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
def test_what_a_person_does_is_observed_and_repaired(host: Host, mutation: str, said: str) -> None:
    host.converge(SSH, NODE)
    host.shell(mutation)
    result = host.converge(SSH, NODE)
    assert any(said in item for item in items(result)), items(result)
    assert not host.converge(SSH, NODE)["changed"]
    assert host.reachable_from_ops(PORT) == [True, True]


def test_ten_rules_in_one_call_beat_ten_commands(host: Host) -> None:
    rules = [{"owner": f"node/{port}", "port": str(port), "proto": "tcp"} for port in range(5001, 5011)]
    start = time.monotonic()
    host.converge(SSH, *rules)
    together = time.monotonic() - start
    assert not host.converge(SSH, *rules)["changed"]
    host.converge(SSH)
    start = time.monotonic()
    for rule in rules:
        host.shell(f"ufw allow {rule['port']}/tcp")
    one_by_one = time.monotonic() - start
    print(f"{host.name}: {together:.1f} s in one call, {one_by_one:.1f} s one by one")
    assert together < one_by_one
