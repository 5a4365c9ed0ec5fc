# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts of the simulated node on hosts of the lab: run, killed and caught in the middle, and what they leave on the hosts.

Every test begins with the old release; ``Fleet.begin`` sees to it, by putting files back rather than by converging.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import converged
import lab_hosts

NODE = "kontinuum-node-server"
NODES = ("home1", "relay1", "relay2")
"""In the order of a rollout: the canary first."""
OLD, NEW = "1.0.0", "1.0.1"
CONFIG = "/etc/kontinuum-node/node.toml"
ROLLOUT = "/var/lib/hearth/rollout"
READY = "http://127.0.0.1:9100/readyz"
FAULT = "http://127.0.0.1:9100/fault"
SILENCE = "INPUT --protocol tcp --dport 22 --jump DROP"
END_SECONDS = 60
"""A host ends by itself within its deadlines, which ``QUICK`` keeps short."""

QUICK = {"health": {"deadline": "6s"}, "drain": {"deadline": "4s", "grace": "0s"}, "rollout": {"soak": "2s"}}
SMALL = {"resources": {"memory_max": "512M"}, "config": [{"path": CONFIG, "content": {"storage": {"max_total_gb": 10}, "node": {"tier": 2}}}]}
"""What the lab's inventory says of tier2, which an extra variable would hide."""
NEW_CONFIG = {"config": [{"path": CONFIG, "content": {"node": {"geo_zone": "next"}}}]}
"""A change of the config that comes with the new release, so that both must go there and back together."""

BASELINE = "/var/tmp/hearth-test-baseline.tar"
KEPT = f"etc/kontinuum-node etc/systemd/system/{NODE}.service opt/{NODE} var/lib/kontinuum-node"

FORGET = f"""
systemctl stop {NODE} 'hearth-rollout-{NODE}.service'
systemctl reset-failed '{NODE}*' 'hearth-rollout-{NODE}*' 2>/dev/null
umount --quiet /opt/{NODE} {ROLLOUT}/{NODE} 2>/dev/null
rm -rf {ROLLOUT}/{NODE} {ROLLOUT}/lock.json /opt/{NODE} /var/lib/kontinuum-node/data
true
"""

RESTORE = f"""
{FORGET}
set -e
tar -C / -xf {BASELINE}
systemctl daemon-reload
systemctl start {NODE}
for _ in $(seq 100); do curl -fs -o /dev/null {READY} && exit; sleep 0.1; done
exit 1
"""

LOOK = """
import hashlib, json, os, sqlite3, subprocess, sys, urllib.error, urllib.request
node, config = sys.argv[1:]
def ask(path):
    try:
        with urllib.request.urlopen("http://127.0.0.1:9100" + path, timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return {}
def link(name):
    try:
        return os.path.basename(os.readlink("/opt/%s/%s" % (node, name)))
    except OSError:
        return ""
def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
database = sqlite3.connect("/var/lib/kontinuum-node/data/node.db")
show = ["systemctl", "show", "--property=MainPID", "--value", node]
print(json.dumps({
    "current": link("current"),
    "previous": link("previous"),
    "says": ask("/version").get("version", ""),
    "ready": ask("/readyz").get("ready", False),
    "draining": ask("/drain").get("draining", False),
    "config": digest(config),
    "unit": digest("/etc/systemd/system/%s.service" % node),
    "schema": database.execute("PRAGMA user_version").fetchone()[0],
    "pid": int(subprocess.run(show, capture_output=True, text=True, check=True).stdout),
}))
"""

