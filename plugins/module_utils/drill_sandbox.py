# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a drill starts a daemon on restored data: a root directory of its own in a transient unit, without a network.

The root has what is put into it, and of the host its programs (``/usr``, read-only) and a few files of ``/etc`` that tell no secret.
So neither identities nor credentials of the host can be seen from within, whatever they are called. The network is one of
the sandbox's own, with nothing but a loopback; as systemd goes on without where a kernel cannot give it one, a guard looks from
within, before anything else is started there.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils import host_tools, programs, service_process, unit_control
from ansible_collections.hearth.fleet.plugins.module_utils import probe as probes
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

UNIT = "hearth-drill-sandbox.service"
ACCOUNT = "hearth-drill"
BINARIES = "/usr/local/bin"
LINKS = ".bin"
"""The directory of a root that stands for BINARIES within."""

OF_THE_HOST = (
    "/usr", "-/etc/alternatives", "-/etc/ca-certificates", "-/etc/group", "-/etc/host.conf", "-/etc/hosts", "-/etc/ld.so.cache", "-/etc/ld.so.conf",
    "-/etc/ld.so.conf.d", "-/etc/localtime", "-/etc/mime.types", "-/etc/nsswitch.conf", "-/etc/passwd", "-/etc/protocols", "-/etc/services",
    "-/etc/ssl", "-/etc/timezone",
)  # fmt: skip
"""What of the host is to be seen in a sandbox, read-only; with ``-`` where it is there at all."""

_SKELETON = ("dev", "etc", "opt", "proc", "run", "sys", "tmp", "usr", "var/lib", "var/tmp", LINKS)
_TOP_LEVEL = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_PROPERTIES = {
    "User": ACCOUNT,
    "Group": ACCOUNT,
    "MountAPIVFS": "yes",
    "PrivateNetwork": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectSystem": "strict",
    "ProtectProc": "invisible",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "InaccessiblePaths": "-+/etc/ssl/private",
    "NoNewPrivileges": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictRealtime": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "SystemCallErrorNumber": "EPERM",
    "IPAddressDeny": "any",
    "IPAddressAllow": "localhost",
    "KeyringMode": "private",
    "UMask": "0077",
    "KillMode": "control-group",
    "TimeoutStopSec": "30",
    "LimitCORE": "0",
}
_SYSTEMD_SECONDS = 60
_MARGIN_SECONDS = 120
_POLL_SECONDS = 0.2


class Waited(NamedTuple):
    """What came of waiting for a daemon: whether it was ready, and what it answered."""

    ready: bool
    answer: str


def make_root(root: Path, order: Mapping[str, Any]) -> None:
    """Make the skeleton of a root directory for an order's daemon. Raises OSError."""
    for name in _SKELETON:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in _TOP_LEVEL:
        link = Path("/", name)
        if link.is_symlink():
            (root / name).symlink_to(os.readlink(link))
        elif link.is_dir():
            (root / name).mkdir()
    (root / "opt" / order["service"]).mkdir()
    for name in order["release"]["binaries"]:
        (root / LINKS / name).symlink_to(f"/opt/{order['service']}/current/bin/{name}")
    for path in (*order["directories"], order["working_directory"]):
        inside(root, path).mkdir(parents=True, exist_ok=True)


def inside(root: Path, path: str) -> Path:
    """Return where an absolute path of a sandbox lies on the host. Raises FleetError for one that leads out of it."""
    if ".." in Path(path).parts or not path.startswith("/"):
        raise FleetError(f"{path} is no absolute path of a sandbox")
    found = root / path.lstrip("/")
    for parent in (found, *found.parents):
        if parent == root:
            return found
        if parent.is_symlink():
            raise FleetError(f"{path}: {parent.relative_to(root)} is a symbolic link, which is not followed into a sandbox")
    return found


