# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups and accounts of a host, in bulk: looked at, compared, and brought to what is wanted.

A wanted group is a mapping ``{name, gid, system}``, a wanted user

    {name, group, groups, uid, home, shell, system, create_home, comment, password_hash, service, absent, ssh_keys}

System accounts (of services) have exactly the groups that are wanted and a locked password. Operators' accounts keep the
groups that somebody else gave them, and their password where none is wanted. Numbers are never changed: files would
change hands. Passwords come as crypt hashes only; neither they nor their hashes leave this file in a difference.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, InventoryError, Mistake

Wanted = Mapping[str, Any]
Observed = Mapping[str, Any]
Runner = Callable[[Sequence[str], str], None]

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_CRYPT_HASH = re.compile(r"\$(?:5|6|y|7|gy|2[abxy])\$[./A-Za-z0-9$,=+-]{20,}")
_SSH_KEY = re.compile(
    r"(?:.* )?"  # options
    r"(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[a-z0-9-]+@openssh\.com)(?:-cert-v01@openssh\.com)? "
    r"(?P<blob>AAAA[A-Za-z0-9+/]+=*)"
    r"(?: .*)?"  # comment
)
_SUDO = {"password": "ALL=(ALL:ALL) ALL", "nopasswd": "ALL=(ALL:ALL) NOPASSWD: ALL"}
_NO_LOGIN_ID = 2**32 - 1


@dataclass(frozen=True)
class _Command:
    """A program to run, with what it reads: secrets go there, as everybody can list arguments."""

    arguments: tuple[str, ...]
    text: str = field(default="", repr=False)


@dataclass(frozen=True)
class _Change:
    """One difference and the commands that end it; none for what is refused."""

    difference: Difference
    commands: tuple[_Command, ...] = ()


# The account files


def parse_passwd(text: str) -> dict[str, dict[str, Any]]:
    """Return the accounts of a passwd(5) file by name: ``uid``, ``gid``, ``comment``, ``home``, ``shell``."""
    return {
        one[0]: {"uid": int(one[2]), "gid": int(one[3]), "comment": one[4], "home": one[5], "shell": one[6]}
        for one in _records(text, 7)
        if one[2].isdigit() and one[3].isdigit()
    }


def parse_group(text: str) -> dict[str, dict[str, Any]]:
    """Return the groups of a group(5) file by name: ``gid`` and ``members``."""
    return {one[0]: {"gid": int(one[2]), "members": [name for name in one[3].split(",") if name]} for one in _records(text, 4) if one[2].isdigit()}


def parse_shadow(text: str) -> dict[str, str]:
    """Return the password fields of a shadow(5) file by name."""
    return {one[0]: one[1] for one in _records(text, 2)}


def _records(text: str, fields: int) -> Iterable[list[str]]:
    # Lines that begin with + or - are of NIS; they name nobody.
    records = (line.split(":") for line in text.splitlines() if line and line[0] not in "#+-")
    return (record for record in records if len(record) >= fields)


# Looking


def look(wanted: Wanted, etc: str = "/etc") -> dict[str, Any]:
    """Return what the host has of the ``groups`` and ``users`` in ``wanted``; reads only.

    The result's ``groups`` and ``users`` hold those that exist. A user's ``password`` is locked, empty or set, and
    ``password_matches`` says whether it is the wanted one: no hash is in the observation. ``connected_as`` names the
    accounts through which this very run came in.
    """
    database = Path(etc)
    known_groups = parse_group(_read(database / "group"))
    known_users = parse_passwd(_read(database / "passwd"))
    passwords = parse_shadow(_read(database / "shadow"))
    connected_as = connected_accounts()
    group_names = {entry["gid"]: name for name, entry in reversed(known_groups.items())}
    observed_users = {}
    for user in wanted["users"]:
        name = user["name"]
        if name not in known_users:
            continue
        entry = known_users[name]
        password = passwords.get(name, "*")
        observed_users[name] = {
            **{key: entry[key] for key in ("uid", "comment", "home", "shell")},
            "group": group_names.get(entry["gid"], str(entry["gid"])),
            "groups": sorted(group for group, one in known_groups.items() if name in one["members"]),
            "password": "locked" if password[:1] in ("!", "*") else "set" if password else "empty",
            "password_matches": user.get("password_hash") in (None, "", password),
            "home_exists": Path(entry["home"]).is_dir(),
            "ssh_keys": _key_blobs(_read(Path(entry["home"], ".ssh", "authorized_keys")).splitlines()) if name in connected_as else [],
        }
    wanted_groups = {one["name"] for one in wanted["groups"]} | {name for user in wanted["users"] for name in user.get("groups") or ()}
    return {
        "groups": {name: {"gid": known_groups[name]["gid"]} for name in sorted(wanted_groups & set(known_groups))},
        "users": observed_users,
        "connected_as": connected_as,
    }


