# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody fills in within a command is said; what is meant as it stands is not."""

from __future__ import annotations

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import command_words


def said(*words: str) -> list[str]:
    return [f"{one.place}: {one.problem}" for one in command_words.complaints(words, "icnd", {"TOKEN", "LEVEL"})]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(["icnd", "--token=$TOKEN"], "1: $TOKEN is not filled in here, as there is no shell", id="variable"),
        pytest.param(["icnd", "${LEVEL}"], "1: $LEVEL is not filled in here, as there is no shell", id="braces"),
        pytest.param(["icnd", "$HOME/x"], "1: $HOME is not filled in here, as there is no shell", id="of-systemd"),
        pytest.param(["icnd", "-v{version}"], "1: {version} is not filled in here", id="version"),
        pytest.param(["icnd", "x", "&&", "y"], "2: '&&' is for a shell, and there is none", id="operator"),
        pytest.param(["/usr/bin/redis-cli", "-a", "$TOKEN"], "2: $TOKEN is not filled in here, as there is no shell", id="program-of-the-host"),
    ],
)
def test_what_was_hardly_meant_as_it_stands(words: list[str], complaint: str) -> None:
    assert said(*words) == [complaint]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["icnd", "--label", "costs $5", "--pattern", "^x$"], id="dollars"),
        pytest.param(["icnd", "$UNKNOWN"], id="name-that-nobody-sets"),
        pytest.param(["icnd", "--log-format", '{"path": {path}, "status": {status}}'], id="braces-of-its-own"),
        pytest.param(["/bin/sh", "-c", 'exec icnd --token "$TOKEN" | logger && true'], id="shell"),
        pytest.param(["/usr/bin/python3", "-c", "import os; print('$HOME {version}')"], id="interpreter"),
        pytest.param(["icnd", "a|b", ">=1.0"], id="operators-within-words"),
        pytest.param(["{binary}", "--version"], id="its-own-placeholder"),
        pytest.param([], id="none"),
    ],
)
def test_what_may_be_meant_as_it_stands(words: list[str]) -> None:
    assert said(*words) == []
