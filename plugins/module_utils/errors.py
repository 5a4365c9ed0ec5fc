# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of the collection. Pure code raises them; only modules and actions turn them into a failed task."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_REFUSAL = re.compile(
    r"Permission denied|Too many authentication failures|Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED"
    r"|Unable to negotiate|Bad configuration option|Bad owner or permissions"
)
"""What OpenSSH says where a host answers and lets nobody in, or where its own configuration keeps it from asking."""


class FleetError(Exception):
    """Something that the user must know; the message says what, where, and what to do."""

    exit_status = 2
    """That of a command of ``hearthctl`` which ends with this error."""


HOSTS = "<the hosts>"
"""Stands in the problem of a mistake for the hosts that have it."""

_NAMED_HOSTS = 4
"""So many hosts are named before the rest is counted."""


class Mistake(NamedTuple):
    """One mistake in the inventory.

    ``path`` is the inventory path of the key (``fleet_services.icnd.ports[0].proto``), ``problem`` what is wrong with it,
    ``remedy`` what to write instead (may be empty), and ``host`` the one that has it, if not all have. A problem that names
    the host says ``HOSTS`` in its place, so that the same mistake of many hosts is said once.
    """

    path: str
    problem: str
    remedy: str = ""
    host: str = ""

    def __str__(self) -> str:
        problem = self.problem.replace(HOSTS, f"host {self.host}") if self.host else self.problem
        said = f"{self.path}: {problem}"
        return f"{said}\n  → {self.remedy}" if self.remedy else said


def said_once(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """Return each mistake once, for all hosts that have it, in the order of their paths."""
    hosts: dict[Mistake, set[str]] = {}
    for one in mistakes:
        hosts.setdefault(one._replace(host=""), set()).add(one.host)
    return sorted(one._replace(problem=one.problem.replace(HOSTS, hosts_text(names - {""}))) for one, names in hosts.items())


def hosts_text(names: Iterable[str]) -> str:
    """Return hosts as a text names them: ``host a``, ``hosts a, b``, ``hosts a, b, c and 37 more``."""
    known = sorted(names)
    if len(known) > _NAMED_HOSTS:
        return f"hosts {', '.join(known[: _NAMED_HOSTS - 1])} and {len(known) - _NAMED_HOSTS + 1} more"
    return f"host{'' if len(known) == 1 else 's'} {', '.join(known)}"


class InventoryError(FleetError):
    """All mistakes that one look at the inventory found, each once, in the order of their paths."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = said_once(mistakes)
        count = len(self.mistakes)
        heading = f"{count} mistake{'s' if count != 1 else ''} in the inventory; no host was touched:"
        super().__init__("\n".join([heading, *(str(mistake) for mistake in self.mistakes)]))


def words_of_ssh(said: str) -> str:
    """Return what SSH itself said of a host that cannot be reached, on one line, without the words of Ansible's that say it of every host."""
    text = " ".join(said.split())
    return text[max(0, text.rfind("ssh: ")) :]


def is_refusal(said: str) -> bool:
    """Return whether SSH says that a login failed, and not that the host is off or out of reach."""
    return bool(_REFUSAL.search(said))


def join_path(path: str, key: object) -> str:
    """Return the inventory path of ``key`` below ``path``: ``a.b``, ``a[0]``, or ``a['x/y']`` for keys that need quotes."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    text = str(key)
    if _PLAIN_KEY.fullmatch(text):
        return f"{path}.{text}" if path else text
    return f"{path}[{text!r}]"
