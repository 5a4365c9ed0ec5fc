#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: services
short_description: Start, restart or reload services, and wait until they are ready
version_added: "0.1.0"
description:
  - Acts on any number of services at once, and waits until each of them is ready. Ten services take as long as the slowest.
  - Active is not ready. A service is ready when its own readiness probe has succeeded so many times in a row, and systemd has
    not had to start it again meanwhile.
  - A service that crashes, or that systemd has given up, is reported at once, not at its deadline.
  - When a service does not become ready, the error says in what state it is, what the probe answered, and what the daemon
    wrote to the journal. The service is left as it is.
  - While a rollout (M(hearth.fleet.transaction)) or M(hearth.fleet.restore) has a service, it is neither started nor restarted here;
    they start it themselves, or leave that to a person.
options:
  services:
    description: The services. They are acted upon at the same time; what must start earlier is for C(After=) of the units to say.
    type: list
    elements: dict
    required: true
    suboptions:
      service:
        description: The service's name, for people.
        type: str
        required: true
      unit:
        description: Its systemd unit.
        type: str
        required: true
      action:
        description:
          - What to do.
          - V(start) leaves a service that runs alone, and only waits until it is ready.
          - V(start) and V(restart) forget earlier failures of the unit, so that a start limit does not stand in the way of a repair.
        type: str
        choices: [start, restart, reload]
        default: start
      reasons:
        description: Why, for people. Shown in the output.
        type: list
        elements: str
        default: []
      health:
        description: How to see that it serves, as in the service's description.
        type: dict
        suboptions:
          ready:
            description:
              - The readiness probe. A URL (http, https, tcp) that must answer with success, or a mapping with C(url), C(method),
                C(headers), C(secret_files), C(body), C(status), C(json) and C(contains), or one with C(command).
              - A command runs as the unit's user.
              - Without a probe, an active unit is ready.
            type: raw
          live:
            description: A probe that a living daemon answers. Asked when the service does not become ready, to tell what is wrong.
            type: raw
          version:
            description: Where the running version can be read. Not used here.
            type: raw
          deadline:
            description: How long a service may take to become ready after its start, in seconds.
            type: int
            default: 120
          passes:
            description: So many successes in a row count as ready.
            type: int
            default: 3
          interval:
            description: Pause between two probes, in seconds. Until the first success the pauses are shorter.
            type: float
            default: 1
author:
  - hearth.fleet contributors (@hearth-fleet)
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
    description: Says what it would do, and changes nothing.
  diff_mode:
    support: full
    description: Shows the actions, with their reasons.
notes:
  - >-
    The probes are shown in verbose output, so their headers only name secrets, as in C(Bearer {secret:ADMIN_TOKEN}). C(secret_files) says
    where the host keeps each of them, as in C({ADMIN_TOKEN: {path: /etc/x/x.env, as: environment}}); the join fills it in.
seealso:
  - module: ansible.builtin.systemd_service
"""

EXAMPLES = r"""
- name: Restart the message broker, and wait until it serves
  hearth.fleet.services:
    services:
      - service: nats-server
        unit: nats-server.service
        action: restart
        health:
          ready: http://127.0.0.1:8222/healthz
          deadline: 60

- name: Start two services at the same time
  hearth.fleet.services:
    services:
      - service: icnd
        unit: icnd.service
        health:
          ready:
            url: http://127.0.0.1:8080/v1/health
            method: GET
            json:
              status: healthy
      - service: redis
        unit: redis-server.service
        health:
          ready: tcp://127.0.0.1:6379
"""

RETURN = r"""
services:
  description: What came of each service, in the order asked for.
  returned: when not in check mode, also on failure
  type: list
  elements: dict
  contains:
    service:
      description: The service.
      type: str
      sample: nats-server
    unit:
      description: Its unit.
      type: str
      sample: nats-server.service
    action:
      description: What was done; V(none) when it was started already.
      type: str
      sample: restart
    ready:
      description: Whether it is ready.
      type: bool
      sample: true
    seconds:
      description: The time from the beginning of the action until the service answered well, or until it was given up.
      type: float
      sample: 0.62
    attempts:
      description: How often it was asked.
      type: int
      sample: 6
    restarts:
      description: How often systemd has restarted it by itself (C(NRestarts)).
      type: int
      sample: 0
    answer:
      description: The last answer to the probe.
      type: str
      sample: "HTTP 200"
    state:
      description: The unit's state.
      type: str
      sample: "active (running), Result=success, main process not ended, NRestarts=0"
    problem:
      description: Why it is not ready; empty when it is.
      type: str
      sample: ""
    alive:
      description: The answer to the liveness probe, when there is one and the service did not become ready.
      type: str
      sample: "HTTP 200"
    listens:
      description: Where its processes listen, when it did not become ready.
      type: list
      elements: str
      sample: []
    journal:
      description: The last lines that unit and daemon wrote to the journal since the action, when it did not become ready.
      type: list
      elements: str
      sample: []
