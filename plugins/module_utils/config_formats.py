# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration as the inventory holds it (mappings, lists, scalars), written in the format that the daemon reads.

Runs on the controller. Everything that a format cannot hold is a mistake with the path of its key, never a guess.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Callable

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, InventoryError, Mistake, join_path

_SUFFIXES = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".ini": "ini", ".env": "env"}
_DATES = (datetime.date, datetime.time)
_INT64 = range(-(2**63), 2**63)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_BARE = re.compile(r"[A-Za-z0-9_@%+=:,./-]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Readers of INI files agree on little: # or ; begins a comment anywhere (Go's, Git's, Bitcoin's), after a space, or nowhere in a value. Which
# quotes keep them from it differs as well, so whoever knows the daemon must write them.
_INI_CUT = re.compile(r"[#;]")
_INI_QUOTED = re.compile(r"""(\"{3}|["'`])(?:(?!\1).)*\1""")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# Texts that a YAML 1.2 reader (most of Go, Rust, JavaScript) takes for a number or a truth value and PyYAML does not.
_YAML_AMBIGUOUS = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|0o[0-7]+|0x[0-9a-fA-F]+|[yYnN]")


class ContentError(InventoryError):
    """Content that its format cannot hold; ``mistakes`` has every such place, with its path in the inventory."""


def guess_format(path: str) -> str:
    """Return the format that a file's name suggests, out of `FORMATS`; ``text`` where it suggests none."""
    name = PurePosixPath(path)
    if name.name == ".env" or name.parent == PurePosixPath("/etc/default"):
        return "env"
    return _SUFFIXES.get(name.suffix.lower(), "text")


def plain(value: Any) -> Any:
    """Return ``value`` made of plain builtins.

    Ansible marks values with subclasses of the builtins (and with lazy containers) that serialisers refuse or write
    with their own tags. A value of a type that is no subclass of a builtin is returned as it is: encoders name it.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    for kind, convert in _PLAIN.items():
        if isinstance(value, kind):
            return convert(value)
    if type(value).__name__ in ("EncryptedString", "AnsibleVaultEncryptedUnicode"):
        return plain(str(value))  # both decrypt themselves so
    return value


_PLAIN: dict[type, Callable[[Any], Any]] = {
    # The builtins' own conversions: a subclass may have overridden str(), int() and float().
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    datetime.datetime: lambda one: datetime.datetime.combine(plain(one.date()), one.time(), one.tzinfo),
    datetime.date: lambda one: datetime.date(one.year, one.month, one.day),
    datetime.time: lambda one: datetime.time(one.hour, one.minute, one.second, one.microsecond, tzinfo=one.tzinfo, fold=one.fold),
}


def encode(file_format: str, content: Any, path: str) -> str:
    """Return ``content`` as the text of a file in ``file_format``, one of `FORMATS`.

    ``path`` is where the content stands in the inventory (``fleet_services.icnd.config[0].content``).
    The same content gives the same text always; all formats but ``text`` end in a newline.
    Raises ContentError with all mistakes of the content, and FleetError where a library is missing.
    """
    content = plain(content)
    mistakes: list[Mistake] = []
    if file_format not in _ENCODERS:
        raise ContentError([Mistake(path, f"there is no format {file_format!r}", f"write one of {', '.join(FORMATS)}")])
    check, write = _ENCODERS[file_format]
    check(content, path, mistakes)
    if mistakes:
        raise ContentError(mistakes)
    return write(content)


class _Tree:
    """The check of a format that nests: walks the content and collects what the format cannot hold."""

    def __init__(self, name: str, scalar: Callable[[Any], tuple[str, str] | None], *, any_top: bool) -> None:
        self.name = name
        self.scalar = scalar
        self.any_top = any_top

    def __call__(self, content: Any, path: str, mistakes: list[Mistake]) -> None:
        if not self.any_top and not isinstance(content, dict):
            mistakes.append(_not_a_mapping(content, path, self.name))
            return
        self._walk(content, path, mistakes)

    def _walk(self, value: Any, path: str, mistakes: list[Mistake]) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                below = join_path(path, str(key))
                if not isinstance(key, str):
                    mistakes.append(_key_is_no_text(key, below))
                elif _SURROGATE.search(key):
                    mistakes.append(Mistake(below, "the key is not valid Unicode"))
                self._walk(item, below, mistakes)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._walk(item, join_path(path, index), mistakes)
        else:
            found = _unicode_problem(value) or self.scalar(value)
            if found:
                mistakes.append(Mistake(path, *found))


def _not_a_mapping(content: Any, path: str, name: str) -> Mistake:
    return Mistake(path, f"{_kind(content)} has no {name} form at the top of a file", "write a mapping, or format: text for a text as it is")


def _key_is_no_text(key: Any, path: str) -> Mistake:
    return Mistake(path, f"the key {key!r} is {_kind(key)}, not a text", f"write it in quotes: '{key}'")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a truth value", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a mapping"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


def _unicode_problem(value: Any) -> tuple[str, str] | None:
    return ("the text is not valid Unicode", "") if isinstance(value, str) and _SURROGATE.search(value) else None


def _toml_problem(value: Any) -> tuple[str, str] | None:
    if value is None:
        return "null has no TOML form", "leave the key out"
    if isinstance(value, int) and value not in _INT64:
        return f"{value} does not fit a TOML integer (64 bits)", f"write it as a text, if the daemon takes one: '{value}'"
    if isinstance(value, datetime.time) and value.tzinfo:
        return "a time with a time zone has no TOML form", "write a date with it, or a text"
    return None if isinstance(value, (str, bool, int, float, *_DATES)) else _strange(value, "TOML")


def _json_problem(value: Any) -> tuple[str, str] | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} has no JSON form", "write a finite number, or leave the key out"
    if isinstance(value, _DATES):
        return f"{value} is a date, which has no JSON form", f"write it in quotes: '{value}'"
    return None if value is None or isinstance(value, (str, bool, int, float)) else _strange(value, "JSON")


def _yaml_problem(value: Any) -> tuple[str, str] | None:
    if isinstance(value, datetime.time):
        return f"{value} is a time, which has no YAML form", f"write it in quotes: '{value}'"
    known = (str, bool, int, float, datetime.date)
    return None if value is None or isinstance(value, known) else _strange(value, "YAML")


def _strange(value: Any, name: str) -> tuple[str, str]:
    return f"{_kind(value)} has no {name} form", "write a text, a number, true or false, a list or a mapping"


def _check_ini(content: Any, path: str, mistakes: list[Mistake]) -> None:
    if not isinstance(content, dict):
        mistakes.append(_not_a_mapping(content, path, "INI"))
        return
    for name, section in content.items():
        below = join_path(path, str(name))
        if not isinstance(section, dict):
            _check_ini_entry(name, section, below, mistakes)
            continue
        if not isinstance(name, str) or not name.strip() or _CONTROL.search(name) or "]" in name:
            mistakes.append(Mistake(below, f"{name!r} cannot be the name of a section"))
        for key, value in section.items():
            _check_ini_entry(key, value, join_path(below, str(key)), mistakes)


def _check_ini_entry(key: Any, value: Any, path: str, mistakes: list[Mistake]) -> None:
    if not isinstance(key, str):
        mistakes.append(_key_is_no_text(key, path))
    elif key != key.strip() or not key or key[0] == "[" or re.search(r"[=:#;]", key) or _CONTROL.search(key):
        mistakes.append(Mistake(path, f"{key!r} cannot be an INI key", "no spaces around it, no =, :, # or ;, no [ first"))
    if not isinstance(value, list):
        _check_line(value, path, "INI", mistakes)
        return
    for index, item in enumerate(value):
        _check_line(item, join_path(path, index), "INI", mistakes)


def _check_line(value: Any, path: str, name: str, mistakes: list[Mistake]) -> None:
    """Record why ``value`` cannot stand on one line of an INI or an environment file, if it cannot."""
    problem = _unicode_problem(value)
    if value is None:
        problem = f"null has no {name} form", "leave the key out, or write '' for an empty value"
    elif not isinstance(value, (str, bool, int, float)):
        problem = f"{_kind(value)} has no {name} form here", "write a text, a number, true or false"
    elif isinstance(value, str) and _CONTROL.search(value):
        problem = "a value with a line break or another control character", "write it on one line"
    elif name == "INI" and isinstance(value, str):
        problem = problem or _ini_problem(value)
    if problem:
        mistakes.append(Mistake(path, *problem))


def _ini_problem(value: str) -> tuple[str, str] | None:
    if value != value.strip():
        return "spaces around a value are lost in an INI file", "write it without them"
    if value.endswith("\\"):
        return (
            "after a \\ at its end, many readers of INI files take the next line for a part of it",
            "write it otherwise, or the whole file with format: text, or as a template",
        )
    cut = _INI_CUT.search(value)
    if cut and not _INI_QUOTED.fullmatch(value):
        example, threefold = f"'\"a{cut[0]}b\"'", f'\'"""a{cut[0]}b"""\''
        return (
            f"many readers of INI files take {cut[0]} for the beginning of a comment, and leave the rest out",
            f"put it in the quotes that the daemon reads: {example} for Git's way, {threefold} for Grafana's and Gitea's; "
            "where it reads none, write the whole file with format: text, or as a template",
        )
    return None


def _check_env(content: Any, path: str, mistakes: list[Mistake]) -> None:
    if not isinstance(content, dict):
        mistakes.append(_not_a_mapping(content, path, "environment file"))
        return
    for name, value in content.items():
        below = join_path(path, str(name))
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
            mistakes.append(Mistake(below, f"{name!r} cannot name a variable", "use letters, digits and _, no digit first"))
        _check_line(value, below, "environment file", mistakes)


def _check_text(content: Any, path: str, mistakes: list[Mistake]) -> None:
    if not isinstance(content, str):
        remedy = f"write a text (with |), or choose a format: {', '.join(name for name in FORMATS if name != 'text')}"
        mistakes.append(Mistake(path, f"{_kind(content)}, where the format text takes a text", remedy))
    elif _unicode_problem(content):
        mistakes.append(Mistake(path, "the text is not valid Unicode"))


def _write_toml(content: dict[str, Any]) -> str:
    try:
        import tomli_w  # imported here: only controllers that write TOML need it
    except ImportError:
        raise FleetError(
            "TOML is written by the Python library tomli-w, which is not installed here.\n"
            "  → pip install tomli-w, into the environment that runs ansible-playbook"
        ) from None
    return tomli_w.dumps(content)


def _write_json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _write_yaml(content: Any) -> str:
    import yaml  # comes with ansible-core; imported here, as hosts have no need of it

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the base class names it
            return True  # not every daemon's reader knows anchors

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
            super().increase_indent(flow, False)

    def text(dumper: Dumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else '"' if _YAML_AMBIGUOUS.fullmatch(value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    written = str(yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=2**31))
    return written.removesuffix("\n...\n") + "\n" if written.endswith("\n...\n") else written


def _write_ini(content: dict[str, Any]) -> str:
    # What belongs to no section must come first, or it would belong to the section before it.
    loose = {key: value for key, value in content.items() if not isinstance(value, dict)}
    blocks = [_ini_lines(loose)] if loose else []
    blocks += [[f"[{name}]", *_ini_lines(section)] for name, section in content.items() if isinstance(section, dict)]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _ini_lines(entries: dict[str, Any]) -> list[str]:
    """Return the lines of one section; a list is its key repeated, as programs that take several values read it."""
    return [f"{key} = {_scalar_text(item)}".rstrip() for key, value in entries.items() for item in (value if isinstance(value, list) else [value])]


def _write_env(content: dict[str, Any]) -> str:
    """Return assignments that systemd's EnvironmentFile= and a POSIX shell's ``.`` read alike."""
    return "".join(f"{name}={_env_quoted(_scalar_text(value))}\n" for name, value in content.items()) or "\n"


def _env_quoted(value: str) -> str:
    # Both readers take a backslash before these four, inside double quotes, for an escape; before others it stays.
    return value if _ENV_BARE.fullmatch(value) else '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'


def _scalar_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_ENCODERS: dict[str, tuple[Callable[[Any, str, list[Mistake]], None], Callable[[Any], str]]] = {
    "toml": (_Tree("TOML", _toml_problem, any_top=False), _write_toml),
    "yaml": (_Tree("YAML", _yaml_problem, any_top=True), _write_yaml),
    "json": (_Tree("JSON", _json_problem, any_top=True), _write_json),
    "ini": (_check_ini, _write_ini),
    "env": (_check_env, _write_env),
    "text": (_check_text, str),
}
FORMATS = tuple(_ENCODERS)
"""The formats that `encode` writes: toml, yaml, json; ini (sections of scalars; a list repeats its key); env (names and
scalars, for systemd's ``EnvironmentFile=`` and for ``sh``); text (a text, byte for byte)."""
