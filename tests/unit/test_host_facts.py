# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the facts of a host are read from, on a tree of files that looks like one."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import host_facts

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   100        0 7001 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:CF7C 01 00000000:00000000 00:00000000 00000000   100        0 7002 1 0000000000000000 20 4 30 10 -1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7003 1 0
   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7004 1 0
   2: 0000000000000000FFFF00000200000A:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7005 1 0
"""
UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  12: 00000000:0FA1 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 7006 2 0000000000000000 0
"""

little_endian = pytest.mark.skipif("sys.byteorder != 'little'", reason="the tables of this test are those of a little-endian machine")


@little_endian
@pytest.mark.parametrize(
    ("table", "state", "sockets"),
    [
        pytest.param(TCP, "0A", [("127.0.0.1", 8080, 7001)], id="listening-only"),
        pytest.param(TCP6, "0A", [("::", 22, 7003), ("::1", 80, 7004), ("10.0.0.2", 81, 7005)], id="ipv6-and-mapped"),
        pytest.param(UDP, "07", [("0.0.0.0", 4001, 7006)], id="udp"),
        pytest.param("", "0A", [], id="no-table"),
    ],
)
def test_sockets(table, state, sockets):
    assert [(one["address"], one["port"], one["inode"]) for one in host_facts.parse_sockets(table, "tcp", state)] == sockets


@pytest.mark.parametrize(
    ("cgroups", "prefix", "unit"),
    [
        pytest.param("0::/system.slice/nats-server.service\n", "", "nats-server.service", id="cgroup-v2"),
        pytest.param("9:name=systemd:/system.slice/nats-server.service\n8:pids:/\n0::/\n", "", "nats-server.service", id="cgroup-v1"),
        pytest.param("0::/system.slice/system-node.slice/node@1.service/worker\n", "", "node@1.service", id="template-and-delegated"),
        pytest.param("0::/user.slice/user-0.slice/session-3.scope\n", "", "session-3.scope", id="login"),
        pytest.param("0::/user.slice/user-7.slice/user@7.service/app.slice/x.service\n", "", "user@7.service", id="user-manager"),
        pytest.param("0::/machine.slice/libpod-1.scope/system.slice/web.service\n", "/machine.slice/libpod-1.scope", "web.service", id="container"),
        pytest.param("0::/init.scope\n", "", "init.scope", id="systemd-itself"),
        pytest.param("0::/\n", "", "", id="kernel-thread"),
        pytest.param("", "", "", id="gone"),
    ],
)
def test_unit_of_a_process(cgroups, prefix, unit):
    assert host_facts.Cgroups(False, prefix).unit_of(cgroups) == unit


def test_a_hierarchy_that_others_use_says_nothing_where_systemd_has_cgroup_v2():
    cgroups = "9:name=systemd:/user.slice/session-3.scope\n0::/system.slice/nats-server.service\n"
    assert host_facts.Cgroups(True, "").unit_of(cgroups) == "nats-server.service"
    assert host_facts.Cgroups(False, "").unit_of(cgroups) == "session-3.scope"


@pytest.mark.parametrize(
    ("cgroups", "prefix"),
    [
        ("0::/init.scope\n", ""),
        ("0::/\n", ""),
        ("0::/machine.slice/libpod-1.scope/init.scope\n", "/machine.slice/libpod-1.scope"),
        ("9:name=systemd:/user.slice\n0::/machine.slice/libpod-1.scope/init.scope\n", "/machine.slice/libpod-1.scope"),
    ],
)
def test_where_systemd_has_its_units(tmp_path, cgroups, prefix):
    write(tmp_path, "proc/1/cgroup", cgroups)
    write(tmp_path, "sys/fs/cgroup/cgroup.controllers", "memory pids\n")
    assert host_facts.cgroups_below(tmp_path) == (True, prefix)


MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 8:2 / /var rw,relatime shared:2 - btrfs /dev/sda2 rw
24 22 8:3 / /srv/my\\040data rw - xfs /dev/sda3 rw
25 23 8:4 / /var rw - zfs pool/var rw
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", ("/", "ext4")),
        ("/etc", ("/", "ext4")),
        ("/variable", ("/", "ext4")),
        ("/srv/my data/x", ("/srv/my data", "xfs")),
        pytest.param("/var/lib", ("/var", "zfs"), id="mounted-over"),
    ],
)
def test_filesystem_of(path, found):
    assert host_facts.filesystem_of(MOUNTINFO, path) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n',
            {"id": "debian", "version": "12", "codename": "bookworm", "name": "Debian GNU/Linux 12 (bookworm)"},
            id="debian",
        ),
        pytest.param("ID=arch\n", {"id": "arch", "version": "", "codename": "", "name": ""}, id="rolling"),
        pytest.param("", {"id": "", "version": "", "codename": "", "name": ""}, id="none"),
    ],
)
def test_os_release(text, found):
    assert host_facts.os_release(text) == found


@pytest.mark.parametrize(("text", "first", "last"), [("4001", 4001, 4001), (4001, 4001, 4001), ("8000:8010", 8000, 8010)])
def test_port_range(text, first, last):
    ports = host_facts.port_range(text)
    assert (ports[0], ports[-1]) == (first, last)


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Raspberry Pi with one daemon of ours, nats-server (pid 50), and a stranger, nginx (pid 60)."""
    write(tmp_path, "proc/meminfo", "MemTotal:  948304 kB\nSwapTotal: 102400 kB\n")
    write(tmp_path, "proc/uptime", "123.45 400.00\n")
    write(tmp_path, "proc/sys/kernel/random/boot_id", "b-1\n")
    write(tmp_path, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    write(tmp_path, "proc/net/tcp", TCP)
    write(tmp_path, "proc/net/udp", UDP)
    write(tmp_path, "proc/1/cgroup", "0::/init.scope\n")
    write(tmp_path, "usr/lib/os-release", "ID=debian\n")
    write(tmp_path, "usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-257.so", "")
    write(tmp_path, "etc/systemd/system/nats-server.service", "# Managed by hearth.fleet: service nats-server\n[Service]\n")
    for pid, name, unit, inode in ((50, "nats-server", "nats-server.service", 7001), (60, "nginx", "nginx.service", 7006)):
        write(tmp_path, f"proc/{pid}/comm", f"{name}\n")
        write(tmp_path, f"proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")
        write(tmp_path, f"sys/fs/cgroup/system.slice/{unit}/cgroup.procs", f"{pid}\n")
        (tmp_path / f"proc/{pid}/fd").mkdir()
        os.symlink(f"socket:[{inode}]", tmp_path / f"proc/{pid}/fd/3")
        os.symlink("/dev/null", tmp_path / f"proc/{pid}/fd/0")
    return tmp_path


def test_a_host_is_described(root: Path) -> None:
    facts = host_facts.look({}, root=root)
    assert (facts["memory_bytes"], facts["swap_bytes"]) == (948304 * 1024, 102400 * 1024)
    assert facts["os"]["id"] == "debian"
    assert (facts["uptime_seconds"], facts["boot_id"], facts["systemd"]) == (123.45, "b-1", "257")
    assert facts["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert facts["clock"]["has_rtc"] is False
    assert (facts["iops"], facts["in_service"]) == (None, False)
    assert facts["cpus"] >= 1
    json.dumps(facts)


@little_endian
@pytest.mark.parametrize(
    ("port", "holder"),
    [
        pytest.param(
            {"port": "8080", "proto": "tcp", "unit": "nats-server.service"}, (50, "nats-server", "nats-server.service", True), id="its-own-unit"
        ),
        pytest.param({"port": "8080", "proto": "tcp", "unit": "web.service"}, (50, "nats-server", "nats-server.service", True), id="another-of-ours"),
        pytest.param({"port": "4000:4010", "proto": "udp", "unit": "web.service"}, (60, "nginx", "nginx.service", False), id="stranger"),
    ],
)
def test_who_holds_a_wanted_port(root: Path, port, holder) -> None:
    held = [one for one in host_facts.look({"ports": [port]}, root=root)["listeners"] if one["processes"]]
    assert len(held) == 1
    [process] = held[0]["processes"]
    assert (process["pid"], process["name"], process["unit"], process["managed"]) == holder


@little_endian
@pytest.mark.parametrize(
    ("unit", "endpoints"),
    [
        pytest.param("nats-server.service", ["127.0.0.1:8080/tcp"], id="one-that-listens"),
        pytest.param("web.service", [], id="one-without-processes"),
    ],
)
def test_where_a_unit_listens(unit: str, endpoints: list[str], root: Path) -> None:
    assert host_facts.endpoints_of(unit, root=root) == endpoints


@little_endian
def test_other_processes_are_left_unread_when_the_service_itself_listens(root: Path) -> None:
    (root / "proc/60/fd/3").unlink()
    os.symlink("socket:[7001]", root / "proc/60/fd/3")
    [held] = [
        one
        for one in host_facts.look({"ports": [{"port": 8080, "proto": "tcp", "unit": "nats-server.service"}]}, root=root)["listeners"]
        if one["port"] == 8080
    ]
    assert [process["pid"] for process in held["processes"]] == [50]


@pytest.mark.parametrize(
    ("path", "limit", "found"),
    [
        pytest.param("sys/fs/cgroup/memory.max", "536870912\n", 536870912, id="cgroup-v2"),
        pytest.param("sys/fs/cgroup/memory.max", "max\n", 948304 * 1024, id="unlimited"),
        pytest.param("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n", 536870912, id="cgroup-v1"),
        pytest.param("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n", 948304 * 1024, id="cgroup-v1-unlimited"),
    ],
)
def test_a_container_has_the_memory_of_its_limit(root: Path, path, limit, found) -> None:
    write(root, path, limit)
    assert host_facts.look({}, root=root)["memory_bytes"] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [('{"iops": 812, "path": "/var/lib"}', 812), ('{"iops": 8', None), ("[]", None), ("{}", None), ('{"iops": null}', None)],
)
def test_the_measurement_of_the_disk_is_found_again(root: Path, text, found) -> None:
    write(root, host_facts.IOPS_FILE.lstrip("/"), text)
    assert host_facts.look({}, root=root)["iops"] == found


def test_free_space_is_that_of_the_nearest_directory(root: Path) -> None:
    disks = host_facts.look({"disk": [{"path": "/srv/not/there", "free_bytes": 1}]}, root=root)["disks"]
    assert disks["/srv/not/there"]["total_bytes"] == disks["/"]["total_bytes"] > 0
    assert disks["/"]["read_only"] is False


def test_a_host_with_a_release_is_in_service(root: Path) -> None:
    (root / "opt/nats-server").mkdir(parents=True)
    os.symlink("releases/2.10.22", root / "opt/nats-server/current")
    assert host_facts.look({}, root=root)["in_service"] is True


def test_an_empty_tree_is_an_observation(tmp_path: Path) -> None:
    facts = host_facts.look({"ports": [{"port": 1, "proto": "tcp", "unit": "x.service"}]}, root=tmp_path)
    assert (facts["memory_bytes"], facts["uptime_seconds"], facts["listeners"], facts["systemd"], facts["model"]) == (None, None, [], "", "")


def test_what_only_the_controller_knows_is_taken_over(tmp_path: Path) -> None:
    facts = host_facts.look({"controller_time": 12.5, "resolved": {"a.example.org": []}}, root=tmp_path)
    assert (facts["controller_time"], facts["resolved"]) == (12.5, {"a.example.org": []})
    assert "resolved" not in host_facts.look({}, root=tmp_path)


def test_this_machine_is_seen_as_it_is() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        facts = host_facts.look({"ports": [{"port": port, "proto": "tcp", "unit": "none.service"}]})
    [one] = [one for one in facts["listeners"] if one["port"] == port]
    assert one["address"] == "127.0.0.1"
    assert [process["pid"] for process in one["processes"]] == [os.getpid()]
    assert facts["clock"]["synchronized"] in (True, False, None)
    assert facts["memory_bytes"] > 0
