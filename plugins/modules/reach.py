#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: reach
short_description: Try which ports of other hosts can be reached from this one
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Opens a TCP connection to each port, all at the same time, and closes it again without a word.
  - Changes nothing, here or there. Whether a port should have answered is for P(hearth.fleet.audit_report#filter) to judge.
options:
  probes:
    description: What to try.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: Whose port it is, for people.
        type: str
      address:
        description: The address to connect to.
        type: str
        required: true
      port:
        description: The TCP port.
        type: int
        required: true
      service:
        description: The service whose port it is, for people.
        type: str
      name:
        description: What the port is for, for people.
        type: str
      expect:
        description: What should come of it, for whoever judges.
        type: str
        choices: [open, closed]
  timeout:
    description: How long to wait for an answer, in seconds.
    type: float
    default: 2
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
notes:
  - UDP is not tried. A UDP port that does not answer may be open or closed.
"""

EXAMPLES = r"""
- name: Try the message broker of relay1 from here
  hearth.fleet.reach:
    probes:
      - address: 192.0.2.1
        port: 4222
"""

RETURN = r"""
probes:
  description:
    - The probes in their order, each with its C(outcome), V(open), V(refused), V(timed out), V(no route), or another error in words.
  returned: success
  type: list
  elements: dict
  sample:
    - address: 192.0.2.1
      port: 4222
      outcome: open
"""

import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

AT_ONCE = 256
NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

PROBE = {
    "host": {"type": "str"},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "service": {"type": "str"},
    "name": {"type": "str"},
    "expect": {"type": "str", "choices": ["open", "closed"]},
}


def outcome(address: str, port: int, timeout: float) -> str:
    """Return what came of one connection, in words."""
    try:
        with socket.create_connection((address, port), timeout=timeout):
            return "open"
    except ConnectionRefusedError:
        return "refused"
    except (TimeoutError, socket.timeout):  # the same only since Python 3.10
        return "timed out"
    except OSError as error:
        return "no route" if error.errno in NO_ROUTE else os.strerror(error.errno) if error.errno else str(error)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "probes": {"type": "list", "elements": "dict", "required": True, "options": PROBE},
            "timeout": {"type": "float", "default": 2},
        },
        supports_check_mode=True,
    )
    probes: list[dict[str, Any]] = module.params["probes"]
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(probes) or 1)) as pool:
        outcomes = list(pool.map(lambda one: outcome(one["address"], one["port"], module.params["timeout"]), probes))
    module.exit_json(changed=False, probes=[{**one, "outcome": found} for one, found in zip(probes, outcomes)])


if __name__ == "__main__":
    main()
