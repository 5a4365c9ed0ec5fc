# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the store expire backups by itself, or check that it does; see the module's documentation."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hearth.fleet.plugins.module_utils import (
    backup_catalogue,
    backup_lifecycle,
    backup_names,
    backup_review,
    backup_spec,
)
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake
from ansible_collections.hearth.fleet.plugins.plugin_utils import store_access

ARGUMENTS = {
    **store_access.ARGUMENTS,
    "state": {"type": "str", "choices": ["applied", "checked"], "default": "applied"},
    "specs": {"type": "dict", "required": True},
}
display = Display()
_NONE_YET = "NoSuchLifecycleConfiguration"
_NOT_KNOWN = ("NotImplemented", "MethodNotAllowed", "501", "405")
_NO_LOCK = "ObjectLockConfigurationNotFoundError"
_DENIED = ("AccessDenied", "403")
_RIGHTS = "give these credentials s3:GetBucketVersioning, s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration"
_OF_ALL_RULES = "TransitionDefaultMinimumObjectSize"
"""What a bucket says about its rules besides them; who sets rules without it takes it back to the default."""


class NoLifecycle(FleetError):
    """The store does not expire anything by itself, or nobody can ask it."""


class ActionModule(ActionBase):
    """Runs once for the whole play: a bucket has one set of rules."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the rules and what was wrong with them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = store_access.validated(self._task.args, ARGUMENTS)
        rules: list[dict[str, Any]] = []
        found: dict[str, Any] = {}
        try:
            with store_access.opened(given, task_vars, "backup_admin") as store:
                # A class that nothing belongs to any more keeps its rule as long as it has objects.
                classes = [*classes_of(given["specs"]), *backup_catalogue.classes(store_access.catalogue(store))]
                rules = backup_lifecycle.wanted(classes, store.prefix)
                bucket = Bucket(client(given, store.ca, rules), store.bucket)
            found = {"versions": bucket.versions(), "object_lock": bucket.is_locked()}
            # Versions that a bucket has from before, when it had them, stay in it too.
            rules = backup_lifecycle.wanted(classes, store.prefix, versioned=bool(found["versions"]))
            before = bucket.rules()
            problems = backup_lifecycle.problems(before, rules)
            after = backup_lifecycle.merged(before, rules)
            if given["state"] == "applied" and after != before and not self._task.check_mode:
                bucket.put(after)
                problems = backup_lifecycle.problems(bucket.rules(), rules)
        except NoLifecycle as error:
            if given["state"] == "checked":
                display.warning(str(error))
            result.update(found, changed=False, supported=False, rules=rules, problems=[str(error)] if given["state"] == "applied" else [])
        except FleetError as error:
            result.update(failed=True, msg=str(error), rules=rules)
        else:
            changed = given["state"] == "applied" and after != before
            result.update(found, changed=changed, supported=True, rules=rules, problems=problems)
            if given["state"] == "applied":
                result["warnings"] = backup_review.lacks_of_bucket(store.bucket, found["versions"])
            if changed:
                result["diff"] = {"before": _text(before), "after": _text(after)}
        return result


def classes_of(specs: dict[str, Any]) -> list[str]:
    """Return the classes of all sets of a fleet."""
    sets = [item for wanted in specs.values() for spec in wanted["services"].values() for item in backup_spec.sets_of(spec).items()]
    return [backup_names.class_of(name, one["keep"] // backup_names.DAY_SECONDS) for name, one in sets]


def client(given: dict[str, Any], ca: str, rules: list[dict[str, Any]]) -> Any:
    """Return boto3's client of the store. Raises FleetError, with the rules, where boto3 is not installed."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        said = "lifecycle rules are set and read through the Python package boto3, which Ansible's Python on the controller lacks"
        if given["state"] == "checked":
            raise NoLifecycle(f"{said}; whether the store expires old backups was not checked") from None
        raise FleetError(f"{said}\n  → pip install boto3, or give these rules to the store with a tool of its own:\n{_text(rules)}") from None
    store = given["store"]
    return boto3.client(
        "s3",
        endpoint_url=store["endpoint"],
        region_name=store.get("region") or "us-east-1",
        aws_access_key_id=given["access_key_id"],
        aws_secret_access_key=given["secret_access_key"],
        verify=ca or None,
        config=Config(
            s3={"addressing_style": "path" if store.get("path_style", True) else "auto"},
            retries={"max_attempts": 3},
            connect_timeout=15,
            read_timeout=60,
        ),
    )


class Bucket:
    """The rules of a bucket, by way of boto3's client."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name
        self._of_all_rules: dict[str, Any] = {}

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that the bucket has. Raises FleetError, NoLifecycle where the store knows none."""
        try:
            answer = self._client.get_bucket_lifecycle_configuration(Bucket=self._name)
        except Exception as error:
            if code_of(error) == _NONE_YET:
                return []
            raise self._failure(error, "read") from error
        if "Rules" not in answer:  # a store that does not know the question takes it for another one
            raise self._none("it does not know them")
        self._of_all_rules = {key: answer[key] for key in (_OF_ALL_RULES,) if key in answer}
        return list(answer["Rules"])

    def put(self, rules: list[dict[str, Any]]) -> None:
        """Give the bucket these rules and no others. Raises FleetError, NoLifecycle where the store knows none."""
        try:
            self._client.put_bucket_lifecycle_configuration(Bucket=self._name, LifecycleConfiguration={"Rules": rules}, **self._of_all_rules)
        except Exception as error:
            raise self._failure(error, "set") from error

    def versions(self) -> str:
        """Return whether the bucket keeps what was replaced or deleted: Enabled, Suspended (no more), or empty (never did). Raises FleetError."""
        try:
            return str(self._client.get_bucket_versioning(Bucket=self._name).get("Status") or "")
        except Exception as error:
            if code_of(error) in _NOT_KNOWN:
                return ""
            raise self._failure(error, "chosen, as it does not tell whether it has versions") from error

    def is_locked(self) -> bool | None:
        """Return whether the bucket has object lock, which keeps versions from its owner too; None where these credentials may not ask."""
        try:
            answer = self._client.get_object_lock_configuration(Bucket=self._name)
        except Exception as error:
            return False if code_of(error) in (_NO_LOCK, *_NOT_KNOWN) else None
        return bool(answer.get("ObjectLockConfiguration"))  # a store that does not know the question takes it for another one

    def _none(self, why: str) -> NoLifecycle:
        return NoLifecycle(f"bucket {self._name}: the store has no lifecycle rules ({why}), so that nothing expires by itself")

    def _failure(self, error: Exception, verb: str) -> FleetError:
        if code_of(error) in _NOT_KNOWN:
            return self._none(code_of(error))
        problem = f"bucket {self._name}: its lifecycle rules cannot be {verb}: {error}"
        return FleetError(str(Mistake("backup_admin_access_key_id", problem, _RIGHTS)) if code_of(error) in _DENIED else problem)


def code_of(error: Exception) -> str:
    """Return the code of an error that the store itself returned; empty for others."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _text(rules: list[dict[str, Any]]) -> str:
    return json.dumps({"Rules": rules}, indent=1) + "\n"
