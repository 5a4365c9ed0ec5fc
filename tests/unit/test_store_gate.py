# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before the lab's store: who may do what, and the faults that it makes; with a store of a few lines behind it."""

from __future__ import annotations

import http.client
import http.server
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "fixtures" / "store_gate" / "store_gate.py"
KEYS = {"WRITER": "write", "READER": "read", "ADMIN": "admin"}


def load() -> Any:
    spec = importlib.util.spec_from_file_location("store_gate", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


gate = load()


@pytest.mark.parametrize(
    ("method", "target", "roles"),
    [
        pytest.param("PUT", "/backups/v1/a", {"write", "admin"}, id="write"),
        pytest.param("PUT", "/backups/v1/a?partNumber=1&uploadId=x", {"write", "admin"}, id="part"),
        pytest.param("POST", "/backups/v1/a?uploads=", {"write", "admin"}, id="begin-parts"),
        pytest.param("POST", "/backups/v1/a?uploadId=x", {"write", "admin"}, id="end-parts"),
        pytest.param("GET", "/backups/v1/a", {"read", "admin"}, id="read"),
        pytest.param("HEAD", "/backups/v1/a", {"read", "admin"}, id="head"),
        pytest.param("GET", "/backups?list-type=2", {"read", "admin"}, id="list"),
        pytest.param("DELETE", "/backups/v1/a", {"admin"}, id="delete"),
        pytest.param("POST", "/backups?delete", {"admin"}, id="delete-many"),
        pytest.param("PUT", "/backups", {"admin"}, id="make-a-bucket"),
        pytest.param("PUT", "/backups/v1/a?acl", {"admin"}, id="change-rights"),
        pytest.param("PUT", "/backups?lifecycle", {"admin"}, id="change-rules"),
    ],
)
def test_f15_who_may_do_what(method: str, target: str, roles: set[str]) -> None:
    assert {role for role in ("write", "read", "admin", "") if gate.may(role, method, target, {})} == roles


def test_f15_to_copy_is_to_read() -> None:
    assert not gate.may("write", "PUT", "/backups/mine", {"X-Amz-Copy-Source": "/backups/v1/a"})


@pytest.mark.parametrize(
    ("header", "key"),
    [
        pytest.param("AWS4-HMAC-SHA256 Credential=WRITER/20261121/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x", "WRITER", id="signed"),
        pytest.param("", "", id="not-signed"),
        pytest.param("Basic abc", "", id="another-kind"),
    ],
)
def test_the_key_is_in_the_signature(header: str, key: str) -> None:
    assert gate.key_id(header) == key


class Store(http.server.BaseHTTPRequestHandler):
    """Keeps what is put, and remembers what it was asked."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]
    asked: list[tuple[str, str, str]]

    def do_PUT(self) -> None:
        size = int(self.headers["Content-Length"])
        content = self.rfile.read(size)
        if len(content) < size:
            self.close_connection = True
            return
        self.kept[self.path] = content
        self._answer(200, b"")

    def do_GET(self) -> None:
        found = self.kept.get(self.path)
        self._answer(404 if found is None else 200, found or b"")

    def _answer(self, status: int, content: bytes) -> None:
        self.asked.append((self.command, self.path, self.headers["Host"]))
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Quiet(http.server.ThreadingHTTPServer):
    """A gate that cuts connections is no error of the store's."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@pytest.fixture
def store() -> Iterator[Any]:
    """A store, and the gate before it; both end with the test."""
    behind = Quiet(("127.0.0.1", 0), type("One", (Store,), {"kept": {}, "asked": []}))
    before = gate.serve({"listen": "127.0.0.1:0", "store": f"127.0.0.1:{behind.server_address[1]}", "keys": KEYS})
    servers = (behind, before)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Lab(before.server_address[1], behind.RequestHandlerClass)
    for server in servers:
        server.shutdown()
        server.server_close()


class Lab:
    """What a test asks of the gate."""

    def __init__(self, port: int, behind: Any) -> None:
        self._port = port
        self.kept, self.asked = behind.kept, behind.asked

    def ask(self, key: str, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={key}/x", "Host": "the.store"} if key else {}
        try:
            connection.request(method, path, content, {**signed, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def fault(self, **what: Any) -> None:
        status, said = self.ask("", "POST", "/fault", json.dumps(what).encode())
        assert status == 200, said


BODY = b"x" * 200_000


def test_what_is_allowed_passes_unchanged(store: Lab) -> None:
    assert store.ask("WRITER", "PUT", "/b/k", BODY) == (200, b"")
    assert store.ask("READER", "GET", "/b/k") == (200, BODY)
    assert store.asked == [("PUT", "/b/k", "the.store"), ("GET", "/b/k", "the.store")]


@pytest.mark.parametrize("key", ["WRITER", "NOBODY", ""])
def test_what_is_not_allowed_never_reaches_the_store(store: Lab, key: str) -> None:
    status, said = store.ask(key, "GET", "/b/k")
    assert (status, b"<Code>AccessDenied</Code>" in said, store.asked) == (403, True, [])


def test_f08_a_status_as_often_as_asked_for(store: Lab) -> None:
    store.fault(status=503, count=2)
    assert [store.ask("WRITER", "PUT", "/b/k", BODY)[0] for _attempt in range(3)] == [503, 503, 200]
    assert len(store.asked) == 1


def test_a_fault_can_be_for_some_requests_and_be_taken_away(store: Lab) -> None:
    store.fault(status=503, count=9, methods=["PUT"], path="manifest")
    assert [store.ask("WRITER", "PUT", f"/b/{name}", b"1")[0] for name in ("part", "manifest.json")] == [200, 503]
    store.fault()
    assert store.ask("WRITER", "PUT", "/b/manifest.json", b"1")[0] == 200


def test_f08_a_cut_connection(store: Lab) -> None:
    store.fault(cut_after=1000)
    with pytest.raises((http.client.HTTPException, OSError)):
        store.ask("WRITER", "PUT", "/b/k", BODY)
    assert "/b/k" not in store.kept
    store.kept["/b/k"] = BODY
    store.fault(cut_after=1000)
    with pytest.raises((http.client.HTTPException, OSError)):
        store.ask("READER", "GET", "/b/k")


def test_f18_a_short_read_looks_whole(store: Lab) -> None:
    store.kept["/b/k"] = BODY
    store.fault(short_read=1000)
    assert store.ask("READER", "GET", "/b/k") == (200, BODY[:1000])


def test_f18_a_store_that_only_says_so(store: Lab) -> None:
    store.fault(lose=True)
    assert store.ask("WRITER", "PUT", "/b/k", BODY)[0] == 200
    assert store.kept == {}


def test_f09_the_same_request_twice(store: Lab) -> None:
    store.fault(duplicate=True)
    assert store.ask("WRITER", "PUT", "/b/k", BODY)[0] == 200
    assert len(store.asked) == 2
    assert store.kept["/b/k"] == BODY


def test_requests_are_told(store: Lab) -> None:
    store.ask("WRITER", "PUT", "/b/k", BODY)
    deadline = time.monotonic() + 10
    while json.loads(store.ask("", "GET", "/requests")[1]) == []:  # it is noted after it was answered, by a thread of its own
        assert time.monotonic() < deadline
    found = json.loads(store.ask("", "DELETE", "/requests")[1])
    assert [(one["key"], one["method"], one["path"], one["status"], one["bytes"]) for one in found] == [("WRITER", "PUT", "/b/k", 200, len(BODY))]
    assert json.loads(store.ask("", "GET", "/requests")[1]) == []


def test_readiness_is_the_stores(store: Lab) -> None:
    assert store.ask("", "GET", "/ready") == (200, b"ready\n")


@pytest.mark.parametrize("given", [b"[1]", b"{", b'{"statsu": 503}'], ids=["list", "no-json", "unknown"])
def test_a_fault_that_is_none_is_refused(store: Lab, given: bytes) -> None:
    assert store.ask("", "POST", "/fault", given)[0] == 400


@pytest.mark.parametrize(
    "config",
    [{"listen": "9001", "store": "127.0.0.1:1", "keys": {}}, {"listen": "127.0.0.1:0", "store": "127.0.0.1:1", "keys": {"A": "owner"}}],
    ids=["listen", "role"],
)
def test_a_wrong_config_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is not HOST:PORT|no such role"):
        gate.serve(config)
