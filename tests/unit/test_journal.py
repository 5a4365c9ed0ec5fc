# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what is on the disk when, torn lines, full disks, and that only one process writes it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import journal
from ansible_collections.hearth.fleet.plugins.module_utils.journal import Journal, JournalError, parse


def count(lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {"lines": len(lines), "last": lines[-1]}


@pytest.mark.parametrize(
    ("content", "lines", "whole"),
    [
        pytest.param(b"", [], 0, id="empty"),
        pytest.param(b'{"a":1}\n{"a":2}\n', [{"a": 1}, {"a": 2}], 16, id="whole"),
        pytest.param(b'{"a":1}\n{"a":2', [{"a": 1}], 8, id="f31-torn"),
        pytest.param(b'{"a":1}\n{"a":2}', [{"a": 1}], 8, id="f31-without-line-feed"),
        pytest.param(b'{"a":1}\n\x00\x00\x00', [{"a": 1}], 8, id="f31-zeros"),
        pytest.param(b'{"a":1}\n[2]\n{"a":3}\n', [{"a": 1}], 8, id="no-object"),
    ],
)
def test_parse(content: bytes, lines: list[dict[str, Any]], whole: int) -> None:
    assert parse(content) == (lines, whole)


def test_f31_a_torn_line_is_cut_off_before_the_next(tmp_path: Path) -> None:
    (tmp_path / journal.JOURNAL).write_bytes(b'{"a":1}\n{"a":')
    with Journal(tmp_path, count) as book:
        assert book.lines == [{"a": 1}]
        book.append({"a": 2}, durable=True)
    assert journal.read(tmp_path) == [{"a": 1}, {"a": 2}]
    assert json.loads((tmp_path / journal.STATE).read_text()) == {"lines": 2, "last": {"a": 2}}


def test_durable_lines_are_flushed_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    with Journal(tmp_path, count) as book:
        monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_size))
        book.append({"a": 1}, durable=False)
        assert flushed == []
        book.append({"a": 2}, durable=True)
    assert flushed == [16]


def test_files_are_private(tmp_path: Path) -> None:
    with Journal(tmp_path, count) as book:
        book.append({"a": 1}, durable=True)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {journal.JOURNAL: 0o600, journal.STATE: 0o600}


def test_only_one_process_writes(tmp_path: Path) -> None:
    with Journal(tmp_path, count) as book:
        book.append({"a": 1}, durable=True)
        assert journal.is_held(tmp_path)
        with pytest.raises(JournalError, match="another process"):
            Journal(tmp_path, count)
    assert not journal.is_held(tmp_path)


def test_f57_a_full_disk_costs_the_ballast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.set_ballast(tmp_path)
    write = os.write

    def full_while_ballast(file: int, data: bytes) -> int:
        if (tmp_path / journal.BALLAST).exists():
            write(file, data[:3])  # half a line may have made it
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    with Journal(tmp_path, count) as book:
        monkeypatch.setattr(os, "write", full_while_ballast)
        book.append({"a": 1}, durable=True)
    assert journal.read(tmp_path) == [{"a": 1}]
    assert not (tmp_path / journal.BALLAST).exists()


def test_nothing_held_and_nothing_read_where_there_is_no_journal(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none") == []
    assert not journal.is_held(tmp_path / "none")
