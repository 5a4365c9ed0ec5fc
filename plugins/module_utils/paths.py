# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, directories and links of a host, in bulk: looked at, compared, and brought to what is wanted.

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

All new files of a call are written beside their targets as *candidates*, under hidden names that end like the target's
(``.hearth-<random>~node.toml``), given their owner and mode, flushed to disk and validated, before the first of them
replaces anything. Whatever fails before that leaves every old file as it was.
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
import secrets
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

VALIDATION_SECONDS = 60
SHOWN_LINES = 20
"""How many of a validator's last lines an error quotes."""
SHOWN_BYTES = 256 * 1024
"""A file that is longer is not shown in a diff."""

_KEPT = "the old file was kept, the service was not touched"
_CANDIDATE = re.compile(r"\.hearth-[0-9a-f]{12}~(?P<name>.+)", re.DOTALL)
_QUOTED = re.compile(r"""(["'])((?:(?!\1).)*)\1(\s*:)?""")
_DEFAULT_MODE = {"file": "0644", "directory": "0755"}
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_ARTICLES = {"file": "a file", "directory": "a directory", "link": "a symbolic link", "other": "a special file"}

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # as many as the kernel follows in one path

Wanted = Mapping[str, Any]


def look(wanted: Sequence[Wanted]) -> dict[str, dict[str, Any]]:
    """Return what is at each wanted path now; reads only, and only digests of contents leave it.

    Each observation has ``kind`` (absent, file, directory, link, other), ``owner``, ``group``, ``mode``; a file's
    ``sha256``, a link's ``target``, a directory's ``empty``; and ``leftovers``, the candidates that an interrupted run
    left behind for this path.
    """
    listings: dict[str, list[str]] = {}
    observed = {}
    for one in wanted:
        path = one["path"]
        parent, name = os.path.split(path)
        if parent not in listings:
            listings[parent] = _candidates_in(parent)
        leftovers = [
            os.path.join(parent, found) for found in listings[parent] if found.endswith("~" + name) and _is_abandoned(os.path.join(parent, found))
        ]
        observed[path] = {**_observe(path), "leftovers": leftovers}
    return observed


def diff(wanted: Sequence[Wanted], observed: Mapping[str, Mapping[str, Any]]) -> list[Difference]:
    """Return what differs, one difference per path with all its reasons.

    Actions: ``create``, ``change``, ``remove``; and ``refuse`` for what `apply` will not do by itself, such as putting
    a file where somebody made a directory.
    """
    differences = []
    for one in wanted:
        found = observed[one["path"]]
        difference = _difference(one, found)
        if difference:
            differences.append(difference)
        differences += [
            Difference(leftover, "left behind by an interrupted run", one.get("service", ""), "remove") for leftover in found.get("leftovers", ())
        ]
    return differences


def apply(wanted: Sequence[Wanted], observed: Mapping[str, Mapping[str, Any]], differences: Sequence[Difference]) -> None:
    """Bring the paths that differ to what is wanted.

    Raises FleetError: for a mistake in ``wanted``, for what is in the way, for a candidate that its validator rejects,
    for a full or read-only disk. Unless its message says otherwise, no existing file was changed.
    """
    due = _due(wanted, differences)
    _remove_leftovers(wanted, observed)
    for one in due:
        if _state(one) == "directory":
            _settle_directory(one)
    with contextlib.ExitStack() as stack:
        candidates = [stack.enter_context(_candidate(one)) for one in due if _state(one) == "file"]
        _validate(candidates, wanted)
        _replace(candidates, due)


def rehearse(wanted: Sequence[Wanted], differences: Sequence[Difference]) -> None:
    """Do what a review may do of `apply`: find what it would refuse, and have the new files validated where possible.

    Candidates stand beside their targets for that moment, because what a configuration includes may be relative to it.
    Raises FleetError as `apply` would. Nothing stays behind.
    """
    due = _due(wanted, differences)
    with contextlib.ExitStack() as stack:
        candidates = [stack.enter_context(_candidate(one)) for one in due if _can_validate(one)]
        _validate(candidates, wanted)


def _due(wanted: Sequence[Wanted], differences: Sequence[Difference]) -> list[Wanted]:
    """Return the wanted paths that differ. Raises FleetError for mistakes in any of them and for refused differences."""
    seen: set[str] = set()
    for one in wanted:
        _require_sound(one)
        if one["path"] in seen:
            raise FleetError(f"{one['path']} is listed twice; one of the two entries would undo the other")
        seen.add(one["path"])
    refused = [difference for difference in differences if difference.action == "refuse"]
    if refused:
        raise FleetError("\n".join(str(difference) for difference in refused))
    items = {difference.item for difference in differences}
    return [one for one in wanted if one["path"] in items]


