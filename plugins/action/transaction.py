# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a host's transaction and follow it to its end, through broken connections; see the module's documentation.

An unreachable host would neither stop the next batch nor run a rescue, so that a host that stays away fails here instead.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hearth.fleet.plugins.module_utils import rollout_report

WAIT_SECONDS = 10
"""How long one question to a host may wait for news."""

PAUSE_SECONDS = 3
"""The pause before a host that could not be reached is tried again."""

GRACE_SECONDS = 60
"""How long after a host's own deadline it may take to become reachable."""

display = Display()


class ActionModule(ActionBase):
    """Asks the module again and again for state=done, and once for each of ``tasks``; passes every other state through."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what became of the transaction."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        if "tasks" in self._task.args:
            result.update(self._prepare(self._task.args["tasks"], task_vars))
        elif self._task.args.get("state", "done") != "done" or self._task.check_mode:
            result.update(self._execute_module(task_vars=task_vars))
        else:
            result.update(self._to_the_end(task_vars))
        result.pop("invocation", None)  # contents of files, and as long as they are
        return result

    def _prepare(self, tasks: list[dict[str, Any]], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Have a host prepare several orders; what is wrong with any of them is said at once, in the module's own words."""
        answers = []
        for task in tasks:
            order = {name: task[name] for name in ("order", "files", "unit", "binaries")}
            answers.append(self._execute_module(module_args={"state": self._task.args["state"], **order}, task_vars=task_vars))
            if answers[-1].get("unreachable"):
                return dict(answers[-1])
        problems = [str(answer.get("msg", "")) for answer in answers if answer.get("failed")]
        found = {"changed": any(answer.get("changed") for answer in answers)}
        return {**found, "failed": True, "msg": "\n\n".join(problems)} if problems else found

    def _to_the_end(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        host = task_vars["inventory_hostname"]
        order: dict[str, Any] = self._task.args["order"]
        end = time.monotonic() + order["deadline"] + GRACE_SECONDS
        said = Follower(host, max(map(len, task_vars["ansible_play_hosts_all"])))
        answer = self._reach({"state": "started"}, end, task_vars)
        while not answer.get("failed") and not ("evidence" in answer and answer["transaction"]["outcome"]):
            follow = {"since": said.lines, "wait": WAIT_SECONDS}
            answer = self._reach({"state": "followed", "follow": follow}, end, task_vars)
            said.tell(answer.get("journal", []))
        if answer.get("failed"):
            return answer
        state = answer["transaction"]
        kept = self._keep(host, state, answer.get("evidence") or {})
        found = {"changed": True, "transaction": state, "batch": self._task.args.get("batch"), "evidence": kept}
        return found if state["outcome"] == rollout_report.COMMITTED else {**found, "failed": True, "msg": rollout_report.failure(host, state, kept)}

    def _reach(self, extra: Mapping[str, Any], end: float, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Ask the host, again and again while it cannot be reached, until ``end`` (monotonic seconds)."""
        arguments = {name: value for name, value in self._task.args.items() if name not in ("batch", "reports")}
        lost = False
        while True:
            try:
                answer: dict[str, Any] = self._execute_module(
                    module_name="hearth.fleet.transaction", module_args={**arguments, **extra}, task_vars=task_vars
                )
            except AnsibleConnectionFailure as error:
                problem = str(error).strip()
            else:
                if not answer.get("unreachable"):
                    return answer
                problem = str(answer.get("msg", "")).strip()
            if time.monotonic() > end:
                return {"failed": True, "changed": True, "transaction": {"outcome": "unknown"}, "msg": unknown(task_vars, problem)}
            if not lost:
                # Not as a warning: ansible-core keeps those until the task is over.
                host = task_vars["inventory_hostname"]
                said = f"{host} cannot be reached; the host goes on by itself, and is asked again: {problem}"
                display.display(said, color=constants.COLOR_WARN)
                lost = True
            time.sleep(PAUSE_SECONDS)

    def _keep(self, host: str, state: Mapping[str, Any], evidence: Mapping[str, str]) -> str:
        """Write what a failed transaction kept below the directory of reports; return where, empty for nothing."""
        if not evidence:
            return ""
        directory = Path(self._task.args["reports"]) / state["id"] / host / state["service"]
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in evidence.items():
            (directory / Path(name).name).write_text(text, encoding="utf-8")
        return str(directory)


class Follower:
    """Shows the lines of a host's journal as they come, each phase once, when it has ended."""

    def __init__(self, host: str, width: int) -> None:
        self.lines = 0
        self._host = host
        self._width = width
        self._began: dict[str, float] = {}

    def tell(self, journal: list[dict[str, Any]]) -> None:
        """Show what is new."""
        self.lines += len(journal)
        for line in journal:
            if line["event"] == "begin":
                self._began[line["phase"]] = line["at"]
            elif line["event"] in ("end", "fail"):
                seconds = line["at"] - self._began.get(line["phase"], line["at"])
                display.display(rollout_report.line(self._host, line["phase"], seconds, line["said"], self._width))


def unknown(task_vars: Mapping[str, Any], problem: str) -> str:
    """Return the error about a host that stayed away beyond its own deadline."""
    host = task_vars["inventory_hostname"]
    return (
        f"{host} was not seen again before its own deadline; whether it runs the old or the new release is unknown. The connection said: {problem}\n"
        f"  → look at the host (hearthctl status), then run the same command again: it takes up what the host's journal says"
    )
