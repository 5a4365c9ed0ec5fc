# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a firewall change that need no host; tests/integration/test_firewall.py proves the rest on real ones."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.action.ufw_ruleset import GRACE_SECONDS, attempts
from ansible_collections.hearth.fleet.plugins.module_utils import ufw_transaction as transaction
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.programs import Said

RULES = ["etc/ufw/user.rules", "etc/ufw/user6.rules", "etc/ufw/after.rules", "etc/ufw/after6.rules"]
CONF, DEFAULTS = "etc/ufw/ufw.conf", "etc/default/ufw"


@pytest.mark.parametrize(
    ("enabled", "incoming", "order"),
    [
        pytest.param("yes", "DROP", [*RULES, DEFAULTS, CONF], id="stricter-last"),
        pytest.param("no", "DROP", [CONF, *RULES, DEFAULTS], id="off-first"),
        pytest.param("yes", "ACCEPT", [DEFAULTS, *RULES, CONF], id="open-first"),
    ],
)
def test_f50_every_step_of_a_commit_lets_in_whom_both_ends_let_in(tmp_path: Path, enabled: str, incoming: str, order: list[str]) -> None:
    for name, text in {CONF: f"ENABLED={enabled}\n", DEFAULTS: f'DEFAULT_INPUT_POLICY="{incoming}"\n'}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert transaction._install_order(tmp_path) == order


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        pytest.param("0100007F:0016", ("127.0.0.1", 22), id="ipv4"),
        pytest.param("B80D0120000000000000000001000000:0016", ("2001:db8::1", 22), id="ipv6"),
        pytest.param("0000000000000000FFFF00000700000A:C350", ("10.0.0.7", 50000), id="ipv4-on-an-ipv6-socket"),
    ],
)
def test_endpoints_of_the_kernel_are_read(monkeypatch: pytest.MonkeyPatch, text: str, endpoint: tuple[str, int]) -> None:
    monkeypatch.setattr(transaction.sys, "byteorder", "little")
    assert transaction._endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        pytest.param("192.0.2.7 50000 198.51.100.1 2222", ("192.0.2.7", 50000, "198.51.100.1", 2222, "eth0"), id="ipv4"),
        pytest.param("fe80::1%eth0 50000 fe80::2%eth0 22", ("fe80::1", 50000, "fe80::2", 22, "eth0"), id="link-local"),
        pytest.param("UNKNOWN", None, id="not-a-connection"),
    ],
)
def test_ssh_connection_is_parsed(monkeypatch: pytest.MonkeyPatch, text: str, peer: tuple[str, int, str, int, str] | None) -> None:
    monkeypatch.setattr(transaction, "interface_of", lambda _address: "eth0")
    assert transaction._parse_connection(text) == peer


def test_the_interface_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "run", lambda _argv: Said(0, "2: eth0@if9    inet 10.0.0.2/24 brd 10.0.0.255 scope global eth0\n", ""))
    assert transaction.interface_of("10.0.0.2") == "eth0"
    monkeypatch.setattr(transaction, "run", lambda _argv: Said(127, "", "no such program"))
    assert transaction.interface_of("10.0.0.2") == ""


def test_jumps_are_those_from_outside() -> None:
    lines = [
        "-A INPUT -j ufw-before-input",
        "-A INPUT -j f2b-sshd",
        "-A ufw-before-input -j ufw-user-input",
        "-A DOCKER-USER -i eth0 -j ufw-user-forward",
    ]
    assert transaction._jumps(lines) == [lines[0], lines[3]]


def test_the_revert_script_knows_the_same_rules_outside_ufws_chains() -> None:
    lines = [
        ":ufw-user-input - [0:0]",
        "-A INPUT -i lo -j ACCEPT",
        "-A INPUT -i eth0 -j ACCEPT",
        "-A INPUT -j ufw-before-input",
        "-A INPUT -j f2b-sshd",
        "-A OUTPUT -o lo -j ACCEPT",
        "-A ufw-before-input -i lo -j ACCEPT",
        "-A ufw-before-input -j ufw-user-input",
    ]
    assert transaction._outside(lines) == [lines[1], lines[3], lines[5]]
    function = transaction._REVERT[transaction._REVERT.index("outside() {") : transaction._REVERT.index("restore() {")]
    told = subprocess.run(["sh", "-c", f"{function}\noutside /dev/stdin"], input="\n".join(lines), text=True, capture_output=True, check=True)
    assert told.stdout.splitlines() == transaction._outside(lines)


def test_the_revert_script_is_valid_shell() -> None:
    checked = subprocess.run(["sh", "-n"], input=transaction._REVERT, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("present", "token", "left"),
    [
        pytest.param("pending", "mine", [], id="of-this-run"),
        pytest.param("pending", "another", ["pending"], id="of-another-run"),
        pytest.param("pending", "", [], id="of-any-run"),
        pytest.param("reverting", "another", [], id="a-revert-that-was-killed-is-finished"),
        pytest.param("committing", "another", [], id="a-commit-that-was-killed-is-finished"),
        pytest.param("draft", "mine", ["draft"], id="nothing-to-revert"),
    ],
)
def test_f48_a_run_reverts_its_own_change_alone(tmp_path: Path, present: str, token: str, left: list[str]) -> None:
    (tmp_path / present).mkdir()
    (tmp_path / present / "state.json").write_text(json.dumps({"token": "mine", "peer": None}))
    (tmp_path / present / "moves").touch()
    script = transaction._REVERT.replace("/run/hearth/firewall", str(tmp_path)).replace("systemctl stop", "echo stop")
    told = subprocess.run(["sh", "-c", script, "revert", token], text=True, capture_output=True, check=True)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == left
    assert ("stop" in told.stdout) == (not left and present != "committing")


def test_f48_the_connection_that_made_a_change_confirms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"token": "mine", "peer": ["192.0.2.7", 50022], "before": {}}))
    monkeypatch.setattr(transaction, "PENDING", tmp_path)
    with pytest.raises(FleetError, match="Mitogen"):
        transaction.commit("mine", transaction.Connection("192.0.2.7", 50022, "192.0.2.1", 22, "eth0"))


def test_f48_attempts_span_the_deadline_and_spare_the_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, made = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    for _number in attempts(60):
        made.append(clock[0])
    assert made[:3] == [0, 5, 36]
    assert 60 + GRACE_SECONDS - 10 <= made[-1] <= 60 + GRACE_SECONDS + 10
    assert max(sum(start <= one < start + 30 for one in made) for start in made) < 6
