# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can carry its services: requirements and facts in, findings out.

Every check has a level of its own. *fail* is for what would break the run or the service for certain, or what the
inventory says a host must have; *warn* for what a run survives, or what a measurement tells only roughly. The inventory
changes the level of a check with ``on_finding: {<check>: fail|warn|ignore}``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils import host_facts
from ansible_collections.hearth.fleet.plugins.module_utils.errors import join_path
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text, size_text

MEMORY_TOLERANCE = 0.12
"""What may be missing: a 1 GB Raspberry Pi reports 0.9 GiB and a 4 GB cloud machine 3.7 GiB, because firmware, kernel and
sellers who count in powers of ten take their share. No machine is sold that close below another size."""

FULL_BYTES = 64 * 2**20
"""A filesystem with less free space than this is full: package manager and daemons fail on it sooner or later."""

_ANY_ADDRESS = ("", "any", "*")


class Finding(NamedTuple):
    """One requirement that a host does not meet.

    ``check`` is a key of ``preflight_policy.CHECKS``, ``level`` fail or warn, ``found`` and ``wanted`` are texts for people, ``remedy`` says
    what to do, ``path`` is the inventory path that sets the requirement.
    """

    check: str
    level: str
    found: str
    wanted: str
    remedy: str
    path: str

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain data, as plans carry it."""
        return self._asdict()

    def __str__(self) -> str:
        return f"{self.check}: {self.found}, wanted: {self.wanted} ({self.path})\n  → {self.remedy}"


def look(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that ``findings`` needs, as ``host_facts.look`` does."""
    return host_facts.look(wanted)


def findings(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Finding]:
    """Return what the host lacks, failures first; empty when it meets every requirement.

    ``requirements`` is the preflight slice; a requirement that is left out or None is met by any host. Beyond the slice's
    own keys: ``clock_offset`` (seconds), ``addresses`` (of the host, for ``dns``), and ``origin`` (check: inventory path
    that set it; by default the role's own input). ``facts`` is the answer of ``host_facts.look``; what it does not carry
    (``controller_time``, ``resolved``, and ``leaving``: the services that the plan takes away) is not judged.
    """
    levels = requirements.get("on_finding") or {}
    found = []
    for check in _CHECKERS:
        for one in check(requirements, facts):
            level = levels.get(one.check, one.level)
            if level != "ignore":
                found.append(Finding(one.check, level, one.found, one.wanted, one.remedy, one.path))
    return sorted(found, key=lambda one: (one.level != "fail", one))


def _origin(requirements: Mapping[str, Any], check: str) -> str:
    return str((requirements.get("origin") or {}).get(check) or f"preflight_{check}")


