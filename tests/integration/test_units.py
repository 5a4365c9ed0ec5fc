# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units on hosts of the lab, with systemd 252 and 257: `pytest tests/integration/test_units.py`, after `make lab`.

A small daemon really runs in the default sandbox, and tells from inside what it can do there.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_hosts import CHECKOUT, module, shell, wait_until

from ansible_collections.hearth.fleet.plugins.module_utils import inventory, service_spec, unit_file, unit_marks

MODULE_UTILS = CHECKOUT / "plugins" / "module_utils"
HOSTS = ("relay1", "relay2")  # Debian 12 with systemd 252, Debian 13 with systemd 257
MODULE = "hearth.fleet.units"
NAME = "unit-check-daemon"
OTHER = "unit-check-other"
UNIT = f"{NAME}.service"
CONFIG = f"/etc/{NAME}/config.json"
RELOADABLE = f"/etc/{NAME}/peers.json"
PORT = 18471
LIBRARY = "/srv/unit-check"

DAEMON = r'''#!/usr/bin/python3
"""Answers GET with what it can do in its sandbox."""
import ctypes, http.server, json, mmap, os, resource, signal, socket, sys

def attempt(do):
    try:
        do()
    except (OSError, ValueError) as error:
        return "refused: " + (os.strerror(error.errno) if getattr(error, "errno", None) else str(error))
    return "done"

def write(path):
    with open(path, "w") as file:
        file.write("x")

def unshare():
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")

def report():
    return {
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "arguments": sys.argv[1:],
        "environment": {key: value for key, value in os.environ.items() if key.startswith("TEST_")},
        "credential": open(os.environ["CREDENTIALS_DIRECTORY"] + "/token").read(),
        "config": open("/etc/unit-check-daemon/config.json").read(),
        "reloads": reloads,
        "own data": attempt(lambda: write("/var/lib/unit-check-daemon/file")),
        "runtime directory": attempt(lambda: write("/run/unit-check-daemon/file")),
        "read-only directory": attempt(lambda: write("/var/lib/unit-check-daemon/keys/file")),
        "/etc": attempt(lambda: write("/etc/hearth-test-file")),
        "/home": attempt(lambda: os.listdir("/home")),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()) == [os.getpid()],
        "kernel settings": os.path.exists("/proc/sys"),
        "open files": attempt(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))),
        "affinity": attempt(lambda: os.sched_setaffinity(0, {0})),
        "chown": attempt(lambda: os.chown("/var/lib/unit-check-daemon", -1, os.getgid())),
        "namespace": attempt(unshare),
        "packet socket": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "write and execute": attempt(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
        "low port": attempt(lambda: socket.socket().bind(("127.0.0.1", 81))),
    }

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(report()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *ignored):
        pass

def reload(*ignored):
    global reloads
    reloads += 1

reloads = 0
signal.signal(signal.SIGHUP, reload)
if "--crash" in open("/etc/unit-check-daemon/config.json").read():
    sys.exit(3)
server = http.server.HTTPServer(("127.0.0.1", 18471), Handler)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever()
'''

PREPARE = f"""
set -e
useradd --system --no-create-home --home-dir /var/lib/{NAME} --shell /usr/sbin/nologin {NAME}
mkdir -p {LIBRARY}
tar -C {LIBRARY} -xf -
"""

CLEAN_UP = f"""
units="{UNIT} {OTHER}.service unit-check-alarm.service"
systemctl stop $units 2>/dev/null; systemctl --quiet disable $units 2>/dev/null; systemctl reset-failed $units 2>/dev/null
for unit in $units; do rm -rf /etc/systemd/system/$unit /etc/systemd/system/$unit.d /run/systemd/system/$unit; done
systemctl daemon-reload
rm -rf /etc/{NAME} /var/lib/{NAME} /run/{NAME} /opt/{NAME} /run/hearth/{NAME}.started /run/hearth/{OTHER}.started
"""

