# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make what a service needs once before its first start (see ``bootstrap``).

The commands run in transient units of systemd, as the account of the service, and find what its daemon would find. So the secrets
are read by systemd, and are in no argument; what a command prints is given on without their values.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.hearth.fleet.plugins.module_utils import environment_file, programs, service_process
from ansible_collections.hearth.fleet.plugins.module_utils.bootstrap import Command
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

_SYSTEMD_SECONDS = 30
"""What systemd may take beyond the command's own time, to begin and to end it."""


def apply(wanted: Sequence[Command], differences: Sequence[Difference]) -> None:
    """Run the commands whose path is not there, in their order; after one that failed, no other one of that service.

    Raises FleetError with what all that failed have said.
    """
    due = {difference.item for difference in differences}
    failed: dict[str, str] = {}
    for one in wanted:
        if one["creates"] in due and one["service"] not in failed:
            complaint = _run(one)
            if complaint:
                failed[one["service"]] = complaint
    if failed:
        raise FleetError("\n".join(failed.values()))


def words(one: Command) -> list[str]:
    """Return the call of systemd-run: a command reads as it would in an argument list, so neither it nor systemd expands variables."""
    properties = {
        "User": one["user"],
        "Group": one["group"],
        "WorkingDirectory": one["working_directory"] or "/",
        "RuntimeMaxSec": one["timeout"],
        "UMask": "0077",
        "NoNewPrivileges": "yes",
    }
    return [
        *("systemd-run", "--wait", "--pipe", "--quiet", "--collect", f"--description={one['service']}: bootstrap"),
        *(f"--property={key}={value}" for key, value in properties.items()),
        *(f"--setenv={name}={value}" for name, value in sorted(one["environment"].items())),
        *(f"--property=EnvironmentFile={path}" for path in one["environment_files"]),
        *(f"--property=LoadCredential={credential}" for credential in one["credentials"]),
        "--",
        *(word.replace("$", "$$") for word in one["command"]),
    ]


def _run(one: Command) -> str:
    """Run a command; return what is to be said of its failure, empty for none."""
    begun = time.monotonic()
    said = programs.run(words(one), seconds=one["timeout"] + _SYSTEMD_SECONDS, together=True)
    if said.status != 0:
        what = f"failed ({_outcome(one, said, time.monotonic() - begun)})"
    elif not os.path.lexists(one["creates"]):
        what = f"ended well, but {one['creates']} is not there"
    else:
        return ""
    output = service_process.hide(said.output if said.ended else said.error, _secrets(one))
    heading = f"{one['service']}: the command that makes {one['creates']} {what}; the service was not started.\n  command: {' '.join(one['command'])}"
    remedy = f"correct fleet_services.{one['service']}.bootstrap; `creates` names what the command makes"
    return "\n".join([heading, *programs.quoted(output), f"  → {remedy}"])


def _outcome(one: Command, said: programs.Said, seconds: float) -> str:
    if seconds >= one["timeout"]:  # systemd-run has no exit status of its own for what systemd has ended
        return f"not done within {one['timeout']} s"
    return f"exit status {said.status}" if said.ended else "it could not be started"


def _secrets(one: Command) -> list[str]:
    """Return the values that the command got and nobody may see."""
    values = [value for path in one["environment_files"] for value in environment_file.parse(_text(path)).values()]
    return [*values, *(_text(credential.partition(":")[2]) for credential in one["credentials"])]


def _text(path: str) -> str:
    """Return a file's text; of what is not there the command cannot have said anything."""
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""