def command(
    root: Path, order: Mapping[str, Any], secrets: Mapping[str, str], bootstrap: Sequence[Mapping[str, Any]], unseen: Sequence[str]
) -> list[str]:
    """Return the command that starts an order's daemon. Pure but for a look at the top of the host's file system.

    ``secrets`` are made-up values by name. ``bootstrap`` is what runs before the daemon, ``unseen`` are paths of which the guard
    makes sure that they are not there.
    """
    release = f"{order['release']['root']}:/opt/{order['service']}"
    tops = [f"/{name}" for name in _TOP_LEVEL if Path("/", name).is_dir() and not Path("/", name).is_symlink()]
    runtime = [path for path in order["directories"] if path.startswith("/run/")]
    writable = [path for path in order["directories"] if path not in runtime]
    starting = sum(one["timeout"] for one in bootstrap) + _SYSTEMD_SECONDS
    properties = [
        *_PROPERTIES.items(),
        ("RootDirectory", str(root)),
        ("BindReadOnlyPaths", " ".join([*OF_THE_HOST, *tops, f"{root}/{LINKS}:{BINARIES}", release])),
        *([("ReadWritePaths", _quoted(f"+{path}" for path in writable))] if writable else []),
        *([("TemporaryFileSystem", " ".join(f"{path}:mode=1777" for path in runtime))] if runtime else []),
        ("CapabilityBoundingSet", " ".join(order["capabilities"])),
        ("AmbientCapabilities", " ".join(order["capabilities"])),
        ("WorkingDirectory", order["working_directory"]),
        ("TimeoutStartSec", str(starting)),
        ("RuntimeMaxSec", str(order["deadline"] + _MARGIN_SECONDS)),
        ("ExecStartPre", _quoted([host_tools.HEARTHCTL, "drill", "guard", *unseen])),
        *(("ExecStartPre", _quoted(one["command"])) for one in bootstrap),
        *(("SetCredential", f"{name}:{value}") for name, value in secrets.items() if order["secrets"][name]["as"] == "credential"),
    ]
    environment = _environment(order, secrets)
    return [
        *("systemd-run", "--quiet", f"--unit={UNIT}", f"--service-type={order['type']}", f"--description=Drill of {order['service']}"),
        *(f"--property={name}={value}" for name, value in properties),
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        "--",
        *(word.replace("$", "$$") for word in order["command"]),
    ]


def _environment(order: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an order's daemon, which is that of the commands that ask it, too."""
    return {**{name: value for name, value in secrets.items() if order["secrets"][name]["as"] == "environment"}, **order["environment"]}


def _surroundings(order: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """Return what a command finds that asks the daemon: what the daemon itself found (``service_process.Surroundings``)."""
    given = any(order["secrets"][name]["as"] == "credential" for name in secrets)
    credentials = {"CREDENTIALS_DIRECTORY": f"{service_process.CREDENTIALS}/{UNIT}"} if given else {}
    return {
        "user": ACCOUNT,
        "group": ACCOUNT,
        "directory": order["working_directory"],
        "umask": int(_PROPERTIES["UMask"], 8),
        "environment": {**_environment(order, secrets), **credentials},
        "secrets": list(secrets.values()),
    }


def _quoted(words: Iterable[str]) -> str:
    """Return words as systemd reads them of a property, each in quotes and without variables put in."""
    return " ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") + '"' for word in words)


def start(argv: Sequence[str], order: Mapping[str, Any]) -> None:
    """Start the daemon, and make sure that it has no network. Raises FleetError with what it said when it does not start."""
    seconds = sum(one["timeout"] for one in order["bootstrap"]) + 2 * _SYSTEMD_SECONDS
    began = time.time()
    said = programs.run(argv, seconds=seconds)
    if not said.ended:
        raise FleetError(f"the sandbox cannot be started: {said.error}")
    if said.status:
        raise FleetError("\n".join([f"{order['service']} does not start on the restored data", *_said(said.error), *last_lines(began)]))
    pid = _main_pid()
    if pid and (os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino or interfaces(f"/proc/{pid}/net/dev") - {"lo"}):
        stop()
        raise FleetError("the sandbox has a network; the daemon was stopped at once\n  → let the runner's kernel make network namespaces")


def _said(errors: str) -> list[str]:
    """Return what systemd-run complained about, without its advice to look elsewhere."""
    return [f"  | {line}" for line in errors.splitlines() if line.strip() and "journalctl" not in line]


