# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that cannot carry their services stop the run before anything is changed; hosts that are off do not.

ops1 always has something to do; what a run would do to it shows whether it came so far.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import lab_hosts
import pytest

NODE, ADMIN = "kontinuum-node-server", "kontinuum-node-admin"
DUE = "TASK [Show what differs]"
STOPPED = "home1 cannot carry its services: "

TOO_SMALL = {"fleet_tiers": {"tier2": {"requires": {"cpus": 4096}, "offline": "skip"}}}
WITHOUT_DIGEST = {NODE: {"artifact": {"sha256": {"amd64": None}}}}

# Nobody listens there.
OFF = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "", "fleet_addresses": []}


def site(
    limit: str, *arguments: str, variables: dict[str, Any] | None = None, home1: dict[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run site.yml on hosts of the lab, with a change for ops1."""
    overrides = {"ops1": {ADMIN: {"environment": {"CHANGED": "yes"}}}, "home1": home1 or {}}
    extra = json.dumps({"fleet_overrides": overrides, **(variables or {})})
    return lab_hosts.ansible("ansible-playbook", "site.yml", "--limit", limit, "-e", extra, *arguments, check=False)


def state(host: str) -> str:
    """Return a digest of everything that a run could change on a host."""
    return lab_hosts.shell(host, "find /etc /opt /usr/local /var/lib/hearth -printf '%p %T@ %m %l\\n' 2>/dev/null | sort | sha256sum")


@pytest.mark.parametrize(
    ("variables", "home1", "found", "forgiven"),
    [
        pytest.param(TOO_SMALL, {}, "cpus: ", "preflight_on_finding: {cpus: warn}", id="too-small"),
        pytest.param({}, WITHOUT_DIGEST, "digest: no digest for amd64, which this host needs", None, id="no-digest-for-its-architecture"),
    ],
)
def test_a_host_that_cannot_carry_its_services_stops_the_run_before_anything_is_changed(
    variables: dict[str, Any], home1: dict[str, Any], found: str, forgiven: str | None
) -> None:
    before = state("ops1"), state("home1")
    done = site("ops1,home1", variables=variables, home1=home1)
    assert done.returncode == 2
    assert STOPPED + found in done.stdout
    assert "to go on with the others meanwhile: --limit 'ops1,home1:!home1'" in done.stdout
    assert ("to go on regardless: " in done.stdout) == bool(forgiven)
    assert forgiven is None or forgiven in done.stdout
    assert DUE not in done.stdout
    assert (state("ops1"), state("home1")) == before


def test_what_the_error_says_goes_on_with_the_others() -> None:
    without = site("ops1,home1:!home1", "--check", variables=TOO_SMALL)
    assert (without.returncode, DUE in without.stdout) == (0, True), without.stdout
    regardless = site("ops1,home1", "--check", variables={**TOO_SMALL, "preflight_on_finding": {"cpus": "warn"}})
    assert STOPPED not in regardless.stdout
    assert DUE in regardless.stdout


@pytest.mark.parametrize(
    ("tier", "status"),
    [
        pytest.param("tier2", 0, id="may-be-off"),
        pytest.param("tier1", 4, id="may-not-be-off"),  # Ansible's status for a host that it cannot reach
    ],
)
def test_f47_hosts_that_are_off_do_not_stop_the_others(tmp_path: Path, tier: str, status: int) -> None:
    inventory = tmp_path / "off.json"
    inventory.write_text(json.dumps({tier: {"hosts": {"gone1": OFF}}}))
    done = site("ops1,gone1", "--check", "-i", str(lab_hosts.CHECKOUT / "inventories/lab"), "-i", str(inventory))
    assert done.returncode == status, done.stdout
    assert "gone1" in done.stdout
    assert DUE in done.stdout
