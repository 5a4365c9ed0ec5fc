# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every role keeps to, so that knowing one is knowing all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.hearth.fleet.plugins.action.service_spec import PLUGIN_VARIABLES

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if path.is_dir())
each_role = pytest.mark.parametrize("role", [pytest.param(path, id=path.name) for path in ROLES])

LONGEST_TABLE_OF_CONTENTS = 60  # lines of tasks/main.yml

# Modules whose `vars` are the inputs of another role, and so carry that role's prefix.
INCLUDES_A_ROLE = {"ansible.builtin.include_role", "ansible.builtin.import_role"}

FORBIDDEN = [
    pytest.param(r"\bignore_errors:", (), id="errors-are-handled-or-fail"),
    pytest.param(r"\bfailed_when: false\b", ("rollout",), id="failures-are-judged"),  # its plan and its gates judge them
    pytest.param(r"\bchanged_when: true\b", (), id="changes-are-observed"),
    pytest.param(r"\bclear_host_errors\b", (), id="a-dead-host-stays-dead"),
    pytest.param(r"\bstate: latest\b|/latest/|:latest\b", (), id="versions-are-pinned"),
    pytest.param(r"\bansible\.builtin\.(shell|raw):", (), id="no-shell"),
    pytest.param(r"\bansible\.builtin\.pause:", ("rollout",), id="no-pause"),  # it asks a person
    pytest.param(r"\bsleep \d", (), id="observe-instead-of-sleeping"),
    pytest.param(r"\bansible\.builtin\.set_fact:", ("service_spec", "observe"), id="facts-are-the-specs-and-the-plan"),
    pytest.param(r"\bgroups(\[|\.)|\bgroup_names\b", ("service_spec",), id="no-inventory-groups-in-roles"),
]


def load(path: Path) -> Any:
    """Return the content of a YAML file; an empty mapping if there is none."""
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options(role: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return the inputs that the role's main entry point declares."""
    declared: Mapping[str, Mapping[str, Any]] = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {})
    return declared


def yaml_files(role: Path) -> list[Path]:
    """Return the role's files that hold tasks."""
    return [path for part in ("tasks", "handlers") for path in sorted((role / part).rglob("*.yml"))]


def tasks_of(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every task of a file, those within blocks too."""
    for task in content or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_of(task.get(part))


def names_set_by(task: Mapping[str, Any]) -> set[str]:
    """Return the variables that a task brings into being."""
    loop = task.get("loop_control", {})
    own = {task.get("register"), loop.get("loop_var"), loop.get("index_var")} - {None}
    return own if INCLUDES_A_ROLE & task.keys() else own | set(task.get("vars", {}))


def test_there_are_roles() -> None:
    assert ROLES


@each_role
@pytest.mark.parametrize("file", ["README.md", "tasks/main.yml", "meta/main.yml", "meta/argument_specs.yml"])
def test_role_is_complete(role: Path, file: str) -> None:
    assert (role / file).is_file()


@each_role
def test_defaults_are_the_optional_inputs(role: Path) -> None:
    optional = {name: option.get("default") for name, option in options(role).items() if not option.get("required")}
    assert load(role / "defaults" / "main.yml") == optional


@each_role
def test_inputs_are_described(role: Path) -> None:
    assert [name for name, option in options(role).items() if not option.get("description")] == []


@each_role
def test_inputs_carry_the_roles_name(role: Path) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []


@each_role
def test_internals_carry_the_roles_name(role: Path) -> None:
    internals = {name for path in (role / "vars").glob("*.yml") for name in load(path)}
    internals |= {name for path in yaml_files(role) for task in tasks_of(load(path)) for name in names_set_by(task)}
    assert sorted(name for name in internals if not name.startswith(f"__{role.name}_")) == []


@each_role
def test_main_is_a_table_of_contents(role: Path) -> None:
    assert len((role / "tasks" / "main.yml").read_text().splitlines()) <= LONGEST_TABLE_OF_CONTENTS


@pytest.mark.parametrize(("pattern", "allowed_in"), FORBIDDEN)
@each_role
def test_forbidden(role: Path, pattern: str, allowed_in: tuple[str, ...]) -> None:
    found = [
        f"{path.relative_to(role)}:{number}: {line.strip()}"
        for path in yaml_files(role)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(pattern, line)
    ]
    assert role.name in allowed_in or found == []


@pytest.mark.parametrize(
    ("task", "names"),
    [
        pytest.param({"register": "a", "vars": {"b": 1}}, {"a", "b"}, id="register-and-vars"),
        pytest.param({"loop_control": {"loop_var": "a", "index_var": "b"}}, {"a", "b"}, id="loop"),
        pytest.param({"ansible.builtin.include_role": {"name": "x"}, "vars": {"x_b": 1}}, set(), id="another-roles-inputs"),
        pytest.param({"ansible.builtin.include_tasks": "x.yml", "vars": {"b": 1}}, {"b"}, id="own-tasks"),
    ],
)
def test_names_set_by(task: Mapping[str, Any], names: set[str]) -> None:
    assert names_set_by(task) == names


def test_tasks_of_finds_nested_tasks() -> None:
    content = [{"name": "a", "block": [{"name": "b", "rescue": [{"name": "c"}]}], "always": [{"name": "d"}]}]
    assert [task["name"] for task in tasks_of(content)] == ["a", "b", "c", "d"]


def test_variables_of_plugins_are_not_taken_for_misspelt_inputs() -> None:
    variables = set()
    for path in (ROLES[0].parents[1] / "plugins" / "callback").glob("*.py"):
        documentation = re.search(r'^DOCUMENTATION = r?"""(.*?)"""', path.read_text(), re.DOTALL | re.MULTILINE)
        assert documentation
        options = yaml.safe_load(documentation[1])["options"].values()
        variables |= {variable["name"] for option in options for variable in option.get("vars", ())}
    assert variables == set(PLUGIN_VARIABLES)


@pytest.mark.parametrize("playbook", [pytest.param(path, id=path.stem) for path in sorted((ROLES[0].parents[1] / "playbooks").glob("*.yml"))])
def test_every_play_keeps_its_hosts_together_whatever_strategy_is_configured(playbook: Path) -> None:
    strategies = {play["name"]: play.get("strategy") for play in load(playbook) if "hosts" in play}
    assert strategies == dict.fromkeys(strategies, "ansible.builtin.linear")
