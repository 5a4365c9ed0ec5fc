# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small schema language: it checks a value, fills its defaults, and reports every mistake with its path.

A *kind* knows how to read one sort of value: ``kind.read(value, path, mistakes)`` returns the finished value, or records
what is wrong and returns ``BROKEN`` in its place; so does what holds it, which can be checked further. Records are kinds built of
named fields; reference documentation is generated from them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.hearth.fleet.plugins.module_utils.broken import BROKEN, Unusable
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import seconds, size_bytes


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the known word nearest to ``word``, else the list of known words."""
    words = sorted(map(str, known))
    near = nearest(str(word), words)
    return f"did you mean {near!r}?" if near else f"known here: {', '.join(words)}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that ``word`` may be a misspelling of; empty for none."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")


class Kind:
    """How one sort of value is read. ``label`` is what the reference documentation calls it."""

    label: str

    def read(self, value: Any, path: str, mistakes: list[Mistake]) -> Any:
        """Return the finished value; on a mistake, append to ``mistakes`` and return BROKEN, or what is sound of it."""
        raise NotImplementedError


def _read(kind: Kind, value: Any, path: str, mistakes: list[Mistake]) -> Any:
    # What is broken already, such as a template that cannot be filled in, has been said.
    return BROKEN if value is BROKEN else kind.read(value, path, mistakes)


@dataclass(frozen=True)
class Scalar(Kind):
    """A kind read by one function that returns the finished value or raises ValueError with the problem in words.

    The text after the first ``; `` of the error is the remedy.
    """

    label: str
    parse: Callable[[Any], Any]

    def read(self, value: Any, path: str, mistakes: list[Mistake]) -> Any:
        try:
            return self.parse(value)
        except ValueError as error:
            problem, _semicolon, remedy = str(error).partition("; ")
            mistakes.append(Mistake(path, problem, remedy))
        except Unusable:
            pass  # a mapping or a list in which something is broken
        return BROKEN


@dataclass(frozen=True)
class ListOf(Kind):
    """A list whose items are all of one kind. With ``single``, one item may stand for a list of one; with ``filled``, it may not be empty."""

    item: Kind
    single: bool = False
    filled: bool = False

    @property
    def label(self) -> str:  # type: ignore[override]  # a constant of the base class, derived here
        return f"list of {self.item.label}" + (", or one" if self.single else "")

    def read(self, value: Any, path: str, mistakes: list[Mistake]) -> Any:
        if not isinstance(value, (list, tuple)):
            if self.single and value is not None:
                return [_read(self.item, value, path, mistakes)]
            remedy = "make it an item of a list: begin it with '- '" if isinstance(value, Mapping) else f"write a list of {self.item.label}"
            mistakes.append(Mistake(path, f"{describe(value)} is not a list", remedy))
            return BROKEN
        if self.filled and not value:
            mistakes.append(Mistake(path, "empty", f"write a list of {self.item.label}, or leave the key out"))
            return BROKEN
        return [_read(self.item, item, join_path(path, index), mistakes) for index, item in enumerate(value)]


@dataclass(frozen=True)
class MapOf(Kind):
    """A mapping with free keys (checked by ``key``, a pattern) whose values are all of one kind."""

    item: Kind
    key: str = r".+"
    key_label: str = "name"
    confidential: bool = False
    """No error repeats what stands in the mapping's place."""

    @property
    def label(self) -> str:  # type: ignore[override]  # a constant of the base class, derived here
        return f"mapping of {self.key_label} to {self.item.label}"

    def read(self, value: Any, path: str, mistakes: list[Mistake]) -> Any:
        if not isinstance(value, Mapping):
            found = "this (its value is not shown)" if self.confidential and value is not None else describe(value)
            mistakes.append(_no_mapping(value, found, path, f"write a mapping of {self.key_label} to {self.item.label}"))
            return BROKEN
        finished: dict[str, Any] = {}
        misplaced = False
        for key, item in value.items():
            below = join_path(path, key)
            if not isinstance(key, str) or not re.fullmatch(self.key, key):
                words = self.key.split("|") if re.fullmatch(r"[\w|]+", self.key) else []
                called = f"{'an' if self.key_label[0] in 'aeiou' else 'a'} {self.key_label}"
                remedy = f"write one of {', '.join(words)}" if words else f"{called} looks like {self.key}"
                mistakes.append(Mistake(below, f"{key!r} is not {called}", remedy))
                finished[str(key)] = BROKEN
                # Which of the known words was meant, nobody knows; so nobody can say what is missing.
                misplaced = misplaced or bool(words)
                continue
            finished[key] = _read(self.item, item, below, mistakes)
        return BROKEN if misplaced else finished


