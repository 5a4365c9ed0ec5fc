# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An S3 store by way of rclone (1.60 or newer): objects written, read, listed, copied and deleted.

Writing needs no other right than to write: nothing is looked up before or after. Objects of up to 4 GiB are written by one
request with the MD5 of the file, which the store compares: they are there whole, or not at all. Errors are in words, and say
whether another attempt may help.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

REMOTE = "store"
PROGRAM = "rclone"
WHOLE_BYTES = 4 << 30
"""Up to this size, an object is written by one request, of which stores take 5 GB; above, in chunks."""

ATTEMPTS = 5
"""How often a request is made that fails for reasons that may pass."""

MAX_PARTS = 10_000
MIN_CHUNK_BYTES = 5 << 20

DENIED, ABSENT, NO_BUCKET, EXISTS, UNREACHABLE, CLOCK, REFUSED, OTHER = (
    "denied", "absent", "no-bucket", "exists", "unreachable", "clock", "refused", "other",
)  # fmt: skip

_MIB = 1 << 20
_FIRST_PAUSE_SECONDS = 2.0
_EXIT_ABSENT = (3, 4)
_SHOWN_CHARACTERS = 300
_NOISE = re.compile(r"^\d{4}/\S+ \S+ |(^|(?<= ))Failed to \w+: |,? request id: .*|,? (RequestID|HostID): [^ ,]*")
_SECONDS = {"io": 60, "connect": 15}
_KEPT_ENVIRONMENT = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "CREDENTIALS_DIRECTORY")
_IF_NEW = ("--header", "If-None-Match: *")
"""As a header of the request itself: rclone 1.60 has no other way, and leaves it out of the signature."""

# What stores and rclone say, in the order in which it is looked for: (said, kind, in words).
_SAID = (
    (("PreconditionFailed", "status code: 412", "StatusCode: 412"), EXISTS, "an object of this name is there already"),
    (("NoSuchBucket",), NO_BUCKET, "there is no such bucket"),
    (("RequestTimeTooSkewed", "RequestExpired"), CLOCK, "the clock of this host is too far from the store's"),
    (
        ("SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied", "status code: 403", "StatusCode: 403", "status code: 401", "StatusCode: 401"),
        DENIED,
        "the store refuses these credentials",
    ),
    (("NoSuchKey", "status code: 404", "StatusCode: 404", "object not found", "doesn't exist"), ABSENT, "there is no such object"),
    (("x509:", "certificate"), REFUSED, "the store's certificate is not trusted"),
    (
        ("dial tcp", "no such host", "connection re", "EOF", "timeout", "Timeout", "broken pipe", "status code: 5", "StatusCode: 5", "SlowDown"),
        UNREACHABLE,
        "the store cannot be reached, or is in trouble",
    ),
)  # fmt: skip


class StoreError(FleetError):
    """The store did not do what it was asked; ``kind`` is one of the words above."""

    def __init__(self, message: str, kind: str = OTHER) -> None:
        super().__init__(message)
        self.kind = kind


class Object(NamedTuple):
    """An object of a listing: its key, its size in bytes, and when it was written by the store's clock (RFC 3339)."""

    key: str
    size: int
    at: str


Listing = list[Object]


class Abilities(NamedTuple):
    """What credentials can do in a store; ``conditional``: a second object of the same name is refused when asked for.

    None = could not be found out. ``said`` holds what the store answered to what it refused.
    """

    write: bool
    conditional: bool | None
    read: bool | None
    list: bool | None
    delete: bool | None
    said: Mapping[str, str]


def conf_text(store: Mapping[str, Any], access_key_id: str, secret_access_key: str) -> str:
    """Return rclone's configuration of a store (``backup_store``), with one section. Raises FleetError for what does not fit a line."""
    values = {
        "type": "s3",
        "provider": "Other",
        "env_auth": "false",
        "endpoint": store["endpoint"],
        "region": store.get("region") or "us-east-1",
        "force_path_style": "true" if store.get("path_style", True) else "false",
        "access_key_id": access_key_id,
        "secret_access_key": secret_access_key,
        "no_check_bucket": "true",
        "no_head": "true",
        "upload_concurrency": "1",
    }
    for name, value in values.items():
        if not str(value).isprintable() or str(value) != str(value).strip() or not value:
            raise FleetError(f"the store's {name} is empty, or has characters that no {name} has")
    return "\n".join([f"[{REMOTE}]", *(f"{name} = {value}" for name, value in values.items()), ""])


