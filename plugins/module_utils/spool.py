# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spool: where artifacts arrive on a host and wait, named by their digest, until their release is installed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import artifacts, releases, signature
from ansible_collections.hearth.fleet.plugins.module_utils.download import Source, download, fetch_text, verify_digest
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import free_bytes, said_plainly

_ABANDONED_SECONDS = 7 * 86400
_LOCK = ".lock"
_LOCK_POLL_SECONDS = 0.5


def prepare(spool: Path) -> None:
    """Make the spool, for root alone."""
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    spool.chmod(0o700)


@contextlib.contextmanager
def locked(spool: Path, patience_seconds: int) -> Iterator[bool]:
    """Hold the spool's lock; yields whether another run had it first. Raises FleetError when that one does not finish."""
    deadline = time.monotonic() + patience_seconds
    waited = False
    with (spool / _LOCK).open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    problem = f"another run has been installing releases on this host for {patience_seconds} s"
                    raise FleetError(f"{problem}; run again when it is done") from error
                waited = True
                time.sleep(_LOCK_POLL_SECONDS)
        yield waited


def missing(wanted: Sequence[Mapping[str, Any]], observed: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the wanted releases whose artifact is needed."""
    return [release for release in wanted if not releases.is_installed(release, observed["services"][release["service"]], observed["arch"])]


def needs(wanted: Sequence[Mapping[str, Any]], observed: Mapping[str, Any], spool: Path) -> list[dict[str, Any]]:
    """Return what only the controller can provide, per service: ``artifact`` and ``signature`` say which of the two."""
    found = []
    for release in missing(wanted, observed):
        arch = observed["arch"]
        artifact = releases.artifact_of(release, arch)
        through_controller = artifacts.comes_through_controller(release, artifact)
        lacks_artifact = through_controller and not (spool / artifact["sha256"]).exists()
        lacks_signature = False
        if release.get("signature") and not releases.for_architecture(release["signature"].get("text"), arch):
            lacks_signature = through_controller or "file" in artifacts.signature_location(release, arch)
        if lacks_artifact or lacks_signature:
            found.append(
                {
                    "service": release["service"],
                    "arch": arch,
                    "artifact": lacks_artifact,
                    "signature": lacks_signature,
                    "free_bytes": free_bytes(spool),
                }
            )
    return found


def source_of(release: Mapping[str, Any], arch: str, url: str, sha256: str = "") -> Source:
    """Return how one of the release's URLs is to be fetched."""
    return Source(
        url=url,
        sha256=sha256,
        path=artifacts.digest_path(release, arch) if sha256 else _signature_path(release),
        arch=arch,
        headers=release.get("headers") or {},
        proxy=release.get("proxy") or "",
        timeout_seconds=release["timeout"],
        retries=release["retries"],
    )


def obtain(release: Mapping[str, Any], arch: str, spool: Path, handed_over: Mapping[str, str]) -> Path:
    """Return the release's verified artifact, in the spool.

    ``handed_over`` names the files that the controller brought, by digest. Raises FleetError when the artifact cannot be
    had, has another digest, or is not signed by the pinned signer; then it is no longer in the spool. One whose signature cannot be
    had waits there.
    """
    artifact = releases.artifact_of(release, arch)
    path = spool / str(artifact["sha256"])
    if artifacts.comes_through_controller(release, artifact):
        _take_over(release, arch, path, handed_over)
    else:
        download(source_of(release, arch, artifact["url"], artifact["sha256"]), path)
    if release.get("signature"):
        text = _signature(release, arch)
        try:
            signature.verify(release["signature"], text, path, _signature_path(release))
        except FleetError:
            path.unlink()
            raise
    return path


def obtain_all(
    wanted: Iterable[Mapping[str, Any]], arch: str, spool: Path, handed_over: Mapping[str, str], patience_seconds: float
) -> tuple[dict[str, Path], list[FleetError]]:
    """Return the verified artifacts by service, and why the other releases have none.

    Once ``patience_seconds`` have passed and one is refused, the rest is not tried any more: a publisher that does not answer would
    take as long for each.
    """
    began = time.monotonic()
    found: dict[str, Path] = {}
    refused: list[FleetError] = []
    for release in wanted:
        if refused and time.monotonic() - began >= patience_seconds:
            refused.append(FleetError(f"{releases.title(release)}: was not looked at, as the others took {patience_seconds:.0f} s"))
            continue
        try:
            found[release["service"]] = obtain(release, arch, spool, handed_over)
        except FleetError as error:
            refused.append(error)
    # Two releases may share an artifact, which is gone once the signature of one of them does not verify.
    return {service: path for service, path in found.items() if path.exists()}, refused


def _take_over(release: Mapping[str, Any], arch: str, path: Path, handed_over: Mapping[str, str]) -> None:
    artifact = releases.artifact_of(release, arch)
    inventory_path = artifacts.digest_path(release, arch)
    brought = handed_over.get(artifact["sha256"])
    # Another service of the same artifact may have taken it over already.
    if brought and Path(brought).exists():
        # Copied, not renamed: root's own file from its first byte on, whoever logged in to bring it.
        part = path.with_name(f"{path.name}.part")
        with said_plainly(path.parent, f"for the artifact of {release['service']} {release['version']}"):
            shutil.copyfile(brought, part)
        Path(brought).unlink()
        part.replace(path)
    if not path.exists():
        raise FleetError(f"{inventory_path}: the controller has not handed the artifact over")
    origin = artifact.get("file") or artifacts.public_url(artifact["url"])
    try:
        verify_digest(path, artifact["sha256"], path=inventory_path, origin=f"{origin}, through the controller", arch=arch)
    except FleetError:
        path.unlink()
        raise


def _signature(release: Mapping[str, Any], arch: str) -> str:
    """Return the signature of the release's artifact, as the controller brought it or from its URL."""
    text = releases.for_architecture(release["signature"].get("text"), arch)
    if text:
        return str(text)
    url = artifacts.signature_location(release, arch).get("url")
    if not url:
        raise FleetError(f"{_signature_path(release)}: the controller has not handed the signature over")
    return fetch_text(source_of(release, arch, url), signature.SIGNATURE_BYTES_MAX)


def _signature_path(release: Mapping[str, Any]) -> str:
    return f"fleet_services.{release['service']}.artifact.signature"


def tidy(spool: Path, done: Collection[str]) -> None:
    """Remove the artifacts with these digests, and downloads that nobody came back for within a week."""
    long_ago = time.time() - _ABANDONED_SECONDS
    for path in spool.iterdir():
        if path.name != _LOCK and (path.name in done or path.stat().st_mtime < long_ago):
            path.unlink()
