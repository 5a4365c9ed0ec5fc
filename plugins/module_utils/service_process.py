# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of a service that run beside its daemon, such as probes: as its account, in its directory, with its environment and secrets.

They find what an ``ExecStartPre=`` of the unit would have found when the daemon was started (systemd.exec(5)): ``Environment=``,
then ``EnvironmentFile=``, then ``CREDENTIALS_DIRECTORY``, which systemd fills when the unit starts. A password that has changed on
the disk since is not the daemon's yet (``started_files``). What they do not have is the unit's sandbox.

Everything is read on the host, at the moment of the call. So no secret is in a description, an argument or an order; and what
such a command prints is given on without the values of the secrets that it got.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import environment_file, headers, programs, unit_marks
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.started_files import StartedFiles

CREDENTIALS = "/run/credentials"
"""Where systemd keeps the credentials of the units that run, in a directory for each."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where systemd looks for programs that are named without their directory, whatever a service has in its environment."""

_PIECE = r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|[^\s"'\\])+"""
_WORD = re.compile(f"(?:{_PIECE})+")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "r": "\r", "s": " ", "t": "\t"}
_CREDENTIAL_KEYS = ("LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted")
_LEAST_LINE = 4
"""Shorter lines of a secret are not looked for in what a command prints: they would be found everywhere."""


@dataclass(frozen=True)
class Surroundings:
    """What a command finds: its account (empty: the caller's), further ``groups``, ``umask`` (-1: the caller's), ``environment``.

    ``secrets`` are the values that nobody may see in what the command prints.
    """

    user: str = ""
    group: str = ""
    groups: Sequence[str] = ()
    directory: str = "/"
    umask: int = -1
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Sequence[str] = field(default=(), repr=False)


def of_unit(unit: str, user: str) -> Surroundings:
    """Return what the commands of a unit's service find; those of a unit without a file of ours have the account ``user`` alone.

    Raises FleetError when an environment file cannot be read, with which the unit itself would not start either.
    """
    files = StartedFiles(unit.removesuffix(".service"))
    path = f"{unit_marks.UNITS}/{unit}"
    try:
        settings = read_settings(files.read(one).decode(errors="replace") for one in (path, *files.drop_ins(path)))
    except OSError:
        return Surroundings(user=user)
    environment, secrets = _environment(settings, files)
    directory = f"{CREDENTIALS}/{unit}"
    if any(settings.get(key) for key in _CREDENTIAL_KEYS) and os.path.isdir(directory):
        environment["CREDENTIALS_DIRECTORY"] = directory
        secrets += _contents(directory)
    return Surroundings(
        user=_last(settings, "User") or user,
        group=_last(settings, "Group"),
        groups=[name for value in settings.get("SupplementaryGroups", []) for name in value.split()],
        directory=_last(settings, "WorkingDirectory").lstrip("-").replace("%%", "%") or "/",
        umask=int(_last(settings, "UMask") or "0022", 8),
        environment=environment,
        secrets=secrets,
    )


def run(command: Sequence[str], found: Surroundings, *, seconds: float) -> programs.Said:
    """Run a command for at most so many seconds; what it said comes without secrets. Raises FleetError without its account."""
    account, own = _account(found)
    environment = {"PATH": PATH, "LANG": "C.UTF-8", **own, **found.environment}
    program = find(command[0])
    if not program and "/" not in command[0]:
        return programs.Said(programs.NOT_FOUND, "", f"{command[0]} cannot be run: there is no such program in {PATH}", ended=False)
    words = [program or command[0], *command[1:]]
    said = programs.run(words, seconds=seconds, environment=environment, account=account, together=True, directory=found.directory)
    return said._replace(output=hide(said.output, found.secrets), error=hide(said.error, found.secrets))


def find(program: str) -> str:
    """Return where a program is that a command names; empty when it is not there."""
    return shutil.which(program, path=PATH) or ""


