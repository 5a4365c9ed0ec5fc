# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What backs a host up: looked at, compared, and what nobody wants any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import backup_area

TIMER, SERVICE = "hearth-backup-icnd.data.timer", "hearth-backup-icnd.data.service"
UNITS = "/etc/systemd/system"
ACTIVE = {"load": "loaded", "active": "active", "needs_reload": False}
IDLE = {**ACTIVE, "active": "inactive"}
ORDER = {"path": "/etc/hearth/backup/icnd.data.json", "sha256": "aa", "mode": "0640", "group": "icnd", "service": "icnd"}
UNIT = {"path": f"{UNITS}/{SERVICE}", "sha256": "bb", "service": "icnd"}
WANTED: dict[str, Any] = {"packages": {"age": "/usr/bin/age"}, "paths": [ORDER, UNIT], "units": [SERVICE, TIMER], "timers": [TIMER]}
RIGHT: dict[str, Any] = {
    "programs": {"age": True},
    "paths": {
        ORDER["path"]: {"kind": "file", "owner": "root", "group": "icnd", "mode": "0640", "sha256": "aa"},
        UNIT["path"]: {"kind": "file", "owner": "root", "group": "root", "mode": "0644", "sha256": "bb"},
    },
    "units": {SERVICE: IDLE, TIMER: ACTIVE},
    "ours": [ORDER["path"], UNIT["path"]],
}
NOTHING: dict[str, Any] = {"packages": {}, "paths": [], "units": [], "timers": []}


def changed(path: str, value: Any) -> dict[str, Any]:
    area, key = path.split(" ")
    return {**RIGHT, area: {**RIGHT[area], key: value}}


def test_what_is_right_differs_in_nothing() -> None:
    assert backup_area.diff(WANTED, RIGHT) == []


@pytest.mark.parametrize(
    ("observed", "item", "action"),
    [
        pytest.param(changed("programs age", False), "age", "install", id="package-gone"),
        pytest.param(changed(f"paths {ORDER['path']}", {"kind": "absent"}), ORDER["path"], "create", id="order-gone"),
        pytest.param(changed(f"paths {UNIT['path']}", {**RIGHT["paths"][UNIT["path"]], "sha256": "cc"}), UNIT["path"], "change", id="unit-edited"),
        pytest.param(changed(f"units {TIMER}", IDLE), TIMER, "start", id="timer-stopped"),
        pytest.param(changed(f"units {TIMER}", {**IDLE, "active": "failed"}), TIMER, "start", id="timer-failed"),
        pytest.param(changed(f"units {SERVICE}", {**IDLE, "needs_reload": True}), SERVICE, "daemon-reload", id="not-read-again"),
        pytest.param(
            {**RIGHT, "ours": [*RIGHT["ours"], f"{UNITS}/hearth-backup-old.data.timer"]},
            f"{UNITS}/hearth-backup-old.data.timer",
            "remove",
            id="stale",
        ),
    ],
)
def test_each_difference_is_named(observed: dict[str, Any], item: str, action: str) -> None:
    assert [(one.item, one.action) for one in backup_area.diff(WANTED, observed)] == [(item, action)]


def test_a_new_unit_is_one_difference() -> None:
    observed = changed(f"paths {UNIT['path']}", {"kind": "absent"})
    observed["units"] = {SERVICE: {"load": "not-found", "active": "inactive", "needs_reload": False}, TIMER: ACTIVE}
    assert [(one.item, one.action) for one in backup_area.diff(WANTED, observed)] == [(UNIT["path"], "create")]


def test_a_job_that_is_not_described_any_more_leaves_only_what_it_stored(tmp_path: Path) -> None:
    ours = [
        f"etc/systemd/system/{SERVICE}", f"etc/systemd/system/{TIMER}", f"etc/systemd/system/timers.target.wants/{TIMER}",
        "etc/hearth/backup/icnd.data.json", "etc/hearth/backup/rclone.conf",
    ]  # fmt: skip
    for path in [*ours, "var/lib/hearth/backup/icnd.data/spool/x/manifest.json", "etc/systemd/system/icnd.service", "etc/hearth/backup/notes.txt"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    observed = backup_area.look(NOTHING, {}, root=str(tmp_path))
    assert sorted(one.item for one in backup_area.diff(NOTHING, observed) if one.action == "remove") == sorted(f"/{path}" for path in ours)


def test_a_bare_host_can_be_looked_at(tmp_path: Path) -> None:
    states = {name: {"load": "not-found", "active": "inactive", "needs_reload": False} for name in WANTED["units"]}
    observed = backup_area.look({**WANTED, "paths": []}, states, root=str(tmp_path))
    assert (observed["programs"], observed["ours"]) == ({"age": False}, [])


@pytest.mark.parametrize(
    ("state", "at"),
    [
        pytest.param('{"success_at": 1795273672.7}', 1795273672.7, id="succeeded"),
        pytest.param('{"sequence": 1}', None, id="never"),
        pytest.param("{", None, id="damaged"),
        pytest.param("[]", None, id="something-else"),
        pytest.param(None, None, id="no-state"),
    ],
)
def test_the_last_success_is_seen(state: str | None, at: float | None, tmp_path: Path) -> None:
    directory = tmp_path / "var/lib/hearth/backup/icnd.data"
    directory.mkdir(parents=True)
    if state is not None:
        (directory / "state.json").write_text(state)
    observed = backup_area.look({**WANTED, "paths": []}, {SERVICE: IDLE, TIMER: ACTIVE}, root=str(tmp_path))
    assert observed["succeeded"] == {"icnd.data": at}
