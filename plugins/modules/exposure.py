#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: exposure
short_description: See what a host exposes, as it really is
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Returns how exposed units are, as C(systemd-analyze security) scores them with all their drop-ins, which sockets listen, which
    unit holds them, and whether the firewall, as it is, closes them to everybody.
  - Changes nothing.
options:
  units:
    description: The units to look at, such as V(nats-server.service).
    type: list
    elements: str
    required: true
  firewall:
    description: What is wanted of the host's firewall, as M(hearth.fleet.service_spec) returns it.
    type: dict
    required: true
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: hearth.fleet.observe
  - module: hearth.fleet.reach
"""

EXAMPLES = r"""
- name: See what the host exposes
  hearth.fleet.exposure:
    units: "{{ fleet_service_specs.unit.units | map(attribute='name') }}"
    firewall: "{{ fleet_service_specs.firewall }}"
  register: exposed
"""

RETURN = r"""
units:
  description:
    - For each unit that systemd knows, C(score) (of 10), C(causes) (the settings that add most to it) and C(drop_ins) (their paths).
  returned: success
  type: dict
sockets:
  description:
    - Every listening socket, with C(proto), C(address), C(port), C(unit) (empty when none of O(units) holds it) and C(closed) (whether
      the firewall lets nobody reach it; null where the firewall is not managed).
  returned: success
  type: list
  elements: dict
ephemeral:
  description: The first and the last of the ports that programs get when they ask for none.
  returned: success
  type: list
  elements: int
  sample: [32768, 60999]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hearth.fleet.plugins.module_utils import exposure


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "firewall": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **exposure.look(module.params["units"], module.params["firewall"]))


if __name__ == "__main__":
    main()
