# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups made by hand for the tests of restores: databases, archives, their compressed parts, and manifests that fit."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import backup_files, backup_manifest, backup_names, cold_copy

ID = "20261121T120000Z-000007-ab12cd"
SENTINEL = "SELECT count(*) FROM kv"


def database(path: Path, values: Iterable[str] = ("new",), *, version: int = 1, wal: bool = False) -> Path:
    """Make a database with a table ``kv``."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT)")
        connection.executemany("INSERT INTO kv VALUES (?, ?)", [(str(number), value) for number, value in enumerate(values)])
        connection.commit()
    return path


def values(path: Path) -> list[str]:
    """Return what a database holds."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kv ORDER BY key")]


def compressed(plain: bytes) -> bytes:
    """Return data as zstd compresses them; skips the test on a machine without it."""
    if not shutil.which("zstd"):
        pytest.skip("needs zstd")
    return subprocess.run(["zstd", "--quiet", "--stdout"], input=plain, capture_output=True, check=True).stdout


def part(name: str, kind: str, path: str, plain: bytes, **more: Any) -> dict[str, Any]:
    """Return a part of a manifest; what it is as an object stands for the compressed data."""
    sent = compressed(plain)
    return {
        "name": name,
        "kind": kind,
        "path": path,
        "key": backup_names.object_key("data-30d", "relay1", "node", ID, name),
        "size": len(sent),
        "sha256": hashlib.sha256(sent).hexdigest(),
        "plain_size": len(plain),
        "plain_sha256": hashlib.sha256(plain).hexdigest(),
        **more,
    }


def database_part(source: Path, path: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """Return the part of a database."""
    about = {"schema": cold_copy.schema(source), "tables": ["kv"], "sentinel_query": SENTINEL, "sentinel": str(len(values(source)))}
    name = backup_names.database_part(number)
    return part(name, "database", path, source.read_bytes(), **{**about, "uid": 1000, "gid": 1000, "mode": 0o640, **more})


def archive(paths: Iterable[Path]) -> bytes:
    """Return an archive as a backup has it."""
    found: list[bytes] = []
    backup_files.archive([str(path) for path in paths], found.append)
    return b"".join(found)


def manifest(*parts: Mapping[str, Any], host: str = "relay1", service: str = "node", **more: Any) -> dict[str, Any]:
    """Return a manifest of the set ``data``, kept for 30 days."""
    order = {"host": host, "service": service, "set": "data", "class": "data-30d", "keep_days": 30, "recipients": ["age1operator", "age1drill"]}
    return {**backup_manifest.build(order, identifier=ID, parts=parts, release="1.0.1"), **more}
