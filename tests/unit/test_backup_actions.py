# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules by which a store expires backups: given to it, read back, and what a store says that knows none."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.action import backup_lifecycle as action
from ansible_collections.hearth.fleet.plugins.action import backup_store
from ansible_collections.hearth.fleet.plugins.module_utils import backup_lifecycle as lifecycle
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.plugin_utils import store_access


class ClientError(Exception):
    """As botocore's: what the store answered."""

    def __init__(self, code: str) -> None:
        super().__init__(f"An error occurred ({code})")
        self.response = {"Error": {"Code": code}}


class Client:
    """Stands in for boto3's client of a store."""

    def __init__(self, rules: list[dict[str, Any]] | None = None, *, error: str = "", versioned: str = "") -> None:
        self.kept, self.error, self.versioned = rules, error, versioned

    def get_bucket_lifecycle_configuration(self, Bucket: str) -> dict[str, Any]:
        assert Bucket == "backups"
        if self.error or self.kept is None:
            raise ClientError(self.error or "NoSuchLifecycleConfiguration")
        return {"Rules": self.kept, "ResponseMetadata": {}}

    def put_bucket_lifecycle_configuration(self, Bucket: str, LifecycleConfiguration: dict[str, Any]) -> None:
        assert Bucket == "backups"
        if self.error:
            raise ClientError(self.error)
        self.kept = LifecycleConfiguration["Rules"]

    def get_object_lock_configuration(self, Bucket: str) -> dict[str, Any]:
        raise ClientError(self.error)

    def get_bucket_versioning(self, Bucket: str) -> dict[str, Any]:
        if self.error:
            raise ClientError(self.error)
        return {"Status": self.versioned} if self.versioned else {}


RULES = lifecycle.wanted(["data-30d"])


def test_rules_are_set_and_read_back() -> None:
    bucket = action.Bucket(Client(), "backups")
    assert bucket.rules() == []
    bucket.put(RULES)
    assert lifecycle.problems(bucket.rules(), RULES) == []


@pytest.mark.parametrize("code", ["NotImplemented", "MethodNotAllowed", "501"])
def test_a_store_without_rules_is_recognised(code: str) -> None:
    bucket = action.Bucket(Client(error=code), "backups")
    assert bucket.versions() == ""
    with pytest.raises(action.NoLifecycle, match=r"bucket backups: the store has no lifecycle rules .* nothing expires by itself"):
        bucket.rules()
    with pytest.raises(action.NoLifecycle):
        bucket.put(RULES)


def test_a_store_that_takes_the_question_for_another_one_has_no_rules() -> None:
    client = Client()
    client.get_bucket_lifecycle_configuration = lambda Bucket: {"ResponseMetadata": {}}  # type: ignore[method-assign]
    with pytest.raises(action.NoLifecycle, match="it does not know them"):
        action.Bucket(client, "backups").rules()


def test_other_errors_are_said() -> None:
    with pytest.raises(FleetError, match=r"bucket backups: its lifecycle rules cannot be read: .*AccessDenied") as refused:
        action.Bucket(Client(error="AccessDenied"), "backups").rules()
    assert not isinstance(refused.value, action.NoLifecycle)


@pytest.mark.parametrize("status", ["Enabled", "Suspended", ""])
def test_versions(status: str) -> None:
    assert action.Bucket(Client(versioned=status), "backups").versions() == status


def test_who_may_not_ask_for_versions_is_told_so() -> None:
    with pytest.raises(FleetError, match=r"^backup_admin_access_key_id: bucket backups: .*AccessDenied.*\n  → give these .* s3:GetBucketVersioning"):
        action.Bucket(Client(error="AccessDenied"), "backups").versions()


@pytest.mark.parametrize(
    ("error", "locked"),
    [
        pytest.param("ObjectLockConfigurationNotFoundError", False, id="none"),
        pytest.param("NotImplemented", False, id="not-known"),
        pytest.param("AccessDenied", None, id="must-not-ask"),
    ],
)
def test_object_lock_is_asked_about(error: str, locked: bool | None) -> None:
    assert action.Bucket(Client(error=error), "backups").is_locked() is locked


def test_what_a_bucket_says_of_all_rules_is_given_back_to_it() -> None:
    client, given = Client(RULES), {}
    client.get_bucket_lifecycle_configuration = lambda Bucket: {"Rules": RULES, "TransitionDefaultMinimumObjectSize": "varies"}  # type: ignore[method-assign]
    client.put_bucket_lifecycle_configuration = lambda **more: given.update(more)  # type: ignore[method-assign]
    bucket = action.Bucket(client, "backups")
    bucket.put(bucket.rules())
    assert given["TransitionDefaultMinimumObjectSize"] == "varies"


def set_of(keep_days: int, max_age: int) -> dict[str, Any]:
    return {"databases": [{"path": "/x"}], "files": [], "command": [], "keep": keep_days * 86400, "max_age": max_age}


SPECS = {"relay1": {"services": {"node": {"backup": {**set_of(30, 7200), "more": {"keys": set_of(0, 7200)}}}, "web": {"backup": None}}}}


def test_classes_and_jobs_come_from_the_descriptions() -> None:
    assert action.classes_of(SPECS) == ["data-30d", "keys-forever"]
    assert backup_store.jobs_of(SPECS) == [
        {"host": "relay1", "service": "node", "set": "data", "max_age": 7200},
        {"host": "relay1", "service": "node", "set": "keys", "max_age": 0},
    ]


def test_without_a_store_everything_is_said_not_to_be_backed_up() -> None:
    found = backup_store.seen({"specs": SPECS, "hosts": ["relay1"]}, {}, {}, "there is no store")
    assert found["problems"] == ["node.data of relay1: there is no store", "node.keys of relay1: there is no store"]


STORE = {"endpoint": "http://store.example.org", "bucket": "backups"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"store": {}}, "backup_store: there is no store", id="no-store"),
        pytest.param({"store": STORE, "access_key_id": ""}, "backup_read_access_key_id is not set", id="no-key"),
        pytest.param({"store": STORE, "secret_access_key": ""}, "backup_read_secret_access_key is not set", id="no-secret"),
        pytest.param({"store": {**STORE, "ca": "ca.pem"}}, "no file ca.pem on the controller; looked for /nowhere/ca.pem", id="no-ca"),
    ],
)
def test_what_is_missing_is_said(given: dict[str, Any], said: str) -> None:
    arguments = {"access_key_id": "id", "secret_access_key": "secret", **given}
    with pytest.raises(FleetError, match=said), store_access.opened(arguments, {"playbook_dir": "/nowhere"}):
        pass


def test_f60_credentials_are_in_a_private_file_as_long_as_they_are_needed() -> None:
    with store_access.opened({"store": STORE, "access_key_id": "id", "secret_access_key": "not-for-others"}, {}) as store:
        assert (store.conf.stat().st_mode & 0o777, store.conf.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert "not-for-others" in store.conf.read_text()
    assert not store.conf.parent.exists()
