# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import builtins
import configparser
import datetime
import json
import subprocess
import sys

import pytest
import yaml

from ansible_collections.hearth.fleet.plugins.module_utils.config_formats import (
    FORMATS,
    ContentError,
    encode,
    guess_format,
    plain,
)
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

AT = "fleet_services.x.config[0].content"

NESTED = {
    "name": 'a "quoted" \\ text with \u00fc and \t',
    "flag": True,
    "ratio": 0.5,
    "port": 4001,
    "peers": ["/ip4/10.0.0.2/tcp/4001", "/dns/x/tcp/1"],
    "empty": {},
    "network": {"listen": [], "limits": {"in": 1, "out": -1}, "bands": [{"id": 1}, {"id": 2, "on": False}]},
    "motd": "two\nlines\n",
}


class Tagged(str):
    """What Ansible makes of texts: a subclass that serialisers refuse, and whose str() cannot be trusted."""

    __slots__ = ()

    def __str__(self) -> str:
        return "not the value"


class Number(int):
    """An integer as Ansible tags it."""


class EncryptedString:
    """Ansible's vaulted value: no subclass of str; str() decrypts it."""

    def __str__(self) -> str:
        return "opened"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/etc/x/node.toml", "toml", id="toml"),
        pytest.param("/etc/x/node.yaml", "yaml", id="yaml"),
        pytest.param("/etc/x/node.YML", "yaml", id="yml-upper-case"),
        pytest.param("/etc/x/node.json", "json", id="json"),
        pytest.param("/etc/x/node.ini", "ini", id="ini"),
        pytest.param("/etc/icn/icnd.env", "env", id="env"),
        pytest.param("/opt/x/.env", "env", id="dot-env"),
        pytest.param("/etc/default/nats", "env", id="etc-default"),
        pytest.param("/etc/x/Caddyfile", "text", id="no-suffix"),
        pytest.param("/etc/x/nats.conf", "text", id="conf-says-nothing"),
    ],
)
def test_the_name_suggests_the_format(path, expected):
    assert guess_format(path) == expected


def test_toml_round_trip():
    tomllib = pytest.importorskip("tomllib")
    content = {**NESTED, "since": datetime.date(2026, 1, 2), "at": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)}
    assert tomllib.loads(encode("toml", content, AT)) == content


def test_json_round_trip():
    content = {**NESTED, "nothing": None}
    assert json.loads(encode("json", content, AT)) == content


def test_yaml_round_trip_keeps_the_order_as_written():
    content = {**NESTED, "nothing": None, "a-last": datetime.date(2026, 1, 2)}
    read = yaml.safe_load(encode("yaml", content, AT))
    assert read == content
    assert list(read) == list(content)


@pytest.mark.parametrize("word", ["1e3", "0o14", "0x1f", "y", "n", "yes", "on", "null", "~", "1.10", "12:30", "2026-01-02", "", ".5", "...\n"])
def test_yaml_texts_stay_texts_for_readers_of_1_1_and_1_2(word):
    written = encode("yaml", {"version": word}, AT)
    assert yaml.safe_load(written) == {"version": word}
    assert written.split(": ")[1][0] in "\"'|"


@pytest.mark.parametrize("content", [pytest.param("x", id="scalar"), pytest.param([1, 2], id="list"), pytest.param("a\n...\n", id="end-mark")])
def test_yaml_takes_anything_at_the_top(content):
    assert yaml.safe_load(encode("yaml", content, AT)) == content


def test_yaml_has_no_anchors():
    shared = datetime.date(2026, 1, 2)
    assert "&" not in encode("yaml", {"a": shared, "b": shared, "c": [NESTED, NESTED]}, AT)


def test_ini_round_trip():
    content = {"server": {"host": "127.0.0.1", "port": 80, "tls": True, "empty": "", "url": "http://x/?a=b"}, "log": {"level": "info"}}
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(encode("ini", content, AT))
    assert {name: dict(parser[name]) for name in parser.sections()} == {
        "server": {"host": "127.0.0.1", "port": "80", "tls": "true", "empty": "", "url": "http://x/?a=b"},
        "log": {"level": "info"},
    }


def test_ini_puts_loose_keys_first_and_repeats_the_key_of_a_list():
    content = {"main": {"addnode": ["a", "b"]}, "server": 1}
    assert encode("ini", content, AT) == "server = 1\n\n[main]\naddnode = a\naddnode = b\n"


