# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role backup on a real host: tampering is seen and repaired, bad input changes nothing, what is not wanted any more goes.

`pytest tests/integration/test_backup_role.py`, after `make lab`. The host runs the lab's store as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import converged
import lab_hosts
import pytest

HOST = "ops1"
STORE, NOBODY = f"http://{lab_hosts.addresses(HOST)[0]}:9001", f"http://{lab_hosts.addresses(HOST)[0]}:9"
JOB = "kontinuum-node-admin.data"
UNITS = "/etc/systemd/system"
TIMER, SERVICE = f"hearth-backup-{JOB}.timer", f"hearth-backup-{JOB}.service"
WRITER = {"id": "LABWRITE000000000001", "secret": "only-for-the-lab-this-one-writes-00000001"}
ADMIN = {"id": "LABADMIN000000000001", "secret": "only-for-the-lab-this-one-does-all-000001"}

TAMPERING = {
    "order edited": (f"echo >> /etc/hearth/backup/{JOB}.json", f"backup: /etc/hearth/backup/{JOB}.json: content differs"),
    "credentials readable": ("chmod 0644 /etc/hearth/backup/rclone.conf", "backup: /etc/hearth/backup/rclone.conf: mode 0644, not 0600"),
    "what it stores is root's": (f"chown root /var/lib/hearth/backup/{JOB}", f"backup: /var/lib/hearth/backup/{JOB}: owner root"),
    "what others store can be seen": ("chmod 0755 /var/lib/hearth/backup", "backup: /var/lib/hearth/backup: mode 0755, not 0711"),
    "unit edited": (f"echo '# mine' >> {UNITS}/{SERVICE}", f"backup: {UNITS}/{SERVICE}: content differs"),
    "timer stopped": (f"systemctl stop {TIMER}", f"backup: {TIMER}: not active (inactive)"),
    "timer does not start at boot": (f"rm {UNITS}/timers.target.wants/{TIMER}", f"backup: {UNITS}/timers.target.wants/{TIMER}: does not exist"),
    "a job of nobody": (
        f"touch {UNITS}/hearth-backup-ghost.data.timer /etc/hearth/backup/ghost.data.json",
        f"backup: {UNITS}/hearth-backup-ghost.data.timer: no job wants it any more",
    ),
}
TAMPERING_AGAIN = {
    "order gone": (f"rm /etc/hearth/backup/{JOB}.json", f"backup: /etc/hearth/backup/{JOB}.json: does not exist"),
    "timer masked": (
        f"rm {UNITS}/{TIMER}; ln -s /dev/null {UNITS}/{TIMER}; systemctl daemon-reload",
        f"backup: {UNITS}/{TIMER}: is a symbolic link to /dev/null, where a file is wanted",
    ),
    "package removed": ("mv /usr/bin/zstd /root/zstd; dpkg --force-depends --purge zstd", "backup: zstd: not installed"),
}
TAMPERING_ONCE_MORE = {"systemd not told": (f"touch {UNITS}/{TIMER}", f"backup: {TIMER}: systemd has not read its file since it changed")}
GROUPS = {"tampering": TAMPERING, "again": TAMPERING_AGAIN, "once-more": TAMPERING_ONCE_MORE}


@pytest.fixture(scope="module", autouse=True)
def host() -> Iterator[None]:
    """The store and a service that is backed up to it; left as the inventory has them."""
    converged.site("--limit", HOST)
    yield
    converged.site("--limit", HOST)


def overridden(**variables: Any) -> tuple[str, ...]:
    return ("--limit", HOST, "-e", json.dumps(variables))


def backup_of(part: Any) -> dict[str, Any]:
    """Return the variables that describe the backup of the service on this host otherwise."""
    return {"fleet_overrides": {HOST: {"kontinuum-node-admin": {"backup": part}}}}


def installed() -> str:
    """Return all that belongs to backups on the host, with digests and times."""
    look = f"find /etc/hearth/backup {UNITS}/hearth-backup-* {UNITS}/*.wants/hearth-backup-* -printf '%p %m %u %T@ %l\\n' | sort"
    return lab_hosts.shell(HOST, f"{look}; systemctl list-timers 'hearth-backup-*' --no-legend | wc -l")


