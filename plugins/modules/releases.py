#!/usr/bin/python
# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: releases
short_description: Install verified releases of services
version_added: "0.1.0"
author: hearth.fleet contributors (@hearth-fleet)
description:
  - Installs each release whole in a directory of its own, C(<root>/releases/<version>), and makes it current by renaming a link.
  - Nothing unverified runs. The SHA-256 digest for the host's own architecture is checked on the host, then the signature if one is
    pinned, before the artifact is unpacked and before any file of it is executable.
  - The release of a running service is only staged. Its switch is the rollout's.
  - All releases of a call are fetched, checked and staged before the first is put in its place, so a bad one changes nothing.
  - What was installed is verified on each run. A release whose files were altered is installed again.
  - A broken download is resumed, within a run and by the next one.
options:
  releases:
    description: The releases, one per service.
    type: list
    elements: dict
    required: true
    suboptions:
      service:
        description: Name of the service, for messages and for what is noted on the host.
        type: str
        required: true
      version:
        description: Version of the release; also the name of its directory.
        type: str
        required: true
      root:
        description: Directory that holds the service's releases, such as C(/opt/<service>).
        type: path
        required: true
      artifacts:
        description:
          - The artifact per architecture, under the names of C(dpkg --print-architecture), or V(any).
          - Each has C(sha256), and either C(url) or C(file), an absolute path on the controller.
        type: dict
        required: true
      format:
        description:
          - What the artifact is. V(auto) tells it by its file name; a name without a known ending is a plain binary.
          - V(gz), V(xz), V(bz2) and V(zst) are one binary, compressed by itself.
        type: str
        choices: [auto, binary, gz, xz, bz2, zst, tar.gz, tar.xz, tar.bz2, tar.zst, tar, zip]
        default: auto
      name:
        description:
          - What the artifact is called in the release, when it is one file and no program by itself.
          - It is kept as it is, whatever O(releases[].format) says.
        type: str
        default: ""
      binaries:
        description:
          - Name of each program, and its path in the artifact or the last components of that path.
          - V({version}) and V({arch}) are replaced. Each gets a link in C(/usr/local/bin).
        type: dict
        required: true
      linked:
        description: Whether the programs get those links.
        type: bool
        default: true
      signature:
        description: A signature of the artifact, pinned to one signer.
        type: dict
        suboptions:
          type:
            description: V(ssh) is made by C(ssh-keygen -Y sign), V(minisign) by C(minisign -S -H).
            type: str
            choices: [ssh, minisign]
            required: true
          key:
            description: The signer's public key, as its tool writes it.
            type: str
            required: true
          identity:
            description: Name of the signer, for V(ssh).
            type: str
            default: release
          namespace:
            description: Namespace of the signature, for V(ssh).
            type: str
            default: file
          url:
            description:
              - URL of the signature, per architecture.
              - By default it lies beside the artifact, with the ending C(.sig) for V(ssh) and C(.minisig) for V(minisign).
            type: dict
            default: {}
          file:
            description: Path of the signature on the controller, per architecture.
            type: dict
            default: {}
          text:
            description: The signature itself, per architecture. The action fills it where the controller must provide it.
            type: dict
            default: {}
      keep:
        description:
          - How many releases stay on the host.
          - The wanted, the current, the running and the previous one always stay.
        type: int
        default: 3
      version_command:
        description:
          - Command that makes a staged program tell its version. V({binary}) stands for the program named like the service, else the first.
          - It is run as C(nobody), with an empty environment. Empty to run nothing.
        type: list
        elements: str
        default: []
      version_pattern:
        description:
          - Regular expression that finds the version in the command's output, as its first group or its whole match.
          - Empty to look for the version as a word of its own.
        type: str
        default: ""
      via:
        description: Whether the target downloads by itself, or the controller downloads once and hands over.
        type: str
        choices: [target, controller]
        default: target
      headers:
        description: Request headers, such as a token. They are sent to the URL's own origin only, never to where it redirects.
        type: dict
        default: {}
      proxy:
        description: URL of an HTTP proxy. Empty for the proxy of the environment, if any.
        type: str
        default: ""
      timeout:
        description: Seconds that one download may take, with its retries. What has arrived is kept.
        type: int
        default: 300
      retries:
        description: How many tries in a row may bring nothing before the download fails.
        type: int
        default: 5
      unit:
        description: The service's systemd unit. While it runs, C(current) stays what it is.
        type: str
        default: ""
  spool:
    description: Directory on the host where artifacts arrive.
    type: path
    default: /var/cache/hearth/releases
  handed_over:
    description: Files that the controller has brought to the host, by digest. Set by the action itself.
    type: dict
  refused:
    description: What is wrong with the releases that the controller could not bring, by service. Set by the action itself.
    type: dict
extends_documentation_fragment:
  - hearth.fleet.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Install nats-server
  hearth.fleet.releases:
    releases:
      - service: nats-server
        version: "2.14.6"
        root: /opt/nats-server
        artifacts:
          amd64:
            url: https://example.org/nats-server-v2.14.6-linux-amd64.tar.gz
            sha256: 01c57a4e930bd63bad2eee7657cca1456e7d05be598aa354c17486b6faf8ecba
        binaries:
          nats-server: nats-server
        version_command: ["{binary}", --version]
        unit: nats-server.service
"""

RETURN = r"""
differences:
  description: What differed from the wanted state, each with its item, reason, service and action.
  returned: success
  type: list
  elements: dict
  sample:
    - {item: nats-server 2.14.6, reason: not installed, service: nats-server, action: install}
