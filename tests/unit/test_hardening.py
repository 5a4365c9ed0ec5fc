# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox: strict by default, and every relaxation switches off exactly what it names."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import hardening, unit_review
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake
from ansible_collections.hearth.fleet.plugins.module_utils.service_schema import RESOURCES, SANDBOX

DIRECTORIES = [{"path": "/var/lib/relay", "owner": "relay", "group": "relay", "mode": "0750", "writable": True}]


def spec(**more: Any) -> dict[str, Any]:
    """Return what hardening reads of a finished spec; ``sandbox`` and ``resources`` are filled with the schema's defaults."""
    sandbox, resources = more.pop("sandbox", {}), more.pop("resources", {})
    return {
        "name": "relay",
        "account": {"user": "relay", "group": "relay"},
        "directories": DIRECTORIES,
        "egress": ["any"],
        "ports": [],
        "sandbox": {**SANDBOX.read({}, "", []), **sandbox},
        "resources": {**RESOURCES.read({}, "", []), **resources},
        **more,
    }


def lines(**more: Any) -> list[str]:
    return [f"{directive}={value}" for directive, value in hardening.directives(spec(**more))]


STRICT = """\
ProtectSystem=strict
ProtectHome=true
PrivateTmp=true
PrivateMounts=true
ReadWritePaths=/var/lib/relay
UMask=0077
PrivateDevices=true
DevicePolicy=closed
ProtectClock=true
ProtectHostname=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectProc=invisible
ProcSubset=pid
KeyringMode=private
RemoveIPC=true
RestrictNamespaces=true
RestrictRealtime=true
LockPersonality=true
MemoryDenyWriteExecute=true
NoNewPrivileges=true
CapabilityBoundingSet=
AmbientCapabilities=
PrivateUsers=true
RestrictSUIDSGID=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LimitCORE=0
""".splitlines()


def test_strict_by_default() -> None:
    assert lines() == STRICT


