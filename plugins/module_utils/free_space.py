# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running out of space, or onto a disk that turned read-only: found early where it can be, said plainly where it cannot."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import size_text

_MARGIN_BYTES = 4 << 20  # directories, the manifest, and whoever else writes meanwhile
_FULL = (errno.ENOSPC, errno.EDQUOT)


class SpaceError(FleetError):
    """The disk has no room, or takes nothing any more."""


def free_bytes(directory: Path) -> int:
    """Return how many bytes ordinary users may still write to the file system of ``directory``."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def want_free(directory: Path, needed_bytes: int, purpose: str) -> None:
    """Raise SpaceError unless the file system of ``directory`` takes ``needed_bytes`` more, and a small margin."""
    needed, free = needed_bytes + _MARGIN_BYTES, free_bytes(directory)
    if free < needed:
        raise SpaceError(f"{directory}: {needed} bytes ({size_text(needed)}) are needed {purpose}, {free} bytes ({size_text(free)}) are free")


@contextlib.contextmanager
def said_plainly(directory: Path, purpose: str) -> Iterator[None]:
    """Turn a full or read-only file system, met in the block, into a SpaceError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise SpaceError(f"{directory}: the disk is full ({size_text(free_bytes(directory))} free), more is needed {purpose}") from error
        if error.errno == errno.EROFS:
            raise SpaceError(f"{directory}: the file system is read-only, as a failing disk or SD card makes it; see dmesg") from error
        raise
