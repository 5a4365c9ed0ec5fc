# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting releases on a host: stage each whole beside its place, then rename. A crash leaves the old state or the new one.

All releases of a call are staged and checked before the first is put in its place, so that a bad one changes nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import archive, elf, programs, releases
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import SpaceError, said_plainly, want_free

_VERSION_SECONDS = 30
_SAID_CHARACTERS = 400
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@dataclass(frozen=True)
class Staged:
    """A checked release, complete in a temporary directory, and where it belongs."""

    directory: Path
    destination: Path


def apply(
    wanted: Sequence[Mapping[str, Any]],
    observed: Mapping[str, Any],
    artifacts: Mapping[str, Path],
    root: str = "/",
    refused: Sequence[FleetError] = (),
) -> None:
    """Bring the host from ``observed`` to ``wanted``.

    ``artifacts`` holds the verified artifact of each service whose release is not installed, ``refused`` why others have none.
    Raises FleetError with all that is wrong with any release; then nothing that was in use has changed unless the error came
    from the disk itself.
    """
    staged: list[Staged] = []
    problems = list(refused)
    try:
        for release in wanted:
            if release["service"] in artifacts:
                try:
                    staged.append(stage(release, observed["arch"], artifacts[release["service"]], root))
                except FleetError as error:
                    problems.append(error)
        releases.refuse(problems)
        for one in staged:
            put_in_place(one)
    finally:
        for one in staged:
            shutil.rmtree(one.directory, ignore_errors=True)
    for release in wanted:
        seen = observed["services"][release["service"]]
        home = releases.at(root, release["root"])
        with said_plainly(home, f"for the links of {release['service']}"):
            _repair_directories(home)
            switch(home, releases.current_wanted(release, seen))
            _link_binaries(release, seen, root)
            _remove(home / "releases", [*seen["temporary"], *releases.superfluous(release, seen)])


def stage(release: Mapping[str, Any], arch: str, artifact: Path, root: str = "/") -> Staged:
    """Unpack and check a verified artifact in a temporary directory below ``releases``.

    Raises FleetError, and leaves nothing, when it holds no such binary, the binary is built for another machine, or it
    calls itself another version.
    """
    home = releases.at(root, release["root"]) / "releases"
    purpose = f"to unpack {release['service']} {release['version']}"
    with said_plainly(_existing(home), purpose):
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        _repair_directories(home.parent)
        directory = Path(tempfile.mkdtemp(prefix=f"{releases.TEMPORARY}{release['version']}-", dir=home))
        try:
            _fill(release, arch, artifact, directory)
            _check_programs(release, arch, directory)
            _check_version(release, directory)
            _write_manifest(release, arch, directory)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
    return Staged(directory, home / release["version"])


def put_in_place(staged: Staged) -> None:
    """Rename a staged release to its version. One of that name, if any, changes places with it and is then removed."""
    if not os.path.lexists(staged.destination):
        staged.directory.rename(staged.destination)
    elif not _exchange(staged.directory, staged.destination):
        discarded = staged.directory.with_name(f"{staged.directory.name}.old")
        staged.destination.rename(discarded)
        staged.directory.rename(staged.destination)
        shutil.rmtree(discarded)
    sync(staged.destination.parent)


def switch(home: Path, version: str) -> None:
    """Make an installed release the current one, by rename(2), and note the one before it as ``previous``.

    Raises FleetError when the version is not installed or ``current`` is not a link.
    """
    before = releases.read_version(home / "current")
    if before == version:
        return
    if not (home / "releases" / version / releases.MANIFEST).is_file():
        raise FleetError(f"{home}: release {version} is not installed, so it cannot become current")
    if before:
        replace_link(home / "previous", f"releases/{before}")
    replace_link(home / "current", f"releases/{version}")