@pytest.mark.parametrize(
    ("relaxation", "gone", "instead"),
    [
        *(pytest.param({name: True}, [f"{directive}=true"], [f"{directive}=false"], id=name) for name, directive in hardening.SWITCHES.items()),
        pytest.param({"home": "read-only"}, ["ProtectHome=true"], ["ProtectHome=read-only"], id="home-read-only"),
        pytest.param({"home": "visible"}, ["ProtectHome=true"], ["ProtectHome=false"], id="home-visible"),
        pytest.param({"private_tmp": False}, ["PrivateTmp=true"], ["PrivateTmp=false"], id="private-tmp"),
        pytest.param({"private_users": False}, ["PrivateUsers=true"], ["PrivateUsers=false"], id="private-users"),
        pytest.param({"private_devices": False}, ["PrivateDevices=true"], ["PrivateDevices=false"], id="private-devices"),
        pytest.param({"private_network": True}, [], ["PrivateNetwork=true"], id="private-network"),
        pytest.param(
            {"devices": ["/dev/ttyACM0 rw"]},
            ["PrivateDevices=true"],
            ["PrivateDevices=false", "DeviceAllow=/dev/ttyACM0 rw"],
            id="device-needs-the-hosts-dev",
        ),
        pytest.param({"proc": "all"}, ["ProtectProc=invisible"], ["ProtectProc=default"], id="proc"),
        pytest.param({"proc_subset": "all"}, ["ProcSubset=pid"], ["ProcSubset=all"], id="proc-subset"),
        pytest.param({"namespaces": ["user", "net"]}, ["RestrictNamespaces=true"], ["RestrictNamespaces=net user"], id="namespaces"),
        pytest.param({"syscalls": ["@resources", "~@obsolete"]}, [], ["SystemCallFilter=@resources", "SystemCallFilter=~@obsolete"], id="syscalls"),
        pytest.param(
            {"address_families": ["AF_NETLINK", "AF_INET"]},
            ["RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"],
            ["RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK"],
            id="address-families",
        ),
        pytest.param(
            {"capabilities": ["CAP_NET_BIND_SERVICE"]},
            ["CapabilityBoundingSet=", "AmbientCapabilities=", "PrivateUsers=true"],
            ["CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "AmbientCapabilities=CAP_NET_BIND_SERVICE", "PrivateUsers=false"],
            id="capability-needs-the-hosts-users",
        ),
        pytest.param({"read_write": ["/srv/a b"]}, ["ReadWritePaths=/var/lib/relay"], ['ReadWritePaths="/srv/a b" /var/lib/relay'], id="read-write"),
        pytest.param({"read_write": ["/var/lib/relay/x"]}, [], [], id="read-write-below-another"),
        pytest.param({"read_only": ["/etc/foo"]}, [], ["ReadOnlyPaths=-/etc/foo"], id="read-only"),
        pytest.param({"inaccessible": ["/mnt"]}, [], ["InaccessiblePaths=-/mnt"], id="inaccessible"),
        pytest.param({"umask": "027"}, ["UMask=0077"], ["UMask=0027"], id="umask"),
        pytest.param({"exposure_max": 9.9}, [], [], id="threshold-relaxes-nothing"),
    ],
)
def test_a_relaxation_switches_off_exactly_what_it_names(relaxation: dict[str, Any], gone: list[str], instead: list[str]) -> None:
    found = lines(sandbox=relaxation)
    assert sorted(set(STRICT) - set(found)) == sorted(gone)
    assert sorted(set(found) - set(STRICT)) == sorted(instead)


def test_syscalls_of_the_service_come_last_so_that_they_give_back_what_was_taken() -> None:
    filters = [line for line in lines(sandbox={"syscalls": ["@resources"]}) if line.startswith("SystemCallFilter=")]
    assert filters == ["SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources", "SystemCallFilter=@resources"]


def test_every_key_of_the_schema_is_known_here() -> None:
    assert set(SANDBOX.fields) == {*hardening.SWITCHES, *hardening.OTHER_KEYS}
    assert set(RESOURCES.fields) == set(hardening.LIMITS)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        pytest.param({"sandbox": {"jit": True}}, "fleet_services.relay.sandbox.jit: no such setting", id="sandbox"),
        pytest.param({"resources": {"memory": 1}}, "fleet_services.relay.resources.memory: no such setting", id="resources"),
    ],
)
def test_an_unknown_relaxation_is_an_error(part: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetError, match=re.escape(said)):
        hardening.directives(spec(**part))


def port(*sources: str) -> dict[str, Any]:
    return {"name": "http", "sources": list(sources)}


@pytest.mark.parametrize(
    ("egress", "ports", "allowed"),
    [
        pytest.param(["any"], [port("any")], None, id="any"),
        pytest.param(["none"], [], "localhost", id="none"),
        pytest.param([], [], "localhost", id="a-group-of-only-this-host"),
        pytest.param(["192.0.2.0/24", "2001:db8::1"], [port("none")], "localhost 192.0.2.0/24 2001:db8::1", id="list"),
        pytest.param(["192.0.2.1"], [port("198.51.100.7", "192.0.2.1")], "localhost 192.0.2.1 198.51.100.7", id="who-may-connect-passes-too"),
    ],
)
def test_egress(egress: list[str], ports: list[dict[str, Any]], allowed: str | None) -> None:
    found = [line for line in lines(egress=egress, ports=ports) if line.startswith("IPAddress")]
    assert found == ([] if allowed is None else ["IPAddressDeny=any", f"IPAddressAllow={allowed}"])


def test_a_limit_leaves_a_host_its_own_addresses() -> None:
    found = lines(egress=["none"], ports=[port("none")], own_addresses=["192.0.2.9", "2001:db8::9"])
    assert "IPAddressAllow=localhost 192.0.2.9 2001:db8::9" in found


def test_egress_cannot_be_limited_for_a_port_that_is_open_to_any() -> None:
    with pytest.raises(FleetError, match=r"^fleet_services\.relay\.egress: cannot be limited, since port http is open to any"):
        hardening.directives(spec(egress=["none"], ports=[port("any")]))


def directory(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "owner": "relay", "group": "relay", "mode": "0750", "writable": True, **more}