@dataclass(frozen=True)
class OneOf(Kind):
    """Any of several kinds; the first that reads the value without a mistake wins."""

    kinds: Sequence[Kind]

    @property
    def label(self) -> str:  # type: ignore[override]  # a constant of the base class, derived here
        return " or ".join(kind.label for kind in self.kinds)

    def read(self, value: Any, path: str, mistakes: list[Mistake]) -> Any:
        attempts: list[tuple[list[Mistake], Any]] = []
        for kind in self.kinds:
            found: list[Mistake] = []
            finished = kind.read(value, path, found)
            if not found:
                return finished
            attempts.append((found, finished))
        # What fits no kind was meant for the nearest one, whose own mistakes help more than "is none of".
        scalars = [tried for kind, (tried, _finished) in zip(self.kinds, attempts) if isinstance(kind, Scalar)]
        if isinstance(value, (Mapping, list)):
            nearest, finished = min(attempts, key=lambda tried: (all(one.path == path for one in tried[0]), len(tried[0])))
            mistakes.extend(nearest)
            return finished
        if scalars:
            mistakes.extend(scalars[0])
        else:
            forms = [f"{{{name}: …}}" for kind in self.kinds if isinstance(kind, Record) for name, one in kind.fields.items() if one.required]
            mistakes.append(Mistake(path, f"{describe(value)} is not {self.label}", f"write {' or '.join(forms)}" if forms else ""))
        return BROKEN


@dataclass(frozen=True)
class Field:
    """One key of a record: its kind, what it means, and what holds when it is left out.

    ``default`` may be a function: it is then called for every record, so that lists and mappings are never shared.
    A record-valued field without a value is read as an empty record, so that nested defaults are filled.
    """

    kind: Kind
    doc: str
    default: Any = None
    required: bool = False
    example: str = ""


