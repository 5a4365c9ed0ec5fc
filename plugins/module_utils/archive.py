# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that strangers made: what they hold, and unpacking them without letting them out of a directory.

An archive is read twice: ``contents`` looks at every member and refuses what is unsafe, ``unpack`` writes. Names and
links stay inside the directory, nothing but files, directories and links is made, and no member may write more bytes than
the archive declares for it. A program that was only compressed is no archive: ``expand`` writes it.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from ansible_collections.hearth.fleet.plugins.module_utils.elf import header_of
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

COMPRESSED = ("gz", "xz", "bz2", "zst")
"""One file, compressed by itself."""
FORMATS = ("auto", "binary", *COMPRESSED, "tar.gz", "tar.xz", "tar.bz2", "tar.zst", "tar", "zip")

_ENDINGS = {
    ".tar.gz": "tar.gz",
    ".tgz": "tar.gz",
    ".tar.xz": "tar.xz",
    ".txz": "tar.xz",
    ".tar.bz2": "tar.bz2",
    ".tbz2": "tar.bz2",
    ".tar.zst": "tar.zst",
    ".tzst": "tar.zst",
    ".tar": "tar",
    ".zip": "zip",
    **{f".{kind}": kind for kind in COMPRESSED},
}
_OPEN: Mapping[str, Callable[[Path], Any]] = {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}
_TAR_MODES: Mapping[str, Literal["r:gz", "r:xz", "r:bz2", "r:"]] = {"tar.gz": "r:gz", "tar.xz": "r:xz", "tar.bz2": "r:bz2", "tar": "r:"}
_MEMBERS_MAX = 100_000
_NAMES_SHOWN = 20
_BLOCK_BYTES = 1 << 20
_LINK_TARGET_BYTES_MAX = 4096
_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError, RuntimeError)
_UNIX = 3  # zip: made on Unix, so the upper half of external_attr is st_mode


@dataclass(frozen=True)
class Member:
    """One member of an archive. ``kind`` is file, directory, link or hardlink; ``target`` is a link's."""

    path: str
    kind: str
    size_bytes: int = 0
    executable: bool = False
    target: str = ""


def format_of(name: str, wanted: str = "auto") -> str:
    """Return the format of an artifact: as wanted, or by the ending of its file name or URL; else ``binary``."""
    if wanted != "auto":
        return wanted
    path = name.partition("://")[2].partition("?")[0] or name
    return next((kind for ending, kind in _ENDINGS.items() if path.lower().endswith(ending)), "binary")


def contents(archive: Path, kind: str, want_room: Callable[[int], None] = lambda _bytes: None) -> dict[str, Member]:
    """Return the members of an archive by their normalised path.

    ``want_room`` is told how many bytes the members seen so far have, and raises when that is too much: what is packed to
    fill a disk need not be read to its end. Raises FleetError for what is not such an archive, and for members that an
    honest archive of a program has no use for.
    """
    members: dict[str, Member] = {}
    total_bytes = 0
    with _opened(archive, kind) as entries:
        for count, (member, _stream) in enumerate(entries, start=1):
            if count > _MEMBERS_MAX:
                raise FleetError(f"the archive holds more than {_MEMBERS_MAX} members")
            known = members.get(member.path)
            if known and (known.kind, member.kind) != ("directory", "directory"):
                raise FleetError(f"the archive holds {member.path} twice")
            if member.path == "." and member.kind != "directory":
                raise FleetError(f"the archive holds a {member.kind} without a name")
            members[member.path] = member
            total_bytes += member.size_bytes
            want_room(total_bytes)
    members.pop(".", None)
    for member in members.values():
        _check_parents(member, members)
    return members


def unpack(archive: Path, kind: str, members: Mapping[str, Member], directory: Path) -> None:
    """Write the members that ``contents`` found into an empty directory; the caller syncs and renames it.

    Raises FleetError when a link leads out of the directory or the archive is damaged.
    """
    with _opened(archive, kind) as entries:
        for member, stream in entries:
            target = directory / member.path
            if member.kind == "directory":
                target.mkdir(mode=0o755, parents=True, exist_ok=True)
            elif member.kind == "file" and stream is not None:
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                _write(target, stream, member)
    # Links come last, so that no file is ever written through one.
    for member in members.values():
        target = directory / member.path
        if member.kind in ("link", "hardlink"):
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if member.kind == "link":
            target.symlink_to(member.target)
        elif member.kind == "hardlink":
            os.link(directory / member.target, target, follow_symlinks=False)
    refuse_escapes(directory)


