#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ufw_ruleset
short_description: Bring the whole UFW firewall of a host to a set of rules, safely
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - One call brings settings and rules of UFW to what is wanted, in IPv4 and IPv6, adding what is missing and removing what is stale.
  - Rules are known by their owner, which stands in their UFW comment (C(hearth:OWNER)). Rules of others are left alone.
  - The kernel is looked at as well, so that rules which somebody flushed, or a firewall that was stopped, are noticed and repaired.
  - A change is refused if the next SSH connection of the present peer would not get through.
  - A change reverts itself on the host unless a new connection confirms it in time. The files in C(/etc/ufw) stay the old ones
    until then, so that a reboot, too, brings the old rules back.
notes:
  - UFW itself must be installed, except in check mode. The host must run systemd.
  - Where only rules change, each family's rules are replaced in one atomic step. A change of default policies, of O(ipv6) or of
    O(enabled) goes through UFW's own init script, which takes the firewall down for a moment, as C(ufw reload) does.
  - With a local connection there is no new connection that could fail, so nothing but O(keep_connection) protects SSH.
  - Connections that exist already are kept; UFW lets established connections pass.
options:
  enabled:
    description: Whether the firewall is on, now and at boot. If not, its rules are left as they are.
    type: bool
    default: true
  defaults:
    description: What happens to packets that no rule matches.
    type: dict
    default: {}
    suboptions:
      incoming:
        description: Packets to this host.
        type: str
        choices: [allow, deny, reject]
        default: deny
      outgoing:
        description: Packets from this host.
        type: str
        choices: [allow, deny, reject]
        default: allow
      routed:
        description: Packets through this host.
        type: str
        choices: [allow, deny, reject]
        default: deny
  ipv6:
    description: Whether UFW manages IPv6. If not, it drops all IPv6 except on the loopback interface.
    type: bool
    default: true
  logging:
    description: UFW's log level.
    type: str
    choices: ['off', low, medium, high, full]
    default: low
  exclusive:
    description: Whether rules of others in UFW's files are removed. Chains of others in the kernel are never touched.
    type: bool
    default: false
  rules:
    description: All rules of ours, in the order in which they are tried.
    type: list
    elements: dict
    default: []
    suboptions:
      owner:
        description: Whom the rule belongs to, such as V(node/libp2p).
        type: str
        required: true
      port:
        description: The port, a range such as V(8000:8010), or V(any).
        type: str
        required: true
      proto:
        description: The protocol.
        type: str
        choices: [tcp, udp, any]
        default: any
      action:
        description: What happens. V(limit) lets in, but rejects peers with six new connections within 30 seconds.
        type: str
        choices: [allow, deny, reject, limit]
        default: allow
      source:
        description: From where, an address, a network, or V(any) for IPv4 and IPv6 alike.
        type: str
        default: any
      interface:
        description: Only packets that come in on this interface; any if empty.
        type: str
        default: ''
  keep_connection:
    description: Whether to refuse rules that would not let in the next SSH connection of the present peer.
    type: bool
    default: true
  confirm_seconds:
    description: How long the host waits for a new connection to confirm the change before it restores the old rules; at least 10.
    type: int
    default: 60
  ssh_ports:
    description: Ports of sshd. Peers connected to them are protected when the call's own connection cannot be told.
    type: list
    elements: int
    default: [22]
  phase:
    description: Which part of a change this call does. The action plugin of the same name sets it; leave it out.
    type: str
    choices: [apply, confirm, confirm_local]
    default: apply
  token:
    description: Which change to confirm. The action plugin of the same name sets it; leave it out.
    type: str
    default: ''
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Let in SSH, a peer-to-peer port from anywhere, and metrics from one network
  hearth.fleet.ufw_ruleset:
    rules:
      - {owner: host/ssh, port: "22", proto: tcp, action: limit}
      - {owner: node/libp2p, port: "4001"}
      - {owner: node/metrics, port: "9100", proto: tcp, source: 192.0.2.0/24}

- name: Show what would change
  hearth.fleet.ufw_ruleset:
    rules:
      - {owner: host/ssh, port: "22", proto: tcp}
    exclusive: true
  check_mode: true
  diff: true
"""

RETURN = r"""
differences:
  description: In what the host differed from what is wanted. Empty when nothing had to change.
  returned: always
  type: list
  elements: dict
  sample: [{item: "allow 4001 from any (node/libp2p)", reason: missing, service: node, action: add}]
confirmed:
  description: Whether a new connection confirmed the change.
  returned: when rules or settings changed
  type: bool
token:
  description: The change that waits for confirmation, for the action plugin.
  returned: when rules or settings changed
  type: str
reverted:
  description: Whether the old rules are back.
  returned: when a change failed
  type: bool