@dataclass(frozen=True)
class Record(Kind):
    """A mapping with known keys. Unknown keys are mistakes, with a suggestion; left-out keys get their defaults."""

    fields: Mapping[str, Field] = field(default_factory=dict)
    label: str = "mapping"
    optional: bool = False
    """Left out, the whole record is None rather than a record of defaults."""

    def read(self, value: Any, path: str, mistakes: list[Mistake]) -> Any:
        if not isinstance(value, Mapping):
            mistakes.append(_no_mapping(value, describe(value), path, f"write a mapping with keys out of: {', '.join(self.fields)}"))
            return BROKEN
        finished = {name: self._read_field(name, one, value, path, mistakes) for name, one in self.fields.items()}
        for key in value:
            if key in self.fields:
                continue
            below = self._known_below(str(key))
            remedy = f"write it under {' or '.join(below)}" if below else suggest(str(key), self.fields)
            mistakes.append(Mistake(join_path(path, key), "unknown key", remedy))
            # What it was meant for is not left to its default, for which nobody has asked.
            meant = "" if below else nearest(str(key), self.fields)
            if meant and value.get(meant) is None:
                finished[meant] = BROKEN
            for name in below:
                if isinstance(finished[name], dict) and (value.get(name) or {}).get(key) is None:
                    finished[name][key] = BROKEN
        return finished

    def _known_below(self, key: str) -> list[str]:
        """Return the keys below which a key is known that is unknown here."""
        return [name for name, one in self.fields.items() if isinstance(one.kind, Record) and key in one.kind.fields]

    @staticmethod
    def _read_field(name: str, one: Field, value: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> Any:
        below = join_path(path, name)
        given = value.get(name)
        if given is None:
            if one.required:
                mistakes.append(Mistake(below, "missing", one.example and f"write, for example, {name}: {one.example}"))
                return BROKEN
            if isinstance(one.kind, Record) and not one.kind.optional and one.default is None:
                return one.kind.read({}, below, mistakes)
            return one.default() if callable(one.default) else one.default
        return _read(one.kind, given, below, mistakes)


def _no_mapping(value: object, described: str, path: str, remedy: str) -> Mistake:
    # In YAML, a key with nothing behind it is null.
    return Mistake(path, "empty", f"{remedy}; or leave the key out") if value is None else Mistake(path, f"{described} is not a mapping", remedy)


def describe(value: object) -> str:
    """Return a value as an error names it: ``1.1 (a number)``, ``{path, content} (a mapping)``."""
    names = {
        "bool": "a truth value",
        "int": "a number",
        "float": "a number",
        "str": "a text",
        "list": "a list",
        "dict": "a mapping",
        "NoneType": "nothing",
    }
    name = names.get(type(value).__name__, type(value).__name__)
    shown = f"{{{', '.join(map(str, value))}}}" if isinstance(value, dict) else repr(value)  # among its values may be secrets
    return f"{shown if len(shown) <= 60 else shown[:57] + '...'} ({name})"


def _text(value: Any) -> str:
    if isinstance(value, str):
        if value == "":
            raise ValueError("empty; write a text, or leave the key out")
        return value
    if isinstance(value, (bool, int, float)):
        raise ValueError(f"{describe(value)} is not a text; write it in quotes: '{value}'")
    raise ValueError(f"{describe(value)} is not a text")


def _any_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, (bool, float)):
        # YAML has changed it already: off and no are false, 1.10 is 1.1.
        raise ValueError(f"{describe(value)} may not be what was written; write the text that is meant, in quotes: '{str(value).lower()}'")
    raise ValueError(f"{describe(value)} is not a text or a whole number; write a text in quotes, '' for an empty one")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "yes", "on", "false", "no", "off"):
        return value.lower() in ("true", "yes", "on")
    raise ValueError(f"{describe(value)} is not true or false")


def _integer(minimum: int, maximum: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
            value = int(value)  # what "{{ some_number }}" gives without native types
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{describe(value)} is not a whole number")
        if not minimum <= value <= maximum:
            raise ValueError(f"{value} is out of range; write a number from {minimum} to {maximum}")
        return int(value)

    return parse


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{describe(value)} is not a number")
    return float(value)


def _choice(words: Sequence[str]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in words:
            # YAML has changed it already where it is false.
            hint = "no" if value is False and "no" in words else nearest(str(value), words)
            meant = f"; did you mean {hint!r}{', in quotes' if isinstance(value, bool) else ''}?" if hint else ""
            raise ValueError(f"{value!r} is not one of {', '.join(words)}{meant}")
        return str(value)

    return parse


def _matching(pattern: str, problem: str) -> Callable[[Any], str]:
    expression = re.compile(pattern)

    def parse(value: Any) -> str:
        text = _text(value)
        if not expression.fullmatch(text):
            raise ValueError(f"{text!r} {problem}")
        return text

    return parse


def choice(*words: str) -> Scalar:
    """Return the kind of a text out of ``words``."""
    return Scalar("one of " + ", ".join(words), _choice(words))


def integer(minimum: int = 0, maximum: int = 2**63 - 1) -> Scalar:
    """Return the kind of a whole number between two bounds, both included."""
    return Scalar("whole number", _integer(minimum, maximum))


def matching(label: str, pattern: str, problem: str) -> Scalar:
    """Return the kind of a text that matches ``pattern`` whole; ``problem`` completes the sentence "'x' …"."""
    return Scalar(label, _matching(pattern, problem))


ANY = Scalar("anything", lambda value: value)
TEXT = Scalar("text", _text)
ANY_TEXT = Scalar("text or whole number", _any_text)
FLAG = Scalar("true or false", _flag)
NUMBER = Scalar("number", _number)
DURATION = Scalar("duration (90s, 5m, 2h)", seconds)
SIZE = Scalar("size (512M, 4G)", size_bytes)
