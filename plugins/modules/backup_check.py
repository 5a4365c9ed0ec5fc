#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: backup_check
short_description: See that backups will work, before they are installed
version_added: "0.1.0"
author:
  - hearth.fleet contributors (@hearth-fleet)
description:
  - Asks systemd whether it takes the schedules and the units of a host's backups, and how exposed the units are.
  - Asks the store whether the bucket is there, and whether the credentials can write, and cannot read, list or delete. For that
    it writes a few bytes below C(v1/probe-1d/), which the store expires.
  - All that is wrong is said at once. Nothing on the host is changed.
options:
  check:
    description: What is to be checked, as the join has made it (C(fleet_service_specs.backup.check)).
    type: dict
    required: true
  texts:
    description: The texts of the backups' files by path, with the units and the store's certificate among them.
    type: dict
    required: true
  conf:
    description: rclone's configuration of the store, with the hosts' credentials.
    type: str
    required: true
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
    details:
      - The store is not asked in check mode, since asking it writes.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Ask systemd and the store
  hearth.fleet.backup_check:
    check: "{{ fleet_service_specs.backup.check }}"
    texts: "{{ files | selectattr('content', 'defined') | items2dict(key_name='path', value_name='content') }}"
    conf: "{{ files | selectattr('secret_content', 'defined') | map(attribute='secret_content') | first }}"
  vars:
    files: "{{ fleet_service_specs.backup.paths }}"
"""

RETURN = r"""
lacks:
  description: What the store cannot do that would be better if it could.
  returned: success
  type: list
  elements: str
  sample: []
exposures:
  description: The exposure of each job's service, of 10.
  returned: success
  type: dict
  sample: {hearth-backup-relay.data.service: 1.2}
"""

import secrets
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hearth.fleet.plugins.module_utils import backup_review, object_store
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.hearth.fleet.plugins.module_utils.systemd import Systemd
from ansible_collections.hearth.fleet.plugins.module_utils.unit_marks import UNITS

CA = "/etc/hearth/backup/ca.pem"
ATTEMPTS = 2
CONNECT_SECONDS = 10


def check_schedules(systemd: Systemd, schedules: list[dict[str, str]]) -> list[Mistake]:
    """Return the schedules that systemd does not take; each expression is asked about once."""
    answers = {text: systemd.why_no_schedule(text) for text in dict.fromkeys(one["schedule"] for one in schedules)}
    return [backup_review.about_schedule(one["path"], one["schedule"], answers[one["schedule"]]) for one in schedules if answers[one["schedule"]]]


def judge_units(systemd: Systemd, check: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, float]:
    """Return the exposures of the units. Raises FleetError where systemd finds fault with one."""
    return systemd.judge([{**one, "content": texts[f"{UNITS}/{one['name']}"]} for one in check["units"]])


def require_reachable(endpoint: str) -> None:
    """Raise StoreError where nobody answers at the store's address; rclone would try for minutes."""
    parts = urlsplit(endpoint)
    try:
        socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise object_store.StoreError(str(error), object_store.UNREACHABLE) from error


def ask_store(check: Mapping[str, Any], conf: str, ca: str, directory: str) -> object_store.Abilities:
    """Return what the credentials can do in the store. Raises StoreError where it could not even be asked."""
    require_reachable(check["store"]["endpoint"])
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        files = {name: Path(scratch, name) for name in ("rclone.conf", "ca.pem", "probe")}
        for name, text in (("rclone.conf", conf), ("ca.pem", ca), ("probe", "Written by a check of the backups; nobody needs it.\n")):
            files[name].write_text(text, encoding="utf-8")
            files[name].chmod(0o600)
        wanted = check["store"]
        store = object_store.Store(files["rclone.conf"], wanted["bucket"], wanted["prefix"], files["ca.pem"] if ca else "", attempts=ATTEMPTS)
        key = f"{backup_review.PROBES}/{check['host']}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
        return object_store.probe(store, key, files["probe"])


def check_store(module: AnsibleModule, check: Mapping[str, Any]) -> tuple[list[Mistake], list[str]]:
    """Return what is wrong with store and credentials, and what the store lacks."""
    if module.check_mode:
        return [], []
    try:
        found = ask_store(check, module.params["conf"], module.params["texts"].get(CA, ""), module.tmpdir)
    except object_store.StoreError as error:
        mistake = backup_review.about_error(check, error.kind, str(error).splitlines()[0])
        if error.kind != object_store.UNREACHABLE or check["unreachable"] == "fail":
            return [mistake], []
        module.warn(str(mistake))
        return [], []
    return backup_review.problems(check, found), backup_review.lacks(found)


def main() -> None:
    """Run the module."""
    module = QuietModule(
        argument_spec={
            "check": {"type": "dict", "required": True},
            "texts": {"type": "dict", "required": True},
            "conf": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    check = module.params["check"]
    texts = module.params["texts"]
    systemd = Systemd(module)
    said, exposures = [], {}
    try:
        said += [str(mistake) for mistake in check_schedules(systemd, check["schedules"])]
        if not said:  # else systemd says the same of the timers
            exposures = judge_units(systemd, check, texts)
    except FleetError as error:
        said.append(str(error))
    try:
        mistakes, lacking = check_store(module, check)
    except (FleetError, OSError) as error:
        mistakes, lacking = [Mistake("backup_store", str(error))], []
    said += [str(mistake) for mistake in mistakes]
    if said:
        module.fail_json(msg="\n".join([f"{check['host']} could not be backed up like this; nothing of its backups was changed:", *said]))
    for one in lacking:
        module.warn(one)
    module.exit_json(changed=False, lacks=lacking, exposures=exposures)


if __name__ == "__main__":
    main()
