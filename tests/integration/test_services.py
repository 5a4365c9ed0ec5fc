# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module services on the lab's systemd, of Debian 12 and 13: `pytest tests/integration/test_services.py`, after `make lab`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import lab_hosts
import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import config_formats, unit_text

HOSTS = ("relay1", "relay2")
PORT = 18734
READY = f"http://127.0.0.1:{PORT}/readyz"

# A daemon that is ready after some seconds, lingers when it is stopped, and crashes when it is told to.
DAEMON = """
import http.server, signal, sys, time
begin, ready_after, linger, crash_after = time.monotonic(), float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
print('daemon says hello', flush=True)
if 0 <= crash_after:
    time.sleep(crash_after)
    sys.exit('daemon says: the database is locked')
def stop(*_):
    time.sleep(linger)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = time.monotonic() - begin >= ready_after
        self.send_response(200 if ready or self.path == '/livez' else 503)
        self.end_headers()
        self.wfile.write(b'ok' if ready else b'replaying the log')
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True
Server(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
"""


class Host:
    """One host of the lab."""

    def __init__(self, name: str) -> None:
        self.name = name

    def shell(self, script: str) -> str:
        return lab_hosts.shell(self.name, script)

    def daemon(
        self,
        name: str,
        *,
        port: int = PORT,
        ready_after: float = 0,
        linger: float = 0,
        crash_after: float = -1,
        unit: str = "Restart=always\nRestartSec=1",
    ) -> None:
        """Install the daemon as a unit that is gone after the next boot."""
        service = f"[Service]\nType=exec\nExecStart=/usr/bin/python3 /run/hearth-test/daemon.py {port} {ready_after} {linger} {crash_after}\n{unit}\n"
        self.shell(
            "mkdir -p /run/hearth-test /run/systemd/system"
            f" && cat > /run/hearth-test/daemon.py <<'END'\n{DAEMON}\nEND\n"
            f"cat > /run/systemd/system/{name}.service <<'END'\n{service}\nEND\n"
            "systemctl daemon-reload"
        )

    def clean(self) -> None:
        self.shell(
            "systemctl stop 'hearth-test-*.service'; rm -rf /run/systemd/system/hearth-test-*.service /run/hearth-test;"
            " systemctl daemon-reload; systemctl reset-failed 'hearth-test-*.service' || true"
        )

    def services(self, *services: dict[str, Any], options: tuple[str, ...] = ()) -> dict[str, Any]:
        """Run the module, and return its result."""
        return lab_hosts.module(self.name, "hearth.fleet.services", {"services": services}, *options)


@pytest.fixture(scope="module", params=HOSTS)
def lab_host(request: pytest.FixtureRequest) -> Iterator[Host]:
    one = Host(request.param)
    yield one
    one.clean()


@pytest.fixture
def host(lab_host: Host) -> Host:
    """A host without any of this file's services."""
    lab_host.clean()
    return lab_host


def service(name: str, action: str = "start", **health: Any) -> dict[str, Any]:
    return {"service": name, "unit": f"{name}.service", "action": action, "health": {"ready": READY, "deadline": 20, "interval": 0.5, **health}}


def test_a_service_is_started_and_waited_for(host: Host) -> None:
    host.daemon("hearth-test-a", ready_after=1.5)
    result = host.services(service("hearth-test-a"))
    [one] = result["services"]
    assert result["changed"]
    assert one["ready"]
    assert 1.5 <= one["seconds"] < 10
    assert one["answer"] == "HTTP 200: ok"
    again = host.services(service("hearth-test-a"))
    assert not again["changed"]
    assert again["services"][0]["action"] == "none"


def test_f34_the_old_process_does_not_count_as_ready(host: Host) -> None:
    """While it is being stopped, the old process still answers well."""
    host.daemon("hearth-test-a", linger=2, ready_after=1)
    host.services(service("hearth-test-a"))
    [one] = host.services(service("hearth-test-a", "restart", interval=0.1))["services"]
    assert one["ready"]
    assert 3 <= one["seconds"] < 10


