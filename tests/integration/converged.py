# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's fleet, for tests that need it converged: run site.yml, read plans, run a shell on hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.plan import lines

CHECKOUT = Path(__file__).resolve().parents[2]

PLAN = """
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.include_role: {name: hearth.fleet.observe}
    - ansible.builtin.copy:
        content: "{{ fleet_plan | to_json }}"
        dest: "{{ plans }}/{{ inventory_hostname }}.json"
        mode: "0644"
      delegate_to: localhost
      become: false
      vars: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
"""


def ansible(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs on the lab's inventory."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    command = [str(Path(sys.executable).with_name(program)), "--inventory", str(CHECKOUT / "inventories/lab"), *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def site(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run site.yml."""
    return ansible("ansible-playbook", "site.yml", *arguments, check=check)


def changes(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return how many tasks changed something, by host, out of a playbook's recap."""
    return {host: int(count) for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", done.stdout, re.MULTILINE)}


def plans(directory: Path, limit: str) -> dict[str, dict[str, Any]]:
    """Return the plan of each host, observed now."""
    directory.mkdir(parents=True, exist_ok=True)
    playbook = directory / "plan.yml"
    playbook.write_text(PLAN)
    ansible("ansible-playbook", str(playbook), "--limit", limit, "-e", f"plans={directory}")
    return {path.stem: json.loads(path.read_text()) for path in directory.glob("*.json")}


def plan_lines(directory: Path, limit: str) -> dict[str, list[str]]:
    """Return what differs on each host, as a person would read it."""
    return {host: lines(plan) for host, plan in plans(directory, limit).items()}


def shell(hosts: str, script: str) -> str:
    """Run a shell script as root on hosts; it must succeed."""
    return ansible("ansible", hosts, "--become", "-m", "ansible.builtin.shell", "-a", script).stdout


def lab(*arguments: str) -> None:
    """Run the lab's program."""
    subprocess.run([str(CHECKOUT / "tests/lab/lab"), *arguments], check=True, capture_output=True, timeout=120)


def reset(hosts: str) -> None:
    """Make hosts of the lab anew from their image."""
    lab("reset", *hosts.split(","))
