# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a service's sandbox and resources to systemd's directives: everything closed, save what the service names.

Pure. Measured with ``systemd-analyze security --offline=true`` on Debian 12 (systemd 252) and 13 (systemd 257), the default
sandbox of a daemon that serves the network has an exposure of 1.1 of 10 on both. What it consists of cannot be closed
for such a daemon without knowing it better:

    0.5  PrivateNetwork=                 it has the host's network
    0.3  RestrictAddressFamilies=        it may open internet sockets
    0.1  RestrictAddressFamilies=        it may open local sockets, which logging and sd_notify(3) need
    0.2  IPAddressDeny=                  it may talk to any address; ``egress`` closes that
    0.1  DeviceAllow=                    ProtectClock= lets it read the real-time clock
    0.1  RootDirectory=                  it sees the host's root directory, read-only, because its libraries are there

(The single figures are rounded; the whole is not their sum.) With ``egress: none`` it is 0.9.

The filter of system calls answers EPERM instead of killing, since daemons in Go and Rust try calls that they can do without:
raising a limit or pinning a thread (@resources), changing an owner (@chown, in @privileged). Their everyday calls,
prlimit64 and sched_getaffinity among them, are in @system-service and @default, and stay. A daemon that needs more names
it in ``syscalls``, which is added last, so that ``"@resources"`` gives back what was taken away before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import runtime_directories, unit_text
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

Directive = tuple[str, str]

ALWAYS_ALLOWED_FAMILIES = ("AF_INET", "AF_INET6", "AF_UNIX")

SWITCHES = {
    "realtime": "RestrictRealtime",
    "suid": "RestrictSUIDSGID",
    "personality": "LockPersonality",
    "clock": "ProtectClock",
    "hostname": "ProtectHostname",
    "kernel_logs": "ProtectKernelLogs",
    "kernel_modules": "ProtectKernelModules",
    "kernel_tunables": "ProtectKernelTunables",
    "control_groups": "ProtectControlGroups",
    "write_execute": "MemoryDenyWriteExecute",
}
"""Relaxations that, when true, switch off one directive and nothing else."""

OTHER_KEYS = frozenset(
    (
        "exposure_max", "address_families", "capabilities", "devices", "syscalls", "namespaces", "proc", "proc_subset",
        "private_network", "private_users", "private_tmp", "private_devices", "home", "read_write", "read_only", "inaccessible", "umask",
        "root_groups",
    )
)  # fmt: skip
"""The other keys of a sandbox that this file knows."""

LIMITS = {
    "memory_max": "MemoryMax",
    "memory_high": "MemoryHigh",
    "memory_swap_max": "MemorySwapMax",
    "tasks_max": "TasksMax",
    "nofile": "LimitNOFILE",
    "nproc": "LimitNPROC",
    "memlock": "LimitMEMLOCK",
    "core": "LimitCORE",
    "rtprio": "LimitRTPRIO",
    "cpu_quota": "CPUQuota",
    "cpu_weight": "CPUWeight",
    "cpu_affinity": "CPUAffinity",
    "io_weight": "IOWeight",
    "oom_score_adjust": "OOMScoreAdjust",
    "nice": "Nice",
}
"""Resources and the directives that limit them."""

_SIZES = ("memory_max", "memory_high", "memory_swap_max", "memlock", "core")
_HOMES = {"hidden": "true", "read-only": "read-only", "visible": "false"}


def directives(spec: Mapping[str, Any]) -> list[Directive]:
    """Return the sandbox and the limits of one finished service spec as systemd's directives, in a fixed order.

    Of the spec it reads ``name``, ``account``, ``sandbox``, ``resources``, ``directories``, ``egress`` and ``ports`` (their
    ``sources``, after the join). Raises FleetError, with the inventory path, for what cannot be expressed.
    """
    where = f"fleet_services.{spec['name']}"
    sandbox = spec["sandbox"]
    _require_known(sandbox, {*SWITCHES, *OTHER_KEYS}, f"{where}.sandbox")
    _require_known(spec["resources"], set(LIMITS), f"{where}.resources")
    return unit_text.collect(
        (_files, spec, where),
        (_devices, sandbox, where),
        (_kernel, sandbox),
        (_processes, sandbox),
        (_privileges, sandbox),
        (_system_calls, sandbox, where),
        (_network, spec, where),
        (_limits, spec["resources"]),
    )


