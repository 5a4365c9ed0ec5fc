# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a service as its daemon has read them: a password that has changed on the disk since is not the daemon's yet.

The unit's stamp knows which content each file had at the start, and keeps a copy of it (see ``units.py``).
"""

from __future__ import annotations

import glob
import hashlib
from pathlib import Path

from ansible_collections.hearth.fleet.plugins.module_utils import units


class StartedFiles:
    """The files of one service; those that its stamp does not know, or that nobody kept, are read as they are now."""

    def __init__(self, service: str) -> None:
        self._copies = Path(units.STAMPS, f"{service}.files")
        try:
            noted = Path(units.STAMPS, f"{service}.started").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            noted = None
        self._digests: dict[str, str] = (units.parse_stamp(noted) or {"files": {}})["files"]

    def read(self, path: str) -> bytes:
        """Return a file's content. Raises OSError."""
        wanted = self._digests.get(path, units.NOTHING)
        if wanted != units.NOTHING:
            try:
                kept = (self._copies / wanted).read_bytes()
            except OSError:
                kept = b""
            if hashlib.sha256(kept).hexdigest() == wanted:
                return kept
        return Path(path).read_bytes()

    def drop_ins(self, unit_file: str) -> list[str]:
        """Return the drop-ins of a unit file, in the order in which systemd reads them."""
        if self._digests:
            return sorted(path for path, digest in self._digests.items() if path.startswith(f"{unit_file}.d/") and digest != units.NOTHING)
        return sorted(glob.glob(f"{glob.escape(unit_file)}.d/*.conf"))
