# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host without the right means looks like to preflight."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import preflight, preflight_policy

GIB = 2**30
PORT = {"service": "web", "port": "8080", "proto": "tcp", "unit": "web.service"}


def disk(**more):
    return {"mount": "/", "filesystem": "ext4", "total_bytes": 50 * GIB, "free_bytes": 30 * GIB, "free_inodes": 10**6, "read_only": False, **more}


def listener(address="0.0.0.0", port=8080, proto="tcp", *processes):
    return {"proto": proto, "address": address, "port": port, "inode": 1, "processes": list(processes)}


def process(unit, name="nginx", pid=42, managed=False):
    return {"pid": pid, "name": name, "unit": unit, "managed": managed}


FACTS = {
    "architecture": "arm64",
    "machine": "aarch64",
    "python": "3.11.2",
    "cpus": 4,
    "memory_bytes": 8 * GIB,
    "disks": {path: disk() for path in ("/", "/etc", "/var/lib")},
    "clock": {"synchronized": True, "time": 1_700_000_000.0, "has_rtc": True},
    "listeners": [],
    "iops": 900,
    "in_service": False,
    "controller_time": 1_700_000_000.0,
    "resolved": {"anchor1.example.org": ["203.0.113.5", "2001:db8::5"]},
}


def judge(requirements, **facts):
    return preflight.findings(requirements, {**copy.deepcopy(FACTS), **facts})


def test_a_host_that_has_everything_has_no_findings():
    requirements = {
        "cpus": 4,
        "memory_bytes": 8 * GIB,
        "disk": [{"path": "/var/lib", "free_bytes": 20 * GIB}],
        "architectures": ["amd64", "arm64"],
        "python": "3.9",
        "clock": True,
        "clock_offset": 30,
        "iops": 500,
        "dns": ["anchor1.example.org"],
        "addresses": ["203.0.113.5"],
        "ports": [PORT],
        "on_finding": {},
    }
    assert judge(requirements) == []
    assert judge({}) == []
    assert judge({"deserted": True}, leaving=[]) == []
    assert judge({"deserted": False}, leaving=["node"]) == []


@pytest.mark.parametrize(
    ("requirements", "facts", "check", "level", "found", "wanted"),
    [
        pytest.param({"cpus": 8}, {}, "cpus", "fail", "4", "at least 8", id="cpus"),
        pytest.param(
            {"deserted": True},
            {"leaving": ["node", "web"]},
            "placement",
            "fail",
            "no host of this inventory has a service, and node, web would be taken from this one",
            "a service somewhere",
            id="placement",
        ),
        pytest.param({"memory_bytes": 8 * GIB}, {"memory_bytes": 7 * GIB}, "memory", "fail", "7.0 GiB", "about 8.0 GiB", id="memory"),
        pytest.param({"architectures": ["amd64"]}, {}, "architectures", "fail", "arm64 on a aarch64 kernel", "amd64", id="architecture"),
        pytest.param(
            {"architectures": ["arm64"]},
            {"architecture": "armhf"},
            "architectures",
            "fail",
            "armhf on a aarch64 kernel",
            "arm64",
            id="userland-not-kernel",
        ),
        pytest.param({"architectures": ["arm64"]}, {"architecture": ""}, "architectures", "fail", "no dpkg", "arm64", id="no-dpkg"),
        pytest.param({"python": "3.9"}, {"python": "3.8.10"}, "python", "fail", "3.8.10", "at least 3.9", id="python"),
        pytest.param({"python": "3.9"}, {"python": "2.7.18"}, "python", "fail", "2.7.18", "at least 3.9", id="python-2"),
        pytest.param(
            {"disk": [{"path": "/var/lib", "free_bytes": 40 * GIB}]},
            {},
            "disk",
            "fail",
            "30.0 GiB of 50.0 GiB free on /",
            "40.0 GiB for /var/lib",
            id="disk",
        ),
        pytest.param(
            {"disk": [{"path": "/var/lib", "free_bytes": 40 * GIB}]},
            {"in_service": True},
            "disk",
            "warn",
            "30.0 GiB of 50.0 GiB free on /",
            "40.0 GiB for /var/lib",
            id="disk-of-a-host-in-service",
        ),
        pytest.param(
            {"disk": [{"path": "/var/lib", "free_bytes": 60 * GIB}]},
            {"in_service": True},
            "disk",
            "fail",
            "30.0 GiB of 50.0 GiB free on /",
            "60.0 GiB for /var/lib",
            id="disk-that-can-never-do",
        ),
        pytest.param(
            {"clock": True},
            {"clock": {"synchronized": False, "time": 0, "has_rtc": True}},
            "clock",
            "warn",
            "not synchronised",
            "synchronised by NTP",
            id="clock",
        ),
        pytest.param({"iops": 1000}, {}, "iops", "warn", "900 random writes/s", "at least 1000", id="iops"),
        pytest.param({"iops": 1000}, {"iops": None}, "iops_unmeasured", "warn", "not measured", "at least 1000", id="iops-unmeasured"),
    ],
)
def test_findings(requirements, facts, check, level, found, wanted):
    [one] = judge(requirements, **facts)
    assert (one.check, one.level, one.found, one.wanted) == (check, level, found, wanted)
    assert one.check in preflight_policy.CHECKS
    assert one.remedy
    assert one.path.startswith("preflight_")


