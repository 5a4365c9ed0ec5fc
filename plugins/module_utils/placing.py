# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put paths in place: what the modules ``paths`` and ``units`` do where a host differs (see ``paths``), and how they show it.

All new files of a call are written beside their targets as *candidates*, under hidden names that end like the target's
(``.hearth-<random>-node.toml``), given their owner and mode, flushed to disk and validated, before the first of them
replaces anything. Whatever fails before that leaves every old file as it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import programs
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.paths import (
    DEFAULT_MODE,
    Wanted,
    as_observed,
    content_of,
    difference_of,
    digest,
    group_of,
    mode_of,
    open_to_read,
    owner_name,
    owner_of,
    state_of,
)

VALIDATION_SECONDS = 60
SHOWN_BYTES = 256 * 1024
"""A file that is longer is not shown in a diff."""

_KEPT = "the old file was kept, the service was not touched"
_QUOTED = re.compile(r"""(["'])((?:(?!\1).)*)\1(\s*:)?""")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # as many as the kernel follows in one path


def apply(wanted: Sequence[Wanted], observed: Mapping[str, Mapping[str, Any]], differences: Sequence[Difference]) -> None:
    """Bring the paths that differ to what is wanted.

    Raises FleetError: for a mistake in ``wanted``, for what is in the way, for a candidate that its validator rejects,
    for a full or read-only disk. Unless its message says otherwise, no existing file was changed.
    """
    due = _due(wanted, differences)
    _remove_leftovers(wanted, observed)
    for one in due:
        if state_of(one) == "directory":
            _settle_directory(one)
    with contextlib.ExitStack() as stack:
        candidates = [stack.enter_context(_candidate(one)) for one in due if state_of(one) == "file"]
        with contextlib.ExitStack() as appeared:
            _validate(candidates, wanted, appeared)
            appeared.pop_all()
        _replace(candidates, due)


def rehearse(wanted: Sequence[Wanted], differences: Sequence[Difference], *, complete: bool = False) -> None:
    """Do what a review may do of `apply`: find what it would refuse, and have the new files validated where possible.

    Candidates stand beside their targets for that moment, because what a configuration includes may be relative to it.
    Where a new file that it may include cannot be made yet, as its directory is yet to come, a validator's objection proves nothing.
    ``complete``: nobody else is about to make a service's directories, so that one without a directory above it is refused.
    Raises FleetError as `apply` would. Nothing stays behind.
    """
    due = _due(wanted, differences)
    orphans = [one["path"] for one in due if complete and state_of(one) == "directory" and one.get("service") and not _has_parent(one, wanted)]
    if orphans:
        raise FleetError("\n".join(map(_no_directory, orphans)))
    judged = {one.get("service") for one in wanted if one.get("validate")} - {None, ""}
    files = [one for one in due if state_of(one) == "file" and (one.get("validate") or (one.get("service") in judged and _may_be_included(one)))]
    possible = [one for one in files if (_can_validate(one) if one.get("validate") else _can_write(one))]
    with contextlib.ExitStack() as stack:
        candidates = [stack.enter_context(_candidate(one)) for one in possible]
        try:
            with contextlib.ExitStack() as appeared:
                _validate(candidates, wanted, appeared)
        except FleetError:
            if not any(_is_new(one) and one.get("service") for one in files if one not in possible):
                raise


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


def _require_sound(one: Wanted) -> None:
    path, state = one["path"], state_of(one)
    if not os.path.isabs(path) or os.path.normpath(path) != path or path == "/" or "\0" in path:
        raise FleetError(f"{path!r} is not an absolute path without '..', '//' or a slash at its end")
    if state in DEFAULT_MODE and not re.fullmatch(r"[0-7]{3,4}", one.get("mode") or DEFAULT_MODE[state]):
        raise FleetError(f'{path}: mode {one.get("mode")!r} is not octal; write it in quotes, like "0640"')
    if state == "file" and (one.get("content") is None) == (one.get("secret_content") is None):
        raise FleetError(f"{path}: a file needs either content or secret_content")
    if state == "link" and not one.get("target"):
        raise FleetError(f"{path}: a link needs a target")


# Showing


