# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline of a backup, zstd and then age, and the way back: hashed on both sides, and every exit status looked at.

A stage that dies half-way leaves its successors an orderly end of their input, of which they make an object that looks whole.
So a result is one only if every stage ended well and all that was given went in.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly

LEVEL = 1
"""zstd's level: the next ones save a few per cent of the bytes, and cost a small board half as much time again, or more."""

HEADER = b"age-encryption.org/v1\n"
_CHUNK_BYTES = 1 << 18
_F_SETPIPE_SZ = 1031

Write = Callable[[bytes], Any]
Feed = Callable[[Write], Any]


class PipelineError(FleetError):
    """A stage of a pipeline failed, or what came out cannot be trusted."""


class Sealed(NamedTuple):
    """What came out of a pipeline: bytes and SHA-256 of the encrypted side, and of the plain one."""

    size: int
    sha256: str
    plain_size: int
    plain_sha256: str


def want_recipients(recipients: Sequence[str]) -> None:
    """Raise PipelineError unless age encrypts for every one of these; nothing is ever written in the clear instead."""
    if not recipients:
        raise PipelineError("there is nobody to encrypt for\n  → set backup_recipients, the public keys of your identities")
    if any("SECRET-KEY" in one or "PRIVATE KEY" in one for one in recipients):
        raise PipelineError("a private identity is given as a recipient (it is not shown)\n  → write its public key, age1…; and make a new identity")
    done = _run([*_age_command(recipients)], b"")
    if done.returncode != 0 or not done.stdout.startswith(HEADER):
        raise PipelineError(f"age does not encrypt for these recipients: {_words(done.stderr) or 'it gave no reason'}\n  → correct backup_recipients")


def seal(feed: Feed, target: Path, recipients: Sequence[str]) -> Sealed:
    """Compress and encrypt what ``feed`` writes, into a new file. It is not flushed: who finds it after a power cut compares its hash.

    Raises PipelineError, SpaceError or what ``feed`` raises; then there is no file.
    """
    if not recipients:
        raise PipelineError("there is nobody to encrypt for")
    try:
        with said_plainly(target.parent, "for the encrypted backup"), _new_file(target) as file:
            plain, cipher = _Side(), _Cipher(file)
            _through([["zstd", f"-{LEVEL}", "--single-thread", "--quiet", "--stdout"], _age_command(recipients)], _hashed(feed, plain), cipher.take)
            _want_encrypted(cipher.size > 0)
        return Sealed(cipher.size, cipher.sha256, plain.size, plain.sha256)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def unseal(source: IO[bytes], write: Write, identity: Sequence[str]) -> Sealed:
    """Decrypt and decompress ``source``, giving what comes out to ``write``; ``identity`` are age's options (``-i FILE``, ``-j PLUGIN``).

    Raises PipelineError, or what ``write`` raises. What was written is to be trusted only once this returns and the hashes are compared.
    """
    plain, cipher = _Side(), _Side()

    def feed(into: Write) -> None:
        for chunk in iter(lambda: source.read(_CHUNK_BYTES), b""):
            into(chunk)

    def collect(chunk: bytes) -> None:
        plain.take(chunk)
        write(chunk)

    _through([["age", "--decrypt", *identity], ["zstd", "--decompress", "--quiet", "--stdout"]], _hashed(feed, cipher), collect)
    return Sealed(cipher.size, cipher.sha256, plain.size, plain.sha256)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    side = _Side()
    file_feed(path)(side.take)
    return side.sha256


def file_feed(path: Path) -> Feed:
    """Return what feeds a pipeline with the content of a file."""

    def feed(write: Write) -> None:
        with path.open("rb", buffering=0) as file:
            for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
                write(chunk)

    return feed


class _Side:
    """What went by on one side of a pipeline."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    def take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._digest.update(chunk)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class _Cipher(_Side):
    """The encrypted side, which goes into a file."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def take(self, chunk: bytes) -> None:
        _want_encrypted(self.size > 0 or chunk.startswith(HEADER))
        super().take(chunk)
        _write_all(self._file, chunk)


def _want_encrypted(is_so: bool) -> None:
    if not is_so:
        raise PipelineError("what age wrote is not encrypted, and is not kept")


def _hashed(feed: Feed, side: _Side) -> Feed:
    """Return a feed that is seen on a side before it goes on."""

    def hashed(write: Write) -> None:
        def take(chunk: bytes) -> None:
            side.take(chunk)
            write(chunk)

        feed(take)

    return hashed


