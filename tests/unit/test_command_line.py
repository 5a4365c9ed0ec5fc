# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of hearthctl: what comes of them is an exit status and a line for people."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import backup_run, command_line
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

ROOT = Path(command_line.__file__).parents[5]


def parser(run: command_line.Command) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="hearthctl")
    command_line.add(found.add_subparsers(required=True), "do", run, "do it").add_argument("--exit", type=int, default=0)
    return found


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        pytest.param(FleetError("no such service\n  → name another"), 2, "hearthctl: no such service\n  → name another\n", id="cannot-be-done"),
        pytest.param(backup_run.AlreadyRunning("under way"), 75, "hearthctl: under way\n", id="an-error-with-its-own-status"),
        pytest.param(FileNotFoundError(2, "No such file", "/x"), 2, "hearthctl: [Errno 2] No such file: '/x'\n", id="system"),
        pytest.param(KeyboardInterrupt(), 130, "\nhearthctl: it goes on\n", id="ctrl-c"),
    ],
)
def test_what_becomes_of_errors(error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(parser(raising(error)), ["do"], goes_on="it goes on") == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("status", [0, 1])
def test_a_command_says_itself_how_it_ended(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["do", f"--exit={status}"]
    assert command_line.run(parser(lambda options: int(options.exit)), words, goes_on="") == status
    assert capsys.readouterr() == ("", "")


def test_a_mistake_of_the_program_is_not_taken_for_one_of_the_person() -> None:
    with pytest.raises(KeyError):
        command_line.run(parser(raising(KeyError("x"))), ["do"], goes_on="")


@pytest.mark.parametrize(
    ("uid", "said"), [pytest.param(0, "", id="root"), pytest.param(1000, "only root may do it\n  → sudo hearthctl do", id="other")]
)
def test_want_root(uid: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    refused = ""
    try:
        command_line.want_root("do it", "do")
    except FleetError as error:
        refused = str(error)
    assert refused == said


def test_a_backup_does_not_import_what_rollouts_and_drills_need() -> None:
    package = command_line.__name__.rpartition(".")[0]
    script = f"import sys; import {package}.backup_commands; print(*(name for name in sys.modules if name.startswith('{package}.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    found = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert {"backup_run", "command_line"} <= found
    assert not found & {"hearthctl", "transaction", "transaction_host", "live_host", "restore_swap", "restore_stage", "drill_run", "units", "probe"}
