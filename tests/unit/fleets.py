"""Small fleets for tests of the join: a valid one, which a test then spoils in one place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import inventory, service_spec
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, said_once

DIGEST = "0123456789abcdef" * 4

ICND: dict[str, Any] = {
    "version": "0.3.0",
    "artifact": {"url": "https://example.org/{version}/icnd-{arch}.tar.gz", "sha256": {"amd64": DIGEST, "arm64": DIGEST}},
    "command": ["icnd", "--config", "/etc/icn/config.toml"],
    "config": [{"path": "/etc/icn/config.toml", "content": {"network": {"listen_addr": "0.0.0.0:7777"}}}],
    "ports": [
        {"name": "p2p", "port": 7777, "proto": "udp", "from": "any"},
        {"name": "metrics", "port": 9100, "from": "group:monitoring"},
    ],
}

GROUPS = {
    "all": ["relay1", "home1", "ops1"],
    "tier1": ["relay1"],
    "tier2": ["home1"],
    "icn": ["relay1", "home1"],
    "monitoring": ["ops1"],
    "empty": [],
}
ADDRESSES = {"relay1": ["192.0.2.1", "2001:db8::1"], "home1": ["192.0.2.2"], "ops1": ["192.0.2.9", "2001:db8::9"]}


def fleet(
    services: Mapping[str, Any] | None = None,
    placement: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    tiers: Mapping[str, Any] | None = None,
    addresses: Mapping[str, list[str]] | None = None,
) -> inventory.Fleet:
    """Return a fleet of three hosts; every argument replaces a part of the valid one."""
    hosts = {
        name: inventory.Host(
            name=name,
            groups=[group for group, members in GROUPS.items() if name in members],
            addresses=(ADDRESSES if addresses is None else addresses)[name],
            placement={"icn": ["icnd"]} if placement is None else placement,
            catalogue=copy.deepcopy({"icnd": ICND} if services is None else dict(services)),
            overrides=overrides or {},
            tiers={"tier1": {}, "tier2": {}} if tiers is None else tiers,
        )
        for name in GROUPS["all"]
    }
    return inventory.Fleet(hosts, GROUPS)


def join(one: inventory.Fleet) -> tuple[dict[str, dict[str, Any]], list[Mistake]]:
    """Return what the join makes of a fleet, and its mistakes, each once."""
    mistakes: list[Mistake] = []
    joined = service_spec.join(one, {name: host.catalogue for name, host in one.hosts.items()}, mistakes)
    return joined, said_once(mistakes)


def changed(path: str, value: Any, service: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a copy of a service in which one key (a dotted path, numbers index lists) has another value."""
    spoilt = copy.deepcopy(dict(ICND if service is None else service))
    *above, last = path.split(".")
    place: Any = spoilt
    for key in above:
        place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return spoilt
