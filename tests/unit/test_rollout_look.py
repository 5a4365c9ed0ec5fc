# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look sees of rollouts and restores that are under way, and whom that keeps out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import probe, restore_swap, rollout_look, unit_control
from ansible_collections.hearth.fleet.plugins.modules import services

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


TRANSACTION = {
    "id": NEW,
    "rollout": {"owner": "ada@laptop"},
    "started": 1795262400.0,
    "phase": "soak",
    "outcome": None,
    "resolved": False,
    "said": "watched for 30 s",
    "next": "",
}
RESTORED = {"id": OLD, "since": 1795262400.0, "said": "the backup comes in"}


@pytest.mark.parametrize(
    ("transaction", "restore", "told"),
    [
        pytest.param(None, None, None, id="free"),
        pytest.param({"outcome": "committed"}, None, None, id="done"),
        pytest.param({"outcome": "rolled_back"}, None, None, id="gone-back"),
        pytest.param(
            {},
            None,
            (
                f"transaction {NEW} of ada@laptop has the service since 2026-11-21 12:00:00 UTC (in phase soak: watched for 30 s)",
                "wait for it: hearthctl status relay",
            ),
            id="under-way",
        ),
        pytest.param(
            {"outcome": "needs_operator", "next": "hearthctl promote relay"},
            None,
            (
                f"transaction {NEW} of ada@laptop has the service since 2026-11-21 12:00:00 UTC (needs_operator: watched for 30 s)",
                "hearthctl promote relay",
            ),
            id="waits-for-a-person",
        ),
        pytest.param({"outcome": "needs_operator", "resolved": True}, None, None, id="a-person-has-settled-it"),
        pytest.param(
            {"outcome": "committed"},
            RESTORED,
            (
                f"restore {OLD} has the service since 2026-11-21 12:00:00 UTC (the backup comes in)",
                "wait until it has ended: hearthctl status relay. Only if it does not go on any more: restore again, or give it up, hearthctl resume",
            ),
            id="restore",
        ),
    ],
)
def test_f40_who_has_a_service(transaction: dict[str, Any] | None, restore: dict[str, Any] | None, told: tuple[str, str] | None) -> None:
    seen = {
        "transactions": {} if transaction is None else {"relay": {**TRANSACTION, **transaction}},
        "restores": {"relay": restore} if restore else {},
    }
    assert rollout_look.in_the_way("relay", seen) == told
    assert rollout_look.in_the_way("other", seen) is None


@pytest.mark.parametrize("action", ["start", "restart", "reload"])
@pytest.mark.parametrize("outcome", [None, "inconclusive"])
def test_f40_a_service_that_a_rollout_has_is_not_started(action: str, outcome: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_look, "ROLLOUT", str(tmp_path))
    home = tmp_path / "relay"
    (home / NEW).mkdir(parents=True)
    (home / NEW / "state.json").write_text(json.dumps({**TRANSACTION, "outcome": outcome}))
    (home / "active").symlink_to(NEW)
    unit = probe.UnitState("relay.service", "loaded", "inactive" if action == "start" else "active", "", "success", 0, 0, 0, "", "")
    monkeypatch.setattr(probe, "unit_state", lambda _unit: unit)
    monkeypatch.setattr(unit_control, "last_words", lambda _unit, **_: [])
    acted: list[str] = []
    monkeypatch.setattr(services, "_act", lambda *_: acted.append(action))
    found = services.bring_up({"service": "relay", "unit": "relay.service", "action": action, "health": {"live": None}})
    assert f"relay: transaction {NEW} of ada@laptop has the service since" in found["problem"]
    assert (found["ready"], acted) == (False, [])
