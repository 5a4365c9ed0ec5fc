# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify.yml and status.yml on the converged lab: `pytest tests/integration/test_verify.py`, after `make demo`.

Two hosts are tampered with in every way that the audit knows, all at once; each must be found, and nothing afterwards.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lab_hosts
import pytest
from lab_hosts import shell

STRAY_PORT = 17422
RELAY2 = lab_hosts.addresses("relay2")
DAEMON = "hearth-test-verify.service"
DROP_IN = "/etc/systemd/system/kontinuum-node-server.service.d/hearth-test.conf"

TAMPER_RELAY2 = f"""
set -e
cp -p /etc/nats-server/nats.json /etc/nats-server/.nats.json.hearth-test
echo >> /etc/nats-server/nats.json
mkdir -p {Path(DROP_IN).parent}
printf '[Service]\\nProtectSystem=no\\nProtectHome=no\\nNoNewPrivileges=no\\nPrivateUsers=no\\nSystemCallFilter=\\n' > {DROP_IN}
systemctl daemon-reload
ufw allow 9100/tcp comment 'somebody was here'
ip6tables -D ufw6-user-input -p tcp --dport 4222 -j ACCEPT
nohup python3 -c '
import socket, time
server = socket.create_server(("0.0.0.0", {STRAY_PORT}))
time.sleep(300)' >/dev/null 2>&1 &
stray=$!
echo $stray > /run/hearth-test-stray.pid
# The process becomes one of the service's own, as a port would that a new version of it opens.
pid=$(systemctl show --property=MainPID --value nats-server)
path=$(sed -n 's/^[0-9]*:name=systemd://p' /proc/$pid/cgroup)
root=/sys/fs/cgroup/systemd
if [ -z "$path" ]; then path=$(sed -n 's/^0:://p' /proc/$pid/cgroup); root=/sys/fs/cgroup; fi
echo $stray > $root$path/cgroup.procs
"""
RESTORE_RELAY2 = f"""
kill $(cat /run/hearth-test-stray.pid); rm -f /run/hearth-test-stray.pid
mv -f /etc/nats-server/.nats.json.hearth-test /etc/nats-server/nats.json
rm -f {DROP_IN}; rmdir {Path(DROP_IN).parent}; systemctl daemon-reload
ufw delete allow 9100/tcp
ufw reload
true
"""


class Run(NamedTuple):
    """What a playbook said: exit code, output, and its report."""

    code: int
    output: str
    report: Any


def ansible(host: str, name: str, **arguments: Any) -> dict[str, Any]:
    """Run a module on a host, where it must succeed, and return its result."""
    result = lab_hosts.module(host, name, arguments)
    assert not result["failed"], result["output"]
    return result


def play(name: str, directory: Path, *options: str) -> Run:
    """Run verify or status on the lab, and return what it said."""
    path = directory / f"{name}.json"
    path.unlink(missing_ok=True)
    done = lab_hosts.ansible("ansible-playbook", f"playbooks/{name}.yml", "-e", f"{name}_report={path}", *options, check=False)
    output = done.stdout + done.stderr
    assert path.exists(), output
    return Run(done.returncode, output, json.loads(path.read_text()))


