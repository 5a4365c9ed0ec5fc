# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A value that cannot be read makes no other mistake, and hides none that does not depend on it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import fleets
import pytest
import test_slices

from ansible_collections.hearth.fleet.plugins.module_utils import broken, service_schema
from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN

AGE = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
PLACE = "https://example.org/{version}/x-{arch}"
RICH: dict[str, Any] = {
    "description": "Keeps the ledger",
    "version": "0.3.0",
    "artifact": {
        "url": PLACE,
        "sha256": {"amd64": fleets.DIGEST},
        "signature": {"type": "minisign", "key": "RWQ", "url": {"amd64": f"{PLACE}.minisig"}},
        "headers": {"Authorization": "Bearer x"},
        "via": "target",
    },
    "binaries": ["icnd", "icnctl"],
    "version_command": ["{binary}", "--version"],
    "version_pattern": "v(.*)",
    "keep": 2,
    "account": {"user": "icn", "group": "icn", "uid": 900, "gid": 900, "home": "/var/lib/icn", "groups": ["dialout"], "shared": False},
    "command": ["icnd", "--config", "/etc/icn/config.toml"],
    "reload": {"command": ["icnctl", "reload"]},
    "config": [
        {"path": "/etc/icn/config.toml", "content": {"log": {"level": "info"}}, "validate": ["icnd", "{path}"], "reloadable": True, "mode": "0640"},
        {"path": "/etc/icn/secret.toml", "content": {"key": "x"}, "secret": True, "owner": "icn", "group": "icn"},
    ],
    "environment": {"LEVEL": "info", "ID": 7},
    "secrets": {"TOKEN": "hunter2-hunter2", "cert": {"value": "hunter3", "as": "credential"}, "ADMIN": {"value": "hunter4", "as": "request"}},
    "environment_file": "/etc/icn/icn.env",
    "directories": [{"path": "/var/lib/icn", "mode": "0700"}, {"path": "/srv/icn", "owner": "icn", "group": "icn", "writable": True}],
    "bootstrap": [{"command": ["icnctl", "init"], "creates": "/var/lib/icn/key", "timeout": "2m"}],
    "ports": [
        {"name": "p2p", "port": 7777, "proto": ["udp"], "from": "group:icn"},
        {"name": "metrics", "port": 443, "from": ["group:monitoring", "192.0.2.7"], "limit": True, "listen": True},
    ],
    "egress": ["192.0.2.0/24"],
    "resources": {"memory_max": "1G", "nofile": 1000, "cpu_quota": "50%", "nice": 1},
    "sandbox": {
        "capabilities": ["CAP_NET_ADMIN"],
        "address_families": ["AF_NETLINK"],
        "devices": ["/dev/kvm rw"],
        "syscalls": ["@clock"],
        "namespaces": ["net"],
        "home": "read-only",
        "private_tmp": True,
        "read_write": ["/mnt/x"],
        "umask": "0027",
        "exposure_max": 4,
    },
    "unit": {
        "type": "notify",
        "watchdog": "30s",
        "after": ["other"],
        "requires": ["other"],
        "wants": ["redis.service"],
        "start_limit": {"burst": 3, "interval": "1m"},
        "kill_signal": "SIGINT",
        "success_exit_status": [143],
        "working_directory": "/var/lib/icn",
        "supplementary_groups": ["dialout"],
    },
    "health": {
        "ready": {"url": "http://127.0.0.1:9100/", "headers": {"Authorization": "Bearer {secret:ADMIN}"}, "status": [200], "json": {"ok": True}},
        "live": "tcp://127.0.0.1:1",
        "version": {"command": ["icnctl", "version"]},
        "deadline": "1m",
    },
    "drain": {"request": {"signal": "SIGUSR1"}, "done": "http://127.0.0.1/", "deadline": "1m", "resume": {"command": ["icnctl", "resume"]}},
    "backup": {
        "databases": [{"path": "/var/lib/icn/icn.db", "tables": ["a"], "sentinel": "SELECT max(id) FROM a"}],
        "command": ["icnctl", "backup", "{output}"],
        "schedule": "hourly",
        "keep": "30d",
        "recipients": [AGE],
        "user": "icn",
        "drill": {"start": True, "ready": {"command": ["icnctl", "ping"]}, "environment": {"A": "b"}, "files": [{"path": "/x/y", "content": "z"}]},
        "more": {"key": {"files": ["/var/lib/icn/key"], "recipients": AGE, "schedule": "changes", "keep": "forever"}},
    },
    "rollout": {
        "canary": 1,
        "batch": "50%",
        "soak": "1m",
        "promote": "manual",
        "analysis": [{"name": "a", "url": "http://192.0.2.9/", "query": "up", "pass": "> 0", "headers": {"X-Key": "{secret:ADMIN}"}}],
    },
    "min_available": 0,
}
"""A service that says something under every key, and nothing wrong."""