@pytest.mark.parametrize("kinds", GROUPS.values(), ids=GROUPS.keys())
def test_tampering_is_observed_named_and_repaired(kinds: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    for script, _said in kinds.values():
        lab_hosts.shell(HOST, script)
    found = converged.plan_lines(tmp_path / "tampered", HOST)[HOST]
    assert not {kind: said for kind, (_script, said) in kinds.items() if not any(line.startswith(said) for line in found)}, "\n".join(found)
    converged.site("--limit", HOST)
    assert converged.plan_lines(tmp_path / "repaired", HOST) == {HOST: []}


def test_a_second_run_changes_nothing() -> None:
    assert converged.changes(converged.site("--limit", HOST)) == {HOST: 0}
    assert converged.changes(converged.site("--limit", HOST, "-e", "fleet_observe=false")) == {HOST: 0}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        pytest.param(
            {"backup_store": {"endpoint": STORE, "bucket": "nowhere"}},
            f"backup_store.bucket: the store {STORE} has no bucket 'nowhere'",
            id="bucket",
        ),
        pytest.param(
            {"backup_access_key_id": ADMIN["id"], "backup_secret_access_key": ADMIN["secret"]},
            "backup_access_key_id: these credentials can read, list and delete in bucket backups, and so can whoever steals the host",
            id="credentials-that-read",
        ),
        pytest.param(
            {"backup_secret_access_key": "not-the-secret-of-this-key-0000000000000001"},
            "backup_access_key_id: these credentials cannot write",
            id="wrong-secret",
        ),
        pytest.param(
            backup_of({"schedule": "*-*-* 25:00"}),
            "fleet_overrides.ops1.kontinuum-node-admin.backup.schedule: systemd does not take '*-*-* 25:00'",
            id="schedule",
        ),
        pytest.param(
            {"backup_store": {"endpoint": NOBODY, "bucket": "backups"}, "backup_unreachable": "fail"},
            f"backup_store.endpoint: ops1 cannot reach {NOBODY}",
            id="unreachable",
        ),
    ],
)
def test_bad_input_is_said_before_anything_is_installed(variables: dict[str, Any], said: str) -> None:
    before = installed()
    done = converged.site(*overridden(**variables), check=False)
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2
    assert said in output
    assert installed() == before
    assert not [secret for secret in (WRITER["secret"], ADMIN["secret"], "not-the-secret") if secret in output]


def test_all_that_is_wrong_is_said_at_once() -> None:
    variables = {**backup_of({"schedule": "*-*-* 25:00"}), "backup_store": {"endpoint": STORE, "bucket": "nowhere"}}
    output = converged.site(*overridden(**variables), check=False).stdout
    assert "systemd does not take" in output
    assert "has no bucket" in output


def test_readable_credentials_can_be_accepted() -> None:
    credentials = {"backup_access_key_id": ADMIN["id"], "backup_secret_access_key": ADMIN["secret"]}
    converged.site(*overridden(**credentials, backup_readable_credentials=True))
    assert ADMIN["id"] in lab_hosts.shell(HOST, "cat /etc/hearth/backup/rclone.conf")
    converged.site("--limit", HOST)
    assert WRITER["id"] in lab_hosts.shell(HOST, "cat /etc/hearth/backup/rclone.conf")


def test_another_schedule_holds_at_once() -> None:
    converged.site(*overridden(**backup_of({"schedule": "*-*-* 02:00"})))
    timer = lab_hosts.shell(HOST, f"systemctl show --property=TimersCalendar,ActiveState {TIMER}")
    assert "OnCalendar=*-*-* 02:00:00" in timer
    assert "ActiveState=active" in timer


def guides_commands() -> list[list[str]]:
    """Return the playbooks that the guide runs, for this host; keys are there, and rclone's server knows no rules of expiry."""
    found = re.findall(r"(?ms)^```sh\n(.*?)^```$", (lab_hosts.CHECKOUT / "docs/guides/backup.md").read_text())
    lines = [line.replace(" -i inventories/mine", "").split() for line in "".join(found).splitlines()]
    left_out = {"playbooks/keys.yml", "playbooks/backup_lifecycle.yml"}
    return [words[1:] for words in lines if words[0] == "ansible-playbook" and not left_out & set(words)]


def test_the_commands_of_the_guide() -> None:
    commands = guides_commands()
    assert len(commands) == 4
    said = [lab_hosts.ansible("ansible-playbook", *words, "--limit", HOST).stdout for words in commands]
    assert f"{JOB}: " in said[2]
    assert "kontinuum-node-admin" in said[3]


def test_what_is_not_backed_up_any_more_leaves_only_what_it_stored() -> None:
    lab_hosts.shell(HOST, f"systemctl start {SERVICE}")
    converged.site(*overridden(**backup_of(None)))
    assert lab_hosts.shell(HOST, f"ls /etc/hearth/backup; ls {UNITS} {UNITS}/*.wants | grep hearth-backup || true") == ""
    assert lab_hosts.shell(HOST, "systemctl list-units --all --no-legend 'hearth-backup-*'") == ""
    assert "state.json" in lab_hosts.shell(HOST, f"ls /var/lib/hearth/backup/{JOB}")
