# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of backups, and their manifests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import backup_manifest as manifests
from ansible_collections.hearth.fleet.plugins.module_utils import backup_names as names

ID = "20261121T141500Z-000017-ab12cd"
OLD = "20261120T141500Z-000016-00ff00"
KEY = f"v1/data-30d/relay1/cin-node/{ID}/database-0.zst.age"


@pytest.mark.parametrize(
    ("given", "days", "refresh", "expiry"),
    [
        pytest.param("30d", 30, 8, 38, id="a-month"),
        pytest.param("12w", 84, 21, 105, id="weeks"),
        pytest.param("1d", 1, 1, 2, id="a-day"),
        pytest.param(86400, 1, 1, 2, id="seconds"),
        pytest.param("forever", 0, 0, 0, id="for-ever"),
    ],
)
def test_how_long_backups_are_kept(given: object, days: int, refresh: int, expiry: int) -> None:
    assert (names.keep_days(given), names.refresh_days(days), names.expiry_days(days)) == (days, refresh, expiry)


@pytest.mark.parametrize("given", ["", "0", "12h", "always", "-1d", None, 1.5, True])
def test_no_way_to_keep_a_backup(given: object) -> None:
    with pytest.raises(ValueError, match="write whole days like 30d or 12w, or forever"):
        names.keep_days(given)


def test_a_reference_of_the_last_day_outlives_its_keep() -> None:
    """What refers to data of up to ``refresh_days`` must find them until it expires itself."""
    for keep in range(1, 400):
        assert names.expiry_days(keep) - names.refresh_days(keep) == keep
        assert names.refresh_days(keep) >= 1


@pytest.mark.parametrize(
    ("set_name", "keep", "expected"),
    [pytest.param("data", 30, "data-30d", id="days"), pytest.param("identity", 0, "identity-forever", id="for-ever")],
)
def test_classes(set_name: str, keep: int, expected: str) -> None:
    assert names.class_of(set_name, keep) == expected
    assert names.split_class(expected) == (set_name, keep)


@pytest.mark.parametrize("text", ["data", "data-0d", "data-30", "Data-30d", "data-30d/x", ""])
def test_no_class(text: str) -> None:
    with pytest.raises(ValueError, match="no class of backups"):
        names.split_class(text)


def test_identifiers_sort_by_time_and_say_what_they_are() -> None:
    assert names.identifier(1795270500.7, 17, "ab12cd") == ID
    assert names.parse_identifier(ID) == (1795270500, 17, "ab12cd")
    assert names.identifier(0, 1234567, "000000") == "19700101T000000Z-1234567-000000"


@pytest.mark.parametrize("text", ["", ID[:-1], f"{ID}0", ID.upper(), ID.replace("1121", "1321"), f"{ID}\n"])
def test_no_identifier(text: str) -> None:
    assert names.parse_identifier(text) is None


def test_keys() -> None:
    assert names.object_key("data-30d", "relay1", "cin-node", ID, names.database_part(0)) == KEY
    assert names.parse_key(KEY) == ("data-30d", "relay1", "cin-node", ID, "database-0.zst.age")
    assert KEY.startswith(names.job_prefix("data-30d", "relay1", "cin-node"))
    assert [names.database_number(part) for part in ("database-12.zst.age", "files.tar.zst.age")] == [12, None]


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="nothing"),
        pytest.param(KEY.replace("v1/", "v2/"), id="another-version"),
        pytest.param(KEY + "/more", id="too-deep"),
        pytest.param(KEY.replace("relay1", ".."), id="way-out"),
        pytest.param(KEY.replace("database-0.zst.age", "junk"), id="unknown-part"),
        pytest.param(KEY.replace(ID, "latest"), id="no-identifier"),
        pytest.param(KEY.replace("data-30d", "data"), id="no-class"),
    ],
)
def test_f15_junk_is_no_backup(key: str) -> None:
    assert names.parse_key(key) is None