INSTALL = f"""
set -e
install -d -m 0750 -o {NAME} -g {NAME} /var/lib/{NAME} /var/lib/{NAME}/keys
install -d -m 0750 -g {NAME} /etc/{NAME} /etc/{NAME}/credentials
install -d /opt/{NAME}/releases/1.0.0 /opt/{NAME}/releases/1.0.1 /usr/local/lib/hearth
ln -s releases/1.0.0 /opt/{NAME}/current
echo '{{}}' >{CONFIG}; echo '[]' >{RELOADABLE}
chgrp {NAME} {CONFIG} {RELOADABLE}; chmod 0640 {CONFIG} {RELOADABLE}
(umask 077; printf secret >/etc/{NAME}/credentials/token)
install -m 0755 {LIBRARY}/daemon /usr/local/bin/{NAME}
install -m 0755 {LIBRARY}/stamp {unit_marks.STAMP_PATH}
"""

START = f"cat >/etc/systemd/system/{UNIT} && systemctl daemon-reload && systemctl --quiet enable --now {UNIT}"

LOOK = """
import json, sys
sys.path.insert(0, "LIBRARY")
from ansible_collections.hearth.fleet.plugins.module_utils import units
wanted, reloadable = json.loads('''WANTED'''), {"NAME": ["RELOADABLE"]}
seen = units.look(wanted)
print(json.dumps({
    "diff": [one.as_dict() for one in units.diff(wanted, seen)],
    "pending": [one.as_dict() for one in units.pending(wanted, seen, reloadable)],
    "state": next(iter(seen["units"].values()), {}),
}))
"""


def spec(**more: Any) -> dict[str, Any]:
    """Return the finished spec of the test daemon."""
    described = {
        "version": "1.0.0",
        "artifact": {"url": "https://example.org/daemon", "sha256": "0" * 64},
        "command": [NAME, "--text", "a b $NOBODY 100% \"x\" \\ ';'", ""],
        "environment": {"TEST_TEXT": 'x "y" $NOBODY 50% \\ z'},
        "directories": [{"path": f"/var/lib/{NAME}/keys", "writable": False}, {"path": f"/run/{NAME}"}],
        "config": [{"path": CONFIG, "content": {}, "reloadable": False}, {"path": RELOADABLE, "content": []}],
        "secrets": {"token": {"value": "secret", "as": "credential"}},
        "reload": {"signal": "SIGHUP"},
        "unit": {"type": "notify", "restart_delay": 0, "start_limit": {"burst": 3, "interval": 60}},
        "ports": [{"name": "http", "port": PORT}],
        **more,
    }
    mistakes: list[Any] = []
    host = inventory.Host(name="lab", groups=[], addresses=[], placement={"lab": [NAME]}, overrides={}, tiers={})
    host.catalogue = {NAME: described}
    finished = service_spec.finish_service(NAME, host, "", inventory.Fleet({"lab": host}, {}), mistakes)
    assert finished is not None, mistakes
    return finished


def unit(content: str = "", exposure_max: float = 1.5, **more: Any) -> dict[str, Any]:
    """Return the wanted unit of the test daemon, with ``more`` in its description."""
    credentials = [{"name": "token", "path": f"/etc/{NAME}/credentials/token"}]
    stamp = [CONFIG, RELOADABLE, credentials[0]["path"]]
    text = content or unit_file.render({**spec(**more), "credentials": credentials, "environment_files": [], "stamp": stamp})
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"service": NAME, "name": UNIT, "content": text, "sha256": digest, "exposure_max": exposure_max, "enabled": True, "stamp": stamp}


