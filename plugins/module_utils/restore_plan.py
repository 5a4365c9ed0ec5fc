# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore will do to a host, and what stands against it, from a manifest, the service's description and a look at the host. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_catalogue, backup_manifest, backup_spec, cold_copy, versions
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import since_text, size_text


def order(specs: Mapping[str, Any], service: str, set_name: str, identifier: str) -> dict[str, Any]:
    """Return what the host is asked to do (``restore_host``), but for the manifest. Raises FleetError for what the inventory does not know.

    ``specs`` is the desired state of the host.
    """
    host = specs["host"]["name"]
    if service not in specs["services"]:
        known = ", ".join(specs["services"]) or "none"
        raise FleetError(f"{host}: restore_service: {service!r} is not placed on this host (services: {known})\n  → place it there and run site.yml")
    sets = backup_spec.sets_of(specs["services"][service])
    if set_name not in sets:
        known = ", ".join(sets) or "none"
        raise FleetError(f"{host}: restore_set: {service} has no set {set_name!r} (sets: {known})\n  → write restore_set, or add it to its backup")
    one = next(slice_ for slice_ in specs["rollout"] if slice_["service"] == service)
    others = [database["path"] for name, other in sets.items() if name != set_name for database in other["databases"]]
    return {
        "id": identifier,
        **{key: one[key] for key in ("service", "unit", "home", "user", "group", "health", "stop_timeout", "start_timeout")},
        "databases": [{"path": database["path"], "sentinel": database.get("sentinel") or ""} for database in sets[set_name]["databases"]],
        "files": list(sets[set_name]["files"]),
        "other_databases": others,
    }


def refusal(manifest: Mapping[str, Any], wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    """Return why a backup is not restored to a host; empty where nothing stands against it.

    ``wanted`` is the order, ``seen`` what ``restore_host.look`` returned.
    """
    listed = [database["path"] for database in wanted["databases"]]
    for part in manifest["parts"]:
        if part["kind"] == backup_manifest.DATABASE and part["path"] not in listed:
            known = ", ".join(listed) or "none"
            return (
                f"{part['name']} of backup {manifest['id']} is {part['path']}, which is no database of {wanted['service']}.{manifest['set']} "
                f"in the inventory (there: {known})\n  → correct its path there, if that is where it belongs"
            )
        if part["kind"] == backup_manifest.FILES and not wanted["files"]:
            return f"backup {manifest['id']} has files, but {wanted['service']}.{manifest['set']} has none in the inventory\n  → list them there"
    return _release_refusal(manifest, wanted, seen)


def _release_refusal(manifest: Mapping[str, Any], wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    """Return why the installed release may not be able to use the data: they are a newer one's, and so is their schema."""
    service, made, installed = wanted["service"], manifest["release"], seen["release"]
    if not installed:
        return f"no release of {service} is installed on this host\n  → converge it first: site.yml"
    databases = [part for part in manifest["parts"] if part["kind"] == backup_manifest.DATABASE]
    newer = versions.compare(made, installed) if made else None
    for part in databases:
        present = str(seen["schemas"].get(part["path"], cold_copy.ABSENT))
        there, coming = _user_version(present), _user_version(part["schema"])
        if newer in (-1, 0) or present == part["schema"] or (newer is None and there is not None and coming is not None and coming <= there):
            continue
        if newer is None and there is None:
            continue  # nobody can tell
        return (
            f"{part['path']} of backup {manifest['id']} has schema {coming}, made by {service} {made or 'of an unknown release'}; "
            f"installed is {installed}, which may not be able to use it\n"
            f"  → install {made or 'the release that wrote it'} first (fleet_services.{service}.version and site.yml), or restore an older backup"
        )
    return ""


def _user_version(schema: str) -> int | None:
    number = schema.partition(":")[0]
    return int(number) if number.isdigit() else None


def render(manifest: Mapping[str, Any], host: str, seen: Mapping[str, Any], at: float, now: float) -> str:
    """Return what is about to be restored, for people: one fact per line. ``at`` is when the data were taken."""
    parts = manifest["parts"]
    sent, plain = (size_text(sum(part[key] for part in parts)) for key in ("size", "plain_size"))
    names = [part["path"] if part["kind"] == backup_manifest.DATABASE else part["kind"] for part in parts]
    same = f", the same as {manifest['same_as']}" if manifest["same_as"] else ""
    lines = {
        "service": f"{manifest['service']}.{manifest['set']} of {manifest['host']}, to {host}",
        "backup": f"{manifest['id']}{same}",
        "taken": f"{backup_catalogue.time_text(at)}, {since_text(max(0, int(now - at)))} ago",
        "release": f"{manifest['release'] or 'unknown'}; installed is {seen['release'] or 'none'}",
        "size": f"{sent} in {len(parts)} part{'' if len(parts) == 1 else 's'}, {plain} restored: {', '.join(names)}",
        "for": ", ".join(manifest["recipients"]),
    }
    return "\n".join(f"{name:<8} {said}" for name, said in lines.items())
