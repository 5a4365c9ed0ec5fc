#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: readiness
short_description: Ask a host's services once whether they are ready
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Sends each service's readiness probe once. A service without one is ready while its unit is active.
  - Changes nothing, and does not fail when a service is not ready; whoever asks decides what that means.
options:
  services:
    description: The services.
    type: list
    elements: dict
    required: true
    suboptions:
      service:
        description: The service.
        type: str
        required: true
      unit:
        description: Its unit.
        type: str
        required: true
      ready:
        description: The probe, as C(health.ready) of a service has it.
        type: raw
  lock:
    description: The id of the rollout's lock, which gets a sign of life.
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
  - module: hearth.fleet.services
"""

EXAMPLES = r"""
- name: Ask whether the broker is ready
  hearth.fleet.readiness:
    services:
      - {service: nats-server, unit: nats-server.service, ready: "http://127.0.0.1:8222/healthz"}
"""

RETURN = r"""
services:
  description: What each service answered, by name.
  returned: success
  type: dict
  sample:
    nats-server: {ready: true, said: HTTP 200}
"""

from concurrent.futures import ThreadPoolExecutor

from ansible_collections.hearth.fleet.plugins.module_utils import probe, rollout_lock_file
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule

SERVICE = {
    "service": {"type": "str", "required": True},
    "unit": {"type": "str", "required": True},
    "ready": {"type": "raw"},
}


def main() -> None:
    """Run the module."""
    module = QuietModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "required": True, "options": SERVICE},
            "lock": {"type": "str", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    services = module.params["services"]
    if module.params["lock"] and not module.check_mode:
        rollout_lock_file.beat(module.params["lock"])
    with ThreadPoolExecutor(max_workers=max(1, len(services))) as pool:
        answers = pool.map(lambda one: probe.ask_ready(one["unit"], one["ready"]), services)
        found = {one["service"]: {"ready": answer.ok, "said": answer.said} for one, answer in zip(services, answers)}
    module.exit_json(changed=False, services=found)


if __name__ == "__main__":
    main()
