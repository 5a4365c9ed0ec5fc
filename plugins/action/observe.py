# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the desired state, without contents and secrets, to the host's one look at itself; see the module's documentation."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.hearth.fleet.plugins.module_utils.errors import is_refusal, words_of_ssh
from ansible_collections.hearth.fleet.plugins.module_utils.slices import without_content
from ansible_collections.hearth.fleet.plugins.plugin_utils import sent_python

_LOGIN_REMEDY = "see that `ssh` gets in with the user, key and known_hosts that the inventory names (ansible_user, ansible_ssh_private_key_file)"


class ActionModule(ActionBase):
    """Adds what only the controller knows: the time, and what DNS says."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the module's plan; where the task puts up with a host that cannot be reached, ``away`` and a warning instead."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        specs = self._task.args["specs"]
        wanted = without_content(specs)
        arguments = {
            "specs": wanted,
            "controller_time": time.time(),
            "resolved": {name: _resolve(name) for name in wanted["preflight"]["dns"]},
            "probe": boolean(self._task.args.get("probe", False)),
            "every": boolean(self._task.args.get("every", False)),
        }
        try:
            result.update(self._ask(arguments, task_vars))
        except AnsibleConnectionFailure as error:
            # As "unreachable" it would be shown as an error, and with any_errors_fatal be one, although it is put up with.
            if not self._task.ignore_unreachable:
                raise
            result.update(unseen(specs["host"], str(error)))
        result.pop("invocation", None)  # as long as the whole desired state, and nobody's business
        return result

    def _ask(self, arguments: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        """Return what the host says of itself, the quick way where that is open."""
        answer = sent_python.ask(self, task_vars, "observing", "observe", arguments, also=["probe"] if arguments["probe"] else [])
        if answer is None:
            answer = self._execute_module(module_name="hearth.fleet.observe", module_args=arguments, task_vars=task_vars)
        return answer


def unseen(host: Mapping[str, Any], said: str) -> dict[str, Any]:
    """Return the result for a host that was not seen; ``said`` is the connection's error.

    One that lets nobody in is not off: to leave it for later would be to leave it for ever, without a word.
    """
    if is_refusal(said):
        return {"failed": True, "msg": f"{host['name']} lets nobody in; {words_of_ssh(said)}\n  → {_LOGIN_REMEDY}"}
    return {"away": True, "msg": said, "warnings": [away_warning(host, said)]}


def away_warning(host: Mapping[str, Any], said: str) -> str:
    """Return what is to be known about a host that cannot be reached; ``said`` is the connection's error."""
    tier = host["tier"]
    left = f": it is left for the next run, as {tier} may be off (fleet_tiers.{tier}.offline: skip)" if host["offline"] == "skip" else ""
    return f"{host['name']} cannot be reached{left}; {words_of_ssh(said)}"


def _resolve(name: str) -> list[str]:
    """Return the addresses behind a name, as the controller's resolver sees them; none when there are none."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except OSError:
        return []