@pytest.mark.parametrize("value", ['"a#b"', "'a;b'", "`a # b`", '"""a#"b;c"""', '"#"', "C:\\x", '"C:\\"', "50%", "$x", "ü = [y]"])
def test_ini_values_stand_as_they_are_written(value):
    assert encode("ini", {"s": {"k": value}}, AT) == f"[s]\nk = {value}\n"


AWKWARD = {
    "PLAIN": "info",
    "SPACED": " two  words ",
    "EMPTY": "",
    "FLAG": True,
    "COUNT": 3,
    "SHELL": "$HOME `id` $(id) \"q\" 'q' \\ \\n # ; ! * ~",
    "ENDS": "\\",
    "TAB": "a\tb",
    "UMLAUT": "ü€",
    "HASH": "#no comment",
}


def test_env_is_read_by_a_shell_as_written():
    text = encode("env", AWKWARD, AT)
    names = [*AWKWARD]
    script = "set -a; . /dev/stdin; exec env -0"
    read = subprocess.run(["sh", "-c", script], input=text, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}).stdout
    seen = dict(line.split("=", 1) for line in read.split("\0") if line)
    assert {name: seen[name] for name in names} == {**AWKWARD, "FLAG": "true", "COUNT": "3"}


def test_env_quotes_only_what_needs_it():
    assert encode("env", {"A": "info", "B": "a b", "C": "$x"}, AT) == 'A=info\nB="a b"\nC="\\$x"\n'


def test_text_is_kept_byte_for_byte():
    assert encode("text", "a\r\n b", AT) == "a\r\n b"


@pytest.mark.parametrize(
    ("file_format", "content", "said"),
    [
        pytest.param(
            "toml",
            {"network": {"foo": None}},
            f"{AT}.network.foo: null has no TOML form\n  → leave the key out",
            id="toml-null",
        ),
        pytest.param("toml", {"a": [1, None]}, f"{AT}.a[1]: null has no TOML form", id="toml-null-in-list"),
        pytest.param("toml", {"a": 2**63}, f"{AT}.a: 9223372036854775808 does not fit a TOML integer", id="toml-big"),
        pytest.param("toml", {1: "x"}, f"{AT}.1: the key 1 is a number, not a text", id="toml-number-key"),
        pytest.param("toml", ["x"], f"{AT}: a list has no TOML form at the top of a file", id="toml-list"),
        pytest.param("toml", {"a": b"x"}, f"{AT}.a: a value of type bytes has no TOML form", id="toml-bytes"),
        pytest.param("toml", {"a.b": {"c d": None}}, f"{AT}['a.b']['c d']: null", id="toml-quoted-keys"),
        pytest.param("json", {"a": float("nan")}, f"{AT}.a: nan has no JSON form", id="json-nan"),
        pytest.param("json", {"a": datetime.date(2026, 1, 2)}, f"{AT}.a: 2026-01-02 is a date, which has no JSON form", id="json-date"),
        pytest.param("yaml", {"a": "\ud800"}, f"{AT}.a: the text is not valid Unicode", id="surrogate"),
        pytest.param("yaml", {"a": datetime.time(1, 2)}, f"{AT}.a: 01:02:00 is a time", id="yaml-time"),
        pytest.param("ini", {"s": {"k": "a\nb"}}, f"{AT}.s.k: a value with a line break", id="ini-line-break"),
        pytest.param("ini", {"s": {"k": {}}}, f"{AT}.s.k: a mapping has no INI form here", id="ini-nested"),
        pytest.param("ini", {"s": {"k": None}}, f"{AT}.s.k: null has no INI form", id="ini-null"),
        pytest.param("ini", {"s": {"a=b": 1}}, f"{AT}.s['a=b']: 'a=b' cannot be an INI key", id="ini-key"),
        pytest.param("ini", {"a]": {}}, f"{AT}['a]']: 'a]' cannot be the name of a section", id="ini-section"),
        pytest.param("ini", {"s": {"k": " x"}}, f"{AT}.s.k: spaces around a value are lost", id="ini-spaces"),
        pytest.param("ini", {"s": {"a#b": 1}}, f"{AT}.s['a#b']: 'a#b' cannot be an INI key", id="ini-comment-in-a-key"),
        pytest.param(
            "ini",
            {"s": {"k": "a#b"}},
            f"{AT}.s.k: many readers of INI files take # for the beginning of a comment, and leave the rest out\n"
            '  → put it in the quotes that the daemon reads: \'"a#b"\' for Git\'s way, \'"""a#b"""\' for Grafana\'s and Gitea\'s; '
            "where it reads none, write the whole file with format: text, or as a template",
            id="ini-hash",
        ),
        pytest.param("ini", {"k": ["a", "b ; c"]}, f"{AT}.k[1]: many readers of INI files take ; for", id="ini-semicolon"),
        pytest.param("ini", {"s": {"k": "'a#b' or 'c'"}}, f"{AT}.s.k: many readers", id="ini-quoted-in-parts"),
        pytest.param("ini", {"s": {"k": '"a#b'}}, f"{AT}.s.k: many readers", id="ini-quote-that-does-not-end"),
        pytest.param("ini", {"s": {"k": "\ud800"}}, f"{AT}.s.k: the text is not valid Unicode", id="ini-surrogate"),
        pytest.param("ini", {"s": {"k": "C:\\x\\"}}, f"{AT}.s.k: after a \\ at its end, many readers", id="ini-backslash"),
        pytest.param("env", {"1X": "a"}, f"{AT}.1X: '1X' cannot name a variable", id="env-name"),
        pytest.param("env", {"X": "a\nb"}, f"{AT}.X: a value with a line break", id="env-line-break"),
        pytest.param("env", {"X": ["a"]}, f"{AT}.X: a list has no environment file form", id="env-list"),
        pytest.param("env", "X=a", f"{AT}: a text has no environment file form at the top", id="env-text"),
        pytest.param("text", {"a": 1}, f"{AT}: a mapping, where the format text takes a text", id="text-mapping"),
        pytest.param("xml", {}, f"{AT}: there is no format 'xml'", id="unknown-format"),
    ],
)
def test_what_a_format_cannot_hold_is_named(file_format, content, said):
    with pytest.raises(ContentError) as caught:
        encode(file_format, content, AT)
    assert said in str(caught.value)


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ContentError) as caught:
        encode("toml", {"a": None, "b": {"c": None}, "d": [2**70]}, AT)
    assert [mistake.path for mistake in caught.value.mistakes] == [f"{AT}.a", f"{AT}.b.c", f"{AT}.d[0]"]