@pytest.mark.parametrize(
    ("directories", "found"),
    [
        pytest.param([directory("/srv/b"), directory("/srv/a"), directory("/srv/a/x")], ["ReadWritePaths=/srv/a /srv/b"], id="nested-and-sorted"),
        pytest.param([directory("/srv/a"), directory("/srv/a-b"), directory("/srv/a/x")], ["ReadWritePaths=/srv/a /srv/a-b"], id="same-beginning"),
        pytest.param(
            [directory("/srv/a"), directory("/srv/a/keys", writable=False)],
            ["ReadWritePaths=/srv/a", "ReadOnlyPaths=/srv/a/keys"],
            id="read-only-inside",
        ),
        pytest.param(
            [directory("/run/relay")],
            ["RuntimeDirectory=relay", "RuntimeDirectoryMode=0750", "RuntimeDirectoryPreserve=true"],
            id="run-vanishes-at-boot",
        ),
        pytest.param([directory("/run/relay", owner="root")], ["ReadWritePaths=/run/relay"], id="run-of-another-owner"),
        pytest.param([directory("/run/relay", group="adm")], ["ReadWritePaths=/run/relay"], id="run-of-another-group"),
        pytest.param([directory("/run/relay", writable=False)], ["ReadOnlyPaths=/run/relay"], id="run-to-be-read"),
        pytest.param(
            [directory("/run/b", mode="750"), directory("/run/a")],
            ["RuntimeDirectory=b a", "RuntimeDirectoryMode=0750", "RuntimeDirectoryPreserve=true"],
            id="run-of-one-mode",
        ),
        pytest.param([directory("/run/b", mode="0755"), directory("/run/a")], ["ReadWritePaths=/run/a /run/b"], id="run-of-two-modes"),
        pytest.param([directory("/run/b", group="adm"), directory("/run/a")], ["ReadWritePaths=/run/a /run/b"], id="run-of-two-groups"),
        pytest.param([], [], id="none"),
    ],
)
def test_directories(directories: list[dict[str, Any]], found: list[str]) -> None:
    paths = [line for line in lines(directories=directories) if line.startswith(("Read", "Runtime"))]
    assert paths == found


