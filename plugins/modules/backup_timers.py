#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: backup_timers
short_description: Start the timers of backups, and remove the jobs that nobody wants
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Makes systemd read the units of backups again where they changed, and starts the timers that are not active, all in one call.
  - Stops and removes the units, orders and credentials of jobs that nobody wants any more. What such a job has stored on the host
    or in the store stays.
options:
  units:
    description: The names of all units of the jobs.
    type: list
    elements: str
    required: true
  timers:
    description: Those of them that are to be active, timers and path units.
    type: list
    elements: str
    required: true
  keep:
    description: The paths that belong to wanted jobs; others of this collection's backups are removed.
    type: list
    elements: str
    required: true
  area:
    description: Whether what is not wanted any more is removed of backups, or of drills.
    type: str
    choices: [backup, drill]
    default: backup
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Start the timers of a host, and remove what no job wants any more
  hearth.fleet.backup_timers:
    units: [hearth-backup-relay.data.service, hearth-backup-relay.data.timer]
    timers: [hearth-backup-relay.data.timer]
    keep:
      - /etc/systemd/system/hearth-backup-relay.data.service
      - /etc/systemd/system/hearth-backup-relay.data.timer
      - /etc/systemd/system/timers.target.wants/hearth-backup-relay.data.timer
      - /etc/hearth/backup/relay.data.json
      - /etc/hearth/backup/rclone.conf
"""

RETURN = r"""
differences:
  description: What differed, and was changed unless in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    item:
      description: The unit, or the path of what was removed.
      type: str
      returned: always
      sample: hearth-backup-relay.data.timer
    reason:
      description: What differed.
      type: str
      returned: always
      sample: not active (inactive)
    service:
      description: Empty.
      type: str
      returned: always
      sample: ""
    action:
      description: What was done about it, V(start), V(daemon-reload) or V(remove).
      type: str
      returned: always
      sample: start
"""

import os
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hearth.fleet.plugins.module_utils import backup_area, drill_area, units
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.systemd import Systemd
from ansible_collections.hearth.fleet.plugins.module_utils.unit_marks import UNITS


def remove(systemd: Systemd, paths: Sequence[str]) -> None:
    """Stop the jobs to which these files belong, and remove the files."""
    names = [os.path.basename(path) for path in paths if os.path.dirname(path) == UNITS]
    if names:
        # What starts the jobs first, so that nothing starts one in between.
        systemd.ctl("stop", "--", *sorted(names, key=lambda name: name.endswith(".service")))
    for path in paths:
        os.unlink(path)
    if names:
        systemd.ctl("daemon-reload")
        for name in names:
            # Escaped or not, a name is a pattern here: then one that systemd has forgotten is no error.
            systemd.ctl("reset-failed", "--", f"{name}*")


def apply(systemd: Systemd, differences: Sequence[Difference]) -> None:
    """Do what the differences say."""
    by_action = {action: [one.item for one in differences if one.action == action] for action in ("remove", "daemon-reload", "start")}
    remove(systemd, by_action["remove"])
    if by_action["daemon-reload"]:
        systemd.ctl("daemon-reload")
    if by_action["start"]:
        systemd.ctl("start", "--", *by_action["start"])


def main() -> None:
    """Run the module."""
    names = {"type": "list", "elements": "str", "required": True}
    area = {"type": "str", "choices": ["backup", "drill"], "default": "backup"}
    module = AnsibleModule(argument_spec={"units": names, "timers": names, "keep": names, "area": area}, supports_check_mode=True)
    wanted = module.params["units"]
    ours = backup_area.ours(patterns=drill_area.OURS) if module.params["area"] == "drill" else backup_area.ours()
    try:
        differences = [
            *backup_area.unit_differences(wanted, module.params["timers"], units.states_of(wanted)),
            *backup_area.stale_differences(module.params["keep"], ours),
        ]
        if not module.check_mode:
            apply(Systemd(module), differences)
    except (FleetError, OSError) as error:
        module.fail_json(msg=str(error))
    shown = {"prepared": "".join(f"{one}\n" for one in differences)}
    module.exit_json(changed=bool(differences), differences=[one.as_dict() for one in differences], diff=shown)


if __name__ == "__main__":
    main()