def _require_known(given: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise FleetError(f"{where}.{unknown[0]}: no such setting\n  → known: {', '.join(sorted(known))}")


def _switch(on: bool) -> str:
    return "true" if on else "false"


def _switches(sandbox: Mapping[str, Any], names: Iterable[str]) -> list[Directive]:
    return [(SWITCHES[name], _switch(not sandbox[name])) for name in names]


def _files(spec: Mapping[str, Any], where: str) -> list[Directive]:
    """Close the file system, save the service's own directories."""
    sandbox = spec["sandbox"]
    runtime = runtime_directories.of_unit(spec)
    others = [one for one in spec["directories"] if one not in runtime]
    writable = outermost([one["path"] for one in others if one["writable"]] + sandbox["read_write"])
    read_only = [one["path"] for one in others if not one["writable"]] + [f"-{path}" for path in sandbox["read_only"]]
    found = [
        ("ProtectSystem", "strict"),
        ("ProtectHome", _HOMES[sandbox["home"]]),
        ("PrivateTmp", _switch(sandbox["private_tmp"])),
        ("PrivateMounts", "true"),
        *_runtime_directories(runtime, f"{where}.directories"),
    ]
    # The leading "-": what is not there needs no protection, and does not keep the daemon from starting.
    for directive, paths in (
        ("ReadWritePaths", writable),
        ("ReadOnlyPaths", read_only),
        ("InaccessiblePaths", [f"-{path}" for path in sandbox["inaccessible"]]),
    ):
        if paths:
            found.append((directive, unit_text.words(paths, where)))
    return [*found, ("UMask", sandbox["umask"].rjust(4, "0"))]


def _runtime_directories(directories: Sequence[Mapping[str, Any]], where: str) -> list[Directive]:
    if not directories:
        return []
    return [
        ("RuntimeDirectory", unit_text.words([one["path"][len(runtime_directories.RUN) :] for one in directories], where)),
        ("RuntimeDirectoryMode", directories[0]["mode"].rjust(4, "0")),
        ("RuntimeDirectoryPreserve", "true"),
    ]


def outermost(paths: Iterable[str]) -> list[str]:
    """Return the paths in order, without those that lie below another one or stand twice."""
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.rstrip("/") + "/"):
        if not kept or not path.startswith(kept[-1].rstrip("/") + "/"):
            kept.append(path)
    return sorted(kept)


def _devices(sandbox: Mapping[str, Any], where: str) -> list[Directive]:
    # A private /dev has no physical devices at all, so a device that is named needs the host's.
    private = sandbox["private_devices"] and not sandbox["devices"]
    allowed = [("DeviceAllow", unit_text.line(device, f"{where}.sandbox.devices")) for device in sandbox["devices"]]
    return [("PrivateDevices", _switch(private)), ("DevicePolicy", "closed"), *allowed]


def _kernel(sandbox: Mapping[str, Any]) -> list[Directive]:
    return _switches(sandbox, ("clock", "hostname", "kernel_tunables", "kernel_modules", "kernel_logs", "control_groups"))


def _processes(sandbox: Mapping[str, Any]) -> list[Directive]:
    # With proc: all, systemd's own word for it is "default".
    return [
        ("ProtectProc", "default" if sandbox["proc"] == "all" else sandbox["proc"]),
        ("ProcSubset", sandbox["proc_subset"]),
        ("KeyringMode", "private"),
        ("RemoveIPC", "true"),
        ("RestrictNamespaces", " ".join(sorted(sandbox["namespaces"])) or "true"),
        *_switches(sandbox, ("realtime", "personality", "write_execute")),
    ]


def _privileges(sandbox: Mapping[str, Any]) -> list[Directive]:
    capabilities = " ".join(sorted(sandbox["capabilities"]))
    # In a user namespace of its own a capability holds for that namespace only: it could not even bind port 80 of the host.
    private_users = sandbox["private_users"] and not capabilities
    return [
        ("NoNewPrivileges", "true"),
        ("CapabilityBoundingSet", capabilities),
        ("AmbientCapabilities", capabilities),
        ("PrivateUsers", _switch(private_users)),
        *_switches(sandbox, ("suid",)),
    ]


def _system_calls(sandbox: Mapping[str, Any], where: str) -> list[Directive]:
    more = [("SystemCallFilter", unit_text.word(name, f"{where}.sandbox.syscalls")) for name in sandbox["syscalls"]]
    return [
        ("SystemCallArchitectures", "native"),
        ("SystemCallFilter", "@system-service"),
        ("SystemCallFilter", "~@privileged @resources"),
        *more,
        ("SystemCallErrorNumber", "EPERM"),
    ]


def _network(spec: Mapping[str, Any], where: str) -> list[Directive]:
    sandbox = spec["sandbox"]
    families = [*ALWAYS_ALLOWED_FAMILIES, *sorted(set(sandbox["address_families"]) - set(ALWAYS_ALLOWED_FAMILIES))]
    found = [("PrivateNetwork", "true")] if sandbox["private_network"] else []
    return [*found, ("RestrictAddressFamilies", " ".join(families)), *_addresses(spec, where)]


def _addresses(spec: Mapping[str, Any], where: str) -> list[Directive]:
    """Limit the addresses that the service talks to.

    systemd's filter looks at packets of both directions, so who may connect to the service's ports must pass as well.
    """
    if list(spec["egress"]) == ["any"]:
        return []
    for index, port in enumerate(spec["ports"]):
        if "any" in port["sources"]:
            raise FleetError(
                f"{where}.egress: cannot be limited, since port {port['name']} is open to any (ports[{index}].from),"
                " and systemd's filter does not tell answers from connections of the service's own\n  → name who may connect, or set egress: any"
            )
    sources = [source for port in spec["ports"] for source in port["sources"]]
    allowed = dict.fromkeys(address for address in [*spec["egress"], *sources, *spec.get("own_addresses", ())] if address != "none")
    return [("IPAddressDeny", "any"), ("IPAddressAllow", " ".join(["localhost", *allowed]))]


def _limits(resources: Mapping[str, Any]) -> list[Directive]:
    return [(directive, _limit(name, resources[name])) for name, directive in LIMITS.items() if resources.get(name) is not None]


def _limit(name: str, value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return size(value) if name in _SIZES and isinstance(value, int) else str(value)


def size(count: int) -> str:
    """Return a number of bytes as systemd writes it, with the largest suffix that is exact."""
    for suffix in ("", "K", "M", "G"):
        if count == 0 or count % 1024:
            return f"{count}{suffix}"
        count //= 1024
    return f"{count}T"
