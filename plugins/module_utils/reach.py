# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who probes whom: for each port of the fleet a host that must get through, and one that must not. Pure.

Only TCP ports are probed: of a UDP port that does not answer nobody can tell whether it is closed. Of a range, the first
port. Ports of SSH never, because the rule that limits SSH counts every connection.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import ufw_rules
from ansible_collections.hearth.fleet.plugins.module_utils.exposure import covers

OPEN, CLOSED = "open", "closed"


def plan_probes(specs_by_host: Mapping[str, Mapping[str, Any]], hosts: Iterable[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return, for each host, the probes that it makes: ``{host, address, port, service, name, expect}``.

    ``specs_by_host`` holds the slices of each host, ``hosts`` those that can be reached (default: all): only they probe and
    are probed. ``expect`` is ``open`` where the rules of the probed host admit the prober, else ``closed``. Each address of a
    port gets one prober of each kind, where there are such hosts. Probers are taken in turn, so that none has all the work.
    """
    names = sorted(specs_by_host if hosts is None else set(hosts) & set(specs_by_host))
    probes: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for index, name in enumerate(names):
        others = names[index + 1 :] + names[:index]
        firewall = _Firewall(specs_by_host[name]["firewall"])
        for target in _targets(name, specs_by_host[name], firewall):
            for expect, prober in _choose(target, others, specs_by_host, firewall).items():
                probes[prober].append({**target, "expect": expect})
    return probes


class _Firewall:
    """The wanted rules of one host, read once."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.enabled = bool(wanted["managed"] and wanted["enabled"])
        self.incoming = str(wanted["defaults"]["incoming"])
        self.ssh_ports = [int(port) for port in wanted["ssh_ports"]]
        self._rules = ufw_rules.wanted_rules(wanted)

    def admits(self, source: str, port: int) -> bool | None:
        """Return whether a TCP connection from ``source`` (empty: somewhere behind a router) gets in; None when the rules alone cannot tell."""
        family = "ipv6" if ":" in source else "ipv4"
        for rule in self._rules[family]:
            if rule.proto not in ("any", "tcp") or not covers(rule.port, port):
                continue
            if rule.source == "any" and not rule.interface:
                return rule.action in ("allow", "limit")
            if source and rule.source != "any" and ipaddress.ip_address(source) not in ipaddress.ip_network(rule.source):
                continue
            if rule.interface or not source:
                return None  # it depends on the way that the connection takes
            return rule.action in ("allow", "limit")
        return self.incoming == "allow"


def _targets(host: str, specs: Mapping[str, Any], firewall: _Firewall) -> Iterator[dict[str, Any]]:
    """Yield what is to be probed of a host, once for each of its addresses."""
    for service, spec in specs["services"].items():
        for port in spec["ports"]:
            number = int(port["port"].partition(":")[0])
            if not port["listen"] or "tcp" not in port["proto"] or number in firewall.ssh_ports:
                continue
            for address in specs["host"]["addresses"]:
                if not (ipaddress.ip_address(address).is_loopback or ipaddress.ip_address(address).is_link_local):
                    yield {"host": host, "address": address, "port": number, "service": service, "name": port["name"]}


def _choose(target: Mapping[str, Any], others: Sequence[str], specs_by_host: Mapping[str, Mapping[str, Any]], firewall: _Firewall) -> dict[str, str]:
    """Return the first of ``others`` that the rules admit (``open``), and the first that they do not (``closed``)."""
    chosen: dict[str, str] = {}
    for other in others:
        expect = _expectation(specs_by_host[other]["host"]["addresses"], target, firewall)
        if expect:
            chosen.setdefault(expect, other)
        if len(chosen) == 2:
            break
    return chosen


def _expectation(addresses: Sequence[str], target: Mapping[str, Any], firewall: _Firewall) -> str:
    """Return what a prober with these addresses must find: open, closed, or nothing when that cannot be said."""
    sources = _sources(addresses, target["address"])
    verdicts = {firewall.admits(source, target["port"]) for source in sources}
    if len(verdicts) != 1 or None in verdicts:
        return ""
    if verdicts.pop():
        return OPEN
    return CLOSED if firewall.enabled else ""


def _sources(addresses: Sequence[str], address: str) -> list[str]:
    """Return the addresses that a connection to ``address`` may come from; none when there is no way, "" for one behind a router."""
    target = ipaddress.ip_address(address)
    same = [one for one in map(ipaddress.ip_address, addresses) if one.version == target.version]
    alike = [str(one) for one in same if one.is_global == target.is_global]
    if alike or not same or not target.is_global:
        return alike
    return [""]  # a private address on its way to a public one: a router puts its own in its place
