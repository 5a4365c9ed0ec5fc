# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml on a running fleet: what it changes, what it leaves alone, and what it says."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator

import converged
import lab_hosts
import pytest

NODE, NATS = "kontinuum-node-server", "nats-server"
NODES = "relay1,relay2,home1"


@pytest.fixture(scope="module", autouse=True)
def fleet() -> Iterator[None]:
    converged.site()
    yield
    converged.site()


def said(host: str, command: str) -> str:
    """Return what a command prints on a host."""
    return lab_hosts.shell(host, command).strip()


def pid(host: str, unit: str = NODE) -> str:
    return said(host, f"systemctl show --property=MainPID --value {unit}")


def overrides(layer: str, service: str, **description: object) -> tuple[str, str]:
    return ("-e", json.dumps({"fleet_overrides": {layer: {service: description}}}))


def test_a_second_run_changes_nothing_and_neither_does_a_check() -> None:
    assert set(converged.changes(converged.site()).values()) == {0}
    assert set(converged.changes(converged.site("--check", "--diff")).values()) == {0}


def test_hosts_are_looked_at_alike_whichever_way_ansible_reaches_their_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(**connection: object) -> tuple[dict[str, int], str]:
        arguments = ("--check", "-vvv", "--limit", "relay1,home1", "-e", json.dumps(connection))
        done = converged.site(*arguments, *overrides("kontinuum_nodes", NODE, resources={"memory_max": "900M"}))
        return converged.changes(done), done.stdout

    planned, output = plan()
    assert set(planned.values()) != {0}
    assert "the module is asked instead" not in output
    by_discovery, _output = plan(ansible_python_interpreter="auto_silent")
    without_the_setting, output = plan(ansible_pipelining=False)
    assert "AnsiballZ_observe.py" not in output
    monkeypatch.setenv("ANSIBLE_KEEP_REMOTE_FILES", "true")
    by_files, output = plan(ansible_pipelining=False)
    assert "AnsiballZ_observe.py" in output
    assert planned == by_discovery == without_the_setting == by_files


def test_what_must_restart_restarts_one_host_after_the_other() -> None:
    before = {host: pid(host) for host in NODES.split(",")}
    converged.site("--limit", NODES, *overrides("kontinuum_nodes", NODE, resources={"memory_max": "900M"}))
    assert all(pid(host) != before[host] for host in before)
    started = {host: said(host, f"TZ=UTC systemctl show --property=ExecMainStartTimestampMonotonic --value {NODE}") for host in before}
    ready = {host: said(host, f"TZ=UTC systemctl show --property=ActiveEnterTimestampMonotonic --value {NODE}") for host in before}
    # The hosts share one kernel, so their monotonic clocks can be compared.
    order = sorted(before, key=lambda host: int(started[host]))
    assert all(int(ready[first]) < int(started[second]) for first, second in itertools.pairwise(order))


def test_what_needs_a_service_runs_again_after_the_restart_of_that() -> None:
    gate = {"unit": {"requires": ["object-store"]}}
    needing = {"fleet_overrides": {"ops1": {"store-gate": gate}}}
    converged.site("--limit", "ops1", "-e", json.dumps(needing))
    before = pid("ops1", "store-gate"), pid("ops1", "object-store")
    needing["fleet_overrides"]["ops1"]["object-store"] = {"resources": {"memory_max": "500M"}}
    output = converged.site("--limit", "ops1", "-e", json.dumps(needing)).stdout
    assert "stopped, and with it store-gate.service" in output
    after = pid("ops1", "store-gate"), pid("ops1", "object-store")
    assert "0" not in after
    assert not set(before) & set(after)


def test_what_can_be_reloaded_is_not_restarted() -> None:
    converged.site()
    before = pid("relay1")
    config = {"path": "/etc/kontinuum-node/node.toml", "content": {"node": {"log_level": "debug"}}}
    converged.site("--limit", "relay1", *overrides("relay1", NODE, config=[config]))
    assert pid("relay1") == before
    assert "debug" in said("relay1", "curl -fsS http://127.0.0.1:9100/version")


def test_a_restart_that_an_aborted_run_owes_is_made_by_the_next() -> None:
    converged.site()
    before = pid("relay1", NATS)
    # The aborted run: it wrote the config and died before it came to the restart.
    converged.shell("relay1", "sed -i 's/30s/31s/' /etc/nats-server/nats.json; systemctl kill --signal=KILL nats-server; sleep 7")
    between = pid("relay1", NATS)
    assert between not in (before, "0")
    converged.site("--limit", "relay1")
    assert pid("relay1", NATS) == between, "a reload was enough"
    assert converged.shell("relay1", "grep -c 30s /etc/nats-server/nats.json; journalctl -u nats-server -o cat -n 20 | grep -i reload")


def test_a_new_version_of_a_running_service_is_staged_and_its_config_is_held() -> None:
    converged.site()
    before = pid("relay1")
    config = {"path": "/etc/kontinuum-node/node.toml", "content": {"storage": {"max_total_gb": 77}}}
    done = converged.site("--limit", "relay1", "-e", "lab_kontinuum_version=1.0.1", *overrides("relay1", NODE, config=[config]))
    assert "waits for a rollout" in done.stdout
    assert pid("relay1") == before
    assert said("relay1", f"readlink /opt/{NODE}/current") == "releases/1.0.0"
    assert said("relay1", f"ls /opt/{NODE}/releases").split() == ["1.0.0", "1.0.1"]
    assert "77" not in said("relay1", "cat /etc/kontinuum-node/node.toml")
    again = converged.site("--limit", "relay1", "-e", "lab_kontinuum_version=1.0.1", *overrides("relay1", NODE, config=[config]))
    assert converged.changes(again) == {"relay1": 0}