def test_services_take_as_long_as_the_slowest(host: Host) -> None:
    names = [f"hearth-test-{number}" for number in range(4)]
    for number, name in enumerate(names):
        host.daemon(name, port=PORT + number, ready_after=2)
    wanted = [service(name, ready=f"http://127.0.0.1:{PORT + number}/readyz") for number, name in enumerate(names)]
    assert [one["ready"] for one in host.services(*wanted)["services"]] == [True] * 4
    shown = host.shell(f"systemctl show --value --property=ExecMainStartTimestampMonotonic {' '.join(names)}")
    started = [int(microseconds) for microseconds in shown.split()]
    assert max(started) - min(started) < 6e6, "one after the other, the last is started 6 s after the first or later"


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param("Restart=always\nRestartSec=1", id="restarted"),
        pytest.param("Restart=always\nRestartSec=60", id="waiting-for-its-restart"),
        pytest.param("Restart=always\nRestartSec=0", id="start-limit"),
        pytest.param("Restart=no", id="failed"),
    ],
)
def test_f56_a_crash_loop_is_reported_before_the_deadline(host: Host, unit: str) -> None:
    host.daemon("hearth-test-a", crash_after=0.3, unit=unit)
    before = time.monotonic()
    result = host.services(service("hearth-test-a", deadline=60))
    assert time.monotonic() - before < 30
    assert result["failed"]
    assert re.search(r"hearth-test-a is not ready: it (crashed|failed)", result["msg"])
    assert "daemon says: the database is locked" in result["msg"]
    assert "Connection refused" in result["msg"]


def test_f56_a_start_limit_does_not_stand_in_the_way_of_the_repair(host: Host) -> None:
    for_an_hour = "\n[Unit]\nStartLimitIntervalSec=1h"  # by default for ten seconds, in which a busy machine does not crash often enough
    host.daemon("hearth-test-a", crash_after=0, unit=f"Restart=always\nRestartSec=0{for_an_hour}")
    assert host.services(service("hearth-test-a"))["failed"]
    # With Restart=always, systemd gives up at the limit alone; until then the unit is about to start again.
    lab_hosts.wait_until(lambda: host.shell("systemctl show --property=ActiveState --value hearth-test-a").strip() == "failed")
    host.daemon("hearth-test-a", unit=f"Restart=always\nRestartSec=1{for_an_hour}")
    result = host.services(service("hearth-test-a"))
    assert not result["failed"], result["output"]
    assert result["changed"]


def test_f56_a_repaired_service_that_waits_for_its_restart_is_started_at_once(host: Host) -> None:
    host.daemon("hearth-test-a", crash_after=0, unit="Restart=always\nRestartSec=15")
    host.shell("systemctl start hearth-test-a; sleep 1")
    assert "SubState=auto-restart" in host.shell("systemctl show hearth-test-a")
    host.daemon("hearth-test-a", unit="Restart=always\nRestartSec=15")
    result = host.services(service("hearth-test-a"))
    assert not result["failed"], result["output"]
    assert result["changed"]
    assert result["services"][0]["seconds"] < 10


def test_a_service_that_never_gets_ready_is_left_running_and_explained(host: Host) -> None:
    host.daemon("hearth-test-a", ready_after=3600)
    result = host.services(service("hearth-test-a", deadline=3, live=f"http://127.0.0.1:{PORT}/livez"))
    assert result["failed"]
    for said in (
        "hearth-test-a is not ready: it did not answer well within 3 s",
        "unit: hearth-test-a.service is active (running)",
        f"readiness: {READY}: HTTP 503: replaying the log",
        f"liveness: http://127.0.0.1:{PORT}/livez: HTTP 200",
        "daemon says hello",
        "journalctl -u hearth-test-a.service",
    ):
        assert said in result["msg"]
    assert host.shell("systemctl is-active hearth-test-a").strip() == "active"


def test_all_services_are_reported_when_one_fails(host: Host) -> None:
    host.daemon("hearth-test-a")
    result = host.services(service("hearth-test-a"), service("hearth-test-absent"))
    assert [one["ready"] for one in result["services"]] == [True, False]
    assert "hearth-test-absent is not ready: systemd knows no such unit" in result["msg"]
    assert "hearth-test-a is" not in result["msg"]


def test_without_a_probe_an_active_unit_is_ready(host: Host) -> None:
    host.daemon("hearth-test-a")
    [one] = host.services(service("hearth-test-a", ready=None))["services"]
    assert (one["ready"], one["answer"]) == (True, "the unit is active")


def test_a_command_asks_as_the_units_user(host: Host) -> None:
    host.daemon("hearth-test-a", unit="User=nobody")
    [one] = host.services(service("hearth-test-a", ready={"command": ["id", "-un"]}))["services"]
    assert one["answer"] == "exit status 0: nobody"


