# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's fleet, for tests that need it converged: run site.yml, read plans, run a shell on several hosts."""

from __future__ import annotations

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lab_hosts

from ansible_collections.hearth.fleet.plugins.module_utils.plan import AREAS

LOCALLY = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}


def site(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run site.yml."""
    return lab_hosts.ansible("ansible-playbook", "site.yml", *arguments, check=check)


def changes(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return how many tasks changed something, by host, out of a playbook's recap."""
    return {host: int(count) for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", done.stdout, re.MULTILINE)}


def plans(directory: Path, limit: str) -> dict[str, dict[str, Any]]:
    """Return the plan of each host, observed now."""
    directory.mkdir(parents=True, exist_ok=True)
    keep = {"content": "{{ fleet_plan | to_json }}", "dest": f"{directory}/{{{{ inventory_hostname }}}}.plan", "mode": "0644"}
    tasks = [
        {"ansible.builtin.include_role": {"name": "hearth.fleet.observe"}},
        {"ansible.builtin.copy": keep, "delegate_to": "localhost", "become": False, "vars": LOCALLY},
    ]
    done = lab_hosts.play("all", tasks, directory, "--become", "--limit", limit)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: json.loads(path.read_text()) for path in directory.glob("*.plan")}


def plan_lines(directory: Path, limit: str) -> dict[str, list[str]]:
    """Return what differs on each host, and what follows: a line for each, ``<area or action>: <item>: <reason>``."""

    def lines(plan: dict[str, Any]) -> list[str]:
        differences = [(area, one) for area in AREAS for one in plan[area]]
        actions = [(prefix + one["action"], one) for prefix, key in (("", "rollout"), ("then ", "follows")) for one in plan[key]]
        waits = [("waits", one) for key in ("staged", "waits") for one in plan[key]]
        return [f"{what}: {one['item']}: {one['reason']}" for what, one in (*differences, *actions, *waits)]

    return {host: lines(plan) for host, plan in plans(directory, limit).items()}


def shell(hosts: str, script: str) -> str:
    """Run a shell script as root on hosts; it must succeed on each."""
    with ThreadPoolExecutor() as pool:
        return "".join(pool.map(lambda host: lab_hosts.shell(host, script), hosts.split(",")))


def reset(hosts: str) -> None:
    """Make hosts of the lab anew from their image."""
    lab_hosts.lab("reset", *hosts.split(","))
