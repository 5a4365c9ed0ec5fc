# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hearthctl drill``: what people see, with which exit status, and what systemd runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import drill_commands, drill_run, drill_sandbox, hearthctl

ORDER = {"host": "relay1", "service": "node", "set": "data", "max_age": 0}
ROW = {**ORDER, "id": "ID", "older": [], "rpo": 5, "rto": 1.5, "started": True, "said": ["well"], "problems": [], "ok": True}


class Runner:
    """A runner of drills below a directory, whose drills are stand-ins."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.state, self.metrics = tmp_path / "etc", tmp_path / "state", tmp_path / "metrics"
        for path in (self.config / "orders", self.state, self.metrics):
            path.mkdir(parents=True)
        (self.config / "orders" / "relay1.node.data.json").write_text(json.dumps(ORDER))
        told = {"bucket": "b", "prefix": "", "older": 1, "max_age": 8 * 86400, "metrics_directory": str(self.metrics)}
        (self.config / "settings.json").write_text(json.dumps(told))
        self.row: dict[str, Any] = {**ROW}
        monkeypatch.setattr(drill_commands, "CONFIG", self.config)
        monkeypatch.setattr(drill_commands, "STATE", self.state)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(drill_sandbox, "stop", lambda: None)
        monkeypatch.setattr(drill_run, "perform", self._perform)

    def _perform(self, *_words: Any) -> dict[str, Any]:
        now = time.time()
        return {"began": now, "ended": now, "ok": self.row["ok"], "rows": [{**self.row, "last_success": now if self.row["ok"] else None}]}


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(tmp_path, monkeypatch)


def test_a_drill_leaves_its_report_and_its_metrics(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.umask(0o077)
    try:
        assert hearthctl.main(["drill", "perform"]) == 0
    finally:
        os.umask(before)
    assert "hearth_drill_last_run_ok 1\n" in (runner.metrics / "hearth_drill.prom").read_text()
    assert (runner.metrics / "hearth_drill.prom").stat().st_mode & 0o777 == 0o644
    assert hearthctl.main(["drill", "status"]) == 0
    assert "relay1  node     data  ID" in capsys.readouterr().out


def test_f27_a_failed_drill_fails_its_unit_and_the_status(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    runner.row.update(ok=False, problems=["torn"])
    assert hearthctl.main(["drill", "perform"]) == 1
    assert "the drill failed: node.data of relay1" in capsys.readouterr().err
    assert hearthctl.main(["drill", "status", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["problems"], found["running"]) == ({"relay1": ["node.data of relay1: the drill failed: torn"]}, False)


def test_f27_a_runner_that_never_drilled_is_not_well_after_a_while(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearthctl.main(["drill", "status"]) == 0
    assert capsys.readouterr().out == "no drill has run yet\n"
    os.utime(runner.config / "orders" / "relay1.node.data.json", (0, 0))
    assert hearthctl.main(["drill", "status"]) == 1
    assert capsys.readouterr().out == "no drill has run yet\n\nnode.data of relay1: the drill is overdue: none has restored it yet\n"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda runner: (runner.config / "settings.json").unlink(), "this host runs no drills", id="no-runner"),
        pytest.param(lambda runner: (runner.config / "settings.json").write_text("{"), "settings.json is torn", id="torn"),
        pytest.param(lambda runner: (runner.state / "report.json").write_text("[]"), "report.json is not what it should be", id="no-report"),
    ],
)
def test_what_cannot_be_said(runner: Runner, capsys: pytest.CaptureFixture[str], spoil: Any, said: str) -> None:
    spoil(runner)
    assert hearthctl.main(["drill", "status"]) == 2
    assert said in capsys.readouterr().err


def test_what_a_killed_drill_left_is_removed(runner: Runner) -> None:
    (runner.state / "work" / "root").mkdir(parents=True)
    assert hearthctl.main(["drill", "tidy"]) == 0
    assert not (runner.state / "work").exists()


def test_only_root_drills(runner: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert hearthctl.main(["drill", "status"]) == 2
    assert "only root may drill" in capsys.readouterr().err


def test_the_end_of_a_drill_goes_past_what_takes_errors_of_one_backup_for_its_own() -> None:
    with pytest.raises(SystemExit) as ended:
        drill_commands._stop(15, None)
    assert ended.value.code == 143
