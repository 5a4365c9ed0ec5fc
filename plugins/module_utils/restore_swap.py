# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restored data take the place of the old: a list of renames, written down before the first one, so that all or none of them hold.

    <RESTORE>/<service>/<id>/order.json      what is restored
                            /journal.jsonl   how far that is (journal.py); state.json is that, in short
                            /received/       the parts of the backup as they come in, still compressed; gone in the end
    <RESTORE>/<service>/before-<id>/         the old data, which nobody but a person removes

Until the renames begin, nothing but staging has changed. A crash in the midst of them is undone at boot, or by the next run;
after the last one the new data are complete and stay. The old data are moved aside, never removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import journal, rollout_look
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

RESTORE = Path(rollout_look.RESTORE)
ORDER = "order.json"
RECEIVED = "received"
RESTORED, REVERTED, DISCARDED = "restored", "reverted", "discarded"
BEFORE = "before-{id}"
KEPT = 5
"""So many past restores of a service stay on record."""

Move = Mapping[str, str]
"""A rename: ``from`` and ``to``, in one file system."""


def directory_of(service: str, identifier: str) -> Path:
    """Return the directory of a restore."""
    return RESTORE / service / identifier


def summary(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return where a restore stands: ``event`` (the last one), ``said``, ``outcome`` (None while it is open), ``at`` (seconds since 1970)."""
    last = lines[-1] if lines else {"event": "", "said": "nothing has happened yet", "at": 0}
    outcome = next((line["outcome"] for line in reversed(lines) if line.get("outcome")), None)
    return {"event": last["event"], "said": last["said"], "outcome": outcome, "at": last["at"]}


def open_journal(directory: Path) -> journal.Journal:
    """Return the journal of a restore. Raises JournalError while another process works on it."""
    return journal.Journal(directory, summary)


def note(book: journal.Journal, event: str, said: str, **facts: Any) -> None:
    """Write down durably what is about to be done or was done. Raises OSError."""
    book.append({"at": round(time.time(), 3), "event": event, "said": said, **facts}, durable=True)


def order_of(directory: Path) -> dict[str, Any]:
    """Return what is to be restored. Raises FleetError when nobody knows."""
    try:
        found: dict[str, Any] = json.loads((directory / ORDER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FleetError(f"{directory / ORDER} cannot be read: {error}") from None
    return found


def open_restores(service: str = "*") -> list[Path]:
    """Return the directories of all restores, or of those of a service, without an outcome."""
    orders = sorted(RESTORE.glob(f"{service}/*/{ORDER}"))
    return [path.parent for path in orders if not summary(journal.read(path.parent))["outcome"]]


def open_of(service: str) -> dict[str, Any] | None:
    """Return the restore that has a service: ``id``, ``since`` (seconds since 1970) and what it ``said`` last; None for none."""
    found = open_restores(service)
    if not found:
        return None
    return {"id": found[0].name, "since": (found[0] / ORDER).stat().st_mtime, "said": summary(journal.read(found[0]))["said"]}


def refuse_while_open(service: str) -> None:
    """Raise FleetError while a restore has a service."""
    found = open_of(service)
    if found:
        raise FleetError(rollout_look.of_restore(service, found).about(service))


# Moving


def swap(book: journal.Journal, moves: Sequence[Move]) -> None:
    """Do the renames. Raises OSError; then they are to be undone."""
    note(book, "moving", f"{len(moves)} renames", moves=[dict(move) for move in moves])
    for move in moves:
        os.rename(move["from"], move["to"])
    _sync(moves)
    note(book, "swapped", "the restored data are in place")


def undo(book: journal.Journal, why: str) -> None:
    """Bring back the old data, however far the renames and an earlier undoing came.

    Raises OSError, and FleetError where data are nowhere, because their file system is not there (yet).
    """
    moves = moves_of(book.lines)
    note(book, "reverting", f"the old data come back: {why}")
    for move in reversed(moves):
        # Nothing stands at either end twice: what is at `to` alone was moved, what is at `from` was not.
        moved, unmoved = os.path.lexists(move["to"]), os.path.lexists(move["from"])
        if not moved and not unmoved:
            raise FleetError(
                f"neither {move['from']} nor {move['to']} is there\n  → mount their file system, then restore again: that undoes this one"
            )
        if moved and not unmoved:
            os.rename(move["to"], move["from"])
    _sync(moves)
    note(book, "reverted", "the old data are back")


def moves_of(lines: Iterable[Mapping[str, Any]]) -> list[Move]:
    """Return the renames that a journal announces."""
    return next((line["moves"] for line in lines if line["event"] == "moving"), [])


def _sync(moves: Iterable[Move]) -> None:
    for parent in sorted({os.path.dirname(path) for move in moves for path in (move["from"], move["to"])}):
        if os.path.isdir(parent):
            journal.sync_directory(Path(parent))


def close(book: journal.Journal, outcome: str, said: str) -> None:
    """End a restore: remove what was staged and not used, and places for old data that hold none. Raises OSError."""
    staging: Mapping[str, Any] = next((line for line in book.lines if "staged" in line), {"staged": [], "aside": []})
    for path in map(Path, staging["staged"]):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    for path in map(Path, staging["aside"]):
        for empty in (path, path.parent):
            if empty.is_dir() and not any(empty.iterdir()) and (empty == path or empty.parent == book.directory.parent):
                empty.rmdir()
    with contextlib.suppress(FileNotFoundError):  # only absence will do: what was received is decrypted
        shutil.rmtree(book.directory / RECEIVED)
    note(book, "end", said, outcome=outcome)


def prune(service: str) -> None:
    """Forget the oldest restores of a service; what they moved aside stays."""
    closed = [path for path in sorted((RESTORE / service).glob("*")) if summary(journal.read(path))["outcome"]]
    for directory in closed[:-KEPT]:
        shutil.rmtree(directory)


# Taking up what a crash or a power cut interrupted


def interrupted(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return what an interrupted restore needs: ``undo``, ``close`` (nothing had been moved), or nothing, as it was ``reverted`` or ``swapped``."""
    events = [line["event"] for line in lines]
    if "reverted" in events:
        return "reverted"
    if "reverting" in events or ("moving" in events and "swapped" not in events):
        return "undo"
    return "swapped" if "swapped" in events else "close"


def settle(directory: Path) -> str:
    """Bring an interrupted restore to an end; return what became of it, in words.

    Raises JournalError while a process is at work on it, FleetError or OSError where the old data cannot come back (yet).
    """
    service = directory.parent.name
    with open_journal(directory) as book:
        needs = interrupted(book.lines)
        if needs == "undo":
            undo(book, "the restore was interrupted")
        if needs in ("undo", "reverted"):
            close(book, REVERTED, "interrupted while the data were exchanged; the old data are back")
        elif needs == "close":
            close(book, DISCARDED, "interrupted before anything was exchanged; the data are the old ones")
        else:
            close(book, RESTORED, "interrupted when the restored data were in place; nobody has seen the service ready on them yet")
        return f"{service}: {book.lines[-1]['said']}"


def resume_all() -> list[str]:
    """After a boot, before the services start: settle every interrupted restore; return what was done, for people."""
    said = []
    for directory in open_restores():
        try:
            said.append(settle(directory))
        except (FleetError, OSError) as error:
            said.append(f"{directory.parent.name}: its interrupted restore cannot be settled: {error}")
    return said
