# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching an artifact: resumed where it broke off, tried again with patience, verified before anyone may use it.

A download grows in ``<name>.part`` and gets its name only once its SHA-256 digest is right. What has arrived survives a
failed run, so that a rerun resumes.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import ssl
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from ansible.module_utils.urls import open_url

from ansible_collections.hearth.fleet.plugins.module_utils.artifacts import public_url
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly, want_free
from ansible_collections.hearth.fleet.plugins.module_utils.releases import sha256_of

_STALLED_SECONDS = 30
_PAUSE_SECONDS_MAX = 30
_BLOCK_BYTES = 1 << 18
_REDIRECTS_MAX = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_RANGE_NOT_SATISFIABLE = 416
_WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)
_PROXY_WANTS_CREDENTIALS = 407
_NO_TUNNEL = re.compile(r"Tunnel connection failed: (\d+) *(.*)")  # what http.client says when a proxy refuses CONNECT
_NETWORK_ERRORS = (OSError, HTTPException)  # URLError, timeouts, resets and TLS errors are OSErrors
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY")


class DigestError(FleetError):
    """The artifact is not the one that the inventory pins."""


@dataclass(frozen=True)
class Source:
    """Where an artifact comes from and how patiently it is fetched.

    ``path`` is the inventory path of its digest, ``timeout_seconds`` bounds the whole download with its retries,
    ``retries`` counts the tries after the first that bring no new byte. An empty ``proxy`` leaves the choice to the environment.
    """

    url: str
    sha256: str
    path: str
    arch: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: str = ""
    timeout_seconds: int = 300
    retries: int = 5


class _Broken(Exception):
    """The transfer ended early, for a reason that another try may cure. ``pause_seconds`` is the server's own wish."""

    def __init__(self, reason: str, pause_seconds: int = 0) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


def verify_digest(artifact: Path, sha256: str, *, path: str, origin: str, arch: str) -> None:
    """Raise DigestError unless the file has the wanted digest; ``path`` is the digest's place in the inventory."""
    found = sha256_of(artifact)
    if found != sha256:
        problem = f"the artifact has another digest\n  wanted {sha256}\n  found  {found}\n  from   {origin} (for {arch})"
        remedy = "nothing of it was kept or run; ask the publisher which digest is right before you change the inventory"
        raise DigestError(str(Mistake(path, problem, remedy)))


