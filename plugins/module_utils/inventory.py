# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory says, as plain data: its hosts, their addresses, and who is behind a group's name."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.schema import suggest


@dataclass
class Host:
    """What the inventory says about one host, as plain data.

    ``groups`` in the order in which Ansible lets their variables win (parents first). ``catalogue`` holds the descriptions
    of the services placed here, with the host's own variables filled in.
    """

    name: str
    groups: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    placement: Mapping[str, Any] = field(default_factory=dict)
    catalogue: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    tiers: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Fleet:
    """The whole inventory: its hosts by name, and the members of its groups."""

    hosts: dict[str, Host]
    groups: Mapping[str, list[str]]

    def addresses(self, source: str) -> list[str]:
        """Return the addresses behind a source: of every member of a group, of a host, or the source itself.

        Raises ValueError, worded for the person who wrote the source.
        """
        kind, _colon, name = source.partition(":")
        if kind == "group" and name:
            if name not in self.groups:
                raise ValueError(f"no inventory group is called {name!r}; {suggest(name, self.groups)}")
            members = self.groups[name]
            if not members:
                raise ValueError(f"group {name!r} has no hosts, so nobody could connect; add a host to it, or write from: none")
            return [address for member in members for address in self._of_host(member)]
        if kind == "host" and name in self.hosts:
            return self._of_host(name)
        if kind == "host" and name and "::" not in source:
            raise ValueError(f"no inventory host is called {name!r}; {suggest(name, self.hosts)}")
        return [source]

    def _of_host(self, name: str) -> list[str]:
        addresses = self.hosts[name].addresses
        if not addresses:
            raise ValueError(f"host {name} has no known address; set fleet_addresses for it (a list of its IPv4 and IPv6 addresses)")
        return addresses


def read_addresses(value: Any, path: str, mistakes: list[Mistake]) -> list[str]:
    """Return a host's addresses as the inventory gives them: one address or a list, each checked."""
    addresses = []
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        try:
            address = ipaddress.ip_address(str(item).partition("/")[0])
        except ValueError:
            mistakes.append(Mistake(join_path(path, index), f"{item!r} is not an address", "write an IPv4 or IPv6 address, not a name"))
            continue
        if is_private_to_host(address) and not address.is_loopback:  # that of a fleet of one machine
            mistakes.append(
                Mistake(join_path(path, index), f"{item!r} leads no other host to this one", "write the addresses by which others reach it")
            )
        addresses.append(str(address))
    return addresses


def is_private_to_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an address means another host to everybody: loopback, link-local, multicast, or none at all."""
    return address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local


def is_loopback(source: str) -> bool:
    """Return whether a source is an address or a network of the host itself; a word is none."""
    try:
        return ipaddress.ip_network(source, strict=False).is_loopback
    except ValueError:
        return False


def address_order(address: str) -> tuple[int, str]:
    """Return a sort key that puts words first, then IPv4, then IPv6."""
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return (0, address)
    return (network.version, f"{int(network.network_address):040d}/{network.prefixlen:03d}")