def test_f29_a_release_with_another_digest_leaves_the_host_untouched() -> None:
    before = said("relay2", "find /opt /etc/nats-server /usr/local/bin -printf '%p %T@ %m %l\\n' | sort | sha256sum")
    wrong = {"artifact": {"sha256": {"amd64": "0" * 64}}, "version": "9.9.9"}
    done = converged.site("--limit", "relay2", *overrides("relay2", NATS, **wrong), check=False)
    assert done.returncode == 2
    assert said("relay2", "find /opt /etc/nats-server /usr/local/bin -printf '%p %T@ %m %l\\n' | sort | sha256sum") == before


def test_f52_a_service_that_leaves_the_catalogue_stops_and_its_ports_close() -> None:
    converged.site()
    placement = {"kontinuum_nodes": [NODE], "kontinuum_admins": ["kontinuum-node-admin"], "anchor1": [NATS], "relay2": [NATS]}
    converged.site("--limit", "relay1", "-e", json.dumps({"fleet_placement": placement}))
    assert said("relay1", f"systemctl is-active {NATS} || true") == "inactive"
    assert "4222" not in said("relay1", "ufw status")
    for address in lab_hosts.addresses("relay1"):
        assert "closed" in said("ops1", f"nc -z -w 2 {address} 4222 || echo closed")
    assert said("relay1", "ls /var/lib/nats-server /etc/nats-server"), "data and config stay"


def test_f52_an_inventory_without_any_placement_takes_no_service_away() -> None:
    """As one whose group_vars were not found has none; on purpose, it can be said."""
    converged.site("--limit", "relay1")
    before = pid("relay1")
    nowhere = ("--limit", "relay1", "-e", json.dumps({"fleet_placement": {}}))
    for more in ((), ("--check",)):
        done = converged.site(*nowhere, *more, check=False)
        assert done.returncode == 2
        assert f"no host of this inventory has a service, and {NODE}, {NATS} would be taken from this one" in " ".join(
            (done.stdout + done.stderr).split()
        )
    assert pid("relay1") == before
    converged.site(*nowhere, "-e", json.dumps({"preflight_on_finding": {"placement": "ignore"}}))
    # is-active fails for what is not, and what it prints is wanted all the same.
    assert said("relay1", f"systemctl is-active {NODE} {NATS} || true").split() == ["inactive", "inactive"]
    converged.site("--limit", "relay1")


def test_a_firewall_that_is_not_managed_is_left_alone() -> None:
    """Its rules, and whether it is on; the services behind it are converged all the same, and verified."""
    rules = "cat /etc/ufw/user.rules; ufw status numbered"
    lab_hosts.shell("anchor1", "ufw --force delete 1 && ufw allow 4444/tcp comment theirs && ufw disable")
    lab_hosts.shell("anchor1", "rm /etc/nats-server/nats.json")
    before = said("anchor1", rules)
    done = converged.site("--limit", "anchor1", "-e", "firewall_managed=false")
    assert converged.changes(done)["anchor1"] > 0
    assert said("anchor1", rules) == before
    assert said("anchor1", "test -s /etc/nats-server/nats.json && echo there") == "there"
    assert converged.changes(converged.site("--limit", "anchor1", "-e", "firewall_managed=false"))["anchor1"] == 0
    converged.site("--limit", "anchor1")
    assert "Status: active" in said("anchor1", "ufw status")
    lab_hosts.shell("anchor1", "ufw --force delete allow 4444/tcp")


def test_f47_a_home_host_that_is_off_is_skipped_and_caught_up() -> None:
    converged.site()
    subprocess.run(["podman", "stop", "--time", "5", lab_hosts.container("home1")], check=True, capture_output=True, timeout=60)
    done = converged.site("-e", "ansible_ssh_timeout=3", *overrides("tier2", NODE, environment={"CAUGHT": "up"}))
    assert "home1" in done.stdout
    lab_hosts.lab("up")
    converged.site(*overrides("tier2", NODE, environment={"CAUGHT": "up"}))
    assert "CAUGHT=up" in said("home1", f"cat /etc/systemd/system/{NODE}.service")


def test_f47_a_home_host_that_lets_nobody_in_is_an_error_and_the_others_go_on() -> None:
    nobody = "{{ 'nobody-here' if inventory_hostname == 'home1' else 'root' }}"
    done = converged.site("--limit", "home1,anchor1", "-e", json.dumps({"ansible_user": nobody}), check=False)
    assert done.returncode == 2
    assert "home1 lets nobody in; " in done.stdout
    assert "Permission denied" in done.stdout
    assert "(ansible_user, ansible_ssh_private_key_file)" in " ".join(done.stdout.split())
    assert re.search(r"^anchor1 .*unreachable=0 +failed=0 ", done.stdout, re.MULTILINE)
    assert re.search(r"^home1 .*unreachable=0 +failed=1 ", done.stdout, re.MULTILINE)


def test_f60_secrets_are_in_no_output() -> None:
    secret = "a-token-that-nobody-may-see"
    done = converged.site("--limit", "ops1", "--diff", "-vvv", "-e", f"lab_admin_token={secret}")
    assert secret in said("ops1", "cat /etc/kontinuum-node-admin/kontinuum-node-admin.env")
    # Ansible itself shows what is given on its command line, where nobody should give a secret.
    assert secret not in "\n".join(line for line in (done.stdout + done.stderr).splitlines() if "lab_admin_token" not in line)
    assert secret not in said("ops1", "journalctl --no-pager -o cat | grep -v lab_admin_token")
