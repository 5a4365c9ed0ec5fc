#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: restore_step
short_description: Do one step of a restore on its host
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - What M(hearth.fleet.restore) runs on the host, step by step; by itself it is of no use.
  - Nothing appears in its final place before all of it is there and checked. The old data are moved aside, not removed, and come back
    when the service does not become ready on the new ones. A step that a power cut interrupts is undone at boot, or by the next restore.
options:
  state:
    description:
      - V(looked) returns what the host has. V(prepared) makes ready to receive. V(received) appends a piece of a part. V(restored) checks
        all parts, stops the service, exchanges the data, and waits until the service is ready. V(discarded) removes what was received.
    type: str
    choices: [looked, prepared, received, restored, discarded]
    required: true
  order:
    description: What is restored, as the action has it.
    type: dict
    required: true
  part:
    description: The name of the part that the piece belongs to.
    type: str
  offset:
    description: Where in the part the piece belongs, in bytes.
    type: int
  piece:
    description: The file on the host that holds the piece. It is removed.
    type: path
  why:
    description: Why what was received is removed.
    type: str
    default: the restore ended
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: hearth.fleet.restore
"""

EXAMPLES = r"""
- name: See what the host has
  hearth.fleet.restore_step:
    state: looked
    order: "{{ order }}"
"""

RETURN = r"""
seen:
  description: The installed C(release), whether the unit is C(active), and the C(schemas) of the databases by path.
  returned: when looked
  type: dict
said:
  description: What was found or done, in words.
  returned: when prepared or restored
  type: list
  elements: str
size:
  description: How many bytes of the part have arrived.
  returned: when received
  type: int
downtime:
  description: Seconds from the stop of the service until it was ready; null when it was not stopped.
  returned: when restored
  type: float
aside:
  description: The directories that hold the old data.
  returned: when restored
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import restore_host
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule

ARGUMENTS = {
    "state": {"type": "str", "choices": ["looked", "prepared", "received", "restored", "discarded"], "required": True},
    "order": {"type": "dict", "required": True},
    "part": {"type": "str"},
    "offset": {"type": "int"},
    "piece": {"type": "path"},
    "why": {"type": "str", "default": "the restore ended"},
}


def step(state: str, order: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Do one step, and return what came of it. Raises FleetError or OSError."""
    if state == "looked":
        return {"seen": restore_host.look(order)}
    if state == "prepared":
        return {"said": restore_host.prepare(order)}
    if state == "received":
        piece = Path(given["piece"])
        try:
            return {"size": restore_host.receive(order, given["part"], given["offset"], piece)}
        finally:
            piece.unlink()
    if state == "restored":
        return restore_host.run(order)
    restore_host.discard(order, given["why"])
    return {}


def main() -> None:
    """Run the module."""
    module = QuietModule(argument_spec=ARGUMENTS, required_if=[("state", "received", ("part", "offset", "piece"))], supports_check_mode=True)
    state, order = module.params["state"], module.params["order"]
    if module.check_mode and state != "looked":
        module.exit_json(changed=True)
    try:
        found = step(state, order, module.params)
    except (FleetError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=state != "looked", **found)


if __name__ == "__main__":
    main()