def guard(unseen: Iterable[str], devices: str = "/proc/self/net/dev") -> None:
    """Raise FleetError unless this process has no network, and sees none of these paths. It runs in the sandbox, before the daemon."""
    others = sorted(interfaces(devices) - {"lo"})
    if others:
        raise FleetError(f"there is a network in the sandbox ({', '.join(others)}); nothing is started here")
    seen = [path for path in unseen if os.path.lexists(path)]
    if seen:
        raise FleetError(f"the sandbox can see {', '.join(seen)}; nothing is started here")


def interfaces(devices: str) -> set[str]:
    """Return the names of the network's interfaces out of a file like /proc/net/dev. Raises OSError."""
    lines = Path(devices).read_text(encoding="utf-8").splitlines()
    return {line.partition(":")[0].strip() for line in lines if ":" in line}


def wait_ready(order: Mapping[str, Any], secrets: Mapping[str, str]) -> Waited:
    """Wait until the daemon in the sandbox is ready, asking it from within. Raises FleetError for what is no probe.

    ``secrets`` are those that the daemon was started with.
    """

    def hopeless() -> str:
        return probes.why_hopeless(probes.unit_state(UNIT), 0)

    if not order["ready"]:
        found = probes.wait_ready({"unit": UNIT}, **_patience(order), hopeless=hopeless)
        return Waited(found.ready, found.hopeless or found.answer)
    pid = _main_pid()
    if not pid:
        return Waited(False, hopeless() or "it has no main process")
    with tempfile.TemporaryFile() as question:  # no argument, which others see: a header may tell more than they may know
        ready = order["ready"]
        asked = {**ready, "surroundings": _surroundings(order, secrets)} if isinstance(ready, Mapping) and "command" in ready else ready
        question.write(json.dumps({"probe": asked, **_patience(order)}).encode())
        question.seek(0)
        return _asked_within(pid, question, order["deadline"] + _MARGIN_SECONDS, hopeless)


def _asked_within(pid: int, question: IO[bytes], seconds: float, hopeless: Callable[[], str]) -> Waited:
    """Have a question asked by a process in the sandbox, for as long as there is hope."""
    asker = ["nsenter", f"--target={pid}", "--mount", "--net", "--", host_tools.HEARTHCTL, "drill", "ask"]
    end = time.monotonic() + seconds
    with subprocess.Popen(  # pylint: disable=ansible-bad-function  # watched while it runs
        asker, stdin=question, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            said = hopeless()
            if said or time.monotonic() > end:
                process.kill()
                return Waited(False, said or "whoever asked it got no answer in time")
            time.sleep(_POLL_SECONDS)
        printed, errors = process.communicate()
    try:
        answer = json.loads(printed)
    except ValueError:
        return Waited(False, errors.strip() or f"whoever asked it ended with {process.returncode}")
    return Waited(answer["ready"], answer["answer"])


def _patience(order: Mapping[str, Any]) -> dict[str, Any]:
    return {key: order[key] for key in ("deadline", "passes", "interval")}


def ask(text: str) -> str:
    """Be the one who asks within the sandbox: wait as ``text`` (JSON) says, and return what came of it as JSON."""
    asked = json.loads(text)
    found = probes.wait_ready(asked.pop("probe"), **asked)
    return json.dumps({"ready": found.ready, "answer": found.answer})


def stop() -> None:
    """Stop the daemon and forget the unit; nothing happens where there is none."""
    unit_control.act("stop", UNIT, seconds=_SYSTEMD_SECONDS)
    unit_control.forget_failures(UNIT)


def last_lines(since: float) -> list[str]:
    """Return the last that the daemon said since it was started (Unix seconds)."""
    return [f"  | {line}" for line in unit_control.last_words(UNIT, since=since)]


def _main_pid() -> int:
    said = programs.run(["systemctl", "show", "--property=MainPID", "--value", "--", UNIT], seconds=_SYSTEMD_SECONDS).output.strip()
    return int(said) if said.isdigit() else 0
