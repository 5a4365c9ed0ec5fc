# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands beside a daemon: they find what it found when it was started, and nobody sees its secrets in what they print."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from pathlib import Path
from typing import Any

import fleets
import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import probe, service_process, slices, unit_file, unit_marks, units
from ansible_collections.hearth.fleet.plugins.module_utils.config_formats import encode
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.service_process import Surroundings

PASSWORD = 'hunter2 "$`\\ ü'
CERTIFICATE = "-----BEGIN-----\nc2VjcmV0LWtleQ==\n-----END-----\n"
AWKWARD = {"LEVEL": "info", "PLAIN": "100%", "QUOTED": 'say "hi"\\', "TABBED": "a\tb", "MONEY": "$5 %h", "EMPTY": ""}
SECRETS = {"PASSWORD": PASSWORD, "cert": {"value": CERTIFICATE, "as": "credential"}, "admin": {"value": "not-for-it", "as": "request"}}


class Box:
    """A host with the files of one service, as the roles write them; nothing of this machine is used."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.units, self.stamps, self.credentials = root / "units", root / "run/hearth", root / "run/credentials"
        for directory in (self.units, self.stamps / "icnd.files", self.credentials):
            directory.mkdir(parents=True)
        monkeypatch.setattr(unit_marks, "UNITS", str(self.units))
        monkeypatch.setattr(units, "STAMPS", str(self.stamps))
        monkeypatch.setattr(service_process, "CREDENTIALS", str(self.credentials))
        self.environment_file = root / "icnd.env"

    def describe(self, **service: Any) -> None:
        """Write what the roles write for a service."""
        described = {**fleets.ICND, "environment": AWKWARD, "secrets": SECRETS, "environment_file": str(self.environment_file), **service}
        joined, mistakes = fleets.join(fleets.fleet(services={"icnd": described}))
        assert mistakes == []
        spec = joined["relay1"]["services"]["icnd"]
        text = unit_file.render({**spec, "credentials": slices.credentials(spec), "environment_files": slices.environment_files(spec), "stamp": []})
        (self.units / "icnd.service").write_text(text)
        self.secrets({key: one["value"] for key, one in spec["secrets"].items() if one["as"] == "environment"})

    def secrets(self, values: dict[str, str]) -> None:
        self.environment_file.write_text(encode("env", values, "x"))
        self.environment_file.chmod(0o600)

    def start(self) -> None:
        """Note what the daemon is started with, as the stamp does, and give it its credentials, as systemd does."""
        files = [self.environment_file, *self.units.glob("icnd.service"), *self.units.glob("icnd.service.d/*.conf")]
        lines = ["release /opt/icnd/releases/1"]
        for path in files:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            (self.stamps / "icnd.files" / digest).write_bytes(path.read_bytes())
            lines.append(f"{digest}  {path}")
        (self.stamps / "icnd.started").write_text("\n".join(lines) + "\n")
        (self.credentials / "icnd.service").mkdir(exist_ok=True)
        (self.credentials / "icnd.service/cert").write_text(CERTIFICATE)

    def found(self) -> Surroundings:
        return service_process.of_unit("icnd.service", "icnd")


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    box = Box(tmp_path, monkeypatch)
    box.describe()
    return box


def test_a_command_finds_what_the_unit_gives_its_daemon(box: Box) -> None:
    box.start()
    found = box.found()
    assert found.environment == {**AWKWARD, "PASSWORD": PASSWORD, "CREDENTIALS_DIRECTORY": f"{box.credentials}/icnd.service"}
    assert (found.user, found.group, found.directory, found.umask) == ("icnd", "icnd", "/var/lib/icnd", 0o077)


def test_a_command_finds_what_the_daemon_was_started_with(box: Box) -> None:
    box.start()
    box.secrets({"PASSWORD": "the-next-one"})
    box.describe(environment={"LEVEL": "debug"}, secrets={"PASSWORD": "the-next-one"})
    assert (box.found().environment["LEVEL"], box.found().environment["PASSWORD"]) == ("info", PASSWORD)
    box.start()
    assert (box.found().environment["LEVEL"], box.found().environment["PASSWORD"]) == ("debug", "the-next-one")


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_where_nobody_kept_what_it_was_started_with_the_present_counts(box: Box, damage: str) -> None:
    box.start()
    for kept in (box.stamps / "icnd.files").iterdir():
        kept.unlink() if damage == "gone" else kept.write_bytes(b"")
    box.secrets({"PASSWORD": "the-next-one"})
    assert box.found().environment["PASSWORD"] == "the-next-one"


@pytest.mark.parametrize("started", [False, True], ids=["never-started", "started"])
def test_drop_ins_count(box: Box, started: bool) -> None:
    (box.units / "icnd.service.d").mkdir()
    (box.root / "more.env").write_text("MORE=1\n")
    (box.units / "icnd.service.d/20.conf").write_text("[Service]\nEnvironment=LEVEL=trace 'TWO=a b'\nSupplementaryGroups=adm\n")
    (box.units / "icnd.service.d/10.conf").write_text(
        f"# Environment=NO=1\n[Unit]\nEnvironment=NO=1\n[Service]\nEnvironment=\nEnvironment=ONE=1 \\\n  LEVEL=off\n"
        f"EnvironmentFile=-{box.root}/absent.env\nEnvironmentFile={box.root}/more.env\n"
    )
    if started:
        box.start()
    found = box.found()
    found_here = {key: value for key, value in found.environment.items() if key != "CREDENTIALS_DIRECTORY"}
    assert found_here == {"LEVEL": "trace", "TWO": "a b", "ONE": "1", "PASSWORD": PASSWORD, "MORE": "1"}
    assert found.groups == ["adm"]


def test_the_secrets_of_requests_are_not_the_daemons(box: Box) -> None:
    box.start()
    assert "not-for-it" not in str(box.found().environment)


def test_a_unit_of_somebody_else_has_its_account_alone(box: Box) -> None:
    assert service_process.of_unit("nginx.service", "www-data") == Surroundings(user="www-data")


def test_without_its_environment_file_nobody_is_asked_as_the_daemon_would_not_start(box: Box) -> None:
    box.environment_file.unlink()
    answer = probe.probe_once({"command": ["true"], "service_unit": "icnd.service", "user": "icnd"})
    assert (answer.ok, answer.said) == (False, f"the service's environment cannot be read from {box.environment_file}: No such file or directory")


def anybody(**more: Any) -> Surroundings:
    return Surroundings(user=pwd.getpwuid(os.geteuid()).pw_name, **more)


def test_the_process_is_as_systemd_would_start_it(tmp_path: Path) -> None:
    found = anybody(directory=str(tmp_path), umask=0o027, environment={"LEVEL": "info", "PATH": "/nowhere"})
    said = service_process.run(["sh", "-c", "pwd; umask; echo $LEVEL $PATH; echo ${SECRET_OF_THE_CALLER-none}"], found, seconds=5)
    assert said.output.splitlines() == [str(tmp_path), "0027", "info /nowhere", "none"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_process_has_the_account_and_its_groups() -> None:
    said = service_process.run(["id"], Surroundings(user="nobody", group="adm", groups=["tty"]), seconds=5)
    assert said.output.startswith("uid=65534(nobody) gid=4(adm) groups=4(adm)")
    assert "(tty)" in said.output
    assert "(root)" not in said.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param(Surroundings(user="no-such-account"), "there is no account no-such-account", id="user"),
        pytest.param(Surroundings(user="nobody", group="no-such-group"), "there is no group: .*no-such-group", id="group"),
    ],
)
def test_an_account_that_is_not_there_is_said(found: Surroundings, said: str) -> None:
    with pytest.raises(FleetError, match=said):
        service_process.run(["true"], found, seconds=5)


def test_f60_the_secret_is_neither_an_argument_nor_described(box: Box) -> None:
    box.start()
    asked = {"command": ["sh", "-c", "tr '\\0' ' ' </proc/$$/cmdline"], "service_unit": "icnd.service"}
    answer = probe.probe_once(asked)
    assert "hunter2" not in f"{answer.text} {probe.describe(asked)} {asked} {box.found()!r}"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param('echo "login with $PASSWORD failed" >&2; exit 1', "exit status 1: login with ******** failed", id="as-it-is"),
        pytest.param('echo "$PASSWORD"; exit 0', "exit status 0: ********", id="a-success"),
        pytest.param('echo "$PASSWORD"; exit 127', "exit status 127: ********", id="of-a-shell"),
        pytest.param("exec cat $CREDENTIALS_DIRECTORY/cert", "exit status 0: ********", id="a-credential"),
        pytest.param("exec sed -n 2p $CREDENTIALS_DIRECTORY/cert", "exit status 0: ********", id="a-line-of-a-credential"),
        pytest.param(f"printf '%s' '{json.dumps({'p': PASSWORD}, ensure_ascii=False)}'", 'exit status 0: {"p": "********"}', id="as-json"),
        pytest.param(f"printf '%s' '{json.dumps({'p': PASSWORD})}'", 'exit status 0: {"p": "********"}', id="as-json-in-ascii"),
    ],
)
def test_f60_a_secret_that_a_probe_prints_is_in_no_message(box: Box, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    box.start()
    monkeypatch.setattr(service_process, "_account", lambda _found: ({}, {}))  # the account icnd is not of this machine
    monkeypatch.setattr(service_process, "read_settings", settings_here(service_process.read_settings))
    answer = probe.probe_once({"command": ["sh", "-c", script], "service_unit": "icnd.service", "user": "icnd"})
    assert answer.said == said
    assert "hunter2" not in answer.text
    assert "c2VjcmV0" not in answer.text


def settings_here(read: Any) -> Any:
    """Return ``read_settings`` for a service whose home is not of this machine."""
    return lambda texts: {**read(texts), "WorkingDirectory": ["/"]}


def test_f60_long_secrets_are_hidden_before_what_they_contain() -> None:
    assert service_process.hide("abcdef abc", ["abc", "abcdef"]) == "******** ********"


def test_f60_short_lines_of_a_secret_do_not_hide_everything_else() -> None:
    assert service_process.hide("a fine day", ["a\nsecret-line\n"]) == "a fine day"


@pytest.mark.parametrize(
    ("place", "owner", "may"),
    [
        pytest.param("bin/ctl", os.geteuid(), True, id="its-own-directory"),
        pytest.param("not/there/yet/ctl", os.geteuid(), True, id="below-its-own-directory"),
        pytest.param("bin/ctl", 12345, False, id="of-somebody-else"),
    ],
)
def test_what_a_daemon_may_bring_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, owner: int, may: bool) -> None:
    (tmp_path / "bin").mkdir()
    entry = pwd.getpwuid(os.geteuid())
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: pwd.struct_passwd((*entry[:2], owner, *entry[3:])))
    assert service_process.may_bring(str(tmp_path / place), Surroundings(user="icnd")) is may


@pytest.mark.parametrize("program", ["ctl", "/no-such-place/ctl"])
def test_what_nobody_may_bring(program: str) -> None:
    assert not service_process.may_bring(program, Surroundings(user="nobody"))
