# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store holds: which backups count, which one is meant, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import backup_catalogue as catalogue
from ansible_collections.hearth.fleet.plugins.module_utils import backup_lifecycle as lifecycle
from ansible_collections.hearth.fleet.plugins.module_utils import backup_manifest
from ansible_collections.hearth.fleet.plugins.module_utils import backup_names as names
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Object

NOW = catalogue.parse_time("2026-11-21 12:00")
HOUR, DAY = 3600, 86400
JOB = {"host": "relay1", "service": "node", "set": "data", "max_age": 3 * HOUR}


class Shelf:
    """A store, as its listing shows it, with the manifests in it."""

    def __init__(self) -> None:
        self.objects: list[Object] = []
        self.manifests: dict[str, dict[str, Any]] = {}

    def add(
        self,
        age: float,
        sequence: int = 1,
        *,
        host: str = "relay1",
        service: str = "node",
        class_name: str = "data-30d",
        stored_later: float = 0,
        same_as: dict[str, Any] | None = None,
        complete: bool = True,
        skew: int | None = None,
    ) -> dict[str, Any]:
        """Add the backup whose data were taken ``age`` seconds ago; return its manifest."""
        set_name, keep = names.split_class(class_name)
        identifier = names.identifier(NOW - age, sequence, f"{sequence:06x}")
        order = {"host": host, "service": service, "set": set_name, "class": class_name, "keep_days": keep, "recipients": ["age1x"]}
        data = same_as["id"] if same_as else identifier
        key = names.object_key(class_name, host, service, data, "database-0.zst.age")
        part = {
            "name": "database-0.zst.age",
            "kind": "database",
            "path": "/var/lib/node/node.db",
            "key": key,
            "size": 1000 + sequence,
            "sha256": "0" * 64,
            "plain_size": 5000,
            "plain_sha256": "1" * 64,
            "schema": "1:0",
            "tables": ["kv"],
            "sentinel_query": "",
            "sentinel": None,
            "uid": 1,
            "gid": 1,
            "mode": 0o640,
        }
        parts = same_as["parts"] if same_as else [part]
        manifest = backup_manifest.build(order, identifier=identifier, parts=parts, same_as=same_as["id"] if same_as else "", clock_skew_seconds=skew)
        stored = _rfc3339(NOW - age + stored_later)
        if not same_as:
            self.objects.append(Object(key, 1000 + sequence, stored))
        if complete:
            self.objects.append(Object(backup_manifest.key_of(manifest), 900, stored))
            self.manifests[backup_manifest.key_of(manifest)] = backup_manifest.parse(backup_manifest.text(manifest))
        return manifest

    def drop(self, part_of: dict[str, Any]) -> None:
        """Remove the part of a backup, as a store does that expires it."""
        self.objects = [one for one in self.objects if one.key != part_of["parts"][0]["key"]]

    @property
    def entries(self) -> catalogue.Listing:
        return catalogue.listing(self.objects)

    @property
    def backups(self) -> list[catalogue.Backup]:
        return catalogue.read(self.entries)

    def row(self, *jobs: dict[str, Any]) -> dict[str, Any]:
        """Return the only row that there is."""
        (row,) = catalogue.rows(jobs or [JOB], self.entries, self.manifests, NOW)
        return row


def _rfc3339(moment: float) -> str:
    return catalogue.time_text(moment).replace(" UTC", "Z").replace(" ", "T")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


# What is there


def test_f24_what_has_no_manifest_is_no_backup(shelf: Shelf) -> None:
    shelf.add(HOUR, 1)
    shelf.add(60, 2, complete=False)
    assert [one.sequence for one in shelf.backups] == [1]
    assert shelf.row()["age_seconds"] == HOUR


def test_f15_junk_in_the_store_is_not_looked_at(shelf: Shelf) -> None:
    good = shelf.add(HOUR)
    for key in ("v1/data-30d/relay1/node/latest/manifest.json", "v2/x", "v1/data-30d/relay1/node/x", f"{backup_manifest.key_of(good)}/manifest.json"):
        shelf.objects.append(Object(key, 1, _rfc3339(NOW)))
    assert [one.id for one in shelf.backups] == [good["id"]]


