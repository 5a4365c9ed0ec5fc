# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have a host's Python run a pure function of module_utils, in less time than a module takes.

Of a module that looks at a host for 40 ms, Python compiles ``ansible.module_utils.basic`` for 100 ms, at each call; on a small computer, ten times as
long. A function that only reads needs none of it. What this cannot do is done by the module: see ``ask``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hearth.fleet.plugins.module_utils import from_memory

_HOME = Path(from_memory.__file__).parent
_IMPORT = re.compile(rf"^from {re.escape(from_memory.PACKAGE)}(?:\.(\w+))? import (?:\(([^)]*)\)|(.*))$", re.MULTILINE)
_IMPORTED = re.compile(r"(\w+)(?: as \w+)?")
_DISCOVERED = ("", "auto", "auto_legacy", "auto_silent", "auto_legacy_silent")

display = Display()


def ask(
    action: ActionBase, task_vars: Mapping[str, Any], module: str, function: str, arguments: Mapping[str, Any], also: Iterable[str] = ()
) -> dict[str, Any] | None:
    """Return the result of a function of module_utils that was run on the action's host; ``also`` are modules that it may import while it runs.

    None where Ansible's own way of running modules has to be gone: the program cannot be sent through the connection, or it ended without an
    answer (Ansible knows best how to say why, and how to find another Python).
    """
    if not _can_be_sent(action):
        return None
    command = f"{action._compute_environment_string()} {_interpreter(action, task_vars)} -I -".lstrip()
    said = action._low_level_execute_command(command, in_data=program(module, function, arguments, also))
    try:
        answer = dict(json.loads(said["stdout"].strip().rpartition("\n")[2]))
    except (TypeError, ValueError):
        display.vvv(f"no answer from {function} (exit code {said['rc']}); the module is asked instead: {said['stderr']}")
        return None
    return answer


def program(module: str, function: str, arguments: Mapping[str, Any], also: Iterable[str] = ()) -> bytes:
    """Return the program that writes the function's result to standard output."""
    packed = from_memory.pack(sources(module, *also), module, function, arguments)
    return f"{(_HOME / 'from_memory.py').read_text()}\n\nrun({packed!r})\n".encode()


def sources(*names: str) -> dict[str, str]:
    """Return the sources of these modules of module_utils, and of those that they import at their beginning."""
    found: dict[str, str] = {}
    missing = list(names)
    while missing:
        name = missing.pop()
        if name not in found:
            found[name] = (_HOME / f"{name}.py").read_text()
            missing += imported(found[name])
    return found


def imported(source: str) -> list[str]:
    """Return the modules of module_utils that a source imports at its beginning."""
    # ast would take 100 ms for what one look at a host needs, in every worker.
    return [name for one in _IMPORT.finditer(source) for name in ([one[1]] if one[1] else _IMPORTED.findall(one[2] or one[3]))]


def _interpreter(action: ActionBase, task_vars: Mapping[str, Any]) -> str:
    """Return the host's Python. Where Ansible is to discover it and has not yet, the one that nearly every host has."""
    value = action._templar.template(constants.config.get_config_value("INTERPRETER_PYTHON", variables=task_vars))
    found = value.strip() if isinstance(value, str) else ""
    return found if found not in _DISCOVERED else task_vars.get("ansible_facts", {}).get("discovered_interpreter_python", "/usr/bin/python3")


def _can_be_sent(action: ActionBase) -> bool:
    """Tell whether a program can be given to the host's Python through the connection, whatever is set for modules.

    Pipelining is off by default because of a setting of sudo (requiretty) that refuses, and then the module is asked.
    """
    connection, become = action._connection, action._connection.become
    if any(kind.__module__.startswith("ansible_mitogen.") for kind in type(connection).__mro__):
        return True
    if action._is_pipelining_enabled("new", wrap_async=bool(action._task.async_val)):
        return True
    if action._task.async_val or constants.DEFAULT_KEEP_REMOTE_FILES or not connection.has_pipelining:
        return False
    # A password would be asked for on a terminal, which has no room for a program beside it.
    return become is None or (become.pipelining and not become.get_option("become_pass"))