def library() -> bytes:
    """Return a tar of what the host needs to look at itself, and of the daemon."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in MODULE_UTILS.glob("*.py"):
            archive.add(path, f"ansible_collections/hearth/fleet/plugins/module_utils/{path.name}")
        for name, text in (("daemon", DAEMON), ("stamp", unit_marks.STAMP_SCRIPT)):
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def look(host: str, *wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what the host itself sees: ``diff``, ``pending`` and the ``state`` of the first unit."""
    bare = json.dumps([{key: value for key, value in one.items() if key != "content"} for one in wanted])
    script = LOOK.replace("LIBRARY", LIBRARY).replace("WANTED", bare).replace("RELOADABLE", RELOADABLE).replace("NAME", NAME)
    seen: dict[str, Any] = json.loads(shell(host, "python3 -", script.encode()))
    return seen


def reasons(differences: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(one["action"], one["reason"]) for one in differences]


def asked(host: str) -> dict[str, Any]:
    """Return what the daemon says about its life in the sandbox."""
    answer: dict[str, Any] = json.loads(shell(host, f"curl --silent --fail --retry 5 --retry-connrefused http://127.0.0.1:{PORT}/"))
    return answer


@pytest.fixture(scope="module", params=HOSTS)
def prepared(request: pytest.FixtureRequest) -> Iterator[str]:
    """A host with the daemon's user, and with what it needs to look at itself."""
    name: str = request.param
    remove = f"{CLEAN_UP} rm -rf {LIBRARY} /usr/local/bin/{NAME}; userdel {NAME} 2>/dev/null || true"
    shell(name, remove)
    shell(name, PREPARE, library())
    yield name
    shell(name, remove)


@pytest.fixture
def host(prepared: str) -> str:
    """A host with the daemon and its files, and no unit yet."""
    shell(prepared, CLEAN_UP + INSTALL)
    return prepared


@pytest.fixture
def running(host: str) -> str:
    """A host on which the unit is installed, as the module installs it, and runs."""
    shell(host, START, unit()["content"].encode())
    return host


def install(host: str, *wanted: dict[str, Any], check: bool = False, **more: Any) -> dict[str, Any]:
    return module(host, MODULE, {"units": wanted, "remove_stale": False, **more}, *(["--check", "--diff"] if check else []))


def test_f55_the_daemon_runs_in_the_default_sandbox_and_can_do_no_more_than_it_should(host: str) -> None:
    assert install(host, unit())["exposures"] == {UNIT: 1.1}
    shell(host, f"systemctl start {UNIT}")
    said = asked(host)
    refused = "refused: Operation not permitted"
    assert said.pop("uid") == int(shell(host, f"id -u {NAME}"))
    assert said.pop("write and execute").startswith("refused: ")  # systemd 257 leaves it to the kernel, which answers otherwise
    assert said.pop("groups") in ([], [int(shell(host, f"id -g {NAME}"))])
    assert said == {
        "arguments": ["--text", "a b $NOBODY 100% \"x\" \\ ';'", ""],
        "environment": {"TEST_TEXT": 'x "y" $NOBODY 50% \\ z'},
        "credential": "secret",
        "config": "{}\n",
        "reloads": 0,
        "own data": "done",
        "runtime directory": "done",
        "read-only directory": "refused: Read-only file system",
        "/etc": "refused: Read-only file system",
        "/home": "refused: Permission denied",
        "processes": True,
        "kernel settings": False,
        "open files": "done",
        "affinity": refused,
        "chown": refused,
        "namespace": refused,
        "packet socket": "refused: Address family not supported by protocol",
        "low port": "refused: Permission denied",
    }


def test_a_relaxation_that_is_named_switches_off_just_that(host: str) -> None:
    relaxed = unit(sandbox={"write_execute": True, "syscalls": ["@resources"], "capabilities": ["CAP_NET_BIND_SERVICE"]})
    assert not install(host, relaxed)["failed"]
    shell(host, f"systemctl start {UNIT}")
    said = asked(host)
    assert [said[name] for name in ("write and execute", "affinity", "low port")] == ["done", "done", "done"]
    assert said["chown"] == said["namespace"] == "refused: Operation not permitted"


