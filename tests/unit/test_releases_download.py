# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads over an unreliable network, from a publisher on the loopback interface that misbehaves on request."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils.download import DigestError, Source, _wish, download, fetch_text
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; what it does to each request in turn is taken from the server's ``moods``."""

    server: Publisher

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        mood = self.server.moods.pop(0) if self.server.moods else "fine"
        if mood.isdigit():
            self.send_response(int(mood))
            self.send_header("Retry-After", "7")
            self.end_headers()
        elif mood.startswith("http"):
            self.send_response(302)
            self.send_header("Location", mood)
            self.end_headers()
        else:
            self.serve(mood)

    def serve(self, mood: str) -> None:
        content = b"wrong" * 1000 if mood == "wrong" else CONTENT
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and mood != "no-ranges" else 0
        if asked and start >= len(content):
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        announced = {"announced-too-long": len(content) - start + 100, "announced-in-words": "much"}
        self.send_header("Content-Length", str(announced.get(mood, len(content) - start)))
        self.end_headers()
        body = content[start:]
        if mood == "trickle":
            self.trickle(body)
        else:
            self.wfile.write(body[: len(body) // 2] if mood == "cut" else body)

    def trickle(self, body: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            for place in range(200):
                self.wfile.write(body[place : place + 1])
                time.sleep(0.05)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


class Publisher(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.moods: list[str] = []
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/toyd"

    def source(self, **changes: Any) -> Source:
        known = {"url": self.url, "sha256": DIGEST, "path": "fleet_services.toyd.artifact.sha256.amd64", "arch": "amd64", "retries": 3}
        return Source(**{**known, **changes})


@pytest.fixture
def start() -> Iterator[Callable[[], Publisher]]:
    publishers = []

    def run() -> Publisher:
        publisher = Publisher()
        threading.Thread(target=publisher.serve_forever, kwargs={"poll_interval": 0.01}).start()
        publishers.append(publisher)
        return publisher

    yield run
    for publisher in publishers:
        publisher.shutdown()
        publisher.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def publisher(start: Callable[[], Publisher]) -> Publisher:
    return start()


@pytest.mark.parametrize(
    ("moods", "requests"),
    [
        pytest.param([], 1, id="fine"),
        pytest.param(["cut"], 2, id="cut-once"),
        pytest.param(["cut", "cut", "cut", "cut", "cut", "cut"], 7, id="cut-often-but-always-further"),
        pytest.param(["503", "429", "fine"], 3, id="busy-then-fine"),
        pytest.param(["cut", "no-ranges"], 2, id="cut-then-starts-over"),
        pytest.param(["announced-too-long"], 1, id="whole-but-announced-too-long"),
        pytest.param(["announced-in-words"], 1, id="announced-in-words"),
        pytest.param(["cut", "503", "cut", "503"], 5, id="all-at-once"),
    ],
)
def test_what_arrives_in_the_end_is_right(tmp_path: Path, publisher: Publisher, moods: list[str], requests: int) -> None:
    publisher.moods = moods
    download(publisher.source(), tmp_path / "artifact", sleep=lambda _seconds: None)
    assert (tmp_path / "artifact").read_bytes() == CONTENT
    assert len(publisher.requests) == requests
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_a_rerun_resumes_where_the_last_one_broke_off(tmp_path: Path, publisher: Publisher) -> None:
    publisher.moods = ["cut", "404"]
    with pytest.raises(FleetError, match="HTTP 404"):
        download(publisher.source(), tmp_path / "artifact", sleep=lambda _seconds: None)
    kept = (tmp_path / "artifact.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    download(publisher.source(), tmp_path / "artifact", sleep=lambda _seconds: None)
    assert publisher.requests[-1][1]["Range"] == f"bytes={kept}-"
    assert (tmp_path / "artifact").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "part", [pytest.param(b"something else", id="another-file"), pytest.param(CONTENT + b"x", id="too-long"), pytest.param(CONTENT, id="complete")]
)
def test_a_part_that_does_not_fit_is_fetched_anew(tmp_path: Path, publisher: Publisher, part: bytes) -> None:
    (tmp_path / "artifact.part").write_bytes(part)
    download(publisher.source(), tmp_path / "artifact", sleep=lambda _seconds: None)
    assert (tmp_path / "artifact").read_bytes() == CONTENT


def test_what_is_there_is_not_fetched_again(tmp_path: Path, publisher: Publisher) -> None:
    (tmp_path / "artifact").write_bytes(CONTENT)
    download(publisher.source(), tmp_path / "artifact")
    assert publisher.requests == []


def test_f29_wrong_bytes_are_removed_and_both_digests_named(tmp_path: Path, publisher: Publisher) -> None:
    publisher.moods = ["wrong"]
    with pytest.raises(DigestError) as error:
        download(publisher.source(), tmp_path / "artifact")
    found = hashlib.sha256(b"wrong" * 1000).hexdigest()
    for part in ("fleet_services.toyd.artifact.sha256.amd64: ", DIGEST, found, publisher.url, "for amd64"):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("moods", "said", "requests"),
    [
        pytest.param(["404"], "HTTP 404", 1, id="missing-is-final"),
        pytest.param(["401"], "HTTP 401", 1, id="refused-is-final"),
        pytest.param(["503"] * 9, "HTTP 503.*4 tries brought nothing", 4, id="patience-ends"),
        pytest.param(["http://127.0.0.1:1/"], "no connection: .*1 tries brought nothing", 1, id="nobody-there"),
    ],
)
def test_failures_are_named(tmp_path: Path, publisher: Publisher, moods: list[str], said: str, requests: int) -> None:
    publisher.moods = moods
    retries = 3 if len(moods) > 1 else 0
    with pytest.raises(FleetError, match=said):
        download(publisher.source(retries=retries), tmp_path / "artifact", sleep=lambda _seconds: None)
    assert len(publisher.requests) == requests
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        pytest.param("7", 7, id="seconds"),
        pytest.param("Tue, 01 Dec 2026 00:00:09 GMT", 9, id="date"),
        pytest.param("Mon, 30 Nov 2026 23:59:00 GMT", 0, id="date-gone-by"),
        pytest.param("soon", 0, id="neither"),
        pytest.param("", 0, id="nothing"),
    ],
)
def test_a_servers_wish_is_a_number_or_a_date(monkeypatch: pytest.MonkeyPatch, said: str, seconds: int) -> None:
    monkeypatch.setattr(time, "time", lambda: 1796083200.0)  # 2026-12-01 00:00:00 UTC
    assert _wish(said) == seconds


def test_the_pause_follows_the_servers_wish_and_grows(tmp_path: Path, publisher: Publisher) -> None:
    publisher.moods = ["503"] * 5
    pauses: list[float] = []
    download(publisher.source(retries=9), tmp_path / "artifact", sleep=pauses.append)
    assert pauses == [7, 7, 7, 8, 16]


def test_the_whole_download_has_a_deadline(tmp_path: Path, publisher: Publisher) -> None:
    publisher.moods = ["503"] * 9
    with pytest.raises(FleetError, match="not done within 3 s"):
        download(publisher.source(timeout_seconds=3), tmp_path / "artifact", sleep=lambda _seconds: None)


def test_a_trickle_does_not_outlast_the_deadline(tmp_path: Path, publisher: Publisher) -> None:
    publisher.moods = ["trickle"]
    begun = time.monotonic()
    with pytest.raises(FleetError, match=r"too slow: \d+ bytes so far \(not done within 1 s; \d+ bytes are kept"):
        download(publisher.source(timeout_seconds=1), tmp_path / "artifact", sleep=lambda _seconds: None)
    assert time.monotonic() - begun < 5


def test_who_starts_over_again_and_again_gets_no_further(tmp_path: Path, publisher: Publisher) -> None:
    publisher.moods = ["cut", "416"] * 9
    with pytest.raises(FleetError, match=r"starting over \(4 tries brought nothing\)"):
        download(publisher.source(), tmp_path / "artifact", sleep=lambda _seconds: None)
    assert len(publisher.requests) == 4


@pytest.mark.parametrize(("same_origin", "token"), [pytest.param(True, "secret", id="same-origin"), pytest.param(False, None, id="another-origin")])
def test_f60_credentials_stay_with_their_origin(tmp_path: Path, start: Callable[[], Publisher], same_origin: bool, token: str | None) -> None:
    publisher, mirror = start(), start()
    target = publisher if same_origin else mirror
    publisher.moods = [f"http://127.0.0.1:{target.server_port}/moved"]
    download(publisher.source(headers={"Private-Token": "secret"}), tmp_path / "artifact")
    assert publisher.requests[0][1]["Private-Token"] == "secret"
    path, headers = target.requests[-1]
    assert (path, headers.get("Private-Token")) == ("/moved", token)


@pytest.mark.parametrize("target", [pytest.param("file:///etc/passwd", id="file"), pytest.param("ftp://example.org/", id="ftp")])
def test_redirects_stay_on_http(tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setattr(Handler, "do_GET", lambda self: (self.send_response(302), self.send_header("Location", target), self.end_headers()))
    with pytest.raises(FleetError, match=r"redirects to (file|ftp)://.*, which is not http or https"):
        download(publisher.source(retries=0), tmp_path / "artifact")


def test_a_proxy_is_asked_instead(tmp_path: Path, publisher: Publisher) -> None:
    source = publisher.source(url="http://unreachable.invalid/toyd", proxy=f"http://127.0.0.1:{publisher.server_port}")
    download(source, tmp_path / "artifact")
    assert publisher.requests[0][0] == "http://unreachable.invalid/toyd"


@pytest.mark.parametrize(
    ("scheme", "status", "said", "requests"),
    [
        pytest.param("http", 407, r": HTTP 407 .*\n  → give the proxy's user and password in release_proxy", 1, id="http-credentials"),
        pytest.param("https", 407, r": HTTP 407 .*\n  → give the proxy's user and password in release_proxy", 1, id="https-credentials"),
        pytest.param("https", 403, ": HTTP 403 Forbidden", 1, id="https-refused-is-final"),
        pytest.param("https", 503, r": Tunnel connection failed: 503 .* \(2 tries brought nothing\)", 2, id="https-busy"),
    ],
)
def test_f60_a_proxy_that_refuses_is_named_without_its_password(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, scheme: str, status: int, said: str, requests: int
) -> None:
    monkeypatch.setattr(Handler, "do_CONNECT", Handler.do_GET, raising=False)
    publisher.moods = [str(status)] * 9
    place = f"127.0.0.1:{publisher.server_port}"
    source = publisher.source(url=f"{scheme}://unreachable.invalid/toyd", proxy=f"http://carrier:s3cret@{place}", retries=1)
    with pytest.raises(FleetError, match=rf"through the proxy {place}{said}") as error:
        download(source, tmp_path / "artifact", sleep=lambda _seconds: None)
    assert "s3cret" not in str(error.value)
    assert len(publisher.requests) == requests


def test_f57_a_download_that_does_not_fit_is_not_begun(tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.hearth.fleet.plugins.module_utils.free_space.free_bytes", lambda _path: 12345)
    needed = len(CONTENT) + (4 << 20)
    with pytest.raises(FleetError, match=rf"{needed} bytes \(5\.0 MiB\) are needed to download .*, 12345 bytes \(12\.1 KiB\) are free"):
        download(publisher.source(), tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_was_cut_is_fetched_again(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "CONTENT", b"a signature")
    publisher.moods = ["cut"]
    assert fetch_text(publisher.source(), 100, sleep=lambda _seconds: None) == "a signature"


def test_texts_are_bounded(publisher: Publisher) -> None:
    with pytest.raises(FleetError, match="larger than 100 bytes"):
        fetch_text(publisher.source(), 100)