@pytest.mark.parametrize(
    ("memory_bytes", "enough"),
    [
        pytest.param(int(0.9 * GIB), True, id="1-GB-Pi"),
        pytest.param(int(0.74 * GIB), False, id="768-MB"),
    ],
)
def test_memory_that_firmware_keeps_is_not_missed(memory_bytes, enough):
    assert (judge({"memory_bytes": GIB}, memory_bytes=memory_bytes) == []) is enough


def test_memory_that_cannot_be_read_is_not_judged():
    assert judge({"memory_bytes": GIB}, memory_bytes=None) == []


@pytest.mark.parametrize(
    ("state", "check", "found"),
    [
        pytest.param({"read_only": True}, "read_only", "/ (ext4) is mounted read-only", id="read-only"),
        pytest.param({"free_bytes": 2**20}, "disk_full", "1.0 MiB free on /", id="full"),
        pytest.param({"free_inodes": 0}, "disk_full", "no inode free on /", id="no-inodes"),
    ],
)
def test_f57_a_dying_or_full_disk_fails_once_per_filesystem(state, check, found):
    [one] = judge({}, disks={path: disk(**state) for path in ("/", "/etc", "/opt")})
    assert (one.check, one.level, one.found) == (check, "fail", found)


def test_f57_a_filesystem_that_counts_no_inodes_is_not_full():
    assert judge({}, disks={"/": disk(free_inodes=None)}) == []


@pytest.mark.parametrize(
    ("time", "found"),
    [
        pytest.param(1_700_000_090.0, "1m30s ahead of the controller", id="ahead"),
        pytest.param(1_699_996_400.0, "1h behind the controller", id="behind"),
        pytest.param(1_700_000_029.0, None, id="close-enough"),
    ],
)
def test_f11_a_clock_that_is_off_is_reported(time, found):
    findings = judge({"clock_offset": 30}, clock={"synchronized": True, "time": time, "has_rtc": True})
    assert [one.found for one in findings] == ([found] if found else [])


def test_f11_a_host_without_a_battery_clock_is_told_what_that_means():
    [one] = judge({"clock": True}, clock={"synchronized": False, "time": 0, "has_rtc": False})
    assert "no battery clock" in one.remedy


def test_a_clock_that_cannot_be_asked_is_not_judged():
    assert judge({"clock": True}, clock={"synchronized": None, "time": 0, "has_rtc": True}) == []


