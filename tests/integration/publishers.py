# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever publishes releases to the lab, over HTTP and HTTPS, well and badly, and a proxy on the way there."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_TRICKLE_SECONDS = 0.1
_HOP_BY_HOP = ("proxy-authorization", "proxy-connection", "connection")
_CERTIFICATES = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:{name}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


class _Publishing(_Quiet):
    server: Publisher

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        moods = self.server.moods.get(self.path)
        mood = moods.pop(0) if moods else ""
        self.server.headers.append(dict(self.headers))
        if content is None:
            self.send_error(404)
        elif mood.startswith("to "):
            self.answer(302, Location=mood.removeprefix("to "))
        elif mood.isdigit():
            self.answer(int(mood), Retry_After="1")
        else:
            start = 0 if mood == "no-ranges" else int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            self.server.requests.append((self.path, start))
            with contextlib.suppress(ConnectionError):  # who finds no room, or has waited enough, hangs up
                self.send(content, start, mood)

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send(self, content: bytes, start: int, mood: str) -> None:
        if start and start >= len(content):
            self.answer(416)
            return
        announced = {"longer": str(len(content) - start + 100), "shorter": str(len(content) - start - 100), "garbled": "much"}
        length = announced.get(mood, str(len(content) - start))
        self.answer(
            206 if start else 200, Content_Length=length, **({"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {})
        )
        half = start + (len(content) - start) // 2
        if mood == "trickle":
            for place in range(start, len(content)):
                self.wfile.write(content[place : place + 1])
                time.sleep(_TRICKLE_SECONDS)
        elif self.server.stall:
            self.wfile.write(content[start:half])
            self.wfile.flush()
            self.server.stalled.set()
            self.server.released.wait(60)
        else:
            self.wfile.write(content[start:half] if mood == "cut" else content[start:])


class Publisher(ThreadingHTTPServer):
    """Publishes artifacts to the lab; with ``stall`` it stops in the middle of each until ``released``.

    ``moods`` says, per path, what happens to the next requests in turn: a status (with ``Retry-After: 1``), ``to URL`` (a redirect), ``cut``
    in the middle, ``no-ranges``, ``trickle``, and a Content-Length that is ``longer``, ``shorter`` or ``garbled``.
    """

    def __init__(self, address: str) -> None:
        super().__init__((address, 0), _Publishing)
        self.files: dict[str, bytes] = {}
        self.moods: dict[str, list[str]] = {}
        self.requests: list[tuple[str, int]] = []
        self.headers: list[dict[str, str]] = []
        self.stall = False
        self.stalled, self.released = threading.Event(), threading.Event()

    def publish(self, name: str, content: bytes, *moods: str) -> dict[str, str]:
        self.files[f"/{name}"] = content
        self.moods[f"/{name}"] = list(moods)
        return {"url": f"http://{self.server_address[0]}:{self.server_port}/{name}", "sha256": hashlib.sha256(content).hexdigest()}


class _Forwarding(_Quiet):
    server: Proxy

    def do_GET(self) -> None:
        if not self.may_pass():
            return
        parts = urlsplit(self.path)
        connection = http.client.HTTPConnection(*self.server.places[parts.netloc], timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", parts.path, headers={key: value for key, value in self.headers.items() if key.lower() not in _HOP_BY_HOP})
            answer = connection.getresponse()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.read())

    def do_CONNECT(self) -> None:
        if not self.may_pass():
            return
        with socket.create_connection(self.server.places[self.path], timeout=10) as there:
            self.send_response_only(200)
            self.end_headers()
            ends = {self.connection: there, there: self.connection}
            while True:
                for end in select.select(list(ends), [], [], 10)[0]:
                    block = end.recv(1 << 16)
                    if not block:
                        return
                    ends[end].sendall(block)

    def may_pass(self) -> bool:
        """Say whether a request has the credentials and a place to go; answer it where it has not."""
        self.server.asked.append(f"{self.command} {self.path}")
        wanted = f"Basic {base64.b64encode(self.server.credentials.encode()).decode()}"
        if self.server.credentials and self.headers.get("Proxy-Authorization") != wanted:
            self.send_error(407)
        elif (urlsplit(self.path).netloc or self.path) not in self.server.places:
            self.send_error(502)
        else:
            return True
        return False


class Proxy(ThreadingHTTPServer):
    """Forwards HTTP, and HTTPS by CONNECT, to ``places`` that it alone knows; with ``credentials`` (``user:password``) only for who has them."""

    def __init__(self, address: str) -> None:
        super().__init__((address, 0), _Forwarding)
        self.places: dict[str, tuple[str, int]] = {}
        self.credentials = ""
        self.asked: list[str] = []


@contextlib.contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve while the block runs."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certify(server: ThreadingHTTPServer, name: str, directory: Path) -> Path:
    """Let a server speak TLS under a name, with a certificate of a new authority of its own, and return that authority's certificate."""
    (directory / "openssl.cnf").write_text(_CERTIFICATES.format(name=name))
    common = ["openssl", "req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    for own, issuer in (("authority", []), ("server", ["-CA", "authority.crt", "-CAkey", "authority.key"])):
        files = ["-keyout", f"{own}.key", "-out", f"{own}.crt"]
        command = [*common, *issuer, "-subj", f"/CN={own} of {name}", "-extensions", own, *files]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return directory / "authority.crt"