def may_bring(program: str, found: Surroundings) -> bool:
    """Return whether a daemon may bring a program that is not there by itself: it would be in a directory of its account's."""
    path = os.path.dirname(program)
    while path not in ("", "/") and not os.path.exists(path):
        path = os.path.dirname(path)
    try:
        return os.path.isabs(path) and bool(found.user) and os.stat(path).st_uid == pwd.getpwnam(found.user).pw_uid
    except (KeyError, OSError):
        return False


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the values of secrets: whole, line by line, and as JSON writes them."""
    words = set()
    for secret in secrets:
        lines = [line.strip() for line in secret.splitlines()]
        words |= {secret, secret.strip(), *(line for line in lines if len(line) >= _LEAST_LINE)}
    quoted = [json.dumps(word, ensure_ascii=ascii_only)[1:-1] for word in words for ascii_only in (True, False)]
    return headers.mask(text, {*words, *quoted})


# What a unit file says


def read_settings(texts: Iterable[str]) -> dict[str, list[str]]:
    """Return the values in the section Service of unit files, by key, in their order. An empty value takes back those before it."""
    settings: dict[str, list[str]] = {}
    for text in texts:
        section = ""
        for line in re.sub(r"\\\n", " ", text).split("\n"):  # to systemd, no other character ends a line
            if line.startswith("["):
                section = line.strip()
            key, equals, value = line.partition("=")
            if section == "[Service]" and equals and not line.lstrip().startswith(("#", ";")):
                settings[key.strip()] = [*settings.get(key.strip(), []), value.strip()] if value.strip() else []
    return settings


def read_words(value: str) -> list[str]:
    """Return the words of a value such as that of ``Environment=``, as ``unit_text`` writes them (systemd.syntax(7))."""
    return ["".join(map(_plain, re.findall(_PIECE, word))).replace("%%", "%") for word in _WORD.findall(value)]


def _plain(piece: str) -> str:
    text = piece[1:-1] if piece[0] in "\"'" else piece
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), text)


def _last(settings: Mapping[str, Sequence[str]], key: str) -> str:
    return (settings.get(key) or [""])[-1]


def _environment(settings: Mapping[str, Sequence[str]], files: StartedFiles) -> tuple[dict[str, str], list[str]]:
    """Return the environment that a unit file gives, and the values in it that come from environment files."""
    environment = {}
    for word in (word for value in settings.get("Environment", []) for word in read_words(value)):
        name, _equals, value = word.partition("=")
        environment[name] = value
    secrets: list[str] = []
    for value in settings.get("EnvironmentFile", []):
        path = value.lstrip("-").replace("%%", "%")
        try:
            found = environment_file.parse(files.read(path).decode(errors="replace"))
        except OSError as error:
            if value.startswith("-"):
                continue
            raise FleetError(f"the service's environment cannot be read from {path}: {error.strerror}") from None
        environment.update(found)
        secrets += found.values()
    return environment, secrets


def _contents(directory: str) -> list[str]:
    """Return the texts in a directory of credentials; those that cannot be read, the command cannot show either."""
    found = []
    for path in sorted(Path(directory).iterdir()):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


# The process


def _account(found: Surroundings) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arguments that make a process run as the account, and the variables that it has from there. Raises FleetError."""
    account: dict[str, Any] = {"umask": found.umask}
    if not found.user or os.geteuid() != 0:
        return account, {}
    try:
        entry = pwd.getpwnam(found.user)
    except KeyError:
        raise FleetError(f"there is no account {found.user}") from None
    try:
        group = grp.getgrnam(found.group).gr_gid if found.group else entry.pw_gid
        further = [grp.getgrnam(name).gr_gid for name in found.groups]
    except KeyError as error:
        raise FleetError(f"there is no group: {error.args[0]}") from None
    account.update(user=entry.pw_uid, group=group, extra_groups=[*os.getgrouplist(found.user, group), *further])
    return account, {"HOME": entry.pw_dir, "USER": found.user, "LOGNAME": found.user}
