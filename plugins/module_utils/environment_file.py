# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading environment files as systemd reads those of ``EnvironmentFile=`` (systemd.exec(5)). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BLANKS, _LINE_ENDS = " \t\n\r", "\n\r"
_ESCAPED_IN_QUOTES = '"\\`$'


def parse(text: str) -> dict[str, str]:
    """Return the variables that an environment file sets; what is no assignment is passed over."""
    reader = _Reader()
    for character in text:
        reader.take(character)
    reader.end()
    return reader.found


class _Reader:
    """Takes a file character by character; each state is the method that takes the next one."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.take: Callable[[str], None] = self._before_name
        self._name = self._value = ""
        self._kept = 0  # so much of the value is no blank at its end

    def end(self) -> None:
        """Note the assignment that has been read, if one has."""
        if self.take not in (self._before_name, self._in_name, self._in_comment):
            name, value = self._name.rstrip(_BLANKS), self._value
            if _NAME.fullmatch(name):
                self.found[name] = value[: self._kept] + value[self._kept :].rstrip(_BLANKS)
        self.take, self._name, self._value, self._kept = self._before_name, "", "", 0

    def _add(self, character: str, *, keep: bool = True) -> None:
        self._value += character
        if keep:
            self._kept = len(self._value)

    def _before_name(self, character: str) -> None:
        if character in "#;":
            self.take = self._in_comment
        elif character not in _BLANKS:
            self._name, self.take = character, self._in_name

    def _in_name(self, character: str) -> None:
        if character in _LINE_ENDS:
            self.end()
        elif character == "=":
            self.take = self._before_value
        else:
            self._name += character

    def _before_value(self, character: str) -> None:
        """Take what stands before a value, or between its parts in quotes."""
        if character in _LINE_ENDS:
            self.end()
        elif character == "'":
            self.take = self._in_single_quotes
        elif character == '"':
            self.take = self._in_double_quotes
        elif character == "\\":
            self.take = self._after_backslash
        elif character not in _BLANKS:
            self._add(character)
            self.take = self._in_value

    def _in_value(self, character: str) -> None:
        if character in _LINE_ENDS:
            self.end()
        elif character == "\\":
            self.take = self._after_backslash
        else:
            self._add(character, keep=character not in _BLANKS)

    def _after_backslash(self, character: str) -> None:
        if character not in _LINE_ENDS:
            self._add(character)
        self.take = self._in_value

    def _in_single_quotes(self, character: str) -> None:
        if character == "'":
            self.take = self._before_value
        else:
            self._add(character)

    def _in_double_quotes(self, character: str) -> None:
        if character == '"':
            self.take = self._before_value
        elif character == "\\":
            self.take = self._after_backslash_in_quotes
        else:
            self._add(character)

    def _after_backslash_in_quotes(self, character: str) -> None:
        if character not in _LINE_ENDS:
            self._add(character if character in _ESCAPED_IN_QUOTES else f"\\{character}")
        self.take = self._in_double_quotes

    def _in_comment(self, character: str) -> None:
        if character in _LINE_ENDS:
            self.end()