def test_f11_the_stores_clock_says_what_is_new(shelf: Shelf) -> None:
    ahead = shelf.add(-30 * DAY, 1, stored_later=-30 * DAY - HOUR)  # claims to be of next month, stored an hour ago
    newer = shelf.add(HOUR / 2, 2)
    assert [one.id for one in shelf.backups] == [newer["id"], ahead["id"]]
    assert catalogue.choose(shelf.backups, "relay1", "node", "data").id == newer["id"]
    assert catalogue.choose(shelf.backups, "relay1", "node", "data", at=_rfc3339(NOW - 0.9 * HOUR)).id == ahead["id"]


def test_f11_backups_of_one_second_are_told_apart_by_their_sequence(shelf: Shelf) -> None:
    shelf.add(60, 9)
    last = shelf.add(60, 10)
    assert shelf.backups[0].id == last["id"]


# Choosing


@pytest.mark.parametrize(
    ("asked", "sequence"),
    [
        pytest.param({}, 3, id="newest"),
        pytest.param({"at": "2026-11-21 09:30"}, 2, id="before-a-moment"),
        pytest.param({"at": "2026-11-21T10:30+01:00"}, 2, id="with-an-offset"),
        pytest.param({"at": "2026-11-21T09:00:00Z"}, 2, id="exactly-then"),
        pytest.param({"identifier": "20261121T080000Z"}, 1, id="by-the-beginning-of-its-id"),
    ],
)
def test_the_backup_that_is_meant(asked: dict[str, str], sequence: int, shelf: Shelf) -> None:
    for number, age in enumerate((4 * HOUR, 3 * HOUR, HOUR), start=1):
        shelf.add(age, number)
    shelf.add(60, 4, class_name="identity-forever")
    assert catalogue.choose(shelf.backups, "relay1", "node", "data", **asked).sequence == sequence


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        pytest.param(
            {"at": "2026-11-20 12:00"}, "no backup of node.data of relay1 is as old as 2026-11-20 12:00:00 UTC; the oldest is", id="too-early"
        ),
        pytest.param({"identifier": "2025"}, r"is called 2025…; the latest are 20261121T110000Z-000002-000002, 20261121T", id="no-such-id"),
        pytest.param({"identifier": "20261121"}, "2 backups of node.data of relay1 begin with 20261121: .*write more of the id", id="ambiguous"),
        pytest.param({"at": "yesterday"}, "'yesterday' is no moment; write it like 2026-11-20T12:00", id="no-moment"),
        pytest.param({"at": "2026-11-20"}, "'2026-11-20' has no time", id="a-day-only"),
    ],
)
def test_what_is_not_there_is_said(asked: dict[str, str], said: str, shelf: Shelf) -> None:
    shelf.add(4 * HOUR, 1)
    shelf.add(HOUR, 2)
    with pytest.raises(FleetError, match=said):
        catalogue.choose(shelf.backups, "relay1", "node", "data", **asked)


def test_a_host_that_began_anew_has_no_newest_backup_by_itself(shelf: Shelf) -> None:
    shelf.add(5 * HOUR, 380)
    former = shelf.add(4 * HOUR, 381)
    shelf.add(2 * HOUR, 1)
    anew = shelf.add(HOUR, 2)
    with pytest.raises(FleetError, match="of a host that has begun anew") as refused:
        catalogue.choose(shelf.backups, "relay1", "node", "data")
    assert f"-e restore_id={former['id']}, or -e restore_id={anew['id']}" in str(refused.value)
    assert catalogue.choose(shelf.backups, "relay1", "node", "data", identifier=former["id"]).sequence == 381
    shelf.add(60, 382)
    assert catalogue.choose(shelf.backups, "relay1", "node", "data").sequence == 382


def test_f25_backups_of_other_hosts_are_not_considered(shelf: Shelf) -> None:
    shelf.add(HOUR, host="relay2")
    with pytest.raises(FleetError, match=r"no backup of node.data of relay1; of relay1 there is none at all"):
        catalogue.choose(shelf.backups, "relay1", "node", "data")
    with pytest.raises(FleetError, match=r"of relay2 there are: node.data"):
        catalogue.choose(shelf.backups, "relay2", "node", "identity")


