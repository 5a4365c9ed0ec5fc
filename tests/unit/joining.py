"""Runs the real join on an inventory, once, and returns what it makes of every host. No host is contacted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - hearth.fleet.service_spec:
      run_once: true
      register: joined
    - ansible.builtin.copy:
        content: "{{ joined.specs | to_json }}"
        dest: "{{ specs_path }}"
        mode: "0600"
      delegate_to: localhost
      connection: local
      vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
      become: false
      run_once: true
      no_log: true
"""

Specs = dict[str, dict[str, Any]]  # host -> its services, and a slice per role


class Refused(Exception):
    """The join refused the inventory; the text is what the user reads."""


def join(inventory: Path, *, with_vault: bool = True) -> Specs:
    """Return what the join makes of an inventory directory; with its vault, for which `vault.yml.example` stands in.

    Raises Refused with the output of ansible-playbook.
    """
    with tempfile.TemporaryDirectory() as scratch:
        playbook, specs = Path(scratch, "join.yml"), Path(scratch, "specs.json")
        playbook.write_text(PLAYBOOK)
        vault = inventory / "group_vars" / "all" / "vault.yml.example"
        secrets = ["-e", f"@{vault}"] if with_vault and vault.exists() else []
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            str(playbook),
            "-i",
            str(inventory),
            "-e",
            f"specs_path={specs}",
            *secrets,
        ]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_LOCAL_TEMP": scratch,
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
        if done.returncode != 0 or not specs.exists():  # an inventory that cannot be parsed is an empty one, and no error
            raise Refused(done.stdout + done.stderr)
        finished: Specs = json.loads(specs.read_text())
        return finished
