# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module bootstrap on the lab's systemd, of Debian 12 and 13: `pytest tests/integration/test_bootstrap.py`, after `make lab`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lab_hosts
import pytest

HOME = "/var/tmp/hearth-test-bootstrap"
SECRET, KEY = "a-passphrase-that-nobody-may-see", "c2VjcmV0LWtleS1vZi1hLW5vZGU="


@pytest.fixture(params=["relay1", "relay2"])
def host(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    lab_hosts.shell(name, f"rm -rf {HOME}; install -d -o games -g games {HOME}; printf 'PASSPHRASE={SECRET}\\n' > {HOME}/env")
    lab_hosts.shell(name, f"printf '{KEY}\\n' > {HOME}/key; chmod 0600 {HOME}/env {HOME}/key; chown root {HOME}/env {HOME}/key")
    yield name
    lab_hosts.shell(name, f"rm -rf {HOME}")


def command(script: str, service: str = "icnd", creates: str = "identity", **more: Any) -> dict[str, Any]:
    surroundings = {"environment_files": [f"{HOME}/env"], "credentials": [f"key:{HOME}/key"], "environment": {"LEVEL": "info $5"}}
    account = {"user": "games", "group": "games", "working_directory": HOME}
    return {"service": service, "command": ["/bin/sh", "-ec", script], "creates": f"{HOME}/{creates}", **surroundings, **account, **more}


def bootstrap(host: str, *commands: dict[str, Any], flags: tuple[str, ...] = ()) -> dict[str, Any]:
    return lab_hosts.module(host, "hearth.fleet.bootstrap", {"commands": commands}, *flags)


def test_it_runs_once_as_the_account_with_what_the_daemon_has(host: str) -> None:
    note = 'id -un; pwd; umask; echo "$LEVEL"; echo "$PASSPHRASE"; cat "$CREDENTIALS_DIRECTORY/key"'
    one = command(f"{{ {note}; }} > identity; echo {SECRET}")
    planned = bootstrap(host, one, flags=("--check",))
    assert (planned["changed"], lab_hosts.shell(host, f"ls {HOME}").split()) == (True, ["env", "key"])
    made = bootstrap(host, one, flags=("-vvv",))
    assert made["changed"]
    assert SECRET not in made["output"]
    assert lab_hosts.shell(host, f"cat {HOME}/identity").splitlines() == ["games", HOME, "0077", "info $5", SECRET, KEY]
    before = lab_hosts.shell(host, f"stat -c %Y.%i {HOME}/identity")
    assert not bootstrap(host, one)["changed"]
    assert lab_hosts.shell(host, f"stat -c %Y.%i {HOME}/identity") == before


def test_f60_all_failures_are_said_without_secrets_and_the_others_are_made(host: str) -> None:
    refused = bootstrap(
        host,
        command('echo "wrong passphrase $PASSPHRASE"; cat "$CREDENTIALS_DIRECTORY/key"; exit 3', "first"),
        command("touch never", "first", "never"),
        command("touch elsewhere", "second", "here"),
        command("sleep 60", "third", "slow", timeout=1),
        command("touch made", "fourth", "made"),
    )
    assert refused["failed"]
    said = refused["msg"]
    assert f"first: the command that makes {HOME}/identity failed (exit status 3)" in said
    assert "| wrong passphrase ********\n  | ********\n" in said
    assert f"second: the command that makes {HOME}/here ended well, but {HOME}/here is not there" in said
    assert f"third: the command that makes {HOME}/slow failed (not done within 1 s)" in said
    assert "fourth" not in said
    assert SECRET not in refused["output"]
    assert KEY not in refused["output"]
    assert set(lab_hosts.shell(host, f"ls {HOME}").split()) == {"elsewhere", "env", "key", "made"}
    assert SECRET not in lab_hosts.shell(host, "journalctl --no-pager -o cat -t ansible-hearth.fleet.bootstrap -t python3")