def test_jobs() -> None:
    assert names.job_of("cin-node", "data") == "cin-node.data"
    assert names.split_job("cin-node.data") == ("cin-node", "data")
    with pytest.raises(ValueError, match=r"write it like relay\.data"):
        names.split_job("../relay")


# Manifests


def part(**changes: Any) -> dict[str, Any]:
    known = {"schema": "7:0123", "tables": ["kv"], "sentinel_query": "", "sentinel": None, "uid": 0, "gid": 0, "mode": 0o640}
    hashes = {"size": 10, "sha256": "a" * 64, "plain_size": 20, "plain_sha256": "b" * 64}
    return {"name": "database-0.zst.age", "kind": "database", "path": "/srv/relay.db", "key": KEY, **hashes, **known, **changes}


def manifest(**changes: Any) -> dict[str, Any]:
    order = {"host": "relay1", "service": "cin-node", "set": "data", "class": "data-30d", "keep_days": 30, "recipients": ["age1x"]}
    made = manifests.build(order, identifier=ID, parts=[part()], release="1.4.2", clock_skew_seconds=-3)
    return {**made, **changes}


def test_a_manifest_is_read_as_it_was_written() -> None:
    made = manifest()
    assert manifests.parse(manifests.text(made)) == made
    assert (made["at"], made["sequence"], made["version"]) == ("2026-11-21T14:15:00Z", 17, 1)
    assert manifests.key_of(made) == f"v1/data-30d/relay1/cin-node/{ID}/manifest.json"


def test_a_manifest_may_refer_to_other_data() -> None:
    assert manifests.parse(manifests.text(manifest(same_as=OLD, parts=[part(key=KEY.replace(ID, OLD))])))["same_as"] == OLD


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"version": 2}, "version 2; this release reads version 1", id="version"),
        pytest.param({"sequence": 18}, "do not say the same", id="sequence"),
        pytest.param({"at": "2026-11-21T14:15:01Z"}, "do not say the same", id="time"),
        pytest.param({"class": "data-31d"}, "do not say the same", id="class"),
        pytest.param({"id": "x"}, "id is not what it should be", id="id"),
        pytest.param({"parts": []}, "there must be parts", id="no-parts"),
        pytest.param({"parts": [part(), part()]}, "each once", id="twice"),
        pytest.param({"parts": ["x"]}, "part 0: no JSON object", id="part-is-text"),
        pytest.param({"parts": [part(size=-1)]}, "size is not what it should be", id="size"),
        pytest.param({"parts": [part(size=True)]}, "size is not what it should be", id="size-is-no-truth"),
        pytest.param({"parts": [part(sha256="A" * 64)]}, "sha256 is not what", id="hash"),
        pytest.param({"parts": [part(tables="kv")]}, "tables is not what", id="tables"),
        pytest.param({"parts": [part(key=KEY.replace("relay1", "relay2"))]}, "leads to something else", id="key-of-another-host"),
        pytest.param({"same_as": OLD}, "leads to something else", id="key-of-another-backup"),
        pytest.param({"clock_skew_seconds": "1"}, "clock_skew_seconds is not", id="skew"),
    ],
)
def test_f15_a_manifest_that_cannot_be_believed(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(manifests.ManifestError, match=said):
        manifests.parse(json.dumps(manifest(**changes)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("", "no JSON", id="empty"),
        pytest.param("[]", "no JSON object", id="list"),
        pytest.param(manifests.text(manifest())[:100], "cut off", id="cut"),
        pytest.param(b" " * (manifests.MAX_BYTES + 1), "1048577 bytes", id="huge"),
    ],
)
def test_no_manifest(content: str | bytes, said: str) -> None:
    with pytest.raises(manifests.ManifestError, match=said):
        manifests.parse(content)


def test_what_is_missing_is_named() -> None:
    made = manifest()
    del made["recipients"]
    with pytest.raises(manifests.ManifestError, match="recipients is missing"):
        manifests.parse(json.dumps(made))
