# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong on a host is said at once and in its own words: the controller's part of releases and of transactions."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.hearth.fleet.plugins.action import releases, transaction
from ansible_collections.hearth.fleet.plugins.module_utils import probe
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.modules import transaction as module

DIGEST = hashlib.sha256(b"good").hexdigest()
REJECTED = "/etc/relay/relay.json was rejected by its validator (exit code 1)\n  | line 3: unknown key"


def action(kind: type[ActionBase], arguments: dict[str, Any], answers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an action of a task, and have its module give these answers; ``asked`` collects what it was asked."""
    found = kind.__new__(kind)
    found._task = SimpleNamespace(args=arguments, check_mode=False)
    found._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts)))
    found.asked = []

    def execute(module_name: str = "", module_args: Any = None, task_vars: Any = None) -> dict[str, Any]:
        found.asked.append(module_args)
        return answers[len(found.asked) - 1]

    monkeypatch.setattr(ActionBase, "run", lambda *_arguments, **_options: {})
    monkeypatch.setattr(found, "_execute_module", execute)
    return found


def task(service: str) -> dict[str, Any]:
    return {"batch": {"service": service}, "order": {"service": service}, "files": [{"secret_content": "hunter2"}], "unit": {}, "binaries": ["x"]}


@pytest.mark.parametrize(
    ("answers", "result"),
    [
        pytest.param([{"changed": True}, {"changed": False}], {"changed": True}, id="all-well"),
        pytest.param([{"changed": True}, {"failed": True, "msg": REJECTED}], {"changed": True, "failed": True, "msg": REJECTED}, id="f59-rejected"),
        pytest.param(
            [{"failed": True, "msg": REJECTED}, {"failed": True, "msg": "relay2: no drain"}],
            {"changed": False, "failed": True, "msg": f"{REJECTED}\n\nrelay2: no drain"},
            id="both",
        ),
        pytest.param([{"unreachable": True, "msg": "no route"}], {"unreachable": True, "msg": "no route"}, id="unreachable"),
    ],
)
def test_preparing_a_host_ends_with_what_is_wrong(monkeypatch: pytest.MonkeyPatch, answers: list[dict[str, Any]], result: dict[str, Any]) -> None:
    prepared = action(transaction.ActionModule, {"state": "prepared", "tasks": [task("relay"), task("node")]}, answers, monkeypatch)
    assert prepared.run() == result
    assert [one["order"]["service"] for one in prepared.asked] == ["relay", "node"][: len(answers)]
    assert all(one["state"] == "prepared" and set(one) == {"state", "order", "files", "unit", "binaries"} for one in prepared.asked)


def release(service: str, file: Path, sha256: str = DIGEST) -> dict[str, Any]:
    return {"service": service, "version": "1", "artifacts": {"amd64": {"file": str(file), "sha256": sha256}}}


def test_f29_all_that_the_controller_cannot_bring_is_told_the_host_which_looks_at_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"good")
    wanted = [release("good", tmp_path / "good"), release("absent", tmp_path / "absent", "1" * 64), release("other", tmp_path / "good", "0" * 64)]
    needs = [{"service": one["service"], "arch": "amd64", "artifact": True, "signature": False, "free_bytes": 100} for one in wanted]
    answers = [{"needs": needs}, {"failed": True, "msg": "3 releases are refused"}]
    installed = action(releases.ActionModule, {"releases": wanted}, answers, monkeypatch)
    monkeypatch.setattr(installed, "_transfer", lambda local, _name: f"/tmp/{local.name}")
    assert installed.run()["msg"] == "3 releases are refused"
    assert installed.asked[1]["handed_over"] == {DIGEST: "/tmp/good"}
    refused = installed.asked[1]["refused"]
    assert (
        refused["absent"] == f"fleet_services.absent.artifact.file: {tmp_path}/absent does not exist on the controller, and absent needs it for amd64"
    )
    assert refused["other"].startswith("fleet_services.other.artifact.sha256.amd64: ")
    assert list(refused) == ["absent", "other"]


ORDER = {"service": "relay", "unit": "relay.service", "kind": "upgrade", "from": "1.0", "to": "1.1"}
ABSENT = {"command": ["relayctl", "drain"], "where": "fleet_services.relay.drain.request.command"}
THERE = {"command": ["sh", "-c", "exit 0"]}


@pytest.mark.parametrize(
    ("drain", "kind", "active", "refused"),
    [
        pytest.param(None, "upgrade", "active", False, id="none"),
        pytest.param({"request": THERE, "done": THERE}, "upgrade", "active", False, id="there"),
        pytest.param({"request": ABSENT}, "upgrade", "active", True, id="request"),
        pytest.param({"request": THERE, "done": ABSENT}, "upgrade", "active", True, id="done"),
        pytest.param({"request": THERE, "resume": ABSENT}, "upgrade", "active", False, id="resume-comes-after-the-switch"),
        pytest.param({"request": ABSENT}, "upgrade", "inactive", False, id="nothing-to-drain"),
        pytest.param({"request": ABSENT}, "reload", "active", False, id="a-reload-drains-nothing"),
        pytest.param({"request": ABSENT, "force": True}, "upgrade", "active", False, id="forced"),
        pytest.param({"request": {"signal": "SIGUSR2"}}, "upgrade", "active", False, id="signal"),
    ],
)
def test_a_drain_that_the_old_release_has_no_program_for_is_refused_before_anything_is_drained(
    drain: Any, kind: str, active: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "unit_state", lambda unit: probe.UnitState(unit, "loaded", active, "", "success", 0, 0, 0, "relay", ""))
    said = ""
    try:
        module.require_drain({**ORDER, "kind": kind, "drain": drain})
    except FleetError as error:
        said = str(error)
    assert bool(said) is refused
    if refused:
        assert said.startswith("fleet_services.relay.drain.request.command[0]: there is no program relayctl on this host, where 1.0 is to be drained")


def test_all_checks_of_an_order_are_made_and_said_together() -> None:
    made: list[str] = []

    def bad(said: str) -> None:
        made.append(said)
        raise FleetError(said)

    with pytest.raises(FleetError, match=r"^the config\nthe drain$"):
        module.want_all(lambda: bad("the config"), lambda: made.append("the unit"), lambda: bad("the drain"))
    assert made == ["the config", "the unit", "the drain"]
    module.want_all(lambda: None)