def _cpus(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    wanted = requirements.get("cpus")
    if wanted and facts["cpus"] < wanted:
        path = _origin(requirements, "cpus")
        yield Finding("cpus", "fail", str(facts["cpus"]), f"at least {wanted}", f"use a bigger machine, or lower {path}", path)


def _memory(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    wanted, found = requirements.get("memory_bytes"), facts["memory_bytes"]
    if not wanted or found is None or found >= wanted * (1 - MEMORY_TOLERANCE):
        return
    path = _origin(requirements, "memory")
    yield Finding("memory", "fail", size_text(found), f"about {size_text(wanted)}", f"use a bigger machine, or lower {path}", path)


def _disk(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    origin = _origin(requirements, "disk")
    for one in requirements.get("disk") or []:
        disk = facts["disks"].get(one["path"])
        if disk is None or disk["free_bytes"] >= one["free_bytes"]:
            continue
        too_small = disk["total_bytes"] < one["free_bytes"]
        path = join_path(origin, one["path"])
        yield Finding(
            "disk",
            "fail" if too_small or not facts["in_service"] else "warn",
            f"{size_text(disk['free_bytes'])} of {size_text(disk['total_bytes'])} free on {disk['mount']}",
            f"{size_text(one['free_bytes'])} for {one['path']}",
            f"{'use a bigger disk' if too_small else 'free some space'}, or lower {path}",
            path,
        )


def _disk_full(_requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    for disk in _mounts(facts):
        if disk["free_bytes"] < FULL_BYTES:
            found, wanted = f"{size_text(disk['free_bytes'])} free on {disk['mount']}", f"at least {size_text(FULL_BYTES)}"
        elif disk["free_inodes"] is not None and disk["free_inodes"] == 0:
            found, wanted = f"no inode free on {disk['mount']}", "room for new files"
        else:
            continue
        remedy = f"see what fills it: du -xh -d2 {disk['mount']} | sort -h"
        yield Finding("disk_full", "fail", found, wanted, remedy, "preflight_on_finding.disk_full")


def _read_only(_requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    for disk in _mounts(facts):
        if disk["read_only"]:
            yield Finding(
                "read_only",
                "fail",
                f"{disk['mount']} ({disk['filesystem'] or 'unknown filesystem'}) is mounted read-only",
                "writable",
                "see `dmesg --level=err`: Linux does this when a disk or SD card is dying; replace it, or remount what was mounted so on purpose",
                "preflight_on_finding.read_only",
            )


def _mounts(facts: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Return each mounted filesystem once, however many of the paths are on it."""
    return {disk["mount"]: disk for disk in facts["disks"].values()}.values()


def _architectures(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    wanted, found = requirements.get("architectures"), facts["architecture"]
    if not wanted or found in wanted:
        return
    path = _origin(requirements, "architectures")
    if not found:
        yield Finding("architectures", "fail", "no dpkg", ", ".join(wanted), "use Debian or one of its relatives", path)
        return
    kernel = f" on a {facts['machine']} kernel" if facts.get("machine") else ""
    remedy = f"provide artifacts for {found} and add it to {path}, or install a system of another architecture"
    yield Finding("architectures", "fail", found + kernel, ", ".join(wanted), remedy, path)


def _python(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    wanted, found = requirements.get("python"), facts["python"]
    if wanted and _version(found) < _version(wanted):
        remedy = f"install a newer Python and point ansible_python_interpreter at it: modules need {wanted}"
        yield Finding("python", "fail", found, f"at least {wanted}", remedy, _origin(requirements, "python"))


def _version(text: object) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(text))[:3])


def _clock(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    clock = facts["clock"]
    if not requirements.get("clock") or clock["synchronized"] is not False:
        return
    without_rtc = "" if clock["has_rtc"] else "; this machine has no battery clock, so its time is wrong after every power loss until then"
    remedy = f"apt-get install systemd-timesyncd (or chrony), and let it reach its servers (udp 123){without_rtc}"
    yield Finding("clock", "warn", "not synchronised", "synchronised by NTP", remedy, _origin(requirements, "clock"))


def _clock_offset(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    limit, reference = requirements.get("clock_offset"), facts.get("controller_time")
    if limit is None or reference is None:
        return
    offset = facts["clock"]["time"] - float(reference)
    if abs(offset) <= limit:
        return
    found = f"{duration_text(round(abs(offset)))} {'ahead of' if offset > 0 else 'behind'} the controller"
    remedy = "set the clocks of both right; certificates, signatures and the retention of backups go by them"
    yield Finding("clock_offset", "warn", found, f"at most {duration_text(int(limit))}", remedy, _origin(requirements, "clock_offset"))


def _iops(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    wanted, found = requirements.get("iops"), facts["iops"]
    if not wanted:
        return
    path = _origin(requirements, "iops")
    if found is None:
        yield Finding("iops_unmeasured", "warn", "not measured", f"at least {wanted}", "a run without --check measures it, once", path)
    elif found < wanted:
        remedy = f"use a faster disk (an SSD instead of an SD card), or lower {path}; to measure again, delete {host_facts.IOPS_FILE}"
        yield Finding("iops", "warn", f"{found} random writes/s", f"at least {wanted}", remedy, path)


def _placement(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    leaving = facts.get("leaving")
    if requirements.get("deserted") and leaving:
        found = f"no host of this inventory has a service, and {', '.join(leaving)} would be taken from this one"
        remedy = "see that -i names the whole inventory, with its group_vars; if they shall go, write preflight_on_finding: {placement: ignore}"
        yield Finding("placement", "fail", found, "a service somewhere", remedy, "preflight_on_finding.placement")


def _ports(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    for wanted in requirements.get("ports") or []:
        # A daemon may hold a port many times over (one socket per thread, IPv4 and IPv6): one finding per holder.
        strangers = {_holder(one): one for one in facts["listeners"] if _in_the_way(wanted, one)}
        for holder, listener in strangers.items():
            managed = any(process["managed"] for process in listener["processes"])
            yield Finding(
                "ports",
                "warn" if managed else "fail",
                f"{holder} listens on {host_facts.endpoint(listener)}",
                f"{listener['port']}/{wanted['proto']} free for {wanted['service']}",
                _port_remedy(wanted, listener, managed),
                _origin(requirements, "ports") if "ports" in (requirements.get("origin") or {}) else f"fleet_services.{wanted['service']}.ports",
            )


def _in_the_way(wanted: Mapping[str, Any], listener: Mapping[str, Any]) -> bool:
    return (
        listener["proto"] == wanted["proto"]
        and listener["port"] in host_facts.port_range(wanted["port"])
        and _overlap(str(wanted.get("address") or ""), listener["address"])
        and all(process["unit"] != wanted["unit"] for process in listener["processes"])
    )


def _overlap(wanted: str, listening: str) -> bool:
    """Return whether a socket on ``wanted`` cannot be opened while one on ``listening`` is.

    An IPv6 socket on ``::`` usually takes the IPv4 port too.
    """
    if wanted in _ANY_ADDRESS:
        return True
    one, other = ipaddress.ip_address(wanted), ipaddress.ip_address(listening)
    if one.version == other.version:
        return one == other or one.is_unspecified or other.is_unspecified
    return any(address.version == 6 and address.is_unspecified for address in (one, other))


def _holder(listener: Mapping[str, Any]) -> str:
    if not listener["processes"]:
        return "a process that cannot be seen (the kernel, or another container)"
    process = listener["processes"][0]
    unit = f", {process['unit']}" if process["unit"] else ""
    return f"{process['name']} (pid {process['pid']}{unit})"


def _port_remedy(wanted: Mapping[str, Any], listener: Mapping[str, Any], managed: bool) -> str:
    unit = next((process["unit"] for process in listener["processes"] if process["unit"]), "")
    elsewhere = f"or give {wanted['service']} another port"
    if managed:
        return f"{unit} is of this fleet too: nothing to do if its service is being removed or moved; {elsewhere} if not"
    if any(process["name"].startswith("sshd") for process in listener["processes"]) or unit.startswith(("ssh.", "sshd.")):
        return f"it is the way to this host: give {wanted['service']} another port, or first move SSH to another one (firewall_ssh_ports)"
    if any(process["pid"] == 1 for process in listener["processes"]):
        return f"systemd itself listens, for a .socket unit: see `systemctl list-sockets`, then systemctl disable --now it, {elsewhere}"
    if unit.endswith(".service"):
        return f"systemctl disable --now {unit}, {elsewhere}"
    return f"stop that process (ss -lnp 'sport = :{listener['port']}'), {elsewhere}"


def _dns(requirements: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    resolved = facts.get("resolved")
    expected = _public(requirements.get("addresses") or [])
    if resolved is None or not expected:
        return
    path = _origin(requirements, "dns")
    for name in requirements.get("dns") or []:
        found = sorted({str(ipaddress.ip_address(address)) for address in resolved.get(name) or []})
        for record, addresses in expected.items():
            if not addresses & set(found):
                wanted = f"{name} {record} {' or '.join(sorted(addresses))}"
                shown = f"{name} leads to {', '.join(found)}" if found else f"{name} does not resolve"
                yield Finding("dns", "warn", shown, wanted, f"add the record to the zone of {name}, or correct {path}", path)


def _public(addresses: Iterable[str]) -> dict[str, set[str]]:
    """Return the host's addresses that a name should lead to, by record type: its public ones, or all if none is."""
    parsed = [ipaddress.ip_address(address) for address in addresses]
    public = [address for address in parsed if address.is_global] or parsed
    by_record: dict[str, set[str]] = {}
    for address in public:
        by_record.setdefault("A" if address.version == 4 else "AAAA", set()).add(str(address))
    return by_record


_CHECKERS: tuple[Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[Finding]], ...] = (
    _architectures,
    _python,
    _read_only,
    _disk_full,
    _disk,
    _cpus,
    _memory,
    _placement,
    _ports,
    _clock,
    _clock_offset,
    _iops,
    _dns,
)
