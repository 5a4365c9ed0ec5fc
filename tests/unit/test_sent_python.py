# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A function of module_utils that is sent to a host's Python as one text: what goes along, what comes back, and when Ansible's own way is gone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import constants

from ansible_collections.hearth.fleet.plugins.module_utils import from_memory
from ansible_collections.hearth.fleet.plugins.plugin_utils import sent_python

UTILS = Path(from_memory.__file__).parent
READS_A_DURATION = ("quantities", "seconds", {"text": "1m30s"})


def run(program: bytes, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as a host does: on standard input, where no file of the collection is found."""
    return subprocess.run([sys.executable, "-I", "-"], input=program.decode(), capture_output=True, text=True, check=False, cwd=directory)


# --- What goes along --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(UTILS.glob("*.py")), ids=lambda path: path.stem)
def test_imports_are_found_as_python_finds_them(path: Path) -> None:
    source = path.read_text()
    expected = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(from_memory.PACKAGE):
            name = (statement.module or "").removeprefix(from_memory.PACKAGE).lstrip(".")
            expected += [name] if name else [alias.name for alias in statement.names]
    assert sent_python.imported(source) == expected


def test_a_look_takes_nothing_of_ansible_along() -> None:
    for source in sent_python.sources("observing", "probe").values():
        imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = [getattr(node, "module", "") or node.names[0].name for node in imports]
        assert not [module for module in modules if module.partition(".")[0] == "ansible"]


def test_the_loader_needs_nothing_but_python() -> None:
    text = (UTILS / "from_memory.py").read_text()
    assert text.isascii()
    assert sent_python.imported(text) == []


# --- What comes back --------------------------------------------------------------------------------------------------


def test_a_function_answers_from_a_host_that_has_none_of_the_files(tmp_path: Path) -> None:
    done = run(sent_python.program(*READS_A_DURATION), tmp_path)
    assert (done.stdout, done.stderr) == ("90\n", "")


def test_all_that_a_look_needs_goes_along(tmp_path: Path) -> None:
    done = run(sent_python.program("observing", "observe", {"specs": {}, "probe": True}, also=["probe"]), tmp_path)
    assert done.stderr.endswith("KeyError: 'unit'\n"), "everything was imported; without specs there is nothing to look at"


def test_a_traceback_names_the_file(tmp_path: Path) -> None:
    done = run(sent_python.program("quantities", "seconds", {"text": None}), tmp_path)
    assert done.returncode == 1
    assert f'File "{from_memory.PACKAGE}.quantities", line ' in done.stderr


# --- Which way is gone ------------------------------------------------------------------------------------------------


class Become:
    """How an action becomes somebody else."""

    def __init__(self, *, pipelining: bool = True, password: str = "") -> None:
        self.pipelining, self.password = pipelining, password

    def get_option(self, name: str) -> str:
        return {"become_pass": self.password}[name]


class MitogenConnection:
    """One of Mitogen's, which knows nothing of pipelining."""

    __module__ = "ansible_mitogen.connection"
    become = None


def action(
    *,
    can: bool = True,
    enabled: bool = True,
    become: Become | None = None,
    mitogen: bool = False,
    said: dict[str, Any] | None = None,
    async_val: int = 0,
) -> Any:
    """Return an action whose connection can pipeline, and is set to; its host answers with ``said``; ``commands`` collects what is run there."""
    commands: list[str] = []

    def execute(command: str, in_data: bytes) -> dict[str, Any]:
        commands.append(command)
        return said or {"rc": 0, "stdout": '{"changed": false}\n', "stderr": ""}

    def can_pipeline(module_style: str, *, wrap_async: bool) -> bool:
        assert module_style == "new"
        assert not mitogen, "Mitogen fails where it is asked"
        return can and enabled and not wrap_async

    return SimpleNamespace(
        _connection=MitogenConnection() if mitogen else SimpleNamespace(has_pipelining=can, become=become),
        _is_pipelining_enabled=can_pipeline,
        _task=SimpleNamespace(async_val=async_val),
        _templar=SimpleNamespace(template=lambda value: value),
        _compute_environment_string=lambda: "",
        _low_level_execute_command=execute,
        commands=commands,
    )


KNOWN = {"ansible_python_interpreter": "/usr/bin/python3.11"}


def ask(of: Any, task_vars: dict[str, Any]) -> Any:
    return sent_python.ask(of, task_vars, *READS_A_DURATION)


@pytest.mark.parametrize(
    ("of", "task_vars", "command"),
    [
        pytest.param(action(), KNOWN, "/usr/bin/python3.11 -I -", id="named"),
        pytest.param(action(mitogen=True), KNOWN, "/usr/bin/python3.11 -I -", id="mitogen"),
        pytest.param(action(enabled=False), KNOWN, "/usr/bin/python3.11 -I -", id="pipelining-left-off"),
        pytest.param(action(enabled=False, become=Become()), KNOWN, "/usr/bin/python3.11 -I -", id="and-sudo"),
        pytest.param(action(become=Become(password="hunter2")), KNOWN, "/usr/bin/python3.11 -I -", id="sudo-with-password"),
        pytest.param(
            action(),
            {"ansible_python_interpreter": "auto", "ansible_facts": {"discovered_interpreter_python": "/opt/python"}},
            "/opt/python -I -",
            id="discovered-before",
        ),
        pytest.param(action(), {"ansible_python_interpreter": "auto_silent"}, "/usr/bin/python3 -I -", id="to-be-discovered"),
    ],
)
def test_the_host_is_asked_at_once(of: Any, task_vars: dict[str, Any], command: str) -> None:
    assert ask(of, task_vars) == {"changed": False}
    assert of.commands == [command]


@pytest.mark.parametrize(
    ("of", "task_vars"),
    [
        pytest.param(action(can=False), KNOWN, id="no-pipelining"),
        pytest.param(action(enabled=False, become=Become(pipelining=False)), KNOWN, id="su"),
        pytest.param(action(enabled=False, become=Become(password="hunter2")), KNOWN, id="pipelining-left-off-and-a-password"),
        pytest.param(action(async_val=60), KNOWN, id="async"),
    ],
)
def test_ansible_goes_its_own_way(of: Any, task_vars: dict[str, Any]) -> None:
    assert ask(of, task_vars) is None
    assert of.commands == []


def test_ansible_goes_its_own_way_where_it_is_to_keep_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_KEEP_REMOTE_FILES", True)
    of = action(enabled=False)
    assert ask(of, KNOWN) is None
    assert of.commands == []


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"rc": 127, "stdout": "", "stderr": "sh: 1: /usr/bin/python3: not found"}, id="no-python"),
        pytest.param({"rc": 1, "stdout": "", "stderr": "Traceback (most recent call last): ..."}, id="exception"),
        pytest.param({"rc": 0, "stdout": "Welcome!\n", "stderr": ""}, id="something-else"),
        pytest.param({"rc": 0, "stdout": "42\n", "stderr": ""}, id="no-result"),
    ],
)
def test_ansible_says_why_there_is_no_answer(said: dict[str, Any]) -> None:
    assert ask(action(said=said), KNOWN) is None


def test_a_greeting_before_the_answer_is_no_part_of_it() -> None:
    said = {"rc": 0, "stdout": "Welcome to anchor1!\n" + json.dumps({"changed": False, "plan": {}}) + "\n", "stderr": ""}
    assert ask(action(said=said), KNOWN) == {"changed": False, "plan": {}}
