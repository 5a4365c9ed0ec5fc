# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host exposes, as it really is: how confined its units are, who listens where, and what the firewall lets in."""

from __future__ import annotations

import contextlib
import glob
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import host_facts, programs, ufw_rules, unit_review

UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
"""Where drop-ins may be; an administrator's are in the first, those of `systemctl set-property --runtime` in the second."""

LARGEST = 3
"""How many of the settings that expose a unit most are told."""

_TABLES = (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"))  # listening, unconnected
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_DEFAULT_EPHEMERAL = [32768, 60999]


def look(unit_names: Sequence[str], firewall: Mapping[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Return what the host exposes; changes nothing, and what cannot be read is left out.

    ``units`` holds, for each unit that systemd knows, ``score`` (of 10, with drop-ins), ``causes`` (the settings that add
    most to it) and ``drop_ins`` (paths). ``sockets`` holds every listening socket: ``proto``, ``address``, ``port``, ``unit``
    (empty when it belongs to none of ``unit_names``) and ``closed`` (whether the firewall lets nobody reach it; None where
    the firewall is not ours to look at).
    ``ephemeral`` is the range of ports that programs get when they ask for none. ``firewall`` is the firewall slice.
    """
    observed = ufw_rules.look(firewall) if firewall.get("managed", True) else None
    owners = _owners(unit_names, root)
    return {
        "units": _units(unit_names, root),
        "sockets": [
            {
                "proto": socket["proto"],
                "address": socket["address"],
                "port": socket["port"],
                "unit": owners.get(socket["inode"], ""),
                "closed": is_loopback(socket["address"]) or (None if observed is None else closed(observed, socket["port"], socket["proto"])),
            }
            for socket in _sockets(root)
        ],
        "ephemeral": [int(port) for port in _text(root / "proc/sys/net/ipv4/ip_local_port_range").split()] or _DEFAULT_EPHEMERAL,
    }


def is_loopback(address: str) -> bool:
    """Return whether only the host itself can reach an address."""
    return ipaddress.ip_address(address).is_loopback


def closed(observed: Mapping[str, Any], port: int, proto: str) -> bool:
    """Return whether the firewall lets nobody reach a port, over IPv4 and IPv6. Pure; in doubt it does not.

    ``observed`` is what ``ufw_rules.look`` found. Rules for loopback and for routed traffic play no part.
    """
    if not observed["enabled"] or observed["kernel"]["structure"] or observed["kernel"]["rules"]:
        return False
    rules = ufw_rules.observed_rules(observed)
    families = ["ipv4", "ipv6"] if observed["ipv6"] else ["ipv4"]  # without IPv6, UFW drops all of it
    return all(_family_closed(rules[family], observed["defaults"]["incoming"], port, proto) for family in families)


def _family_closed(rules: Iterable[ufw_rules.Rule], incoming: str, port: int, proto: str) -> bool:
    for rule in rules:
        if rule.routed or rule.direction != "in" or rule.interface == "lo" or rule.proto not in ("any", proto) or not covers(rule.port, port):
            continue
        if rule.action in ("allow", "limit"):
            return False
        if rule.source == rule.destination == rule.source_port == "any" and not rule.interface:
            return True
    return incoming != "allow"


def covers(ports: str, port: int) -> bool:
    """Return whether the ports of a UFW rule (``any``, ``4001``, ``8000:8010``, ``80,443``) include ``port``."""
    return ports == "any" or any(port in host_facts.port_range(part) for part in ports.split(","))


def _units(names: Sequence[str], root: Path) -> dict[str, Any]:
    known = {name: unit_review.exposures(_security(name)).get(name) for name in names}
    return {
        name: {"score": found[0], "causes": [setting for setting, _share in found[1][:LARGEST]], "drop_ins": _drop_ins(name, root)}
        for name, found in known.items()
        if found is not None
    }


def _security(unit: str) -> str:
    """Return what systemd says about a unit's exposure. One call for each, because an unknown unit ends a call for several."""
    return programs.run(["systemd-analyze", "security", "--no-pager", "--", unit], seconds=30).output


def _drop_ins(unit: str, root: Path) -> list[str]:
    patterns = (f"{root}{directory}/{glob.escape(unit)}.d/*.conf" for directory in UNIT_DIRECTORIES)
    return [found.replace(f"{root}/", "/", 1) for pattern in patterns for found in sorted(glob.glob(pattern.replace("//", "/")))]


def _sockets(root: Path) -> list[dict[str, Any]]:
    """Return the listening sockets of the host, each with its inode."""
    return [socket for table, state in _TABLES for socket in host_facts.parse_sockets(_text(root / "proc/net" / table), table.rstrip("6"), state)]


def _owners(unit_names: Iterable[str], root: Path) -> dict[int, str]:
    """Return which of the units holds each socket, by inode."""
    wanted = set(unit_names)
    cgroups = host_facts.cgroups_below(root)
    found = {}
    for process in (root / "proc").glob("[0-9]*"):
        unit = cgroups.unit_of(_text(process / "cgroup"))
        if unit in wanted:
            found.update(dict.fromkeys(_inodes(process / "fd"), unit))
    return found


def _inodes(directory: Path) -> list[int]:
    inodes = []
    # Processes end and files close while they are looked at.
    with contextlib.suppress(OSError):
        for file in directory.iterdir():
            with contextlib.suppress(OSError):
                match = _SOCKET.fullmatch(os.readlink(file))
                if match:
                    inodes.append(int(match[1]))
    return inodes


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
