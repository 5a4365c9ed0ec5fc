# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the next connection would still get through a wanted firewall. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils.ufw_rules import Rule, target_rules


class Connection(NamedTuple):
    """One TCP connection to this host: the peer's end, our end, and the interface that carries our address ("": unknown)."""

    peer: str
    peer_port: int
    local: str
    local_port: int
    interface: str = ""


def refusal(wanted: Mapping[str, Any], observed: Mapping[str, Any], connections: Iterable[Connection]) -> str:
    """Return why the wanted firewall would cut off one of the connections' peers, with a remedy; empty when none is cut off."""
    if not wanted["enabled"]:
        return ""
    rules = target_rules(wanted, observed)
    for connection in connections:
        ipv6 = ipaddress.ip_address(connection.peer).version == 6
        if ipv6 and not wanted["ipv6"]:
            why = "firewall_ipv6 is off, and the connection uses it"
        elif accepts(rules["ipv6" if ipv6 else "ipv4"], wanted["defaults"]["incoming"], connection):
            continue
        else:
            why = f"default incoming is {wanted['defaults']['incoming']}, and no rule lets it in first"
        return (
            f"refused, nothing was changed: with these rules {connection.peer} could not open its next SSH connection "
            f"to port {connection.local_port} ({why})\n"
            f"  → write {connection.local_port} into firewall_ssh_ports and {connection.peer} into firewall_ssh_from, or into firewall_rules "
            f"{{name: ssh, port: {connection.local_port}, proto: tcp, from: {connection.peer}}}; "
            "to rely on the automatic revert alone, firewall_keep_connection: false"
        )
    return ""


def accepts(rules: Iterable[Rule], incoming: str, connection: Connection) -> bool:
    """Whether a new TCP connection like ``connection`` gets in. Where a rule cannot be decided, the answer is the cautious one."""
    peer = ipaddress.ip_address(connection.peer)
    if peer.is_loopback or connection.peer == connection.local:
        return True
    for rule in rules:
        if rule.routed or rule.direction != "in" or not _may_match(rule, connection):
            continue
        lets_in = rule.action in ("allow", "limit")
        if lets_in and not _must_match(rule, connection):
            continue
        return lets_in
    return incoming == "allow"


def _may_match(rule: Rule, connection: Connection) -> bool:
    return (
        rule.proto in ("any", "tcp")
        and _port_within(connection.local_port, rule.port)
        and _within(connection.peer, rule.source)
        and _within(connection.local, rule.destination)
        and (not rule.interface or not connection.interface or rule.interface == connection.interface)
    )


def _must_match(rule: Rule, connection: Connection) -> bool:
    """Whether a rule that may match surely does: the next connection's source port is not known, its interface may not be."""
    understood = all(network == "any" or _is_network(network) for network in (rule.source, rule.destination))
    return understood and rule.source_port == "any" and (not rule.interface or rule.interface == connection.interface)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _within(address: str, network: str) -> bool:
    """Whether an address may lie in a network; also true where the network cannot be understood."""
    try:
        return network == "any" or ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError:
        return True


def _port_within(port: int, ports: str) -> bool:
    if ports == "any":
        return True
    for part in ports.split(","):
        low, _colon, high = part.partition(":")
        if int(low) <= port <= int(high or low):
            return True
    return False
