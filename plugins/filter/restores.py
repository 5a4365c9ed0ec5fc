# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What restores and keys come to, in words, as filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def restore_report(done: Mapping[str, Any]) -> str:
    """Return what a restore did: what was checked, how long it took, and where the old data are."""
    if "said" not in done:
        return f"Would be restored:\n{done['shown']}"
    down = "no service was stopped" if done["downtime"] is None else f"{done['downtime']:.1f} s from stop to ready"
    lines = [f"Restored {done['backup']['id']} in {done['rto']:.1f} s ({down})", *(f"  {said}" for said in done["said"])]
    if done["aside"]:
        lines += ["The old data are in the following directories on the host; remove them when nobody needs them any more:"]
        lines += [f"  {path}" for path in done["aside"]]
    return "\n".join(lines)


def keys_report(keys: Iterable[Mapping[str, Any]]) -> str:
    """Return what to write into the inventory about identities, and where they are."""
    keys = list(keys)
    lines = ["Write into group_vars/all.yml:", "", "backup_recipients:"]
    lines += [f"  - {key['recipient'] or '(made by the next run without --check)'} # {key['name']}" for key in keys]
    opener = next((key["file"] for key in keys if key["here"]), "")
    lines += [f"backup_identity: {opener}"] if opener else []
    lines += ["", "The identities themselves, each of which opens every backup; no host may have them, except the runner of drills its own:", ""]
    for key in keys:
        former = f", and {len(key['former'])} older" if key["former"] else ""
        lines.append(f"  {key['name']}: {key['file']}{former}" if key["here"] else f"  {key['name']}: kept elsewhere; its recipient is in the list")
    return "\n".join(lines)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filters by name."""
        return {"restore_report": restore_report, "keys_report": keys_report}
