# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of services on a host: where they lie, what is there, what differs from what is wanted.

::

    <root>/releases/<version>/...            each release whole, with its manifest .release.json, but without the directory
                                             that its archive was packed in
    <root>/releases/<version>/bin/<binary>   each named binary, whatever its path in the artifact
    <root>/releases/<version>/<name>         an artifact that is one file and no program by itself
    <root>/current -> releases/<version>     what starts next
    <root>/previous -> releases/<version>    what was current before
    /usr/local/bin/<binary> -> <root>/current/bin/<binary>

A wanted release is a mapping: ``service``, ``version``, ``root``, ``artifacts`` (per architecture ``url`` or ``file``, and
``sha256``), ``binaries`` (name to path in the artifact) or ``name``, ``keep``, ``unit`` and how to obtain and check it (see the module
``hearth.fleet.releases``). Nothing here imports Ansible, so that tools on the host can use it too.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.elf import host_architecture
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake

MANIFEST = ".release.json"
TEMPORARY = ".stage-"
"""How the names of unfinished and of discarded release directories begin."""
LINKS = "usr/local/bin"
STAMPS = "run/hearth"
_DIRECTORY_MODE = 0o755
_RUNNING = frozenset({"active", "activating", "reloading", "deactivating"})


def at(root: str, path: str) -> Path:
    """Return an absolute path of the host as it is reached below ``root``."""
    return Path(root) / path.lstrip("/")


def running_units(shown: str) -> set[str]:
    """Return the units that run, from the output of ``systemctl show --property=Id,ActiveState UNIT...``.

    A unit that systemd is about to start again counts as running: what it would start must not change under it.
    """
    running = set()
    for block in shown.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if values.get("ActiveState") in _RUNNING:
            running.add(values.get("Id", ""))
    return running - {""}


def artifact_of(release: Mapping[str, Any], architecture: str) -> Mapping[str, Any]:
    """Return the artifact for the host's architecture, or the one for any.

    Raises FleetError, with the inventory path, when the release has none or has no digest for it.
    """
    artifacts = {arch: artifact for arch, artifact in release["artifacts"].items() if artifact.get("sha256")}
    artifact = for_architecture(artifacts, architecture)
    if architecture and artifact:
        return artifact  # type: ignore[no-any-return]  # plain data
    path = f"fleet_services.{release['service']}.artifact.sha256"
    if not architecture:
        raise FleetError(str(Mistake(path, "the host has no dpkg, so its architecture is unknown", "use a Debian or Ubuntu host")))
    problem = f"no digest for {architecture}, which this host needs (found: {', '.join(sorted(artifacts)) or 'none'})"
    remedy = f"add sha256.{architecture}, or take the host out of the placement of {release['service']}"
    raise FleetError(str(Mistake(path, problem, remedy)))


def refuse(errors: Sequence[FleetError]) -> None:
    """Raise what keeps releases from being installed: one error as it is, several together; nothing where there is none."""
    if len(errors) > 1:
        raise FleetError("\n".join([f"{len(errors)} releases are refused; none was put in its place:", *map(str, errors)]))
    for error in errors:
        raise error


def want_digests(wanted: Iterable[Mapping[str, Any]], architecture: str) -> None:
    """Raise FleetError unless every release has a digest for the host's architecture."""
    refused = []
    for release in wanted:
        try:
            artifact_of(release, architecture)
        except FleetError as error:
            refused.append(error)
    refuse(refused)


def for_architecture(values: Mapping[str, Any] | None, architecture: str) -> Any:
    """Return the value for an architecture, or the one that serves any; None when there is neither."""
    return (values or {}).get(architecture) or (values or {}).get("any")


def look(wanted: Iterable[Mapping[str, Any]], running: Collection[str] = frozenset(), root: str = "/", arch: str = "") -> dict[str, Any]:
    """Return what is on the host, per service, as plain data. Changes nothing and starts no program.

    ``running`` names the units that run (see running_units), ``root`` is where the host's file system is mounted,
    ``arch`` stands in for the host's own architecture.
    """
    links = _host_links(root)
    return {
        "arch": arch or host_architecture(root),
        "services": {release["service"]: _look_at(release, running, root, links) for release in wanted},
    }


