# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands against a restore, from a manifest, a description and a look at the host; and what a person is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import restoring

from ansible_collections.hearth.fleet.plugins.module_utils import restore_plan
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

PATH = "/var/lib/node/node.db"
SET = {"databases": [{"path": PATH, "engine": "sqlite", "tables": [], "sentinel": "SELECT 1"}], "files": [], "command": []}
OTHER = {**SET, "databases": [{**SET["databases"][0], "path": "/var/lib/node/other.db"}]}
SPECS = {
    "host": {"name": "relay1"},
    "services": {"node": {"backup": {**SET, "more": {"other": OTHER, "keys": {**SET, "databases": [], "files": ["/var/lib/node/keys"]}}}}},
    "rollout": [
        {
            "service": "node",
            "unit": "node.service",
            "home": "/opt/node",
            "user": "node",
            "group": "nodes",
            "health": {"ready": None},
            "stop_timeout": 90,
            "start_timeout": 90,
            "databases": [],
            "canary": True,
        }
    ],
}


def manifest(**more: Any) -> dict[str, Any]:
    part = {
        **restoring.part("database-0.zst.age", "database", PATH, b"x" * 5000),
        "schema": "2:aaaaaaaaaaaaaaaa",
        "tables": ["kv"],
        "sentinel_query": "",
        "sentinel": None,
        "uid": 1,
        "gid": 1,
        "mode": 0o640,
    }
    return {**restoring.manifest({**part, **more.pop("part", {})}), **more}


def order(set_name: str = "data") -> dict[str, Any]:
    return restore_plan.order(SPECS, "node", set_name, "20261121T130000Z-beef01")


def seen(release: str = "1.0.1", schema: str = "2:aaaaaaaaaaaaaaaa") -> dict[str, Any]:
    return {"release": release, "active": "active", "schemas": {PATH: schema}}


def test_an_order_says_what_the_host_must_know() -> None:
    assert order() == {
        "id": "20261121T130000Z-beef01",
        "service": "node",
        "unit": "node.service",
        "home": "/opt/node",
        "user": "node",
        "group": "nodes",
        "health": {"ready": None},
        "stop_timeout": 90,
        "start_timeout": 90,
        "databases": [{"path": PATH, "sentinel": "SELECT 1"}],
        "files": [],
        "other_databases": ["/var/lib/node/other.db"],
    }
    assert order("keys")["other_databases"] == [PATH, "/var/lib/node/other.db"]


@pytest.mark.parametrize(
    ("service", "set_name", "said"),
    [
        pytest.param("nod", "data", r"relay1: restore_service: 'nod' is not placed on this host \(services: node\)", id="service"),
        pytest.param("node", "date", r"relay1: restore_set: node has no set 'date' \(sets: data, other, keys\)", id="set"),
    ],
)
def test_what_the_inventory_does_not_know(service: str, set_name: str, said: str) -> None:
    with pytest.raises(FleetError, match=said):
        restore_plan.order(SPECS, service, set_name, "x")


@pytest.mark.parametrize(
    ("made", "installed", "schema", "said"),
    [
        pytest.param("1.0.1", "1.0.1", "2:aaaaaaaaaaaaaaaa", "", id="same-release"),
        pytest.param("1.0.1", "1.0.1", "absent", "", id="nothing-there-yet"),
        pytest.param("1.0.0", "1.0.1", "3:bbbbbbbbbbbbbbbb", "", id="of-an-older-release"),
        pytest.param("1.1.0", "1.0.1", "2:aaaaaaaaaaaaaaaa", "", id="newer-release-same-schema"),
        pytest.param("1.1.0", "1.0.1", "1:bbbbbbbbbbbbbbbb", "schema 2, made by node 1.1.0; .*1.0.1.*\n  → install 1.1.0 first", id="newer"),
        pytest.param("1.1.0", "1.0.1", "absent", "made by node 1.1.0; installed is 1.0.1", id="newer-and-nothing-there"),
        pytest.param("c0ffee1", "bada551", "1:bbbbbbbbbbbbbbbb", "install c0ffee1 first", id="nobody-can-tell-but-the-schema-is-higher"),
        pytest.param("c0ffee1", "bada551", "3:bbbbbbbbbbbbbbbb", "", id="nobody-can-tell-and-the-schema-is-lower"),
        pytest.param("", "1.0.1", "1:bbbbbbbbbbbbbbbb", "made by node of an unknown release", id="unknown-release"),
        pytest.param("1.0.1", "", "absent", "no release of node is installed on this host", id="nothing-installed"),
    ],
)
def test_f23_data_of_a_newer_release_are_refused(made: str, installed: str, schema: str, said: str) -> None:
    refused = restore_plan.refusal(manifest(release=made), order(), seen(installed, schema))
    assert bool(refused) == bool(said)
    if said:
        with pytest.raises(FleetError, match=said):
            raise FleetError(refused)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        pytest.param({"path": "/etc/shadow"}, "/etc/shadow, which is no database of node.data in the inventory (there: ", id="path"),
        pytest.param({"kind": "files", "name": "files.tar.zst.age"}, "has files, but node.data has none in the inventory", id="files"),
    ],
)
def test_f15_a_manifest_does_not_decide_where_to(part: dict[str, Any], said: str) -> None:
    assert said in restore_plan.refusal(manifest(part=part), order(), seen())


def test_what_a_person_is_shown() -> None:
    at = 1795262400.0
    shown = restore_plan.render(manifest(same_as="20261120T120000Z-000001-000001"), "relay2", seen("1.0.2"), at, at + 5400).splitlines()
    assert shown[:4] == [
        "service  node.data of relay1, to relay2",
        "backup   20261121T120000Z-000007-ab12cd, the same as 20261120T120000Z-000001-000001",
        "taken    2026-11-21 12:00:00 UTC, 1h30m ago",
        "release  1.0.1; installed is 1.0.2",
    ]
    assert shown[4].endswith(" in 1 part, 4.9 KiB restored: /var/lib/node/node.db")
    assert shown[5:] == ["for      age1operator, age1drill"]


def test_the_fixture_is_a_manifest_as_the_engine_writes_it(tmp_path: Path) -> None:
    from ansible_collections.hearth.fleet.plugins.module_utils import backup_manifest

    source = restoring.database(tmp_path / "x.db")
    assert backup_manifest.parse(backup_manifest.text(restoring.manifest(restoring.database_part(source, PATH))))["parts"][0]["tables"] == ["kv"]
