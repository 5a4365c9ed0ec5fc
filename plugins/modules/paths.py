#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: paths
short_description: Bring files, directories and links to what is wanted, all in one call
version_added: "0.1.0"
description:
  - Compares any number of paths with what is wanted and changes those that differ.
  - Every new file is written beside its target under a hidden name, given its owner and mode, flushed to disk, and checked by
    its validator. Only when all new files of the call have passed, the first one replaces anything. If one is rejected, or the
    disk is full, all old files are kept.
  - Nothing that somebody else made is removed to make room. A directory where a file is wanted, or a directory with something in
    it that should be absent, is an error that names it.
  - Symbolic links are never followed at the end of a path, and on the way to it only if they belong to root.
options:
  paths:
    description: The paths. Directories must stand before what they hold.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The absolute path.
        type: str
        required: true
      state:
        description:
          - What should be there.
          - V(absent) removes files, links and empty directories.
        type: str
        choices: [file, directory, link, absent]
        default: file
      owner:
        description: The owner's name. Links have none of their own.
        type: str
        default: root
      group:
        description: The group's name. Links have none of their own.
        type: str
        default: root
      mode:
        description: The permissions, octal and in quotes. Without it V("0644") for files and V("0755") for directories.
        type: str
      content:
        description: The text of a file.
        type: str
      secret_content:
        description: The text of a file that must not be shown. It never appears in output or in O(ignore:--diff).
        type: str
      part:
        description: Instead of the text of a file, the name of one of the collection's own files on the controller (C(plugins/module_utils)).
        type: str
      sha256:
        description: The digest of the content, as the plan carries it. It is computed from the content here.
        type: str
      target:
        description: Where a link points to.
        type: str
      validate:
        description:
          - A command that must accept the new file before it replaces the old one. V({path}) stands for the new file.
          - The new file's name ends like the old one's.
          - In check mode it runs where command, directory and accounts exist already.
        type: list
        elements: str
        default: []
      validate_as:
        description: The account that runs O(paths[].validate). Empty for the account of the module itself.
        type: str
        default: ""
      service:
        description: The service to whom the path belongs, for the messages.
        type: str
        default: ""
  complete:
    description:
      - That no other task is about to make a directory of O(paths[].service). Then check mode, too, refuses one whose parent neither exists
        nor is listed.
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
- name: Configure the relay
  hearth.fleet.paths:
    paths:
      - {path: /etc/relay, state: directory, group: relay, mode: "0750"}
      - path: /etc/relay/relay.toml
        group: relay
        mode: "0640"
        content: |
          listen = "127.0.0.1:4001"
        validate: [relay, --check-config, "{path}"]
        validate_as: relay
      - path: /etc/relay/token
        owner: relay
        group: relay
        mode: "0600"
        secret_content: "{{ relay_token }}"
      - {path: /etc/relay/relay.old, state: absent}
"""

RETURN = r"""
differences:
  description: What differed, and was changed unless in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    item:
      description: The path.
      type: str
      returned: always
      sample: /etc/relay/relay.toml
    reason:
      description: What differed.
      type: str
      returned: always
      sample: "content differs; mode 0644, not 0640"
    service:
      description: The service to whom the path belongs.
      type: str
      returned: always
      sample: relay
    action:
      description: What was done about it, V(create), V(change) or V(remove).
      type: str
      returned: always
      sample: change
"""


from ansible_collections.hearth.fleet.plugins.module_utils import paths, placing
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule

PATH = {
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str"},
    "content": {"type": "str", "no_log": False},
    "secret_content": {"type": "str", "no_log": True},
    # A digest of a short secret gives the secret away to who tries them all.
    "sha256": {"type": "str", "no_log": True},
    "part": {"type": "str"},
    "target": {"type": "str"},
    "validate": {"type": "list", "elements": "str", "default": []},
    "validate_as": {"type": "str", "default": ""},
    "service": {"type": "str", "default": ""},
}


def main() -> None:
    module = QuietModule(
        argument_spec={
            "paths": {"type": "list", "elements": "dict", "required": True, "options": PATH},
            "complete": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    wanted = module.params["paths"]
    try:
        observed = paths.look(wanted)
        differences = paths.diff(wanted, observed)
        shown = placing.changes(wanted, observed) if module._diff else []
        if module.check_mode:
            placing.rehearse(wanted, differences, complete=module.params["complete"])
        else:
            placing.apply(wanted, observed, differences)
    except FleetError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(differences), differences=[one.as_dict() for one in differences], diff=shown)


if __name__ == "__main__":
    main()