def connected_accounts() -> list[str]:
    """Return the accounts through which this process came in: of the login, of sudo, and its own."""
    numbers = {os.geteuid()}
    login = _read(Path("/proc/self/loginuid")).strip()
    if login.isdigit() and int(login) != _NO_LOGIN_ID:
        numbers.add(int(login))
    names = {os.environ.get("SUDO_USER", "")} - {""}
    for number in numbers:
        try:
            names.add(pwd.getpwuid(number).pw_name)
        except KeyError:
            names.add(str(number))
    return sorted(names)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""


def _key_blobs(lines: Iterable[str]) -> list[str]:
    """Return the keys themselves out of lines of an authorized_keys file, without options and comments."""
    found = (_SSH_KEY.fullmatch(line.strip()) for line in lines if not line.lstrip().startswith("#"))
    return [match["blob"] for match in found if match]


# Comparing


def diff(wanted: Wanted, observed: Observed) -> list[Difference]:
    """Return what differs, one difference per group and user with all its reasons.

    Actions: ``create``, ``change``, ``remove``; and ``refuse`` for what `apply` will not do: to change a number, or to
    lock out the account that this run came in by.
    """
    return [change.difference for change in _changes(wanted, observed)]


def apply(wanted: Wanted, observed: Observed, run: Runner | None = None) -> None:
    """Bring the groups and accounts to what is wanted, by the distribution's own tools.

    ``run`` runs one command with a text as its input and raises FleetError when it fails.
    Raises FleetError before anything is changed if a difference is refused or a supplementary group does not exist.
    """
    changes = _changes(wanted, observed)
    require_allowed([change.difference for change in changes])
    missing = sorted(_unknown_groups(wanted, observed))
    if missing:
        raise FleetError("\n".join(missing))
    for change in changes:
        for command in change.commands:
            (run or _run)(command.arguments, command.text)


def require_allowed(differences: Iterable[Difference]) -> None:
    """Raise FleetError with every difference that is refused, if there is one."""
    refused = [str(difference) for difference in differences if difference.action == "refuse"]
    if refused:
        raise FleetError("\n".join(refused))


def require_sound(wanted: Wanted) -> None:
    """Raise FleetError for names that are listed twice and for a password that is no crypt hash; the message does not repeat it."""
    for kind in ("groups", "users"):
        names = [one["name"] for one in wanted[kind]]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise FleetError(f"{kind}: {', '.join(twice)} listed twice; one of the two entries would undo the other")
    for user in wanted["users"]:
        password = user.get("password_hash")
        if password and not _CRYPT_HASH.fullmatch(password):
            raise FleetError(f"user {user['name']}: {_NO_HASH}\n  → {_MAKE_HASH}")


_NO_HASH = "password_hash is not a hash of crypt(5), as /etc/shadow holds them"
_MAKE_HASH = "write \"{{ the_password | password_hash('sha512', 'a-fixed-salt') }}\", or what mkpasswd prints; a password itself is never accepted"


