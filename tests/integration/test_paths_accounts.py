# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, accounts and their two roles on a host of the lab: `pytest tests/integration/test_paths_accounts.py`, after `make lab`."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab_hosts
import pytest

from ansible_collections.hearth.fleet.plugins.module_utils.config_formats import encode
from ansible_collections.hearth.fleet.plugins.module_utils.operators import operator_slices

HOST = "anchor1"
ROOT = "/srv/hearth-test"
SERVICE, OPERATOR = "hearth-test-daemon", "hearth-test-ada"
SECRET = "correct horse battery staple"
HASH = "$6$abcdefgh$" + "x" * 86
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFirstKeyFirstKeyFirstKeyFirstKeyFirstKeyFir ada@desk"

GROUPS = [{"name": SERVICE, "system": True}]
USERS = [{"name": SERVICE, "group": SERVICE, "home": ROOT, "shell": "/usr/sbin/nologin", "system": True, "service": "daemon"}]

CLEAN_UP = f"""
for name in {SERVICE} {OPERATOR}; do
  if id -u $name >/dev/null 2>&1; then userdel $name; fi
  if getent group $name >/dev/null; then groupdel $name; fi
done
if mountpoint -q {ROOT}/small; then umount {ROOT}/small; fi
rm -rf {ROOT} /home/{OPERATOR} /etc/sudoers.d/hearth-{OPERATOR}
"""


def shell(script: str) -> str:
    return lab_hosts.shell(HOST, script)


def module(name: str, arguments: dict[str, Any], *flags: str) -> dict[str, Any]:
    """Run one module of the collection and return its result."""
    return lab_hosts.module(HOST, f"hearth.fleet.{name}", arguments, *flags)


def paths(*wanted: dict[str, Any], check: bool = False) -> dict[str, Any]:
    return module("paths", {"paths": wanted}, *(["--check"] if check else []))


def accounts(groups: list[dict[str, Any]], users: list[dict[str, Any]], *, check: bool = False) -> dict[str, Any]:
    return module("accounts", {"groups": groups, "users": users}, *(["--check"] if check else []))


def file(name: str, content: str, **more: Any) -> dict[str, Any]:
    return {"path": f"{ROOT}/{name}", "state": "file", "mode": "0640", "content": content, **more}


def directory(name: str = "", **more: Any) -> dict[str, Any]:
    return {"path": f"{ROOT}/{name}".rstrip("/"), "state": "directory", **more}


@pytest.fixture(autouse=True)
def bare_host() -> Iterator[None]:
    shell(CLEAN_UP)
    yield
    shell(CLEAN_UP)


def test_accounts_are_created_and_a_second_run_changes_nothing() -> None:
    assert accounts(GROUPS, USERS)["changed"]
    assert shell(f"getent passwd {SERVICE}").split(":")[5:] == [ROOT, "/usr/sbin/nologin\n"]
    assert shell(f"getent shadow {SERVICE}").split(":")[1].startswith("!")
    assert shell(f"id -gn {SERVICE}") == f"{SERVICE}\n"
    assert not accounts(GROUPS, USERS)["changed"]


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        pytest.param(f"usermod --shell /bin/sh {SERVICE}", "shell /bin/sh, not /usr/sbin/nologin", id="shell"),
        pytest.param(f"usermod --home /tmp {SERVICE}", f"home /tmp, not {ROOT}", id="home"),
        pytest.param(f"usermod --append --groups adm,sudo {SERVICE}", "in group adm, sudo unasked", id="groups"),
        pytest.param(f"usermod --gid daemon {SERVICE}", f"group daemon, not {SERVICE}", id="primary-group"),
        pytest.param(f"passwd --delete {SERVICE}", "password is empty, not locked", id="password-removed"),
        pytest.param(f"echo '{SERVICE}:x' | chpasswd", "password is set, not locked", id="password-set"),
        pytest.param(f"userdel {SERVICE}", "does not exist", id="deleted"),
    ],
)
def test_drift_of_an_account_is_named_and_repaired(drift: str, said: str) -> None:
    accounts(GROUPS, USERS)
    shell(drift)
    assert said in " / ".join(one["reason"] for one in accounts(GROUPS, USERS)["differences"])
    assert not accounts(GROUPS, USERS)["changed"]