def _look_at(release: Mapping[str, Any], running: Collection[str], root: str, links: Mapping[str, str]) -> dict[str, Any]:
    home = at(root, release["root"])
    manifests, unfinished, temporary = _releases_in(home / "releases", release["service"])
    wanted = manifests.get(release["version"])
    return {
        "running": bool(release.get("unit")) and release["unit"] in running,
        "current": read_version(home / "current"),
        "previous": read_version(home / "previous"),
        "started": _started(at(root, f"/{STAMPS}/{release['service']}.started")),
        "installed": {version: {key: manifest[key] for key in ("sha256", "arch", "installed")} for version, manifest in manifests.items()},
        "modified": _modified(home / "releases" / release["version"], wanted) if wanted else [],
        "unfinished": unfinished,
        "temporary": temporary,
        "directories": {str(path): _directory_complaint(at(root, str(path))) for path in (Path(release["root"]), Path(release["root"]) / "releases")},
        "links": {name: target for name, target in links.items() if name in release["binaries"] or target.startswith(f"{release['root']}/current/")},
    }


def _host_links(root: str) -> dict[str, str]:
    """Return what stands in /usr/local/bin: the target of each link; empty for what is not a link."""
    try:
        entries = sorted(at(root, LINKS).iterdir())
    except OSError:
        return {}
    return {entry.name: str(entry.readlink()) if entry.is_symlink() else "" for entry in entries}