@pytest.fixture(params=["ops1", "relay2"])
def daemon(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a daemon of no consequence, which needs no converged host, and return the host's name."""
    host = request.param
    try:
        shell(host, "true")
    except (AssertionError, OSError, subprocess.SubprocessError):
        pytest.skip(f"the lab's {host} does not answer; tests/lab/lab up starts it")
    unit = f"[Service]\nDynamicUser=yes\nExecStart=/usr/bin/python3 -m http.server --bind :: {STRAY_PORT}\n"
    shell(host, f"printf '{unit}' > /run/systemd/system/{DAEMON} && systemctl daemon-reload && systemctl start {DAEMON}")
    shell(host, f"for i in $(seq 50); do ss -Hltn 'sport = :{STRAY_PORT}' | grep -q . && exit; sleep 0.1; done; exit 1")
    yield host
    shell(host, f"systemctl stop {DAEMON}; rm -rf /run/systemd/system/{DAEMON}*; systemctl daemon-reload")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def clean(scratch: Path) -> Run:
    """Verify the lab as it is; skip where it is not converged, so that nothing is tampered with that was not right before."""
    try:
        shell("relay2", "test -e /etc/nats-server/nats.json")
    except (AssertionError, OSError, subprocess.SubprocessError):
        pytest.skip("the lab is not up and converged; make demo does that")
    return play("verify", scratch)


@pytest.fixture(scope="module")
def tampered(clean: Run, scratch: Path) -> Iterator[Run]:
    """Verify the lab after it was tampered with; put everything back in the end."""
    if not clean.report["verified"]:
        pytest.skip(f"something is wrong already:\n{clean.output}")
    try:
        shell("relay2", TAMPER_RELAY2)
        shell("ops1", "systemctl stop kontinuum-node-admin")
        yield play("verify", scratch)
    finally:
        shell("relay2", RESTORE_RELAY2)
        shell("ops1", "systemctl start kontinuum-node-admin")


def test_f55_a_unit_is_scored_with_its_drop_ins(daemon: str) -> None:
    before = ansible(daemon, "hearth.fleet.exposure", units=[DAEMON, "hearth-test-none.service"], firewall={"enabled": True})["units"]
    assert list(before) == [DAEMON]
    drop_in = f"/run/systemd/system/{DAEMON}.d/strict.conf"
    shell(daemon, f"mkdir -p $(dirname {drop_in}); printf '[Service]\nPrivateDevices=yes\nProtectClock=yes\n' > {drop_in}; systemctl daemon-reload")
    after = ansible(daemon, "hearth.fleet.exposure", units=[DAEMON], firewall={"enabled": True})["units"]
    assert after[DAEMON]["score"] < before[DAEMON]["score"]
    assert after[DAEMON]["drop_ins"] == [drop_in]
    assert after[DAEMON]["causes"]


def test_a_socket_is_given_to_its_unit(daemon: str) -> None:
    sockets = ansible(daemon, "hearth.fleet.exposure", units=[DAEMON], firewall={"enabled": True})["sockets"]
    assert [(one["proto"], one["address"], one["port"]) for one in sockets if one["unit"] == DAEMON] == [("tcp", "::", STRAY_PORT)]
    assert {one["unit"] for one in sockets if one["port"] == 22} == {""}


def test_f49_ports_are_tried_over_ipv4_and_ipv6_all_at_once(daemon: str) -> None:
    addresses = lab_hosts.addresses(daemon)
    firewalled = "on" in shell(daemon, "grep -q ENABLED=yes /etc/ufw/ufw.conf && echo on || true").splitlines()
    probes = [{"address": address, "port": STRAY_PORT} for address in addresses]
    outcomes = [one["outcome"] for one in ansible("anchor1", "hearth.fleet.reach", probes=probes * 20)["probes"]]
    assert set(outcomes) == ({"timed out"} if firewalled else {"open"})


def test_a_converged_fleet_is_verified_as_the_guide_shows_it(clean: Run) -> None:
    assert clean.report["findings"] == []
    assert clean.code == 0
    said = re.search(r"verified: .*, nothing found", clean.output)
    assert said
    assert f"`{said[0]}`" in (lab_hosts.CHECKOUT / "docs/guides/verify.md").read_text()


@pytest.mark.parametrize(
    ("host", "service", "check", "said"),
    [
        pytest.param("ops1", "kontinuum-node-admin", "drift", "kontinuum-node-admin.service: not running", id="a-stopped-service"),
        pytest.param("relay2", "nats-server", "drift", "/etc/nats-server/nats.json: ", id="an-edited-config"),
        pytest.param("relay2", "nats-server", "drift", "config /etc/nats-server/nats.json changed", id="a-pending-reload"),
        pytest.param("relay2", "kontinuum-node-server", "exposure", DROP_IN, id="f55-a-drop-in-that-opens-the-sandbox"),
        pytest.param("relay2", "kontinuum-node-server", "drift", f"drop-in {DROP_IN} is new", id="a-pending-restart"),
        pytest.param("relay2", "kontinuum-node-server", "reach", f"connects to {RELAY2[0]}:9100", id="f51-a-rule-of-somebody-else"),
        pytest.param("relay2", "kontinuum-node-server", "reach", f"connects to [{RELAY2[1]}]:9100", id="f49-over-ipv6-too"),
        pytest.param("relay2", "nats-server", "reach", f"to [{RELAY2[1]}]:4222: timed out", id="f49-a-rule-lost-for-ipv6-alone"),
        pytest.param("relay2", "", "drift", "ufw: the kernel does not hold what /etc/ufw says", id="rules-changed-behind-ufw"),
        pytest.param("relay2", "nats-server", "listening", f"listens on 0.0.0.0:{STRAY_PORT}/tcp", id="a-port-that-nobody-described"),
    ],
)
def test_tampering_is_found(tampered: Run, host: str, service: str, check: str, said: str) -> None:
    findings = [one for one in tampered.report["findings"] if (one["host"], one["service"], one["check"]) == (host, service, check)]
    assert any(said in one["found"] for one in findings), tampered.output
    assert all(one["remedy"] for one in findings)


def test_tampering_with_one_host_is_not_blamed_on_another(tampered: Run) -> None:
    assert {one["host"] for one in tampered.report["findings"]} == {"relay2", "ops1"}


def test_findings_fail_the_run_and_the_table_fits_a_terminal(tampered: Run) -> None:
    assert tampered.code == 2
    table = tampered.output[tampered.output.index("        HOST ") : tampered.output.index("not verified:")]
    assert max(map(len, table.splitlines())) <= 120


def test_status_names_what_waits(tampered: Run, scratch: Path) -> None:
    status = play("status", scratch)
    rows = {(row["host"], row["service"]): row for row in status.report}
    assert status.code == 0
    assert rows["ops1", "kontinuum-node-admin"]["pending"] == ["start"]
    assert rows["ops1", "kontinuum-node-admin"]["ready"] is False
    assert rows["relay2", "nats-server"]["pending"] == ["reload", "differs: config (1)"]
    assert rows["relay2", "kontinuum-node-server"]["pending"] == ["restart"]
    assert rows["relay1", "nats-server"]["ready"] is True
    assert rows["relay1", "nats-server"]["since_seconds"] >= 0


def test_f47_hosts_that_do_not_answer(clean: Run, scratch: Path) -> None:
    """One that may be off, and one that may not: both stand in the table, only the second fails the audit."""
    inventory = scratch / "gone.yml"
    gone = {
        group: {"hosts": {host: {"ansible_host": address, "fleet_addresses": [address]}}}
        for group, host, address in (("tier1", "gone1", f"{lab_hosts.IPV4}.98"), ("tier2", "gone2", f"{lab_hosts.IPV4}.99"))
    }
    inventory.write_text(json.dumps(gone))
    options = ("-i", "inventories/lab", "-i", str(inventory), "--limit", "ops1,gone1,gone2")

    verify = play("verify", scratch, *options)
    assert [(one["host"], one["check"]) for one in verify.report["findings"] if one["host"] != "ops1"] == [("gone1", "look")]
    assert verify.report["offline"] == ["gone2"]
    assert verify.code == 2

    status = play("status", scratch, *options)
    assert {row["host"]: row["state"] for row in status.report if row["host"] != "ops1"} == {"gone1": "unreachable", "gone2": "unreachable"}
    assert status.code == 0