@pytest.mark.parametrize(
    ("wanted", "one", "level", "found"),
    [
        pytest.param(
            PORT,
            listener("0.0.0.0", 8080, "tcp", process("nginx.service")),
            "fail",
            "nginx (pid 42, nginx.service) listens on 0.0.0.0:8080/tcp",
            id="stranger",
        ),
        pytest.param(PORT, listener("::", 8080, "tcp", process("")), "fail", "nginx (pid 42) listens on [::]:8080/tcp", id="no-unit"),
        pytest.param(
            PORT,
            listener("127.0.0.1", 8080),
            "fail",
            "a process that cannot be seen (the kernel, or another container) listens on 127.0.0.1:8080/tcp",
            id="unseen",
        ),
        pytest.param(
            PORT,
            listener("::", 8080, "tcp", process("old.service", managed=True)),
            "warn",
            "nginx (pid 42, old.service) listens on [::]:8080/tcp",
            id="ours-too",
        ),
        pytest.param(
            PORT, listener("::", 8080, "tcp", process("init.scope", "systemd", 1), process("web.service")), None, None, id="socket-activated"
        ),
        pytest.param(PORT, listener("::", 8080, "tcp", process("web.service")), None, None, id="its-own"),
        pytest.param(PORT, listener("::", 8080, "udp", process("nginx.service")), None, None, id="other-protocol"),
        pytest.param(PORT, listener("::", 8081, "tcp", process("nginx.service")), None, None, id="other-port"),
        pytest.param(
            {**PORT, "port": "8000:8100"},
            listener("::", 8081, "tcp", process("x.service")),
            "fail",
            "nginx (pid 42, x.service) listens on [::]:8081/tcp",
            id="range",
        ),
        pytest.param({**PORT, "address": "127.0.0.1"}, listener("127.0.0.53", 8080, "tcp", process("x.service")), None, None, id="other-address"),
        pytest.param({**PORT, "address": "127.0.0.1"}, listener("::1", 8080, "tcp", process("x.service")), None, None, id="other-family"),
        pytest.param(
            {**PORT, "address": "127.0.0.1"},
            listener("::", 8080, "tcp", process("x.service")),
            "fail",
            "nginx (pid 42, x.service) listens on [::]:8080/tcp",
            id="both-families",
        ),
        pytest.param({**PORT, "address": "::1"}, listener("0.0.0.0", 8080, "tcp", process("x.service")), None, None, id="ipv4-wildcard-leaves-ipv6"),
    ],
)
def test_ports_that_strangers_hold(wanted, one, level, found):
    findings = judge({"ports": [wanted]}, listeners=[one])
    assert [(one.level, one.found) for one in findings] == ([(level, found)] if level else [])


@pytest.mark.parametrize("unit", ["ssh.service", "sshd.service", "ssh.socket"])
def test_nobody_is_told_to_stop_the_way_in(unit):
    [one] = judge({"ports": [PORT]}, listeners=[listener("::", 8080, "tcp", process(unit))])
    assert one.remedy == "it is the way to this host: give web another port, or first move SSH to another one (firewall_ssh_ports)"


def test_a_stranger_with_many_sockets_is_one_finding_with_the_services_own_path():
    [one] = judge({"ports": [PORT]}, listeners=[listener(address, 8080, "tcp", process("nginx.service")) for address in ("0.0.0.0", "::", "0.0.0.0")])
    assert one.path == "fleet_services.web.ports"
    assert one.remedy == "systemctl disable --now nginx.service, or give web another port"


