#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: bootstrap
short_description: Run what services need once before their first start
version_added: "0.1.0"
description:
  - Runs each command whose path is not there yet, in a transient unit of systemd, as the account of its service, with its
    environment and its secrets.
  - A command that ends well without having made its path is an error.
  - Where one fails, the other services get theirs all the same; what all that failed have said is in the error, without secrets.
options:
  commands:
    description: The commands, in their order.
    type: list
    elements: dict
    required: true
    suboptions:
      service:
        description: The service to whom the command belongs.
        type: str
        required: true
      command:
        description: The program's path and its arguments. Nothing in it is expanded.
        type: list
        elements: str
        required: true
      creates:
        description: The path that the command makes. Where it is there, the command does not run.
        type: str
        required: true
      user:
        description: The account that it runs as.
        type: str
        required: true
      group:
        description: Its group.
        type: str
        required: true
      working_directory:
        description: Where it runs.
        type: str
        default: /
      environment:
        description: Its environment, beside what systemd gives to every service.
        type: dict
        default: {}
      environment_files:
        description: Files with further variables, which are secrets.
        type: list
        elements: str
        default: []
      credentials:
        description: Credentials for systemd, each as C(name:path).
        type: list
        elements: str
        default: []
      timeout:
        description: Seconds that it may take.
        type: int
        default: 120
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
author:
  - hearth.fleet contributors (@hearth-fleet)
"""

EXAMPLES = r"""
- name: Make the node's identity
  hearth.fleet.bootstrap:
    commands:
      - service: icnd
        command: [/usr/local/bin/icnd, init, --data-dir, /var/lib/icn]
        creates: /var/lib/icn/identity.key
        user: icn
        group: icn
        working_directory: /var/lib/icn
        environment_files: [/etc/icn/icnd.env]
"""

RETURN = r"""
differences:
  description: What was not there, and was made unless in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    item:
      description: The path.
      type: str
      returned: always
      sample: /var/lib/icn/identity.key
    reason:
      description: What differed.
      type: str
      returned: always
      sample: not there yet; bootstrap makes it
    service:
      description: The service to whom it belongs.
      type: str
      returned: always
      sample: icnd
    action:
      description: What was done about it.
      type: str
      returned: always
      sample: create
"""

from ansible_collections.hearth.fleet.plugins.module_utils import bootstrap, bootstrapping
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule

COMMAND = {
    "service": {"type": "str", "required": True},
    "command": {"type": "list", "elements": "str", "required": True},
    "creates": {"type": "str", "required": True},
    "user": {"type": "str", "required": True},
    "group": {"type": "str", "required": True},
    "working_directory": {"type": "str", "default": "/"},
    "environment": {"type": "dict", "default": {}},
    "environment_files": {"type": "list", "elements": "str", "default": []},
    "credentials": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 120},
}


def main() -> None:
    """Run the module."""
    module = QuietModule(
        argument_spec={"commands": {"type": "list", "elements": "dict", "required": True, "options": COMMAND}},
        supports_check_mode=True,
    )
    wanted = module.params["commands"]
    differences = bootstrap.diff(wanted, bootstrap.look(wanted))
    try:
        if not module.check_mode:
            bootstrapping.apply(wanted, differences)
    except FleetError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(differences), differences=[one.as_dict() for one in differences])


if __name__ == "__main__":
    main()
