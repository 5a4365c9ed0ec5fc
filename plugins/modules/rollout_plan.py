#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_plan
short_description: Plan which service changes on which host, in which batches
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Compares what runs with what is wanted, and says which hosts change from what to what, in which order, and how many at a time.
  - Says everything at once that stands against it, such as another rollout, too few ready hosts, or a downgrade that nobody asked for.
  - Runs on the controller, once for the whole play, and touches no host.
options:
  specs:
    description: What is wanted of each host, as M(hearth.fleet.service_spec) returns it.
    type: dict
    required: true
  looks:
    description: What M(hearth.fleet.observe) returned, by host, with its probe.
    type: dict
    required: true
  playbook:
    description: The playbook, for the lock and the journals.
    type: str
    required: true
  services:
    description: Only these services.
    type: list
    elements: str
    default: []
  hosts:
    description: Only these hosts. The others are looked at all the same, so that enough of them stay ready.
    type: list
    elements: str
    default: []
  pending_only:
    description: Only restarts and reloads that are pending; new releases wait.
    type: bool
    default: false
  proposed:
    description: The hosts are not converged yet. What will have to restart or reload then is part of the plan.
    type: bool
    default: false
  rollback:
    description: Go back to O(version), or to the release that ran before.
    type: bool
    default: false
  version:
    description: The release that O(rollback) goes back to.
    type: str
    default: ""
  restart:
    description: Also restart what needs no change.
    type: bool
    default: false
  promote:
    description: Services whose canary was found good.
    type: list
    elements: str
    default: []
  replan:
    description: The id of an interrupted rollout that this one, which is another, takes the place of.
    type: str
    default: ""
  break_lock:
    description: The id of a lock that is to be broken, as the refusal names it.
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
  - module: hearth.fleet.transaction
  - module: hearth.fleet.rollout_lock
"""

EXAMPLES = r"""
- name: Plan the rollout
  hearth.fleet.rollout_plan:
    specs: "{{ fleet.specs }}"
    looks: "{{ looks }}"
    playbook: rolling_upgrade
  run_once: true
  register: planned
"""

RETURN = r"""
rollout_plan:
  description:
    - C(rows), one for each service and host, C(batches) in order, the C(arithmetic) of each service, what is C(skipped), C(held) or C(adopted),
      and whether there is C(nothing) to do.
  returned: always
  type: dict
shown:
  description: The plan as text.
  returned: always
  type: str
rollout:
  description: The C(id), C(owner) and C(playbook) of this rollout.
  returned: always
  type: dict
lock:
  description: The lock that every host of the rollout is to hold.
  returned: always
  type: dict
over:
  description: The id of the lock that this rollout may replace; empty for none.
  returned: always
  type: str
"""
