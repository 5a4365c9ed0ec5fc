"""The kinds of the schema language: what each reads, and what it says about what it cannot read."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import errors, schema, service_schema
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake


def read(kind: schema.Kind, value: Any) -> tuple[Any, list[str]]:
    """Return the finished value and what was said about it, for a value that stands at `x`."""
    mistakes: list[Mistake] = []
    finished = kind.read(value, "x", mistakes)
    return finished, [str(one) for one in mistakes]


PORT = schema.Record(
    fields={
        "name": schema.Field(schema.TEXT, "Its name.", required=True, example="http"),
        "port": schema.Field(schema.integer(1, 65535), "Its number.", default=80),
        "tags": schema.Field(schema.ListOf(schema.TEXT), "Its tags.", default=list),
    }
)
REQUEST = schema.OneOf(
    (
        schema.matching("URL", r"https?://.+", "is not a URL"),
        schema.Record(label="command", fields={"command": schema.Field(schema.ListOf(schema.TEXT), "A command.", required=True)}),
        schema.Record(label="signal", fields={"signal": schema.Field(schema.choice("HUP", "TERM"), "A signal.", required=True)}),
    )
)


@pytest.mark.parametrize(
    ("kind", "value", "finished"),
    [
        pytest.param(schema.TEXT, "a", "a", id="text"),
        pytest.param(schema.ANY_TEXT, 8080, "8080", id="number-as-text"),
        pytest.param(schema.ANY_TEXT, "", "", id="empty-text-where-any-will-do"),
        pytest.param(schema.FLAG, False, False, id="truth"),
        pytest.param(schema.FLAG, "yes", True, id="truth-out-of-a-template"),
        pytest.param(schema.FLAG, "Off", False, id="untruth-out-of-a-template"),
        pytest.param(schema.NUMBER, 2, 2.0, id="number"),
        pytest.param(schema.integer(1, 10), "7", 7, id="number-out-of-a-template"),
        pytest.param(schema.integer(1, 10), 10, 10, id="upper-bound"),
        pytest.param(schema.integer(-20, 19), "-20", -20, id="lower-bound"),
        pytest.param(schema.DURATION, "2m", 120, id="duration"),
        pytest.param(schema.SIZE, "1K", 1024, id="size"),
        pytest.param(schema.choice("tcp", "udp"), "udp", "udp", id="choice"),
        pytest.param(schema.ListOf(schema.DURATION), ["1m", 5], [60, 5], id="list"),
        pytest.param(schema.ListOf(schema.TEXT), (), [], id="empty-tuple"),
        pytest.param(schema.ListOf(schema.TEXT, single=True), "a", ["a"], id="one-for-a-list"),
        pytest.param(schema.MapOf(schema.SIZE, key=r"/.*"), {"/var": "1K"}, {"/var": 1024}, id="mapping"),
        pytest.param(schema.ANY, {"a": [None]}, {"a": [None]}, id="anything"),
        pytest.param(REQUEST, "http://x", "http://x", id="first-of-several"),
        pytest.param(REQUEST, {"signal": "HUP"}, {"signal": "HUP"}, id="last-of-several"),
        pytest.param(service_schema.SYSCALL, "~@privileged", "~@privileged", id="system-call-group-taken-away"),
        pytest.param(service_schema.SYSCALL, "mseal:ENOSYS", "mseal:ENOSYS", id="system-call-with-its-answer"),
        pytest.param(service_schema.DEVICE, "/dev/bus/usb/001/002", "/dev/bus/usb/001/002", id="device"),
        pytest.param(service_schema.DEVICE, "char-* rwm", "char-* rwm", id="all-character-devices"),
        pytest.param(service_schema.ADDRESS_FAMILY, "AF_CAN", "AF_CAN", id="address-family"),
        pytest.param(PORT, {"name": "a"}, {"name": "a", "port": 80, "tags": []}, id="record-with-defaults"),
        pytest.param(PORT, {"name": "a", "port": None}, {"name": "a", "port": 80, "tags": []}, id="null-is-left-out"),
    ],
)
def test_values_are_read(kind: schema.Kind, value: Any, finished: Any) -> None:
    assert read(kind, value) == (finished, [])


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        pytest.param(schema.TEXT, "", ["x: empty\n  → write a text, or leave the key out"], id="empty-text"),
        pytest.param(schema.TEXT, 1.1, ["x: 1.1 (a number) is not a text\n  → write it in quotes: '1.1'"], id="number-for-text"),
        pytest.param(schema.TEXT, ["a"], ["x: ['a'] (a list) is not a text"], id="list-for-text"),
        pytest.param(
            schema.ANY_TEXT,
            None,
            ["x: None (nothing) is not a text or a whole number\n  → write a text in quotes, '' for an empty one"],
            id="nothing",
        ),
        pytest.param(
            schema.ANY_TEXT,
            1.10,
            ["x: 1.1 (a number) may not be what was written\n  → write the text that is meant, in quotes: '1.1'"],
            id="fraction-that-yaml-shortened",
        ),
        pytest.param(
            schema.ANY_TEXT,
            False,
            ["x: False (a truth value) may not be what was written\n  → write the text that is meant, in quotes: 'false'"],
            id="off-that-yaml-took-for-false",
        ),
        pytest.param(schema.FLAG, 1, ["x: 1 (a number) is not true or false"], id="number-for-truth"),
        pytest.param(schema.NUMBER, True, ["x: True (a truth value) is not a number"], id="truth-for-number"),
        pytest.param(schema.integer(1, 10), 11, ["x: 11 is out of range\n  → write a number from 1 to 10"], id="above"),
        pytest.param(schema.integer(1, 10), 0, ["x: 0 is out of range\n  → write a number from 1 to 10"], id="below"),
        pytest.param(schema.integer(), 1.0, ["x: 1.0 (a number) is not a whole number"], id="fraction"),
        pytest.param(schema.integer(), False, ["x: False (a truth value) is not a whole number"], id="truth-for-whole-number"),
        pytest.param(schema.choice("tcp", "udp"), "tpc", ["x: 'tpc' is not one of tcp, udp\n  → did you mean 'tcp'?"], id="misspelt-choice"),
        pytest.param(schema.choice("tcp", "udp"), "icmp", ["x: 'icmp' is not one of tcp, udp"], id="other-choice"),
        pytest.param(schema.ListOf(schema.TEXT), "a", ["x: 'a' (a text) is not a list\n  → write a list of text"], id="one-where-a-list-must-be"),
        pytest.param(
            schema.ListOf(schema.TEXT, single=True), None, ["x: None (nothing) is not a list\n  → write a list of text"], id="nothing-for-list"
        ),
        pytest.param(
            schema.ListOf(schema.DURATION),
            ["1m", "soon", "later"],
            [f"x[{index}]: {word!r} is not a duration\n  → write it like 90s, 5m, 2h30m or 30d" for index, word in ((1, "soon"), (2, "later"))],
            id="every-bad-item",
        ),
        pytest.param(
            schema.MapOf(schema.SIZE, key=r"/.*", key_label="path"),
            {"var": "1K", "/b": "x"},
            ["x.var: 'var' is not a path\n  → a path looks like /.*", "x['/b']: 'x' is not a size\n  → write it like 512M, 4G or 1.5G"],
            id="bad-key-and-bad-value",
        ),
        pytest.param(
            schema.MapOf(schema.TEXT, key_label="header"),
            ["a"],
            ["x: ['a'] (a list) is not a mapping\n  → write a mapping of header to text"],
            id="list-for-mapping",
        ),
        pytest.param(PORT, {"port": 1}, ["x.name: missing\n  → write, for example, name: http"], id="missing"),
        pytest.param(PORT, {"name": "a", "prot": 1}, ["x.prot: unknown key\n  → did you mean 'port'?"], id="misspelt-key"),
        pytest.param(PORT, {"name": "a", "zzz": 1}, ["x.zzz: unknown key\n  → known here: name, port, tags"], id="unknown-key"),
        pytest.param(
            PORT, "http", ["x: 'http' (a text) is not a mapping\n  → write a mapping with keys out of: name, port, tags"], id="text-for-record"
        ),
    ],
)
def test_what_cannot_be_read_is_said_with_its_path_and_a_remedy(kind: schema.Kind, value: Any, said: list[str]) -> None:
    assert read(kind, value)[1] == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param("ftp://x", "x: 'ftp://x' is not a URL", id="a-text-for-the-kind-that-takes-texts"),
        pytest.param({"signal": "HUB"}, "x.signal: 'HUB' is not one of HUP, TERM\n  → did you mean 'HUP'?", id="the-record-it-was-meant-for"),
        pytest.param({"command": "true"}, "x.command: 'true' (a text) is not a list\n  → write a list of text", id="the-other-record"),
    ],
)
def test_of_several_kinds_the_nearest_explains_the_mistake(value: Any, said: str) -> None:
    assert read(REQUEST, value)[1] == [said]


def test_defaults_are_never_shared_between_records() -> None:
    first, second = read(PORT, {"name": "a"})[0], read(PORT, {"name": "b"})[0]
    first["tags"].append("changed")
    assert second["tags"] == []
    assert read(PORT, {"name": "c"})[0]["tags"] == []


def fields_of(kind: schema.Kind, path: str) -> list[tuple[str, schema.Field]]:
    """Return every field of a kind and of the kinds inside it, with its path."""
    inside = list(kind.kinds) if isinstance(kind, schema.OneOf) else [kind.item] if isinstance(kind, (schema.ListOf, schema.MapOf)) else []
    found = [pair for one in inside for pair in fields_of(one, path)]
    if isinstance(kind, schema.Record):
        for name, field in kind.fields.items():
            found += [(f"{path}.{name}", field), *fields_of(field.kind, f"{path}.{name}")]
    return found


FIELDS = fields_of(service_schema.FLEET, "fleet")


def test_no_default_of_a_service_is_a_container_that_records_would_share() -> None:
    assert [path for path, field in FIELDS if isinstance(field.default, (list, dict, set))] == []


def test_every_default_of_a_service_is_itself_a_valid_value() -> None:
    for path, field in FIELDS:
        default = field.default() if callable(field.default) else field.default
        if default is not None:
            assert read(field.kind, default) == (default, []), path


def test_every_key_of_a_service_is_documented_by_a_sentence() -> None:
    assert [path for path, field in FIELDS if not field.doc.endswith((".", "…", ")"))] == []


def test_left_out_records_are_filled_and_optional_ones_are_none() -> None:
    outer = schema.Record(
        fields={
            "filled": schema.Field(schema.Record(fields={"a": schema.Field(schema.TEXT, "A.", default="b")}), "Filled."),
            "absent": schema.Field(schema.Record(optional=True, fields={"a": schema.Field(schema.TEXT, "A.", required=True)}), "Absent."),
        }
    )
    assert read(outer, {}) == ({"filled": {"a": "b"}, "absent": None}, [])


@pytest.mark.parametrize(
    ("path", "key", "joined"),
    [
        pytest.param("a", "b", "a.b", id="plain"),
        pytest.param("a", 0, "a[0]", id="index"),
        pytest.param("a", "x/y", "a['x/y']", id="quoted"),
        pytest.param("", "fleet_services", "fleet_services", id="top"),
        pytest.param("a", "kontinuum-node", "a.kontinuum-node", id="dash"),
    ],
)
def test_paths(path: str, key: object, joined: str) -> None:
    assert errors.join_path(path, key) == joined


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        pytest.param(["b"], "host b", id="one"),
        pytest.param(["d", "b", "a", "c"], "hosts a, b, c, d", id="a-few"),
        pytest.param([f"h{number}" for number in range(40)], "hosts h0, h1, h10 and 37 more", id="many"),
    ],
)
def test_a_mistake_of_many_hosts_is_said_once(hosts: list[str], text: str) -> None:
    mistakes = [*(Mistake("a", f"is taken on {errors.HOSTS}", "go", host) for host in hosts), Mistake("a", "is wrong"), Mistake("a", "is wrong")]
    assert [str(one) for one in errors.InventoryError(mistakes).mistakes] == [f"a: is taken on {text}\n  → go", "a: is wrong"]
    assert str(mistakes[0]) == f"a: is taken on host {hosts[0]}\n  → go"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        pytest.param("comand", "did you mean 'command'?", id="near"),
        pytest.param("qqq", "known here: command, config", id="far"),
    ],
)
def test_suggestions(word: str, said: str) -> None:
    assert schema.suggest(word, ["config", "command"]) == said


def test_a_long_value_is_shortened_in_an_error() -> None:
    assert schema.describe("y" * 80) == "'" + "y" * 56 + "... (a text)"


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        pytest.param(schema.ListOf(schema.TEXT, single=True), "list of text, or one", id="list"),
        pytest.param(schema.MapOf(schema.SIZE, key_label="path"), "mapping of path to size (512M, 4G)", id="mapping"),
        pytest.param(REQUEST, "URL or command or signal", id="several"),
        pytest.param(schema.choice("a", "b"), "one of a, b", id="choice"),
    ],
)
def test_labels(kind: schema.Kind, label: str) -> None:
    assert kind.label == label
