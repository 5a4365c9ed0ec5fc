#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: service_spec
short_description: Join the inventory into the desired state of every host
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Joins the catalogue C(fleet_services), C(fleet_placement), C(fleet_overrides), C(fleet_tiers) and the inputs of all roles
    into the finished description of every service on every host, and what each role has to do with it.
  - Runs on the controller, once for the whole play, and touches no host.
  - Every mistake of the inventory is reported at once, each with the path of the key that holds it.
options: {}
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
notes:
  - The result holds secrets and is therefore never shown.
seealso:
  - module: hearth.fleet.observe
"""

EXAMPLES = r"""
- name: Describe the fleet
  hearth.fleet.service_spec:
  run_once: true
  register: joined
"""

RETURN = r"""
specs:
  description: The desired state by host; C(services) are the finished descriptions, the other keys are one slice per role.
  returned: success
  type: dict
"""
