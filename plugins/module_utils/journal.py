# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a transaction: a line of JSON for each thing that is about to be done or was done, and never rewritten.

The journal is the truth; ``state.json`` beside it is a summary of it for readers, and can be made anew at any time. So only
the journal is flushed to the disk, and only where the order of things depends on it: lines that announce nothing wait
for the next one that does. A last line that a power cut tore is no line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

JOURNAL = "journal.jsonl"
STATE = "state.json"
BALLAST = "ballast"
BALLAST_BYTES = 256 * 1024
"""Room that is set aside, so that a disk which fills up in the middle of a transaction cannot keep it from ending well."""


class JournalError(FleetError):
    """The journal cannot be kept."""


class Journal:
    """The journal of one transaction, open for writing. Only one process can hold it.

    ``summary`` makes the content of ``state.json`` out of all lines. Raises JournalError when another process has it.
    """

    def __init__(self, directory: Path, summary: Callable[[list[dict[str, Any]]], Mapping[str, Any]]) -> None:
        self.directory = directory
        self._summary = summary
        self._file = os.open(directory / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise JournalError(f"{directory}: another process works on this transaction; hearthctl status shows it") from None
        self.lines, whole = parse(_content(self._file))
        os.ftruncate(self._file, whole)
        if not self.lines:
            sync_directory(directory)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let others have it."""
        os.close(self._file)

    def append(self, line: Mapping[str, Any], *, durable: bool) -> None:
        """Add a line; ``durable`` returns only when it, and all before it, are on the disk. Raises OSError."""
        text = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
        self._with_ballast(lambda: _write_all(self._file, text))
        if durable:
            os.fsync(self._file)
        self.lines.append(dict(line))
        state = json.dumps(self._summary(self.lines), ensure_ascii=False, indent=1).encode() + b"\n"
        self._with_ballast(lambda: write_whole(self.directory / STATE, state, durable="outcome" in line))

    def _with_ballast(self, write: Callable[[], None]) -> None:
        """Write; on a full disk, give up the ballast and write again."""
        size = os.fstat(self._file).st_size
        try:
            write()
        except OSError as error:
            ballast = self.directory / BALLAST
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not ballast.exists():
                raise
            ballast.unlink()
            os.ftruncate(self._file, size)
            write()


def read(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of a transaction's journal; none where there is none."""
    try:
        return parse((directory / JOURNAL).read_bytes())[0]
    except OSError:
        return []


def parse(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of a journal, and how many bytes they take. What follows a torn line does not count."""
    lines: list[dict[str, Any]] = []
    whole = 0
    for raw in content.splitlines(keepends=True):
        try:
            line = json.loads(raw) if raw.endswith(b"\n") else None
        except ValueError:
            line = None
        if not isinstance(line, dict):
            break
        lines.append(line)
        whole += len(raw)
    return lines, whole


def is_held(directory: Path) -> bool:
    """Return whether a process works on the transaction now."""
    try:
        file = os.open(directory / JOURNAL, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def set_ballast(directory: Path) -> None:
    """Set room aside for the journal and the files that bring a service back. Raises OSError when there is none."""
    write_whole(directory / BALLAST, os.urandom(BALLAST_BYTES), durable=True)  # file systems that compress shall not make it small


def write_whole(path: Path, content: bytes, *, durable: bool) -> None:
    """Replace a file by rename(2), so that readers see the old or the new one; mode 0600. Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _write_all(file, content)
        if durable:
            os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(file)
    temporary.replace(path)
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Write the names in a directory through to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
