#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: transaction
short_description: Upgrade or restart one service of a host as a transaction that the host finishes by itself
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - A transaction drains the service, stops it, copies its databases, switches release, config and unit together, starts it, waits until it
    is ready, watches it for a while, and commits; or it goes all the way back. It is journalled on the host and runs there in a transient
    unit, so the controller may vanish at any moment.
  - O(state=prepared) sends the order with the new files, has the files checked by the validators of the new release and by systemd, asks
    whether the drain can be reached, and starts nothing.
  - O(state=done) starts the transaction, or adopts the one with the same id that runs or has ended, and follows it to its end. A
    connection that breaks is tried again until the host's own deadline has passed. It is made of O(state=started) and repeated
    O(state=followed).
options:
  state:
    description: What to do.
    type: str
    choices: [prepared, started, followed, done]
    default: done
  order:
    description: What the host is asked to do, as the rollout plan has it. With O(state=done), C(id), C(service) and C(deadline) are enough.
    type: dict
    required: true
  files:
    description: The new config files, as M(hearth.fleet.paths) takes them, with their contents. For O(state=prepared).
    type: list
    elements: dict
    default: []
  unit:
    description: The new unit, as M(hearth.fleet.units) takes it. For O(state=prepared).
    type: dict
  binaries:
    description: Names of the release's binaries, so that the validators of the files are those of the new release.
    type: list
    elements: str
    default: []
  follow:
    description:
      - Filled in by the action; where in the journal to read on (C(since), a number of lines), and how long to wait for more (C(wait), seconds).
    type: dict
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
notes:
  - On the host, C(hearthctl) shows transactions, and can roll one back without the controller.
seealso:
  - module: hearth.fleet.rollout_lock
"""

EXAMPLES = r"""
- name: Upgrade what the batch says
  hearth.fleet.transaction:
    order:
      id: 20261121T120000Z-ab12cd
      service: nats-server
"""

RETURN = r"""
transaction:
  description: Where the transaction stands, as C(hearthctl status --json) shows it.
  returned: when the host could be asked
  type: dict
  contains:
    id:
      description: The rollout that it belongs to.
      type: str
    service:
      description: The service.
      type: str
    outcome:
      description: V(committed), V(rolled_back), V(aborted), V(inconclusive) or V(needs_operator); null while it runs.
      type: str
    phase:
      description: The last phase that began.
      type: str
    said:
      description: What came of it, for a person to read.
      type: str
    downtime:
      description: Seconds from the stop until the service was ready again.
      type: float
    next:
      description: The command that a person types next, if there is anything to decide.
      type: str
journal:
  description: The lines of the journal from C(follow.since) on.
  returned: when following
  type: list
  elements: dict