# What a command finds, written down by whoever runs it.
NOTE = r"""#!/bin/sh
umask > /run/hearth-test/$1
{
  env | grep -E '^(PLAIN|QUOTED|TABBED|PASSWORD|CREDENTIALS_DIRECTORY|USER|LOGNAME)=' | sort
  pwd
  id
  cat "$CREDENTIALS_DIRECTORY/cert"
} >> /run/hearth-test/$1
echo "$PASSWORD"
exit ${2:-0}
"""
AWKWARD = {"PLAIN": "100%", "QUOTED": 'say "hi" $HOME\\', "TABBED": "a\tb"}
PASSWORD = 'hunter2 "$`\\ ü'


@pytest.fixture
def noting(host: Host) -> Iterator[Host]:
    """A host with a unit where those of services are, with secrets; what runs before its daemon notes what it finds."""
    environment = "\n".join(f"Environment={unit_text.word(f'{name}={value}', name)}" for name, value in AWKWARD.items())
    host.daemon(
        "hearth-test-a",
        unit=f"ExecStartPre=/run/hearth-test/note pre\nUser=nobody\nGroup=nogroup\nSupplementaryGroups=adm\nUMask=0027\nWorkingDirectory=/usr\n"
        f"{environment}\nEnvironmentFile=/run/hearth-test/env\nLoadCredential=cert:/run/hearth-test/cert",
    )
    secrets = config_formats.encode("env", {"PASSWORD": PASSWORD}, "secrets")
    host.shell(
        f"cat > /run/hearth-test/note <<'END'\n{NOTE}\nEND\ncat > /run/hearth-test/env <<'END'\n{secrets}END\n"
        "echo secret-of-the-credential > /run/hearth-test/cert; chmod 0600 /run/hearth-test/env /run/hearth-test/cert\n"
        "chmod 0755 /run/hearth-test/note; chmod 1777 /run/hearth-test\n"
        "mv /run/systemd/system/hearth-test-a.service /etc/systemd/system/; systemctl daemon-reload"
    )
    yield host
    host.shell("systemctl stop hearth-test-a; rm /etc/systemd/system/hearth-test-a.service; systemctl daemon-reload")


def test_f60_a_command_finds_what_systemd_gives_the_unit_and_nobody_sees_the_secrets(noting: Host) -> None:
    asked = {"command": ["/run/hearth-test/note", "probe", "1"]}
    [one] = noting.services(service("hearth-test-a", ready=asked, live=asked, deadline=2))["services"]
    assert (one["answer"], one["alive"]) == ("exit status 1: ********", "exit status 1: ********")
    assert "hunter2" not in str({**one, "journal": ""})  # what the unit itself prints is its own affair
    by_systemd, by_us = (noting.shell(f"cat /run/hearth-test/{name}") for name in ("pre", "probe"))
    assert by_us == by_systemd
    assert f"PASSWORD={PASSWORD}" in by_us
    assert "secret-of-the-credential" in by_us


@pytest.mark.parametrize(
    ("command", "said", "at_most"),
    [
        pytest.param(
            ["/no/such/ctl", "ping"], "/no/such/ctl cannot be run: No such file or directory (fleet_services.a.health.ready.command)", 5, id="exec"
        ),
        pytest.param(["/bin/sh", "-c", "no-such-ctl ping"], "no-such-ctl", 12, id="within-a-script"),
    ],
)
def test_f56_a_program_that_is_not_there_is_said_before_the_deadline(host: Host, command: list[str], said: str, at_most: int) -> None:
    host.daemon("hearth-test-a")
    ready = {"command": command, "where": "fleet_services.a.health.ready.command"}
    [one] = host.services(service("hearth-test-a", ready=ready, deadline=60))["services"]
    assert one["problem"] == "it cannot be asked"
    assert said in one["answer"]
    assert "fleet_services.a.health.ready.command" in one["answer"]
    assert one["seconds"] < at_most


def test_a_reload_that_fails_leaves_the_service_running(host: Host) -> None:
    host.daemon("hearth-test-a", unit="ExecReload=/bin/false")
    host.services(service("hearth-test-a"))
    result = host.services(service("hearth-test-a", "reload"))
    assert result["failed"]
    assert "systemctl reload: Job for hearth-test-a.service failed" in result["msg"]
    assert host.shell("systemctl is-active hearth-test-a").strip() == "active"


def test_check_mode_only_says_what_it_would_do(host: Host) -> None:
    host.daemon("hearth-test-a")
    wanted = {**service("hearth-test-a"), "reasons": ["not running"]}
    result = host.services(wanted, service("hearth-test-absent"), options=("--check", "--diff"))
    assert result["changed"]
    assert "start hearth-test-a (hearth-test-a.service): not running\nstart hearth-test-absent (hearth-test-absent.service)\n" in result["output"]
    assert host.shell("systemctl is-active hearth-test-a || true").strip() == "inactive"
