# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hearthctl backup: what systemd runs, what people see, and the metrics."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backup_box import Box

from ansible_collections.hearth.fleet.plugins.module_utils import backup_clock, backup_commands, backup_metrics, backup_run, hearthctl
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

JOB = "relay.data"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    found = Box(tmp_path, monkeypatch)
    monkeypatch.setattr(backup_commands, "CONFIG", tmp_path / "etc")
    monkeypatch.setattr(backup_commands, "STATE", tmp_path / "state")
    monkeypatch.setattr(os, "geteuid", os.getuid)
    monkeypatch.setattr(backup_clock, "skew_seconds", lambda _endpoint, _ca: 0)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "etc").mkdir()
    (tmp_path / "metrics").mkdir()
    write_order(found)
    return found


def write_order(box: Box, **changes: Any) -> None:
    (box.root / f"etc/{JOB}.json").write_text(json.dumps(box.order(**changes)))


def test_a_run(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearthctl.main(["backup", "run", JOB]) == 0
    assert f"{box.manifests[0]['id']}: " in capsys.readouterr().out


def test_the_credentials_are_those_that_systemd_hands_over(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    backup_commands.main(["run", JOB])
    assert {words[words.index("--config") + 1] for words in box.calls("rclone")} == {"/run/credentials/x/rclone.conf"}


def test_f13_a_second_run_says_so(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    with backup_run._locked(box.home):
        assert backup_commands.main(["run", JOB]) == 75
        assert backup_commands.status_of(JOB, time.time())["state"].startswith("under way")
    assert "the run before has not ended" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["run", "nobody.data"], "nobody.data is no backup job of this host; known: relay.data", id="unknown-job"),
        pytest.param(["now", "nobody"], "nobody has no backups; jobs: relay.data", id="unknown-service"),
    ],
)
def test_what_cannot_be_done(box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert backup_commands.main(words) == 2
    assert said in capsys.readouterr().err


def test_another_account_leaves_no_files_behind(box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert backup_commands.main(["run", JOB]) == 2
    assert "systemctl start hearth-backup-relay.data.service" in capsys.readouterr().err


def test_only_root_sees_the_status(box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert backup_commands.main(["status"]) == 2
    assert "only root" in capsys.readouterr().err


def test_now_waits_and_says_what_came_of_it(box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    box.run()
    systemctl = box.bin / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {box.root}/started\nexit $(cat {box.root}/code)\n')
    systemctl.chmod(0o755)
    (box.root / "code").write_text("0")
    assert backup_commands.main(["now", "relay"]) == 0
    assert "relay.data: " in capsys.readouterr().out
    (box.root / "code").write_text("1")
    assert backup_commands.main(["now"]) == 1
    assert "relay.data: FAILED: " in capsys.readouterr().out
    assert (box.root / "started").read_text().splitlines() == ["--no-ask-password start -- hearth-backup-relay.data.service"] * 2


@pytest.mark.parametrize(
    ("state", "words", "ok"),
    [
        pytest.param({}, "never ran; overdue", False, id="never"),
        pytest.param({"attempt": {"ok": None, "said": "under way"}, "success_at": 1000}, "interrupted", False, id="killed"),
        pytest.param({"attempt": {"ok": False, "said": "no disk\n  → buy one"}, "success_at": 1000}, "FAILED: no disk", False, id="failed"),
        pytest.param({"attempt": {"ok": True, "said": "1 MiB in the store"}, "success_at": 1000}, "1 MiB in the store", True, id="fine"),
        pytest.param({"attempt": {"ok": True, "said": "fine"}, "success_at": -20000}, "fine; overdue", False, id="overdue"),
    ],
)
def test_status(box: Box, state: dict[str, Any], words: str, ok: bool) -> None:
    (box.home / "state.json").write_text(json.dumps(state))
    found = backup_commands.status_of(JOB, 1600)
    assert (found["state"], found["ok"]) == (words, ok)


def test_status_is_a_table(box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    box.clock.now, box.clock.skew = time.time(), 3600
    identifier = box.run()["id"]
    assert backup_commands.main(["status"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("JOB         NEWEST")
    assert identifier in text
    assert "clock is 1h ahead of the store's" in text
    assert backup_commands.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["newest"] == identifier


# What systemd runs afterwards


def test_export_shows_metrics_and_removes_plaintext(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.run()
    (box.home / "work").mkdir()
    (box.home / "work/database-0").write_text("secret")
    monkeypatch.setenv("SERVICE_RESULT", "success")
    assert backup_commands.main(["export", JOB]) == 0
    assert not (box.home / "work").exists()
    path = box.root / "metrics/hearth_backup_relay.data.prom"
    labels = 'service="relay",set="data",class="data-30d"'
    lines = path.read_text().splitlines()
    assert f"hearth_backup_last_attempt_failed{{{labels}}} 0" in lines
    assert f"hearth_backup_last_success_timestamp_seconds{{{labels}}} 1795270500.000" in lines
    assert f"hearth_backup_stored_bytes{{{labels}}} {box.manifests[0]['parts'][0]['size']}" in lines
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("result", ["exit-code", "signal", "timeout", "oom-kill"])
def test_export_notes_a_run_that_could_not_say_so_itself(box: Box, monkeypatch: pytest.MonkeyPatch, result: str) -> None:
    box.run()
    monkeypatch.setenv("SERVICE_RESULT", result)
    assert backup_commands.main(["export", JOB]) == 0
    assert 'data-30d"} 1' in next(
        line for line in (box.root / "metrics/hearth_backup_relay.data.prom").read_text().splitlines() if "_failed{" in line
    )


def test_export_leaves_a_running_one_alone(box: Box) -> None:
    (box.home / "work").mkdir()
    with backup_run._locked(box.home):
        backup_commands.main(["export", JOB])
        assert (box.home / "work").exists()


def test_an_account_cannot_write_metrics_of_its_own(box: Box) -> None:
    state = {"sequence": '1\nup{job="node"} 0', "last": ["x"], "attempt": "x", "success_at": {"a": 1}, "clock_skew_seconds": True}
    text = backup_metrics.text(box.order(service='a"b\\'), state, failed=True, spooled=0)
    assert "up{" not in text
    assert 'service="a\\"b\\\\"' in text


def test_no_exporter_no_metrics(box: Box) -> None:
    (box.root / "metrics").rmdir()
    box.run()
    assert backup_commands.main(["export", JOB]) == 0


# Clocks


@pytest.fixture
def endpoint() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(int(time.time()) - 3600)

        def log_message(self, *_words: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_f11_the_store_says_what_time_it_is(endpoint: str) -> None:
    found = backup_clock.skew_seconds(endpoint)
    assert found is not None
    assert 3598 <= found <= 3602


def test_f11_a_store_that_does_not_say_is_no_error() -> None:
    assert backup_clock.skew_seconds("http://127.0.0.1:1") is None
    with pytest.raises(FleetError, match="is no date"):
        backup_clock.parse_date("yesterday")


def test_a_run_imports_no_more_than_it_needs() -> None:
    """Every module costs the services memory while a backup runs."""
    heavy = ("http.client", "ssl", "asyncio", "email", "transaction", "xml")
    code = f"import sys; sys.path[:] = {sys.path!r}; import {backup_commands.__name__}; print([one for one in {heavy!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
