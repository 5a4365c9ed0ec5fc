# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A part of a backup on its way from the store: decrypted on the controller, where the identity is, and handed on piece by piece.

age gives most of the plaintext of a damaged object before it fails. So pieces are worth something only once the last one
came without an error: then the object was of the size and hash that its manifest says, and age was content with it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Store

_BLOCK_BYTES = 1 << 18
_NO_IDENTITY = ("no identity matched", "incorrect identity")
_BAD_IDENTITY = 'error: reading "'


class Pump(threading.Thread):
    """Moves an object to age, hashing it on the way; ends early when age does."""

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.size = 0
        self.digest = hashlib.sha256()
        self._source, self._target = source, target

    def run(self) -> None:
        """Move all of it, as long as somebody reads."""
        with suppress(OSError, ValueError):  # the object is not read to its end, because nobody wants it any more
            self._move()
        with suppress(OSError, ValueError):
            self._target.close()

    def _move(self) -> None:
        wanted = True
        for block in iter(lambda: self._source.read(_BLOCK_BYTES), b""):
            self.size += len(block)
            self.digest.update(block)
            try:
                if wanted:
                    self._target.write(block)
            except OSError:
                wanted = False  # age has given up; what the object is worth is to be known all the same


def pieces(
    store: Store, manifest: Mapping[str, Any], part: Mapping[str, Any], identities: Sequence[str], identity_text: str, piece_bytes: int
) -> Iterator[bytes]:
    """Yield the plaintext of a part, still compressed, in pieces of this size (the last may be smaller).

    ``identities`` are files as ``age --identity`` takes them, ``identity_text`` the content of one more (empty for none). Raises
    FleetError, at the latest after the last piece, unless all of it is what the manifest says.
    """
    with _identity_pipe(identity_text) as (more, descriptors), store.reader(part["key"]) as source:
        command = ["age", "--decrypt", *(word for identity in (*identities, *more) for word in ("--identity", identity))]
        try:
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # no module here
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=descriptors
            )
        except FileNotFoundError:
            raise FleetError(
                "there is no program age on the controller\n  → install the package age (apt-get install age, brew install age)"
            ) from None
        stdin: Any = process.stdin
        stdout: Any = process.stdout
        stderr: Any = process.stderr
        pump = Pump(source, stdin)
        pump.start()
        try:
            yield from iter(lambda: stdout.read(piece_bytes), b"")
            said = stderr.read().decode(errors="replace")
            code = process.wait()
            _want_identity(manifest, part, code, said)
            pump.join()
        finally:
            process.kill()
            process.wait()
            stdout.close()
            stderr.close()
        _judge(manifest, part, pump, code, said)


@contextmanager
def _identity_pipe(text: str) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Give age an identity that is in no file, and in no argument, through a pipe of its own."""
    if not text:
        yield [], ()
        return
    reader, writer = os.pipe()
    try:
        with open(writer, "wb") as target:
            target.write(text.encode() + b"\n")
        yield [f"/dev/fd/{reader}"], (reader,)
    finally:
        os.close(reader)


def _want_identity(manifest: Mapping[str, Any], part: Mapping[str, Any], code: int, said: str) -> None:
    """Raise FleetError where age could not even begin."""
    name = f"{part['name']} of backup {manifest['id']}"
    if code and _BAD_IDENTITY in said:
        raise FleetError(
            f"{name} cannot be opened: age cannot use the identity: {_first_line(said)}\n"
            "  → give a file of age-keygen, or a private SSH key: restore_identity"
        )
    if code and any(words in said for words in _NO_IDENTITY):
        recipients = "\n".join(f"    {one}" for one in manifest["recipients"])
        raise FleetError(
            f"{name} cannot be opened with this identity. It was made for:\n{recipients}\n"
            "  → give the identity of one of them: restore_identity (age-keygen -y FILE shows whose a file is)"
        )


def _first_line(said: str) -> str:
    line = next((line for line in said.splitlines() if line.strip()), "it said nothing")
    return line.removeprefix("age: ").removeprefix("error: ")


def _judge(manifest: Mapping[str, Any], part: Mapping[str, Any], pump: Pump, code: int, said: str) -> None:
    """Raise FleetError unless an object was what its manifest says, and age could decrypt all of it."""
    name = f"{part['name']} of backup {manifest['id']}"
    if pump.size != part["size"]:
        raise FleetError(f"{name} has {pump.size} bytes in the store, its manifest says {part['size']}\n  → restore another backup")
    if pump.digest.hexdigest() != part["sha256"]:
        raise FleetError(f"{name} is not the object that was uploaded: its SHA-256 is not that of its manifest\n  → restore another backup")
    if code:
        raise FleetError(f"{name} cannot be decrypted: {_first_line(said)}")
