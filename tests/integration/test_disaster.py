# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is lost: relay1 becomes bare Debian again, and comes back with its identity and its data."""

from __future__ import annotations

import json
import time

import converged
import lab_hosts
import pytest
from lab_hosts import shell

HOST, STORE = "relay1", "ops1"
SERVICE = "kontinuum-node-server"
KEY = "/var/lib/kontinuum-node/keys/node.key"
VALUE = "http://127.0.0.1:9100/kv/disaster"
PLACEMENT = json.dumps({"fleet_placement": {"storage": ["object-store", "store-gate"], HOST: [SERVICE]}})
"""Without the broker, which would wait for its cluster."""


def digest() -> str:
    return shell(HOST, f"sha256sum {KEY}").split()[0]


def site(limit: str) -> str:
    return converged.site("--limit", limit, "-e", PLACEMENT).stdout


def empty_store() -> None:
    """Remove what earlier tests stored of the host; the server is started anew, as it remembers what directories held."""
    shell(STORE, f"rm -rf /var/lib/object-store/buckets/backups/v1/*/{HOST}; systemctl restart object-store")
    lab_hosts.wait_until(lambda: shell(STORE, "curl -s -o /dev/null http://127.0.0.1:9000/ && echo up; true") == "up\n")


def test_a_lost_host_comes_back_with_its_identity_and_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    converged.reset(HOST)
    site(STORE)
    empty_store()
    site(HOST)
    shell(HOST, f"curl -fsS -X PUT --data-binary kept {VALUE}")
    shell(HOST, f"systemctl start hearth-backup-{SERVICE}.data.service hearth-backup-{SERVICE}.identity.service")
    identity = digest()

    converged.reset(HOST)
    begun = time.monotonic()
    site(HOST)
    assert digest() != identity, "until the restore, the host is another one"
    for one in ("identity", "data"):
        variables = f"restore_service={SERVICE} restore_set={one}"
        lab_hosts.ansible("ansible-playbook", "playbooks/restore.yml", "--limit", HOST, "-e", PLACEMENT, "-e", variables)
    seconds = time.monotonic() - begun

    assert digest() == identity
    assert shell(HOST, f"curl -fsS {VALUE}") == "kept"
    assert "changed=0" in site(HOST), "and it is what the inventory says"
    with capsys.disabled():
        print(f"\nfrom bare Debian to ready with identity and data: {seconds:.0f} s")
