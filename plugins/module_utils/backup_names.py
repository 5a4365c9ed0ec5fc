# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of backups: jobs, classes, identifiers and object keys, made and read.

A key is ``v1/<class>/<host>/<service>/<id>/<part>``. The class comes first, so that one lifecycle rule of the store, which
knows nothing but prefixes, expires a whole class. Keys are below the store's own prefix, of which nothing here knows.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils import quantities

VERSION = "v1"

PROBE_CLASS = "probe-1d"
"""The class of what a check of the credentials writes."""
MANIFEST = "manifest.json"
FOREVER = "forever"
DAY_SECONDS = 86400

FILES_PART = "files.tar.zst.age"
COMMAND_PART = "command.zst.age"

_SET = r"[a-z][a-z0-9-]{0,30}"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_JOB = re.compile(rf"(?P<service>[^./\s]+)\.(?P<set>{_SET})")
_CLASS = re.compile(rf"(?P<set>{_SET})-(?:(?P<days>[1-9]\d*)d|{FOREVER})")
_IDENTIFIER = re.compile(r"(?P<at>\d{8}T\d{6}Z)-(?P<sequence>\d{6,})-(?P<token>[0-9a-f]{6})")
_DATABASE_PART = re.compile(r"database-(\d+)\.zst\.age")
_TIME = "%Y%m%dT%H%M%SZ"


class Identifier(NamedTuple):
    """What an identifier says: when (Unix seconds, by the host's clock), which run of the job, and a random token."""

    at: int
    sequence: int
    token: str


class Key(NamedTuple):
    """What an object's key says."""

    class_name: str
    host: str
    service: str
    id: str
    part: str


def job_of(service: str, set_name: str) -> str:
    """Return the name of the job that backs a set of a service up; units and directories are called after it."""
    return f"{service}.{set_name}"


def split_job(job: str) -> tuple[str, str]:
    """Return the service and the set of a job. Raises ValueError, worded for people."""
    found = _JOB.fullmatch(job)
    if not found:
        raise ValueError(f"{job!r} is no backup job; write it like relay.data")
    return found["service"], found["set"]


def keep_days(text: object) -> int:
    """Return for how many days backups are kept, 0 for ever.

    ``text`` is a duration in whole days (``30d``, ``12w``) or ``forever``. Raises ValueError, worded for the person who wrote it.
    """
    if text == FOREVER:
        return 0
    try:
        days, rest = divmod(quantities.seconds(text), DAY_SECONDS)
    except ValueError:
        days, rest = 0, 1
    if rest or days < 1:
        raise ValueError(f"{text!r} is not how long to keep a backup; write whole days like 30d or 12w, or {FOREVER}")
    return days


def class_of(set_name: str, keep: int) -> str:
    """Return the class of a set that is kept for ``keep`` days (0 = for ever): ``data-30d``, ``identity-forever``."""
    return f"{set_name}-{f'{keep}d' if keep else FOREVER}"


def split_class(class_name: str) -> tuple[str, int]:
    """Return the set of a class, and for how many days it is kept (0 = for ever). Raises ValueError."""
    found = _CLASS.fullmatch(class_name)
    if not found:
        raise ValueError(f"{class_name!r} is no class of backups; they are called like data-30d or identity-forever")
    return found["set"], int(found["days"] or 0)


def refresh_days(keep: int) -> int:
    """Return after how many days unchanged data are uploaded again although nothing changed; 0 = never (kept for ever)."""
    return max(1, -(-keep // 4)) if keep else 0


def expiry_days(keep: int) -> int:
    """Return after how many days the store removes objects of a class; 0 = never.

    Later than ``keep``: a backup of the last day may consist of a reference to data that are ``refresh_days`` older.
    """
    return keep + refresh_days(keep)


def identifier(now: float, sequence: int, token: str) -> str:
    """Return the identifier of the backup begun at ``now`` (Unix seconds); ``token`` is 6 random hex digits."""
    return f"{time.strftime(_TIME, time.gmtime(now))}-{sequence:06d}-{token}"


def parse_identifier(text: str) -> Identifier | None:
    """Return what an identifier says; None for what is none."""
    found = _IDENTIFIER.fullmatch(text)
    if not found:
        return None
    try:
        at = datetime.strptime(found["at"], _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return Identifier(int(at.timestamp()), int(found["sequence"]), found["token"])


def class_prefix(class_name: str) -> str:
    """Return the prefix of all keys of a class, as lifecycle rules name it; ends with a slash."""
    return f"{VERSION}/{class_name}/"


def job_prefix(class_name: str, host: str, service: str) -> str:
    """Return the prefix of all keys of one job; ends with a slash."""
    return f"{class_prefix(class_name)}{host}/{service}/"


def object_key(class_name: str, host: str, service: str, identifier_text: str, part: str) -> str:
    """Return the key of an object: of a part, or of the manifest."""
    return f"{job_prefix(class_name, host, service)}{identifier_text}/{part}"


def database_part(number: int) -> str:
    """Return the name of the part that holds the job's database of this number (0 = the first)."""
    return f"database-{number}.zst.age"


def database_number(part: str) -> int | None:
    """Return which of the job's databases a part holds; None for other parts."""
    found = _DATABASE_PART.fullmatch(part)
    return int(found[1]) if found else None


def parse_key(key: str) -> Key | None:
    """Return what an object's key says; None for one that no backup has, such as a thief's junk."""
    words = key.split("/")
    if len(words) != 6 or words[0] != VERSION:
        return None
    found = Key(*words[1:])
    named = all(re.fullmatch(_NAME, word) for word in (found.host, found.service))
    part = found.part in (MANIFEST, FILES_PART, COMMAND_PART) or database_number(found.part) is not None
    if not (named and part and _CLASS.fullmatch(found.class_name) and parse_identifier(found.id)):
        return None
    return found