@pytest.mark.parametrize("key", ["host", "service", "set", "id"])
def test_f25_a_manifest_under_the_key_of_another_backup_is_found_out(key: str, shelf: Shelf) -> None:
    manifest = shelf.add(HOUR)
    backup = shelf.backups[0]
    assert catalogue.mismatch(manifest, backup) == ""
    assert f"its {key} is other, not " in catalogue.mismatch({**manifest, key: "other"}, backup)


# Judging


def test_a_good_backup_has_no_problems(shelf: Shelf) -> None:
    manifest = shelf.add(HOUR)
    assert shelf.row() == {
        "host": "relay1",
        "service": "node",
        "set": "data",
        "id": manifest["id"],
        "newest": "2026-11-21 11:00:00 UTC",
        "age_seconds": HOUR,
        "size": 1001,
        "met": True,
        "expires": "2026-12-29 11:00:00 UTC",
        "backups": 1,
        "problems": [],
    }


def test_f13_an_old_backup_is_a_problem(shelf: Shelf) -> None:
    shelf.add(5 * HOUR)
    row = shelf.row()
    assert (row["met"], row["problems"]) == (False, ["the newest is 5h old, wanted is at most 3h"])


def test_no_backup_is_a_problem(shelf: Shelf) -> None:
    row = shelf.row()
    assert (row["met"], row["problems"]) == (False, ["there is no backup at all"])
    assert "no" in catalogue.render([row])


def test_where_nobody_minds_the_age_it_is_no_problem(shelf: Shelf) -> None:
    shelf.add(300 * DAY, class_name="identity-forever")
    row = shelf.row({**JOB, "set": "identity", "max_age": 0})
    assert (row["met"], row["expires"], row["problems"]) == (True, None, [])


def test_f18_a_part_of_another_size_is_a_problem(shelf: Shelf) -> None:
    shelf.add(HOUR)
    shelf.objects = [one._replace(size=7) if one.key.endswith(".age") else one for one in shelf.objects]
    row = shelf.row()
    assert (row["met"], row["problems"]) == (False, ["its database-0.zst.age has 7 bytes, its manifest says 1001"])


def test_f18_a_missing_part_is_a_problem(shelf: Shelf) -> None:
    shelf.drop(shelf.add(HOUR))
    assert shelf.row()["problems"] == ["its database-0.zst.age is missing"]


def test_data_that_a_later_backup_refers_to_must_be_there(shelf: Shelf) -> None:
    first = shelf.add(2 * DAY, 1)
    shelf.add(HOUR, 2, same_as=first)
    assert shelf.row()["problems"] == []
    shelf.drop(first)
    assert shelf.row()["problems"] == [f"its database-0.zst.age is that of {first['id']}, which is gone"]


@pytest.mark.parametrize(
    ("class_name", "age_days", "said"),
    [
        pytest.param("data-30d", 30.5, "", id="still-long"),
        pytest.param("data-30d", 31.5, "the store removes it in 6d12h, and there is no newer one; keep it with -e backup_hold=relay1", id="a-week"),
        pytest.param("data-4d", 3.5, "", id="short-keep-still-long"),
        pytest.param("data-4d", 4.5, "the store removes it in 12h, ", id="a-quarter-of-a-short-keep"),
        pytest.param("data-4d", 6, "the store removes it any moment, ", id="overdue"),
    ],
)
def test_f16_a_backup_that_the_store_is_about_to_remove_is_a_problem(class_name: str, age_days: float, said: str, shelf: Shelf) -> None:
    shelf.add(age_days * DAY, class_name=class_name)
    problems = [one for one in shelf.row({**JOB, "max_age": 0})["problems"] if "removes" in one]
    assert bool(problems) == bool(said)
    assert not said or problems[0].startswith(said)