def test_a_second_run_changes_nothing_and_starts_nothing(host: str) -> None:
    assert install(host, unit())["changed"]
    assert not install(host, unit())["changed"]
    assert shell(host, f"systemctl is-enabled {UNIT}; systemctl is-active {UNIT} || true") == "enabled\ninactive\n"


def test_check_mode_on_a_bare_host_shows_the_unit_and_installs_nothing(host: str) -> None:
    shell(host, f"rm /usr/local/bin/{NAME} {unit_marks.STAMP_PATH}")
    planned = install(host, unit(), check=True)
    assert planned["changed"]
    assert "+ExecStart=/usr/local/bin/unit-check-daemon" in planned["output"]
    assert shell(host, f"test -e /etc/systemd/system/{UNIT} || echo nothing") == "nothing\n"
    shell(host, f"install -m 0755 {LIBRARY}/stamp {unit_marks.STAMP_PATH}")


def test_f53_a_misspelt_directive_keeps_the_old_unit(running: str) -> None:
    before = shell(running, f"sha256sum /etc/systemd/system/{UNIT}; systemctl show -P MainPID {UNIT}")
    failed = install(running, unit(unit()["content"].replace("ProtectHome=", "ProtectHomee=")))
    assert failed["failed"]
    assert "Unknown key" in failed["msg"]
    assert "ProtectHomee" in failed["msg"]
    assert "old unit files were kept" in failed["msg"]
    assert shell(running, f"sha256sum /etc/systemd/system/{UNIT}; systemctl show -P MainPID {UNIT}") == before


def test_f53_only_complaints_about_these_units_count(host: str) -> None:
    shell(host, f"printf '[Service]\\nExecStart=/bin/true\\nBogus=1\\n' >/etc/systemd/system/{OTHER}.service")
    assert not install(host, unit(unit={"type": "notify", "after": [f"{OTHER}.service"], "wants": [f"{OTHER}.service"]}))["failed"]


def test_f54_a_missing_program_is_found_before_the_unit_is_replaced(running: str) -> None:
    before = shell(running, f"sha256sum /etc/systemd/system/{UNIT}")
    failed = install(running, unit(unit()["content"].replace(f"ExecStart=/usr/local/bin/{NAME}", "ExecStart=/usr/local/bin/nowhere")))
    assert failed["failed"]
    assert "/usr/local/bin/nowhere is not executable" in failed["msg"]
    assert shell(running, f"sha256sum /etc/systemd/system/{UNIT}") == before


def test_f55_an_exposed_unit_is_refused_with_what_exposes_it(running: str) -> None:
    before = shell(running, f"sha256sum /etc/systemd/system/{UNIT}")
    failed = install(running, unit(f"# Managed by hearth.fleet: service {NAME}\n[Service]\nUser={NAME}\nExecStart=/bin/true\n"))
    assert failed["failed"]
    assert "over the 1.5 that is allowed" in failed["msg"]
    assert "most of it: " in failed["msg"]
    assert f"fleet_services.{NAME}.sandbox.exposure_max: " in failed["msg"]
    assert shell(running, f"sha256sum /etc/systemd/system/{UNIT}") == before


def test_f55_drop_ins_count_towards_the_exposure(host: str) -> None:
    shell(
        host,
        f"cd /etc/systemd/system; mkdir {UNIT}.d; printf '[Service]\\nProtectSystem=no\\nNoNewPrivileges=no\\nPrivateTmp=no\\n' >{UNIT}.d/x.conf",
    )
    assert "its exposure is" in install(host, unit(exposure_max=1.2))["msg"]


