# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with stores, credentials and schedules, in words that name the inventory."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import backup_review, object_store

CHECK: dict[str, Any] = {
    "host": "relay1",
    "store": {"endpoint": "https://s3.example.org", "bucket": "fleet", "prefix": ""},
    "readable_credentials": False,
}
WRITE_ONLY = object_store.Abilities(write=True, conditional=True, read=False, list=False, delete=False, said={})


@pytest.mark.parametrize(
    ("can", "problem"),
    [
        pytest.param({}, "", id="write-only"),
        pytest.param({"read": True}, "can read in bucket fleet, and so can whoever steals the host", id="read"),
        pytest.param({"list": True}, "can list in bucket fleet", id="list"),
        pytest.param({"read": True, "list": True, "delete": True}, "can read, list and delete in bucket fleet", id="all"),
        pytest.param({"write": False, "read": None, "delete": None, "said": {"write": "AccessDenied"}}, "cannot write (AccessDenied)", id="no-write"),
    ],
)
def test_f15_credentials_of_hosts_may_write_and_nothing_else(can: dict[str, Any], problem: str) -> None:
    mistakes = backup_review.problems(CHECK, WRITE_ONLY._replace(**can))
    assert [one.path for one in mistakes] == (["backup_access_key_id"] if problem else [])
    assert problem in "".join(one.problem for one in mistakes)


def test_readable_credentials_can_be_accepted() -> None:
    assert backup_review.problems({**CHECK, "readable_credentials": True}, WRITE_ONLY._replace(read=True, list=True)) == []


@pytest.mark.parametrize(
    ("kind", "path", "problem"),
    [
        pytest.param(object_store.NO_BUCKET, "backup_store.bucket", "the store https://s3.example.org has no bucket 'fleet'", id="no-bucket"),
        pytest.param(object_store.UNREACHABLE, "backup_store.endpoint", "relay1 cannot reach https://s3.example.org (said)", id="unreachable"),
        pytest.param(object_store.CLOCK, "backup_store", "the clock of relay1 is too far from the store's", id="clock"),
        pytest.param(object_store.DENIED, "backup_access_key_id", "refuses these credentials", id="denied"),
        pytest.param(object_store.OTHER, "backup_store", "cannot be used by relay1: said", id="other"),
    ],
)
def test_a_store_that_cannot_be_asked(kind: str, path: str, problem: str) -> None:
    mistake = backup_review.about_error(CHECK, kind, "said")
    assert mistake.path == path
    assert problem in mistake.problem
    assert mistake.remedy


@pytest.mark.parametrize(("conditional", "count"), [(True, 0), (None, 0), (False, 1)], ids=["knows", "not-asked", "lacks"])
def test_what_a_store_lacks_is_said(conditional: bool, count: int) -> None:
    assert len(backup_review.lacks(WRITE_ONLY._replace(conditional=conditional))) == count


def test_a_schedule_that_systemd_does_not_take() -> None:
    mistake = backup_review.about_schedule("fleet_services.icnd.backup.schedule", "25:00", "Failed to parse")
    assert str(mistake).startswith("fleet_services.icnd.backup.schedule: systemd does not take '25:00' (Failed to parse)\n  → write hourly")