def test_f16_what_is_not_in_the_inventory_any_more_is_shown_all_the_same(shelf: Shelf) -> None:
    shelf.add(35 * DAY, host="gone")
    (row,) = catalogue.rows([], shelf.entries, shelf.manifests, NOW)
    assert (row["host"], row["met"], len(row["problems"])) == ("gone", None, 1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param({"skew": 30}, [], id="half-a-minute"),
        pytest.param({"skew": 7200}, ["the host's clock was 2h ahead of the store's; its id tells the wrong time"], id="ahead"),
        pytest.param({"skew": -7200}, ["the host's clock was 2h behind the store's; its id tells the wrong time"], id="behind"),
        pytest.param({"stored_later": -7200}, ["the host's clock was 2h ahead of the store's; its id tells the wrong time"], id="of-the-future"),
    ],
)
def test_f11_a_wrong_clock_is_a_problem(more: dict[str, Any], said: list[str], shelf: Shelf) -> None:
    shelf.add(60, **more)
    assert shelf.row({**JOB, "max_age": 0})["problems"] == said


def test_an_unreadable_manifest_is_a_problem(shelf: Shelf) -> None:
    shelf.add(HOUR)
    shelf.manifests.clear()
    row = shelf.row()
    assert (row["met"], row["size"], row["problems"]) == (False, None, ["its manifest cannot be read"])


def test_the_table_fits_a_terminal(shelf: Shelf) -> None:
    shelf.add(5 * HOUR)
    shown = catalogue.render(catalogue.rows([JOB], shelf.entries, shelf.manifests, NOW))
    assert shown.splitlines()[0].split() == ["HOST", "SERVICE", "SET", "NEWEST", "AGE", "SIZE", "RPO", "MET", "EXPIRES", "PROBLEMS"]
    assert "1001 B  no" in shown
    assert max(map(len, shown.splitlines())) < 200


def test_times_of_the_store() -> None:
    wanted = NOW
    for text in ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.123456789Z", "2026-11-21T13:00:00.5+01:00"):
        assert catalogue.stored_at(text) == wanted
    with pytest.raises(FleetError, match="the store says 'now' for a time"):
        catalogue.stored_at("now")


# Holding


def test_f16_a_held_backup_is_one_that_never_expires(shelf: Shelf) -> None:
    first = shelf.add(36 * DAY, 1)
    last = shelf.add(35 * DAY, 2, same_as=first)
    shelf.add(35 * DAY, 1, class_name="identity-forever")
    shelf.add(HOUR, 1, host="relay2")
    held = catalogue.hold(shelf.entries, shelf.manifests, "relay1")
    (copy,) = held.copies
    assert copy == (first["parts"][0]["key"], first["parts"][0]["key"].replace("data-30d", "data-forever"))
    ((key, text),) = held.manifests
    for source, target in held.copies:
        shelf.objects.append(Object(target, shelf.entries[source].size, _rfc3339(NOW)))
    shelf.objects.append(Object(key, 900, _rfc3339(NOW)))
    shelf.manifests[key] = backup_manifest.parse(text)
    shelf.objects = [one for one in shelf.objects if "/data-30d/relay1/" not in one.key]
    found = catalogue.choose(shelf.backups, "relay1", "node", "data")
    assert (found.id, found.key, found.keep_days) == (last["id"], key, 0)
    rows = {(row["host"], row["set"]): row for row in catalogue.rows([JOB], shelf.entries, shelf.manifests, NOW)}
    assert rows["relay1", "data"]["expires"] is None
    assert rows["relay1", "data"]["problems"] == ["the newest is 35d old, wanted is at most 3h"]
    assert catalogue.hold(shelf.entries, shelf.manifests, "relay1").copies == []


def test_f16_there_must_be_something_to_hold(shelf: Shelf) -> None:
    with pytest.raises(FleetError, match="no backup of relay9, so that there is nothing to hold"):
        catalogue.hold(shelf.entries, shelf.manifests, "relay9")


# The rules by which the store expires


