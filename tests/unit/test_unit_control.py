# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of systemctl's answers, and of the journal's."""

from __future__ import annotations

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import programs, unit_control
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.programs import Said


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        pytest.param(Said(0, "", "a warning"), "", id="done"),
        pytest.param(Said(5, "", "Unit x.service not loaded.\nmore\n"), "systemctl stop: Unit x.service not loaded.", id="refused"),
        pytest.param(Said(3, "", ""), "systemctl stop: exit status 3", id="without-a-word"),
        pytest.param(
            Said(programs.TOO_LATE, "", "late", ended=False), "systemctl stop was not done after 7 s; systemd goes on with it", id="takes-too-long"
        ),
        pytest.param(Said(127, "", "systemctl cannot be run", ended=False), "systemctl stop: systemctl cannot be run", id="no-systemd"),
    ],
)
def test_what_went_wrong(said: Said, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(programs, "run", lambda words, *, seconds: asked.append([*words, str(seconds)]) or said)
    assert unit_control.act("stop", "x.service", seconds=7) == problem
    assert asked == [["systemctl", "--no-ask-password", "stop", "--", "x.service", "7"]]


@pytest.mark.parametrize(
    ("since", "asked"), [pytest.param(None, [], id="all"), pytest.param(1795262400.25, ["--since=@1795262400.250000"], id="since")]
)
def test_last_words_are_heard_when_they_have_arrived(since: float | None, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[list[str]] = []
    monkeypatch.setattr(programs, "run", lambda words, **_: run.append(list(words)) or Said(0, "one\nt\x1b[2Jwö\n", ""))
    assert unit_control.last_words("x.service", since=since, lines=2) == ["one", "t�[2Jwö"]
    assert [words[:2] for words in run] == [["journalctl", "--sync"], ["journalctl", "--unit=x.service"]]
    assert [word for word in run[1] if word.startswith("--since")] == asked


SHOWN = {
    "db.service": ("active", "RequiredBy=app.service old.service multi-user.target"),
    "app.service": ("active", "BoundBy=worker.service"),
    "old.service": ("inactive", "RequiredBy=db.service"),  # nothing keeps people from circles
    "multi-user.target": ("active", ""),
    "worker.service": ("activating", ""),
}


def test_what_stops_along_with_a_unit_is_what_runs_and_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def show(words: list[str], *, seconds: float) -> Said:
        names = words[words.index("--") + 1 :]
        return Said(0, "\n\n".join(f"{SHOWN[name][1]}\nId={name}\nActiveState={SHOWN[name][0]}" for name in names) + "\n", "")

    monkeypatch.setattr(programs, "run", show)
    assert unit_control.stopped_along("db.service") == ["app.service", "multi-user.target", "worker.service"]
    assert unit_control.not_running(["app.service", "old.service"]) == ["old.service"]
    assert unit_control.not_running([]) == []


def test_without_systemd_nobody_knows_what_stops_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "run", lambda words, *, seconds: Said(1, "", "Failed to connect to bus"))
    with pytest.raises(FleetError, match=r"systemd cannot be asked about db\.service: Failed to connect to bus"):
        unit_control.stopped_along("db.service")