OTHER: dict[str, Any] = {"version": "1", "artifact": {"url": "https://x/a", "sha256": fleets.DIGEST}, "command": ["other"]}


def said(service: dict[str, Any], other: dict[str, Any] | None = None) -> list[str]:
    services = {"icnd": service, "other": {**OTHER, **(other or {})}}
    return [error.partition(": ")[0] for error in test_slices.sliced(services=services, placement={"relay1": ["icnd", "other"]})]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in a value, from the outside inwards."""
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if path != ("config", 0, "content"):
            yield from places(item, (*path, key))


def put(path: tuple[Any, ...], value: Any, service: dict[str, Any]) -> dict[str, Any]:
    spoilt = copy.deepcopy(service)
    place: Any = spoilt
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return spoilt


def written(path: tuple[Any, ...]) -> str:
    return "fleet_services.icnd" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def related(one: str, other: str) -> bool:
    return any(a == b or a.startswith((f"{b}.", f"{b}[")) for a, b in ((one, other), (other, one)))


PLACES = list(places(RICH))
NONSENSE = {"number": 1.5, "mapping": {"nonsense": {}}}


def test_the_service_has_every_key_and_no_mistake() -> None:
    assert set(RICH) == set(service_schema.SERVICE.fields)
    assert said(RICH) == []


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("path", PLACES, ids=written)
def test_f58_a_value_that_cannot_be_read_makes_no_other_mistake(path: tuple[Any, ...], nonsense: Any) -> None:
    errors = said(put(path, nonsense, RICH))
    if any(error == written(path) for error in errors):
        assert [error for error in errors if not related(error, written(path))] == []


SPOILT = {
    ("config", 0, "content"): {"log": {"level": None}},
    ("environment", "LEVEL"): "no \x07 sense",
    ("artifact", "signature", "url"): {"amd64": "{where}"},
    ("rollout", "canary"): 0,
    ("ports", 0, "from"): "group:nobody",
    ("backup", "databases", 0, "path"): "/elsewhere",
    ("unit", "type"): "exec",
}
"""Mistakes that have nothing to do with each other, in as many places, each said by another check."""

FOLLOWS = {("unit", "type"): "fleet_services.icnd.unit.watchdog", ("rollout", "canary"): "fleet_services.icnd.rollout.promote"}
SAID = {
    ("config", 0, "content"): ".log.level",
    ("artifact", "signature", "url"): ".amd64",
}
CLASH = "fleet_services.other.ports[0].port"
NEEDED = {
    ("backup", "databases", 0, "path"): (("account",), ("account", "home"), *(path for path in PLACES if path[0] == "directories")),
    ("config", 0, "content"): (("config", 0, "path"),),
}
"""What a mistake cannot be known without: which directories there are; and the format, which follows from the name of the file."""


@pytest.mark.parametrize("path", [path for path in PLACES if len(path) < 4], ids=written)
def test_f58_a_value_that_cannot_be_read_hides_no_other_mistake(path: tuple[Any, ...]) -> None:
    service = RICH
    for place, value in SPOILT.items():
        service = put(place, value, service)
    expected = {FOLLOWS.get(place, written(place) + SAID.get(place, "")): place for place in SPOILT}
    other = {"ports": [{"name": "x", "port": 443}]}
    assert set(expected) | {CLASH} <= set(said(service, other))
    try:
        errors = said(put(path, 1.5, service), other)
    except (TypeError, KeyError, IndexError):
        pytest.skip("spoilt already")
    independent = [one for one, place in expected.items() if path not in NEEDED.get(place, ()) and not related(written(place), written(path))]
    assert [one for one in independent if one not in errors] == []


@pytest.mark.parametrize("path", PLACES, ids=written)
def test_f58_what_could_not_even_be_templated_is_passed_over(path: tuple[Any, ...]) -> None:
    """The join is told so by BROKEN in its place, and the template's own mistake is the only one."""
    assert said(put(path, BROKEN, RICH)) == []


def test_what_is_broken_stops_whoever_needs_it() -> None:
    assert broken.attempt(lambda value: f"{value}", BROKEN) is BROKEN
    assert broken.attempt(",".join, ["a", BROKEN]) is BROKEN, "a function of C's, which asks nothing of the value"
    assert broken.attempt(lambda value: value is None, BROKEN) is False
    with pytest.raises(TypeError):
        broken.attempt(",".join, ["a", 1])
