# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts that nobody notices: clients at work while a fleet is upgraded, and for how long each host is down.

The figures of docs/benchmarks.md: ``pytest -s tests/integration/test_rollout_load.py``.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import converged
import lab_hosts
import pytest

HERE = Path(__file__).parent
NATS, NODE = "nats-server", "kontinuum-node-server"
NATS_HOSTS = ["anchor1", "relay1", "relay2"]
NODE_HOSTS = ["relay1", "relay2", "home1", "anchor1"]
# One node more than the lab has otherwise, on a host that runs the message broker.
FOUR_NODES = {
    "nats_servers": [NATS],
    "kontinuum_nodes": [NODE],
    "kontinuum_admins": ["kontinuum-node-admin"],
    "anchor1": [NODE],
}
LOAD_SECONDS = 60
"""How long a client may take to begin, and to end."""
RESTART_LIMIT = 1.2
"""A host may be down so much longer than in a bare restart."""
OVERHEAD_SECONDS = 10.0
"""What a batch may take beyond drain, restart and soak."""

BARE_RESTART = """
import subprocess, sys, time, urllib.request
unit, url = sys.argv[1:]
subprocess.run(["systemctl", "reset-failed", unit], check=True)
began = time.monotonic()
subprocess.run(["systemctl", "restart", unit], check=True)
while True:
    try:
        urllib.request.urlopen(url, timeout=1)
        break
    except OSError:
        time.sleep(0.01)
print(time.monotonic() - began)
"""


