# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store by way of a stand-in for rclone: what is asked of it, and what becomes of its answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from backup_box import Box

from ansible_collections.hearth.fleet.plugins.module_utils import object_store
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Abilities, Object, StoreError

STORE = {"endpoint": "https://s3.example.org", "bucket": "fleet"}
MIB = 1 << 20


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(tmp_path, monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


def test_a_configuration() -> None:
    text = object_store.conf_text(STORE, "writer", "secret")
    assert text.startswith("[store]\ntype = s3\nprovider = Other\n")
    for line in ("region = us-east-1", "force_path_style = true", "no_check_bucket = true", "no_head = true", "access_key_id = writer"):
        assert f"\n{line}\n" in text
    assert "force_path_style = false" in object_store.conf_text({**STORE, "path_style": False}, "writer", "secret")


@pytest.mark.parametrize("secret", ["", "a\nendpoint = http://thief", " blank", "bell\x07"])
def test_a_secret_that_does_not_fit_a_line(secret: str) -> None:
    with pytest.raises(FleetError, match="secret_access_key") as raised:
        object_store.conf_text(STORE, "writer", secret)
    assert not secret or secret not in str(raised.value)


@pytest.mark.parametrize(
    ("size", "chunk"),
    [
        pytest.param(0, 5 * MIB, id="nothing"),
        pytest.param(40 << 30, 5 * MIB, id="40-GiB"),
        pytest.param(100 * 10**9, 11 * MIB, id="100-GB"),
        pytest.param(5 << 40, 583 * MIB, id="the-largest"),
    ],
)
def test_100_gb_fit(size: int, chunk: int) -> None:
    assert object_store.chunk_bytes(size) == chunk
    assert size <= chunk * object_store.MAX_PARTS


def test_an_object_is_written_and_read(box: Box, file: Path) -> None:
    store = box.store()
    assert store.put(file, "v1/a/b")
    assert store.cat("v1/a/b") == b"0123456789"
    assert store.list("v1/") == [Object("v1/a/b", 10, "2026-11-21T00:00:00Z")]
    assert store.get("v1/a/b", file.with_name("copy")) == 10
    store.copy("v1/a/b", "v1/a/c")
    store.delete("v1/a/b")
    assert [store.exists(key) for key in ("v1/a/b", "v1/a/c")] == [False, True]


def test_writing_needs_no_other_right(box: Box, file: Path) -> None:
    box.store().put(file, "v1/a/b")
    (words,) = box.calls("rclone")
    assert "--no-check-dest" in words
    assert words[words.index("--s3-upload-cutoff") + 1] == f"{4 << 30}B"


def test_keys_are_below_the_prefix(box: Box, file: Path) -> None:
    store = object_store.Store(file, "fleet", "/homes/")
    store.put(file, "v1/a")
    assert list(box.objects) == ["homes/v1/a"]
    assert [row.key for row in store.list("v1/")] == ["v1/a"]


def test_an_object_that_is_not_there_is_not_empty(box: Box) -> None:
    """rclone takes its name for an empty directory."""
    with pytest.raises(StoreError) as raised:
        box.store().cat("v1/none")
    assert raised.value.kind == object_store.ABSENT


def test_an_object_that_is_too_large_is_not_read(box: Box, file: Path) -> None:
    box.store().put(file, "v1/a")
    with pytest.raises(StoreError, match="more than 9 bytes"):
        box.store().cat("v1/a", limit=9)


def test_f09_an_object_in_the_way(box: Box, file: Path) -> None:
    store = box.store()
    store.put(file, "v1/a")
    with pytest.raises(StoreError) as raised:
        store.put(file, "v1/a")
    assert raised.value.kind == object_store.EXISTS
    assert store.put(file, "v1/a", again=True) is False


def test_f09_an_answer_that_was_lost(box: Box, file: Path) -> None:
    store = box.store()
    store.put(file, "v1/a")
    box.fail("rclone", say="connection reset by peer", code=1)
    assert store.put(file, "v1/a") is False


def test_f09_a_store_that_does_not_know_conditions(box: Box, file: Path) -> None:
    box.fail("rclone", word="If-None-Match", count=9, say="NotImplemented: A header you provided implies functionality", code=1)
    assert box.store().put(file, "v1/a")
    assert ["--header" in words for words in box.calls("rclone")] == [True, False]
    assert box.told == []


@pytest.mark.parametrize(
    ("say", "code", "kind", "attempts"),
    [
        pytest.param("AccessDenied: no status code: 403, request id: 1", 1, object_store.DENIED, 1, id="denied"),
        pytest.param("SignatureDoesNotMatch: wrong key", 1, object_store.DENIED, 1, id="wrong-key"),
        pytest.param("NoSuchBucket: none status code: 404", 1, object_store.NO_BUCKET, 1, id="no-bucket"),
        pytest.param("RequestTimeTooSkewed: status code: 403", 1, object_store.CLOCK, 1, id="clock"),
        pytest.param("tls: x509: certificate signed by unknown authority", 1, object_store.REFUSED, 1, id="certificate"),
        pytest.param("SlowDown: status code: 503", 1, object_store.UNREACHABLE, 5, id="slow-down"),
        pytest.param("dial tcp 127.0.0.1:1: connect: connection refused", 1, object_store.UNREACHABLE, 5, id="refused"),
        pytest.param("out of cheese", 1, object_store.OTHER, 5, id="unknown"),
    ],
)
def test_f08_errors_in_words(box: Box, file: Path, say: str, code: int, kind: str, attempts: int) -> None:
    log = json.dumps({"level": "error", "msg": f"Failed to copy: {say}"})
    box.fail("rclone", count=99, say=log, code=code)
    with pytest.raises(StoreError) as raised:
        box.store().put(file, "v1/a")
    assert raised.value.kind == kind
    assert "request id" not in str(raised.value)
    assert len(box.calls("rclone")) == attempts


def test_no_rclone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(StoreError, match="apt install rclone"):
        object_store.Store(file, "fleet").put(file, "v1/a")


def test_rclone_hears_nothing_of_other_programs(box: Box, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/somewhere")
    monkeypatch.setenv("RCLONE_CONFIG_PASS", "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    found = object_store._environment()
    assert "AWS_CA_BUNDLE" not in found
    assert "RCLONE_CONFIG_PASS" not in found
    assert found["HTTPS_PROXY"] == "http://proxy"


def test_what_credentials_can_do(box: Box, file: Path) -> None:
    assert object_store.probe(box.store(), "v1/probe-1d/x", file) == Abilities(True, True, True, True, True, {})
    assert box.objects == {}


@pytest.mark.parametrize("verb", ["copyto store:", "lsjson", "delete"])
def test_f15_what_write_only_credentials_cannot_do(box: Box, file: Path, verb: str) -> None:
    box.fail("rclone", count=99, word=verb, say="AccessDenied: status code: 403", code=1)
    found = object_store.probe(box.store(), "v1/probe-1d/x", file)
    ability = {"copyto store:": "read", "lsjson": "list", "delete": "delete"}[verb]
    assert [name for name in ("write", "read", "list", "delete") if not getattr(found, name)] == [ability]
    assert "refuses these credentials" in found.said[ability]


def test_a_store_that_cannot_be_asked_is_an_error(box: Box, file: Path) -> None:
    box.fail("rclone", count=99, say="NoSuchBucket", code=1)
    with pytest.raises(StoreError, match="there is no such bucket"):
        object_store.probe(box.store(), "v1/probe-1d/x", file)
