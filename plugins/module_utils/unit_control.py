# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of this host, told what to do by systemctl and heard in the journal, with a time limit on both."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ansible_collections.hearth.fleet.plugins.module_utils import programs
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

MARGIN = 30
"""How long systemd may take beyond a unit's own timeouts, in seconds."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a daemon could write to make the terminal of whoever reads it do something."""


_STOPS_ALONG = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
RUNNING = ("active", "activating", "reloading")


def act(verb: str, *units: str, seconds: float = MARGIN, wait: bool = True) -> str:
    """Have systemd do something with units, and ``wait`` at most so long for it; return what went wrong, empty for nothing."""
    said = programs.run(["systemctl", "--no-ask-password", *([] if wait else ["--no-block"]), verb, "--", *units], seconds=seconds)
    if said.status == programs.TOO_LATE and not said.ended:
        return f"systemctl {verb} was not done after {seconds:g} s; systemd goes on with it"
    return f"systemctl {verb}: {said.why.splitlines()[0]}" if said.status else ""


def forget_failures(unit: str) -> None:
    """Let earlier failures of a unit not count towards its start limit. One that never ran has none."""
    act("reset-failed", unit)


def stopped_along(unit: str) -> list[str]:
    """Return the units that run now and that systemd stops when it stops this one, as they need it; starting it does not start them again.

    Raises FleetError without systemd. https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html#Requires=
    """
    running: set[str] = set()
    asked: set[str] = set()
    missing = {unit}
    while missing:
        asked |= missing
        shown = _shown(sorted(missing), ("Id", "ActiveState", *_STOPS_ALONG))
        running |= {one["Id"] for one in shown if one.get("ActiveState") in RUNNING}
        missing = {name for one in shown for key in _STOPS_ALONG for name in one.get(key, "").split()} - asked
    return sorted(running - {unit})


def not_running(units: Sequence[str]) -> list[str]:
    """Return those of the units that do not run, nor are about to. Raises FleetError without systemd."""
    return [one["Id"] for one in _shown(units, ("Id", "ActiveState")) if one.get("ActiveState") not in RUNNING] if units else []


def _shown(units: Sequence[str], properties: Sequence[str]) -> list[dict[str, str]]:
    said = programs.run(["systemctl", "show", *(f"--property={name}" for name in properties), "--", *units], seconds=MARGIN)
    if said.status:
        raise FleetError(f"systemd cannot be asked about {', '.join(units)}: {said.why}")
    return parse_shown(said.output)


def parse_shown(output: str) -> list[dict[str, str]]:
    """Return the properties of each unit, out of what ``systemctl show`` prints of several."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in output.split("\n\n")]
    return [block for block in blocks if block.get("Id")]


def last_words(unit: str, *, since: float | None = None, lines: int = 15, style: str = "cat") -> list[str]:
    """Return the last lines that a unit and its daemon wrote to the journal (since a time in seconds since 1970); none where nobody can say."""
    programs.run(["journalctl", "--sync"], seconds=MARGIN)  # what a dying daemon said may be on its way
    command = ["journalctl", f"--unit={unit}", f"--lines={lines}", "--no-pager", "--quiet", f"--output={style}"]
    said = programs.run([*command, *([] if since is None else [f"--since=@{since:.6f}"])], seconds=MARGIN)
    return [_UNPRINTABLE.sub("�", line) for line in said.output.split("\n") if line]
