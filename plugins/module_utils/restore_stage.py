# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the parts of a backup as they arrived (decrypted, still compressed) to data beside their place, proven to be what was backed up.

A manifest comes from a store that strangers may have written to. So it decides what is restored, never where to: only what
the inventory lists of a service is written, and nothing is written through a link.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import io
import os
import pwd
import shutil
import sqlite3
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from ansible_collections.hearth.fleet.plugins.module_utils import cold_copy
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly, want_free
from ansible_collections.hearth.fleet.plugins.module_utils.journal import sync_directory

STAGED = ".hearth-restore-{id}-{number}"
ASIDE = ".before-restore-{id}"
"""Where old data go that lie on another file system than the restores' own directory."""

BESIDE_A_DATABASE = ("-wal", "-shm", "-journal")
_BLOCK_BYTES = 1 << 20
_MAXIMUM_MODE = 0o777  # what an archive makes setuid might be a stranger's program


@dataclass(frozen=True)
class Owner:
    """Whose restored data are, where nothing says more: the service's account."""

    user: str
    group: str

    def ids(self) -> tuple[int, int]:
        """Return uid and gid. Raises FleetError while there is no such account."""
        try:
            return pwd.getpwnam(self.user).pw_uid, grp.getgrnam(self.group).gr_gid
        except KeyError as error:
            raise FleetError(f"there is no account {error} on this host\n  → converge the host first: site.yml") from None


@dataclass(frozen=True)
class Target:
    """Where something of a backup belongs, and where it is staged: beside it, so that a rename brings it there."""

    path: Path
    staged: Path
    aside: Path


def target(path: str, identifier: str, number: int, before: Path) -> Target:
    """Return where what belongs to ``path`` is staged, and where the old goes: below ``before`` if it can.

    Raises FleetError for places that cannot be exchanged.
    """
    place = Path(path)
    if not place.parent.is_dir():
        raise FleetError(f"{path}: there is no directory {place.parent} on this host\n  → converge the host first: site.yml")
    if place.is_symlink():
        raise FleetError(f"{path} is a symbolic link (to {os.readlink(path)})\n  → name what it leads to in the service's backup")
    if os.path.ismount(path):
        raise FleetError(f"{path} is a mount point, which cannot be exchanged whole\n  → list what is in it in the service's backup")
    near = place.parent / ASIDE.format(id=identifier)
    home = before / str(number) if _device(before) == _device(place.parent) else near
    return Target(place, place.with_name(STAGED.format(id=identifier, number=number)), home / place.name)


def _device(path: Path) -> int:
    """Return the file system of a path, or of where it will be made."""
    return next(parent.stat().st_dev for parent in (path, *path.parents) if parent.is_dir())


class Unpacked(io.RawIOBase):
    """The plain data of a compressed file, as ``zstd`` gives them; counts and hashes what was read of them."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.size = 0
        self._digest = hashlib.sha256()
        self._file = file
        try:
            self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # no module here
                ["zstd", "--decompress", "--stdout", "--quiet", "--", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except FileNotFoundError:
            raise FleetError("there is no program zstd on this host\n  → apt-get install zstd, or converge the host: site.yml") from None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next plain bytes."""
        output: Any = self._process.stdout
        data = output.read(len(buffer))
        buffer[: len(data)] = data
        self.size += len(data)
        self._digest.update(data)
        return len(data)

    def verify(self, part: Mapping[str, Any]) -> None:
        """Read to the end. Raises FleetError unless all of it is what the manifest says."""
        while self.read(_BLOCK_BYTES):
            pass
        _nothing, said = self._process.communicate()
        if self._process.returncode:
            raise FleetError(f"{part['name']} cannot be decompressed: {said.decode(errors='replace').strip()}")
        if self.size != part["plain_size"]:
            raise FleetError(f"{part['name']} has {self.size} bytes once decompressed, its manifest says {part['plain_size']}")
        if self._digest.hexdigest() != part["plain_sha256"]:
            raise FleetError(f"{part['name']} is not what was backed up: its SHA-256 is not that of its manifest")

    def close(self) -> None:
        """End the program, wherever it is."""
        if not self.closed:
            with self._process:  # closes its pipes
                self._process.kill()
        super().close()


# Databases


def stage_database(received: Path, part: Mapping[str, Any], place: Target, owner: Owner, sentinel: str) -> str:
    """Write a database beside its place, checked in every way; return what was seen, in words. Raises FleetError or OSError.

    It gets the owner of the one that it replaces, else the service's account. ``sentinel`` is a query, empty for none.
    """
    want_free(place.staged.parent, part["plain_size"], f"for the restored {place.path}")
    with said_plainly(place.staged.parent, f"for the restored {place.path}"), Unpacked(received) as plain, created(place.staged) as file:
        shutil.copyfileobj(plain, file, _BLOCK_BYTES)
        plain.verify(part)
    said = check_database(place.staged, part, sentinel)
    uid, gid = _ids_of_database(place.path, part, owner)
    with open(place.staged, "rb") as done:
        os.fchown(done.fileno(), uid, gid)
        os.fchmod(done.fileno(), part["mode"] & _MAXIMUM_MODE)
        os.fsync(done.fileno())
    return said


def created(path: Path) -> IO[bytes]:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb")


def _ids_of_database(path: Path, part: Mapping[str, Any], owner: Owner) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        found = path.lstat()
        return found.st_uid, found.st_gid
    return (0, 0) if part["uid"] == 0 else owner.ids()


