# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anything changed since the last backup, without reading it: fingerprints of databases and files.

A database's is made of what every change of it changes: size, time and inode of its file, the change counter in its header,
and of its write-ahead log the salts, the number of frames, the checksum of the last one, and the counters of its index. Two
equal fingerprints mean that nothing was written; two that differ may be of the same content.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_files

_NOT_IN_DATA = ("bandwidth", "metrics_directory", "max_age")
_HEADER_BYTES, _WAL_HEADER_BYTES, _FRAME_HEADER_BYTES, _INDEX_HEADER_BYTES = 100, 32, 24, 48


def of_order(order: Mapping[str, Any]) -> str:
    """Return what identifies all of an order that decides what its backups are: what, for whom, and where to."""
    kept = {key: value for key, value in order.items() if key not in _NOT_IN_DATA}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def of_data(order: Mapping[str, Any]) -> str:
    """Return the fingerprint of everything that an order backs up; empty where only reading it would tell (a command's output).

    Raises FleetError or OSError for what is not there or cannot be read.
    """
    if order["command"]:
        return ""
    digest = hashlib.sha256(of_order(order).encode())
    for database in order["databases"]:
        digest.update(json.dumps(of_database(database["path"])).encode())
    for path, found in backup_files.walk(order["files"]):
        facts = (found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        digest.update(json.dumps([os.fsencode(path).hex(), *facts]).encode())
    return digest.hexdigest()


def of_database(path: str) -> list[Any]:
    """Return what every change of a SQLite database changes. Raises OSError where there is none."""
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        header = file.read(_HEADER_BYTES)
    return [found.st_size, found.st_mtime_ns, found.st_ino, header.hex(), *_of_log(f"{path}-wal", f"{path}-shm")]


def _of_log(log: str, index: str) -> list[Any]:
    """Return the same of a write-ahead log; nothing where there is none, or an empty one."""
    try:
        with open(log, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            header = file.read(_WAL_HEADER_BYTES)
            if len(header) < _WAL_HEADER_BYTES:
                return []
            frames, last = _last_frame(file.fileno(), found.st_size, header)
    except FileNotFoundError:
        return []
    return [found.st_size, found.st_mtime_ns, header.hex(), frames, last.hex(), _head(index).hex()]


def _last_frame(file: int, size: int, header: bytes) -> tuple[int, bytes]:
    """Return how many frames carry the salts of the log's header, and the header of the last of them.

    They are the first ones: what follows is left of before the log was begun anew. So the last is found by halving.
    """
    salts, page = header[16:24], int.from_bytes(header[8:12], "big")
    length = _FRAME_HEADER_BYTES + page

    def frame(number: int) -> bytes:
        return os.pread(file, _FRAME_HEADER_BYTES, _WAL_HEADER_BYTES + number * length)

    low, high = 0, (size - _WAL_HEADER_BYTES) // length
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if frame(middle)[8:16] == salts else (low, middle)
    return low, frame(low - 1) if low else b""


def _head(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_INDEX_HEADER_BYTES)
    except FileNotFoundError:
        return b""
