# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What containers cannot show, on an emulated Raspberry-Pi-like host with a kernel of its own: ``make pi``.

The firewall's package is installed by the role, limits are enforced, the machine reboots, and its power is cut. The figures of
docs/benchmarks.md: ``pytest -s tests/pi``. With ``PI_KEEP=1`` in the environment, a Pi that is there is used, and left as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
DEFINITION = json.loads((CHECKOUT / "tests/lab/pi.json").read_text())
PORTS: dict[str, int] = DEFINITION["ports"]
KEEP = bool(os.environ.get("PI_KEEP"))

NODE = "kontinuum-node-server"
SERVICES = ("nats-server", NODE, "greedy", "hermit")
READY = ("http://127.0.0.1:8222/healthz", "http://127.0.0.1:9100/readyz", "http://127.0.0.1:8701/", "http://127.0.0.1:8702/")
GREEDY, HERMIT = READY[2:]
CONTROLLER = "10.0.2.2"
"""This machine, as the Pi sees it."""
JOURNAL = f"/var/lib/hearth/rollout/{NODE}/active/journal.jsonl"

PLAY_SECONDS = 900
SHELL_SECONDS = 300
WAIT_SECONDS = 240
ROUNDS = 5


def lab_pi(*arguments: str) -> None:
    """Run the program of the Pi."""
    subprocess.run([str(CHECKOUT / "tests/lab/pi"), *arguments], check=True, capture_output=True, timeout=PLAY_SECONDS)