def download(source: Source, destination: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """Fetch ``source`` to ``destination``, whose directory exists. There is nothing to do when it is there already.

    Raises DigestError for wrong content (and removes it), FleetError when the network, the server or the disk fails.
    """
    part = destination.with_name(destination.name + ".part")
    with said_plainly(destination.parent, f"to download {public_url(source.url)}"):
        if _is_good(destination, source.sha256):
            return
        destination.unlink(missing_ok=True)
        resumed = part.exists()
        if not (resumed and _is_good(part, source.sha256)):
            _fetch(source, part, sleep)
        try:
            _verify(source, part)
        except DigestError:
            part.unlink()
            if not resumed:
                raise
            # The part may have been the beginning of something else; only a whole download proves a wrong artifact.
            _fetch(source, part, sleep)
            try:
                _verify(source, part)
            except DigestError:
                part.unlink()
                raise
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(destination)


def fetch_text(source: Source, limit_bytes: int, sleep: Callable[[float], None] = time.sleep) -> str:
    """Return a small text, such as a signature. ``source.sha256`` is not looked at. Raises FleetError."""

    def read(deadline: float) -> str:
        content = b""
        with _open(source, 0, deadline) as response:
            for block in _blocks(response, deadline):
                content += block
                if len(content) > limit_bytes:
                    raise FleetError(f"{source.path}: {public_url(source.url)} is larger than {limit_bytes} bytes")
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FleetError(f"{source.path}: {public_url(source.url)} is not text") from error

    return str(_with_patience(source, read, lambda: 0, sleep))


def _is_good(path: Path, sha256: str) -> bool:
    return path.exists() and sha256_of(path) == sha256


def _verify(source: Source, part: Path) -> None:
    verify_digest(part, source.sha256, path=source.path, origin=public_url(source.url), arch=source.arch)


def _fetch(source: Source, part: Path, sleep: Callable[[float], None]) -> None:
    def size() -> int:
        return part.stat().st_size if part.exists() else 0

    _with_patience(source, lambda deadline: _continue(source, part, size(), deadline), size, sleep)


def _with_patience(source: Source, attempt: Callable[[float], Any], progress: Callable[[], int], sleep: Callable[[float], None]) -> Any:
    """Call ``attempt`` with the deadline until it returns; a try that got further than all before does not count against ``retries``."""
    deadline = time.monotonic() + source.timeout_seconds
    failures, furthest = 0, progress()
    while True:
        try:
            return attempt(deadline)
        except _Broken as error:
            failures = 1 if progress() > furthest else failures + 1
            furthest = max(furthest, progress())
            pause = min(max(2 ** (failures - 1), error.pause_seconds), _PAUSE_SECONDS_MAX)
            late = time.monotonic() + pause >= deadline
            if failures > source.retries or late:
                why = f"not done within {source.timeout_seconds} s" if late else f"{failures} tries brought nothing"
                arrived = f"; {progress()} bytes are kept, a rerun resumes" if progress() else ""
                raise FleetError(f"{public_url(source.url)}: {error} ({why}{arrived})") from error
        sleep(pause)


def _continue(source: Source, part: Path, offset: int, deadline: float) -> None:
    """Bring the part to its full length, or raise _Broken."""
    try:
        with _open(source, offset, deadline) as response:
            resumes = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
            want_free(part.parent, _length(response), f"to download {public_url(source.url)}")
            with part.open("ab" if resumes else "wb") as output:
                _write(source, response, output, deadline)
    except urllib.error.HTTPError as error:
        error.close()
        part.unlink()
        raise _Broken("the server has less than was kept; starting over") from error


def _write(source: Source, response: Any, output: IO[bytes], deadline: float) -> None:
    try:
        for block in _blocks(response, deadline):
            output.write(block)
    except _Broken:
        output.flush()
        # Some servers announce more than there is; the digest knows better.
        if not _is_good(Path(output.name), source.sha256):
            raise


def _length(response: Any) -> int:
    """Return how many bytes a response announces; 0 when it does not say."""
    said = str(response.headers.get("Content-Length", ""))
    return int(said) if said.isdecimal() else 0


def _blocks(response: Any, deadline: float) -> Iterator[bytes]:
    """Yield what a response holds as it arrives. Raises _Broken when it ends early or the deadline has passed."""
    received = 0
    while True:
        try:
            # Unlike read, read1 does not wait for a full block, so that a trickle cannot outlast the deadline.
            block = response.read1(_BLOCK_BYTES)
        except _NETWORK_ERRORS as error:
            raise _Broken(f"the connection broke: {error}") from error
        if not block:
            break
        received += len(block)
        yield block
        if time.monotonic() > deadline:
            raise _Broken(f"too slow: {received} bytes so far")
    if received < _length(response):
        raise _Broken(f"the connection ended after {received} of {_length(response)} bytes")


@contextlib.contextmanager
def _open(source: Source, offset: int, deadline: float) -> Iterator[Any]:
    """Open the URL, from a byte offset on. Headers of the inventory may carry credentials: no other origin gets them."""
    headers = dict(source.headers)
    url = source.url
    for _redirect in range(_REDIRECTS_MAX):
        response = _ask(source, url, {**headers, **({"Range": f"bytes={offset}-"} if offset else {})}, deadline)
        if not isinstance(response, str):
            with contextlib.closing(response):
                yield response
            return
        if _origin(response) != _origin(url):
            headers = {}
        url = response
    raise FleetError(f"{public_url(source.url)}: more than {_REDIRECTS_MAX} redirects")


def _ask(source: Source, url: str, headers: Mapping[str, str], deadline: float) -> Any:
    """Return the response, or the URL that it redirects to.

    Raises _Broken, FleetError where trying again is vain, or HTTPError where the server has no such range.
    """
    with _proxy(source.proxy):
        through = _through(url)
        try:
            return open_url(
                url,
                headers=dict(headers),
                timeout=min(_STALLED_SECONDS, max(deadline - time.monotonic(), 1)),
                follow_redirects="none",
                decompress=False,
                use_netrc=False,
                http_agent="hearth.fleet",
            )
        except urllib.error.HTTPError as error:
            if error.code == _RANGE_NOT_SATISFIABLE and "Range" in headers:
                raise
            return _after_refusal(source, url, through, error)
        except _NETWORK_ERRORS as error:
            raise _no_connection(source, url, through, getattr(error, "reason", error)) from error
        except ValueError as error:
            raise FleetError(f"{public_url(url)}: not a usable URL ({error})") from error


def _through(url: str) -> str:
    """Return, to be appended to a message, which proxy a URL is asked through; empty for none. Credentials are left out."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return f" through the proxy {proxy.rpartition('@')[2].rpartition('://')[2].partition('/')[0]}"


def _no_connection(source: Source, url: str, through: str, reason: Any) -> Exception:
    """Return what to raise when there was no answer to ask anything of."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        remedy = "update ca-certificates and the clock of the host that downloads, or add the publisher's authority to it"
        problem = f"{public_url(url)}{through}: its certificate is not trusted ({reason.verify_message})"
        return FleetError(str(Mistake(source.path, problem, remedy)))
    refused = _NO_TUNNEL.match(str(reason))
    if refused and int(refused[1]) not in _WORTH_ANOTHER_TRY:
        return _final(source, url, through, int(refused[1]), refused[2])
    return _Broken(f"no connection{through}: {reason}")


def _final(source: Source, url: str, through: str, status: int, reason: str) -> FleetError:
    """Return the error for an answer that another try would not change."""
    remedy = "check the URL, the version and the headers" if status in (401, 403, 404, 410) else ""
    if status == _PROXY_WANTS_CREDENTIALS:
        remedy = "give the proxy's user and password in release_proxy: http://user:password@host:port"
    return FleetError(str(Mistake(source.path, f"{public_url(url)}{through}: HTTP {status} {reason}", remedy)))


def _after_refusal(source: Source, url: str, through: str, error: urllib.error.HTTPError) -> str:
    target = error.headers.get("Location", "")
    if error.code in _REDIRECTS and target:
        error.close()
        following = urljoin(url, target)
        if urlsplit(following).scheme not in ("http", "https"):
            raise FleetError(f"{public_url(url)}: redirects to {public_url(following)}, which is not http or https")
        return following
    wish = _wish(error.headers.get("Retry-After", ""))
    error.close()
    if error.code in _WORTH_ANOTHER_TRY:
        raise _Broken(f"HTTP {error.code} {error.reason}{through}", wish)
    raise _final(source, url, through, error.code, error.reason)


def _wish(retry_after: str) -> int:
    """Return how many seconds a server wants to be left alone: a number or a date (RFC 9110, 10.2.3); 0 for neither."""
    if retry_after.isdecimal():
        return int(retry_after)
    try:
        return max(0, math.ceil(parsedate_to_datetime(retry_after).timestamp() - time.time()))
    except (TypeError, ValueError):  # the first is what Python 3.9 raises for what is no date
        return 0


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


@contextlib.contextmanager
def _proxy(proxy: str) -> Iterator[None]:
    """Ask through ``proxy`` while the block runs: open_url knows only the environment's."""
    if not proxy:
        yield
        return
    before = {name: os.environ.pop(name) for name in _PROXY_VARIABLES if name in os.environ}
    os.environ.update(http_proxy=proxy, https_proxy=proxy)
    try:
        yield
    finally:
        for name in ("http_proxy", "https_proxy"):
            os.environ.pop(name, None)
        os.environ.update(before)