"""

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import host_facts, rollout_look, unit_control
from ansible_collections.hearth.fleet.plugins.module_utils import probe as probes
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import seconds
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule

JOURNAL_LINES = 20
HINTS = (
    (
        r"operation not permitted|permission denied|read-only file system|address family not supported|list interfaces|SIGTRAP|SIGSYS"
        r"|mlock|lock (jvm )?memory",
        "if its sandbox is too strict for it: docs/guides/your-own-service.md#when-the-sandbox-is-too-strict says what to relax",
    ),
    (r"\(exit status 0\)", "if it goes to the background: an option of its own keeps it in the foreground, or write unit.type: forking"),
)
"""What to think of when a daemon and systemd say something of the kind. A signal may stand for the sandbox: V8 ends itself with SIGTRAP."""

STOP_SECONDS = 90  # systemd's own default, where a unit's timeout cannot be read

HEALTH = {
    "ready": {"type": "raw"},
    "live": {"type": "raw"},
    "version": {"type": "raw"},
    "deadline": {"type": "int", "default": 120},
    "passes": {"type": "int", "default": 3, "no_log": False},
    "interval": {"type": "float", "default": 1},
}
ARGUMENTS = {
    "services": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "service": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "action": {"type": "str", "choices": ["start", "restart", "reload"], "default": "start"},
            "reasons": {"type": "list", "elements": "str", "default": []},
            "health": {"type": "dict", "apply_defaults": True, "options": HEALTH},
        },
    },
}


def bring_up(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Act on one service and wait until it is ready; return what came of it, as in RETURN."""
    started, since = time.monotonic(), time.time()
    outcome: dict[str, Any] = {
        "service": wanted["service"],
        "unit": wanted["unit"],
        "action": wanted["action"],
        "ready": False,
        "attempts": 0,
        "restarts": 0,
        "answer": "",
        "state": "unknown",
        "alive": "",
        "listens": [],
        "journal": [],
    }
    try:
        outcome.update(_attempt(wanted, started))
    except FleetError as error:
        outcome["problem"] = str(error)
    outcome.setdefault("seconds", round(time.monotonic() - started, 2))
    if outcome["problem"]:
        outcome.update(
            alive=_alive(wanted["health"]["live"], wanted["unit"]),
            listens=host_facts.endpoints_of(wanted["unit"]),
            journal=unit_control.last_words(wanted["unit"], since=since, lines=JOURNAL_LINES),
        )
    return outcome


def _attempt(wanted: Mapping[str, Any], started: float) -> dict[str, Any]:
    """Return what bring_up adds to its outcome. Raises FleetError when systemd or the probe cannot be used, or another change has the service."""
    unit, health = wanted["unit"], wanted["health"]
    before = probes.unit_state(unit)
    action = "none" if wanted["action"] == "start" and before.active == "active" else wanted["action"]
    if action != "none":
        rollout_look.refuse_while_taken(wanted["service"])  # whoever has it starts it, when its data and its release are whole
    refused = _unusable(before) or _act(action, before, health["deadline"])
    if refused:
        after = probes.unit_state(unit)
        return {"action": action, "problem": refused, "restarts": after.restarts, "state": str(after)}

    restarts_before = before.restarts if action in ("none", "reload") else 0  # a start begins to count anew
    acted = time.monotonic()
    waited = probes.wait_ready(
        probes.of_unit(health["ready"], before),
        deadline=health["deadline"],
        passes=health["passes"],
        interval=health["interval"],
        hopeless=lambda: probes.why_hopeless(probes.unit_state(unit), restarts_before),
    )
    after = probes.unit_state(unit)
    problem = waited.hopeless or probes.why_hopeless(after, restarts_before) or _late(waited, health)
    return {
        "action": action,
        "problem": problem,
        "ready": not problem,
        "seconds": round(acted - started + (waited.seconds if waited.served_after is None else waited.served_after), 2),
        "attempts": waited.attempts,
        "answer": waited.answer,
        "restarts": after.restarts,
        "state": str(after),
    }


