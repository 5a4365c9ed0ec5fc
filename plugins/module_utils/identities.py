# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""age identities on the controller: made once, never replaced, and rotated so that old backups stay readable.

<directory>/<name>.txt   the identities, the newest first; 0600
            <name>.pub   their recipients in the same order, which stay when the identities are taken to a safe place
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import journal
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SECONDS = 30


def bring_about(directory: Path, names: Sequence[str], rotate: Sequence[str], *, check_mode: bool) -> tuple[bool, list[dict[str, Any]]]:
    """Make the identities that are missing, and new ones for the names to rotate; return whether any was made, and what there is.

    Raises FleetError or OSError.
    """
    for name in (*names, *rotate):
        if not _NAME.fullmatch(name):
            raise FleetError(f"{name!r} cannot name an identity; use letters, digits, - and _")
    unknown = sorted(set(rotate) - set(names))
    if unknown:
        raise FleetError(f"{', '.join(unknown)}: no identity of this name is to be rotated; there are: {', '.join(names)}")
    if not check_mode:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = [_one(directory, name, rotate=name in rotate, check_mode=check_mode) for name in names]
    return any(made for made, _key in found), [key for _made, key in found]


def _one(directory: Path, name: str, *, rotate: bool, check_mode: bool) -> tuple[bool, dict[str, Any]]:
    file, public = directory / f"{name}.txt", directory / f"{name}.pub"
    missing = not file.exists() and not public.exists()
    if rotate and not missing and not file.exists():
        raise FleetError(f"{file} is not here, only its recipient is\n  → bring the identity back for as long as it is rotated, or remove {public}")
    due = missing or rotate
    if due and not check_mode:
        old = file.read_bytes() if file.exists() else b""
        # Whole, or as before: half a file would be the loss of every backup.
        journal.write_whole(file, _keygen([]) + old, durable=True)
    if file.exists():
        if file.stat().st_mode & 0o077:
            raise FleetError(f"{file} can be read by others\n  → chmod 600 {file}")
        recipients = _keygen(["-y", str(file)]).decode().split()
        if not check_mode:
            journal.write_whole(public, "".join(f"{one}\n" for one in recipients).encode(), durable=True)
    else:
        recipients = public.read_text(encoding="ascii").split() if public.exists() else []
    return due, {
        "name": name,
        "file": str(file),
        "here": file.exists(),
        "recipient": recipients[0] if recipients else "",
        "former": recipients[1:],
    }


def _keygen(words: Sequence[str]) -> bytes:
    """Return what age-keygen prints. Raises FleetError."""
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # what it prints is a secret, which run_command would log
            ["age-keygen", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        raise FleetError("there is no program age-keygen here\n  → install the package age (apt-get install age, brew install age)") from None
    if done.returncode:
        raise FleetError(f"age-keygen: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
