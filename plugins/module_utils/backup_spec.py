# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sets of a service: what is backed up together, on one schedule, and kept for one time. Pure.

What stands directly under ``backup`` is the set ``data``; ``backup.more`` has the others by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_formats
from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, attempt, numbered, readable
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, join_path

DATA = "data"


def sets_of(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sets of a service spec by name, ``data`` first; none where nothing is backed up."""
    return {name: one for name, _path, one in _sets(spec, "")}


def databases_of(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the databases of all sets, each once."""
    found = {database["path"]: database for one in sets_of(spec).values() for database in one["databases"]}
    return [{key: database[key] for key in ("path", "engine", "tables")} for database in found.values()]


def fill(spec: Mapping[str, Any]) -> None:
    """Fill the defaults that depend on other keys: how old a backup may become, and which account makes it."""
    for _name, _path, one in _sets(spec, ""):
        if one["max_age"] is None:
            one["max_age"] = attempt(backup_formats.max_age, one["schedule"])
        if one["user"] is None:
            one["user"] = attempt(_default_user, spec, one)


def _default_user(spec: Mapping[str, Any], one: Mapping[str, Any]) -> Any:
    reads = [*(database["path"] for database in one["databases"]), *one["files"]]
    return spec["account"]["user"] if all(root_of(spec, path) for path in reads) else "root"


def check(spec: Mapping[str, Any], mistakes: list[Mistake], path: str) -> None:
    """Check what depends on several keys of a set, or on the service's directories."""
    if spec["backup"] is None:
        return
    for name in readable(spec["backup"]["more"]):
        if name == DATA:
            remedy = "write its keys directly under backup, or give it another name"
            mistakes.append(Mistake(f"{path}.backup.more.{name}", "is what stands directly under backup already", remedy))
    for _name, where, one in _sets(spec, f"{path}.backup"):
        for check in (_check_content, _check_databases, _check_command, _check_schedule, _check_user):
            attempt(check, spec, one, where, mistakes)


def root_of(spec: Mapping[str, Any], path: str) -> str:
    """Return the innermost of the service's own directories that holds a path; empty for none."""
    return max((root for root in _roots(spec) if f"{path}/".startswith(root.rstrip("/") + "/")), key=len, default="")


def _roots(spec: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([spec["account"]["home"], *(directory["path"] for directory in spec["directories"])]))


def _sets(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each set with its name and its inventory path. Where only ``more`` says something, there is no set ``data``."""
    backup = spec["backup"]
    if backup is None or backup is BROKEN:
        return
    more = {} if backup["more"] is BROKEN else backup["more"]
    if attempt(_is_empty, backup) is not True or not more:
        yield DATA, path, backup
    for name, one in more.items():
        if one is not BROKEN:
            yield name, join_path(f"{path}.more", name), one


def _is_empty(one: Mapping[str, Any]) -> bool:
    return not (one["databases"] or one["files"] or one["command"])


def _check_content(_spec: Mapping[str, Any], one: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if _is_empty(one):
        mistakes.append(Mistake(path, "there is nothing in it", "write databases, files or command, or leave it out"))


def _check_databases(spec: Mapping[str, Any], one: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    for index, database in numbered(one["databases"]):
        root = attempt(root_of, spec, database["path"])
        if root is not BROKEN and not root:
            problem = f"{database['path']} is outside the service's directories"
            mistakes.append(Mistake(f"{path}.databases[{index}].path", problem, f"they are: {', '.join(_roots(spec))}"))


def _check_command(_spec: Mapping[str, Any], one: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if one["command"] and not any("{output}" in word for word in one["command"]):
        mistakes.append(Mistake(f"{path}.command", "does not say where the backup goes", "write {output} in its place"))


def _check_schedule(_spec: Mapping[str, Any], one: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    if one["schedule"] == backup_formats.CHANGES and not one["files"]:
        remedy = "name the files whose change is waited for, or write hourly, daily, weekly or monthly"
        mistakes.append(Mistake(f"{path}.schedule", "there are no files that could change", remedy))


def _check_user(spec: Mapping[str, Any], one: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> None:
    account = spec["account"]["user"]
    if one["user"] not in (None, "root", account):
        mistakes.append(Mistake(f"{path}.user", f"{one['user']!r} is neither root nor the service's account", f"write root or {account}"))