def _age_command(recipients: Sequence[str]) -> list[str]:
    return ["age", "--encrypt", *(word for one in recipients for word in ("--recipient", one))]


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb", buffering=0) as file:
        yield file


def _through(commands: Sequence[Sequence[str]], feed: Feed, collect: Write) -> None:
    """Give what ``feed`` writes to the first command, and what comes out of the last to ``collect``.

    Raises what ``feed`` or ``collect`` raise, and PipelineError unless every command ended well and took everything.
    """
    stages: list[subprocess.Popen[bytes]] = []
    feeder = _Feeder(feed)
    try:
        for command in commands:
            stages.append(_start(command, stages[-1].stdout if stages else subprocess.PIPE))
            if len(stages) > 1:
                _close(stages[-2].stdout)  # ours; else nobody would notice that the other end is gone
        feeder.begin(stages[0].stdin)
        out: Any = stages[-1].stdout
        for chunk in iter(lambda: out.read(_CHUNK_BYTES), b""):
            collect(chunk)
        feeder.join()
        ends = [_end_of(stage) for stage in stages]
    finally:
        _kill(stages)
        feeder.join()
    if feeder.error is not None and not isinstance(feeder.error, BrokenPipeError):
        raise feeder.error
    failed = [(command[0], code, said) for command, (code, said) in zip(commands, ends) if code != 0]
    # Who writes to one that died is ended by SIGPIPE, and is not to blame; who reads from it complains later.
    for program, code, said in sorted(failed, key=lambda one: one[1] == -signal.SIGPIPE)[:1]:
        how = f"was killed by signal {-code}" if code < 0 else f"failed with status {code}"
        raise PipelineError(f"{program} {how}: {_words(said) or 'it gave no reason'}")
    if feeder.error is not None:
        raise PipelineError(f"{commands[0][0]} ended before it had read everything") from feeder.error


def _end_of(stage: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """Return the exit status of a stage, and what it complained about."""
    said = stage.stderr.read() if stage.stderr else b""
    return stage.wait(), said


def _kill(stages: Sequence[subprocess.Popen[bytes]]) -> None:
    for stage in stages:
        if stage.poll() is None:
            stage.kill()
            stage.wait()
        for pipe in (stage.stdout, stage.stderr):
            _close(pipe)


class _Feeder:
    """Writes into a pipe from a thread of its own, so that the other end of the pipeline can be read meanwhile."""

    def __init__(self, feed: Feed) -> None:
        self.error: BaseException | None = None
        self._feed = feed
        self._thread: threading.Thread | None = None

    def begin(self, pipe: Any) -> None:
        self._thread = threading.Thread(target=self._run, args=(pipe,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        if self._thread:
            self._thread.join()

    def _run(self, pipe: IO[bytes]) -> None:
        try:
            try:
                self._feed(lambda chunk: _write_all(pipe, chunk))
            finally:
                pipe.close()
        except BaseException as error:  # is raised again by the one who waits
            self.error = error


def _write_all(pipe: IO[bytes], chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[pipe.write(view) :]


def _start(command: Sequence[str], stdin: Any) -> subprocess.Popen[bytes]:
    try:
        stage = subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with  # no module here; _through ends it
            list(command), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, env=_environment()
        )
    except FileNotFoundError:
        raise PipelineError(f"{command[0]} is not installed\n  → apt install {command[0]}") from None
    for pipe in (stage.stdin, stage.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # larger pipes need fewer turns; but there is a limit for each account
                fcntl.fcntl(pipe, _F_SETPIPE_SZ, _CHUNK_BYTES)
    return stage


def _run(command: Sequence[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # pylint: disable=ansible-bad-function  # no module here
            list(command), input=given, capture_output=True, check=False, timeout=60, env=_environment()
        )
    except FileNotFoundError:
        raise PipelineError(f"{command[0]} is not installed\n  → apt install {command[0]}") from None


def _environment() -> dict[str, str]:
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    kept = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}  # where age's plugins look for their own
    return {"PATH": path, "LANG": "C.UTF-8", "GOGC": "50", **kept}


def _words(said: bytes) -> str:
    """Return what a program complained about, on one line and not too long."""
    return " ".join(said.decode(errors="replace").split())[:300]


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        pipe.close()
