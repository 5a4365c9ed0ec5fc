#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: backup_keys
short_description: Make the identities that open backups, on the controller
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Makes one age identity for each name, in a file of its own that only its owner can read. Belongs on the controller, never on a host
    that makes backups.
  - An identity that is there is never replaced. O(rotate) puts a new one in front of the old ones in the same file, so that the file
    opens new backups and old ones alike.
  - The public recipients are kept beside them (C(.pub)). Where only that is left, the identity was taken to a safe place, and no new one is made.
requirements:
  - the program C(age-keygen) (package age)
options:
  directory:
    description: The directory of the identities.
    type: path
    required: true
  names:
    description: What the identities are for, such as V(operator), V(drill) and V(offline).
    type: list
    elements: str
    required: true
  rotate:
    description: The names that get a new identity.
    type: list
    elements: str
    default: []
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
- name: Make the identities
  hearth.fleet.backup_keys:
    directory: ~/.config/hearth/keys
    names: [operator, drill, offline]
  delegate_to: localhost
"""

RETURN = r"""
identities:
  description:
    - For each name the C(file) of its identities, the C(recipient) to write into the inventory, the C(former) recipients of its older identities,
      and whether the identity is C(here).
  returned: success
  type: list
  elements: dict
"""

import os
from pathlib import Path

from ansible_collections.hearth.fleet.plugins.module_utils import identities
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule


def main() -> None:
    """Run the module."""
    module = QuietModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "rotate": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    directory = Path(os.path.abspath(module.params["directory"]))
    try:
        changed, found = identities.bring_about(directory, module.params["names"], module.params["rotate"], check_mode=module.check_mode)
    except (FleetError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, identities=found)


if __name__ == "__main__":
    main()