def test_limits() -> None:
    resources = {
        "memory_max": 4 * 2**30, "memory_high": 1536 * 2**20, "memory_swap_max": 0, "memlock": 2**26, "nofile": 65535, "nproc": 4096,
        "tasks_max": 512, "cpu_quota": "150%", "cpu_weight": 50, "cpu_affinity": ["0-3", "6"], "io_weight": 60, "core": 0, "rtprio": 50,
        "oom_score_adjust": -100, "nice": 5,
    }  # fmt: skip
    assert lines(resources=resources)[-15:] == [
        "MemoryMax=4G", "MemoryHigh=1536M", "MemorySwapMax=0", "TasksMax=512", "LimitNOFILE=65535", "LimitNPROC=4096", "LimitMEMLOCK=64M",
        "LimitCORE=0", "LimitRTPRIO=50", "CPUQuota=150%", "CPUWeight=50", "CPUAffinity=0-3 6", "IOWeight=60", "OOMScoreAdjust=-100", "Nice=5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "line"),
    [
        pytest.param({"memory_max": "80%"}, "MemoryMax=80%", id="share-of-the-hosts-memory"),
        pytest.param({"memory_high": "infinity"}, "MemoryHigh=infinity", id="memory"),
        pytest.param({"memory_swap_max": "10 %"}, "MemorySwapMax=10%", id="swap"),
        pytest.param({"tasks_max": "50%"}, "TasksMax=50%", id="share-of-the-tasks"),
        pytest.param({"tasks_max": "infinity"}, "TasksMax=infinity", id="tasks"),
        pytest.param({"memlock": "infinity"}, "LimitMEMLOCK=infinity", id="memlock"),
        pytest.param({"memlock": "8M"}, "LimitMEMLOCK=8M", id="memlock-of-a-size"),
        pytest.param({"core": "infinity"}, "LimitCORE=infinity", id="core"),
        pytest.param({"nofile": "infinity"}, "LimitNOFILE=infinity", id="nofile"),
        pytest.param({"nproc": "infinity"}, "LimitNPROC=infinity", id="nproc"),
        pytest.param({"cpu_affinity": 0}, "CPUAffinity=0", id="one-cpu"),
        pytest.param({"cpu_affinity": [1, "4-7"]}, "CPUAffinity=1 4-7", id="cpus"),
    ],
)
def test_a_limit_is_what_systemd_takes(written: dict[str, Any], line: str) -> None:
    mistakes: list[Mistake] = []
    assert line in lines(resources=RESOURCES.read(written, "resources", mistakes))
    assert mistakes == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param(
            {"memory_max": "4 gigs"}, "'4 gigs' is not a size\n  → write it like 512M, 4G or 1.5G, '80%' of the host's, or infinity", id="size"
        ),
        pytest.param({"memory_max": 512}, "512 is 512 bytes, which no daemon can live with\n  → write it with its unit, such as 512M", id="no-unit"),
        pytest.param({"memory_high": 0}, "0 is 0 bytes, which no daemon can live with\n  → write it with its unit, such as 512M", id="nothing"),
        pytest.param({"memory_max": "120%"}, "120% is out of range\n  → percentages go from 1% to 100%", id="more-than-there-is"),
        pytest.param({"tasks_max": "0%"}, "0% is out of range\n  → percentages go from 1% to 100%", id="no-share"),
        pytest.param({"tasks_max": "max"}, "'max' (a text) is not a whole number\n  → write a number, '80%' of the host's, or infinity", id="tasks"),
        pytest.param({"memlock": "unlimited"}, "'unlimited' is not a size\n  → write it like 512M, 4G or 1.5G, or infinity", id="of-the-shell"),
        pytest.param({"memlock": "50%"}, "'50%' is not a size\n  → write it like 512M, 4G or 1.5G, or infinity", id="no-share-of-a-process"),
        pytest.param({"nofile": 0}, "0 is out of range\n  → write a number from 1 to 9223372036854775807, or infinity", id="no-files"),
        pytest.param({"cpu_quota": "0%"}, "'0%' is not a percentage, such as '150%'", id="no-cpu-time"),
        pytest.param({"cpu_affinity": "3-0"}, "'3-0' (a text) is not a CPU\n  → write its number, from 0, or a range such as '0-3'", id="backwards"),
        pytest.param({"cpu_affinity": [True]}, "True (a truth value) is not a CPU\n  → write its number, from 0, or a range", id="no-cpu"),
    ],
)
def test_what_is_no_limit_is_said_with_what_is_one(written: dict[str, Any], said: str) -> None:
    mistakes: list[Mistake] = []
    RESOURCES.read(written, "resources", mistakes)
    assert [str(one).partition(": ")[2].startswith(said) for one in mistakes] == [True], mistakes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        pytest.param(0, "0", id="zero"),
        pytest.param(1000, "1000", id="bytes"),
        pytest.param(1024, "1K", id="kilo"),
        pytest.param(3 * 2**29, "1536M", id="exact"),
        pytest.param(2**40, "1T", id="tera"),
        pytest.param(2048 * 2**40, "2048T", id="beyond"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert hardening.size(count) == text


def analyze(directory: Path, **more: Any) -> float:
    """Return what this machine's systemd says about the exposure of a unit with these directives."""
    body = "\n".join(lines(**more))
    file = directory / "relay.service"
    file.write_text(f"[Service]\nUser=relay\nNotifyAccess=main\nExecStart=/bin/true\n{body}\n")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)]
    return unit_review.exposures(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["relay.service"][0]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="measures with the systemd of this machine")
@pytest.mark.parametrize(
    ("more", "highest"),
    [
        pytest.param({}, 1.1, id="default"),
        pytest.param({"egress": ["none"]}, 0.9, id="no-egress"),
        pytest.param({"sandbox": {"private_network": True}}, 0.6, id="no-network"),
        pytest.param({"sandbox": {"capabilities": ["CAP_NET_BIND_SERVICE"]}}, 1.4, id="low-port"),
        pytest.param({"sandbox": {"write_execute": True}}, 1.2, id="jit"),
    ],
)
def test_f55_exposure(tmp_path: Path, more: dict[str, Any], highest: float) -> None:
    assert analyze(tmp_path, **more) <= highest