@pytest.mark.parametrize("file_format", [name for name in FORMATS if name != "text"])
def test_output_is_stable_and_ends_in_a_newline(file_format):
    content = {"B": 1, "A": "x"}
    text = encode(file_format, content, AT)
    assert text == encode(file_format, dict(content), AT)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert text.index("B") < text.index("A")


def test_plain_undoes_what_ansible_does_to_values():
    when = datetime.datetime(2026, 1, 2, 3, 4, fold=1)
    given = {Tagged("k"): [Tagged("v"), Number(3), (1.5, True, None), EncryptedString()], "when": when}
    made = plain(given)
    assert made == {"k": ["v", 3, [1.5, True, None], "opened"], "when": when}
    assert [type(one) for one in made["k"]] == [str, int, list, str]
    assert made["when"].fold == 1
    assert {type(key) for key in made} == {str}


def test_values_that_ansible_really_tags():
    datatag = pytest.importorskip("ansible.module_utils._internal._datatag")
    tags = pytest.importorskip("ansible._internal._datatag._tags")
    tag = tags.Origin(path="/x.yml")
    tagged = datatag.AnsibleTagHelper.tag({"a": datatag.AnsibleTagHelper.tag("b", tag), "n": datatag.AnsibleTagHelper.tag(7, tag)}, tag)
    assert [type(tagged["a"])] != [str]
    for file_format in ("toml", "yaml", "json", "ini", "env"):
        assert "b" in encode(file_format, tagged, AT)
    assert [type(one) for one in plain(tagged).values()] == [str, int]


def test_a_missing_library_is_named(monkeypatch):
    real = builtins.__import__

    def without_tomli_w(name, *args, **kwargs):
        if name == "tomli_w":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "tomli_w", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_tomli_w)
    with pytest.raises(FleetError, match="pip install tomli-w"):
        encode("toml", {"a": 1}, AT)


@pytest.mark.parametrize("value", [True, 2**63 - 1, -(2**63)])
def test_toml_takes_whole_numbers_of_64_bits(value):
    assert encode("toml", {"a": value}, AT) == f"a = {str(value).lower()}\n"
