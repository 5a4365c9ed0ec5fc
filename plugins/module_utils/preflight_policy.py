# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the findings of ``preflight`` mean for a run: its checks by name, their levels, and why a host stops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.schema import suggest

LEVELS = ("fail", "warn", "ignore")

CHECKS = {
    "architectures": "The userland's architecture is one that the services are built for.",
    "clock": "Something (NTP) keeps the clock right. Warns by default.",
    "clock_offset": "The clock agrees with the controller's. Warns by default.",
    "cpus": "There are enough processors.",
    "disk": "There is enough free space. Warns by default once a service is installed, whose own data has taken part of it.",
    "disk_full": "The filesystems that everything is written to are not full.",
    "dns": "The names that must lead to the host do. Warns by default.",
    "iops": "The disk wrote fast enough when it was measured. Warns by default.",
    "iops_unmeasured": "The disk was measured. Warns by default.",
    "memory": "There is enough memory.",
    "placement": "Services are not taken from the host by an inventory that has none anywhere, as one without its group_vars has.",
    "ports": "No stranger listens on the services' ports. Warns by default for units of this fleet, which may be about to go.",
    "python": "Python is new enough for the collection's modules.",
    "read_only": "The filesystems that everything is written to are writable.",
}
"""Every check, and what it wants. The ones whose text names no other default fail."""


def on_finding_mistakes(on_finding: Mapping[str, Any], path: str) -> list[Mistake]:
    """Return the mistakes of an ``on_finding`` mapping that stands at ``path`` of the inventory."""
    mistakes = []
    for check, level in on_finding.items():
        if check not in CHECKS:
            mistakes.append(Mistake(join_path(path, check), "there is no such check", suggest(str(check), CHECKS)))
        elif level not in LEVELS:
            mistakes.append(Mistake(join_path(path, check), f"{level!r} is not a level", f"write one of {', '.join(LEVELS)}"))
    return mistakes


def refusal(found: Mapping[str, Iterable[Mapping[str, str]]], host: str, limit: str = "") -> str:
    """Return why ``host`` stops the run, and how to go on without it; empty when it meets every requirement that may stop one.

    ``found`` holds the findings of all hosts as data, ``limit`` what the run is limited to already (``--limit``).
    """
    failures = {name: [one for one in findings if one["level"] == "fail"] for name, findings in found.items()}
    own = failures.get(host)
    if not own:
        return ""
    others = ":".join(filter(None, [limit, *(f"!{name}" for name, findings in failures.items() if findings)]))
    lacks = "; ".join(f"{one['check']}: {one['found']}" for one in own)
    lines = [
        f"{host} cannot carry its services: {lacks}",
        "No host was changed. The table above says what each of them lacks, and what to do about it.",
        f"  → to go on with the others meanwhile: --limit '{others}'",
    ]
    # A release without a digest for the host cannot be installed, whatever anybody says.
    levels = ", ".join(f"{check}: warn" for check in dict.fromkeys(one["check"] for one in own) if check in CHECKS)
    if levels:
        lines.append(f"  → to go on regardless: preflight_on_finding: {{{levels}}}")
    return "\n".join(lines)