def ssh(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root on the Pi; it may fail."""
    command = ["ssh", "-F", str(CHECKOUT / ".cache/lab/pi/ssh_config"), "-o", "ConnectTimeout=20", DEFINITION["name"], "sudo sh -es"]
    return subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=SHELL_SECONDS)


def shell(script: str) -> str:
    """Run a shell script as root on the Pi, where it must succeed, and return what it prints."""
    done = ssh(script)
    assert done.returncode == 0, f"exit status {done.returncode} of: {script}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def start(program: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start one of Ansible's programs on the Pi's inventory, in a process group of its own, with variables of the environment."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **variables}
    command = [str(Path(sys.executable).with_name(program)), "-i", str(HERE / "inventory"), *arguments]
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a program of Ansible's, and return what it said."""
    try:
        output, _ = process.communicate(timeout=PLAY_SECONDS)
    except BaseException:
        process.kill()
        raise
    return output


def ansible(program: str, *arguments: str, **variables: str) -> str:
    """Run one of Ansible's programs, which must succeed, and return what it said."""
    process = start(program, *arguments, **variables)
    output = finish(process)
    assert process.returncode == 0, output
    return output


def playbook(*arguments: str) -> str:
    return ansible("ansible-playbook", *arguments)


def upgrade(version: str, directory: Path) -> tuple[str, ...]:
    """Return the arguments of the rollout of a version of the node, whose reports go to a directory."""
    variables = {
        "pi_kontinuum_version": version,
        "rollout_confirm": True,
        "rollout_reports": str(directory),
        "rollout_report": f"{directory}/{{id}}.html",
    }
    return ("rolling-upgrade.yml", "-e", json.dumps(variables))


def changed(output: str) -> int:
    """Return how many tasks changed something, out of a playbook's recap."""
    [count] = re.findall(rf"^{DEFINITION['name']}\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE)
    return int(count)


def version() -> str:
    """Return the version that the node says it is."""
    return str(json.loads(shell("curl -fsS http://127.0.0.1:9100/version"))["version"])


def wait_for(condition: str, *, pause: float = 1) -> None:
    """Wait on the Pi until a shell's condition holds; fail when that takes too long."""
    shell(f"end=$(($(date +%s) + {WAIT_SECONDS})); until {{ {condition}; }} 2>/dev/null; do [ $(date +%s) -lt $end ]; sleep {pause}; done")


def wait_until_ready() -> None:
    """Wait until every service says that it is ready; nothing but the Pi itself makes it so."""
    wait_for(" && ".join(f"curl -fsS -o /dev/null {url}" for url in READY))


def boot_id() -> str:
    return shell("cat /proc/sys/kernel/random/boot_id")


def tell(what: str, **figures: Any) -> None:
    """Print figures for docs/benchmarks.md."""
    print(f"{what}: {json.dumps(figures)}", file=sys.stderr)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    tell(what, seconds=round(time.monotonic() - begin, 1))


@pytest.fixture(scope="module")
def pi() -> Iterator[None]:
    """A Pi that nobody has touched."""
    if not KEEP:
        lab_pi("down")
    with timed("boot"):
        lab_pi("up")
    yield
    if not KEEP:
        lab_pi("down")


@pytest.fixture(scope="module")
def converged(pi: None) -> None:
    """The Pi as the inventory describes it."""
    with timed("site.yml on the Pi that was there" if KEEP else "first converge"):
        playbook("site.yml")


# --- Converging -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(KEEP, reason="the Pi may be converged already")
def test_a_check_of_an_untouched_host_changes_nothing(pi: None) -> None:
    before = shell("ls /opt /etc/systemd/system /usr/local/bin; cut -d: -f1 /etc/passwd; dpkg-query --show | sha256sum")
    assert changed(playbook("site.yml", "--check", "--diff")) > 0
    assert shell("ls /opt /etc/systemd/system /usr/local/bin; cut -d: -f1 /etc/passwd; dpkg-query --show | sha256sum") == before


def test_site_converges_an_arm64_host_and_installs_its_firewall(converged: None) -> None:
    assert shell("uname -m; stat -f -c %T /sys/fs/cgroup").split() == ["aarch64", "cgroup2fs"]
    assert shell("dpkg-query --show --showformat='${Status}' ufw") == "install ok installed"
    assert shell(f"systemctl is-active {' '.join(SERVICES)}").split() == ["active"] * len(SERVICES)
    assert shell("od -An -tx1 -j 18 -N 2 /opt/nats-server/current/bin/nats-server").split() == ["b7", "00"], "EM_AARCH64"


def test_a_second_run_changes_nothing_and_verify_finds_nothing(converged: None) -> None:
    assert changed(playbook("site.yml")) == 0
    assert changed(playbook("site.yml", "--check", "--diff")) == 0
    playbook("playbooks/verify.yml")


def test_the_kernel_lets_in_what_the_catalogue_says(converged: None) -> None:
    assert answer(PORTS["4222"], b"").startswith(b"INFO")
    request = b"GET /healthz HTTP/1.0\r\n\r\n"
    assert answer(PORTS["9100"], request) == b""
    shell("ufw insert 1 allow proto tcp to any port 9100")
    try:
        assert b"200" in answer(PORTS["9100"], request), "it was the firewall that kept silent"
    finally:
        shell("ufw delete allow proto tcp to any port 9100")


def answer(port: int, request: bytes) -> bytes:
    """Return the first bytes that come back from a port of the Pi. The emulator accepts, whether the Pi does or not."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(request)
            return connection.recv(100)
        except OSError:
            return b""


# --- Limits -----------------------------------------------------------------------------------------------------------


def take(daemon: str, what: str) -> tuple[int, str]:
    """Have a greedy daemon take something; return how many it got, and what stopped it."""
    count, _, stopped = shell(f"curl -fsS '{daemon}{what}'").partition(" ")
    return int(count), stopped


def restarted() -> None:
    """Have the greedy daemon begin anew; its start limit counts that as well."""
    shell("systemctl reset-failed greedy; systemctl restart greedy")
    wait_until_ready()


def test_a_daemon_that_grows_beyond_its_memory_is_killed_and_comes_back(converged: None) -> None:
    restarted()
    assert take(GREEDY, "memory?n=16") == (16, "nothing"), "within its limit"
    before = shell("systemctl show --property=MainPID --value greedy")
    assert ssh(f"curl -fsS '{GREEDY}memory?n=300'").returncode != 0
    wait_until_ready()
    assert shell("systemctl show --property=MainPID --value greedy") not in (before, "0")
    assert "oom" in shell("journalctl --boot --unit=greedy --output=cat | grep --ignore-case \"result 'oom-kill'\"")
    assert "Memory cgroup out of memory" in shell("journalctl --boot --dmesg --output=cat | grep 'Memory cgroup out of memory'")
    assert shell("systemctl show --property=NRestarts --value nats-server") == "0", "nobody else suffers"


def test_a_daemon_gets_no_more_tasks_than_it_may_have(converged: None) -> None:
    restarted()
    got, stopped = take(GREEDY, "tasks?n=100")
    assert 20 < got <= 40
    assert "can't start new thread" in stopped
    restarted()


def test_a_daemon_gets_no_more_files_than_it_may_have(converged: None) -> None:
    restarted()
    got, stopped = take(GREEDY, "files?n=300")
    assert 50 < got <= 100
    assert stopped == "Too many open files"


def test_a_daemon_without_egress_connects_to_nobody_outside(converged: None) -> None:
    with listener() as (port, guests):
        assert take(GREEDY, f"connect?to={CONTROLLER}:{port}") == (1, "nothing")
        assert len(guests) == 1
        got, stopped = take(HERMIT, f"connect?to={CONTROLLER}:{port}")
        assert got == 0
        assert "Operation not permitted" in stopped or "timed out" in stopped
        assert len(guests) == 1
    assert take(HERMIT, "connect?to=127.0.0.1:8222") == (1, "nothing"), "its own host is no egress"


@contextlib.contextmanager
def listener() -> Iterator[tuple[int, list[object]]]:
    """Listen on this machine; return the port, and a list that grows with every connection."""
    guests: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def welcome() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    guests.append(connection.getpeername())
                    connection.close()

        thread = threading.Thread(target=welcome)
        thread.start()
        yield server.getsockname()[1], guests
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


# --- Reboots and power cuts -------------------------------------------------------------------------------------------


def is_what_the_inventory_says(*variables: str) -> None:
    """Nothing is left to do, and the audit finds nothing."""
    assert changed(playbook("site.yml", *variables)) == 0
    playbook("playbooks/verify.yml", *variables)


def test_everything_comes_up_by_itself_after_a_reboot(converged: None) -> None:
    before = boot_id()
    with timed("reboot until all services are ready"):
        ssh("systemctl reboot")
        while (now := ssh("cat /proc/sys/kernel/random/boot_id").stdout.strip()) in ("", before):
            time.sleep(1)
        assert now != before
        lab_pi("up")
        wait_until_ready()
    assert shell("systemctl is-system-running") == "running"
    assert "Status: active" in shell("ufw status")
    assert answer(PORTS["9100"], b"GET /healthz HTTP/1.0\r\n\r\n") == b""
    is_what_the_inventory_says()


@pytest.mark.parametrize(
    ("old", "new", "phase", "controller_lives", "serves"),
    [
        # Before the switch is done, the way leads back; after it, forward, also over a migration of the database.
        pytest.param("1.0.0", "1.0.1", "stop", False, "1.0.0", id="while-it-stops"),
        pytest.param("1.0.1", "1.1.0", "start", True, "1.1.0", id="while-the-migrated-one-starts"),
    ],
)
def test_f31_a_power_cut_in_mid_rollout_is_settled_by_the_host_itself(
    converged: None, tmp_path: Path, *, old: str, new: str, phase: str, controller_lives: bool, serves: str
) -> None:
    if version() != old:
        playbook(*upgrade(old, tmp_path))
    identity = shell("sha256sum /var/lib/kontinuum-node/keys/node.key")
    controller = start("ansible-playbook", *upgrade(new, tmp_path))
    try:
        wait_for(f'grep -qs \'"phase":"{phase}"\' {JOURNAL}', pause=0.02)
        lab_pi("cut")
        if not controller_lives:
            os.killpg(controller.pid, signal.SIGKILL)
        with timed("power cut: boot until all services are ready"):
            lab_pi("up")
            wait_until_ready()
        first_words = shell("journalctl --boot --unit=hearth-resume --output=cat")
        assert "goes on" in first_words, first_words
        wait_for(f"! test -e {JOURNAL}")
        told = finish(controller)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(controller.pid, signal.SIGKILL)
    assert version() == serves, told
    assert shell("sha256sum /var/lib/kontinuum-node/keys/node.key") == identity
    playbook(*upgrade(new, tmp_path))
    assert version() == new
    is_what_the_inventory_says("-e", f"pi_kontinuum_version={new}")


# --- Timings ----------------------------------------------------------------------------------------------------------


def test_a_run_with_nothing_to_do_costs_little_more_than_a_ping(converged: None) -> None:
    commands = {
        "ping": ("ansible", "all", "-m", "ansible.builtin.ping"),
        "site.yml": ("ansible-playbook", "site.yml", "-e", f"pi_kontinuum_version={version()}"),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(seconds_of(*command))
    medians = {name: round(statistics.median(values), 2) for name, values in times.items()}
    tell("nothing to change", **medians, ratio=round(medians["site.yml"] / medians["ping"], 2), all=times)
    assert medians["site.yml"] < 4 * medians["ping"]


def seconds_of(program: str, *arguments: str) -> float:
    """Return how long one of Ansible's programs takes, which connects anew, as a person waits for it."""
    with tempfile.TemporaryDirectory(prefix="hearth-pi-") as sockets:
        begin = time.monotonic()
        ansible(program, *arguments, ANSIBLE_SSH_CONTROL_PATH_DIR=sockets)
        took = time.monotonic() - begin
        for master in Path(sockets).iterdir():
            subprocess.run(["ssh", "-o", f"ControlPath={master}", "-O", "exit", "any"], check=False, capture_output=True, timeout=30)
    return took
