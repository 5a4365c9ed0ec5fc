# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store holds: which backups there are, which of them is meant, and what is wrong with them. Pure, over a listing of the store.

The clock of the store decides what is new, as that of a host may be wrong, or may not be there at all. A backup that is held
is a copy in the class of its set that is kept for ever, under the same id.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple, Protocol

from ansible_collections.hearth.fleet.plugins.module_utils import backup_manifest, wrapped_table
from ansible_collections.hearth.fleet.plugins.module_utils import backup_names as names
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text, since_text, size_text

SKEW_SECONDS = 120
"""A clock that is wrong by more is worth a word."""

EXPIRY_WARNING_DAYS = 7
_COLUMNS = {
    "host": "HOST",
    "service": "SERVICE",
    "set": "SET",
    "newest": "NEWEST",
    "age": "AGE",
    "size": "SIZE",
    "met": "RPO MET",
    "expires": "EXPIRES",
    "problems": "PROBLEMS",
}
_WIDTHS = {"problems": 60}

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)")

Manifests = Mapping[str, Mapping[str, Any]]
"""Manifests by their keys."""


class Stored(Protocol):
    """An object as the store lists it (``object_store.Object``)."""

    @property
    def key(self) -> str:
        """Return its key, without the store's own prefix."""

    @property
    def size(self) -> int:
        """Return its size in bytes."""

    @property
    def at(self) -> str:
        """Return when it was written (RFC 3339)."""


class Entry(NamedTuple):
    """An object of a listing; ``time`` in seconds since 1970."""

    key: str
    size: int
    time: float


Listing = Mapping[str, Entry]
"""The objects of backups by their keys."""


def listing(objects: Iterable[Stored]) -> dict[str, Entry]:
    """Return the objects that belong to backups; what else lies in the store is nobody's business. Raises FleetError."""
    return {one.key: Entry(one.key, one.size, stored_at(one.at)) for one in objects if names.parse_key(one.key)}


def stored_at(text: str) -> float:
    """Return a time of the store in seconds since 1970. Raises FleetError."""
    found = _RFC3339.fullmatch(text)
    if not found:
        raise FleetError(f"the store says {text!r} for a time")
    return datetime.fromisoformat(found[1] + found[2].replace("Z", "+00:00")).timestamp()


def classes(entries: Iterable[str]) -> list[str]:
    """Return the classes that objects of backups belong to, by their keys."""
    return sorted({found.class_name for found in map(names.parse_key, entries) if found})


@dataclass(frozen=True)
class Backup:
    """One backup, as its manifest's key tells.

    ``at`` is when its data were taken, as far as that can be believed, ``stored`` when the store got the manifest; both in seconds since 1970.
    """

    key: str
    class_name: str
    host: str
    service: str
    set_name: str
    id: str
    sequence: int
    at: float
    stored: float
    claimed: float

    @property
    def keep_days(self) -> int:
        """Return for how many days it is kept; 0 for ever."""
        return names.split_class(self.class_name)[1]

    @property
    def job(self) -> tuple[str, str, str]:
        """Return host, service and set."""
        return self.host, self.service, self.set_name

    def __str__(self) -> str:
        return f"{self.id} (of {time_text(self.at)})"


def read(entries: Listing) -> list[Backup]:
    """Return all backups of a listing, the newest first. What has no manifest is none, and stays invisible."""
    found = filter(None, map(_backup, entries.values()))
    return sorted(found, key=lambda one: (one.stored, one.claimed, one.sequence, one.keep_days == 0), reverse=True)


def _backup(entry: Entry) -> Backup | None:
    key = names.parse_key(entry.key)
    said = names.parse_identifier(key.id) if key else None
    if key is None or said is None or key.part != names.MANIFEST:
        return None
    return Backup(
        key=entry.key,
        class_name=key.class_name,
        host=key.host,
        service=key.service,
        set_name=names.split_class(key.class_name)[0],
        id=key.id,
        sequence=said.sequence,
        at=min(said.at, entry.time),  # nothing is stored before it was made
        stored=entry.time,
        claimed=said.at,
    )


# Choosing