def changes(wanted: Sequence[Wanted], observed: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the differences as ``--diff`` shows them: before and after, of attributes and of contents that are no secret."""
    shown = []
    for one in wanted:
        found = observed[one["path"]]
        if _difference(one, found) is None:
            continue
        before, after = _attributes(found), _attributes(_as_observed(one))
        if before != after:
            shown.append(_change(one["path"], before, after))
        if _state(one) == "file" and found.get("sha256") != digest(one):
            before, after = _contents(one, found)
            shown.append(_change(one["path"], before, after))
    return shown


def digest(one: Wanted) -> str | None:
    """Return the wanted content's SHA-256 in hex: of the content where it is given, else as stated."""
    content = _content(one)
    return one.get("sha256") if content is None else hashlib.sha256(content.encode()).hexdigest()


# What is wanted


def _state(one: Wanted) -> str:
    return one.get("state") or "file"


def _content(one: Wanted) -> str | None:
    content = one.get("content")
    return one.get("secret_content") if content is None else content


def _mode(one: Wanted) -> str:
    return f"{int(one.get('mode') or _DEFAULT_MODE[_state(one)], 8):04o}"


def _owner(one: Wanted) -> str:
    return one.get("owner") or "root"


def _group(one: Wanted) -> str:
    return one.get("group") or "root"


def _as_observed(one: Wanted) -> dict[str, Any]:
    state = _state(one)
    if state in _DEFAULT_MODE:
        return {"kind": state, "owner": _owner(one), "group": _group(one), "mode": _mode(one)}
    return {"kind": state, "target": one.get("target")}


def _require_sound(one: Wanted) -> None:
    path, state = one["path"], _state(one)
    if not os.path.isabs(path) or os.path.normpath(path) != path or path == "/" or "\0" in path:
        raise FleetError(f"{path!r} is not an absolute path without '..', '//' or a slash at its end")
    if state in _DEFAULT_MODE and not re.fullmatch(r"[0-7]{3,4}", one.get("mode") or _DEFAULT_MODE[state]):
        raise FleetError(f'{path}: mode {one.get("mode")!r} is not octal; write it in quotes, like "0640"')
    if state == "file" and (one.get("content") is None) == (one.get("secret_content") is None):
        raise FleetError(f"{path}: a file needs either content or secret_content")
    if state == "link" and not one.get("target"):
        raise FleetError(f"{path}: a link needs a target")


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
        "owner": _owner_name(status.st_uid),
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
    fd = _open_to_read(path)
    if fd is None:
        return None
    total = hashlib.sha256()
    with os.fdopen(fd, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


def _open_to_read(path: str) -> int | None:
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


def _owner_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _candidates_in(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if _CANDIDATE.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_abandoned(path: str) -> bool:
    """Return whether a candidate has no living owner: whoever makes one holds a lock on it (see `_candidate`)."""
    try:
        fd = _open_to_read(path)
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


def _difference(one: Wanted, found: Mapping[str, Any]) -> Difference | None:
    state, kind, service = _state(one), found["kind"], one.get("service", "")
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
    if _state(one) == "link":
        target = one.get("target")
        return [] if found.get("target") == target else [f"points to {found.get('target')}, not to {target}"]
    wanted = _as_observed(one)
    reasons = ["content differs"] if _state(one) == "file" and found.get("sha256") != digest(one) else []
    reasons += [f"{name} {found.get(name)}, not {wanted[name]}" for name in ("owner", "group", "mode") if found.get(name) != wanted[name]]
    return reasons


# Showing


def _attributes(observation: Mapping[str, Any]) -> str:
    kind = observation["kind"]
    if kind == "absent":
        return ""
    if kind == "link":
        return f"link to {observation.get('target')}\n"
    return f"{kind} {observation['owner']}:{observation['group']} {observation['mode']}\n"


def _contents(one: Wanted, found: Mapping[str, Any]) -> tuple[str, str]:
    exists = found["kind"] == "file"
    if one.get("content") is None:
        return ("(secret)\n", "(secret, sha256 differs)\n") if exists else ("", "(secret)\n")
    after = one["content"]
    if not exists:
        return "", after
    if int(found["mode"], 8) & 0o077 == 0 and int(_mode(one), 8) & 0o077:
        return "(not shown: only its owner may read it)\n", after  # what was a secret yesterday is one still
    return _readable(one["path"]), after


def _readable(path: str) -> str:
    try:
        fd = _open_to_read(path)
    except FileNotFoundError:
        return ""
    if fd is None:
        return ""
    with os.fdopen(fd, "rb") as file:
        data = file.read(SHOWN_BYTES + 1)
    if len(data) > SHOWN_BYTES:
        return f"(not shown: longer than {SHOWN_BYTES // 1024} KiB)\n"
    return "(not shown: not a text)\n" if b"\0" in data else data.decode(errors="replace")


def _change(path: str, before: str, after: str) -> dict[str, str]:
    return {"before": before, "after": after, "before_header": path, "after_header": path}


# Changing


@dataclass(frozen=True)
class _Candidate:
    """A new file, complete and on disk under its hidden name, with the directory that holds it."""

    wanted: Wanted
    directory: int
    name: str

    @property
    def path(self) -> str:
        return os.path.join(os.path.dirname(self.wanted["path"]), self.name)


@contextlib.contextmanager
def _candidate(one: Wanted) -> Iterator[_Candidate]:
    """Write the new file beside its target. Whatever is still under the hidden name at the end is removed."""
    target, data = one["path"], (_content(one) or "").encode()
    uid, gid = _ids(one)
    with _parent(target) as directory:
        name = _candidate_name(target)
        with _explained(target, "write"):
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
        try:
            with _explained(target, "write"):
                fcntl.flock(fd, fcntl.LOCK_EX)  # held while this process lives: tells other runs that it is no leftover
                _write_all(fd, data)
                os.fchown(fd, uid, gid)
                os.fchmod(fd, int(_mode(one), 8))
                os.fsync(fd)
            yield _Candidate(one, directory, name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            os.close(fd)


def _candidate_name(path: str) -> str:
    return f".hearth-{secrets.token_hex(6)}~{os.path.basename(path)}"


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _replace(candidates: Sequence[_Candidate], due: Sequence[Wanted]) -> None:
    """Put the candidates in place, then the links, then remove what should be absent; each by one atomic call."""
    done: list[str] = []
    try:
        for candidate in candidates:
            _require_replaceable(candidate)
            os.rename(
                candidate.name,
                os.path.basename(candidate.wanted["path"]),
                src_dir_fd=candidate.directory,
                dst_dir_fd=candidate.directory,
            )
            os.fsync(candidate.directory)
            done.append(candidate.wanted["path"])
        for one in due:
            if _state(one) == "link":
                _settle_link(one)
                done.append(one["path"])
        for one in due:
            if _state(one) == "absent":
                _remove(one["path"])
                done.append(one["path"])
    except (OSError, FleetError) as error:
        already = f"\nAlready in place: {', '.join(done)}; the next run does the rest." if done else ""
        raise FleetError(f"{error}{already}") from error


def _require_replaceable(candidate: _Candidate) -> None:
    name = os.path.basename(candidate.wanted["path"])
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(name, dir_fd=candidate.directory, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise FleetError(f"{candidate.wanted['path']} became something else than a file while this run looked away")


def _settle_directory(one: Wanted) -> None:
    path = one["path"]
    uid, gid = _ids(one)
    with _parent(path) as parent, _explained(path, "make"):
        name = os.path.basename(path)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            os.fsync(parent)
        except FileExistsError:
            pass  # `look` saw a directory, and O_NOFOLLOW below makes sure that it still is one
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            os.fchown(fd, uid, gid)
            os.fchmod(fd, int(_mode(one), 8))
        finally:
            os.close(fd)


def _settle_link(one: Wanted) -> None:
    with _parent(one["path"]) as parent, _explained(one["path"], "link"):
        name = _candidate_name(one["path"])
        os.symlink(one["target"], name, dir_fd=parent)
        os.rename(name, os.path.basename(one["path"]), src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)


def _remove(path: str) -> None:
    with _parent(path) as parent, _explained(path, "remove"):
        name = os.path.basename(path)
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
        os.fsync(parent)


def _remove_leftovers(wanted: Sequence[Wanted], observed: Mapping[str, Mapping[str, Any]]) -> None:
    for one in wanted:
        for leftover in observed[one["path"]].get("leftovers", ()):
            with _parent(leftover) as parent, contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.basename(leftover), dir_fd=parent)


@contextlib.contextmanager
def _explained(path: str, verb: str) -> Iterator[None]:
    """Turn the system's errors into ones that name the path and what was to be done with it."""
    try:
        yield
    except OSError as error:
        raise FleetError(f"cannot {verb} {path}: {os.strerror(error.errno or 0)}; what was there is kept") from error


@contextlib.contextmanager
def _parent(path: str) -> Iterator[int]:
    """Open the directory that holds ``path``, and close it in the end."""
    with _explained(path, "reach"):
        fd = _open_parent(path)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_parent(path: str) -> int:
    """Open the directory that holds ``path``, step by step, following no link but root's own.

    A link that somebody else put into the way could lead root's writes anywhere (``~/.ssh`` -> ``/root/.ssh``).
    """
    parts = _names(os.path.dirname(path))
    links = 0
    fd = os.open("/", _DIRECTORY)
    try:
        while parts:
            part = parts.pop(0)
            status = _status(part, fd, path)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                _require_trusted(part, status, links, path)
                target = os.readlink(part, dir_fd=fd)
                parts[:0] = _names(target)
                if not target.startswith("/"):
                    continue
                part = "/"
            following = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = following
    except BaseException:
        os.close(fd)
        raise
    return fd


def _require_trusted(part: str, link: os.stat_result, links: int, path: str) -> None:
    if link.st_uid not in (0, os.geteuid()) or links > _MOST_LINKS:
        owner = _owner_name(link.st_uid)
        raise FleetError(f"{path}: {part!r} on the way to it is a symbolic link of {owner}, which is not followed")


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _status(part: str, directory: int, path: str) -> os.stat_result:
    try:
        status = os.stat(part, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        raise FleetError(
            f"{path}: its directory {os.path.dirname(path)} does not exist\n  → list the directory before it, or install the package that brings it"
        ) from None
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        raise FleetError(f"{path}: {part!r} on the way to it is not a directory; move it away")
    return status


def _ids(one: Wanted) -> tuple[int, int]:
    """Return the numbers of the wanted owner and group."""
    try:
        return pwd.getpwnam(_owner(one)).pw_uid, grp.getgrnam(_group(one)).gr_gid
    except KeyError:
        raise FleetError(
            f"{one['path']}: this host has no account {_owner(one)!r} or no group {_group(one)!r}\n"
            "  → the role hearth.fleet.account creates them: run it before"
        ) from None


def _has_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


# Validating


def _can_validate(one: Wanted) -> bool:
    """Return whether a review can have this file validated: on a bare host neither daemon, account nor directory is there yet."""
    command, account = one.get("validate") or [""], one.get("validate_as")
    return (
        _state(one) == "file"
        and shutil.which(command[0]) is not None
        and os.path.isdir(os.path.dirname(one["path"]))
        and _has_account(_owner(one))
        and _has_group(_group(one))
        and (not account or _has_account(account))
    )


def _validate(candidates: Sequence[_Candidate], wanted: Sequence[Wanted]) -> None:
    """Have each candidate read by its validator. Raises FleetError with the validator's own words if one objects."""
    secret_words = _secret_words(wanted)
    for candidate in candidates:
        command = candidate.wanted.get("validate")
        if not command:
            continue
        path = candidate.wanted["path"]
        code, output = _run([part.replace("{path}", candidate.path) for part in command], candidate.wanted)
        if code == 0:
            continue
        for word in secret_words:
            output = output.replace(word, "********")
        said = output.replace(candidate.path, path).strip().splitlines()[-SHOWN_LINES:] or ["(it said nothing)"]
        heading = f"{path} was rejected by its validator ({_outcome(code)}); {_KEPT}.\n  command: {' '.join(command)}"
        raise FleetError("\n".join([heading, *(f"  | {line}" for line in said)]))


def _outcome(code: int | None) -> str:
    if code is None:
        return f"no answer in {VALIDATION_SECONDS} seconds"
    return f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"


def _run(command: Sequence[str], wanted: Wanted) -> tuple[int | None, str]:
    """Run a validator. Returns its exit code (None: it took too long) and what it said on both channels.

    It runs as the account of ``validate_as``, with that account's groups, so that it sees the file as the daemon will.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FleetError(f"{wanted['path']}: its validator {command[0]} is not on this host; {_KEPT}")
    try:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # as another account, in a session of its own
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            start_new_session=True,
            **_identity(wanted),
        )
    except OSError as error:
        raise FleetError(f"{wanted['path']}: its validator {program} cannot be run: {error.strerror}; {_KEPT}") from error
    try:
        output, _nothing = process.communicate(timeout=VALIDATION_SECONDS)
        return process.returncode, output.decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its children too: they may be what hangs
        process.wait()
        if process.stdout:
            process.stdout.close()
        return None, ""


def _identity(wanted: Wanted) -> dict[str, Any]:
    """Return the arguments that make a process run as the account of ``validate_as``."""
    account = wanted.get("validate_as")
    if not account or account == _owner_name(os.geteuid()):
        return {}
    if not _has_account(account):
        raise FleetError(f"{wanted['path']}: this host has no account {account!r} to validate it as; {_KEPT}")
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(account, entry.pw_gid)}


def _secret_words(wanted: Sequence[Wanted]) -> list[str]:
    """Return what a validator's output must not repeat: the secret contents, their lines, values and quoted texts."""
    words: set[str] = set()
    for one in wanted:
        secret = one.get("secret_content")
        if not secret:
            continue
        words.add(secret.strip())
        words.update(line.strip() for line in secret.splitlines())
        words.update(value.strip(" \t\"',;") for value in re.findall(r"[=:](.*)", secret))
        words.update(text for _quote, text, is_key in _QUOTED.findall(secret) if not is_key)
    return sorted((word for word in words if len(word) >= 4), key=len, reverse=True)
