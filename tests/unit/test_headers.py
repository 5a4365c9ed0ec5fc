# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in the headers of requests: named in the description, read on the host, never in an error."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import config_formats, headers, units
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError


@pytest.mark.parametrize(
    ("value", "names"),
    [
        pytest.param("Bearer {secret:ADMIN_TOKEN}", ["ADMIN_TOKEN"], id="one"),
        pytest.param("{secret: user.name }:{secret:PASS-WORD}", ["user.name", "PASS-WORD"], id="two-with-spaces"),
        pytest.param("{{secret:A}}", ["A"], id="more-braces"),
        pytest.param("Bearer {token} {secret:} {secrets:A}", [], id="none"),
    ],
)
def test_references(value: str, names: list[str]) -> None:
    assert headers.references(value) == names


@pytest.mark.parametrize("name", ["Authorization", "proxy-authorization", "Cookie", "X-Api-Key", "apikey", "X-Vault-Token", "Client-Secret"])
def test_headers_that_carry_secrets(name: str) -> None:
    assert headers.is_confidential(name)


@pytest.mark.parametrize("name", ["Accept", "Host", "X-Request-Id", "Keep-Alive"])
def test_headers_that_carry_none(name: str) -> None:
    assert not headers.is_confidential(name)


@pytest.mark.parametrize(
    "value", ["plain", "with space", 'q"uo\\te', "$HOME `x` \\", "\\\\$", "'single'", "a=b", "#no-comment", "ümläut", '"', "\u2028", "{secret:X}"]
)
def test_a_variable_is_read_back_as_it_was_written(tmp_path: Path, value: str) -> None:
    path = tmp_path / "x.env"
    path.write_text(config_formats.encode("env", {"OTHER": "TOKEN=no", "TOKEN": value, "TOKEN2": "no"}, "x"))
    assert headers.read_secrets({"TOKEN": {"path": str(path), "as": "environment"}}) == {"TOKEN": value}


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        pytest.param(None, "environment", "secret T cannot be read from {path}: No such file or directory", id="absent"),
        pytest.param(b"U=hunter2\n", "environment", "secret T is not in {path}", id="another-variable"),
        pytest.param(b"hunter2\nhunter3\n", "credential", "secret T in {path} has several lines, which no header can carry", id="several-lines"),
        pytest.param(b"\xffhunter2", "request", "secret T in {path} is no text", id="binary"),
    ],
)
def test_f60_a_secret_that_cannot_be_used_is_said_without_its_value(tmp_path: Path, content: bytes | None, kind: str, said: str) -> None:
    path = tmp_path / "T"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FleetError) as error:
        headers.read_secrets({"T": {"path": str(path), "as": kind}})
    assert str(error.value) == said.format(path=path)


def test_f60_until_a_daemon_is_started_again_its_old_secret_is_the_one_that_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "STAMPS", str(tmp_path))
    path = tmp_path / "x.env"
    path.write_text("T=new\n")
    old = b"T=old\n"
    digest = hashlib.sha256(old).hexdigest()
    (tmp_path / "relay.files").mkdir()
    (tmp_path / "relay.files" / digest).write_bytes(old)
    (tmp_path / "relay.started").write_text(f"release -\n{digest}  {path}\n")
    for service, value in (("relay", "old"), ("another", "new"), ("", "new")):
        assert headers.read_secrets({"T": {"path": str(path), "as": "environment", "service": service}}) == {"T": value}


def test_values_take_the_place_of_their_names_once() -> None:
    filled = headers.fill({"A": "{secret:X}-{secret:Y}", "B": 7}, {"X": "{secret:Y}", "Y": "ü"})
    assert filled == {"A": "{secret:Y}-ü".encode(), "B": b"7"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param("{secret:X}", "header A refers to secret X, of which the request does not say where it is", id="unknown"),
        pytest.param("hunter2\r\nInjected: 1", "header A has several lines, which no header can carry", id="two-headers-in-one"),
    ],
)
def test_f60_a_header_that_cannot_be_sent_is_said_without_its_value(value: str, said: str) -> None:
    with pytest.raises(FleetError) as error:
        headers.fill({"A": value}, {})
    assert str(error.value) == said


def test_f60_the_longer_secret_is_masked_first() -> None:
    assert headers.mask("abcdef abc", ["abc", "abcdef", ""]) == "******** ********"