def _unknown_groups(wanted: Wanted, observed: Observed) -> set[str]:
    known = {group["name"] for group in wanted["groups"]} | set(observed["groups"])
    return {
        f"user {user['name']}: this host has no group {name!r}\n  → install the package that brings it, or take it out of the user's groups"
        for user in wanted["users"]
        if not user.get("absent")
        for name in user.get("groups") or ()
        if name not in known
    }


def _changes(wanted: Wanted, observed: Observed) -> list[_Change]:
    changes = [_group_change(group, observed["groups"].get(group["name"])) for group in wanted["groups"]]
    changes += [_user_change(user, observed) for user in wanted["users"]]
    return [change for change in changes if change]


def _group_change(group: Wanted, found: Observed | None) -> _Change | None:
    name, gid = group["name"], group.get("gid")
    item = f"group {name}"
    if found is None:
        options = ["--system"] if group.get("system") else []
        options += ["--gid", str(gid)] if gid is not None else []
        return _Change(Difference(item, "does not exist", action="create"), (_Command(("groupadd", *options, name)),))
    if gid is not None and found["gid"] != gid:
        return _Change(Difference(item, _renumbered("gid", found["gid"], gid), action="refuse"))
    return None


def _renumbered(what: str, found: int, wanted: int) -> str:
    return f"has {what} {found} on this host, {wanted} in the inventory; numbers are never changed, as files would change hands: write {found}"


def _user_change(user: Wanted, observed: Observed) -> _Change | None:
    found = observed["users"].get(user["name"])
    if user.get("absent"):
        return _removal(user, observed) if found else None
    return _creation(user) if found is None else _modification(user, found, observed)


def _difference(user: Wanted, reason: str, action: str) -> Difference:
    return Difference(f"user {user['name']}", reason, user.get("service") or "", action)


def _removal(user: Wanted, observed: Observed) -> _Change:
    name = user["name"]
    if name == "root" or name in observed["connected_as"]:
        return _Change(_difference(user, "should go, but this run came in through it; remove it from another account", "refuse"))
    home = observed["users"][name]["home"]
    return _Change(_difference(user, f"should not exist; its home {home} stays", "remove"), (_Command(("userdel", name)),))


def _creation(user: Wanted) -> _Change:
    options = ["--system"] if user.get("system") else []
    options += ["--gid", user["group"], "--home-dir", user["home"], "--shell", user["shell"]]
    options += ["--create-home"] if user.get("create_home") else ["--no-create-home"]
    options += ["--uid", str(user["uid"])] if user.get("uid") is not None else []
    options += ["--comment", user["comment"]] if user.get("comment") else []
    options += ["--groups", ",".join(user["groups"])] if user.get("groups") else []
    commands = [_Command(("useradd", *options, user["name"]))]  # with a locked password, as useradd does it
    if user.get("password_hash"):
        commands.append(_set_password(user))
    return _Change(_difference(user, "does not exist", "create"), tuple(commands))


def _modification(user: Wanted, found: Observed, observed: Observed) -> _Change | None:
    name = user["name"]
    if user.get("uid") is not None and found["uid"] != user["uid"]:
        return _Change(_difference(user, _renumbered("uid", found["uid"], user["uid"]), "refuse"))
    if _would_lock_out(user, found, observed):
        reason = (
            "this run came in through it, and none of its present SSH keys is among ssh_keys;"
            " keep one, log in with a new one, and only then take the old one out"
        )
        return _Change(_difference(user, reason, "refuse"))
    reasons: list[str] = []
    options: list[str] = []
    for key, option in (("group", "--gid"), ("home", "--home"), ("shell", "--shell"), ("comment", "--comment")):
        if user.get(key) and found[key] != user[key]:
            reasons.append(f"{key} {found[key] or '(empty)'}, not {user[key]}")
            options += [option, user[key]]
    group_reasons, group_options = _group_membership(user, found)
    reasons += group_reasons
    options += group_options
    # Another home is one line in a file, but usermod refuses it while a process of the account is in sight.
    program = ("unshare", "--pid", "--fork", "--mount-proc", "usermod") if "--home" in options else ("usermod",)
    commands = [_Command((*program, *options, name))] if options else []
    if user.get("create_home") and not found["home_exists"]:
        reasons.append(f"home {user['home']} is missing")
        commands.append(_Command(("mkhomedir_helper", name)))
    if not found["password_matches"]:
        reasons.append("password differs")
        commands.append(_set_password(user))
    elif user.get("system") and not user.get("password_hash") and found["password"] != "locked":  # noqa: S105  # a word
        reasons.append(f"password is {found['password']}, not locked")
        commands.append(_Command(("usermod", "--password", "!", name)))
    return _Change(_difference(user, "; ".join(reasons), "change"), tuple(commands)) if reasons else None


