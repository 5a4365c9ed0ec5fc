#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Install the systemd units of services, each judged before it replaces anything
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Compares the unit files of any number of services with what is wanted, and changes those that differ, all in one call.
  - Every new unit file is first judged under its own name, together with the drop-ins that are on the host. Any complaint of
    C(systemd-analyze verify) is an error, also the warnings with which it would let a misspelt directive pass. So is an
    exposure, measured by C(systemd-analyze security), over the unit's threshold. Only when all have passed, the first one replaces
    anything.
  - Then systemd reads its units again, once, and the units are enabled, and unmasked where somebody masked them.
  - Nothing is ever started or restarted here. A unit of this collection that nobody wants any more is stopped, disabled and
    removed; the data and the config of its service stay.
  - Drop-ins belong to the operator, and are left alone.
options:
  units:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      service:
        description: The service's name.
        type: str
        required: true
      name:
        description: The unit's name.
        type: str
        required: true
      content:
        description:
          - The whole unit file.
          - Its first line must be C(# Managed by hearth.fleet:) C(service) and the service's name. By that line the module knows its own.
        type: str
        required: true
      sha256:
        description: The digest of O(units[].content), as the plan carries it. It is computed from the content here.
        type: str
      exposure_max:
        description: The highest exposure that C(systemd-analyze security) may find, of 10.
        type: float
        default: 1.5
      enabled:
        description: Whether the unit starts at boot.
        type: bool
        default: true
      stamp:
        description: The paths of what the daemon reads when it starts. Not used here.
        type: list
        elements: path
        default: []
  held:
    description: Services that wait for their rollout. Their units stay as they are, and are not stale.
    type: list
    elements: str
    default: []
  remove_stale:
    description: Whether units of this collection that are not among O(units) are stopped, disabled and removed.
    type: bool
    default: true
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
    details:
      - The new unit files are judged as well, save that programs may be missing.
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Install the relay's unit
  hearth.fleet.units:
    units:
      - service: relay
        name: relay.service
        exposure_max: 2.5
        content: |
          # Managed by hearth.fleet: service relay
          [Service]
          User=relay
          ExecStart=/usr/local/bin/relay
          ProtectSystem=strict
          [Install]
          WantedBy=multi-user.target
    remove_stale: false
"""

RETURN = r"""
differences:
  description: What differed, and was changed unless in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    item:
      description: The unit file's path or the unit's name.
      type: str
      returned: always
      sample: /etc/systemd/system/relay.service
    reason:
      description: What differed.
      type: str
      returned: always
      sample: content differs
    service:
      description: The service to whom the unit belongs.
      type: str
      returned: always
      sample: relay
    action:
      description: What was done about it.
      type: str
      returned: always
      sample: change
exposures:
  description: The exposure of every unit file that was judged, of 10.
  returned: success
  type: dict
  sample: {relay.service: 1.1}
removed:
  description: Units that nobody wanted any more, which were stopped and removed unless in check mode.
  returned: success
  type: list
  elements: str
  sample: []
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hearth.fleet.plugins.module_utils import paths, placing, unit_marks, units
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.systemd import Systemd

UNIT = {
    "service": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "content": {"type": "str", "required": True},
    "sha256": {"type": "str"},
    "exposure_max": {"type": "float", "default": 1.5},
    "enabled": {"type": "bool", "default": True},
    "stamp": {"type": "list", "elements": "path", "default": []},
}


def require_sound(wanted: Sequence[Mapping[str, Any]]) -> None:
    """Raise FleetError for a unit that could not be recognised as ours later, or that is listed twice."""
    seen = set()
    for unit in wanted:
        header = unit_marks.HEADER + unit["service"]
        if unit["content"].partition("\n")[0] != header:
            raise FleetError(f"{unit['name']}: its first line must be {header!r}, by which it is known as ours")
        if "/" in unit["name"] or not unit["name"].endswith(".service"):
            raise FleetError(f"{unit['name']!r} is not the name of a service's unit; write it like relay.service")
        if unit["name"] in seen:
            raise FleetError(f"{unit['name']} is listed twice; one of the two would undo the other")
        seen.add(unit["name"])


def names_of(differences: Sequence[Difference], *actions: str) -> list[str]:
    """Return the units with one of these actions."""
    return [one.item for one in differences if one.action in actions]


def remove(systemd: Systemd, stale: Sequence[Difference]) -> None:
    """Stop, disable and remove units that nobody wants."""
    names = [one.item for one in stale]
    if not names:
        return
    systemd.ctl("disable", "--now", "--", *names)
    # What failed would be listed as failed until the next boot. As a pattern, a unit that systemd has forgotten is no error.
    systemd.ctl("reset-failed", "--", *(f"{name}*" for name in names))
    for one in stale:
        os.unlink(os.path.join(unit_marks.UNITS, one.item))
        stamp = os.path.join(units.STAMPS, f"{one.service}.started")
        if os.path.exists(stamp):
            os.unlink(stamp)


def apply(systemd: Systemd, wanted: Sequence[Mapping[str, Any]], observed: Mapping[str, Any], differences: Sequence[Difference]) -> None:
    """Bring the units to what is wanted. The new files have been judged."""
    remove(systemd, [one for one in differences if one.action == "remove" and one.item in observed["ours"]])
    for unit in wanted:
        if units.is_masked(observed["units"][unit["name"]]):
            os.unlink(os.path.join(unit_marks.UNITS, unit["name"]))
    entries = [unit_marks.entry(unit) for unit in wanted]
    now = paths.look(entries)
    placing.apply(entries, now, paths.diff(entries, now))
    masked_elsewhere = [name for name in names_of(differences, "unmask") if not units.is_masked(observed["units"][name])]
    if masked_elsewhere:
        systemd.ctl("unmask", "--runtime", "--", *masked_elsewhere)
    systemd.ctl("daemon-reload")
    after = units.diff(wanted, units.look(wanted), remove_stale=False)
    for verb in ("enable", "disable"):
        due = names_of(after, verb)
        if due:
            systemd.ctl(verb, "--", *due)


def shown(wanted: Sequence[Mapping[str, Any]], observed: Mapping[str, Any], differences: Sequence[Difference]) -> list[dict[str, str]]:
    """Return what ``--diff`` shows: the unit files before and after, and what happens besides."""
    masked = [unit for unit in wanted if units.is_masked(observed["units"][unit["name"]])]
    entries = [unit_marks.entry(unit) for unit in wanted if unit not in masked]
    found = placing.changes(entries, {one["path"]: observed["units"][os.path.basename(one["path"])]["file"] for one in entries})
    others = [f"{one}\n" for one in differences if one.item != os.path.join(unit_marks.UNITS, os.path.basename(one.item))]
    return [*found, {"prepared": "".join(others)}] if others else found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "dict", "required": True, "options": UNIT},
            "held": {"type": "list", "elements": "str", "default": []},
            "remove_stale": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    held = module.params["held"]
    wanted = [
        {**unit, "sha256": hashlib.sha256(unit["content"].encode()).hexdigest()} for unit in module.params["units"] if unit["service"] not in held
    ]
    systemd = Systemd(module)
    try:
        require_sound(wanted)
        observed = units.look(wanted)
        differences = units.diff(wanted, observed, held=held, remove_stale=module.params["remove_stale"])
        changed_files = {one.item for one in differences if one.action in ("create", "change")}
        masked = names_of(differences, "unmask")
        exposures = systemd.judge(
            [unit for unit in wanted if os.path.join(unit_marks.UNITS, unit["name"]) in changed_files or unit["name"] in masked]
        )
        diff = shown(wanted, observed, differences) if module._diff else []
        if differences and not module.check_mode:
            apply(systemd, wanted, observed, differences)
    except (FleetError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(differences),
        differences=[one.as_dict() for one in differences],
        exposures=exposures,
        removed=[one.item for one in differences if one.action == "remove" and one.item in observed["ours"]],
        diff=diff,
    )


if __name__ == "__main__":
    main()