def _unusable(state: probes.UnitState) -> str:
    """Return why systemd cannot act on a unit; empty when it can."""
    if state.load == "not-found":
        return "systemd knows no such unit"
    if state.load == "masked":
        return f"the unit is masked; systemctl unmask {state.unit} lifts that"
    return "" if state.load == "loaded" else f"systemd cannot load the unit ({state.load}); see systemd-analyze verify {state.unit}"


def _act(action: str, before: probes.UnitState, deadline: float) -> str:
    """Do it, and wait until systemd has; return what went wrong, empty for nothing."""
    if action == "none":
        return ""
    if action != "reload":
        # Earlier failures count towards the start limit, and would make systemd refuse the start that repairs them.
        unit_control.forget_failures(before.unit)
    if action == "start" and (before.restarts or before.sub.startswith("auto-restart")):
        action = "restart"  # of a unit in a crash loop, a start would only hasten the automatic restart, which counts as a crash
    problem = unit_control.act(action, before.unit, seconds=(0 if action == "start" else _stop_seconds(before)) + deadline)
    why = probes.why_hopeless(probes.unit_state(before.unit), 0) if problem and action != "reload" else ""
    return f"{why}; {problem}" if why else problem


def _stop_seconds(state: probes.UnitState) -> int:
    try:
        return seconds(state.stop_timeout)  # "1min 30s"
    except ValueError:
        return STOP_SECONDS


def _late(waited: probes.ProbeResult, health: Mapping[str, Any]) -> str:
    if waited.ready:
        return ""
    if waited.passes:
        return f"only {waited.passes} of {health['passes']} probes in a row succeeded within {health['deadline']} s"
    return f"it did not answer well within {health['deadline']} s"


def _alive(live: Any, unit: str) -> str:
    if not live:
        return ""
    try:
        return probes.probe_once(probes.of_unit(live, probes.unit_state(unit))).said
    except FleetError as error:
        return str(error)


def complaint(outcome: Mapping[str, Any], health: Mapping[str, Any]) -> str:
    """Return the error about a service that is not ready: what, in which state, what it said, where to look."""
    unit = outcome["unit"]
    lines = [f"{outcome['service']} is not ready: {outcome['problem']}", f"  unit: {unit} is {outcome['state']}"]
    if outcome["attempts"]:
        asked = probes.describe(health["ready"]) if health["ready"] else "systemctl is-active"
        times = f"{outcome['attempts']} time{'' if outcome['attempts'] == 1 else 's'} in {outcome['seconds']} s"
        lines.append(f"  readiness: {asked}: {outcome['answer']} (asked {times})")
        if outcome["state"].startswith("active"):
            lines.append(f"  it listens on {', '.join(outcome['listens']) or 'no port'}")
    if outcome["alive"]:
        lines.append(f"  liveness: {probes.describe(health['live'])}: {outcome['alive']}")
    if outcome["journal"]:
        lines += ["  its last words:", *(f"    {line}" for line in outcome["journal"])]
    else:
        lines.append("  it wrote nothing to the journal")
    symptoms = "\n".join([outcome["problem"], *outcome["journal"]])
    lines += [f"  → {hint}" for said, hint in HINTS if re.search(said, symptoms, re.IGNORECASE)]
    lines.append(f"  → more on the host: journalctl -u {shlex.quote(unit)}; systemctl status {shlex.quote(unit)}")
    return "\n".join(lines)


def plan(services: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what would be done, one line per service that is not started already."""
    lines = []
    for one in services:
        try:
            started = one["action"] == "start" and probes.unit_state(one["unit"]).active == "active"
        except FleetError:
            started = False  # no systemd yet, so nothing runs
        if not started:
            reasons = f": {'; '.join(one['reasons'])}" if one["reasons"] else ""
            lines.append(f"{one['action']} {one['service']} ({one['unit']}){reasons}\n")
    return lines


def main() -> None:
    """Run the module."""
    module = QuietModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    services = module.params["services"]
    diff = {"prepared": "".join(plan(services))}
    if module.check_mode or not services:
        module.exit_json(changed=bool(diff["prepared"]), diff=diff)
    with ThreadPoolExecutor(max_workers=len(services)) as pool:
        outcomes = list(pool.map(bring_up, services))
    changed = any(outcome["action"] != "none" for outcome in outcomes)
    complaints = [complaint(outcome, one["health"]) for outcome, one in zip(outcomes, services) if outcome["problem"]]
    if complaints:
        module.fail_json(msg="\n\n".join(complaints), changed=changed, diff=diff, services=outcomes)
    module.exit_json(changed=changed, diff=diff, services=outcomes)


if __name__ == "__main__":
    main()
