#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: accounts
short_description: Bring groups and accounts to what is wanted, all in one call
version_added: "0.1.0"
description:
  - Compares any number of groups and accounts with what is wanted and changes those that differ, with the tools of the distribution
    (C(groupadd), C(useradd), C(usermod), C(userdel), C(chpasswd)).
  - System accounts have exactly the supplementary groups that are listed and a locked password. Other accounts keep the groups that
    they got from elsewhere.
  - Numbers of accounts and groups are never changed, because files would change hands. A number that differs is an error.
  - The account through which the connection came in is never removed, nor do its SSH keys lose all that it has now.
options:
  groups:
    description: The groups.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The group's name.
        type: str
        required: true
      gid:
        description: The group's number. Without it any.
        type: int
      system:
        description: Whether a new group gets its number from the range of system groups.
        type: bool
        default: false
  users:
    description: The accounts.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The account's name.
        type: str
        required: true
      group:
        description: The primary group.
        type: str
        required: true
      groups:
        description: The supplementary groups.
        type: list
        elements: str
        default: []
      uid:
        description: The account's number. Without it any.
        type: int
      home:
        description: The home directory. When it changes, files stay where they are.
        type: str
        required: true
      shell:
        description: The login shell.
        type: str
        default: /usr/sbin/nologin
      system:
        description: Whether the account is a service's, with a locked password and no other groups than those listed.
        type: bool
        default: false
      create_home:
        description: Whether the home directory is made if it is missing.
        type: bool
        default: false
      comment:
        description: The account's description. Empty to leave it alone.
        type: str
        default: ""
      password_hash:
        description:
          - The password's hash, as crypt(5) describes it and the filter P(ansible.builtin.password_hash#filter) makes it.
          - Give the filter a fixed salt, or every run finds a password that differs.
          - A password itself is refused.
        type: str
      ssh_keys:
        description:
          - The public keys that another task is about to make the account's only ones.
          - If the connection came in through this account and none of its present keys is among them, the call is refused.
        type: list
        elements: str
        default: []
      service:
        description: The service to whom the account belongs, for the messages.
        type: str
        default: ""
      absent:
        description: Whether the account should not exist. Its home directory stays.
        type: bool
        default: false
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - hearth.fleet contributors (@hearth-fleet)
"""

EXAMPLES = r"""
- name: Create the relay's account
  hearth.fleet.accounts:
    groups:
      - {name: relay, system: true}
    users:
      - {name: relay, group: relay, groups: [dialout], home: /var/lib/relay, system: true}

- name: Let Alice in
  hearth.fleet.accounts:
    groups:
      - name: alice
    users:
      - {name: alice, group: alice, groups: [adm], home: /home/alice, shell: /bin/bash, create_home: true}
"""

RETURN = r"""
differences:
  description: What differed, and was changed unless in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    item:
      description: The group or account.
      type: str
      returned: always
      sample: user relay
    reason:
      description: What differed.
      type: str
      returned: always
      sample: "shell /bin/sh, not /usr/sbin/nologin; not in group dialout"
    service:
      description: The service to whom it belongs.
      type: str
      returned: always
      sample: relay
    action:
      description: What was done about it, V(create), V(change) or V(remove).
      type: str
      returned: always
      sample: change
"""


from ansible_collections.hearth.fleet.plugins.module_utils import accounts
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule

GROUP = {
    "name": {"type": "str", "required": True},
    "gid": {"type": "int"},
    "system": {"type": "bool", "default": False},
}
USER = {
    "name": {"type": "str", "required": True},
    "group": {"type": "str", "required": True},
    "groups": {"type": "list", "elements": "str", "default": []},
    "uid": {"type": "int"},
    "home": {"type": "str", "required": True},
    "shell": {"type": "str", "default": "/usr/sbin/nologin"},
    "system": {"type": "bool", "default": False},
    "create_home": {"type": "bool", "default": False},
    "comment": {"type": "str", "default": ""},
    "password_hash": {"type": "str", "no_log": True},
    "ssh_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "service": {"type": "str", "default": ""},
    "absent": {"type": "bool", "default": False},
}


def main() -> None:
    module = QuietModule(
        argument_spec={
            "groups": {"type": "list", "elements": "dict", "default": [], "options": GROUP},
            "users": {"type": "list", "elements": "dict", "default": [], "options": USER},
        },
        supports_check_mode=True,
    )
    wanted = {"groups": module.params["groups"], "users": module.params["users"]}
    try:
        accounts.require_sound(wanted)
        observed = accounts.look(wanted)
        differences = accounts.diff(wanted, observed)
        accounts.require_allowed(differences)
        if not module.check_mode:
            accounts.apply(wanted, observed)
    except FleetError as error:
        module.fail_json(msg=str(error))
    shown = [{"before_header": one.item, "after_header": one.item, "before": "", "after": f"{one.reason}\n"} for one in differences]
    module.exit_json(changed=bool(differences), differences=[one.as_dict() for one in differences], diff=shown)


if __name__ == "__main__":
    main()
