#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: observe
short_description: Look at a host once, and say what differs from its desired state
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Reads everything that any role of the collection cares about, in one call, and compares it with what is wanted of the host.
  - Changes nothing. What is wanted is sent without contents and without secrets; digests stand in for them.
  - Where the connection can pass a program on, the host is asked without the overhead of a module.
options:
  specs:
    description: The desired state of the host, as M(hearth.fleet.service_spec) returns it.
    type: dict
    required: true
  controller_time:
    description: Seconds since 1970 on the controller, against which the host's clock is judged; filled in by the action.
    type: float
  resolved:
    description: The addresses behind the names that preflight wants, as the controller resolves them; filled in by the action.
    type: dict
  probe:
    description: Also ask every running service once whether it is ready.
    type: bool
    default: false
  every:
    description: Call every role due, whether anything differs or not.
    type: bool
    default: false
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: hearth.fleet.service_spec
"""

EXAMPLES = r"""
- name: Look at the host
  hearth.fleet.observe:
    specs: "{{ fleet_service_specs }}"
  register: look
"""

RETURN = r"""
plan:
  description:
    - What differs, by area (C(account), C(release), C(config), C(unit), C(firewall)), each with C(item), C(reason), C(service) and C(action).
    - C(due) names the areas whose roles must act; C(start), C(restart) and C(staged) say what follows for services;
      C(preflight) is what the machine lacks; C(services) is the state of each service.
  returned: success
  type: dict
away:
  description: That the host cannot be reached, in place of C(plan), with the reason in C(msg); only where the task has C(ignore_unreachable).
  returned: when the host cannot be reached
  type: bool
facts:
  description: What the machine is like.
  returned: success
  type: dict
"""

from ansible_collections.hearth.fleet.plugins.module_utils.observing import observe
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule


def main() -> None:
    """Run the module."""
    module = QuietModule(
        argument_spec={
            "specs": {"type": "dict", "required": True},
            "controller_time": {"type": "float"},
            "resolved": {"type": "dict"},
            "probe": {"type": "bool", "default": False},
            "every": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    result = observe(**module.params)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
