# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a backup as people write them: recipients, schedules, how long to keep. Pure.

Every function returns the finished value, or raises ValueError with the problem, and after ``; `` what to write instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_names
from ansible_collections.hearth.fleet.plugins.module_utils.account_formats import ssh_key_parts
from ansible_collections.hearth.fleet.plugins.module_utils.schema import describe

CHANGES = "changes"

SCHEDULES = {"hourly": (3, 10), "daily": (48, 60), "weekly": (9 * 24, 180), "monthly": (33 * 24, 180)}
"""For each word: after how many hours a backup is overdue, and by how many minutes at most its start is put off."""
_CALENDAR_AGE, _CALENDAR_DELAY = 48, 10

_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_WRITE_RECIPIENT = "write age1… (58 more characters), or an ssh-ed25519 or ssh-rsa public key"
_CALENDAR = re.compile(r"[A-Za-z0-9*,./:~ +_-]+")
_CALENDAR_WORDS = ("minutely", "quarterly", "semiannually", "annually", "yearly")


def recipient(value: Any) -> str:
    """Return a public key that age encrypts for: ``age1…`` with its checksum, or an SSH key."""
    if not isinstance(value, str):
        raise ValueError(f"{describe(value)} is not an age recipient; {_WRITE_RECIPIENT}")
    text = value.strip()
    if text.startswith("AGE-SECRET-KEY-") or "PRIVATE KEY" in text:
        raise ValueError("this is a private identity, which no host may hold (it is not shown); write its public recipient, age1…")
    if text.startswith("age1"):
        _require_bech32(text)
    elif text.startswith(("ssh-ed25519 ", "ssh-rsa ")):
        _require_ssh(text)
    else:
        raise ValueError(f"{describe(value)} is not an age recipient; {_WRITE_RECIPIENT}")
    return text


def _require_bech32(text: str) -> None:
    if not re.fullmatch(rf"age1[{_BECH32}]{{58}}", text):
        raise ValueError(f"{describe(text)} is not an age recipient; {_WRITE_RECIPIENT}")
    prefix, data = text[:3], [_BECH32.index(letter) for letter in text[4:]]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    if _polymod([*expanded, *data]) != 1:
        raise ValueError(f"{describe(text)} has a wrong checksum, so a letter is not as it was; copy it again from the file of the identity")


def _polymod(values: Sequence[int]) -> int:
    """Return the remainder that is 1 for a right checksum (BIP 173)."""
    remainder = 1
    for value in values:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_BECH32_GENERATOR):
            remainder ^= term if top >> bit & 1 else 0
    return remainder


def _require_ssh(text: str) -> None:
    kind, key = text.split()[:2]
    parts = ssh_key_parts(key)
    sound = bool(parts) and parts[0] == kind.encode() and (len(parts) == 3 if kind == "ssh-rsa" else len(parts) == 2 and len(parts[1]) == 32)
    if not sound or "\n" in text:
        raise ValueError(f"{describe(text)} is not a whole {kind} public key; copy the line of the .pub file")


def keep(value: Any) -> int:
    """Return for how many seconds a backup is kept, in whole days; 0 stands for ever."""
    return backup_names.keep_days(value) * backup_names.DAY_SECONDS


def schedule(value: Any) -> str:
    """Return a schedule: a word, ``changes``, or a calendar expression, of which only systemd itself knows whether it is one."""
    known = (*SCHEDULES, CHANGES, *_CALENDAR_WORDS)
    if isinstance(value, str) and value.strip():
        text = " ".join(value.split())
        if text in known or (_CALENDAR.fullmatch(text) and re.search(r"[*\d]", text)):
            return text
        near = difflib.get_close_matches(text, known, n=1)
        if near:
            raise ValueError(f"{value!r} is not a schedule; did you mean {near[0]!r}?")
    raise ValueError(
        f"{describe(value)} is not a schedule; write hourly, daily, weekly, monthly, changes, or a calendar expression such as '*-*-* 02:00'"
    )


def max_age(when: str) -> int:
    """Return after how many seconds a backup on this schedule is overdue; 0 for never."""
    return 0 if when == CHANGES else SCHEDULES.get(when, (_CALENDAR_AGE, 0))[0] * 3600


def delay_minutes(when: str) -> int:
    """Return by how many minutes at most a start is put off, so that the hosts of a fleet do not all begin at once."""
    return SCHEDULES.get(when, (0, _CALENDAR_DELAY))[1]


def sentinel(value: Any) -> str:
    """Return a question to a database whose answer tells a restored one from another: one SELECT."""
    if isinstance(value, str) and re.match(r"\s*select\s", value, re.IGNORECASE) and ";" not in value.strip().rstrip(";"):
        return value.strip().rstrip(";")
    raise ValueError(f"{describe(value)} is not one SELECT; write it like 'SELECT count(*) FROM blobs'")  # noqa: S608  # a message