def parse_time(text: str) -> float:
    """Return a moment in seconds since 1970: ``2026-11-20T12:00``, with seconds or an offset if wanted; UTC where none is given.

    Raises FleetError, also for a day without a time: that is what is left of ``-e restore_at='2026-11-20 12:00'``.
    """
    if re.fullmatch(r"\s*\d{4}-\d\d-\d\d\s*", text):
        raise FleetError(f"{text!r} has no time; write it with a T, without a blank: {text.strip()}T12:00 (UTC)")
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise FleetError(f"{text!r} is no moment; write it like 2026-11-20T12:00 (UTC), or 2026-11-20T12:00+01:00") from None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def choose(backups: Sequence[Backup], host: str, service: str, set_name: str, *, at: str = "", identifier: str = "") -> Backup:
    """Return the backup that is meant: the newest, the last one taken until ``at``, or the one whose id begins with ``identifier``.

    Raises FleetError when there is none, or more than one; or when the newest is of a host that began anew, so that nobody restores what
    a lost host's replacement has backed up before it was restored itself.
    """
    of_job = [one for one in backups if one.job == (host, service, set_name)]
    what = f"{service}.{set_name} of {host}"
    if not of_job:
        known = sorted({f"{one.service}.{one.set_name}" for one in backups if one.host == host})
        there = f"of {host} there are: {', '.join(known)}" if known else f"of {host} there is none at all"
        raise FleetError(f"the store holds no backup of {what}; {there}\n  → playbooks/backup_status.yml shows what there is")
    if identifier:
        return _named(of_job, identifier, what)
    if at:
        moment = parse_time(at)
        before = [one for one in of_job if one.at <= moment]
        if not before:
            oldest = min(of_job, key=lambda one: one.at)
            raise FleetError(f"no backup of {what} is as old as {time_text(moment)}; the oldest is {oldest}")
        return max(before, key=lambda one: (one.at, one.stored, one.sequence))
    newest = of_job[0]
    former = next((one for one in of_job if one.sequence > newest.sequence), None)
    if former:
        raise FleetError(
            f"the newest backup of {what} is of a host that has begun anew ({newest}); the last one from before is {former}\n"
            f"  → choose: -e restore_id={former.id}, or -e restore_id={newest.id}"
        )
    return newest


def _named(backups: Sequence[Backup], identifier: str, what: str) -> Backup:
    found = [one for one in backups if one.id.startswith(identifier)]
    exact = [one for one in found if one.id == identifier]
    if not found:
        latest = ", ".join(one.id for one in backups[:3])
        raise FleetError(f"no backup of {what} is called {identifier}…; the latest are {latest}")
    if len({one.id for one in found}) > 1 and not exact:
        raise FleetError(f"{len(found)} backups of {what} begin with {identifier}: {', '.join(one.id for one in found[:5])}; write more of the id")
    return (exact or found)[0]


# Judging


def part_problems(manifest: Mapping[str, Any], entries: Listing) -> list[str]:
    """Return which parts of a backup are missing, or of another size than its manifest says, in words."""
    said = []
    for part in manifest["parts"]:
        entry = entries.get(part["key"])
        if entry is None and manifest["same_as"]:
            said.append(f"its {part['name']} is that of {manifest['same_as']}, which is gone")
        elif entry is None:
            said.append(f"its {part['name']} is missing")
        elif entry.size != part["size"]:
            said.append(f"its {part['name']} has {entry.size} bytes, its manifest says {part['size']}")
    return said


def mismatch(manifest: Mapping[str, Any], backup: Backup) -> str:
    """Return why a manifest is not that of the backup under whose key it lies; empty where it is."""
    for name, found, wanted in (
        ("host", manifest["host"], backup.host),
        ("service", manifest["service"], backup.service),
        ("id", manifest["id"], backup.id),
        ("set", manifest["set"], backup.set_name),
    ):
        if found != wanted:
            return f"the manifest of {backup.key} is that of another backup: its {name} is {found}, not {wanted}"
    return ""


def newest_of_each(backups: Iterable[Backup]) -> dict[tuple[str, str, str], Backup]:
    """Return the newest backup of each host, service and set; ``backups`` are sorted, the newest first."""
    found: dict[tuple[str, str, str], Backup] = {}
    for one in backups:
        found.setdefault(one.job, one)
    return found


def rows(jobs: Iterable[Mapping[str, Any]], entries: Listing, manifests: Manifests, now: float) -> list[dict[str, Any]]:
    """Return the state of every job, and of what the store holds of hosts, services and sets that have no job (any more).

    ``jobs`` say ``host``, ``service``, ``set`` and ``max_age`` (seconds, 0 for none); ``manifests`` hold those of the newest
    backups. A row has ``host``, ``service``, ``set``, ``id``, ``newest`` (UTC, None for none), ``age_seconds``, ``size`` (bytes),
    ``met`` (None where nothing is asked), ``expires`` (UTC, None for never), ``backups`` (how many) and ``problems`` in words.
    """
    backups = read(entries)
    newest = newest_of_each(backups)
    wanted = {(job["host"], job["service"], job["set"]): int(job["max_age"]) for job in jobs}
    found = []
    for job in sorted({*wanted, *newest}):
        row: dict[str, Any] = dict(zip(("host", "service", "set"), job))
        if job in newest:
            count = len({one.id for one in backups if one.job == job})
            row.update(_row(newest[job], manifests.get(newest[job].key), entries, wanted.get(job), now), backups=count)
        else:
            nothing = {"id": None, "newest": None, "age_seconds": None, "size": None, "met": False, "expires": None, "backups": 0}
            row.update(nothing, problems=["there is no backup at all"])
        found.append(row)
    return found