def refuse_escapes(directory: Path) -> None:
    """Raise FleetError when a link of what was unpacked leads out of the directory that it lies in now."""
    inside = directory.resolve()
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() and not _is_below(path.resolve(), inside):
            raise FleetError(f"the archive's link {path.relative_to(directory)} -> {path.readlink()} leads out of the release")


def wrapper(members: Mapping[str, Member]) -> str:
    """Return the one directory in which all of an archive lies, as most are packed; empty where there is none.

    A lone ``bin`` is none: it is where the programs of a release belong.
    """
    tops = {PurePosixPath(path).parts[0] for path in members}
    files = {path for path, member in members.items() if member.kind != "directory"}
    top = next(iter(tops), "")
    return "" if len(tops) != 1 or top == "bin" or top in files else top


def expand(compressed: Path, kind: str, target: Path, want_room: Callable[[int], None]) -> None:
    """Write what one of COMPRESSED holds to a new file.

    Its size shows only on the way: ``want_room`` is asked before each block, with the block's bytes. Raises FleetError when
    it is damaged.
    """
    with _damage_named(compressed, kind), _expanded(compressed, kind) as stream, target.open("xb") as output:
        for block in iter(lambda: stream.read(_BLOCK_BYTES), b""):
            want_room(len(block))
            output.write(block)


def _expanded(compressed: Path, kind: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    return _OPEN[kind](compressed) if kind in _OPEN else _zstd_stream(compressed)


def find_binary(members: Mapping[str, Member], wanted: str, path: str) -> str:
    """Return the path of a binary in an archive: the path itself, or the only file whose path ends with it.

    Of several, the only one that is a program is meant: shells' completions and links are often called like it. Raises
    FleetError that lists what the archive holds when there is none, or more than one.
    """
    files = {name for name, member in members.items() if member.kind != "directory"}
    if path in files:
        return path
    found = sorted(name for name in files if name.endswith(f"/{path}"))
    programs = [name for name in found if members[name].executable]
    if len(found) == 1 or len(programs) == 1:
        return (programs or found)[0]
    there = found or sorted(files)
    shown = "\n    ".join([*there[:_NAMES_SHOWN], *([f"and {len(there) - _NAMES_SHOWN} more"] if len(there) > _NAMES_SHOWN else [])])
    problem = f"{path} is there {len(found)} times" if found else f"the archive has no {path}"
    likely = sorted(there, key=lambda name: (PurePosixPath(name).parent.name not in ("bin", "sbin"), not members[name].executable))
    example = "/".join(PurePosixPath(likely[0]).parts[-2:]) if likely else "bin/daemon"
    raise FleetError(
        f"{problem}, which should be the binary {wanted}; it holds\n    {shown}\n"
        f"  → say which one it is by the end of its path, such as binaries: {{{wanted}: {example}}}"
    )


def _write(target: Path, stream: IO[bytes], member: Member) -> None:
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755 if member.executable else 0o644)
    left = member.size_bytes
    with os.fdopen(handle, "wb") as output:
        while left:
            block = stream.read(min(left, _BLOCK_BYTES))
            if not block:
                raise FleetError(f"the archive is damaged: {member.path} is {left} bytes too short")
            output.write(block)
            left -= len(block)
        if stream.read(1):
            raise FleetError(f"the archive is damaged: {member.path} is longer than it declares")


def _is_below(path: Path, directory: Path) -> bool:
    return path == directory or directory in path.parents


