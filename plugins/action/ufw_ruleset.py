# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change a firewall, then confirm the change over a new connection, or see that the host has restored its old rules."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

# A rate limit on SSH counts the attempts of the last 30 seconds, so the third one comes only after that.
PAUSES_SECONDS = (0, 5, 31)
LATER_PAUSE_SECONDS = 10
# How long after the host's own deadline it may take to become reachable again.
GRACE_SECONDS = 90


class ActionModule(ActionBase):
    """Runs the module of the same name twice: to apply, and over a new connection to confirm."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        applied = self._call({}, task_vars)
        result.update(applied)
        token = result.pop("token", "")
        if result.get("failed") or not token:
            return result
        result.update(self._confirm(token, int(self._task.args.get("confirm_seconds", 60)), task_vars))
        return result

    def _call(self, extra: dict[str, str], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(module_args={**self._task.args, **extra}, task_vars=task_vars)
        return answer

    def _confirm(self, token: str, confirm_seconds: int, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Return what to add to the result: the confirmation, or the failure with what has become of the host."""
        started = time.monotonic()
        problem = ""
        local = self._connection.transport == "local"
        phase = "confirm_local" if local else "confirm"
        for _attempt in attempts(confirm_seconds):
            # A connection that is open already passes every firewall, so only a new one proves anything.
            if not local:
                self._connection.reset()
            try:
                answer = self._call({"phase": phase, "token": token}, task_vars)
            except AnsibleConnectionFailure as error:
                problem = str(error)
                continue
            if not answer.get("failed"):
                return {"confirmed": True}
            if problem and answer.get("reverted"):
                waited = round(time.monotonic() - started)
                return _failure(
                    f"the new rules cut the connection, so the host restored its old ones; it is reachable again after {waited} s. "
                    f"The connection said: {problem.strip()}",
                    reverted=True,
                )
            return _failure(f"the change could not be confirmed: {answer.get('msg', 'no answer')}", reverted=bool(answer.get("reverted")))
        return _failure(
            f"no new connection since the new rules were loaded; the host restores its old ones by itself after {confirm_seconds} s "
            f"(timer hearth-firewall-revert), but is still not reachable. The connection said: {problem.strip()}",
            reverted=False,
        )


def _failure(message: str, *, reverted: bool) -> dict[str, Any]:
    return {"failed": True, "changed": False, "confirmed": False, "reverted": reverted, "msg": message}


def attempts(confirm_seconds: int) -> Iterator[int]:
    """Yield the numbers of attempts to connect, with pauses, until GRACE_SECONDS after the host's deadline."""
    end = time.monotonic() + confirm_seconds + GRACE_SECONDS
    number = 0
    while time.monotonic() < end:
        pause = PAUSES_SECONDS[number] if number < len(PAUSES_SECONDS) else LATER_PAUSE_SECONDS
        time.sleep(pause)
        yield number
        number += 1
