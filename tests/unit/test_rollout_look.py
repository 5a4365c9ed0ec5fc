# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look sees of restores that are under way, as the restores themselves have written it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import restore_swap, rollout_look

OLD, NEW = "20261120T120000Z-beef01", "20261121T120000Z-beef02"


def restore(identifier: str, outcome: str | None = None, *, order: bool = True) -> None:
    """Leave a restore of ``relay`` that began at second 1000."""
    directory = restore_swap.directory_of("relay", identifier)
    directory.mkdir(parents=True)
    with restore_swap.open_journal(directory) as book:
        restore_swap.note(book, "receiving", "the backup comes in")
        if outcome:
            restore_swap.close(book, outcome, "it ended")
    if order:
        (directory / restore_swap.ORDER).write_text("{}")
        os.utime(directory / restore_swap.ORDER, (1000, 1000))


@pytest.mark.parametrize(
    ("restores", "seen"),
    [
        pytest.param([], None, id="none"),
        pytest.param([(OLD, "restored")], None, id="ended"),
        pytest.param([(OLD, "reverted"), (NEW, None)], NEW, id="under-way"),
        pytest.param([(OLD, None), (NEW, "discarded")], OLD, id="an-older-one-is-open"),
    ],
)
def test_f40_a_look_sees_the_restore_that_has_a_service(
    restores: list[tuple[str, str | None]], seen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_swap, "RESTORE", tmp_path / rollout_look.RESTORE[1:])
    for identifier, outcome in restores:
        restore(identifier, outcome)
    (restore_swap.RESTORE / "relay" / "before-20261120T120000Z-beef01").mkdir(parents=True)
    expected = {"relay": {"id": seen, "since": 1000, "said": "the backup comes in"}} if seen else {}
    assert rollout_look.look(["relay", "other"], str(tmp_path))["restores"] == expected
    assert restore_swap.open_of("relay") == expected.get("relay"), "both look at the same things"


def test_what_has_no_order_has_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_swap, "RESTORE", tmp_path / rollout_look.RESTORE[1:])
    restore(NEW, order=False)
    assert rollout_look.look(["relay"], str(tmp_path))["restores"] == {}
    assert restore_swap.open_of("relay") is None
