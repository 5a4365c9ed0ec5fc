# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a firewall rule look like, for the host that applies it and for the inputs of the role on the controller. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

SHORTEST_CONFIRMATION_SECONDS = 10

_PORT = re.compile(r"\d{1,5}(?::\d{1,5})?")
_INTERFACE = re.compile(r"[A-Za-z0-9_.+,=%@-]{1,15}")
_OWNER = re.compile(r"[A-Za-z0-9_./:@+-]+")


def complaints(rule: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with a described rule: its key, the problem, and what to write instead."""
    owner, port, interface = str(rule["owner"]), str(rule["port"]), rule.get("interface") or ""
    if not _OWNER.fullmatch(owner):
        yield "owner", f"{owner!r} cannot mark a rule", "an owner is made of letters, digits and ._/:@+-, like node/libp2p"
    if port != "any" and not _is_port(port):
        yield "port", f"port {port!r} is not a port", "write 4001, 8000:8010 or any"
    if interface and (not _INTERFACE.fullmatch(interface) or interface in (".", "..")):
        yield "interface", f"interface {interface!r} is not the name of an interface", "write it like eth0, as ip link lists it"
    source = str(rule.get("source") or "any")
    if source != "any" and not _is_network(source):
        yield "source", f"source {source!r} is not an address", "write any, 192.0.2.7 or 192.0.2.0/24"


def _is_port(text: str) -> bool:
    numbers = [int(number) for number in text.split(":")] if _PORT.fullmatch(text) else []
    return bool(numbers) and all(1 <= number <= 65535 for number in numbers) and numbers == sorted(set(numbers))


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
