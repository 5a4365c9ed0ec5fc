# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What in a command only a shell, or another key of the description, would make something of. Pure.

A command is a list of words that a program gets as they stand. A daemon that is given ``$TOKEN`` takes that for the token, and often
starts all the same; so it is said before.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

_OPERATORS = ("|", "||", "&&", "&", ">", ">>", "<", "2>&1")  # not ";", which ends the arguments of find -exec
_UNFILLED = re.compile(r"\{(version|arch|secret:[^{}]*)\}")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_INTERPRETER = re.compile(r"(ba|da|k|z|a)?sh|busybox|env|perl|[gm]?awk|php|python[\d.]*")
_SYSTEMD = ("CREDENTIALS_DIRECTORY", "HOME", "LOGNAME", "MAINPID", "PATH", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "USER")
"""Variables that systemd sets for every service, or expands in its own unit files."""


class Complaint(NamedTuple):
    """What is wrong with the word at ``place``, and what to write instead."""

    place: int
    problem: str
    remedy: str


def complaints(words: Sequence[str], service: str, variables: Collection[str]) -> Iterator[Complaint]:
    """Yield what the program would get as it stands, although it was hardly meant so.

    ``variables`` are the names of the service's environment and secrets. What an interpreter gets, such as the script of ``sh -c``, is
    its own business.
    """
    if words and _INTERPRETER.fullmatch(posixpath.basename(words[0])):
        return
    for place, word in enumerate(words):
        if word in _OPERATORS:
            yield Complaint(place, f"{word!r} is for a shell, and there is none", "call one: [/bin/sh, -c, '…'], or leave it out")
        for name in _UNFILLED.findall(word):
            yield Complaint(place, f"{{{name}}} is not filled in here", _instead_of(name, service))
        for name in _names(word):
            if name in variables or name in _SYSTEMD:
                yield Complaint(place, f"${name} is not filled in here, as there is no shell", _value_of(name, service, variables))


def refers_to_itself(name: str, value: str) -> bool:
    """Return whether an environment variable wants to add to what it was before, as ``PATH=/opt/bin:$PATH`` does in a shell."""
    return name in _names(value)


def _names(word: str) -> list[str]:
    return [bare or braced for bare, braced in _VARIABLE.findall(word)]


def _instead_of(name: str, service: str) -> str:
    if name.startswith("secret:"):
        return "the program finds secrets in its environment, or as a file of $CREDENTIALS_DIRECTORY; arguments are no place for one"
    if name == "version":
        return f"write /opt/{service}/current for the directory of the release that runs; elsewhere, write the version out"
    return "write it out, in fleet_overrides of the hosts of each architecture"


def _value_of(name: str, service: str, variables: Collection[str]) -> str:
    if name == "MAINPID":
        return "write reload: {signal: SIGHUP}, or another signal"
    if name == "CREDENTIALS_DIRECTORY":
        return f"write /run/credentials/{service}.service"
    if name in variables:
        return f"the program finds {name} in its environment; if it wants an argument and it is no secret, write the value here"
    return "write the value here"