def test_f56_a_crash_loop_ends_starts_the_alarm_and_is_seen(host: str) -> None:
    shell(
        host,
        f"echo '\"--crash\"' >{CONFIG}; cd /etc/systemd/system;"
        f" printf '[Service]\\nType=oneshot\\nExecStart=/usr/bin/touch /run/{NAME}-alarm\\n' >unit-check-alarm.service",
    )
    looping = unit(
        unit={"type": "notify", "restart_delay": 0, "start_limit": {"burst": 3, "interval": 60}, "on_failure": ["unit-check-alarm.service"]}
    )
    assert not install(host, looping)["failed"]
    shell(host, f"systemctl start {UNIT} || true")
    wait_until(lambda: "failed" in shell(host, f"systemctl is-failed {UNIT} || true"))
    wait_until(lambda: shell(host, f"test ! -e /run/{NAME}-alarm || echo alarm") == "alarm\n")
    shell(host, f"rm /run/{NAME}-alarm")
    seen = look(host, looping)
    assert reasons(seen["pending"]) == [("start", "not running (failed: exit-code)")]
    assert seen["state"]["restarts"] >= 2


@pytest.mark.parametrize(
    ("drift", "found"),
    [
        pytest.param("systemctl disable --quiet {unit}", [("enable", "does not start at boot (disabled)")], id="disabled"),
        pytest.param("rm {file}; ln -s /dev/null {file}; systemctl daemon-reload", [("unmask", "is masked")], id="masked"),
        pytest.param(
            "echo '# mine' >>{file}",
            [("change", "content differs"), ("daemon-reload", "systemd has not read its files since they changed")],
            id="edited",
        ),
        pytest.param("chmod 0666 {file}", [("change", "mode 0666, not 0644")], id="mode"),
        pytest.param("chown nobody {file}", [("change", "owner nobody, not root")], id="owner"),
        pytest.param("rm {file}", [("create", "does not exist")], id="deleted"),
        pytest.param("touch -d tomorrow {file}", [("daemon-reload", "systemd has not read its files since they changed")], id="not-reloaded"),
    ],
)
def test_drift_is_named_and_repaired(running: str, drift: str, found: list[tuple[str, str]]) -> None:
    shell(running, drift.format(unit=UNIT, file=f"/etc/systemd/system/{UNIT}"))
    assert reasons(look(running, unit())["diff"]) == found
    assert reasons(install(running, unit())["differences"]) == found
    assert look(running, unit())["diff"] == []
    assert shell(running, f"systemctl is-enabled {UNIT}; systemctl is-active {UNIT}") == "enabled\nactive\n"


def test_a_runtime_mask_changes_nothing_since_the_unit_in_etc_wins(running: str) -> None:
    shell(running, f"systemctl mask --runtime --quiet {UNIT}")
    install(running, unit())
    assert look(running, unit())["diff"] == []
    shell(running, f"systemctl restart {UNIT}")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param("true", [], id="nothing"),
        pytest.param("systemctl stop {unit}", [("start", "not running (inactive)")], id="stopped"),
        pytest.param(
            "systemctl reset-failed {unit}; systemctl kill --signal=KILL {unit}"
            "; until systemctl show --property=NRestarts {unit} | grep -qx NRestarts=1 && systemctl is-active --quiet {unit}; do :; done",
            [],
            id="restarted-by-systemd",
        ),
        pytest.param("echo '{{\"a\": 1}}' >{config}", [("restart", "config {config} changed since the service started")], id="config"),
        pytest.param("rm {config}", [("restart", "config {config} is gone since the service started")], id="config-gone"),
        pytest.param("echo '[1]' >{reloadable}", [("reload", "config {reloadable} changed since the service started")], id="reloadable"),
        pytest.param("ln -sfn releases/1.0.1 /opt/{name}/current", [("restart", "release 1.0.0 runs, current is 1.0.1")], id="release"),
        pytest.param("rm /run/hearth/{name}.started", [("restart", "not started by this collection's unit")], id="no-stamp"),
        pytest.param(
            "mkdir {file}.d; printf '[Service]\\nNice=1\\n' >{file}.d/nice.conf; systemctl daemon-reload",
            [("restart", "drop-in {file}.d/nice.conf is new since the service started")],
            id="drop-in",
        ),
    ],
)
def test_what_a_running_service_waits_for(running: str, change: str, found: list[tuple[str, str]]) -> None:
    names = {"unit": UNIT, "name": NAME, "file": f"/etc/systemd/system/{UNIT}", "config": CONFIG, "reloadable": RELOADABLE}
    shell(running, change.format(**names))
    seen = look(running, unit())
    assert reasons(seen["pending"]) == [(action, reason.format(**names)) for action, reason in found]
    assert seen["diff"] == []