evidence:
  description: What a failed transaction kept (the unit's journal, its state, the answers to probes), by file name.
  returned: when following to an end that was no success
  type: dict
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hearth.fleet.plugins.module_utils import (
    hearthctl,
    paths,
    placing,
    probe,
    releases,
    rollout_lock_file,
    service_process,
    transaction_host,
    unit_marks,
)
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.hearth.fleet.plugins.module_utils.systemd import Systemd

ARGUMENTS = {
    "state": {"type": "str", "choices": ["prepared", "started", "followed", "done"], "default": "done"},
    "order": {"type": "dict", "required": True},
    "files": {"type": "list", "elements": "dict", "default": []},
    "unit": {"type": "dict"},
    "binaries": {"type": "list", "elements": "str", "default": []},
    "follow": {"type": "dict"},
}


def prepare(module: AnsibleModule) -> None:
    """Check everything that can be checked before the first drain, then write the order and its files."""
    order, files, unit = module.params["order"], module.params["files"], module.params["unit"]
    if order["kind"] == "rollback":
        prepare_rollback(order, check_mode=module.check_mode)
        return
    by_release = candidates(files, order, module.params["binaries"])
    want_all(
        lambda: placing.rehearse(by_release, paths.diff(by_release, paths.look(by_release))),
        lambda: Systemd(module).judge([unit] if unit else []),
        lambda: require_drain(order),
    )
    if not module.check_mode:
        transaction_host.prepare(order, contents(order, files, unit))


def want_all(*checks: Callable[[], object]) -> None:
    """Make all checks, and raise FleetError with what any of them has found."""
    problems = []
    for check in checks:
        try:
            check()
        except FleetError as error:
            problems.append(str(error))
    if problems:
        raise FleetError("\n".join(problems))


def prepare_rollback(order: Mapping[str, Any], *, check_mode: bool) -> None:
    """Write the order of a rollback: what the release before had for files, only the host knows."""
    found, kept = hearthctl.rollback_order(order["service"], version=order["to"], restore=False, keep=False, identifier=order["id"])
    require_drain(order)
    if not check_mode:
        transaction_host.prepare({**order, "from": found["from"], "files": found["files"], "restore_from": found["restore_from"]}, kept)


def candidates(files: Sequence[Mapping[str, Any]], order: Mapping[str, Any], binaries: Sequence[str]) -> list[dict[str, Any]]:
    """Return the files as the new release is to check them. Those of secrets have nobody who checks them."""
    return [{**one, "validate": of_release(one.get("validate", []), order, binaries)} for one in files]


def of_release(command: Sequence[str], order: Mapping[str, Any], binaries: Sequence[str]) -> list[str]:
    """Return a validator's command with the binary of the new release in the place of the one that runs now."""
    if not command:
        return []
    name = Path(command[0]).name
    if name not in binaries or command[0] not in (name, f"/{releases.LINKS}/{name}"):
        return list(command)
    return [f"{order['home']}/releases/{order['to']}/bin/{name}", *command[1:]]


def require_drain(order: Mapping[str, Any]) -> None:
    """Raise FleetError when a running service's drain cannot be reached; any answer of it will do. Its commands must be there by now."""
    drain = order["drain"] or {}
    if not drain or probe.unit_state(order["unit"]).active != "active":
        return  # there is nothing to drain
    if order["kind"] != "reload" and not drain.get("force"):
        require_programs(order, [drain.get("request"), drain.get("done")])
    done = drain.get("done")
    if not isinstance(done, (str, Mapping)) or (isinstance(done, Mapping) and "url" not in done):
        return
    answer = probe.probe_once(done)
    if not answer.ok and not answer.said.startswith("HTTP "):
        where = f"fleet_services.{order['service']}.drain.done"
        raise FleetError(f"{where}: {probe.describe(done)} does not answer ({answer.said})\n  → correct the address, or repair the service first")


def require_programs(order: Mapping[str, Any], requests: Sequence[Any]) -> None:
    """Raise FleetError for a command whose program is not on the host: what the new release brings comes after the drain."""
    for request in requests:
        words = request.get("command") if isinstance(request, Mapping) else None
        if words and not service_process.find(words[0]):
            where = request.get("where") or f"fleet_services.{order['service']}.drain"
            problem = f"there is no program {words[0]} on this host, where {order['from'] or 'the old release'} is to be drained with it"
            remedy = "correct it; a program that the new release brings can drain from the release after that one on"
            raise FleetError(str(Mistake(f"{where}[0]", problem, remedy)))


def contents(order: Mapping[str, Any], files: Sequence[Mapping[str, Any]], unit: Mapping[str, Any] | None) -> dict[str, bytes]:
    """Return the candidate files of an order by the names that it gives them."""
    found = {one["path"]: one["secret_content"] if one.get("content") is None else one["content"] for one in files}
    if unit:
        found[unit_marks.entry(unit)["path"]] = unit["content"]
    return {one["new"]: found[one["path"]].encode() for one in order["files"] if one["new"] is not None}


def follow(order: Mapping[str, Any], since: int, wait: float) -> dict[str, Any]:
    """Return what is new of a transaction, and its evidence once it has ended badly. One without an engine is given one."""
    service, identifier = order["service"], order["id"]
    rollout_lock_file.beat(identifier)
    found = transaction_host.follow(service, identifier, since, wait, considerate=True)
    state = found["state"]
    if not state["outcome"] and not found["alive"] and time.time() - state["since"] > wait:
        transaction_host.launch(service, identifier)
    evidence = transaction_host.evidence(service, identifier) if state["outcome"] not in (None, "committed") else {}
    return {"journal": found["lines"], "transaction": state, "evidence": evidence}


def main() -> None:
    """Run the module."""
    module = QuietModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    order = module.params["order"]
    given = module.params["follow"] or {}
    try:
        if module.params["state"] == "prepared":
            prepare(module)
            module.exit_json(changed=True)
        if module.check_mode:
            module.exit_json(changed=True)
        if module.params["state"] == "started":
            state = transaction_host.launch(order["service"], order["id"])
            module.exit_json(changed=True, transaction=state)
        module.exit_json(changed=True, **follow(order, given.get("since", 0), given.get("wait", 0)))
    except (FleetError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
