# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the lab: the one way to run a script, a module or tasks there, and to see from outside what they let in."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
DEFINITION = json.loads((CHECKOUT / "tests/lab/lab.json").read_text())
HOSTS: dict[str, dict[str, Any]] = DEFINITION["hosts"]
SUFFIX = os.environ.get("LAB_SUFFIX", "")
IPV4 = os.environ.get("LAB_IPV4_PREFIX") or DEFINITION["network"]["ipv4_prefix"]
IPV6 = os.environ.get("LAB_IPV6_PREFIX") or DEFINITION["network"]["ipv6_prefix"]

# One connection per host serves all scripts: it is quick, and a firewall may limit new ones.
CONNECTIONS = tempfile.TemporaryDirectory(prefix="hearth-fleet-")
SSH = (
    *("ssh", "-F", str(CHECKOUT / f".cache/lab{SUFFIX}/ssh_config"), "-o", "ConnectTimeout=5"),
    *("-o", "ControlMaster=auto", "-o", "ControlPersist=300s", "-o", f"ControlPath={CONNECTIONS.name}/%n"),
)
# A connection of the lab takes a millisecond; after one second TCP asks a second time.
CONNECT_SECONDS = 1.5


def addresses(host: str) -> tuple[str, str]:
    """Return a host's IPv4 and IPv6 address."""
    number = HOSTS[host]["address"]
    return f"{IPV4}.{number}", f"{IPV6}::{number}"


def controller_addresses(host: str) -> tuple[str, str]:
    """Return the addresses, IPv4 and IPv6, from which this machine reaches a host."""
    ipv4, ipv6 = (_source(address) for address in addresses(host))
    return ipv4, ipv6


def _source(address: str) -> str:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def container(host: str) -> str:
    """Return the name of the container that is a host."""
    return host + SUFFIX


def connects(address: str, port: int) -> bool:
    """Whether a new TCP connection from this machine gets through. Somebody must listen there."""
    try:
        socket.create_connection((address, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def reachable(host: str, port: int) -> list[bool]:
    """Whether a port can be reached from this machine, over IPv4 and over IPv6."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda address: connects(address, port), addresses(host)))


def shell(host: str, script: str, stdin: bytes = b"") -> str:
    """Run a shell script as root on a host, where it must succeed, and return what it prints."""
    command = script if _is_root(host) else f"sudo sh -c {shlex.quote(script)}"
    done = subprocess.run([*SSH, host, command], input=stdin, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, f"{host}: exit status {done.returncode} of: {script}\n{done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout.decode()


def console(host: str, script: str) -> str:
    """Run a shell script on a host that lets nobody in any more, and return what it prints, whether it succeeds or not."""
    return subprocess.run(["podman", "exec", container(host), "sh", "-c", script], check=False, capture_output=True, text=True, timeout=60).stdout


def hang_up() -> None:
    """Close the connections to all hosts."""
    for path in Path(CONNECTIONS.name).iterdir():
        subprocess.run([*SSH, "-O", "exit", path.name], check=False, capture_output=True, timeout=10)


def lab(*arguments: str) -> None:
    """Run the lab's program."""
    subprocess.run([str(CHECKOUT / "tests/lab/lab"), *arguments], check=True, capture_output=True, timeout=180)


def start_ansible(program: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start one of Ansible's programs on the lab's inventory."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    if program == "ansible":
        environment["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"  # for `result`
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def kill(controller: subprocess.Popen[str]) -> None:
    """End a controller as a power cut does: with its workers, which have sessions of their own and would go on alone."""
    with contextlib.suppress(OSError):
        workers = Path(f"/proc/{controller.pid}/task/{controller.pid}/children").read_text().split()
        controller.kill()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)
    controller.communicate()


def ansible(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs on the lab's inventory."""
    with start_ansible(program, *arguments) as process:
        try:
            output, errors = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    assert not check or done.returncode == 0, output + errors
    return done


def play(hosts: str, tasks: Sequence[Mapping[str, Any]], directory: Path, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run tasks as a playbook, which may fail; it and its variables are written to a directory."""
    playbook, values = directory / "play.yml", directory / "variables.json"
    playbook.write_text(json.dumps([{"hosts": hosts, "gather_facts": False, "tasks": tasks}]))
    values.write_text(json.dumps(variables))
    return ansible("ansible-playbook", str(playbook), "-e", f"@{values}", *arguments, check=False)


def module_call(host: str, name: str, arguments: Mapping[str, Any], *flags: str) -> list[str]:
    """Return the arguments of the program ``ansible`` that run one module as root on a host."""
    become = [] if _is_root(host) else ["--become"]
    return [host, *become, "-m", name, "-a", json.dumps(arguments), *flags]


def module(host: str, name: str, arguments: Mapping[str, Any], *flags: str) -> dict[str, Any]:
    """Run one module as root on a host, and return its result with ``failed``, and with all that Ansible said as ``output``."""
    done = ansible("ansible", *module_call(host, name, arguments, *flags), check=False)
    return result(host, done.stdout, done.stderr)


def result(host: str, output: str, errors: str = "") -> dict[str, Any]:
    """Return the result of a module from what the program ``ansible`` said."""
    heading = re.search(rf"^{host} \| (\w+)!? => ", output, re.MULTILINE)
    assert heading, output + errors
    found, _end = json.JSONDecoder().raw_decode(output[heading.end() :])
    return {**found, "failed": heading[1] not in ("SUCCESS", "CHANGED"), "output": output + errors}


def _is_root(host: str) -> bool:
    return bool(HOSTS[host]["login"] == "root")


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is true; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
