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

import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from ansible_collections.hearth.fleet.plugins.module_utils import programs
from ansible_collections.hearth.fleet.plugins.module_utils.account_formats import CRYPT_HASH, MAKE_HASH, NO_HASH, SSH_KEY
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

Wanted = Mapping[str, Any]
Observed = Mapping[str, Any]
Runner = Callable[[Sequence[str], str], None]

_NO_LOGIN_ID = 2**32 - 1
_DISTRIBUTION_IDS = 100
"""Below this, Debian gives numbers to accounts that every host has: daemon, mail, news, backup, … (Debian policy, 9.2.2)."""


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
    found = (SSH_KEY.fullmatch(line.strip()) for line in lines if not line.lstrip().startswith("#"))
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
        if password and not CRYPT_HASH.fullmatch(password):
            raise FleetError(f"user {user['name']}: {NO_HASH}\n  → {MAKE_HASH}")


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
    if user.get("system") and (found["uid"] == 0 or name in observed["connected_as"]):
        reason = "people log in through it, and a service's account has no login; write another name under account.user"
        return _Change(_difference(user, reason, "refuse"))
    if user.get("system") and found["uid"] < _DISTRIBUTION_IDS and found["home"] != user["home"]:
        reason = f"is an account of the distribution, with its home in {found['home']}; write another name under account.user"
        return _Change(_difference(user, reason, "refuse"))
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
    said = programs.run(arguments, given=text, environment=environment)
    if not said.ended:
        raise FleetError(said.error)
    if said.status:
        raise FleetError(f"{' '.join(arguments)}: {said.why}")
