# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan a rollout on the controller, from what all hosts were found to be; see the module's documentation."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.hearth.fleet.plugins.module_utils import rollout_lock, rollout_look, rollout_plan, rollout_plan_text

_LIST = {"type": "list", "elements": "str", "default": []}
_FLAG = {"type": "bool", "default": False}
_TEXT = {"type": "str", "default": ""}
ASKED = {
    **dict.fromkeys(("services", "hosts", "promote"), _LIST),
    **dict.fromkeys(("pending_only", "proposed", "rollback", "restart"), _FLAG),
    **dict.fromkeys(("version", "replan", "break_lock", "playbook"), _TEXT),
}
"""What a person asks for. The command line gives all of it as text: `-e rollout_service=relay` is a list of one."""


class ActionModule(ActionBase):
    """Runs once for the whole play: a plan is about all hosts."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(("specs", "looks", *ASKED))

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the plan, or fail with all that stands against it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = asked({name: value for name, value in self._task.args.items() if name in ASKED})
        looks = {host: look for host, look in self._task.args["looks"].items() if look}
        mine = lock_of_this_run(given["playbook"])
        locks = locks_of(looks)
        taken = interrupted(locks, mine, given["break_lock"])
        settings = rollout_plan.Settings(
            services=given["services"],
            hosts=given["hosts"],
            pending_only=given["pending_only"],
            proposed=given["proposed"],
            rollback=given["rollback"],
            version=given["version"],
            restart=given["restart"],
            promote=given["promote"],
            adopt=taken["id"] if taken else "",
        )
        planned = rollout_plan.plan(self._task.args["specs"], looks, settings)
        mine.update(plan=planned["sha256"], wanted=planned["wanted"])
        problems = [*lock_problems(locks, mine, given), *filter(None, [rollout_plan_text.refusal(planned)])]
        result.update(
            changed=False,
            rollout_plan={**planned, "id": mine["id"]},
            shown=rollout_plan_text.render(planned),
            rollout={key: mine[key] for key in ("id", "owner", "playbook")},
            lock=mine,
            over=taken["id"] if taken else "",
        )
        if problems:
            result.update(failed=True, msg="\n".join(problems))
        return result


def asked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person asks for, with its types and defaults. Raises AnsibleActionFail for what has not the right type."""
    checked = ArgumentSpecValidator(ASKED).validate(values)
    if checked.error_messages:
        raise AnsibleActionFail("\n".join(checked.error_messages))
    return dict(checked.validated_parameters)


def lock_of_this_run(playbook: str) -> dict[str, Any]:
    """Return the lock of this run, but for what the plan adds to it."""
    return {
        "id": rollout_look.new_identifier(),
        "owner": f"{getpass.getuser()}@{socket.gethostname()}",
        "pid": os.getppid(),  # actions run in processes of their own
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        "playbook": playbook,
        "plan": "",
        "taken": time.time(),
        "beat": time.time(),
    }


def locks_of(looks: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], float]]:
    """Return the locks that lie on hosts, each with the time of its host; their last sign of life is that of the whole rollout."""
    found = {}
    for host, look in looks.items():
        plan = look.get("plan") or {}
        lock = rollout_lock.read(plan.get("lock"))
        if lock:
            found[host] = (lock, plan["now"])
    silent = {lock["id"]: min(now - one["beat"] for one, now in found.values() if one["id"] == lock["id"]) for lock, _now in found.values()}
    return {host: ({**lock, "beat": now - silent[lock["id"]]}, now) for host, (lock, now) in found.items()}


def interrupted(locks: Mapping[str, tuple[dict[str, Any], float]], mine: Mapping[str, Any], broken: str) -> dict[str, Any] | None:
    """Return the lock of the rollout that this one goes on with: its own owner's, whose process has died, or one that is broken."""
    for lock, now in locks.values():
        verdict = rollout_lock.judge(lock, mine, now, alive(lock["pid"]))
        if verdict == rollout_lock.DEAD_MINE or (broken and lock["id"] == broken):
            return lock
    return None


def alive(pid: int) -> tuple[int, ...]:
    """Return the process as the only element if it lives and is Ansible's; numbers of processes are used again."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return (pid,) if b"ansible" in command else ()


def lock_problems(locks: Mapping[str, tuple[dict[str, Any], float]], mine: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return why locks keep this rollout from beginning: another's, or its own interrupted one that was about something else."""
    verdicts = {host: rollout_lock.judge(lock, mine, now, alive(lock["pid"])) for host, (lock, now) in locks.items()}
    others = {host: lock for host, (lock, _now) in locks.items() if not rollout_lock.may_take(verdicts[host], lock, given["break_lock"])}
    problems = [rollout_lock.refusal(others, {host: locks[host][1] for host in others})] if others else []
    taken = interrupted(locks, mine, given["break_lock"])
    if taken and taken["id"] not in (given["replan"], given["break_lock"]):
        said = rollout_lock.changes(taken.get("wanted"), mine["wanted"])
        problems += [rollout_lock.changed_refusal(taken, said)] if said else []
    return problems
