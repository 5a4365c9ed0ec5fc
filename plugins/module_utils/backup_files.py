# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories of a backup: looked at without reading them, and read as one archive that goes straight on.

Nothing is copied beforehand. A file that changes while it is read is in the archive as it was read, and is told of.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

_KINDS = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)


def walk(paths: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Give every file, directory and symbolic link at or below these absolute paths, always in the same order.

    Sockets, pipes and devices have no content and are passed over. Raises FleetError for a path that is not there or cannot be read.
    """
    for path in sorted(set(paths)):
        try:
            yield from _walk(path)
        except FileNotFoundError:
            raise FleetError(f"{path} is not there, but shall be backed up\n  → correct the path below backup.files, or create it") from None
        except PermissionError as error:
            raise FleetError(f"{error.filename} cannot be read by {_who()}\n  → let that account read it, or set backup.user") from None


def _walk(path: str) -> Iterator[tuple[str, os.stat_result]]:
    found = os.lstat(path)
    if not any(is_kind(found.st_mode) for is_kind in _KINDS):
        return
    yield path, found
    if stat.S_ISDIR(found.st_mode):
        for name in sorted(os.listdir(path)):
            try:
                yield from _walk(os.path.join(path, name))
            except FileNotFoundError:  # since the listing; what goes in the meantime need not be kept
                continue


def _who() -> str:
    return f"the account with uid {os.geteuid()}"


def size_bytes(paths: Sequence[str]) -> int:
    """Return how large the archive of these paths becomes, within a few blocks. Raises FleetError."""
    return sum(2 * tarfile.BLOCKSIZE + found.st_size for _path, found in walk(paths))


def archive(paths: Sequence[str], write: Callable[[bytes], Any]) -> list[str]:
    """Write these paths as a tar archive; names are relative to ``/``. Return the files that changed while they were read.

    Raises FleetError, or what ``write`` raises.
    """
    changed = []
    sink: Any = _Sink(write)
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path, found in walk(paths):
            member = tar.gettarinfo(path, arcname=path.lstrip("/") or ".")
            if stat.S_ISREG(found.st_mode):
                if _add_file(tar, member, path):
                    changed.append(path)
            else:
                tar.addfile(member)
            # For tar itself these are of no use, and there may be a million.
            known = cast("Any", tar)
            known.members, known.inodes = [], {}
    return changed


def _add_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> bool:
    with open(path, "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        member.size = before.st_size
        source = _Exactly(file, before.st_size)
        tar.addfile(member, cast("Any", source))
        after = os.fstat(file.fileno())
    return source.cut_short or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


class _Sink:
    """What tarfile writes a stream to."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self.write = write


class _Exactly:
    """A file that gives as many bytes as it had: what was cut off in the meantime is zeros, as tar knows no other way."""

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._left = file, size
        self.cut_short = False

    def read(self, count: int) -> bytes:
        """Return the next bytes."""
        count = min(count, self._left)
        found = b""
        while len(found) < count:
            more = self._file.read(count - len(found))
            if not more:
                self.cut_short = True
                found += bytes(count - len(found))
            found += more
        self._left -= count
        return found
