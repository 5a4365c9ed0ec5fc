# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run says of a service that does not get ready."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import probe
from ansible_collections.hearth.fleet.plugins.modules import services


@pytest.mark.parametrize(
    ("said", "hinted"),
    [
        pytest.param("jit: mmap: Operation not permitted", True, id="seccomp"),
        pytest.param("jit: mmap: Permission denied", True, id="as-systemd-257-refuses-it"),
        pytest.param("open /srv/x: read-only file system", True, id="in-the-words-of-go"),
        pytest.param("socket: Address family not supported by protocol", True, id="family"),
        pytest.param("error: failed to list interfaces", True, id="netlink"),
        pytest.param("Error initializing core: Failed to lock memory: cannot allocate memory", True, id="locked-memory"),
        pytest.param("config: unknown key 'prot'", False, id="no-matter-of-the-sandbox"),
    ],
)
def test_a_refusal_of_the_sandbox_points_to_the_guide(said: str, hinted: bool) -> None:
    outcome = {"service": "jit", "unit": "jit.service", "problem": "it crashed", "state": "failed", "attempts": 0, "alive": "", "journal": [said]}
    complaint = services.complaint(outcome, {"ready": None, "live": None})
    assert ("your-own-service.md#when-the-sandbox-is-too-strict" in complaint) is hinted
    assert f"    {said}" in complaint


def test_so_does_a_compiler_that_ends_itself_without_a_word() -> None:
    problem = "it crashed, and systemd starts it again and again (killed by SIGTRAP)"
    outcome = {"service": "node", "unit": "node.service", "problem": problem, "state": "failed", "attempts": 0, "alive": "", "journal": []}
    assert "#when-the-sandbox-is-too-strict" in services.complaint(outcome, {"ready": None, "live": None})


@pytest.mark.parametrize(
    ("problem", "hinted"),
    [
        pytest.param("it crashed, and systemd starts it again and again (exit status 0)", True, id="as-if-done"),
        pytest.param("it crashed, and systemd starts it again and again (exit status 1)", False, id="failed"),
    ],
)
def test_a_daemon_that_ends_well_at_once_may_have_gone_to_the_background(problem: str, hinted: bool) -> None:
    outcome = {"service": "d", "unit": "d.service", "problem": problem, "state": "failed", "attempts": 0, "alive": "", "journal": []}
    assert ("unit.type: forking" in services.complaint(outcome, {"ready": None, "live": None})) is hinted


@pytest.mark.parametrize(
    ("state", "listens", "said"),
    [
        pytest.param("active (running)", ["127.0.0.1:8081/tcp"], "\n  it listens on 127.0.0.1:8081/tcp\n", id="another-port"),
        pytest.param("active (running)", [], "\n  it listens on no port\n", id="no-port"),
        pytest.param("failed", [], "", id="it-does-not-run"),
    ],
)
def test_what_does_not_answer_is_said_to_listen_elsewhere(state: str, listens: list[str], said: str) -> None:
    asked = {"service": "d", "unit": "d.service", "problem": "it did not answer well within 9 s", "attempts": 3, "seconds": 9, "answer": "refused"}
    complaint = services.complaint({**asked, "state": state, "alive": "", "listens": listens, "journal": []}, {"ready": "tcp://127.0.0.1:8080"})
    assert said in complaint
    assert ("it listens" in complaint) is bool(said)


def test_whether_it_lives_is_asked_as_the_service_and_not_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(probe, "unit_state", lambda unit: probe.UnitState(unit, "loaded", "active", "", "success", 0, 0, 0, "node", ""))
    monkeypatch.setattr(probe, "probe_once", lambda question: asked.append(question) or probe.Answer(True, "alive"))
    assert services._alive({"command": ["nodectl", "ping"]}, "node.service") == "alive"
    assert asked == [{"command": ["nodectl", "ping"], "user": "node", "service_unit": "node.service"}]