pending:
  description: Staged releases whose switch is the rollout's.
  returned: success
  type: list
  elements: dict
  sample: []
said:
  description: What is done, or in check mode would be done, in words.
  returned: success
  type: list
  elements: str
  sample:
    - "nats-server 2.14.6: will be downloaded from https://example.org/nats-server-v2.14.6-linux-amd64.tar.gz (sha256 01c5...)"
needs:
  description: What the controller must hand over first. The action answers it, so that tasks never see it.
  returned: when something is needed
  type: list
  elements: dict
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hearth.fleet.plugins.module_utils import artifacts, release_review, releases, spool, staging
from ansible_collections.hearth.fleet.plugins.module_utils.archive import FORMATS
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly
from ansible_collections.hearth.fleet.plugins.module_utils.quiet_module import QuietModule

SIGNATURE = {
    "type": {"type": "str", "choices": list(artifacts.SIGNATURE_ENDINGS), "required": True},
    "key": {"type": "str", "required": True, "no_log": False},
    "identity": {"type": "str", "default": "release"},
    "namespace": {"type": "str", "default": "file"},
    "url": {"type": "dict", "default": {}},
    "file": {"type": "dict", "default": {}},
    "text": {"type": "dict", "default": {}},
}

RELEASE = {
    "service": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "root": {"type": "path", "required": True},
    "artifacts": {"type": "dict", "required": True},
    "format": {"type": "str", "choices": list(FORMATS), "default": "auto"},
    "name": {"type": "str", "default": ""},
    "binaries": {"type": "dict", "required": True},
    "linked": {"type": "bool", "default": True},
    "signature": {"type": "dict", "options": SIGNATURE},
    "keep": {"type": "int", "default": 3},
    "version_command": {"type": "list", "elements": "str", "default": []},
    "version_pattern": {"type": "str", "default": ""},
    "via": {"type": "str", "choices": ["target", "controller"], "default": "target"},
    "headers": {"type": "dict", "default": {}, "no_log": True},
    "proxy": {"type": "str", "default": "", "no_log": True},
    "timeout": {"type": "int", "default": 300},
    "retries": {"type": "int", "default": 5},
    "unit": {"type": "str", "default": ""},
}

ARGUMENTS = {
    "releases": {"type": "list", "elements": "dict", "required": True, "options": RELEASE},
    "spool": {"type": "path", "default": "/var/cache/hearth/releases"},
    "handed_over": {"type": "dict"},
    "refused": {"type": "dict"},
}


def running(module: AnsibleModule) -> set[str]:
    """Return which of the releases' units run; none where there is no systemd."""
    units = sorted({release["unit"] for release in module.params["releases"]} - {""})
    systemctl = module.get_bin_path("systemctl")
    if not units or not systemctl:
        return set()
    _code, shown, _errors = module.run_command([systemctl, "show", "--property=Id,ActiveState", "--", *units])
    return releases.running_units(shown)


def install(module: AnsibleModule, observed: dict) -> list[dict]:
    """Fetch, verify, stage and switch. Returns what the controller must hand over first; then nothing was done."""
    wanted, directory = module.params["releases"], Path(module.params["spool"])
    with said_plainly(directory, "for the spool of artifacts"):
        spool.prepare(directory)
    patience = max(release["timeout"] for release in wanted)
    with spool.locked(directory, patience) as waited:
        if waited:
            observed = releases.look(wanted, running(module))
        lacking = spool.needs(wanted, observed, directory)
        if lacking and module.params["handed_over"] is None:
            return lacking
        brought = module.params["handed_over"] or {}
        arch = observed["arch"]
        known = module.params["refused"] or {}
        due = [release for release in spool.missing(wanted, observed) if release["service"] not in known]
        artifacts, refused = spool.obtain_all(due, arch, directory, brought, patience)
        staging.apply(wanted, observed, artifacts, refused=[*map(FleetError, known.values()), *refused])
        spool.tidy(directory, {releases.artifact_of(release, arch)["sha256"] for release in wanted})
    return []


def main() -> None:
    """Speak for releases.py and its neighbours."""
    module = QuietModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    os.umask(0o022)
    wanted = module.params["releases"]
    try:
        observed = releases.look(wanted, running(module))
        releases.want_digests(wanted, observed["arch"])
        differences = releases.diff(wanted, observed)
        if differences and not module.check_mode:
            lacking = install(module, observed)
            if lacking:
                module.exit_json(changed=False, needs=lacking)
        after = release_review.expected(wanted, observed)
        said = release_review.intentions(wanted, observed)
        pending = releases.pending_release(wanted, observed if module.check_mode else after)
    except FleetError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'the host'}: {error.strerror or error}; no release was switched half-way")
    texts = [
        {
            "before_header": f"{release['service']} (releases)",
            "after_header": f"{release['service']} (releases)",
            "before": release_review.state_lines(release["service"], observed["services"][release["service"]]),
            "after": release_review.state_lines(release["service"], after["services"][release["service"]]),
        }
        for release in wanted
    ]
    shown = [text for text in texts if text["before"] != text["after"]]
    if module.check_mode and differences:
        shown.append({"prepared": "\n".join(said) + "\n"})
    module.exit_json(
        changed=bool(differences),
        differences=[one.as_dict() for one in differences],
        pending=[one.as_dict() for one in pending],
        said=said,
        diff=shown,
    )


if __name__ == "__main__":
    main()
