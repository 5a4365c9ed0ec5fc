# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is like: the facts that decide whether it can carry its services, and who listens on its ports.

Read from files, in milliseconds, because Ansible's own fact gathering takes ten seconds on a small Raspberry Pi.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils import elf

WRITTEN_PATHS = ("/", "/etc", "/opt", "/usr/local", "/var/lib")
"""Where the collection writes on every host, whatever the services need."""

IOPS_FILE = "/var/lib/hearth/preflight/iops.json"
"""Where the preflight role keeps the one measurement of the disk."""

MANAGED_HEADER = "# Managed by hearth.fleet:"
"""How the unit files of the collection begin."""

_UNSYNCHRONISED_MICROSECONDS = 16_000_000  # the kernel's largest possible error: nobody disciplines the clock
_TCP_LISTEN, _UDP_UNCONNECTED = "0A", "07"
_SOCKET_TABLES = (("tcp", _TCP_LISTEN), ("tcp6", _TCP_LISTEN), ("udp", _UDP_UNCONNECTED), ("udp6", _UDP_UNCONNECTED))
_CGROUP_ROOTS = ("sys/fs/cgroup", "sys/fs/cgroup/systemd", "sys/fs/cgroup/unified")
_UNLIMITED_BYTES = 2**60  # cgroup v1 writes "no limit" as a number of about 2^63


def look(wanted: Mapping[str, Any], *, root: Path = Path("/")) -> dict[str, Any]:
    """Return the host's facts as plain data; what cannot be read is None or empty, never an error.

    ``wanted`` is the preflight slice: of it, ``disk`` (``[{path}]``) and ``ports`` (``[{port, proto, unit}]``) say what to
    look at. What only the controller can know is taken over from it: ``controller_time`` (seconds since 1970, taken
    when the look was asked for) and ``resolved`` (name: addresses). ``root`` is where the host's files are.
    """
    paths = [*WRITTEN_PATHS, *(str(one["path"]) for one in wanted.get("disk") or [])]
    facts = {
        "architecture": elf.host_architecture(str(root)),
        "machine": platform.machine(),
        "os": os_release(_read(root / "etc/os-release") or _read(root / "usr/lib/os-release")),
        "python": platform.python_version(),
        "cpus": _cpus(),
        "memory_bytes": _memory_bytes(root),
        "swap_bytes": meminfo_bytes(_read(root / "proc/meminfo"), "SwapTotal"),
        "disks": _disks(root, paths),
        "clock": {
            "time": time.time(),
            "synchronized": clock_synchronized(),
            "has_rtc": (root / "sys/class/rtc/rtc0").exists(),
        },
        "listeners": _listeners(root, wanted.get("ports") or []),
        "iops": _measured_iops(root),
        "in_service": _in_service(root / "opt"),
        "uptime_seconds": _uptime_seconds(_read(root / "proc/uptime")),
        "boot_id": _read(root / "proc/sys/kernel/random/boot_id").strip(),
        "systemd": _systemd_version(root),
        "model": _read(root / "proc/device-tree/model").rstrip("\0\n"),
    }
    facts.update({key: wanted[key] for key in ("controller_time", "resolved") if wanted.get(key) is not None})
    return facts


def os_release(text: str) -> dict[str, str]:
    """Return ``id``, ``version``, ``codename`` and ``name`` out of an os-release file; empty texts for what it lacks."""
    found = {key: value.strip("\"'") for key, value in re.findall(r"^([A-Z_]+)=(.*?)\s*$", text, re.MULTILINE)}
    keys = {"id": "ID", "version": "VERSION_ID", "codename": "VERSION_CODENAME", "name": "PRETTY_NAME"}
    return {name: found.get(key, "") for name, key in keys.items()}


def meminfo_bytes(text: str, key: str) -> int | None:
    """Return one entry of /proc/meminfo in bytes, None when it is not there."""
    match = re.search(rf"^{re.escape(key)}:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def clock_synchronized() -> bool | None:
    """Return whether something keeps the kernel's clock right, as ``timedatectl`` shows it; None when it cannot be told.

    Like systemd, this goes by the kernel's maximum error, which any NTP daemon keeps small, rather than by the flag
    STA_UNSYNC, which some set on purpose.
    """

    class Timex(ctypes.Structure):
        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("frequency", ctypes.c_long),
            ("maximum_error", ctypes.c_long),
            ("rest", ctypes.c_long * 64),  # more than any architecture's struct timex has left
        )

    answer = Timex()  # modes = 0: read only
    try:
        if ctypes.CDLL(None).adjtimex(ctypes.byref(answer)) < 0:
            return None
    except (AttributeError, OSError):
        return None
    return bool(answer.maximum_error < _UNSYNCHRONISED_MICROSECONDS)


