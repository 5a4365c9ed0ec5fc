"""The reference of service descriptions, docs/reference/service.md, out of the schema that checks them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / ".collections"))  # for `python tools/docs.py`

from ansible_collections.hearth.fleet.plugins.module_utils import schema, service_schema
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text, size_text

PATH = "docs/reference/service.md"
SOURCE = "plugins/module_utils/service_schema.py"
HEADER = ["Key", "Kind", "Default", "Meaning"]

INTRODUCTION = """\
Everything that the variables `fleet_services`, `fleet_placement`, `fleet_overrides` and `fleet_tiers` may say. A key that is
not listed here is a mistake, and the join says which one was probably meant. `[]` stands for the items of a list, `<…>` for
a name of yours. [Your own service](../guides/your-own-service.md) shows how a description is written step by step."""

NOTATION = """\
- A **duration** is a number of seconds or a text such as `90s`, `5m`, `2h30m`, `30d`.
- A **size** is a number of bytes or a text such as `512M`, `4G`; the suffixes are powers of 1024.
- **list of x, or one**: one item may stand without the brackets of a list.
- A key without a default is simply not set when it is left out, unless its text says what holds instead."""

REQUEST_TEXT = """\
A request is a URL, or a mapping with the keys of one of these forms. A URL alone is fetched with GET, and an answer from
200 to 299 is success."""

EXAMPLE = """\
fleet_services:
  daemon:
    version: "1.4.2"
    artifact:
      url: https://example.org/releases/{version}/daemon-{arch}.tar.gz
      sha256: {amd64: <64 hex digits>, arm64: <64 hex digits>}
    command: [daemon, --config, /etc/daemon/daemon.toml]
    config:
      - path: /etc/daemon/daemon.toml
        content: {listen: "0.0.0.0:8080", data: /var/lib/daemon}
    ports:
      - {name: http, port: 8080, from: any}
    health: {ready: "http://127.0.0.1:8080/healthz"}"""


@dataclass(frozen=True)
class Row:
    """One key: its dotted path, its field of the schema, and the form it belongs to where its record has several."""

    path: str
    field: schema.Field
    form: str = ""


def alternatives(kind: schema.Kind) -> Iterator[schema.Kind]:
    """Yield the kinds that a value may have, one of several taken apart."""
    if isinstance(kind, schema.OneOf) and kind is not service_schema.REQUEST:
        for one in kind.kinds:
            yield from alternatives(one)
    else:
        yield kind


def records(kind: schema.Kind) -> Iterator[tuple[str, schema.Record]]:
    """Yield every record inside a kind, with the suffix of its path: `[]` for items of a list, `.<name>` for a mapping's."""
    for one in alternatives(kind):
        if isinstance(one, schema.Record):
            yield "", one
        elif isinstance(one, schema.ListOf):
            for suffix, record in records(one.item):
                yield f"[]{suffix}", record
        elif isinstance(one, schema.MapOf):
            for suffix, record in records(one.item):
                yield f".<{one.key_label}>{suffix}", record


def rows(record: schema.Record, prefix: str = "", form: str = "") -> Iterator[Row]:
    """Yield a row for each key of a record and, below it, for each key nested in it."""
    for name, field in record.fields.items():
        path = prefix + name
        yield Row(path, field, form)
        forms = list(records(field.kind))
        for suffix, nested in forms:
            yield from rows(nested, f"{path}{suffix}.", nested.label if len(forms) > 1 else "")


def label(kind: schema.Kind) -> str:
    """Return how a kind is called in a table; requests have a section of their own."""
    if kind is service_schema.REQUEST:
        return "[request](#requests)"
    if isinstance(kind, schema.OneOf):
        return " or ".join(dict.fromkeys(label(one) for one in kind.kinds))
    if isinstance(kind, schema.ListOf):
        return f"list of {label(kind.item)}" + (", or one" if kind.single else "")
    if isinstance(kind, schema.MapOf):
        return f"mapping of {kind.key_label} to {label(kind.item)}"
    return kind.label.partition(" (")[0] if kind.label in (schema.DURATION.label, schema.SIZE.label) else kind.label


def default(row: Row) -> str:
    """Return a default as a person would write it, or that the key must be given; nothing for a key that is just not set."""
    field = row.field
    if field.required:
        return f"**required** for a {row.form}" if row.form else "**required**"
    value: Any = field.default() if callable(field.default) else field.default
    if value is None:
        return ""
    if field.kind.label == schema.DURATION.label or field.kind is service_schema.KEEP:
        return f"`{duration_text(value)}`"
    if field.kind is schema.SIZE:
        return f"`{size_text(value) if value else 0}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def meaning(field: schema.Field) -> str:
    """Return what a key means, with an example where there is one."""
    words = field.doc.split("`")  # every second part is code, where < needs no escape
    words[::2] = [part.replace("<", "&lt;") for part in words[::2]]
    return "`".join(words) + (f" Example: `{field.example}`." if field.example else "")


def table(found: Sequence[Row]) -> list[str]:
    """Return keys as a table, one line each."""
    cells = [[f"`{row.path}`", label(row.field.kind), default(row), meaning(row.field)] for row in found]
    return [f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |" for line in (HEADER, ["---"] * len(HEADER), *cells)]


def has_records(field: schema.Field) -> bool:
    """Whether a key has keys below it."""
    return next(records(field.kind), None) is not None


def service_sections() -> Iterator[list[str]]:
    """Yield the section on services: its own keys, then a table for each key that has keys below it."""
    fields = service_schema.SERVICE.fields
    yield ["## fleet_services"]
    yield [service_schema.FLEET.fields["fleet_services"].doc + " The keys of one service, `fleet_services.<service>`:"]
    yield table([Row(name, field) for name, field in fields.items()])
    for name, field in fields.items():
        if has_records(field):
            yield [f"### {name}"]
            yield [meaning(field)]
            yield table([row for row in rows(schema.Record(fields={name: field})) if row.path != name])


def request_sections() -> Iterator[list[str]]:
    """Yield the section on requests, which several keys take."""
    yield ["## Requests"]
    yield REQUEST_TEXT.splitlines()
    for kind in service_schema.REQUEST.kinds:
        if isinstance(kind, schema.Record):
            yield [f"### As a {kind.label}"]
            yield table(list(rows(kind)))


def fleet_sections() -> Iterator[list[str]]:
    """Yield the sections on the other variables of a fleet."""
    for name, field in service_schema.FLEET.fields.items():
        if name != "fleet_services":
            yield [f"## {name}"]
            yield [f"{meaning(field)} Kind: {label(field.kind)}."]
            nested = [row for row in rows(schema.Record(fields={name: field})) if row.path != name]
            if nested:
                yield table(nested)


def page(generated: str) -> str:
    """Return the page, headed by the note `generated`."""
    parts: list[list[str]] = [
        [generated],
        ["# Service descriptions"],
        INTRODUCTION.splitlines(),
        ["```yaml", *EXAMPLE.splitlines(), "```"],
        NOTATION.splitlines(),
        *service_sections(),
        *request_sections(),
        *fleet_sections(),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"
