#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: backup_store
short_description: See what backups a store holds, and what is wrong with them
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Lists the store, reads the manifests of the newest backups, and compares both with what every host should back up.
  - Says which backups are older than they may be, incomplete, or about to be removed by the store with no newer one in sight.
  - Runs on the controller, once for the whole play, and touches no host.
requirements:
  - on the controller, the program C(rclone) (package rclone)
options:
  store:
    description: The store, as C(backup_store) describes it.
    type: dict
    required: true
  access_key_id:
    description: The access key that may read and list; for O(hold) one that may write too.
    type: str
    default: ""
  secret_access_key:
    description: Its secret.
    type: str
    default: ""
  specs:
    description: What is wanted of each host, as M(hearth.fleet.service_spec) returns it.
    type: dict
    required: true
  hosts:
    description: Show these hosts, and those that the inventory does not know any more.
    type: list
    elements: str
    default: []
  hold:
    description: Copy the newest backups of this host to where the store never expires them.
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
  - module: hearth.fleet.backup_lifecycle
  - module: hearth.fleet.restore
"""

EXAMPLES = r"""
- name: See what backups there are
  hearth.fleet.backup_store:
    store: "{{ backup_store }}"
    access_key_id: "{{ backup_read_access_key_id }}"
    secret_access_key: "{{ backup_read_secret_access_key }}"
    specs: "{{ fleet.specs }}"
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true
  register: seen
"""

RETURN = r"""
rows:
  description:
    - One entry for each host, service and set, with C(host), C(service), C(set), C(id) and time of the C(newest) backup, C(age_seconds), C(size)
      in bytes, whether it is young enough (C(met)), when it C(expires), how many C(backups) there are, and C(problems) in words.
  returned: success
  type: list
  elements: dict
shown:
  description: The rows as a table.
  returned: success
  type: str
problems:
  description: All problems, each with its service, set and host.
  returned: success
  type: list
  elements: str
held:
  description: The keys of the manifests of the backups that are held now.
  returned: success
  type: list
  elements: str
"""
