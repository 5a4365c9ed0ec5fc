# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of this host, told what to do by systemctl and heard in the journal, with a time limit on both."""

from __future__ import annotations

import re

from ansible_collections.hearth.fleet.plugins.module_utils import programs

MARGIN = 30
"""How long systemd may take beyond a unit's own timeouts, in seconds."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a daemon could write to make the terminal of whoever reads it do something."""


def act(verb: str, *units: str, seconds: float = MARGIN) -> str:
    """Have systemd do something with units, and wait at most so long for it; return what went wrong, empty for nothing."""
    said = programs.run(["systemctl", "--no-ask-password", verb, "--", *units], seconds=seconds)
    if said.status == programs.TOO_LATE and not said.ended:
        return f"systemctl {verb} was not done after {seconds:g} s; systemd goes on with it"
    return f"systemctl {verb}: {said.why.splitlines()[0]}" if said.status else ""


def forget_failures(unit: str) -> None:
    """Let earlier failures of a unit not count towards its start limit. One that never ran has none."""
    act("reset-failed", unit)


def last_words(unit: str, *, since: float | None = None, lines: int = 15, style: str = "cat") -> list[str]:
    """Return the last lines that a unit and its daemon wrote to the journal (since a time in seconds since 1970); none where nobody can say."""
    programs.run(["journalctl", "--sync"], seconds=MARGIN)  # what a dying daemon said may be on its way
    command = ["journalctl", f"--unit={unit}", f"--lines={lines}", "--no-pager", "--quiet", f"--output={style}"]
    said = programs.run([*command, *([] if since is None else [f"--since=@{since:.6f}"])], seconds=MARGIN)
    return [_UNPRINTABLE.sub("�", line) for line in said.output.split("\n") if line]
