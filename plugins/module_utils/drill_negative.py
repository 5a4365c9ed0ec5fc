# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore must refuse, tried in every drill: a cut object, another's identity, a log that belongs to another database."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

Open = Callable[[Mapping[str, Path], Mapping[str, Any], Path], None]
"""Opens a part as a restore does: objects by key, what the manifest says of the part, the identity."""

_CUT_BYTES = 64 << 20
_WAL_HEADER = struct.pack(">8I", 0x377F0682, 3007000, 4096, 0, 1, 2, 0, 0)


class Try(NamedTuple):
    """Something that must be refused: what it is called, and the attempt, which must raise FleetError."""

    name: str
    attempt: Callable[[], None]


def of_object(whole: Path, part: Mapping[str, Any], room: Path, opened: Open, identity: Path, wrong: Path) -> list[Try]:
    """Return what is tried with a downloaded object. ``room`` is a directory to work in, ``wrong`` an identity that opens nothing here."""
    cut, key = room / "cut", part["key"]
    length = min(part["size"] // 2, _CUT_BYTES)
    with whole.open("rb") as file:
        cut.write_bytes(file.read(length))
    # Whoever cuts objects in the store may write a manifest that fits; then age must notice.
    fitting = {**part, "size": length, "sha256": hashlib.sha256(cut.read_bytes()).hexdigest()}
    return [
        Try("truncated", lambda: opened({key: cut}, part, identity)),
        Try("truncated with a manifest that fits", lambda: opened({key: cut}, fitting, identity)),
        Try("wrong key", lambda: opened({key: whole}, part, wrong)),
    ]


def stale_wal(room: Path, alone: Callable[[Path], None]) -> Try:
    """Return the try with a write-ahead log of another time beside a database; ``alone`` must refuse it, and only it."""
    database, log = room / "database", room / "database-wal"
    database.write_bytes(b"")
    alone(database)
    log.write_bytes(_WAL_HEADER)
    return Try("stale -wal", lambda: alone(database))


def want_refusal(one: Try) -> None:
    """Raise FleetError unless an attempt is refused."""
    try:
        one.attempt()
    except FleetError:
        return
    raise FleetError(f"what must be refused was not ({one.name}): checks that take it would take anything")