"""

import importlib.util
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

from ansible_collections.hearth.fleet.plugins.module_utils import ufw_transaction as transaction
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.firewall_formats import SHORTEST_CONFIRMATION_SECONDS
from ansible_collections.hearth.fleet.plugins.module_utils.ufw_access import refusal
from ansible_collections.hearth.fleet.plugins.module_utils.ufw_review import describe, describe_target
from ansible_collections.hearth.fleet.plugins.module_utils.ufw_rules import diff, look

POLICY = ["allow", "deny", "reject"]
ARGUMENTS: dict[str, Any] = {
    "enabled": {"type": "bool", "default": True},
    "defaults": {
        "type": "dict",
        "default": {},
        "options": {
            "incoming": {"type": "str", "choices": POLICY, "default": "deny"},
            "outgoing": {"type": "str", "choices": POLICY, "default": "allow"},
            "routed": {"type": "str", "choices": POLICY, "default": "deny"},
        },
    },
    "ipv6": {"type": "bool", "default": True},
    "logging": {"type": "str", "choices": ["off", "low", "medium", "high", "full"], "default": "low"},
    "exclusive": {"type": "bool", "default": False},
    "rules": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "owner": {"type": "str", "required": True},
            "port": {"type": "str", "required": True},
            "proto": {"type": "str", "choices": ["tcp", "udp", "any"], "default": "any"},
            "action": {"type": "str", "choices": ["allow", "deny", "reject", "limit"], "default": "allow"},
            "source": {"type": "str", "default": "any"},
            "interface": {"type": "str", "default": ""},
        },
    },
    "keep_connection": {"type": "bool", "default": True},
    "confirm_seconds": {"type": "int", "default": 60},
    "ssh_ports": {"type": "list", "elements": "int", "default": [22]},
    "phase": {"type": "str", "choices": ["apply", "confirm", "confirm_local"], "default": "apply"},
    "token": {"type": "str", "default": "", "no_log": False},
}


def main() -> None:
    """Do one phase of a change."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        if module.params["phase"] == "apply":
            apply(module)
        confirm(module)
    except FleetError as error:
        module.fail_json(msg=str(error))


def apply(module: AnsibleModule) -> None:
    """Compare, refuse what would cut the connection, and try what is wanted in the kernel until it is confirmed."""
    wanted = module.params
    if wanted["confirm_seconds"] < SHORTEST_CONFIRMATION_SECONDS:
        raise FleetError(f"confirm_seconds: {wanted['confirm_seconds']} is too short; write {SHORTEST_CONFIRMATION_SECONDS} or more")
    if transaction.left_over() and not module.check_mode:
        # Of a run that was broken off. Its timer would do the same a little later, in the middle of this one.
        transaction.revert()
    observed = look(wanted)
    differences = diff(wanted, observed)
    result: dict[str, Any] = {
        "changed": bool(differences),
        "differences": [difference.as_dict() for difference in differences],
        "diff": {"before": describe(observed), "after": describe_target(wanted, observed) if differences else describe(observed)},
    }
    connection = transaction.ssh_connection()
    if differences and wanted["keep_connection"]:
        refused = refusal(wanted, observed, [connection] if connection else transaction.established(wanted["ssh_ports"]))
        if refused:
            raise FleetError(refused)
    if not differences or module.check_mode:
        module.exit_json(**result)
    if not observed["installed"]:
        raise FleetError("ufw is not installed on this host; install the package ufw first, as the role hearth.fleet.firewall does")
    if any(difference.item != "ufw.service" for difference in differences):
        use_interpreter_of_ufw(module)
        result.update(attempt(wanted, observed, connection))
    if wanted["enabled"] and not observed["boot"]:
        transaction.enable_at_boot()
    module.exit_json(**result)


def attempt(wanted: dict[str, Any], observed: dict[str, Any], connection: transaction.Connection | None) -> dict[str, Any]:
    """Give the kernel the new rules, with the way back armed. Raises FleetError, with the old rules back in place."""
    token = ""
    try:
        with transaction.locked():
            token = transaction.begin(wanted, observed, connection)
            transaction.arm(wanted["confirm_seconds"], token)
            transaction.load(wanted, observed)
    except FleetError:
        if token:
            transaction.revert(token)
        raise
    return {"token": token, "confirmed": False}


def confirm(module: AnsibleModule) -> None:
    """Make the pending change last; where that cannot be, put the old rules back at once."""
    try:
        with transaction.locked():
            # Ansible's own connection to this machine is not SSH, so an SSH session around it is the same for both calls.
            local = module.params["phase"] == "confirm_local"
            transaction.commit(module.params["token"], None if local else transaction.ssh_connection())
    except FleetError as error:
        transaction.revert(module.params["token"])
        module.fail_json(msg=str(error), reverted=True)
    module.exit_json(changed=True, confirmed=True)


def use_interpreter_of_ufw(module: AnsibleModule) -> None:
    """Go on under the Python that UFW was installed for, if this one does not know its library."""
    if importlib.util.find_spec("ufw") is not None:
        return
    interpreter = None if has_respawned() else probe_interpreters_for_module(["/usr/bin/python3"], "ufw")
    if interpreter is None:
        module.fail_json(msg="no Python on this host can import UFW's library; reinstall the package ufw")
    respawn_module(interpreter)


if __name__ == "__main__":
    main()
