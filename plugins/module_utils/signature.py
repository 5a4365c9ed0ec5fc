# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of artifacts, each pinned to one signer, checked with tools that every Debian host has.

``ssh``: made by ``ssh-keygen -Y sign -n file -f KEY ARTIFACT``; checked by ssh-keygen.
``minisign``: made by ``minisign -S -H -m ARTIFACT`` (prehashed); Ed25519 is checked by openssl, the rest here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake

SIGNATURE_BYTES_MAX = 64 * 1024

_TIMEOUT_SECONDS = 120
_ED25519_KEY_INFO = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of a raw Ed25519 key
_PREHASHED, _WHOLE = b"ED", b"Ed"
_TRUSTED = "trusted comment: "


@dataclass(frozen=True)
class _MinisignSignature:
    algorithm: bytes
    key_id: bytes
    signature: bytes
    trusted_comment: str
    global_signature: bytes


def verify(signature: Mapping[str, Any], text: str, artifact: Path, path: str) -> None:
    """Raise FleetError unless ``text`` is the pinned signer's signature of the artifact.

    ``signature`` names ``type``, ``key`` (public), and for ssh ``identity`` and ``namespace``; ``path`` is its place in the inventory.
    """
    check = {"ssh": _verify_ssh, "minisign": _verify_minisign}[signature["type"]]
    try:
        check(signature, text, artifact)
    except FleetError as error:
        remedy = "nothing was installed; if the publisher has a new key, confirm that with them before you pin it"
        raise FleetError(str(Mistake(path, str(error), remedy))) from error


def _verify_ssh(signature: Mapping[str, Any], text: str, artifact: Path) -> None:
    key = " ".join(str(signature["key"]).split())
    identity = signature.get("identity") or "release"
    namespace = signature.get("namespace") or "file"
    with tempfile.TemporaryDirectory() as directory:
        signers, signed = Path(directory) / "signers", Path(directory) / "signature"
        signers.write_text(f'{identity} namespaces="{namespace}" {key}\n', encoding="utf-8")
        signed.write_text(text, encoding="utf-8")
        ask = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", identity, "-n", namespace, "-s", str(signed)]
        if _run(ask, artifact, "openssh-client").returncode == 0:
            return
        # The pin does not hold; whose signature it is helps the reader to tell a new key from a forgery.
        found = _run(["ssh-keygen", "-Y", "check-novalidate", "-n", namespace, "-s", str(signed)], artifact, "openssh-client")
    said = " ".join((found.stdout if found.returncode == 0 else found.stderr).decode("utf-8", "replace").split())
    raise FleetError(f"the artifact is not signed by the pinned key of {identity} for {namespace}; ssh-keygen says: {said}")


def _verify_minisign(signature: Mapping[str, Any], text: str, artifact: Path) -> None:
    key_id, key = _minisign_key(str(signature["key"]))
    found = _minisign_signature(text)
    if found.key_id != key_id:
        raise FleetError(f"the artifact is signed by key {_shown(found.key_id)}, pinned is {_shown(key_id)}")
    if found.algorithm != _PREHASHED:
        raise FleetError("the signature is of minisign's old kind, without a hash; the publisher must sign with minisign -H")
    digest = hashlib.blake2b()
    with artifact.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    _verify_ed25519(key, found.signature, digest.digest(), "the signature does not fit the artifact")
    comment = found.signature + found.trusted_comment.encode("utf-8")
    _verify_ed25519(key, found.global_signature, comment, "the signature's trusted comment was altered")


def _minisign_key(text: str) -> tuple[bytes, bytes]:
    """Return key id and key of a minisign public key: its file's text, or only the line that begins with RW."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("untrusted comment:")]
    raw = _decoded(lines[0] if lines else "", "public key")
    if len(raw) != 42 or raw[:2] != _WHOLE:
        raise FleetError("the key is no minisign public key; write the line of the .pub file that begins with RW")
    return raw[2:10], raw[10:]


def _minisign_signature(text: str) -> _MinisignSignature:
    lines = text.splitlines()
    if len(lines) < 4 or not lines[0].startswith("untrusted comment:") or not lines[2].startswith(_TRUSTED):
        raise FleetError("the signature is no minisign signature")
    raw, over_all = _decoded(lines[1], "signature"), _decoded(lines[3], "signature")
    if len(raw) != 74 or len(over_all) != 64:
        raise FleetError("the signature is no minisign signature")
    return _MinisignSignature(raw[:2], raw[2:10], raw[10:], lines[2][len(_TRUSTED) :], over_all)


def _decoded(line: str, what: str) -> bytes:
    try:
        return base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FleetError(f"the {what} is damaged: {error}") from error


def _shown(key_id: bytes) -> str:
    return key_id[::-1].hex().upper()  # as minisign prints it


def _verify_ed25519(key: bytes, signature: bytes, message: bytes, complaint: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        names = {name: Path(directory) / name for name in ("key", "signature", "message")}
        names["key"].write_bytes(_ED25519_KEY_INFO + key)
        names["signature"].write_bytes(signature)
        names["message"].write_bytes(message)
        ask = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", str(names["key"])]
        ask += ["-rawin", "-in", str(names["message"]), "-sigfile", str(names["signature"])]
        result = _run(ask, names["message"], "openssl")
    if result.returncode != 0:
        raise FleetError(complaint)


def _run(command: Sequence[str], standard_input: Path, package: str) -> subprocess.CompletedProcess[bytes]:
    try:
        with standard_input.open("rb") as stream:
            return _completed(command, stream)
    except FileNotFoundError as error:
        raise FleetError(f"the host has no {command[0]} to check the signature with: apt install {package}") from error
    except subprocess.TimeoutExpired as error:
        raise FleetError(f"{command[0]} did not finish within {_TIMEOUT_SECONDS} s") from error


def _completed(command: Sequence[str], stream: IO[bytes]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # pylint: disable=ansible-bad-function  # the artifact is its input, too large to hold
        command, stdin=stream, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
    )
