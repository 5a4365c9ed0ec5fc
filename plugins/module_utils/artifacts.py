# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the artifact of a release comes from, and its signature (see ``releases`` for what a release is). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.releases import artifact_of, for_architecture

SIGNATURE_ENDINGS = {"ssh": ".sig", "minisign": ".minisig"}


def digest_path(release: Mapping[str, Any], architecture: str) -> str:
    """Return where in the inventory the digest for an architecture stands."""
    path = f"fleet_services.{release['service']}.artifact.sha256"
    return f"{path}.{architecture}" if architecture in release["artifacts"] else path


def signature_location(release: Mapping[str, Any], architecture: str) -> dict[str, str]:
    """Return ``{"url": ...}`` or ``{"file": ...}`` of the signature: as pinned, or beside the artifact."""
    pinned, artifact = release["signature"], artifact_of(release, architecture)
    for kind in ("url", "file"):
        found = for_architecture(pinned.get(kind), architecture)
        if found:
            return {kind: str(found)}
    kind = "file" if artifact.get("file") else "url"
    return {kind: str(artifact[kind]) + SIGNATURE_ENDINGS[pinned["type"]]}


def comes_through_controller(release: Mapping[str, Any], artifact: Mapping[str, Any]) -> bool:
    """Say whether the controller hands the artifact to the host, rather than the host fetching it."""
    return bool(artifact.get("file")) or release["via"] == "controller"


def public_url(url: str) -> str:
    """Return a URL without what may be secret in it: credentials and the query."""
    scheme, mark, rest = url.partition("://")
    place, question, _query = rest.partition("?")
    host, slash, path = place.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" + ("?..." if question else "")