def changes(wanted: Sequence[Wanted], observed: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the differences as ``--diff`` shows them: before and after, of attributes and of contents that are no secret.

    What a ``part`` of the collection contains nobody has to review, and it is long.
    """
    shown = []
    for one in wanted:
        found = observed[one["path"]]
        if difference_of(one, found) is None:
            continue
        before, after = _attributes(found), _attributes(as_observed(one))
        if before != after:
            shown.append(_change(one["path"], before, after))
        if state_of(one) == "file" and found.get("sha256") != digest(one):
            before, after = _contents(one, found)
            shown.append(_change(one["path"], before, after))
    return shown


def _attributes(observation: Mapping[str, Any]) -> str:
    kind = observation["kind"]
    if kind == "absent":
        return ""
    if kind == "link":
        return f"link to {observation.get('target')}\n"
    return f"{kind} {observation['owner']}:{observation['group']} {observation['mode']}\n"


def _contents(one: Wanted, found: Mapping[str, Any]) -> tuple[str, str]:
    exists = found["kind"] == "file"
    if one.get("part"):
        return ("(of hearth.fleet)\n" if exists else ""), f"(of hearth.fleet: {one['part']})\n"
    if one.get("content") is None:
        return ("(secret)\n", "(secret, sha256 differs)\n") if exists else ("", "(secret)\n")
    after = one["content"]
    if not exists:
        return "", after
    if int(found["mode"], 8) & 0o077 == 0 and int(mode_of(one), 8) & 0o077:
        return "(not shown: only its owner may read it)\n", after  # what was a secret yesterday is one still
    return _readable(one["path"]), after


def _readable(path: str) -> str:
    try:
        fd = open_to_read(path)
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
    target, data = one["path"], (content_of(one) or "").encode()
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
                os.fchmod(fd, int(mode_of(one), 8))
                os.fsync(fd)
            yield _Candidate(one, directory, name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            os.close(fd)


def _candidate_name(path: str) -> str:
    """Return a hidden name without anything that a validator could take for a pattern, as unbound-checkconf does with ``~``."""
    return f".hearth-{secrets.token_hex(6)}-{os.path.basename(path)}"


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
            if state_of(one) == "link":
                _settle_link(one)
                done.append(one["path"])
        for one in due:
            if state_of(one) == "absent":
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
            os.fchmod(fd, int(mode_of(one), 8))
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
        owner = owner_name(link.st_uid)
        raise FleetError(f"{path}: {part!r} on the way to it is a symbolic link of {owner}, which is not followed")


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _status(part: str, directory: int, path: str) -> os.stat_result:
    try:
        status = os.stat(part, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        raise FleetError(_no_directory(path)) from None
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        raise FleetError(f"{path}: {part!r} on the way to it is not a directory; move it away")
    return status


def _ids(one: Wanted) -> tuple[int, int]:
    """Return the numbers of the wanted owner and group."""
    try:
        return pwd.getpwnam(owner_of(one)).pw_uid, grp.getgrnam(group_of(one)).gr_gid
    except KeyError:
        raise FleetError(
            f"{one['path']}: this host has no account {owner_of(one)!r} or no group {group_of(one)!r}\n"
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
    account = one.get("validate_as")
    return shutil.which(one["validate"][0]) is not None and _can_write(one) and (not account or _has_account(account))


def _can_write(one: Wanted) -> bool:
    """Return whether a review can write this file beside its target."""
    return os.path.isdir(os.path.dirname(one["path"])) and _has_account(owner_of(one)) and _has_group(group_of(one))


def _has_parent(one: Wanted, wanted: Sequence[Wanted]) -> bool:
    """Return whether the directory above is there, or is one of the wanted ones."""
    parent = os.path.dirname(one["path"])
    return os.path.exists(parent) or any(other["path"] == parent and state_of(other) == "directory" for other in wanted)


def _no_directory(path: str) -> str:
    remedy = "list that directory, too (a service's own: fleet_services.<name>.directories), or install the package that brings it"
    return f"{path}: its directory {os.path.dirname(path)} does not exist\n  → {remedy}"


def _is_new(one: Wanted) -> bool:
    return not os.path.lexists(one["path"])


@dataclass(frozen=True)
class _Judged:
    """A file that its validator is asked about: ``path`` is a candidate's, or that of a file which stays and may include what changes."""

    wanted: Wanted
    path: str
    stays: bool = False


def _validate(candidates: Sequence[_Candidate], wanted: Sequence[Wanted], appeared: contextlib.ExitStack) -> None:
    """Have the files read by their validators, as they will be. Raises FleetError with the own words of all that object.

    A file may include others of its service. Where these change, its validator finds the candidates in their places (``_in_places``), also
    where the file itself stays as it is. Where it objects, the new files that have no validator or have passed theirs get their names,
    which they lose when ``appeared`` is left, and it is asked again.
    """
    waiting = [_Judged(candidate.wanted, candidate.path) for candidate in candidates if candidate.wanted.get("validate")]
    waiting += [_Judged(one, one["path"], stays=True) for one in _staying(candidates, wanted)]
    hidden = [candidate for candidate in candidates if _is_new(candidate.wanted)]
    changed = [candidate for candidate in candidates if candidate not in hidden]
    if waiting and changed and not _can_mount():
        changed = []
    while waiting:
        objections = [(judged, said) for judged in waiting for said in [_objection(judged, changed, wanted)] if said]
        waiting = [judged for judged, _said in objections]
        rejected = [judged.path for judged in waiting]
        passed = [candidate for candidate in hidden if candidate.path not in rejected]
        if objections and not passed:
            raise FleetError("\n".join(said for _judged, said in objections))
        for candidate in passed if objections else ():
            _appear(candidate, appeared)
            hidden.remove(candidate)


def _staying(candidates: Sequence[_Candidate], wanted: Sequence[Wanted]) -> list[Wanted]:
    """Return the files that stay as they are, have a validator, and may include a candidate that has none."""
    due = [candidate.wanted["path"] for candidate in candidates]
    included = {candidate.wanted.get("service") for candidate in candidates if _may_be_included(candidate.wanted)} - {None, ""}
    files = [one for one in wanted if one.get("validate") and one["path"] not in due and one.get("service") in included]
    return [one for one in files if os.path.isfile(one["path"]) and _can_validate(one)]


def _may_be_included(one: Wanted) -> bool:
    """Return whether another file may include this one, which nobody else judges. The files of secrets are systemd's to read."""
    return not one.get("validate") and (one.get("content") is not None or bool(one.get("validate_as")))


def _appear(candidate: _Candidate, appeared: contextlib.ExitStack) -> None:
    """Give a new file its name, beside the hidden one, until ``appeared`` is left."""
    target = os.path.basename(candidate.wanted["path"])
    with _explained(candidate.wanted["path"], "write"):
        os.link(candidate.name, target, src_dir_fd=candidate.directory, dst_dir_fd=candidate.directory, follow_symlinks=False)
    appeared.callback(os.unlink, target, dir_fd=candidate.directory)


def _objection(judged: _Judged, changed: Sequence[_Candidate], wanted: Sequence[Wanted]) -> str:
    """Return the error of a file that its validator rejects, with the validator's own words; empty where it accepts it."""
    command, path, service = judged.wanted["validate"], judged.wanted["path"], judged.wanted.get("service")
    beside = [one for one in changed if service and one.wanted.get("service") == service and one.path != judged.path]
    code, output = _run([part.replace("{path}", judged.path) for part in command], judged.wanted, beside)
    if code == 0:
        return ""
    for word in _secret_words(wanted):
        output = output.replace(word, "********")
    together = f" with {', '.join(one.wanted['path'] for one in beside)}, which is to change" if judged.stays and beside else ""
    heading = f"{path} was rejected by its validator{together} ({_outcome(code)}); {_KEPT}.\n  command: {' '.join(command)}"
    remedy = [f"  → correct what fleet_services.{service}.config says of it"] if service else []
    return "\n".join([heading, *programs.quoted(output.replace(judged.path, path)), *remedy])


def _outcome(code: int | None) -> str:
    if code is None:
        return f"no answer in {VALIDATION_SECONDS} seconds"
    return f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"


def _run(command: Sequence[str], wanted: Wanted, beside: Sequence[_Candidate] = ()) -> tuple[int | None, str]:
    """Run a validator. Returns its exit code (None: it took too long) and what it said on both channels.

    It runs as the account of ``validate_as``, with that account's groups, so that it sees the file as the daemon will; and it sees the
    candidates ``beside`` it in the places of the files that they are to replace.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FleetError(f"{wanted['path']}: its validator {command[0]} is not on this host; {_KEPT}")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    words, account = [program, *command[1:]], _identity(wanted)
    if beside:
        words, account = _in_places(beside, words, account), {}
    said = programs.run(words, seconds=VALIDATION_SECONDS, environment=environment, account=account, together=True)
    if said.ended:
        return said.status, said.output
    if said.status == programs.TOO_LATE:
        return None, ""
    raise FleetError(f"{wanted['path']}: its validator {said.error}; {_KEPT}")


_MOUNT = 'while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; shift; exec "$@"'


def _can_mount() -> bool:
    """Return whether this process may have mounts that nobody else sees; in some containers root may not."""
    if os.geteuid() != 0:
        return False
    return programs.run(["unshare", "--mount", "--propagation=private", "mount", "--bind", "/", "/"], seconds=VALIDATION_SECONDS).status == 0


def _in_places(candidates: Sequence[_Candidate], words: Sequence[str], account: Mapping[str, Any]) -> list[str]:
    """Return the command that runs ``words`` as an account, with candidates in the places of their targets, for it alone."""
    mounts = [path for candidate in candidates for path in (candidate.path, candidate.wanted["path"])]
    private = ["unshare", "--mount", "--propagation=private", "sh", "-ec", _MOUNT, "sh", *mounts, "--"]
    if not account:
        return [*private, *words]
    groups = ",".join(map(str, account["extra_groups"]))
    return [*private, "setpriv", f"--reuid={account['user']}", f"--regid={account['group']}", f"--groups={groups}", *words]


def _identity(wanted: Wanted) -> dict[str, Any]:
    """Return the arguments that make a process run as the account of ``validate_as``."""
    account = wanted.get("validate_as")
    if not account or account == owner_name(os.geteuid()):
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
