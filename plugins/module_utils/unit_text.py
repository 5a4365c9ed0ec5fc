# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How texts are written in unit files, so that systemd reads back exactly what was meant (systemd.syntax(7), systemd.service(5)).

Pure. Every function takes ``where``, the inventory path that an error names, and raises FleetError for a text that no
unit file can carry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, Unusable, attempt
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake

_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:,@%+=~-]+")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\t": "\\t", "\n": "\\n", "%": "%%"})
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class TextErrors(FleetError):
    """All that no unit file can carry of one description; ``errors`` has it one by one."""

    def __init__(self, errors: Iterable[FleetError]) -> None:
        self.errors = [single for error in errors for single in getattr(error, "errors", [error])]
        super().__init__("\n".join(map(str, self.errors)))


def collect(*parts: tuple[Any, ...]) -> list[Any]:
    """Return together what all parts, each a function and its arguments, return. Raises TextErrors with what is wrong with any of them."""
    found: list[Any] = []
    errors = []
    for function, *arguments in parts:
        try:
            found.append(attempt(function, *arguments))
        except FleetError as error:
            errors.append(error)
    if errors:
        raise TextErrors(errors)
    if any(one is BROKEN for one in found):
        raise Unusable
    return [item for one in found for item in one]


def mistakes_of(error: FleetError) -> list[Mistake]:
    """Return errors of the form "path: problem, arrow, remedy" as mistakes."""
    found = []
    for single in getattr(error, "errors", [error]):
        said, _arrow, remedy = str(single).partition("\n  → ")
        path, _colon, problem = said.partition(": ")
        found.append(Mistake(path, problem, remedy))
    return found


def line(text: str, where: str) -> str:
    """Return a text that stands alone behind ``Key=`` and is taken as it is, such as a description or one path."""
    _require_writable(text, where)
    if "\n" in text:
        raise FleetError(f"{where}: has several lines, and one belongs there\n  → write it on one line")
    if text != text.strip() or text.endswith("\\"):
        raise FleetError(f"{where}: {text!r} begins or ends with a space or ends with \\, which systemd does not keep there\n  → leave that out")
    return text.replace("%", "%%")


def word(text: str, where: str) -> str:
    """Return a text as one word of a list of words, in quotes where it needs them."""
    _require_writable(text, where)
    escaped = text.translate(_ESCAPES)
    return escaped if _PLAIN_WORD.fullmatch(text) else f'"{escaped}"'


def words(texts: Iterable[str], where: str) -> str:
    """Return several texts as the words of one value."""
    return " ".join(word(text, where) for text in texts)


def command(argv: Iterable[str], where: str) -> str:
    """Return a command line that systemd splits into exactly these arguments, without putting variables in.

    The program stands first, as an absolute path, so that it cannot be read as one of systemd's prefixes (``-``, ``+``, ``@``).
    """
    return " ".join(word(text, f"{where}[{index}]").replace("$", "$$") for index, text in enumerate(argv))


def _require_writable(text: str, where: str) -> None:
    found = _UNWRITABLE.search(text)
    if found:
        raise FleetError(
            f"{where}: has the character {found[0]!r}, which a unit file cannot carry\n  → put the text into a config file, and name that"
        )
