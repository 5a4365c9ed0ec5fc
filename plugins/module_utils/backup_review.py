# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge, before anything of a backup is installed, what a store answered: put into words that name the inventory. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_names, object_store
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake

PROBES = backup_names.class_prefix(backup_names.PROBE_CLASS).rstrip("/")
"""Below this, a store keeps for a short time what a check has written: credentials that only write cannot take it away again."""

_RIGHTS = {"backup": "s3:PutObject", "backup_read": "s3:ListBucket and s3:GetObject", "backup_admin": "all rights"}


def about_schedule(path: str, schedule: str, said: str) -> Mistake:
    """Return the mistake of a schedule that systemd does not take."""
    return Mistake(
        path, f"systemd does not take {schedule!r} ({said})", "write hourly, daily, weekly, monthly, or as systemd.time(7) has it: '*-*-* 02:00'"
    )


def about_error(check: Mapping[str, Any], kind: str, said: str, credentials: str = "backup") -> Mistake:
    """Return the mistake behind the error of a store that could not even be asked; ``kind`` as of ``object_store.StoreError``.

    ``credentials`` is how the variables begin that hold them: those of the hosts, ``backup_read``, or ``backup_admin``.
    """
    store = check["store"]
    if kind == object_store.NO_BUCKET:
        problem = f"the store {store['endpoint']} has no bucket {store['bucket']!r}"
        return Mistake("backup_store.bucket", problem, "create it there, or correct its name")
    if kind == object_store.CLOCK:
        return Mistake("backup_store", f"the clock of {check['host']} is too far from the store's ({said})", "let a time service set it")
    if kind == object_store.UNREACHABLE:
        problem = f"{check['host']} cannot reach {store['endpoint']} ({said})"
        without = "; with backup_unreachable: warn, backups are installed without it" if credentials == "backup" else ""
        return Mistake("backup_store.endpoint", problem, f"correct it, or start the store{without}")
    if kind == object_store.DENIED:
        remedy = f"copy ID and secret again, or give them {_RIGHTS[credentials]} in bucket {store['bucket']}"
        return Mistake(f"{credentials}_access_key_id", f"the store {store['endpoint']} refuses these credentials ({said})", remedy)
    return Mistake("backup_store", f"the store {store['endpoint']} cannot be used by {check['host']}: {said}", "correct what it says")


def problems(check: Mapping[str, Any], found: object_store.Abilities) -> list[Mistake]:
    """Return what is wrong with the hosts' credentials: they must write, and not read, list or delete unless that is accepted."""
    bucket = check["store"]["bucket"]
    mistakes = []
    if not found.write:
        said = found.said.get("write", "")
        remedy = f"copy ID and secret again, or give them s3:PutObject in bucket {bucket}"
        mistakes.append(Mistake("backup_access_key_id", f"these credentials cannot write ({said})", remedy))
    too_much = [verb for verb in ("read", "list", "delete") if getattr(found, verb)]
    if too_much and not check["readable_credentials"]:
        problem = f"these credentials can {_listed(too_much)} in bucket {bucket}, and so can whoever steals the host"
        remedy = "make some that only s3:PutObject is allowed to; or accept it with backup_readable_credentials: true"
        mistakes.append(Mistake("backup_access_key_id", problem, remedy))
    return mistakes


def lacks(found: object_store.Abilities) -> list[str]:
    """Return in words what a store cannot do that would be better if it could."""
    if found.conditional is False:
        return [
            "the store replaces an object when another of the same name is written (it knows no If-None-Match); "
            "versions or object lock of the bucket keep backups from a thief who overwrites them"
        ]
    return []


def lacks_of_bucket(bucket: str, versions: str) -> list[str]:
    """Return in words what a bucket lacks that would be better if it had it; ``versions`` as S3's GetBucketVersioning has its status."""
    # A store that knows If-None-Match does not help here: a thief just does not ask for it.
    if versions != "Enabled":
        return [f"bucket {bucket} keeps no versions: whoever steals a host can write over its backups; switch versions on, or object lock"]
    return []


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