def port_range(text: object) -> range:
    """Return the ports of ``"4001"`` or ``"8000:8010"``, both ends included."""
    first, _colon, last = str(text).partition(":")
    return range(int(first), int(last or first) + 1)


def parse_sockets(table: str, proto: str, state: str) -> list[dict[str, Any]]:
    """Return the sockets of a table such as /proc/net/tcp6 that are in ``state``: ``{proto, address, port, inode}``."""
    sockets = []
    for line in table.splitlines()[1:]:
        fields = line.split(None, 10)
        if len(fields) < 10 or fields[3] != state:
            continue
        address, port = fields[1].split(":")
        sockets.append({"proto": proto, "address": _address(address), "port": int(port, 16), "inode": int(fields[9])})
    return sockets


def endpoint(listener: Mapping[str, Any]) -> str:
    """Return where a socket listens, for people: ``[::]:4001/tcp``."""
    address = f"[{listener['address']}]" if ":" in listener["address"] else listener["address"]
    return f"{address}:{listener['port']}/{listener['proto']}"


def endpoints_of(unit: str, *, root: Path = Path("/")) -> list[str]:
    """Return where the processes of a unit listen, for people; none where it has no processes, or a network of its own."""
    pids = _pids_of_units(root, cgroups_below(root).prefix, [unit])
    inodes = {inode for pid in pids for inode in _socket_inodes(root, pid)}
    return sorted({endpoint(socket) for socket in _sockets(root) if socket["inode"] in inodes})


class Cgroups(NamedTuple):
    """Where systemd has its units: in cgroup v2 (``unified``) or in a hierarchy of its own, and below which cgroup.

    In a container, ``prefix`` need not be empty, and the kernel may list hierarchies that only others use.
    """

    unified: bool
    prefix: str

    def unit_of(self, cgroups: str) -> str:
        """Return the unit that a process belongs to, out of its /proc/PID/cgroup; empty for none."""
        path = _cgroup_path(cgroups, self.unified)
        if self.prefix and path.startswith(self.prefix + "/"):
            path = path[len(self.prefix) :]
        return next((part for part in path.split("/") if part.endswith((".service", ".scope"))), "")


def cgroups_below(root: Path) -> Cgroups:
    """Return where the systemd of the host below ``root`` has its units."""
    unified = (root / "sys/fs/cgroup/cgroup.controllers").exists()
    return Cgroups(unified, _cgroup_path(_read(root / "proc/1/cgroup"), unified).removesuffix("/init.scope").rstrip("/"))


def filesystem_of(mountinfo: str, path: str) -> tuple[str, str]:
    """Return mount point and type of the filesystem that holds ``path``, out of /proc/self/mountinfo; empty if unknown."""
    best = ("", "")
    for line in mountinfo.splitlines():
        before, _dash, after = line.partition(" - ")
        mount = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        # Of mounts over each other at one place the last is the visible one.
        if len(mount) >= len(best[0]) and (path == mount or path.startswith(mount.rstrip("/") + "/")):
            best = (mount, after.split(" ")[0])
    return best


