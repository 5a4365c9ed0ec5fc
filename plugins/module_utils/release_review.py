# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run will do about releases, in words and as ``--diff`` shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.artifacts import comes_through_controller, public_url
from ansible_collections.hearth.fleet.plugins.module_utils.releases import (
    LINKS,
    artifact_of,
    current_wanted,
    diff,
    is_installed,
    link_target,
    pending_release,
    previous_wanted,
    stale_links,
    superfluous,
    title,
)


def intentions(wanted: Iterable[Mapping[str, Any]], observed: Mapping[str, Any]) -> list[str]:
    """Return what a run will obtain and do, in words."""
    said = []
    for release in wanted:
        seen = observed["services"][release["service"]]
        artifact = artifact_of(release, observed["arch"])
        if not is_installed(release, seen, observed["arch"]):
            origin = artifact.get("file") or public_url(artifact["url"])
            verb = "transferred" if artifact.get("file") else "downloaded"
            via = " by the controller" if comes_through_controller(release, artifact) else ""
            signed = f", signature by {release['signature']['type']} key" if release.get("signature") else ""
            said.append(f"{title(release)}: will be {verb} from {origin}{via} (sha256 {artifact['sha256']}{signed})")
        said += [str(one) for one in diff([release], observed) if one.reason != "not installed"]
        said += [str(one) for one in pending_release([release], observed)]
    return said


def expected(wanted: Iterable[Mapping[str, Any]], observed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a look at the host will find when ``diff`` of the two has been applied."""
    services = dict(observed["services"])
    for release in wanted:
        seen = services[release["service"]]
        artifact = artifact_of(release, observed["arch"])
        gone = superfluous(release, seen)
        installed = {version: noted for version, noted in seen["installed"].items() if version not in gone}
        if not is_installed(release, seen, observed["arch"]):
            newest = max((noted["installed"] for noted in installed.values()), default=0)
            installed[release["version"]] = {"sha256": artifact["sha256"], "arch": observed["arch"], "installed": newest}
        current = current_wanted(release, seen)
        stale = stale_links(release, seen)
        links = {name: target for name, target in seen["links"].items() if name not in stale}
        links.update({name: link_target(release, name) for name in release["binaries"]})
        services[release["service"]] = {
            **seen,
            "current": current,
            "previous": previous_wanted(seen, current),
            "installed": installed,
            "modified": [],
            "unfinished": [name for name in seen["unfinished"] if name not in gone and name != release["version"]],
            "temporary": [],
            "directories": dict.fromkeys(seen["directories"], ""),
            "links": links,
        }
    return {**observed, "services": services}


def state_lines(service: str, seen: Mapping[str, Any]) -> str:
    """Return the state of one service's releases as text, for ``--diff``."""
    lines = [f"release {version} sha256 {seen['installed'][version]['sha256']}" for version in sorted(seen["installed"])]
    lines += [f"modified: {said}" for said in seen["modified"]]
    lines += [f"unfinished: {name}" for name in [*seen["unfinished"], *seen["temporary"]]]
    lines += [f"{path}: {said}" for path, said in sorted(seen["directories"].items()) if said not in ("", "missing")]
    lines += [f"current -> {seen['current']}"] if seen["current"] else []
    lines += [f"/{LINKS}/{name} -> {target or '(not a link)'}" for name, target in sorted(seen["links"].items())]
    return "".join(f"{service}: {line}\n" for line in lines)