def test_check_mode_on_a_bare_host_plans_everything_and_does_nothing() -> None:
    planned = accounts(GROUPS, USERS, check=True)
    assert [one["action"] for one in planned["differences"]] == ["create", "create"]
    wanted = [
        directory(owner=SERVICE, group=SERVICE),
        file("node.toml", "a = 1\n", group=SERVICE, validate=["/nowhere/daemon", "{path}"], validate_as=SERVICE),
    ]
    assert [one["action"] for one in paths(*wanted, check=True)["differences"]] == ["create", "create"]
    assert shell(f"getent passwd {SERVICE} || echo no account; test -e {ROOT} || echo no directory") == "no account\nno directory\n"


def test_f59_a_rejected_configuration_keeps_the_old_files() -> None:
    accounts(GROUPS, USERS)
    old = [directory(owner=SERVICE, group=SERVICE, mode="0750"), file("a.json", "{}", group=SERVICE), file("b.json", "{}", group=SERVICE)]
    paths(*old)
    before = shell(f"ls -lA --time-style=full-iso --inode {ROOT}")
    parse = ["/usr/bin/python3", "-m", "json.tool", "{path}"]
    wanted = [old[0], {**old[1], "content": '{"a": 1}'}, {**old[2], "content": '{"b": oops}', "validate": parse, "validate_as": SERVICE}]
    for check in (True, False):
        result = paths(*wanted, check=check)
        assert result["failed"]
        assert f"{ROOT}/b.json was rejected by its validator (exit code 1); the old file was kept, the service was not touched" in result["msg"]
        assert "Expecting value: line 1 column 7" in result["msg"]
        assert shell(f"ls -lA --time-style=full-iso --inode {ROOT}") == before
    wanted[2]["content"] = '{"b": 1}'
    assert paths(*wanted)["changed"]
    assert shell(f"cat {ROOT}/a.json {ROOT}/b.json") == '{"a": 1}{"b": 1}'


def test_f59_an_included_file_that_breaks_the_one_that_stays_is_rejected() -> None:
    check = {"validate": ["/usr/sbin/sshd", "-t", "-f", "{path}"], "service": "daemon"}
    main = file("sshd.conf", f"Include {ROOT}/included.conf\n", **check)
    assert paths(directory(), main, file("included.conf", "Port 2022\n", service="daemon"))["changed"]
    before = shell(f"ls -lA --time-style=full-iso --inode {ROOT}")
    for checked in (True, False):
        result = paths(directory(), main, file("included.conf", "Prot 2022\n", service="daemon"), check=checked)
        assert result["failed"]
        assert f"{ROOT}/sshd.conf was rejected by its validator with {ROOT}/included.conf, which is to change" in result["msg"]
        assert "Bad configuration option: Prot" in result["msg"]
        assert shell(f"ls -lA --time-style=full-iso --inode {ROOT}") == before
    assert paths(directory(), main, file("included.conf", "Port 2023\n", service="daemon"))["changed"]
    # grep -c fails where it counts none, as it should here.
    assert shell(f"cat {ROOT}/included.conf; grep -c {ROOT} /proc/mounts || true").split("\n")[:2] == ["Port 2023", "0"]


@pytest.mark.parametrize("flags", [("-vvv", "--diff"), ("-vvv", "--diff", "--check")], ids=["apply", "check"])
def test_f60_secrets_are_in_no_output(flags: tuple[str, ...], tmp_path: Path) -> None:
    token = {"path": f"{ROOT}/token", "mode": "0600"}
    stored = {**token, "secret_content": SECRET, "sha256": hashlib.sha256(SECRET.encode()).hexdigest()}
    quoted = {**token, "secret_content": f"TOKEN={SECRET}\n", "validate": ["sh", "-c", 'cut -c7- "$1"; exit 1', "sh", "{path}"]}
    tasks: list[dict[str, Any]] = [
        {"hearth.fleet.accounts": {"groups": GROUPS, "users": "{{ wanted_users }}"}},
        {"hearth.fleet.paths": {"paths": "{{ stored }}"}},
        {"hearth.fleet.paths": {"paths": "{{ quoted }}"}},
    ]
    variables = {"wanted_users": [{**USERS[0], "password_hash": HASH}], "stored": [directory(), stored], "quoted": [directory(), quoted]}
    shell(f"install -d {ROOT}")
    done = lab_hosts.play(HOST, tasks, tmp_path, *flags, **variables)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "was rejected by its validator" in said
    assert "(secret)" in said
    for word in ("battery", HASH, stored["sha256"]):
        assert word not in said


def test_f57_a_full_disk_keeps_the_old_files() -> None:
    shell(f"mkdir -p {ROOT}/small && mount -t tmpfs -o size=64k,mode=755 none {ROOT}/small && cd {ROOT}/small && printf old | tee a > b")
    result = paths(file("small/a", "new"), file("small/b", "x" * 100_000))
    assert result["failed"]
    assert f"cannot write {ROOT}/small/b: No space left on device; what was there is kept" in result["msg"]
    assert shell(f"cd {ROOT}/small && ls -A && cat a b") == "a\nb\noldold"