def _at(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _read(path: Path) -> str:
    """Return a file's text, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpus() -> int:
    # Of process 1, because a login session may be confined to fewer processors than services are.
    try:
        return len(os.sched_getaffinity(1))
    except OSError:
        return os.cpu_count() or 1


def _memory_bytes(root: Path) -> int | None:
    """Return the memory of the machine, or of the container that it is."""
    amounts = [meminfo_bytes(_read(root / "proc/meminfo"), "MemTotal")]
    for path in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(root / path).strip()
        if limit.isdigit() and int(limit) < _UNLIMITED_BYTES:
            amounts.append(int(limit))
    known = [amount for amount in amounts if amount is not None]
    return min(known) if known else None


def _disks(root: Path, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    mountinfo = _read(root / "proc/self/mountinfo")
    disks = {}
    for path in dict.fromkeys(paths):
        existing = _nearest_existing(root, path)
        try:
            status = os.statvfs(_at(root, existing))
        except OSError:
            continue  # it vanished, or a dead network filesystem: nothing can be said
        mount, filesystem = filesystem_of(mountinfo, str(Path(existing).resolve()))
        disks[path] = {
            "mount": mount or existing,
            "filesystem": filesystem,
            "total_bytes": status.f_blocks * status.f_frsize,
            "free_bytes": status.f_bavail * status.f_frsize,  # without root's reserve, which no service may use
            "free_inodes": status.f_favail if status.f_files else None,  # btrfs and others count none
            "read_only": bool(status.f_flag & os.ST_RDONLY),
        }
    return disks


def _nearest_existing(root: Path, path: str) -> str:
    while path != "/" and not _at(root, path).exists():
        path = str(Path(path).parent)
    return path


def _measured_iops(root: Path) -> int | None:
    try:
        return int(json.loads(_read(_at(root, IOPS_FILE)))["iops"])
    except (ValueError, KeyError, TypeError):
        return None


def _in_service(releases: Path) -> bool:
    """Return whether any service has a current release; a dangling link counts."""
    try:
        return any((service / "current").is_symlink() for service in releases.iterdir())
    except OSError:
        return False


def _uptime_seconds(text: str) -> float | None:
    try:
        return float(text.split()[0])
    except (ValueError, IndexError):
        return None


def _systemd_version(root: Path) -> str:
    # The version stands in the name of systemd's own library; asking systemctl would cost a process.
    for pattern in ("usr/lib/*/systemd/libsystemd-shared-*.so", "usr/lib*/systemd/libsystemd-shared-*.so", "lib/systemd/libsystemd-shared-*.so"):
        for path in root.glob(pattern):
            match = re.match(r"libsystemd-shared-(\d+)", path.name)
            if match:
                return match[1]
    return ""


def _address(text: str) -> str:
    """Return an address of /proc/net, which is written as 32-bit words in the byte order of the machine."""
    words = [text[start : start + 8] for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _listeners(root: Path, ports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return all listening sockets; those on a wanted port with the processes that hold them."""
    wanted = {(str(one["proto"]), number) for one in ports for number in port_range(one["port"])}
    units = [str(one["unit"]) for one in ports if one.get("unit")]
    sockets = _sockets(root)
    inodes = {socket["inode"] for socket in sockets if (socket["proto"], socket["port"]) in wanted}
    holders = _holders(root, inodes, units) if inodes else {}
    return [{**socket, "processes": holders.get(socket["inode"], [])} for socket in sockets]


def _sockets(root: Path) -> list[dict[str, Any]]:
    tables = [(_read(root / "proc/net" / name), name.rstrip("6"), state) for name, state in _SOCKET_TABLES]
    return [socket for table in tables for socket in parse_sockets(*table)]


def _holders(root: Path, inodes: set[int], units: Sequence[str]) -> dict[int, list[dict[str, Any]]]:
    """Return who holds the sockets of ``inodes``: ``{pid, name, unit, managed}``.

    Usually that is the wanted units themselves. Only when it is not are the open files of all processes read, which
    takes long on a busy machine.
    """
    cgroups = cgroups_below(root)
    found: dict[int, list[dict[str, Any]]] = {}
    for pids in (_pids_of_units(root, cgroups.prefix, units), _all_pids(root)):
        for pid in pids:
            for inode in inodes & _socket_inodes(root, pid):
                found.setdefault(inode, []).append(_process(root, pid, cgroups))
        if inodes <= set(found):
            break
        found.clear()
    return found


def _pids_of_units(root: Path, prefix: str, units: Iterable[str]) -> Iterator[int]:
    for unit in dict.fromkeys(units):
        for place in (f"{base}{below}/system.slice/{unit}/cgroup.procs" for base in _CGROUP_ROOTS for below in dict.fromkeys(("", prefix))):
            pids = _read(root / place).split()
            if pids:
                yield from map(int, pids)
                break


def _all_pids(root: Path) -> Iterator[int]:
    return (int(path.name) for path in (root / "proc").glob("[0-9]*"))


def _socket_inodes(root: Path, pid: int) -> set[int]:
    inodes = set()
    # Files close and processes end while they are looked at; what is gone holds no port.
    with contextlib.suppress(OSError):
        for file in (root / f"proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(file.readlink())
                if target.startswith("socket:["):
                    inodes.add(int(target[8:-1]))
    return inodes


def _process(root: Path, pid: int, cgroups: Cgroups) -> dict[str, Any]:
    unit = cgroups.unit_of(_read(root / f"proc/{pid}/cgroup"))
    managed = bool(unit) and _read(root / f"etc/systemd/system/{unit}").startswith(MANAGED_HEADER)
    return {"pid": pid, "name": _read(root / f"proc/{pid}/comm").strip(), "unit": unit, "managed": managed}


def _cgroup_path(cgroups: str, unified: bool) -> str:
    """Return the path in systemd's own hierarchy: that of cgroup v2, or the named one of cgroup v1 where there is one."""
    paths = {controllers: path for _number, controllers, path in re.findall(r"^(\d+):([^:]*):(.*)$", cgroups, re.MULTILINE)}
    return str(paths.get("" if unified else "name=systemd", paths.get("", "")))