@pytest.mark.parametrize(
    ("addresses", "resolved", "said"),
    [
        pytest.param(["203.0.113.5"], {}, ["anchor1.example.org does not resolve"], id="no-record"),
        pytest.param(["198.51.100.1"], {"anchor1.example.org": ["203.0.113.5"]}, ["anchor1.example.org leads to 203.0.113.5"], id="elsewhere"),
        pytest.param(["203.0.113.5"], {"anchor1.example.org": ["203.0.113.5", "203.0.113.6"]}, [], id="shared-name"),
        pytest.param(
            ["8.8.8.8", "2001:4860::5"], {"anchor1.example.org": ["8.8.8.8"]}, ["anchor1.example.org leads to 8.8.8.8"], id="no-ipv6-record"
        ),
        pytest.param(["8.8.8.8", "10.0.0.2", "fd00::2"], {"anchor1.example.org": ["8.8.8.8"]}, [], id="private-addresses-need-no-record"),
        pytest.param(["10.0.0.2", "fd00::2"], {"anchor1.example.org": ["10.0.0.2", "fd00:0::2"]}, [], id="private-fleet"),
        pytest.param([], {}, [], id="addresses-unknown"),
        pytest.param(["203.0.113.5"], None, [], id="not-resolved-here"),
    ],
)
def test_names_must_lead_to_the_host(addresses, resolved, said):
    findings = judge({"dns": ["anchor1.example.org"], "addresses": addresses}, resolved=resolved)
    assert [one.found for one in findings] == said
    assert {one.level for one in findings} <= {"warn"}


@pytest.mark.parametrize(("level", "levels"), [("fail", ["fail"]), ("warn", ["warn"]), ("ignore", [])])
def test_the_inventory_decides_what_a_finding_means(level, levels):
    assert [one.level for one in judge({"cpus": 8, "on_finding": {"cpus": level}})] == levels


def test_failures_stand_first_and_origins_are_named():
    findings = judge({"cpus": 8, "iops": 1000, "python": "3.12", "origin": {"cpus": "fleet_tiers.tier0.requires.cpus"}})
    assert [(one.level, one.path) for one in findings] == [
        ("fail", "fleet_tiers.tier0.requires.cpus"),
        ("fail", "preflight_python"),
        ("warn", "preflight_iops"),
    ]
    assert set(findings[0].as_dict()) == {"check", "level", "found", "wanted", "remedy", "path"}


def finding(check, found, level="fail"):
    return {"check": check, "level": level, "found": found, "wanted": "more", "remedy": "get it", "path": f"preflight_{check}"}


LITTLE_MEMORY, NO_DIGEST, BAD_CLOCK = finding("memory", "0.5 GiB"), finding("digest", "no digest for armhf"), finding("clock", "off", "warn")
UNCHANGED = "No host was changed. The table above says what each of them lacks, and what to do about it."


@pytest.mark.parametrize(
    ("found", "limit", "said"),
    [
        pytest.param({"pi": []}, "", [], id="nothing"),
        pytest.param({"pi": [BAD_CLOCK], "relay1": [LITTLE_MEMORY]}, "", [], id="only-others-fail"),
        pytest.param(
            {"pi": [LITTLE_MEMORY, finding("ports", "nginx"), LITTLE_MEMORY, BAD_CLOCK], "relay1": [BAD_CLOCK]},
            "",
            [
                "pi cannot carry its services: memory: 0.5 GiB; ports: nginx; memory: 0.5 GiB",
                UNCHANGED,
                "  → to go on with the others meanwhile: --limit '!pi'",
                "  → to go on regardless: preflight_on_finding: {memory: warn, ports: warn}",
            ],
            id="checks-are-named-once",
        ),
        pytest.param(
            {"pi": [NO_DIGEST], "relay1": [LITTLE_MEMORY]},
            "tier1:pi",
            [
                "pi cannot carry its services: digest: no digest for armhf",
                UNCHANGED,
                "  → to go on with the others meanwhile: --limit 'tier1:pi:!pi:!relay1'",
            ],
            id="a-missing-digest-cannot-be-forgiven-and-a-limit-is-kept",
        ),
    ],
)
def test_what_stops_the_run_says_how_to_go_on(found, limit, said):
    assert preflight_policy.refusal(found, "pi", limit).splitlines() == said


def test_mistakes_in_on_finding_are_named():
    mistakes = preflight_policy.on_finding_mistakes({"cpu": "warn", "clock": "error", "disk": "ignore"}, "preflight_on_finding")
    assert [str(one) for one in mistakes] == [
        "preflight_on_finding.cpu: there is no such check\n  → did you mean 'cpus'?",
        "preflight_on_finding.clock: 'error' is not a level\n  → write one of fail, warn, ignore",
    ]