def test_f57_a_read_only_disk_is_named() -> None:
    shell(f"mkdir -p {ROOT}/small && mount -t tmpfs -o ro none {ROOT}/small")
    assert "Read-only file system" in paths(file("small/a", "new"))["msg"]


def test_an_environment_file_is_read_by_systemd_as_written() -> None:
    content = {"A": "$HOME `id` \"q\" 'q' \\ \\n # ; %h", "B": " two  words ", "C": "", "D": True}
    paths(directory(), file("daemon.env", encode("env", content, "")))
    said = shell(f"systemd-run --wait --pipe --quiet --collect -p EnvironmentFile={ROOT}/daemon.env env -0 | tr '\\0' '\\n'")
    seen = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    assert {key: seen[key] for key in content} == {**content, "D": "true"}


def play_roles(tmp_path: Path, specs: dict[str, Any], *roles: dict[str, str], **plan: list[str]) -> subprocess.CompletedProcess[str]:
    tasks = [{"ansible.builtin.include_role": role} for role in roles]
    return lab_hosts.play(HOST, tasks, tmp_path, fleet_service_specs=specs, fleet_plan={"held": [], "taken": [], **plan})


def test_the_role_account_lets_operators_in(tmp_path: Path) -> None:
    operators = [{"name": OPERATOR, "ssh_keys": [KEY], "sudo": "nopasswd", "groups": ["adm"], "password_hash": HASH}]
    done = play_roles(tmp_path, {"account": operator_slices(operators)}, {"name": "hearth.fleet.account"})
    assert done.returncode == 0, done.stdout
    assert shell(f"cat /home/{OPERATOR}/.ssh/authorized_keys") == KEY + "\n"
    assert shell(f"stat -c '%a %U' /home/{OPERATOR}/.ssh /home/{OPERATOR}/.ssh/authorized_keys") == f"700 {OPERATOR}\n600 {OPERATOR}\n"
    assert shell(f"runuser -u {OPERATOR} -- sudo -n id -u") == "0\n"
    assert shell(f"getent shadow {OPERATOR}").split(":")[1] == HASH
    assert "changed=0" in play_roles(tmp_path, {"account": operator_slices(operators)}, {"name": "hearth.fleet.account"}).stdout
    gone = operator_slices([{"name": OPERATOR, "state": "absent"}])
    assert "changed=2" in play_roles(tmp_path, {"account": gone}, {"name": "hearth.fleet.account"}).stdout
    left = shell(f"getent passwd {OPERATOR} || echo no account; ls -A /home/{OPERATOR}/.ssh; ls /etc/sudoers.d/hearth-* 2>&1 || true")
    assert left.startswith("no account\nls: cannot access")


def test_the_role_config_leaves_held_services_alone_and_bootstraps_once(tmp_path: Path) -> None:
    accounts(GROUPS, USERS)
    paths(directory(owner=SERVICE, group=SERVICE))
    script = f"echo ${{TOKEN}} $(id -un) $PWD $(umask) >> {ROOT}/identity"
    specs = {
        "config": {
            "paths": [
                file("daemon.env", encode("env", {"TOKEN": "a b"}, ""), service="daemon", mode="0600"),
                file("held", "x", service="other"),
            ],
            "bootstrap": [
                {
                    "service": "daemon",
                    "command": ["/bin/sh", "-c", script],
                    "creates": f"{ROOT}/identity",
                    "user": SERVICE,
                    "group": SERVICE,
                    "environment": {},
                    "environment_files": [f"{ROOT}/daemon.env"],
                    "credentials": [],
                    "working_directory": ROOT,
                    "timeout": 30,
                }
            ],
        }
    }
    roles = ({"name": "hearth.fleet.config"}, {"name": "hearth.fleet.config", "tasks_from": "bootstrap"})
    assert "changed=1" in play_roles(tmp_path, specs, *roles, held=["other"], taken=["daemon"]).stdout, "a restore may be about to bring it back"
    first = play_roles(tmp_path, specs, *roles, held=["other"])
    assert "changed=1" in first.stdout, first.stdout
    assert "changed=0" in play_roles(tmp_path, specs, *roles, held=["other"]).stdout
    assert shell(f"cat {ROOT}/identity") == f"a b {SERVICE} {ROOT} 0077\n"
    assert shell(f"ls {ROOT}") == "daemon.env\nidentity\n"