def chunk_bytes(size: int) -> int:
    """Return how large the chunks of an object of ``size`` bytes are, so that they are few enough: whole MiB, at least 5."""
    return max(MIN_CHUNK_BYTES, -(-size // ((MAX_PARTS - 1000) * _MIB)) * _MIB)


class Store:
    """A bucket, or what is below a prefix of it. Keys are below the prefix."""

    def __init__(
        self,
        conf: Path,
        bucket: str,
        prefix: str = "",
        ca: Path | str = "",
        *,
        bandwidth: str = "",
        attempts: int = ATTEMPTS,
        tell: Callable[[str], None] = lambda _said: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``conf`` is a file of ``conf_text``, ``ca`` one of certificates in PEM (empty: the system's), ``bandwidth`` as rclone's --bwlimit.

        ``tell`` is told about every attempt that failed and is repeated.
        """
        self.conf, self.bucket, self.prefix, self.ca = conf, bucket, prefix.strip("/"), str(ca)
        self._bandwidth, self._attempts, self._tell, self._sleep = bandwidth, attempts, tell, sleep

    def path(self, key: str) -> str:
        """Return an object, or a prefix, as rclone names it."""
        return f"{REMOTE}:" + "/".join(part for part in (self.bucket, self.prefix, key) if part)

    def put(self, file: Path, key: str, *, again: bool = False) -> bool:
        """Write a file as a new object; return False where it is there already, as an earlier attempt may have succeeded unheard.

        Nothing is overwritten where the store can tell (``If-None-Match``). ``again`` says that there were earlier attempts; without
        it, an object that is in the way at the first attempt is an error. Raises StoreError; what was sent is compared with the file's size.
        """
        size = file.stat().st_size
        whole = size <= WHOLE_BYTES
        # A newer rclone would copy a large file in chunks, several at a time, however large the cutoff is.
        one = ["--multi-thread-streams", "1"]
        limits = ["--s3-upload-cutoff", f"{WHOLE_BYTES}B", "--s3-chunk-size", f"{chunk_bytes(size)}B", "--buffer-size", "0", *one]
        # Of an object in one piece, another attempt is ours, so that what was sent can be counted; of one in chunks, rclone repeats the chunk.
        retries = ["--low-level-retries", "1" if whole else "3"]
        command = ["copyto", "--no-check-dest", *retries, *limits, *(["--bwlimit", self._bandwidth] if self._bandwidth else [])]
        condition: Sequence[str] = _IF_NEW if whole else ()
        attempt = 0
        while True:
            attempt += 1
            try:
                log = self._ask([*command, *condition, str(file), self.path(key)], key)
            except StoreError as error:
                if error.kind == EXISTS and (again or attempt > 1):
                    return False
                if condition and _does_not_know_condition(str(error)):
                    condition, attempt = (), attempt - 1
                    continue
                self._pause(error, attempt)
                continue
            sent = _bytes_sent(log)
            if sent is None or (sent != size if whole else sent < size):
                raise StoreError(f"{key}: the file has {size} bytes, but {'an unknown number' if sent is None else sent} of them were sent", REFUSED)
            return True

    def get(self, key: str, file: Path) -> int:
        """Read an object into a file; return how many bytes it has. Raises StoreError."""
        with self.reader(key) as source, file.open("wb") as target:
            count = 0
            for chunk in iter(lambda: source.read(_MIB), b""):
                target.write(chunk)
                count += len(chunk)
        return count

    def cat(self, key: str, limit: int = 1 << 20) -> bytes:
        """Return the content of a small object. Raises StoreError, also for one of more than ``limit`` bytes."""
        for attempt in range(1, self._attempts + 1):
            try:
                with self.reader(key, limit + 1) as source:
                    found = source.read()
                break
            except StoreError as error:
                self._pause(error, attempt)
        if len(found) > limit:
            raise StoreError(f"{key}: more than {limit} bytes", REFUSED)
        return found

    @contextlib.contextmanager
    def reader(self, key: str, limit: int = -1) -> Iterator[IO[bytes]]:
        """Give an object's content as a stream, of at most ``limit`` bytes; on the way out it is known to have come to its end.

        Raises StoreError; not repeated, as the reader has had part of it. Who leaves early by an error of its own need not read on.
        """
        # rclone takes a name without an object for a directory, and says nothing; so an object is known to be there first.
        if not self.exists(key):
            raise StoreError(f"{key}: there is no such object", ABSENT)
        count = ["--count", str(limit)] if limit >= 0 else []
        process = self._start(["cat", *count, self.path(key)])
        stdout: Any = process.stdout
        stderr: Any = process.stderr
        try:
            yield stdout
            left = stdout.read(1)
            said = stderr.read().decode(errors="replace")
            code = process.wait()
        finally:
            with process:  # closes the pipes
                if process.poll() is None:
                    process.kill()
        if left:
            raise StoreError(f"{key}: not read to its end", OTHER)
        if code != 0:
            raise _error(key, code, said)

    def list(self, prefix: str = "") -> Listing:
        """Return all objects below a prefix that ends with a slash (or is empty: all), by key. Raises StoreError."""
        command = ["lsjson", "--recursive", "--files-only", "--no-mimetype", "--use-server-modtime", "--fast-list", self.path(prefix)]
        found = self._listed(command, prefix)
        return sorted(Object(prefix + row["Path"], row["Size"], row["ModTime"]) for row in found)

    def exists(self, key: str) -> bool:
        """Return whether an object is there; needs the right to list. Raises StoreError."""
        return key in (row.key for row in self._list_directory(key.rpartition("/")[0] + "/"))

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error. Needs no other right than to delete. Raises StoreError."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as listed:
            listed.write(f"{key}\n")
            listed.flush()
            # `deletefile` looks first, so that credentials which may delete but not read would seem harmless.
            unseen = ["--no-traverse", "--s3-no-head-object", "--low-level-retries", "1", "--max-delete", "1"]
            self._ask_again(["delete", *unseen, "--files-from-raw", listed.name, self.path("")], key)

    def copy(self, key: str, to: str) -> None:
        """Copy an object within the store. Raises StoreError."""
        self._ask_again(["copyto", "--no-check-dest", self.path(key), self.path(to)], key)

    def _list_directory(self, prefix: str) -> Listing:
        command = ["lsjson", "--files-only", "--no-mimetype", "--no-modtime", self.path(prefix)]
        return [Object(prefix + row["Path"], row["Size"], "") for row in self._listed(command, prefix)]

    def _listed(self, command: Sequence[str], prefix: str) -> Any:
        try:
            return json.loads(self._ask_again(command, prefix or self.bucket, out=True) or "[]")
        except StoreError as error:
            if error.kind == ABSENT:  # a prefix that nothing has is an empty list
                raise StoreError(f"{prefix}: there is no bucket {self.bucket}", NO_BUCKET) from error
            raise

    def _ask_again(self, command: Sequence[str], about: str, *, out: bool = False) -> str:
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._ask(command, about, out=out)
            except StoreError as error:
                self._pause(error, attempt)

    def _pause(self, error: StoreError, attempt: int) -> None:
        """Wait before the next attempt; raise the error when none can help, or there were enough."""
        if error.kind not in (UNREACHABLE, OTHER) or attempt >= self._attempts:
            raise error
        jitter = 0.75 + os.urandom(1)[0] / 512  # so that a fleet does not come back at once
        seconds = _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * jitter
        self._tell(f"{str(error).splitlines()[0]}; attempt {attempt} of {self._attempts}, the next in {seconds:.0f} s")
        self._sleep(seconds)

    def _ask(self, command: Sequence[str], about: str, *, out: bool = False) -> str:
        """Return what rclone printed (``out``), else its log. Raises StoreError."""
        process = self._start(command)
        try:
            printed, log = process.communicate()
        except BaseException:
            process.kill()
            process.communicate()
            raise
        said = log.decode(errors="replace")
        if process.returncode != 0:
            raise _error(about, process.returncode, said)
        return printed.decode(errors="replace") if out else said

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        options = ["--config", str(self.conf), "--retries", "1", "--use-json-log", "--log-level", "NOTICE"]
        options += ["--stats", "24h", "--stats-log-level", "NOTICE", "--timeout", f"{_SECONDS['io']}s", "--contimeout", f"{_SECONDS['connect']}s"]
        options += ["--ca-cert", self.ca] if self.ca else []
        try:
            return subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with  # no module here; both callers end it
                [PROGRAM, *options, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
            )
        except FileNotFoundError:
            raise StoreError(f"{PROGRAM} is not installed\n  → apt install {PROGRAM}", REFUSED) from None


def probe(store: Store, key: str, file: Path) -> Abilities:
    """Find out what a store's credentials can do, by writing ``file`` as ``key``, which may stay where it cannot be deleted.

    Raises StoreError where the store cannot even be asked (unreachable, no such bucket, a clock too far off).
    """
    said: dict[str, str] = {}

    def can(ability: str, act: Callable[[], object]) -> bool:
        try:
            act()
        except StoreError as error:
            if error.kind not in (DENIED, EXISTS, ABSENT):
                raise
            said[ability] = str(error)
            return False
        return True

    write = can("write", lambda: store.put(file, key))
    overwrite = can("conditional", lambda: store.put(file, key)) if write else None
    said.pop("conditional", None)  # here, a refusal is what is wanted
    listed = can("list", lambda: store.list(key.rpartition("/")[0] + "/"))
    read = can("read", lambda: _want_read(store, key, file)) if write else None
    delete = can("delete", lambda: store.delete(key)) if write else None
    return Abilities(write, None if overwrite is None else not overwrite, read, listed, delete, said)


def _want_read(store: Store, key: str, file: Path) -> None:
    """Raise StoreError unless an object can be read; where nobody may ask for it, rclone takes its name for an empty directory."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "copy")
        # `cat` lists the directory too, so that credentials which may read but not list would seem harmless.
        store._ask(["copyto", store.path(key), str(copy)], key)
        if not copy.is_file() or copy.read_bytes() != file.read_bytes():
            raise StoreError(f"{key}: nothing could be read", DENIED)


def _environment() -> dict[str, str]:
    """Return rclone's environment: nothing that others set for other programs, and a garbage collector that keeps the memory small."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {"PATH": path, "HOME": "/nonexistent", "LANG": "C.UTF-8", "GOGC": "20", "GOMEMLIMIT": "24MiB", **kept}


def _log_lines(log: str) -> Iterator[tuple[str, Any]]:
    """Give the messages of rclone's log, with its figures where a line has some."""
    for line in log.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            yield line, None
            continue
        yield (str(found.get("msg", "")), found.get("stats")) if isinstance(found, dict) else (line, None)


def _bytes_sent(log: str) -> int | None:
    """Return how many bytes rclone says it has transferred; None where it says nothing."""
    counts = [stats.get("bytes") for _message, stats in _log_lines(log) if isinstance(stats, dict)]
    return counts[-1] if counts and isinstance(counts[-1], int) else None


def _does_not_know_condition(said: str) -> bool:
    return "NotImplemented" in said or "status code: 501" in said or "StatusCode: 501" in said


def _error(about: str, code: int, log: str) -> StoreError:
    """Return the error that a failed rclone stands for."""
    messages = [_NOISE.sub("", " ".join(message.split())) for message, stats in _log_lines(log) if message.strip() and not stats]
    telling = [line for line in messages if any(word in line for words, _kind, _plain in _SAID for word in words)]
    said = max((line for line in telling or messages if "Attempt" not in line), key=len, default="it said nothing")[:_SHOWN_CHARACTERS]
    if code in _EXIT_ABSENT:
        return StoreError(f"{about}: there is no such object ({said})", ABSENT)
    for words, kind, plain in _SAID:
        if any(word in said for word in words):
            return StoreError(f"{about}: {plain} ({said})", kind)
    return StoreError(f"{about}: {PROGRAM} failed with status {code}: {said}", OTHER)