@contextlib.contextmanager
def load(command: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Have a client at work until the block ends; what it saw is in the dict then."""
    seen: dict[str, Any] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            if client.stdout.readline() != "running\n":
                pytest.fail(f"no load: {client.communicate(timeout=LOAD_SECONDS)}")
            yield seen
            output, errors = client.communicate(timeout=LOAD_SECONDS)
            assert client.returncode == 0, errors
            seen.update(json.loads(output))
        finally:
            client.kill()


def nats_load() -> list[str]:
    """Return the command of the clients of the cluster, which run here."""
    return [sys.executable, str(HERE / "nats_load.py"), *(f"nats://{lab_hosts.addresses(host)[0]}:4222" for host in NATS_HOSTS)]


def http_load() -> list[str]:
    """Return the command of the clients of the nodes, which run where the firewalls let them in."""
    lab_hosts.shell("ops1", "cat > /tmp/http_load.py", (HERE / "http_load.py").read_bytes())
    urls = [f"http://{lab_hosts.addresses(host)[0]}:9100" for host in NODE_HOSTS]
    return [*lab_hosts.SSH, "ops1", shlex.join(["python3", "/tmp/http_load.py", *urls])]


class Rollouts:
    """Runs rollouts, and reads their reports, which are kept in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def run(self, playbook: str, **variables: Any) -> dict[str, Any]:
        """Run a playbook that must come to a good end; return its report."""
        report = self._directory / f"{len(list(self._directory.glob('*.json')))}.html"
        values = {"rollout_confirm": True, "rollout_report": str(report), "rollout_reports": str(self._directory), **variables}
        done = lab_hosts.ansible("ansible-playbook", playbook, "-e", json.dumps(values))
        assert report.with_suffix(".json").exists(), done.stdout
        document: dict[str, Any] = json.loads(report.with_suffix(".json").read_text())
        assert {row["outcome"] for row in document["rows"]} == {"committed"}, done.stdout
        return document

    def upgrade(self, service: str, hosts: Sequence[str], **variables: Any) -> dict[str, Any]:
        """Upgrade a service of some hosts."""
        return self.run("rolling-upgrade.yml", fleet_hosts=":".join(hosts), rollout_service=service, **variables)

    def rollback(self, service: str, hosts: Sequence[str], **variables: Any) -> dict[str, Any]:
        """Bring a service of some hosts back to the release before."""
        return self.run("rollback.yml", fleet_hosts=":".join(hosts), rollout_service=service, **variables)


@pytest.fixture
def rollouts(tmp_path: Path) -> Rollouts:
    return Rollouts(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def fleet() -> None:
    converged.site()


@pytest.fixture
def old_cluster() -> Iterator[None]:
    """Have the cluster at its oldest release, with nothing stored: no release reads what a later one has written."""

    def renew() -> None:
        paths = f"/opt/{NATS} /var/lib/{NATS}/jetstream /var/lib/hearth/rollout/{NATS}"
        converged.shell(",".join(NATS_HOSTS), f"systemctl stop {NATS} || true; rm -rf {paths}")
        converged.site("--limit", ",".join(NATS_HOSTS))

    renew()
    yield
    renew()


@pytest.fixture
def four_nodes() -> Iterator[dict[str, Any]]:
    """Return the variables of a fleet in which four hosts run a node, as they do meanwhile."""
    variables = {"fleet_placement": FOUR_NODES}
    converged.site("-e", json.dumps(variables), "--limit", ",".join([*NODE_HOSTS, "ops1"]))
    yield variables
    converged.site("--limit", "anchor1,ops1")


def versions(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(row["from"], row["to"]) for row in document["rows"]}


def tell(what: str, **figures: Any) -> None:
    """Print figures for docs/benchmarks.md."""
    print(f"{what}: {json.dumps(figures)}", file=sys.stderr)


def overheads(document: Mapping[str, Any]) -> list[float]:
    """Return for each batch the seconds that it took beyond drain, restart and soak, up to the begin of the next or the end."""
    begins = [batch["started"] for batch in document["batches"]]
    took = [end - begin for begin, end in zip(begins, [*begins[1:], document["ended"]], strict=True)]
    return [round(seconds - _meant(document, batch), 2) for seconds, batch in zip(took, document["batches"], strict=True)]


def _meant(document: Mapping[str, Any], batch: Mapping[str, Any]) -> float:
    """Return the seconds that the slowest host of a batch spent in what cannot be saved."""
    meant = ("drain", "stop", "start", "ready", "soak")
    rows = [row for row in document["rows"] if (row["service"], row["batch"]) == (batch["service"], batch["number"])]
    return max(sum(phase["seconds"] for phase in row["phases"] if phase["phase"] in meant) for row in rows)


def check_overhead(what: str, *documents: Mapping[str, Any]) -> None:
    """Print what the batches cost, and hold that to the target."""
    found = [seconds for document in documents for seconds in overheads(document)]
    first = [round(min(batch["started"] for batch in document["batches"]) - document["started"], 2) for document in documents]
    tell(f"overhead, {what}", per_batch=found, median=statistics.median(found), before_the_first=first)
    assert statistics.median(found) <= OVERHEAD_SECONDS


@pytest.mark.usefixtures("old_cluster")
def test_no_acknowledged_message_is_lost_while_a_nats_cluster_is_upgraded(rollouts: Rollouts) -> None:
    with load(nats_load()) as seen:
        documents = [rollouts.upgrade(NATS, NATS_HOSTS, lab_nats_version=version) for version in ("2.12.8", "2.14.6")]
    tell("load, nats-server", **seen)
    assert [versions(document) for document in documents] == [{("2.11.11", "2.12.8")}, {("2.12.8", "2.14.6")}]
    assert {"2.11.11", "2.14.6"} <= set(seen["versions"]), "the clients saw the old release and the new one"
    assert seen["redirects"] > 0, "the servers asked clients to leave before they stopped"
    assert seen["published"] > 1000
    assert (seen["lost"], seen["unread"], seen["stored_twice"], seen["failed"]) == ([], [], [], [])
    check_overhead("nats-server", *documents)


def test_no_request_fails_while_nodes_are_upgraded_and_rolled_back(rollouts: Rollouts, four_nodes: Mapping[str, Any]) -> None:
    with load(http_load()) as seen:
        forward = rollouts.upgrade(NODE, NODE_HOSTS, lab_kontinuum_version="1.0.1", **four_nodes)
        back = rollouts.rollback(NODE, NODE_HOSTS, **four_nodes)
    tell("load, kontinuum-node-server", **seen)
    assert (versions(forward), versions(back)) == ({("1.0.0", "1.0.1")}, {("1.0.1", "1.0.0")})
    assert all(seconds > 1 for seconds in seen["unready"].values()), "every node was out of use"
    assert len(seen["answered"]) == len(NODE_HOSTS)
    assert (seen["failed"], seen["none_ready"]) == ([], 0)
    check_overhead("kontinuum-node-server", forward, back)


def bare_restart(host: str, unit: str, url: str) -> float:
    """Restart a daemon without more ado; return the seconds until it was ready."""
    return float(lab_hosts.shell(host, f"python3 - {unit} {url}", BARE_RESTART.encode()))


def check_downtime(service: str, ready: str, rollout: Iterator[dict[str, Any]], runs: int) -> None:
    """Compare how long rollouts and bare restarts take a service of relay2 down, one after the other."""
    bare, rolled = [], []
    for _run in range(runs):
        bare.append(bare_restart("relay2", service, ready))
        rolled.append(next(rollout)["downtime_max"])
    ratio = statistics.median(rolled) / statistics.median(bare)
    tell(f"stop to ready, {service}", bare=[round(seconds, 3) for seconds in bare], rollout=rolled, ratio=round(ratio, 2))
    assert ratio <= RESTART_LIMIT


def test_an_upgrade_takes_a_node_down_no_longer_than_a_restart(rollouts: Rollouts) -> None:
    def there_and_back() -> Iterator[dict[str, Any]]:
        while True:
            yield rollouts.upgrade(NODE, NODE_HOSTS[:3], rollout_hosts="relay2", lab_kontinuum_version="1.0.1")
            yield rollouts.rollback(NODE, NODE_HOSTS[:3], rollout_hosts="relay2")

    check_downtime(NODE, "http://127.0.0.1:9100/readyz", there_and_back(), runs=6)


def test_a_rollout_takes_nats_down_no_longer_than_a_restart(rollouts: Rollouts) -> None:
    def restarts() -> Iterator[dict[str, Any]]:
        while True:
            yield rollouts.upgrade(NATS, NATS_HOSTS, rollout_hosts="relay2", rollout_restart=True)

    check_downtime(NATS, "http://127.0.0.1:8222/healthz", restarts(), runs=3)