# Stops the engine at the moment when it begins a phase, and prints its process and where it has come to.
CATCH = """
import glob, json, os, signal, sys, time
home, phase = sys.argv[1:]
end = time.monotonic() + 90
def lines():
    try:
        with open(home + "/active/journal.jsonl") as file:
            return [json.loads(line) for line in file if line.endswith("\\n")]
    except OSError:
        return []
def engine():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path) as file:
                words = file.read().split("\\0")
        except OSError:
            continue
        if words[-5:-3] == ["transaction", "run"] and "systemd-run" not in words[0]:
            return int(path.split("/")[2])
    return 0
def wait(true):
    while not true():
        if time.monotonic() > end:
            sys.exit("not within 90 s; the journal: %s" % lines())
        time.sleep(0.0005)
if phase == "prepared":
    wait(lambda: glob.glob(home + "/*/order.json"))
    print(0, "prepared")
    sys.exit()
wait(lines)
wait(engine)
process = engine()
wait(lambda: any((line["phase"], line["event"]) == (phase, "begin") for line in lines()))
os.kill(process, signal.SIGSTOP)
print(process, [line["phase"] for line in lines() if line["event"] == "begin"][-1])
"""


def state(host: str) -> dict[str, Any]:
    """Return where the last transaction of a host stands; empty for none."""
    found = json.loads(lab_hosts.shell(host, f"hearthctl status {NODE} --json || true"))
    return found[0]["transaction"] or {} if found else {}


def look(host: str) -> dict[str, Any]:
    """Return which release and files a host has, and what its node says."""
    found: dict[str, Any] = json.loads(lab_hosts.shell(host, f"python3 - {NODE} {CONFIG}", LOOK.encode()))
    return found


def outcome(host: str) -> str:
    """Wait until a host's transaction has ended by itself; return how."""
    lab_hosts.wait_until(lambda: bool(state(host).get("outcome")), END_SECONDS)
    return str(state(host)["outcome"])


def locked(hosts: Sequence[str]) -> list[str]:
    """Return on which hosts a rollout lock lies."""
    return [host for host in hosts if lab_hosts.shell(host, f"ls {ROLLOUT}").count("lock.json")]


def lock(host: str) -> dict[str, Any]:
    """Return the rollout lock of a host."""
    found: dict[str, Any] = json.loads(lab_hosts.shell(host, f"cat {ROLLOUT}/lock.json"))
    return found


def fault(host: str, **faults: Any) -> None:
    """Set faults of the node that runs on a host."""
    lab_hosts.shell(host, f"curl -fsS -o /dev/null -X POST -d '{json.dumps(faults)}' {FAULT}")


def on_phase_script(phase: str, script: str) -> str:
    """Return a shell script that waits until a host's transaction has begun a phase, and then goes on with another one."""
    begun = f'"phase":"{phase}","event":"begin"'
    journal = f"{ROLLOUT}/{NODE}/active/journal.jsonl"
    return f"for _ in $(seq 4000); do grep -qs '{begun}' {journal} && break; sleep 0.02; done\n{script}"


def on_phase(host: str, phase: str, script: str) -> str:
    """Wait on a host until its transaction has begun a phase, then run a shell script there."""
    return lab_hosts.shell(host, on_phase_script(phase, script))


def cut_off(seconds: int) -> str:
    """Return a shell script that lets a host hear nothing over SSH any more for so long, without a word to those who ask."""
    timer = f"--unit=hearth-test-heal --on-active={seconds} --timer-property=AccuracySec=1s"
    again = f"systemd-run --quiet --collect {timer} iptables --delete {SILENCE}"
    return f"{again} && iptables --insert {SILENCE}"


