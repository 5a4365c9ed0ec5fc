#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: restore
short_description: Restore a backup of a service to a host
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Takes the newest backup of a set, the last one before a moment, or a named one from the store, decrypts it on the controller, where
    the identity is, and sends it to the host. There it is unpacked beside its place and checked (hashes, integrity, schema, tables, sentinel).
    Only then is the service stopped, the data exchanged (a database with its -wal, -shm and -journal), and the service started.
  - When the service does not become ready, the old data come back, and the service with them.
  - The old data are kept beside the new ones, in a directory called C(.before-restore-) and the id of the restore.
  - Refuses what would do harm, such as the data of a newer release, a backup of another host, or parts that are not what the manifest says.
requirements:
  - on the controller, the programs C(rclone) and C(age) (packages rclone and age)
  - on the host, the program C(zstd) (package zstd)
options:
  store:
    description: The store, as C(backup_store) describes it.
    type: dict
    required: true
  access_key_id:
    description: The access key that may read and list.
    type: str
    default: ""
  secret_access_key:
    description: Its secret.
    type: str
    default: ""
  specs:
    description: What is wanted of the host, as M(hearth.fleet.service_spec) returns it.
    type: dict
    required: true
  service:
    description: The service.
    type: str
    required: true
  set:
    description: The set of the service.
    type: str
    default: data
  at:
    description: A moment such as V(2026-11-20 12:00), in UTC unless it has an offset. The last backup taken before it is restored.
    type: str
    default: ""
  id:
    description: The id of a backup, or how it begins.
    type: str
    default: ""
  from_host:
    description: The host whose backup it is, where that is another one.
    type: str
    default: ""
  identity:
    description: Files on the controller with age identities (also of plugins), or SSH keys.
    type: list
    elements: path
    default: []
  identity_text:
    description: An identity itself, for example from a vault.
    type: str
    default: ""
  piece_size:
    description: How many bytes are sent to the host at a time.
    type: int
    default: 33554432
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: hearth.fleet.backup_store
"""

EXAMPLES = r"""
- name: Restore the newest backup
  hearth.fleet.restore:
    store: "{{ backup_store }}"
    access_key_id: "{{ backup_read_access_key_id }}"
    secret_access_key: "{{ backup_read_secret_access_key }}"
    identity: ["~/.config/hearth/operator.txt"]
    specs: "{{ fleet.specs[inventory_hostname] }}"
    service: kontinuum-node-server
"""

RETURN = r"""
backup:
  description: The manifest of the backup.
  returned: when there is one
  type: dict
shown:
  description: What is restored, for a person to read.
  returned: when there is one
  type: str
downtime:
  description: Seconds from the stop of the service until it was ready; null when it was not stopped.
  returned: when restored
  type: float
aside:
  description: The directories on the host that hold the old data.
  returned: when restored
  type: list
  elements: str
said:
  description: What was checked, in words.
  returned: when restored
  type: list
  elements: str
rto:
  description: Seconds from the begin to a ready service.
  returned: always
  type: float
"""