def _row(backup: Backup, manifest: Mapping[str, Any] | None, entries: Listing, max_age: int | None, now: float) -> dict[str, Any]:
    age = max(0, int(now - backup.at))
    late = bool(max_age) and age > (max_age or 0)
    broken = ["its manifest cannot be read"] if manifest is None else [*filter(None, [mismatch(manifest, backup)]), *part_problems(manifest, entries)]
    expires = _expires(backup, manifest, entries)
    return {
        "id": backup.id,
        "newest": time_text(backup.at),
        "age_seconds": age,
        "size": sum(part["size"] for part in manifest["parts"]) if manifest else None,
        "met": False if broken or late else None if max_age is None else True,
        "expires": None if expires is None else time_text(expires),
        "problems": [
            *([f"the newest is {since_text(age)} old, wanted is at most {duration_text(max_age or 0)}"] if late else []),
            *broken,
            *_expiry_problem(backup, expires, now),
            *_clock_problems(backup, manifest),
        ],
    }


def _expires(backup: Backup, manifest: Mapping[str, Any] | None, entries: Listing) -> float | None:
    """Return when the store removes the first object that a backup needs; None for never."""
    if not backup.keep_days:
        return None
    parts = [entries[part["key"]].time for part in (manifest or {"parts": []})["parts"] if part["key"] in entries]
    return min([backup.stored, *parts]) + names.expiry_days(backup.keep_days) * names.DAY_SECONDS


def _expiry_problem(backup: Backup, expires: float | None, now: float) -> list[str]:
    if expires is None:
        return []
    left = expires - now
    if left > min(EXPIRY_WARNING_DAYS, backup.keep_days / 4) * names.DAY_SECONDS:
        return []
    remedy = f"and there is no newer one; keep it with -e backup_hold={backup.host}"
    return [f"the store removes it in {since_text(int(left))}, {remedy}" if left > 0 else f"the store removes it any moment, {remedy}"]


def _clock_problems(backup: Backup, manifest: Mapping[str, Any] | None) -> list[str]:
    skew = (manifest or {}).get("clock_skew_seconds")
    if skew is None and backup.claimed - backup.stored > SKEW_SECONDS:
        skew = backup.claimed - backup.stored
    if skew is None or abs(skew) <= SKEW_SECONDS:
        return []
    direction = "ahead of" if skew > 0 else "behind"
    return [f"the host's clock was {since_text(math.ceil(abs(skew)))} {direction} the store's; its id tells the wrong time"]


def render(found: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as a table for people."""
    shown = [
        {
            **row,
            "age": since_text(row["age_seconds"]),
            "size": None if row["size"] is None else size_text(row["size"]),
            "expires": (row["expires"] or "never") if row["newest"] else None,
            "problems": "; ".join(row["problems"]),
        }
        for row in found
    ]
    return wrapped_table.render(shown, _COLUMNS, _WIDTHS) if shown else "no service of these hosts has a backup"


def time_text(moment: float) -> str:
    """Return a moment as people read it: ``2026-11-20 12:00:00 UTC``."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


# Holding


@dataclass(frozen=True)
class Hold:
    """What keeps backups for ever: objects to copy (from key, to key), then manifests to write (key, text)."""

    copies: list[tuple[str, str]]
    manifests: list[tuple[str, str]]


def hold(entries: Listing, manifests: Manifests, host: str) -> Hold:
    """Return what keeps the newest backup of every set of a host for ever. Raises FleetError where there is none."""
    newest = [one for one in newest_of_each(read(entries)).values() if one.host == host]
    if not newest:
        raise FleetError(f"the store holds no backup of {host}, so that there is nothing to hold")
    copies: dict[str, str] = {}
    texts: dict[str, str] = {}
    for backup in newest:
        manifest = manifests.get(backup.key)
        if manifest is None or not backup.keep_days:
            continue  # kept for ever already
        parts = [{**part, "key": held_key(part["key"])} for part in manifest["parts"]]
        copies.update({old["key"]: new["key"] for old, new in zip(manifest["parts"], parts) if new["key"] not in entries})
        held = {**manifest, "class": names.class_of(backup.set_name, 0), "keep_days": 0, "parts": parts}
        texts[backup_manifest.key_of(held)] = backup_manifest.text(held)
    return Hold(sorted(copies.items()), sorted(texts.items()))


def held_key(key: str) -> str:
    """Return the key of an object's copy that is kept for ever. Raises FleetError for what is no object of a backup."""
    found = names.parse_key(key)
    if found is None:
        raise FleetError(f"{key} is no object of a backup")
    set_name = names.split_class(found.class_name)[0]
    return names.object_key(names.class_of(set_name, 0), found.host, found.service, found.id, found.part)