def _group_membership(user: Wanted, found: Observed) -> tuple[list[str], list[str]]:
    """Return the reasons and the options of usermod(8) that make the supplementary groups right."""
    wanted, present = set(user.get("groups") or ()), set(found["groups"]) - {user["group"]}
    missing, extra = sorted(wanted - present), sorted(present - wanted)
    reasons = [f"not in group {', '.join(missing)}"] if missing else []
    if user.get("system") and extra:
        return [*reasons, f"in group {', '.join(extra)} unasked"], ["--groups", ",".join(sorted(wanted))]
    return reasons, ["--append", "--groups", ",".join(missing)] if missing else []


def _would_lock_out(user: Wanted, found: Observed, observed: Observed) -> bool:
    """Return whether the wanted keys would leave the connecting account none of those that it has now."""
    present: set[str] = set(found["ssh_keys"])
    wanted = _key_blobs(user.get("ssh_keys") or ())
    connected = user["name"] in observed["connected_as"]
    return bool(connected and wanted and present and present.isdisjoint(wanted))


def _set_password(user: Wanted) -> _Command:
    return _Command(("chpasswd", "--encrypted"), f"{user['name']}:{user['password_hash']}\n")


def _run(arguments: Sequence[str], text: str) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # no module here
            list(arguments), input=text, capture_output=True, text=True, check=False, env=environment
        )
    except OSError as error:
        raise FleetError(f"{arguments[0]} cannot be run on this host: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise FleetError(f"{' '.join(arguments)}: {said}")


# Operators: people with a shell


def operator_slices(operators: Sequence[Wanted], exclusive_keys: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Return the ``groups``, ``users`` and ``paths`` that make the operators' accounts (input ``account_operators``).

    With ``exclusive_keys``, ``~/.ssh/authorized_keys`` holds the listed keys and no others; without, the listed keys are
    in ``~/.ssh/authorized_keys2``, which sshd reads as well, and the other file is the operator's own.
    Raises InventoryError with all mistakes.
    """
    mistakes = [mistake for index, one in enumerate(operators) for mistake in _operator_mistakes(one, f"account_operators[{index}]")]
    names = [one.get("name") for one in operators]
    mistakes += [
        Mistake(f"account_operators[{index}].name", f"{name!r} is listed twice") for index, name in enumerate(names) if name in names[:index]
    ]
    if mistakes:
        raise InventoryError(mistakes)
    present = [one for one in operators if not _is_absent(one)]
    return {
        "groups": [{"name": one["name"], "gid": None, "system": False} for one in present if one["name"] != "root"],
        "users": [_operator_user(one, exclusive_keys) for one in operators],
        "paths": [path for one in operators for path in _operator_paths(one, exclusive_keys)],
    }


def _is_absent(operator: Wanted) -> bool:
    return bool(operator.get("state", "present") == "absent")


def _operator_home(operator: Wanted) -> str:
    return operator.get("home") or ("/root" if operator["name"] == "root" else f"/home/{operator['name']}")


def _operator_user(operator: Wanted, exclusive_keys: bool) -> dict[str, Any]:
    name = operator["name"]
    return {
        "name": name,
        "group": name,
        "groups": list(operator.get("groups") or ()),
        "uid": None,
        "home": _operator_home(operator),
        "shell": operator.get("shell") or "/bin/bash",
        "system": False,
        "create_home": True,
        "comment": "",
        "password_hash": operator.get("password_hash") or None,
        "service": "",
        "absent": _is_absent(operator),
        "ssh_keys": list(operator.get("ssh_keys") or ()) if exclusive_keys else [],
    }


def _operator_paths(operator: Wanted, exclusive_keys: bool) -> list[dict[str, Any]]:
    name, home, sudo = operator["name"], _operator_home(operator), operator.get("sudo") or "none"
    sudoers = f"/etc/sudoers.d/hearth-{name}"
    managed, other = f"{home}/.ssh/authorized_keys", f"{home}/.ssh/authorized_keys2"
    if not exclusive_keys:
        managed = other
    if _is_absent(operator):
        return [_absent(sudoers), _absent(f"{home}/.ssh/authorized_keys"), _absent(other)]
    paths = []
    if operator.get("ssh_keys"):
        owner = {"owner": name, "group": name, "service": ""}
        paths.append({"path": f"{home}/.ssh", "state": "directory", "mode": "0700", **owner})
        paths.append(_file(managed, "".join(f"{key.strip()}\n" for key in operator["ssh_keys"]), mode="0600", **owner))
        if exclusive_keys:
            paths.append(_absent(other))
    if sudo == "none":
        return [*paths, _absent(sudoers)]
    visudo = ["/usr/sbin/visudo", "-cf", "{path}"]
    return [*paths, _file(sudoers, f"{name} {_SUDO[sudo]}\n", mode="0440", owner="root", group="root", service="", validate=visudo)]


def _file(path: str, content: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "state": "file", "content": content, "sha256": hashlib.sha256(content.encode()).hexdigest(), **more}


def _absent(path: str) -> dict[str, Any]:
    return {"path": path, "state": "absent", "service": ""}


def _operator_mistakes(operator: Wanted, at: str) -> list[Mistake]:
    mistakes = []
    name = operator.get("name") or ""
    if not _NAME.fullmatch(name):
        mistakes.append(Mistake(f"{at}.name", f"{name!r} cannot name an operator", "use a-z, 0-9, _ and -, up to 32, a letter first"))
    if operator.get("state", "present") not in ("present", "absent"):
        mistakes.append(Mistake(f"{at}.state", f"{operator['state']!r} is not one of present, absent"))
    if name == "root" and _is_absent(operator):
        mistakes.append(Mistake(f"{at}.state", "root cannot be absent", "leave root out"))
    if (operator.get("sudo") or "none") not in ("none", *_SUDO):
        mistakes.append(Mistake(f"{at}.sudo", f"{operator['sudo']!r} is not one of none, {', '.join(_SUDO)}"))
    if operator.get("password_hash") and not _CRYPT_HASH.fullmatch(operator["password_hash"]):
        mistakes.append(Mistake(f"{at}.password_hash", _NO_HASH, _MAKE_HASH))
    if operator.get("sudo") == "password" and not operator.get("password_hash") and not _is_absent(operator):
        mistakes.append(
            Mistake(f"{at}.sudo", "sudo asks for a password, and there is no password_hash", "add password_hash, or write sudo: nopasswd")
        )
    if operator.get("ssh_keys") == [] and not _is_absent(operator):
        mistakes.append(
            Mistake(f"{at}.ssh_keys", "no key would lock the operator out", "leave ssh_keys out to leave the keys alone, or write state: absent")
        )
    for index, key in enumerate(operator.get("ssh_keys") or ()):
        if "\n" in key.strip() or not _SSH_KEY.fullmatch(key.strip()):
            mistakes.append(
                Mistake(f"{at}.ssh_keys[{index}]", "not a public key as OpenSSH writes it", "write the line of the .pub file: ssh-ed25519 AAAA… me")
            )
    return mistakes
