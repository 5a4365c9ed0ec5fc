# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox of a drill, as it is asked of systemd, and the guard within."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import drill_sandbox
from ansible_collections.hearth.fleet.plugins.module_utils import probe as probes
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

ORDER: dict[str, Any] = {
    "service": "node",
    "type": "exec",
    "command": ["/usr/local/bin/node", "--price", "$5"],
    "environment": {"LEVEL": "info"},
    "secrets": {"TOKEN": {"as": "environment", "path": "/etc/node/node.env"}, "cert": {"as": "credential", "path": "/etc/node/cert"}},
    "release": {"version": "1.0", "root": "/opt/hearth-drill/node", "binaries": ["node", "nodectl"]},
    "directories": ["/var/lib/node", "/run/node"],
    "working_directory": "/var/lib/node",
    "capabilities": [],
    "deadline": 30,
}
DEVICES = "Inter-|   Receive\n face |bytes    packets\n    lo:       0       0\n"


def properties(**order: Any) -> list[tuple[str, str]]:
    """Return the properties that systemd is asked for."""
    argv = drill_sandbox.command(Path("/work/root"), {**ORDER, **order}, {"TOKEN": "aa", "cert": "bb"}, [], ["/etc/hearth"])
    return [(name, value) for word in argv if word.startswith("--property=") for name, _equals, value in [word[11:].partition("=")]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PrivateNetwork", "yes"),
        ("IPAddressDeny", "any"),
        ("IPAddressAllow", "localhost"),
        ("RootDirectory", "/work/root"),
        ("ProtectSystem", "strict"),
        ("User", "hearth-drill"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("RuntimeMaxSec", "150"),
        ("ReadWritePaths", '"+/var/lib/node"'),
        ("TemporaryFileSystem", "/run/node:mode=1777"),
        ("SetCredential", "cert:bb"),
    ],
)
def test_f28_the_sandbox_is_closed(name: str, value: str) -> None:
    assert (name, value) in properties()


def test_f28_the_guard_runs_first() -> None:
    pre = [value for name, value in properties() if name == "ExecStartPre"]
    assert pre[0] == '"/usr/local/sbin/hearthctl" "drill" "guard" "/etc/hearth"'


def test_f28_of_the_host_only_what_tells_no_secret_is_seen() -> None:
    (bound,) = (value for name, value in properties() if name == "BindReadOnlyPaths")
    seen = [word.lstrip("-") for word in bound.split()]
    assert not [path for path in seen if path.startswith(("/etc/hearth", "/var", "/root", "/home", "/etc/shadow", "/run"))]
    assert "/opt/hearth-drill/node:/opt/node" in seen


def test_a_command_is_taken_as_it_is_written() -> None:
    argv = drill_sandbox.command(Path("/work/root"), ORDER, {}, [{"command": ["/bin/x", 'a "b" $c \\'], "timeout": 5}], [])
    assert argv[argv.index("--") + 1 :] == ["/usr/local/bin/node", "--price", "$$5"]
    assert '--property=ExecStartPre="/bin/x" "a \\"b\\" $$c \\\\"' in argv
    assert "--setenv=LEVEL=info" in argv


def test_a_root_has_what_a_daemon_looks_for(tmp_path: Path) -> None:
    drill_sandbox.make_root(tmp_path / "root", ORDER)
    root = tmp_path / "root"
    assert {name: os.readlink(root / ".bin" / name) for name in ("node", "nodectl")} == {
        name: f"/opt/node/current/bin/{name}" for name in ("node", "nodectl")
    }
    assert all((root / name).is_dir() for name in ("var/lib/node", "opt/node", "proc", "tmp", "usr"))


@pytest.mark.parametrize("path", ["/etc/../../x", "etc/x", "/link/x"])
def test_nothing_is_written_outside_of_a_root(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(FleetError):
        drill_sandbox.inside(tmp_path, path)


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        pytest.param(DEVICES, "", id="loopback-alone"),
        pytest.param(f"{DEVICES}  eth0:  10  20\n", r"there is a network in the sandbox \(eth0\)", id="a-network"),
    ],
)
def test_f28_the_guard_lets_nothing_start_where_there_is_a_network(tmp_path: Path, devices: str, said: str) -> None:
    (tmp_path / "dev").write_text(devices)
    if said:
        with pytest.raises(FleetError, match=said):
            drill_sandbox.guard([], str(tmp_path / "dev"))
    else:
        drill_sandbox.guard([str(tmp_path / "absent")], str(tmp_path / "dev"))


def test_f28_the_guard_lets_nothing_start_where_an_identity_is_seen(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text(DEVICES)
    with pytest.raises(FleetError, match="the sandbox can see /etc"):
        drill_sandbox.guard(["/etc"], str(tmp_path / "dev"))


def test_who_asks_within_says_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "probe_once", lambda probe, timeout: probes.Answer(probe == "tcp://127.0.0.1:1", "connected"))
    asked = {"probe": "tcp://127.0.0.1:1", "deadline": 1, "passes": 1, "interval": 0}
    assert json.loads(drill_sandbox.ask(json.dumps(asked))) == {"ready": True, "answer": "connected"}


class Asker:
    """Stands in for the process that asks within the sandbox; keeps what it was given."""

    given: ClassVar[list[tuple[list[str], str]]] = []

    def __init__(self, argv: list[str], stdin: Any, **_options: Any) -> None:
        self.given.append((argv, stdin.read().decode()))
        self.returncode = 0

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def poll(self) -> int:
        return 0

    def communicate(self) -> tuple[str, str]:
        return json.dumps({"ready": True, "answer": "pong"}), ""


@pytest.mark.parametrize(
    ("ready", "asked"),
    [
        pytest.param("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", id="url"),
        pytest.param(
            {"command": ["nodectl", "ping"], "where": "f.node.health.ready.command"},
            {
                "command": ["nodectl", "ping"],
                "where": "f.node.health.ready.command",
                "surroundings": {
                    "user": "hearth-drill",
                    "group": "hearth-drill",
                    "directory": "/var/lib/node",
                    "umask": 0o077,
                    "environment": {"TOKEN": "made-up-1", "LEVEL": "info", "CREDENTIALS_DIRECTORY": "/run/credentials/hearth-drill-sandbox.service"},
                    "secrets": ["made-up-1", "made-up-2"],
                },
            },
            id="command",
        ),
    ],
)
def test_f60_a_command_that_asks_within_has_what_the_daemon_has_and_no_argument_tells(
    monkeypatch: pytest.MonkeyPatch, ready: Any, asked: Any
) -> None:
    monkeypatch.setattr(Asker, "given", [])
    monkeypatch.setattr(drill_sandbox, "_main_pid", lambda: 7)
    monkeypatch.setattr(drill_sandbox.subprocess, "Popen", Asker)
    order = {**ORDER, "ready": ready, "passes": 1, "interval": 1}
    assert drill_sandbox.wait_ready(order, {"TOKEN": "made-up-1", "cert": "made-up-2"}) == (True, "pong")
    [(argv, question)] = Asker.given
    assert json.loads(question)["probe"] == asked
    assert "made-up" not in " ".join(argv)


def test_a_command_that_asks_within_is_run_with_what_it_was_given() -> None:
    given = {"environment": {"TOKEN": "made-up-1"}, "secrets": ["made-up-1"], "directory": "/usr"}
    asked = {"probe": {"command": ["sh", "-c", "pwd; echo $TOKEN"], "surroundings": given}, "deadline": 5, "passes": 1, "interval": 0}
    assert json.loads(drill_sandbox.ask(json.dumps(asked))) == {"ready": True, "answer": "exit status 0: /usr"}