def check_database(path: Path, part: Mapping[str, Any], sentinel: str = "") -> str:
    """Return what a restored database holds, in words. Raises FleetError unless it is whole, and as its manifest says."""
    name = part["name"]
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            said = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            schema = cold_copy.schema_of(connection)
            asked = sentinel if sentinel == part.get("sentinel_query") else ""  # the manifest's own question is a stranger's
            answer = _sentinel(connection, asked)
    except sqlite3.Error as error:
        raise FleetError(f"{name} is no database that can be used: {error}") from None
    if said != "ok":
        raise FleetError(f"{name} is a damaged database: {said}")
    missing = sorted(set(part["tables"]) - tables)
    if missing:
        raise FleetError(f"{name} lacks the tables {', '.join(missing)}, which its manifest lists")
    if schema != part["schema"]:
        raise FleetError(f"{name} has the schema {schema}, its manifest says {part['schema']}")
    if asked and answer != part["sentinel"]:
        raise FleetError(f"{name} answers {answer!r} to {asked!r}; when it was backed up, the answer was {part['sentinel']!r}")
    count = len(tables)
    return f"{count} table{'' if count == 1 else 's'}, integrity ok" + (f", {asked}: {answer}" if asked else "")


def _sentinel(connection: sqlite3.Connection, query: str) -> str | None:
    row = connection.execute(query).fetchone() if query else None
    return None if row is None or row[0] is None else str(row[0])


# Files


def stage_files(received: Path, part: Mapping[str, Any], places: Sequence[Target], owner: Owner) -> list[Target]:
    """Unpack an archive of files, each of ``places`` apart, beside its place; return the places that it has something for.

    Raises FleetError for members that belong elsewhere, and for links that lead out of their place; or OSError.
    """
    for parent in {place.staged.parent for place in places}:
        want_free(parent, part["plain_size"], "for the restored files")
    with said_plainly(places[0].staged.parent, "for the restored files"), Unpacked(received) as plain:
        try:
            with tarfile.open(fileobj=plain, mode="r|", bufsize=_BLOCK_BYTES) as archive:
                unpacker = _Unpacker(places, owner)
                for member in archive:
                    unpacker.add(archive, member)
        except tarfile.TarError as error:
            raise FleetError(f"{part['name']} is no archive that can be read: {error}") from None
        plain.verify(part)
        unpacker.finish()
    return [place for place in places if os.path.lexists(place.staged)]


class _Unpacker:
    """Writes the members of an archive below the staged places."""

    def __init__(self, places: Sequence[Target], owner: Owner) -> None:
        self._places = places
        self._owner = owner
        self._directories: dict[Path, tarfile.TarInfo] = {}

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._staged(member.name)
        if not os.path.lexists(path.parent):
            path.parent.mkdir(mode=0o700, parents=True)
        if member.isdir():
            path.mkdir(mode=0o700, exist_ok=True)
            self._directories[path] = member
        elif member.isreg():
            self._write(archive, member, path)
        elif member.issym():
            os.symlink(member.linkname, path)
            os.chown(path, *self._ids(member), follow_symlinks=False)
        elif member.islnk():
            os.link(self._staged(member.linkname), path, follow_symlinks=False)
        else:
            raise FleetError(f"/{member.name.lstrip('/')} of the archive is a device, which is not restored")

    def _staged(self, name: str) -> Path:
        """Return where a member is staged. Raises FleetError where that is outside of the service's own places."""
        wanted = Path("/" + name.strip("/"))
        place = next((one for one in self._places if wanted == one.path or one.path in wanted.parents), None)
        if place is None or ".." in wanted.parts:
            listed = ", ".join(str(one.path) for one in self._places)
            raise FleetError(f"{wanted} of the archive is not among the files of this set ({listed})\n  → add it to `files`, if it belongs there")
        path = place.staged if wanted == place.path else place.staged / wanted.relative_to(place.path)
        linked = [parent for parent in path.parents if place.staged in (parent, *parent.parents) and parent.is_symlink()]
        if linked:
            raise FleetError(f"{wanted} of the archive lies behind a link of the same archive, which is not followed")
        return path

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        source: Any = archive.extractfile(member)
        with source, created(path) as file:
            shutil.copyfileobj(source, file, _BLOCK_BYTES)
            os.fchown(file.fileno(), *self._ids(member))
            os.fchmod(file.fileno(), member.mode & _MAXIMUM_MODE)
            file.flush()
            os.utime(file.fileno(), (member.mtime, member.mtime))
            os.fsync(file.fileno())

    def _ids(self, member: tarfile.TarInfo) -> tuple[int, int]:
        """Return whose a member is: by name, as numbers differ between hosts; root's stays root's."""
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(member.uname).pw_uid, grp.getgrnam(member.gname).gr_gid
        return (0, 0) if member.uid == 0 else self._owner.ids()

    def finish(self) -> None:
        """Give directories their owners and modes, the innermost first, and write their names through to the disk."""
        for path, member in sorted(self._directories.items(), reverse=True):
            os.chown(path, *self._ids(member), follow_symlinks=False)
            path.chmod(member.mode & _MAXIMUM_MODE | (stat.S_IMODE(member.mode) & stat.S_ISGID))
            os.utime(path, (member.mtime, member.mtime))
            sync_directory(path)


def leave_out(places: Sequence[Target], databases: Sequence[str]) -> None:
    """Remove databases, and what stands beside them, from staged directories."""
    for place in places:
        for name in databases:
            if place.path in Path(name).parents:
                for path in contents(place.staged / Path(name).relative_to(place.path)):
                    path.unlink()


def contents(place: Path) -> Iterator[Path]:
    """Yield a database's files that are there, what stands beside it first."""
    for ending in (*BESIDE_A_DATABASE, ""):
        path = place.with_name(place.name + ending)
        if os.path.lexists(path):
            yield path
