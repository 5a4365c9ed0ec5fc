# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the time of a run without changes goes: on the controller by event, on a host by import and by call."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
LAB = BENCH.parent / "lab" / "lab"
RUNS = 5

# Runs the module as Ansible sends it (a zip, compiled at every run), then unpacked, part by part.
ON_THE_HOST = r"""
set -e
cd "$(mktemp -d)"
cp "$(ls -t /root/.ansible/tmp/*/AnsiballZ_observe.py | head -1)" observe.py
rm -r /root/.ansible/tmp
cat >measure.py <<'END'
import re, subprocess, sys, time
def milliseconds(command):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[2]
print(f"{milliseconds([sys.executable, '-c', 'pass']):7.0f} ms  Python starts")
print(f"{milliseconds([sys.executable, 'observe.py']):7.0f} ms  the whole module, of which, by -X importtime:")
said = subprocess.run([sys.executable, "-X", "importtime", "observe.py"], capture_output=True, text=True).stderr
rows = [(int(own), int(whole), name) for own, whole, name in re.findall(r"import time: +(\d+) \| +(\d+) \| +(\S+)", said)]
ours = ".hearth.fleet."
print(f"{next(whole for _own, whole, name in rows if name == 'ansible.module_utils.basic') / 1000:7.1f} ms    ansible.module_utils.basic")
print(f"{sum(own for own, _whole, name in rows if ours in name) / 1000:7.1f} ms    the collection's own files, compiled anew:")
for own, _whole, name in sorted((row for row in rows if ours in row[2]), reverse=True):
    print(f"{own / 1000:7.1f} ms      {name.rpartition('.')[2]}")
END
python3 measure.py
python3 observe.py explode >/dev/null
cat >parts.py <<'END'
import json, sys, time
from pathlib import Path
[unpacked] = Path().glob("**/debug_dir")
sys.path.insert(0, str(unpacked))
from ansible_collections.hearth.fleet.plugins.module_utils import accounts, backup_area, paths, plan, preflight, releases, ufw_rules, units
wanted = json.loads((unpacked / "args").read_text())["ANSIBLE_MODULE_ARGS"]["specs"]
def timed(name, call):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    print(f"{1000 * sorted(times)[2]:7.1f} ms    {name}")
    return result
seen = units.look(wanted["unit"]["units"], others=wanted["backup"]["units"])
observed = timed("plan.look: everything below", lambda: plan.look(wanted, controller_time=time.time(), resolved={}))
timed("  units (systemctl show)", lambda: units.look(wanted["unit"]["units"], others=wanted["backup"]["units"]))
timed("  releases (digest of the release)", lambda: releases.look(wanted["release"], units.running(seen)))
timed("  firewall (iptables-save, ip6tables-save)", lambda: ufw_rules.look(wanted["firewall"]))
timed("  backup", lambda: backup_area.look(wanted["backup"], seen["others"]))
timed("  preflight (dpkg, /proc)", lambda: preflight.look(wanted["preflight"]))
timed("  accounts", lambda: accounts.look(wanted["account"]))
timed("  paths", lambda: paths.look([*wanted["account"]["paths"], *wanted["config"]["paths"], *wanted["unit"]["paths"]]))
timed("plan.plan: comparing", lambda: plan.plan(wanted, observed))
END
python3 parts.py
"""


def timeline(path: Path, start: float) -> list[tuple[float, str]]:
    """Return (seconds since ``start``, what happened) for each event that the callback noted, results of one task joined."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    marks: list[tuple[float, str]] = []
    for moment, event, name, _host in events:
        if event == "queued":
            continue
        label = {"loaded": "Ansible has started", "playbook": "the playbook is read", "stats": "the recap is due"}.get(event, f"{event}: {name}")
        if event == "result" and marks and marks[-1][1] == label:
            marks.pop()
        marks.append((moment - start, label))
    return marks


def steps(runs: Sequence[list[tuple[float, str]]]) -> list[tuple[float, str]]:
    """Return the median seconds that led up to each mark, in order; the runs have the same marks."""
    spans = []
    for index, (_moment, label) in enumerate(runs[0]):
        lengths = [marks[index][0] - (marks[index - 1][0] if index else 0) for marks in runs]
        spans.append((statistics.median(lengths), label))
    return spans


def report(hosts: Sequence[str], run: Callable[..., Any], contender: Any, say: Callable[[str], None]) -> None:
    """Say where the time goes; the hosts must be converged already (the first run does it)."""
    run(contender, hosts)
    recorded, totals = [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as scratch:
            notes = Path(scratch) / "timeline"
            environment = {"ANSIBLE_CALLBACK_PLUGINS": str(BENCH / "callback"), "ANSIBLE_CALLBACKS_ENABLED": "timeline", "BENCH_TIMELINE": str(notes)}
            start = time.monotonic()
            totals.append(run(dataclasses.replace(contender, environment=environment), hosts).seconds)
            recorded.append(timeline(notes, start))
    say(f"on the controller, {len(hosts)} hosts, {RUNS} runs, medians: {statistics.median(totals):.2f} s in all")
    for seconds, label in steps(recorded):
        if seconds >= 0.0005:
            say(f"{1000 * seconds:7.0f} ms  {label}")
    say(f"on {hosts[0]}, whose login is root:")
    kept = {"ANSIBLE_PIPELINING": "false", "ANSIBLE_KEEP_REMOTE_FILES": "true"}
    run(dataclasses.replace(contender, environment=kept), hosts[:1])
    said = subprocess.run([str(LAB), "ssh", hosts[0], "--", "sh", "-s"], input=ON_THE_HOST, capture_output=True, text=True, check=False)
    say(said.stdout + said.stderr)
