# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that run once: which are due, how systemd is called, and what is said of those that fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import bootstrap, bootstrapping, programs
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

SECRET = "hunter2-hunter3"


def command(tmp_path: Path, service: str = "icnd", creates: str = "identity", **more: Any) -> dict[str, Any]:
    return {
        "service": service,
        "command": ["/usr/local/bin/icnd", "init", "--label", "costs $5"],
        "creates": str(tmp_path / creates),
        "timeout": 7,
        "user": "icn",
        "group": "icn-group",
        "environment": {"RUST_LOG": "info"},
        "environment_files": [],
        "credentials": [],
        "working_directory": "/var/lib/icn",
        **more,
    }


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Have programs end as the test says, by the name of the service, and return what was called."""

    def prepare(**ends: programs.Said | Path) -> list[list[str]]:
        called: list[list[str]] = []

        def run(words: list[str], **_options: Any) -> programs.Said:
            called.append(words)
            end = ends[next(word for word in words if word.startswith("--description=")).partition("=")[2].partition(":")[0]]
            if isinstance(end, Path):
                end.touch()
                return programs.Said(0, "", "")
            return end

        monkeypatch.setattr(programs, "run", run)
        return called

    return prepare


def apply(*wanted: dict[str, Any]) -> None:
    bootstrapping.apply(wanted, bootstrap.diff(wanted, bootstrap.look(wanted)))


def test_what_is_there_is_not_made_again(tmp_path: Path, ran: Callable[..., list[list[str]]]) -> None:
    one = command(tmp_path)
    called = ran(icnd=tmp_path / "identity")
    assert [str(difference) for difference in bootstrap.diff([one], bootstrap.look([one]))] == [
        f"{tmp_path}/identity: not there yet; bootstrap makes it"
    ]
    apply(one)
    apply(one)
    assert len(called) == 1


def test_a_link_that_leads_nowhere_is_there(tmp_path: Path) -> None:
    (tmp_path / "identity").symlink_to(tmp_path / "on-a-disk-that-is-not-mounted")
    assert bootstrap.diff([command(tmp_path)], bootstrap.look([command(tmp_path)])) == []


def test_systemd_is_told_all_and_expands_nothing(tmp_path: Path) -> None:
    one = command(tmp_path, environment_files=["/etc/icn/icnd.env"], credentials=["key:/etc/icnd/credentials/key"])
    words = bootstrapping.words(one)
    assert words[-4:] == ["/usr/local/bin/icnd", "init", "--label", "costs $$5"]
    for told in (
        "--property=User=icn",
        "--property=Group=icn-group",
        "--property=WorkingDirectory=/var/lib/icn",
        "--property=RuntimeMaxSec=7",
        "--property=UMask=0077",
        "--property=NoNewPrivileges=yes",
        "--setenv=RUST_LOG=info",
        "--property=EnvironmentFile=/etc/icn/icnd.env",
        "--property=LoadCredential=key:/etc/icnd/credentials/key",
    ):
        assert told in words[: words.index("--")]


def test_f60_what_a_failed_command_says_comes_without_secrets(tmp_path: Path, ran: Callable[..., list[list[str]]]) -> None:
    (tmp_path / "icnd.env").write_text(f"PASSPHRASE='{SECRET}'\n")
    (tmp_path / "key").write_text("-----BEGIN-----\nc2VjcmV0LWtleQ==\n-----END-----\n")
    one = command(tmp_path, environment_files=[f"{tmp_path}/icnd.env"], credentials=[f"key:{tmp_path}/key"])
    ran(icnd=programs.Said(3, f"wrong passphrase {SECRET}\nkey c2VjcmV0LWtleQ== refused\n", ""))
    with pytest.raises(FleetError) as error:
        apply(one)
    said = str(error.value)
    assert said.splitlines() == [
        f"icnd: the command that makes {tmp_path}/identity failed (exit status 3); the service was not started.",
        "  command: /usr/local/bin/icnd init --label costs $5",
        "  | wrong passphrase ********",
        "  | key ******** refused",
        "  → correct fleet_services.icnd.bootstrap; `creates` names what the command makes",
    ]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        pytest.param(programs.Said(0, "", ""), "ended well, but ", id="another-path"),
        pytest.param(programs.Said(1, "", ""), "(it said nothing)", id="silent"),
        pytest.param(
            programs.Said(programs.NOT_FOUND, "", "systemd-run cannot be run: No such file", ended=False),
            "(it could not be started)",
            id="no-systemd",
        ),
    ],
)
def test_how_a_command_can_fail(tmp_path: Path, ran: Callable[..., list[list[str]]], end: programs.Said, said: str) -> None:
    ran(icnd=end)
    with pytest.raises(FleetError, match=r"the command that makes .*/identity ") as error:
        apply(command(tmp_path))
    assert said in str(error.value)


def test_a_command_that_takes_too_long_is_said_to(tmp_path: Path, ran: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 107.1])
    monkeypatch.setattr(bootstrapping.time, "monotonic", lambda: next(clock))
    ran(icnd=programs.Said(1, "", ""))
    with pytest.raises(FleetError, match=r"failed \(not done within 7 s\)"):
        apply(command(tmp_path))


def test_where_one_service_fails_the_others_get_theirs_and_all_is_said(tmp_path: Path, ran: Callable[..., list[list[str]]]) -> None:
    called = ran(icnd=programs.Said(1, "no entropy\n", ""), nats=tmp_path / "nats", relay=programs.Said(2, "no disk\n", ""))
    with pytest.raises(FleetError) as error:
        apply(
            command(tmp_path),
            command(tmp_path, creates="second"),
            command(tmp_path, "nats", "nats"),
            command(tmp_path, "relay", "relay"),
        )
    assert [line for line in str(error.value).splitlines() if "|" in line] == ["  | no entropy", "  | no disk"]
    assert len(called) == 3, "what follows in the same service may need what failed"
    assert (tmp_path / "nats").exists()
