# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, directories and links of a host, in bulk: looked at, and compared with what is wanted (``placing`` brings them to it).

A wanted path is a mapping:

    path        absolute, without ``..`` (text)
    state       file (default) | directory | link | absent
    owner, group  names (default root); for links neither they nor the mode count
    mode        octal text; default 0644 for files, 0755 for directories
    content | secret_content   the text of a file; what is secret never leaves in a diff or a message
    sha256      hex digest of the content; stands for it where only differences are asked for
    target      of a link, as readlink(2) gives it
    validate    command (list) that must accept a file before it replaces the old one; ``{path}`` is the candidate
    validate_as account that runs it (empty: the account of this process)
    service     to whom the path belongs
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import hashlib
import os
import pwd
import re
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference

_CANDIDATE = re.compile(r"\.hearth-[0-9a-f]{12}-(?P<name>.+)", re.DOTALL)
DEFAULT_MODE = {"file": "0644", "directory": "0755"}
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_ARTICLES = {"file": "a file", "directory": "a directory", "link": "a symbolic link", "other": "a special file"}

Wanted = Mapping[str, Any]


def look(wanted: Sequence[Wanted]) -> dict[str, dict[str, Any]]:
    """Return what is at each wanted path now; reads only, and only digests of contents leave it.

    Each observation has ``kind`` (absent, file, directory, link, other), ``owner``, ``group``, ``mode``; a file's
    ``sha256``, a link's ``target``, a directory's ``empty``; and ``leftovers``, the candidates that an interrupted run
    left behind for this path.
    """
    listings: dict[str, list[tuple[str, str]]] = {}
    observed = {}
    for one in wanted:
        path = one["path"]
        parent, name = os.path.split(path)
        if parent not in listings:
            listings[parent] = _candidates_in(parent)
        candidates = [os.path.join(parent, found) for found, target in listings[parent] if target == name]
        leftovers = [candidate for candidate in candidates if _is_abandoned(candidate)]
        observed[path] = {**_observe(path), "leftovers": leftovers}
    return observed


def diff(wanted: Sequence[Wanted], observed: Mapping[str, Mapping[str, Any]]) -> list[Difference]:
    """Return what differs, one difference per path with all its reasons.

    Actions: ``create``, ``change``, ``remove``; and ``refuse`` for what ``placing.apply`` will not do by itself, such as putting
    a file where somebody made a directory.
    """
    differences = []
    for one in wanted:
        found = observed[one["path"]]
        difference = difference_of(one, found)
        if difference:
            differences.append(difference)
        differences += [
            Difference(leftover, "left behind by an interrupted run", one.get("service", ""), "remove") for leftover in found.get("leftovers", ())
        ]
    return differences


def digest(one: Wanted) -> str | None:
    """Return the wanted content's SHA-256 in hex: of the content where it is given, else as stated."""
    content = content_of(one)
    return one.get("sha256") if content is None else hashlib.sha256(content.encode()).hexdigest()


# What is wanted


def state_of(one: Wanted) -> str:
    """Return what the path is to be: file, directory, link or absent."""
    return one.get("state") or "file"


def content_of(one: Wanted) -> str | None:
    """Return the text of a file, secret or not; None where only its digest is given."""
    content = one.get("content")
    return one.get("secret_content") if content is None else content


def mode_of(one: Wanted) -> str:
    """Return the wanted mode, as four octal digits."""
    return f"{int(one.get('mode') or DEFAULT_MODE[state_of(one)], 8):04o}"


def owner_of(one: Wanted) -> str:
    """Return the wanted owner's name."""
    return one.get("owner") or "root"


def group_of(one: Wanted) -> str:
    """Return the wanted group's name."""
    return one.get("group") or "root"


def as_observed(one: Wanted) -> dict[str, Any]:
    """Return what `look` finds where everything but the content is as wanted."""
    state = state_of(one)
    if state in DEFAULT_MODE:
        return {"kind": state, "owner": owner_of(one), "group": group_of(one), "mode": mode_of(one)}
    return {"kind": state, "target": one.get("target")}


# Looking


def _observe(path: str) -> dict[str, Any]:
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return {"kind": "absent"}
        raise
    observation: dict[str, Any] = {
        "kind": _KINDS.get(stat.S_IFMT(status.st_mode), "other"),
        "owner": owner_name(status.st_uid),
        "group": _group_name(status.st_gid),
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }
    # Between the look and the read the path may vanish: then the look says what it saw, without the rest.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if observation["kind"] == "file":
            observation["sha256"] = _file_digest(path)
        elif observation["kind"] == "link":
            observation["target"] = os.readlink(path)
        elif observation["kind"] == "directory":
            with os.scandir(path) as entries:
                observation["empty"] = next(entries, None) is None
    return observation


def _file_digest(path: str) -> str | None:
    """Return the SHA-256 of a regular file in hex; None if something else has taken its place."""
    fd = open_to_read(path)
    if fd is None:
        return None
    total = hashlib.sha256()
    with os.fdopen(fd, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


def open_to_read(path: str) -> int | None:
    """Open a regular file, never through a link at its end, never waiting for a pipe's writer; None for anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return None
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def owner_name(uid: int) -> str:
    """Return the name of an account; its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _candidates_in(directory: str) -> list[tuple[str, str]]:
    """Return the names of the candidates in a directory, sorted, each with the name that it was to get."""
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [(name, match["name"]) for name in names for match in [_CANDIDATE.fullmatch(name)] if match]


def _is_abandoned(path: str) -> bool:
    """Return whether a candidate has no living owner: whoever makes one holds a lock on it (see ``placing``)."""
    try:
        fd = open_to_read(path)
    except FileNotFoundError:
        return False
    if fd is None:
        return os.path.islink(path)  # the candidate of a link is never locked: it lives for one system call
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


# Comparing


def difference_of(one: Wanted, found: Mapping[str, Any]) -> Difference | None:
    """Return how one path differs from what is wanted; None when it does not."""
    state, kind, service = state_of(one), found["kind"], one.get("service", "")
    path = one["path"]
    if state == "absent":
        if kind == "absent":
            return None
        if kind == "other" or (kind == "directory" and not found.get("empty")):
            what = "a directory with something in it" if kind == "directory" else _ARTICLES[kind]
            return Difference(path, f"is {what}, which is not removed unasked; remove it by hand", service, "refuse")
        return Difference(path, f"is {_ARTICLES[kind]} that should not be there", service, "remove")
    if kind == "absent":
        return Difference(path, "does not exist", service, "create")
    if kind == "link" and state == "file":
        # Only a pointer goes; what it points to stays.
        return Difference(path, f"is a symbolic link to {found.get('target')}, where a file is wanted", service, "change")
    if kind != state:
        reason = f"is {_ARTICLES[kind]}, where {_ARTICLES[state]} is wanted; it is not removed unasked: move it away"
        return Difference(path, reason, service, "refuse")
    reasons = _reasons(one, found)
    return Difference(path, "; ".join(reasons), service, "change") if reasons else None


def _reasons(one: Wanted, found: Mapping[str, Any]) -> list[str]:
    if state_of(one) == "link":
        target = one.get("target")
        return [] if found.get("target") == target else [f"points to {found.get('target')}, not to {target}"]
    wanted = as_observed(one)
    reasons = ["content differs"] if state_of(one) == "file" and found.get("sha256") != digest(one) else []
    reasons += [f"{name} {found.get(name)}, not {wanted[name]}" for name in ("owner", "group", "mode") if found.get(name) != wanted[name]]
    return reasons
