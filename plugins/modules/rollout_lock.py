#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_lock
short_description: Take and give back the lock that keeps two rollouts apart
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Every host of a rollout holds the same lock, C(/var/lib/hearth/rollout/lock.json), which says whose rollout it is, since when, and when
    it was last heard of. Who finds another's lock takes none.
  - A lock goes when its rollout ends, also when that fails. The lock of a controller that died stays; a new run of the same person on the same
    machine takes it over, anybody else must break it by name.
options:
  state:
    description: Take the lock, or give it back; V(released) leaves the locks of others alone.
    type: str
    choices: [taken, released]
    default: taken
  lock:
    description: The lock, as M(hearth.fleet.rollout_plan) returns it.
    type: dict
    required: true
  over:
    description: The id of the lock that may be replaced; none other, so that of two operators one wins.
    type: str
    default: ""
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: hearth.fleet.rollout_plan
  - module: hearth.fleet.transaction
"""

EXAMPLES = r"""
- name: Take the lock
  hearth.fleet.rollout_lock:
    lock: "{{ planned.lock }}"
"""

RETURN = r"""
found:
  description: The lock that was there before; null when there was none.
  returned: always
  type: dict
"""

from ansible_collections.hearth.fleet.plugins.module_utils import rollout_lock_file
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule


def main() -> None:
    """Run the module."""
    module = QuietModule(
        argument_spec={
            "state": {"type": "str", "choices": ["taken", "released"], "default": "taken"},
            "lock": {"type": "dict", "required": True},
            "over": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    lock = module.params["lock"]
    try:
        if module.params["state"] == "released":
            found = rollout_lock_file.release(lock["id"], check_mode=module.check_mode)
            changed = bool(found and found["id"] == lock["id"])
        else:
            found = rollout_lock_file.take(lock, module.params["over"], check_mode=module.check_mode)
            changed = not found or found["id"] != lock["id"]
    except (FleetError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, found=found)


if __name__ == "__main__":
    main()
