#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: backup_lifecycle
short_description: Let the store expire old backups by itself
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Gives the bucket one lifecycle rule for each class of backups, and one that removes what is left of uploads that were never completed.
    Hosts never delete anything, so without these rules a bucket only grows.
  - Rules of others are kept; those that would remove backups are reported.
  - Runs on the controller, once for the whole play, and touches no host.
requirements:
  - on the controller, the Python package C(boto3) and the program C(rclone)
options:
  store:
    description: The store, as C(backup_store) describes it.
    type: dict
    required: true
  access_key_id:
    description: The access key that may list, and read and set lifecycle rules.
    type: str
    default: ""
  secret_access_key:
    description: Its secret.
    type: str
    default: ""
  state:
    description: Whether the rules are set, or only compared.
    type: str
    choices: [applied, checked]
    default: applied
  specs:
    description: What is wanted of each host, as M(hearth.fleet.service_spec) returns it.
    type: dict
    required: true
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
seealso:
  - module: hearth.fleet.backup_store
"""

EXAMPLES = r"""
- name: Let the store expire old backups
  hearth.fleet.backup_lifecycle:
    store: "{{ backup_store }}"
    access_key_id: "{{ backup_admin_access_key_id }}"
    secret_access_key: "{{ backup_admin_secret_access_key }}"
    specs: "{{ fleet.specs }}"
  run_once: true
"""

RETURN = r"""
supported:
  description: Whether the store has lifecycle rules at all.
  returned: success
  type: bool
versions:
  description:
    - Whether the bucket keeps what was replaced, C(Enabled), or did so once, C(Suspended); then the rules are about replaced objects too.
    - Empty where it never did.
  returned: when the store could be asked
  type: str
object_lock:
  description: Whether the bucket has object lock; null where the credentials may not ask.
  returned: when the store could be asked
  type: bool
rules:
  description: The rules of the collection, as S3's PutBucketLifecycleConfiguration takes them.
  returned: always
  type: list
  elements: dict
problems:
  description: What is wrong with the rules of the bucket, in words; what was set right is not among it.
  returned: success
  type: list
  elements: str
"""