def test_a_restart_settles_what_was_pending_and_the_drop_in_stays(running: str) -> None:
    drop_in = f"/etc/systemd/system/{UNIT}.d/nice.conf"
    shell(
        running, f"mkdir {drop_in.rpartition('/')[0]}; printf '[Service]\\nNice=1\\n' >{drop_in}; systemctl daemon-reload; systemctl restart {UNIT}"
    )
    assert look(running, unit())["pending"] == []
    assert not install(running, unit())["changed"]
    assert shell(running, f"systemctl show -P Nice {UNIT}") == "1\n"


def test_a_reload_settles_only_what_was_read_again(running: str) -> None:
    shell(running, f"echo '[1]' >{RELOADABLE}; echo '{{\"a\": 1}}' >{CONFIG}; ln -sfn releases/1.0.1 /opt/{NAME}/current; systemctl reload {UNIT}")
    assert reasons(look(running, unit())["pending"]) == [
        ("restart", "release 1.0.0 runs, current is 1.0.1"),
        ("restart", f"config {CONFIG} changed since the service started"),
    ]
    assert asked(running)["reloads"] == 1


def test_a_stale_unit_is_stopped_and_removed_and_its_data_stays(running: str) -> None:
    others = shell(running, f"grep -lsx '{unit_marks.HEADER}.*' /etc/systemd/system/*.service || true").split()
    held = [Path(path).stem for path in others if Path(path).name != UNIT]  # the host may have services that are none of this test's business
    assert module(running, MODULE, {"units": [], "held": held}, "--check")["removed"] == [UNIT]
    assert shell(running, f"systemctl is-active {UNIT}") == "active\n"
    assert module(running, MODULE, {"units": [], "held": held})["removed"] == [UNIT]
    assert shell(running, f"systemctl is-active {UNIT} || true; ls /etc/systemd/system/{UNIT} 2>&1 || true").startswith("inactive\nls: cannot access")
    assert (
        shell(running, f"ls {CONFIG}; ls -d /var/lib/{NAME}/keys; ls /run/hearth/{NAME}.started 2>/dev/null || true")
        == f"{CONFIG}\n/var/lib/{NAME}/keys\n"
    )
    assert shell(running, f"systemctl list-units --all --no-legend --plain {UNIT}") == ""
    assert not module(running, MODULE, {"units": [], "held": held})["changed"]


def test_a_stale_unit_that_failed_is_listed_nowhere_any_more(running: str) -> None:
    fails = f"/etc/systemd/system/{UNIT}.d/fails.conf"
    shell(running, f"mkdir {fails.rpartition('/')[0]}; printf '[Service]\\nRestart=no\\nExecStart=\\nExecStart=/bin/false\\n' >{fails}")
    shell(running, f"systemctl daemon-reload; systemctl restart {UNIT} || true")  # that it fails is what is wanted
    shell(running, f"timeout 10 sh -c 'until systemctl is-failed {UNIT}; do sleep 0.1; done'")
    held = [Path(path).stem for path in shell(running, "ls /etc/systemd/system/*.service").split() if Path(path).name != UNIT]
    assert module(running, MODULE, {"units": [], "held": held})["removed"] == [UNIT]
    assert shell(running, f"systemctl list-units --all --no-legend --plain {UNIT}") == ""


def test_a_unit_whose_service_is_held_is_neither_changed_nor_stale(running: str) -> None:
    changed = unit(environment={"TEST_TEXT": "new"})
    assert not module(running, MODULE, {"units": [changed], "held": [NAME]})["changed"]
    assert shell(running, f"systemctl is-active {UNIT}") == "active\n"
