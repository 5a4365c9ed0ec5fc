# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a backup: what it consists of, how to recognise that it is whole, and what must be in it.

It is written last, so that without it there is no backup. It is plain text in the store and holds no secret. What is read
comes from a store that others may have written to, so nothing of it is believed before ``parse`` looked at it.

A part as a mapping: ``name``, ``kind`` (``database``, ``files``, ``command``), ``path`` (where a database belongs; ``/`` for
files, whose names in the archive are relative to it; empty for a command's output), ``key`` of the object, its ``size``
(bytes) and ``sha256``, ``plain_size`` and ``plain_sha256`` of what was encrypted, and of databases ``schema`` (as
``cold_copy.schema`` says it), ``tables``, ``sentinel_query`` and its answer ``sentinel`` (None without), ``uid``, ``gid``, ``mode``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_names as names
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

VERSION = 1
MAX_BYTES = 1 << 20
"""No manifest is larger; whoever reads one from a store may stop there."""

DATABASE, FILES, COMMAND = "database", "files", "command"

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class ManifestError(FleetError):
    """What was read is no manifest, or none that can be believed."""


def time_text(at: float) -> str:
    """Return Unix seconds as manifests write times: ``2026-11-21T14:15:00Z``."""
    return time.strftime(_TIME, time.gmtime(at))


def build(
    order: Mapping[str, Any],
    *,
    identifier: str,
    parts: Sequence[Mapping[str, Any]],
    same_as: str = "",
    release: str = "",
    clock_skew_seconds: int | None = None,
) -> dict[str, Any]:
    """Return the manifest of a backup that was made by an order.

    ``same_as`` is the identifier of the backup whose parts these are, empty when they are this one's own. ``release`` is that
    of the service. ``clock_skew_seconds`` is by how much the host's clock is ahead of the store's; None = not known.
    """
    named = names.parse_identifier(identifier)
    if named is None:
        raise ManifestError(f"{identifier!r} is no identifier of a backup")
    return {
        "version": VERSION,
        "id": identifier,
        **{key: order[key] for key in ("host", "service", "set", "class")},
        "at": time_text(named.at),
        "sequence": named.sequence,
        "keep_days": order["keep_days"],
        "clock_skew_seconds": clock_skew_seconds,
        "release": release,
        "same_as": same_as,
        "parts": [dict(part) for part in parts],
        "recipients": list(order["recipients"]),
    }


def text(manifest: Mapping[str, Any]) -> str:
    """Return a manifest as it is stored."""
    return json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def key_of(manifest: Mapping[str, Any]) -> str:
    """Return the key of a manifest's own object."""
    return names.object_key(manifest["class"], manifest["host"], manifest["service"], manifest["id"], names.MANIFEST)


def parse(content: str | bytes) -> dict[str, Any]:
    """Return a manifest whose every value is of the right kind, and whose parts belong to the same job.

    Raises ManifestError, which says what is wrong.
    """
    if len(content) > MAX_BYTES:
        raise ManifestError(f"a manifest of {len(content)} bytes is none; at most {MAX_BYTES}")
    try:
        found = json.loads(content)
    except ValueError:
        raise ManifestError("the manifest is no JSON; it was cut off, or something else was written in its place") from None
    if not isinstance(found, dict):
        raise ManifestError("the manifest is no JSON object")
    if found.get("version") != VERSION:
        raise ManifestError(f"the manifest is of version {found.get('version')!r}; this release reads version {VERSION}")
    _want(found, _MANIFEST, "manifest")
    for number, part in enumerate(found["parts"]):
        _want(part, _PART, f"manifest, part {number}")
        if part["kind"] == DATABASE:
            _want(part, _DATABASE, f"manifest, part {part['name']}")
    _want_consistent(found)
    return found


def _want(found: Any, kinds: Mapping[str, Callable[[Any], bool]], where: str) -> None:
    if not isinstance(found, dict):
        raise ManifestError(f"{where}: no JSON object")
    for key, fits in kinds.items():
        if key not in found or not fits(found[key]):
            raise ManifestError(f"{where}: {key} is {'missing' if key not in found else 'not what it should be'}")


def _want_consistent(found: Mapping[str, Any]) -> None:
    """Raise ManifestError unless the identifier and the keys say the same as the manifest."""
    named = names.parse_identifier(found["id"])
    if named is None or named.sequence != found["sequence"] or time_text(named.at) != found["at"]:
        raise ManifestError("manifest: id, sequence and at do not say the same")
    if (found["set"], found["keep_days"]) != names.split_class(found["class"]):
        raise ManifestError("manifest: class, set and keep_days do not say the same")
    data = found["same_as"] or found["id"]
    for part in found["parts"]:
        if part["key"] != names.object_key(found["class"], found["host"], found["service"], data, part["name"]) or not names.parse_key(part["key"]):
            raise ManifestError(f"manifest, part {part['name']}: its key leads to something else than this backup")
    if len({part["name"] for part in found["parts"]}) != len(found["parts"]) or not found["parts"]:
        raise ManifestError("manifest: there must be parts, each once")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _class(value: Any) -> bool:
    try:
        names.split_class(value)
    except (TypeError, ValueError):
        return False
    return True


_MANIFEST: dict[str, Callable[[Any], bool]] = {
    "id": lambda value: isinstance(value, str) and names.parse_identifier(value) is not None,
    "host": _text,
    "service": _text,
    "set": _text,
    "class": _class,
    "at": lambda value: isinstance(value, str) and _TIME_TEXT.fullmatch(value) is not None,
    "sequence": _count,
    "keep_days": _count,
    "clock_skew_seconds": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
    "release": _text,
    "same_as": lambda value: value == "" or (isinstance(value, str) and names.parse_identifier(value) is not None),
    "parts": lambda value: isinstance(value, list),
    "recipients": _texts,
}
_PART: dict[str, Callable[[Any], bool]] = {
    "name": _text,
    "kind": lambda value: value in (DATABASE, FILES, COMMAND),
    "path": _text,
    "key": _text,
    "size": _count,
    "sha256": _sha256,
    "plain_size": _count,
    "plain_sha256": _sha256,
}
_DATABASE: dict[str, Callable[[Any], bool]] = {
    "schema": _text,
    "tables": _texts,
    "sentinel_query": _text,
    "sentinel": lambda value: value is None or _text(value),
    "uid": _count,
    "gid": _count,
    "mode": _count,
}