@contextlib.contextmanager
def meanwhile(function: Any, *arguments: Any) -> Iterator[Future[Any]]:
    """Have a function at work beside the block; it must succeed."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(function, *arguments)
        yield doing
        doing.result()


def catch(host: str, phase: str) -> tuple[int, str]:
    """Stop the engine of a host at the moment when it begins a phase; return its process and the last phase that it began."""
    process, begun = lab_hosts.shell(host, f"python3 - {ROLLOUT}/{NODE} {phase}", CATCH.encode()).split()
    return int(process), begun


def flat(said: str) -> str:
    """Return what a playbook says on one line; long texts are folded."""
    return " ".join(said.split())


class Fleet:
    """Some hosts with the old release, and rollouts on them."""

    _ready: ClassVar[set[str]] = set()
    """Hosts whose old release has been kept, so that every test can begin with it."""

    def __init__(self, directory: Path, hosts: Sequence[str] = NODES) -> None:
        self.directory = directory
        self.hosts = tuple(hosts)

    def begin(self) -> Fleet:
        """Bring the hosts to the old release."""
        fresh = [host for host in self.hosts if host not in self._ready]
        if fresh:
            self._keep(fresh)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: lab_hosts.shell(host, RESTORE), self.hosts))
        return self

    def _keep(self, hosts: Sequence[str]) -> None:
        converged.shell(",".join(hosts), FORGET)
        converged.site("--limit", ",".join(hosts))
        converged.shell(",".join(hosts), f"systemctl stop {NODE} && tar -C / -cf {BASELINE} {KEPT}")
        self._ready.update(hosts)

    @classmethod
    def end(cls) -> None:
        """Leave hosts as site.yml would have them."""
        hosts = ",".join(sorted(cls._ready))
        if hosts:
            converged.shell(hosts, f"{FORGET} rm -f {BASELINE}")
            converged.site("--limit", hosts)
        cls._ready.clear()

    def command(self, playbook: str, version: str, *layers: Mapping[str, Any], **variables: Any) -> list[str]:
        """Return the arguments of ansible-playbook. ``layers`` change the service everywhere, the later ones winning key by key."""
        alone = {} if len(self.hosts) == len(NODES) else {"min_available": 0}
        service: dict[str, Any] = {**QUICK, **alone}
        for layer in layers:
            service.update(layer)
        values = {
            "fleet_hosts": ":".join(self.hosts),
            "fleet_overrides": {"tier2": {NODE: SMALL}, "kontinuum_nodes": {NODE: service}},
            "lab_kontinuum_version": version,
            "rollout_confirm": True,
            "rollout_report": str(self.directory / "report.html"),
            "rollout_reports": str(self.directory),
            **({} if playbook == "site.yml" else {"rollout_service": [NODE]}),
            **variables,
        }
        return [playbook, "-e", json.dumps(values)]

    def run(
        self, version: str, *layers: Mapping[str, Any], playbook: str = "rolling-upgrade.yml", **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook, which may fail."""
        return lab_hosts.ansible("ansible-playbook", *self.command(playbook, version, *layers, **variables), check=False)

    def good(self, version: str, *layers: Mapping[str, Any], **options: Any) -> str:
        """Run a playbook that must come to a good end; return what it says."""
        done = self.run(version, *layers, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def bad(self, version: str, *layers: Mapping[str, Any], **options: Any) -> str:
        """Run a playbook that must fail; return what it says, on one line."""
        done = self.run(version, *layers, **options)
        assert done.returncode != 0, done.stdout + done.stderr
        return flat(done.stdout + done.stderr)

    def start(self, version: str, *layers: Mapping[str, Any], **variables: Any) -> subprocess.Popen[str]:
        """Start rolling-upgrade.yml."""
        return lab_hosts.start_ansible("ansible-playbook", *self.command("rolling-upgrade.yml", version, *layers, **variables))

    def report(self) -> dict[str, Any]:
        """Return the report of the last rollout."""
        found: dict[str, Any] = json.loads((self.directory / "report.json").read_text())
        return found

    def looks(self) -> dict[str, dict[str, Any]]:
        """Return ``look`` of every host."""
        with ThreadPoolExecutor() as pool:
            return dict(zip(self.hosts, pool.map(look, self.hosts), strict=True))

    def check_untouched(self, before: Mapping[str, Any], *hosts: str) -> None:
        """Hold hosts, or all, to what they were: the same processes, the same files."""
        now = self.looks()
        for host in hosts or self.hosts:
            assert now[host] == before[host], host


def consistent(found: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Return whether a host serves one whole release: binary and config both old, or both new (with ``NEW_CONFIG``)."""
    is_old = found["current"] == old["current"]
    return bool(found["ready"] and not found["draining"] and found["says"] == found["current"] and (found["config"] == old["config"]) == is_old)