def _releases_in(directory: Path, service: str) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Return the manifests of the releases in ``directory`` by version, the directories without one, and left-overs."""
    manifests, unfinished, temporary = {}, [], []
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        entries = []
    for entry in entries:
        if entry.name.startswith(TEMPORARY):
            temporary.append(entry.name)
        elif entry.is_dir() and not entry.is_symlink():
            manifest = read_manifest(entry, service)
            if manifest:
                manifests[entry.name] = manifest
            else:
                unfinished.append(entry.name)
    return manifests, unfinished, temporary


def read_manifest(directory: Path, service: str) -> dict[str, Any] | None:
    """Return the manifest of a release directory; None where there is none that fits ``service`` and the directory."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        kinds = {"service": str, "version": str, "arch": str, "sha256": str, "installed": int, "entries": dict}
        whole = all(isinstance(manifest[key], kind) for key, kind in kinds.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole and (manifest["service"], manifest["version"]) == (service, directory.name) else None


def read_version(link: Path) -> str:
    """Return the version that ``current`` or ``previous`` names; empty when the link is missing, odd or leads nowhere."""
    try:
        target = link.readlink()
    except OSError:
        return ""
    return target.name if target.parent == Path("releases") and (link.parent / target).is_dir() else ""


def _started(stamp: Path) -> str:
    """Return the version that the running service was started from, as its unit noted it; empty when unknown."""
    try:
        lines = stamp.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return next((Path(line[8:].strip()).name for line in lines if line.startswith("release ")), "")


def _directory_complaint(path: Path) -> str:
    """Return what is wrong with a directory that must be ours and open to read; empty when nothing is."""
    try:
        found = path.lstat()
    except OSError:
        return "missing"
    if not stat.S_ISDIR(found.st_mode):
        return "not a directory"
    if (stat.S_IMODE(found.st_mode), found.st_uid) != (_DIRECTORY_MODE, os.geteuid()):
        return f"has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}, wanted 0755 and {os.geteuid()}"
    return ""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def describe_entry(path: Path, *, with_digest: bool) -> dict[str, Any]:
    """Return what a manifest says of one directory entry. ``with_digest`` reads files, which costs time."""
    found = path.lstat()
    entry: dict[str, Any] = {"uid": found.st_uid, "gid": found.st_gid}
    if stat.S_ISLNK(found.st_mode):
        return {"link": str(path.readlink()), **entry}
    entry["mode"] = f"{stat.S_IMODE(found.st_mode):04o}"
    if stat.S_ISDIR(found.st_mode):
        return {"directory": True, **entry}
    entry.update(size=found.st_size, mtime_ns=found.st_mtime_ns)
    if with_digest and stat.S_ISREG(found.st_mode):
        entry["sha256"] = sha256_of(path)
    return entry


def entries_below(directory: Path) -> dict[str, Path]:
    """Return all entries of a release directory by relative path, itself as ``.``, without its manifest.

    Python's byte code caches are left out: a program that root runs by hand may write them.
    """
    found = {".": directory}
    for parent, folders, files in os.walk(directory):
        folders[:] = sorted(folder for folder in folders if folder != "__pycache__")
        for name in [*folders, *files]:
            path = Path(parent) / name
            found[path.relative_to(directory).as_posix()] = path
    found.pop(MANIFEST, None)
    return found


def _modified(directory: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Return what is no longer as it was installed, in words, one per directory entry."""
    entries = manifest["entries"]
    present = entries_below(directory)
    named = [*(Path("bin", name) for name in manifest.get("binaries", [])), *([manifest["name"]] if manifest.get("name") else [])]
    programs = {os.path.normpath(os.path.realpath(directory / name)) for name in named}
    said = [f"{path} is missing" for path in sorted(set(entries) - set(present))]
    said += [f"{path} is not part of the release" for path in sorted(set(present) - set(entries))]
    for path in sorted(set(entries) & set(present)):
        complaint = _entry_complaint(present[path], entries[path], always_read=str(present[path].resolve()) in programs)
        if complaint:
            said.append(f"{path} {complaint}")
    return said


def _entry_complaint(path: Path, noted: Mapping[str, Any], *, always_read: bool) -> str:
    found = describe_entry(path, with_digest=False)
    if found.get("link") != noted.get("link"):
        return f"points to {found['link']}" if "link" in found else "is no longer a link"
    if found.get("directory") != noted.get("directory"):
        return "is of another kind"
    if "sha256" in noted and (always_read or (found.get("size"), found.get("mtime_ns")) != _stamp(noted)):
        digest = describe_entry(path, with_digest=True).get("sha256", "")
        if digest != noted["sha256"]:
            return f"was modified (sha256 {digest[:12] or 'none'}, installed was {noted['sha256'][:12]})"
    kept = [f"{key} {found.get(key)}, installed was {noted.get(key)}" for key in ("mode", "uid", "gid") if found.get(key) != noted.get(key)]
    return f"has {'; '.join(kept)}" if kept else ""


def _stamp(noted: Mapping[str, Any]) -> tuple[Any, Any]:
    return noted.get("size"), noted.get("mtime_ns")


# --- deciding -------------------------------------------------------------------------------------------------------


def is_installed(release: Mapping[str, Any], seen: Mapping[str, Any], arch: str) -> bool:
    """Say whether the wanted release lies on the host as it was published: same artifact, nothing modified."""
    noted = seen["installed"].get(release["version"])
    return bool(noted) and noted["sha256"] == artifact_of(release, arch)["sha256"] and not seen["modified"]


def is_held(release: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Say whether the switch belongs to the rollout: the service runs from another release than the wanted one."""
    return bool(seen["running"] and seen["current"] and seen["current"] != release["version"])


def current_wanted(release: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    """Return the version that ``current`` should name now.

    A running service keeps its release. When it runs and ``current`` is gone, that is the release it was started from:
    the way to a new one leads through the rollout even then.
    """
    if is_held(release, seen):
        return str(seen["current"])
    if seen["running"] and not seen["current"] and seen["started"] in seen["installed"]:
        return str(seen["started"])
    return str(release["version"])


def previous_wanted(seen: Mapping[str, Any], current: str) -> str:
    """Return what ``previous`` names once ``current`` is what it should be."""
    return str(seen["current"] if seen["current"] not in ("", current) else seen["previous"])


def link_target(release: Mapping[str, Any], name: str) -> str:
    """Return where the link of a binary in /usr/local/bin leads."""
    return f"{release['root']}/current/bin/{name}"


def stale_links(release: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Return links in /usr/local/bin to binaries that the service no longer names; none while another release runs."""
    if is_held(release, seen) or not release.get("linked", True):
        return []
    return sorted(name for name in seen["links"] if name not in release["binaries"])


def superfluous(release: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Return the directories in ``releases`` that may go, oldest first.

    Of complete releases ``keep`` stay: the wanted, the current, the previous and the running one in any case, then the newest.
    """
    current = current_wanted(release, seen)
    needed = {release["version"], current, previous_wanted(seen, current), seen["started"] if seen["running"] else ""}
    newest_first = sorted(seen["installed"], key=lambda version: (seen["installed"][version]["installed"], version), reverse=True)
    spare = max(release["keep"] - len(needed & ({*seen["installed"], release["version"]})), 0)
    others = [version for version in newest_first if version not in needed]
    return [name for name in seen["unfinished"] if name not in needed] + others[spare:][::-1]


def diff(wanted: Iterable[Mapping[str, Any]], observed: Mapping[str, Any]) -> list[Difference]:
    """Return what the release role has to do. A release that is staged while another one runs is no difference here.

    Raises FleetError when a service has no digest for the host's architecture.
    """
    differences = []
    for release in wanted:
        seen = observed["services"][release["service"]]
        steps = [
            *_diff_directories(seen),
            *_diff_installed(release, seen, observed["arch"]),
            *_diff_current(release, seen),
            *_diff_links(release, seen),
            *_diff_left_overs(release, seen),
        ]
        differences += [Difference(item, reason, release["service"], action) for item, reason, action in steps]
    return differences


def title(release: Mapping[str, Any]) -> str:
    """Return what a release is called in messages."""
    return f"{release['service']} {release['version']}"


def _diff_directories(seen: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    # A missing directory is made on the way; only the release that goes into it is worth a word.
    return [(path, said, "repair") for path, said in seen["directories"].items() if said not in ("", "missing")]


def _diff_installed(release: Mapping[str, Any], seen: Mapping[str, Any], arch: str) -> list[tuple[str, str, str]]:
    artifact = artifact_of(release, arch)
    if is_installed(release, seen, arch):
        return []
    noted = seen["installed"].get(release["version"])
    if noted and noted["sha256"] != artifact["sha256"]:
        reasons = [f"installed from another artifact (sha256 {noted['sha256'][:12]}, wanted {artifact['sha256'][:12]})"]
    elif noted:
        reasons = seen["modified"]
    elif release["version"] in seen["unfinished"]:
        reasons = ["its directory has no valid manifest: the installation did not finish"]
    else:
        reasons = ["not installed"]
    action = "stage" if is_held(release, seen) else "install"
    return [(title(release), reason, action) for reason in reasons]


def _diff_current(release: Mapping[str, Any], seen: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    goal = current_wanted(release, seen)
    if seen["current"] == goal:
        return []
    if seen["current"]:
        return [(title(release), f"{seen['current']} is current", "switch")]
    reason = "no release is current" if goal == release["version"] else f"no release is current, but {goal} runs"
    return [(f"{release['root']}/current", reason, "switch")]


def linked(release: Mapping[str, Any]) -> list[str]:
    """Return the binaries that have links in /usr/local/bin: all of them, or none (``linked``)."""
    return list(release["binaries"]) if release.get("linked", True) else []


def _diff_links(release: Mapping[str, Any], seen: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    steps = []
    for name in linked(release):
        path, target, found = f"/{LINKS}/{name}", link_target(release, name), seen["links"].get(name)
        if found is None:
            steps.append((path, "link is missing", "create"))
        elif not found:
            steps.append((path, f"is not a link to {target}; it will be kept as {path}.old", "create"))
        elif found != target:
            steps.append((path, f"points to {found}, not to {target}", "create"))
    stale = stale_links(release, seen)
    return steps + [(f"/{LINKS}/{name}", "is a binary of an earlier description of the service", "remove") for name in stale]


def _diff_left_overs(release: Mapping[str, Any], seen: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    home = f"{release['root']}/releases"
    steps = [(f"{home}/{name}", "left over from an interrupted installation", "remove") for name in seen["temporary"]]
    for name in superfluous(release, seen):
        if name in seen["unfinished"]:
            steps.append((f"{home}/{name}", "is not a complete release", "remove"))
        else:
            steps.append((f"{release['service']} {name}", f"old release, beyond the {release['keep']} that are kept", "remove"))
    return steps


def pending_release(wanted: Iterable[Mapping[str, Any]], observed: Mapping[str, Any]) -> list[Difference]:
    """Return the switches that are the rollout's: services that run from another release than the wanted one."""
    differences = []
    for release in wanted:
        seen = observed["services"][release["service"]]
        if is_held(release, seen):
            state = "is" if is_installed(release, seen, observed["arch"]) else "will be"
            runs = seen["started"] or seen["current"]
            reason = f"{runs} runs; {release['version']} {state} staged, the switch is the rollout's"
            differences.append(Difference(title(release), reason, release["service"], "stage"))
    return differences