def replace_link(link: Path, target: str) -> None:
    """Point a link elsewhere in one step: whoever looks sees the old target or the new one."""
    if link.is_dir() and not link.is_symlink():
        raise FleetError(f"{link} is a directory where a link belongs; move it away")
    temporary = link.with_name(f".{link.name}.hearth-new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync(link.parent)


def sync(path: Path) -> None:
    """Write a file or directory through to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _fill(release: Mapping[str, Any], arch: str, artifact: Path, directory: Path) -> None:
    """Put the artifact's files into the directory, each named binary at ``bin/<name>``."""
    origin = releases.artifact_of(release, arch)
    kind = archive.format_of(origin.get("file") or origin["url"], release["format"])
    programs = directory / "bin"

    def want_room(needed_bytes: int) -> None:
        want_free(directory.parent, needed_bytes, f"to unpack {release['service']} {release['version']}")

    try:
        if kind == "binary" or release.get("name"):
            want_free(directory.parent, artifact.stat().st_size, f"for {release['service']} {release['version']}")
            programs.mkdir(mode=0o755)
            shutil.copyfile(artifact, directory / release["name"] if release.get("name") else programs / _only_name(release))
        elif kind in archive.COMPRESSED:
            programs.mkdir(mode=0o755)
            archive.expand(artifact, kind, programs / _only_name(release), want_room)
        else:
            members = archive.contents(artifact, kind, want_room)
            top = archive.wrapper(members)
            _leave_room_for_manifest(members, top)
            paths = {
                name: archive.find_binary(members, name, path.replace("{arch}", arch).replace("{version}", release["version"]))
                for name, path in release["binaries"].items()
            }
            archive.unpack(artifact, kind, members, directory)
            _unwrap(directory, top)
            programs.mkdir(mode=0o755, exist_ok=True)
            for name, path in paths.items():
                _name_binary(programs / name, directory / PurePosixPath(path).relative_to(top))
    except SpaceError:
        raise
    except FleetError as error:
        raise FleetError(f"fleet_services.{release['service']}.artifact: {error}") from error
    _set_modes(directory, [programs / name for name in release["binaries"]])


def _leave_room_for_manifest(members: Mapping[str, archive.Member], top: str) -> None:
    if PurePosixPath(top, releases.MANIFEST).as_posix() in members:
        raise FleetError(f"the archive has a {releases.MANIFEST} of its own, where the release's manifest goes")


def _unwrap(directory: Path, top: str) -> None:
    """Put the one directory that all of an archive lies in, if any, in the release's place: its name has a version as a rule."""
    if top:
        whole = (directory / top).rename(directory.with_name(f"{directory.name}.whole"))
        directory.rmdir()
        whole.rename(directory)
        archive.refuse_escapes(directory)


def _set_modes(directory: Path, binaries: Iterable[Path]) -> None:
    """Give everyone read access and root alone the rest, whatever the archive and the umask say."""
    for path in releases.entries_below(directory).values():
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    for binary in binaries:
        binary.chmod(0o755)


def _only_name(release: Mapping[str, Any]) -> str:
    names = list(release["binaries"])
    if len(names) != 1:
        raise FleetError(f"a single program has one name, not {len(names)} ({', '.join(names)}); set format if it is an archive")
    return str(names[0])


def _name_binary(name: Path, binary: Path) -> None:
    if name == binary:
        return
    if os.path.lexists(name):
        raise FleetError(f"the archive has a bin/{name.name} of its own beside {binary.name}; name that one, or give the binary another name")
    if not binary.is_file():
        raise FleetError(f"the archive's {binary.name} is a link that leads to no file")
    name.symlink_to(os.path.relpath(binary, name.parent))


def _check_programs(release: Mapping[str, Any], arch: str, directory: Path) -> None:
    for name in release["binaries"]:
        complaint = elf.complaint(elf.header_of(directory / "bin" / name), arch)
        if complaint:
            path = f"fleet_services.{release['service']}.artifact"
            problem = f"{name} {release['version']} cannot run on this host ({arch}): {complaint}"
            remedy = (
                f"give the URL and the sha256 of the build for {arch}; what is packed is unpacked as artifact.format says"
                f" ({', '.join(archive.FORMATS[2:])}), and what is packed otherwise by you, to be given as artifact.file; a file that another program"
                " runs, such as a .jar, has an artifact.name"
            )
            raise FleetError(str(Mistake(path, problem, remedy)))


def _check_version(release: Mapping[str, Any], directory: Path) -> None:
    """Run the binary's version command as nobody and compare what it says with the wanted version.

    A bare name of a binary is the staged one: what is linked under it, if anything is, is of the release before.
    """
    if not release["version_command"]:
        return
    names = list(release["binaries"])
    binary = directory / (release.get("name") or PurePosixPath("bin", release["service"] if release["service"] in names else names[0]))
    first, *others = release["version_command"]
    first = str(directory / "bin" / first) if first in names else first
    command = [word.replace("{binary}", str(binary)) for word in (first, *others)]
    said = run_as_nobody(command, f"fleet_services.{release['service']}.version_command")
    found = version_in(said, release["version_pattern"], release["version"])
    if found != release["version"]:
        excerpt = said.strip()[:_SAID_CHARACTERS] or "nothing"
        problem = f"the inventory wants {release['version']}, the binary calls itself {found or 'otherwise'}; it said: {excerpt}"
        remedy = "correct version, or the artifact's URL and sha256; version_pattern says where the version stands"
        raise FleetError(str(Mistake(f"fleet_services.{release['service']}.version", problem, remedy)))


def version_in(said: str, pattern: str, wanted: str) -> str:
    """Return the version in a program's output: the pattern's first group, or all of its match; empty when there is none.

    Without a pattern it is ``wanted`` where that stands in the output as a word of its own.
    """
    if pattern:
        match = re.search(pattern, said)
        return str((match[1] if match.re.groups else match[0]) or "") if match else ""
    alone = rf"(?<![\w.+-])v?{re.escape(wanted)}(?![\w+-]|\.\w)"
    return wanted if re.search(alone, said) else ""


def run_as_nobody(command: Sequence[str], path: str) -> str:
    """Return what a program prints, run without privileges, environment or input; for at most 30 seconds.

    Raises FleetError, with the inventory path of the command, when it cannot run, fails or hangs.
    """
    identity: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
    said = programs.run(command, seconds=_VERSION_SECONDS, environment=environment, account=identity, together=True)
    if not said.ended:
        raise FleetError(f"{path}: {said.error}")
    if said.status != 0:
        raise FleetError(f"{path}: {' '.join(command)} ended with {said.status}; it said: {said.output.strip()[:_SAID_CHARACTERS]}")
    return said.output


def _write_manifest(release: Mapping[str, Any], arch: str, directory: Path) -> None:
    """Sync everything, then write the manifest: the directory is a release from that moment on."""
    found = releases.entries_below(directory)
    for path in found.values():
        if not path.is_symlink():
            sync(path)
    manifest = {
        "service": release["service"],
        "version": release["version"],
        "arch": arch,
        "sha256": releases.artifact_of(release, arch)["sha256"],
        "installed": int(time.time()),
        "binaries": sorted(release["binaries"]),
        "name": release.get("name", ""),
        "entries": {name: releases.describe_entry(path, with_digest=True) for name, path in found.items()},
    }
    path = directory / releases.MANIFEST
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    path.chmod(0o644)
    sync(path)
    sync(directory)


def _exchange(one: Path, other: Path) -> bool:
    """Let two directories change places in one step (renameat2(2)); False where kernel, libc or file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _repair_directories(home: Path) -> None:
    for path in (home, home / "releases"):
        path.chmod(0o755)
        os.chown(path, os.geteuid(), -1)


def _link_binaries(release: Mapping[str, Any], seen: Mapping[str, Any], root: str) -> None:
    directory = releases.at(root, releases.LINKS)
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in releases.linked(release):
        target = releases.link_target(release, name)
        if seen["links"].get(name) == "":
            (directory / name).replace(directory / f"{name}.old")
        if seen["links"].get(name) != target:
            replace_link(directory / name, target)
    for name in releases.stale_links(release, seen):
        (directory / name).unlink(missing_ok=True)


def _remove(directory: Path, names: Iterable[str]) -> None:
    for name in names:
        # Under a temporary name first: a release that loses its files one by one must not look like one.
        discarded = directory / name
        if not name.startswith(releases.TEMPORARY):
            discarded = directory / f"{releases.TEMPORARY}gone-{name}"
            (directory / name).rename(discarded)
        shutil.rmtree(discarded)
