# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs are heard, and ended in time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import programs
from ansible_collections.hearth.fleet.plugins.module_utils.programs import Said


@pytest.mark.parametrize(
    ("words", "options", "said", "why"),
    [
        pytest.param(["sh", "-c", "echo out; echo err >&2"], {}, Said(0, "out\n", "err\n"), "err", id="well"),
        pytest.param(["cat"], {"given": "héllo"}, Said(0, "héllo", ""), "héllo", id="input"),
        pytest.param(["true"], {"given": "x" * 100_000}, Said(0, "", ""), "exit status 0", id="input-unread"),
        pytest.param(["sh", "-c", "echo one; echo two >&2; exit 3"], {"together": True}, Said(3, "one\ntwo\n", ""), "one\ntwo", id="together"),
        pytest.param(["sh", "-c", "exit 3"], {}, Said(3, "", ""), "exit status 3", id="silent"),
        pytest.param(["sh", "-c", "kill -9 $$"], {}, Said(-9, "", ""), "exit status -9", id="killed"),
        pytest.param(["printf", "\\377"], {}, Said(0, "�", ""), "�", id="not-utf-8"),
        pytest.param(["sh", "-c", "echo $HOME $X"], {"environment": {"PATH": "/usr/bin:/bin", "X": "x"}}, Said(0, "x\n", ""), "x", id="environment"),
        pytest.param(["pwd"], {}, Said(0, "/\n", ""), "/", id="directory"),
        pytest.param(
            ["/nonexistent/x"],
            {},
            Said(127, "", "/nonexistent/x cannot be run: No such file or directory", ended=False),
            "/nonexistent/x cannot be run: No such file or directory",
            id="absent",
        ),
        pytest.param(
            ["/etc/passwd"],
            {},
            Said(126, "", "/etc/passwd cannot be run: Permission denied", ended=False),
            "/etc/passwd cannot be run: Permission denied",
            id="no-program",
        ),
        pytest.param(["pwd"], {"directory": "/usr"}, Said(0, "/usr\n", ""), "/usr", id="another-directory"),
        pytest.param(
            ["pwd"],
            {"directory": "/nonexistent"},
            Said(125, "", "pwd cannot be run in /nonexistent: No such file or directory", ended=False),
            "pwd cannot be run in /nonexistent: No such file or directory",
            id="no-directory",
        ),
    ],
)
def test_run(words: list[str], options: dict[str, Any], said: Said, why: str) -> None:
    found = programs.run(words, **options)
    assert found == said
    assert found.why == why


def test_a_script_without_its_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "x"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert programs.run([str(script)]) == Said(127, "", f"{script} cannot be run: its interpreter is not there", ended=False)


def test_the_locale_is_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert programs.run(["sh", "-c", "echo $LC_ALL"]).output == "C.UTF-8\n"


def test_what_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    said = programs.run(["sh", "-c", f"(sleep 1; touch {tmp_path}/alive) & sleep 60"], seconds=0.3)
    assert said == Said(124, "", "sh did not finish within 0.3 s", ended=False)
    assert time.monotonic() - began < 5
    time.sleep(1.2)  # a child that lives on would have made its file by then
    assert not (tmp_path / "alive").exists()