def _safe_path(name: str) -> str:
    """Return a member's path without ``.`` components; ``.`` for the archive's own root."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise FleetError(f"the archive's member {name!r} has an unsafe path")
    return path.as_posix()


def _check_parents(member: Member, members: Mapping[str, Member]) -> None:
    for parent in PurePosixPath(member.path).parents:
        known = members.get(parent.as_posix())
        if known and known.kind != "directory":
            raise FleetError(f"the archive's member {member.path} lies below {known.path}, which is a {known.kind}")
    if member.kind == "link" and PurePosixPath(member.target).is_absolute():
        raise FleetError(f"the archive's link {member.path} -> {member.target} leads out of the release")
    if member.kind == "hardlink" and getattr(members.get(member.target), "kind", "") != "file":
        raise FleetError(f"the archive's hard link {member.path} leads to {member.target}, which is no file of it")


@contextlib.contextmanager
def _opened(archive: Path, kind: str) -> Iterator[Iterator[tuple[Member, IO[bytes] | None]]]:
    """Open an archive and yield its members in their order, with a stream for each file."""
    with _damage_named(archive, kind):
        if kind == "zip":
            with zipfile.ZipFile(archive) as opened:
                yield _zip_members(opened)
        elif kind == "tar.zst":
            with _zstd_stream(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as opened_tar:
                yield _tar_members(opened_tar)
        else:
            with tarfile.open(archive, mode=_TAR_MODES[kind]) as opened_tar:
                yield _tar_members(opened_tar)


@contextlib.contextmanager
def _damage_named(archive: Path, kind: str) -> Iterator[None]:
    """Turn what Python's libraries raise for damaged data in the block into FleetError."""
    what = f"{kind} file" if kind in COMPRESSED else f"{kind} archive"
    try:
        yield
    except _UNREADABLE as error:
        start = header_of(archive)[:8].hex(" ")
        raise FleetError(f"it is no readable {what} ({error}; it begins with {start})") from error
    except OSError as error:
        # gzip and lzma report damaged data as OSError without a number; the system's own errors have one.
        if error.errno is not None:
            raise
        raise FleetError(f"the {what} is damaged: {error}") from error


@contextlib.contextmanager
def _zstd_stream(archive: Path) -> Iterator[IO[bytes]]:
    if not shutil.which("zstd"):
        raise FleetError("what zstd has packed needs zstd on the host: apt install zstd, or choose another artifact")
    command = ["zstd", "-dcq", "--", str(archive)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # pylint: disable=ansible-bad-function  # a stream, too large to hold
    with process, process.stdout as stream:  # type: ignore[union-attr]
        try:
            yield stream
            # Only zstd itself knows whether what it wrote is all: an archive may end earlier, a cut one ends anywhere.
            while stream.read(_BLOCK_BYTES):
                pass
            if process.wait():
                raise FleetError(f"what zstd has packed is damaged: zstd ended with {process.returncode}")
        finally:
            process.terminate()


def _tar_members(archive: tarfile.TarFile) -> Iterator[tuple[Member, IO[bytes] | None]]:
    for entry in archive:
        path = _safe_path(entry.name)
        if entry.size < 0:
            raise FleetError(f"the archive's member {path} declares a size of {entry.size} bytes")
        if entry.isdir():
            yield Member(path, "directory"), None
        elif entry.issym():
            yield Member(path, "link", target=entry.linkname), None
        elif entry.islnk():
            yield Member(path, "hardlink", target=_safe_path(entry.linkname)), None
        elif entry.isreg():
            yield Member(path, "file", entry.size, bool(entry.mode & 0o111)), archive.extractfile(entry)
        else:
            raise FleetError(f"the archive's member {path} is no file, directory or link")


def _zip_members(archive: zipfile.ZipFile) -> Iterator[tuple[Member, IO[bytes] | None]]:
    for entry in archive.infolist():
        path = _safe_path(entry.filename)
        mode = entry.external_attr >> 16 if entry.create_system == _UNIX else 0
        kind = mode & 0o170000
        if entry.is_dir():
            yield Member(path, "directory"), None
        elif kind == 0o120000 and entry.file_size <= _LINK_TARGET_BYTES_MAX:
            yield Member(path, "link", target=archive.read(entry).decode("utf-8")), None
        elif kind in (0, 0o100000):
            with archive.open(entry) as stream:
                yield Member(path, "file", entry.file_size, bool(mode & 0o111)), stream
        else:
            raise FleetError(f"the archive's member {path} is no file, directory or link")
