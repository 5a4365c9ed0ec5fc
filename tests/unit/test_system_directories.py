# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is the distribution's stays so, whatever lies in it; what services share is readable by all of them."""

from __future__ import annotations

from typing import Any

import fleets
import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import slices
from ansible_collections.hearth.fleet.plugins.module_utils.system_directories import is_systems


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/etc", "/etc/default", "/etc/ssl", "/etc/ssl/certs", "/etc/systemd/system", "/etc/cron.d", "/etc/rc2.d", "/usr/bin", "/usr/bin/x"),
        *("/usr/lib/x/y", "/usr/share", "/usr/local/bin", "/var/log", "/var/lib", "/var/lib/apt", "/run", "/home", "/dev/shm", "/proc", "/lib64"),
    ],
)
def test_the_systems(path: str) -> None:
    assert is_systems(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/icn", "/etc/consul.d", "/etc/systemd/system/icnd.service.d", "/usr/local/etc/icn", "/usr/share/icn", "/var/log/icn", "/var/lib/icn"),
        *("/srv/icn", "/opt/icn", "/data", "/run/icn", "/etc/ssl-things", "/libertad"),
    ],
)
def test_a_services(path: str) -> None:
    assert not is_systems(path)


def parents(**configs: tuple[str, str]) -> list[tuple[str, str, str]]:
    """Return the directories for files of services: each service has a group and a file."""
    services: dict[str, Any] = {name: {"account": {"group": group}, "directories": []} for name, (group, _path) in configs.items()}
    services["bitcoind"] = {"account": {"group": "bitcoind"}, "directories": [{"path": "/var/lib/bitcoind"}]}
    files = {"bitcoind": [], **{name: [{"path": path}] for name, (_group, path) in configs.items()}}
    return [(one["path"], one["group"], one["mode"]) for one in slices.config_parents(services, files)]


def test_the_system_keeps_the_directories_that_services_put_files_into() -> None:
    assert parents(foo=("foo", "/etc/default/foo"), bar=("bar", "/etc/ssl/bar.pem"), top=("top", "/etc/top.conf")) == []
    assert parents(foo=("foo", "/etc/systemd/system/foo.service.d/limits.conf")) == [("/etc/systemd/system/foo.service.d", "foo", "0750")]


def test_services_that_share_a_directory_can_all_read_it() -> None:
    assert parents(prometheus=("prometheus", "/etc/prometheus/p.yml"), alertmanager=("alertmanager", "/etc/prometheus/a.yml")) == [
        ("/etc/prometheus", "root", "0755")
    ]
    assert parents(a=("shared", "/etc/x/a"), b=("shared", "/etc/x/b")) == [("/etc/x", "shared", "0750")]


def test_a_file_within_another_services_directory_leaves_that_its_owner() -> None:
    assert parents(lnd=("lnd", "/var/lib/bitcoind/lnd.conf")) == []


def test_a_services_own_files_do_not_hide_its_secrets() -> None:
    service = fleets.changed("secrets", {"TOKEN": "hunter2", "key": {"value": "x", "as": "credential"}})
    service["config"] += [
        {"path": "/etc/icnd/icnd.env", "content": {"A": "b"}},
        {"path": "/etc/icnd/credentials/key", "format": "text", "content": "y"},
    ]
    _joined, mistakes = fleets.join(fleets.fleet(services={"icnd": service}, placement={"relay1": ["icnd"]}))
    assert [str(one).partition("\n")[0] for one in mistakes] == [
        "fleet_services.icnd.environment_file: path /etc/icnd/icnd.env is taken on host relay1 by icnd (fleet_services.icnd.config[1].path)",
        "fleet_services.icnd.secrets: path /etc/icnd/credentials/key is taken on host relay1 by icnd (fleet_services.icnd.config[2].path)",
    ]


def test_a_limit_to_some_addresses_leaves_a_host_its_own() -> None:
    service = fleets.changed("egress", "none")
    service["ports"] = [{"name": "p2p", "port": 7777, "from": "host:relay1"}]
    joined, mistakes = fleets.join(fleets.fleet(services={"icnd": service}))
    assert mistakes == []
    assert joined["relay1"]["services"]["icnd"]["own_addresses"] == ["192.0.2.1", "2001:db8::1"]


def test_what_leads_to_everybody_himself_is_no_source() -> None:
    addresses = {"relay1": ["192.0.2.1"], "home1": ["192.0.2.2"], "ops1": ["127.0.0.1"]}
    _joined, mistakes = fleets.join(fleets.fleet(addresses=addresses))
    assert [str(one).partition("\n")[0] for one in mistakes] == [
        "fleet_services.icnd.ports[1].from: leads to 127.0.0.1, which every host is to itself"
    ]