def test_each_class_has_a_rule_and_what_is_kept_for_ever_has_none() -> None:
    rules = lifecycle.wanted(["data-30d", "identity-forever", "data-90d", "data-30d"], "fleets/home")
    assert rules == [
        {
            "ID": "hearth-fleets-home-data-30d",
            "Status": "Enabled",
            "Filter": {"Prefix": "fleets/home/v1/data-30d/"},
            "Expiration": {"Days": 38},
        },
        {
            "ID": "hearth-fleets-home-data-90d",
            "Status": "Enabled",
            "Filter": {"Prefix": "fleets/home/v1/data-90d/"},
            "Expiration": {"Days": 113},
        },
        {
            "ID": "hearth-fleets-home-probe-1d",
            "Status": "Enabled",
            "Filter": {"Prefix": "fleets/home/v1/probe-1d/"},
            "Expiration": {"Days": 2},
        },
        {
            "ID": "hearth-fleets-home-incomplete",
            "Status": "Enabled",
            "Filter": {"Prefix": "fleets/home/v1/"},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        },
    ]


def test_f10_what_is_left_of_uploads_goes_by_a_rule() -> None:
    rule = lifecycle.wanted([])[-1]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert lifecycle.problems([], [rule]) == ["v1/: there is no rule; abort of incomplete uploads after 7 days is wanted"]


def test_f15_in_a_bucket_with_versions_what_was_overwritten_goes_as_well() -> None:
    rule = lifecycle.wanted(["data-30d"], versioned=True)[0]
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 38}
    assert lifecycle.problems(lifecycle.wanted(["data-30d"]), [rule, *lifecycle.wanted(["data-30d"])[1:]]) == [
        "v1/data-30d/: the rule hearth-data-30d says expiry after 38 days of v1/data-30d/, "
        "wanted is expiry after 38 days and expiry of replaced versions after 38 days"
    ]


RULES = lifecycle.wanted(["data-30d"])
FOREIGN = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}


@pytest.mark.parametrize(
    ("present", "said"),
    [
        pytest.param(RULES, [], id="as-they-should-be"),
        pytest.param([*RULES, FOREIGN], [], id="and-others"),
        pytest.param([*RULES, *lifecycle.wanted(["gone-7d"])[:1]], [], id="of-a-class-that-is-no-more"),
        pytest.param(
            [*RULES, {**RULES[0], "ID": "hearth-data", "Expiration": {"Days": 1}}],
            ["v1/data-30d/: the rule hearth-data, which is not the collection's, removes backups too"],
            id="of-its-own-over-another",
        ),
        pytest.param(RULES[1:], ["v1/data-30d/: there is no rule; expiry after 38 days is wanted"], id="missing"),
        pytest.param([{**RULES[0], "Status": "Disabled"}, *RULES[1:]], ["v1/data-30d/: the rule hearth-data-30d is not enabled"], id="disabled"),
        pytest.param(
            [{**RULES[0], "Expiration": {"Days": 3}}, *RULES[1:]],
            ["v1/data-30d/: the rule hearth-data-30d says expiry after 3 days of v1/data-30d/, wanted is expiry after 38 days"],
            id="too-early",
        ),
        pytest.param(
            [*RULES, {**FOREIGN, "ID": "all", "Filter": {"Prefix": ""}}],
            ["everything: the rule all, which is not the collection's, removes backups too"],
            id="of-others-over-everything",
        ),
        pytest.param(
            [*RULES, {"ID": "old", "Status": "Enabled", "Prefix": "v1/identity-forever/", "Expiration": {"Days": 1}}],
            ["v1/identity-forever/: the rule old, which is not the collection's, removes backups too"],
            id="of-others-old-form",
        ),
        pytest.param([*RULES, {**FOREIGN, "Filter": {"Prefix": "", "Tag": {"Key": "a", "Value": "b"}}}], [], id="of-others-by-tag"),
    ],
)
def test_problems_of_rules(present: list[dict[str, Any]], said: list[str]) -> None:
    assert lifecycle.problems(present, RULES) == said


def test_rules_of_others_are_kept_and_own_ones_replaced() -> None:
    old = {**RULES[0], "ID": "hearth-data", "Expiration": {"Days": 1}}
    merged = lifecycle.merged([FOREIGN, old, {**RULES[-1], "Status": "Disabled"}], RULES)
    assert merged == [FOREIGN, RULES[-1], *RULES[:-1]]
    for order in (merged, merged[::-1]):  # a store may list rules in an order of its own
        assert lifecycle.merged(order, RULES) == order
