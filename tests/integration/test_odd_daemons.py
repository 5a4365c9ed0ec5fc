# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only some daemons need, on systemd of Debian 12 and 13: `pytest tests/integration/test_odd_daemons.py`, after `make lab`.

A release that is no program by itself, directories below /run that no unit makes, locked memory, awkward words, and stops that spare
children. One small daemon does all of it, as several services of one host.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import converged
import lab_hosts
import pytest

OLD, NEW = "1.0.0", "1.0.1"
PORT = 18520
NAME = "daemon.pyz"
FRAGMENT = "/etc/tmpfiles.d/hearth.conf"
STOP_SIGNAL = 34 + 4  # SIGRTMIN+4
LOCKED_BYTES = 8_000_000  # what containers may lock that may not raise limits
MORE_BYTES = 16 << 20  # beyond the 8 MiB of systemd's own default

DAEMON = r"""
import ctypes, http.server, mmap, os, signal, sys, time
VERSION = "@VERSION@"
if sys.argv[1] == "--version":
    sys.exit(print("odd daemon", VERSION))
role = "main"
def stop(number, _frame):
    with open("notes", "a") as file:
        file.write("%s got %d\n" % (role, number))
    time.sleep(0.3 if role == "main" else 0)
    os._exit(0)
def lock(size):
    memory = mmap.mmap(-1, size)
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    failed = libc.mlock(address, ctypes.c_size_t(size))
    return os.strerror(ctypes.get_errno()) if failed else "locked"
def group():
    with open("/proc/self/cgroup") as file:
        own = next(line[3:].strip() for line in file if line.startswith("0::"))
    home = next(root + own for root in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.isdir(root + own))
    try:
        os.mkdir(home + "/one-of-mine")
    except OSError as error:
        return os.strerror(error.errno)
    os.rmdir(home + "/one-of-mine")
    return "made"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        what, _slash, argument = self.path[1:].partition("/")
        said = {"version": lambda: VERSION, "child": lambda: str(child), "lock": lambda: lock(int(argument)), "group": group}[what]()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(said.encode())
    def log_message(self, *_):
        pass
open("notes", "w").close()
for directory in filter(None, os.environ.get("TOUCHED", "").split(":")):
    open(directory + "/touched", "w").close()
for number in (signal.SIGTERM, signal.SIGRTMIN + 4):
    signal.signal(number, stop)
child = os.fork()
if not child:
    role = "child"
    while True:
        signal.pause()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# What systemd, a shell or Python's own reading of lines could make something of.
WORDS = {
    "LINES": "one\ntwo\n\n  three\n",
    "UNIT": "\nUser=root\n[Install]\nWantedBy=x",
    "QUOTES": "say \"hi\", it's 'fine' `id`",
    "PERCENT": "100% %n %h %% %",
    "DOLLARS": "$HOME ${HOME} $$ $5 $(id) $",
    "BACKSLASHES": "\\ \\n \\x41 C:\\dir\\",
    "UNICODE": "h\u00e9\u00fc \u2028 \x85 \xa0 \U0001f525",
    "SPACES": "  two  words\t",
    "COMMENT": "#no comment; ;",
    "NOTHING": "",
}

RUN_DIRECTORIES = {
    "/run/odd-release": {"group": "www-data", "mode": "2750"},
    "/run/odd-release/keys": {"mode": "0700"},
    "/run/odd-shared": {"owner": "root", "group": "adm", "mode": "0775"},
    "/run/odd-shared/spool": {"owner": "nobody", "group": "adm", "mode": "1770"},
}
OUTER, INNER = "/run/odd-group", "/run/odd-group/of-process"
AS_MEANT = (
    "2750 odd-release www-data\n700 odd-release odd-release\n775 root adm\n1770 nobody adm\n755 odd-group odd-group\n750 odd-process odd-process\n"
)

FULL_LIMITS = {
    "memory_max": "50%",
    "memory_high": "40%",
    "memory_swap_max": 0,
    "memlock": "infinity",
    "nofile": "infinity",
    "nproc": "infinity",
    "tasks_max": "10%",
    "cpu_quota": "150%",
    "cpu_weight": 50,
    "cpu_affinity": [0],
    "io_weight": 50,
    "core": "infinity",
    "rtprio": 10,
    "oom_score_adjust": 100,
    "nice": 5,
}
FULL_SHOWN = {
    "MemorySwapMax": "0",
    "LimitMEMLOCK": "infinity",
    "LimitNOFILE": "infinity",
    "LimitRTPRIO": "10",
    "CPUAffinity": "0",
    "Nice": "5",
    "OOMScoreAdjust": "100",
    "Delegate": "yes",
    "KillSignal": str(STOP_SIGNAL),
}

SERVICES: dict[str, dict[str, Any]] = {
    "odd-release": {
        "directories": [{"path": path, **more} for path, more in RUN_DIRECTORIES.items()],
        "environment": {"TOUCHED": ":".join(RUN_DIRECTORIES)},
        "unit": {"supplementary_groups": ["adm"]},
    },
    "odd-group": {"unit": {"kill_signal": "SIGRTMIN+4"}, "directories": [{"path": OUTER, "mode": "0755"}]},
    "odd-mixed": {"unit": {"kill_signal": "SIGRTMIN+4", "kill_mode": "mixed"}, "resources": {"memlock": "64K"}},
    "odd-process": {
        "unit": {"kill_signal": "SIGRTMIN+4", "kill_mode": "process"},
        "resources": {"memlock": "infinity"},
        "directories": [{"path": INNER}],
        "environment": {"TOUCHED": INNER},
    },
    "odd-full": {
        "environment": WORDS,
        "unit": {"kill_signal": "SIGRTMIN+4", "delegate": True},
        "resources": FULL_LIMITS,
        "sandbox": {"realtime": True, "syscalls": ["sched_setscheduler"]},
    },
}
PORTS = {name: PORT + number for number, name in enumerate(SERVICES)}

CLEAN_UP = f"""
systemctl stop {" ".join(SERVICES)} 2>/dev/null
pkill -KILL -u {",".join(SERVICES)} 2>/dev/null
for name in {" ".join(SERVICES)}; do
  rm -rf /etc/systemd/system/$name.service /etc/systemd/system/*.wants/$name.service /opt/$name /var/lib/$name /etc/$name
  rm -rf /var/lib/hearth/rollout/$name
  id -u $name >/dev/null 2>&1 && userdel $name
done
rm -rf /run/odd-* {FRAGMENT}
systemctl daemon-reload
systemctl reset-failed 'odd-*' 2>/dev/null
true
"""


def pyz(version: str) -> bytes:
    """Return the daemon as one file that Python runs, and nothing else does."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__main__.py", DAEMON.replace("@VERSION@", version))
    return packed.getvalue()


class Host:
    """One host of the lab, and the services described for it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        releases = {version: pyz(version) for version in (OLD, NEW)}
        self.digests = {version: hashlib.sha256(content).hexdigest() for version, content in releases.items()}
        for version, content in releases.items():
            (directory / f"daemon-{version}.pyz").write_bytes(content)

    def shell(self, script: str) -> str:
        return lab_hosts.shell(self.name, script)

    def asked(self, service: str, path: str) -> str:
        """Return what a daemon answers, once it serves."""
        return self.shell(f"curl -fsS --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:{PORTS[service]}/{path}")

    def shown(self, service: str, *properties: str) -> dict[str, str]:
        """Return properties of a service's unit."""
        lines = self.shell(f"systemctl show {service} {' '.join(f'--property={name}' for name in properties)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def described(self, service: str, version: str) -> dict[str, Any]:
        home = f"/opt/{service}/current/{NAME}"
        described = {
            "version": version,
            "artifact": {"file": f"{self.directory}/daemon-{{version}}.pyz", "sha256": self.digests[version], "name": NAME},
            "command": ["/usr/bin/python3", home, PORTS[service], *(WORDS.values() if service == "odd-full" else [])],
            "version_command": ["/usr/bin/python3", "{binary}", "--version"],
            "health": {"ready": f"http://127.0.0.1:{PORTS[service]}/version", "version": f"http://127.0.0.1:{PORTS[service]}/version", "passes": 1},
            "rollout": {"soak": "1s"},
        }
        return {**described, **SERVICES[service]}

    def play(
        self, playbook: str, *flags: str, version: str = OLD, placed: tuple[str, ...] = tuple(SERVICES), **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook on this host, whose odd-release has a version, and which must come to a good end."""
        values = {
            "fleet_hosts": self.name,
            "fleet_services": {name: self.described(name, version if name == "odd-release" else OLD) for name in SERVICES},
            "fleet_placement": {self.name: placed},
            "fleet_overrides": {},
            "firewall_managed": False,
            "rollout_report": str(self.directory / "report.html"),
            "rollout_reports": str(self.directory),
            **variables,
        }
        return lab_hosts.ansible("ansible-playbook", playbook, "-e", json.dumps(values), *flags)

    def changes(self, **options: Any) -> int:
        """Converge, and return how many tasks changed something."""
        return converged.changes(self.play("site.yml", **options))[self.name]

    def raises_limits(self) -> bool:
        """Return whether systemd may raise limits there, which takes CAP_SYS_RESOURCE."""
        return bool(int(self.shell("awk '/^CapEff/ {print $2}' /proc/1/status"), 16) >> 24 & 1)

    def release(self) -> tuple[str, str]:
        """Return which release is current, and which one the daemon says that it is."""
        return self.shell("basename $(readlink /opt/odd-release/current)").strip(), self.asked("odd-release", "version")


@pytest.fixture(scope="module", params=["relay1", "relay2"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    one = Host(request.param, tmp_path_factory.mktemp("odd"))
    one.shell(CLEAN_UP)
    assert one.changes()
    yield one
    one.shell(CLEAN_UP)


def test_units_pass_verification_and_their_exposure_limit_and_a_second_run_changes_nothing(host: Host) -> None:
    assert host.changes() == 0


def test_the_daemon_finds_its_environment_and_arguments_byte_for_byte(host: Host) -> None:
    process = host.shown("odd-full", "MainPID")["MainPID"]
    # What a process was given has the bytes of its whole text, so a hexadecimal dump brings them here as they are.
    environment, arguments = (
        bytes.fromhex(host.shell(f"od -An -v -tx1 /proc/{process}/{what}")).split(b"\0")[:-1] for what in ("environ", "cmdline")
    )
    found = dict(entry.split(b"=", 1) for entry in environment)
    assert {name: found.get(name.encode()) for name in WORDS} == {name: value.encode() for name, value in WORDS.items()}
    assert arguments[3:] == [value.encode() for value in WORDS.values()]


@pytest.mark.parametrize(
    ("service", "size", "said"),
    [
        pytest.param("odd-process", LOCKED_BYTES, "locked", id="infinity"),
        pytest.param("odd-process", MORE_BYTES, "locked", id="infinity-beyond-systemds-own"),
        pytest.param("odd-mixed", LOCKED_BYTES, "Cannot allocate memory", id="64K"),
        pytest.param("odd-group", MORE_BYTES, "Cannot allocate memory", id="unsaid"),
    ],
)
def test_an_unprivileged_daemon_locks_as_much_memory_as_memlock_says(host: Host, service: str, size: int, said: str) -> None:
    if (size, said) == (MORE_BYTES, "locked") and not host.raises_limits():
        pytest.skip("containers of this machine may not raise limits")
    assert host.asked(service, f"lock/{size}") == said


@pytest.mark.parametrize(
    ("service", "said"), [pytest.param("odd-full", "made", id="delegated"), pytest.param("odd-group", "Read-only file system", id="not-delegated")]
)
def test_a_daemon_makes_control_groups_below_its_units_where_they_are_delegated(host: Host, service: str, said: str) -> None:
    assert host.asked(service, "group") == said


def test_every_limit_reaches_systemd(host: Host) -> None:
    assert host.shown("odd-full", *FULL_SHOWN) == FULL_SHOWN
    memory, tasks = (int(value) for value in host.shown("odd-full", "MemoryMax", "TasksMax").values())
    assert 0.4 < memory / (int(host.shell("awk '/^MemTotal/ {print $2}' /proc/meminfo")) << 10) < 0.51
    assert tasks > 1
    process = host.shown("odd-full", "MainPID")["MainPID"]
    assert "Cpus_allowed_list:\t0\n" in host.shell(f"cat /proc/{process}/status")


@pytest.mark.parametrize(
    ("service", "notes", "lives_on"),
    [
        pytest.param("odd-group", {f"main got {STOP_SIGNAL}", f"child got {STOP_SIGNAL}"}, False, id="control-group"),
        pytest.param("odd-mixed", {f"main got {STOP_SIGNAL}"}, False, id="mixed"),
        pytest.param("odd-process", {f"main got {STOP_SIGNAL}"}, True, id="process"),
    ],
)
def test_a_stop_sends_its_signal_to_whom_the_kill_mode_says(host: Host, service: str, notes: set[str], lives_on: bool) -> None:
    child = host.asked(service, "child")
    alive = host.shell(f"systemctl stop {service}; test -e /proc/{child} && echo alive; systemctl show --property=Result {service}")
    assert set(host.shell(f"cat /var/lib/{service}/notes").splitlines()) == notes
    assert alive == ("alive\n" if lives_on else "") + "Result=success\n"
    host.shell(f"systemctl start {service}")
    host.shell(f"test ! -e /proc/{child} || kill -KILL {child}")


def modes(host: Host) -> str:
    return host.shell(f"stat -c '%a %U %G' {' '.join(RUN_DIRECTORIES)} {OUTER} {INNER}")


def test_directories_below_run_are_there_before_the_daemon_and_after_every_boot(host: Host) -> None:
    assert modes(host) == AS_MEANT
    lab_hosts.hang_up()
    lab_hosts.lab("reboot", host.name)
    # Without one of them the unit could not have been started, or its daemon would have ended at once.
    assert host.asked("odd-release", "version") == OLD
    assert host.asked("odd-process", "version") == OLD
    assert modes(host) == AS_MEANT
    assert host.shown("odd-release", "NRestarts") == host.shown("odd-process", "NRestarts") == {"NRestarts": "0"}
    assert host.changes() == 0


def test_a_file_of_the_release_that_was_changed_is_named_and_installed_again(host: Host) -> None:
    host.shell(f"echo '#' >> /opt/odd-release/releases/{OLD}/{NAME}")
    said = " ".join(host.play("site.yml").stdout.split())
    assert re.search(rf"release {re.escape(NAME)} was modified \([^)]*\): odd-release {re.escape(OLD)}\b", said)
    assert host.shell(f"sha256sum < /opt/odd-release/current/{NAME}").split()[0] == host.digests[OLD]


def test_a_release_of_one_file_is_rolled_out_and_back(host: Host) -> None:
    rollout: dict[str, Any] = {"rollout_service": ["odd-release"], "rollout_confirm": True}
    host.play("rolling-upgrade.yml", version=NEW, **rollout)
    assert host.release() == (NEW, NEW)
    host.play("rollback.yml", version=NEW, **rollout)
    assert host.release() == (OLD, OLD)
    assert modes(host) == AS_MEANT


def test_what_brings_directories_below_run_back_goes_with_the_last_service_that_needs_it(host: Host) -> None:
    assert "odd-shared" in host.shell(f"cat {FRAGMENT}")
    host.play("site.yml", placed=(), preflight_on_finding={"placement": "ignore", "clock": "ignore"})
    assert host.shell(f"ls {FRAGMENT} 2>/dev/null || true") == ""
