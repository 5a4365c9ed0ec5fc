# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures count only from the one pinned signer, for exactly these bytes."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import signature
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

WHERE = "fleet_services.toyd.artifact.signature"
CONTENT = b"a program\n"

# Made by minisign 0.11 for CONTENT.
MINISIGN_KEY = "RWTVVsmOVf0r/LE2TWdDJH/CSpfqkzcxB1SU3vizUNG6y/uX3Tk17EPA"
MINISIGN_KEY_FILE = f"untrusted comment: minisign public key FC2BFD558EC956D5\n{MINISIGN_KEY}\n"
MINISIGN = """untrusted comment: signature from minisign secret key
RUTVVsmOVf0r/MzilJoKBj4Nm2Z//htmn0JQBIHJKJimgqDD1CfmJ+Pl9QfVdwmqrVy8K0qa0ECj+a3UU9G+96OxJruaQHOQUwE=
trusted comment: release 1.0.0
VOTWFwqkfVDOuFCI7y35yFzA/jWzZbFcYWOp144mGcSFb2uMuiWYKOSlc6aMQPaHIPFoDBnmI4GmEOXkRx5sAw==
"""
MINISIGN_OTHER = """untrusted comment: signature from minisign secret key
RUTudPzhLcSN9JWExTRPriqO7ACh/fIfBeoFKdPmby9Ltnxn1GXSFwX2S3kY1FDlhGjbl1cXzVs4dqwKtvNyB+KGuxmzrEb0+QQ=
trusted comment: release 1.0.0
1rYINk+aAphMzhb1pwLi5cBKP+o7tJCEwQ619uqzITpZjLsfSLpuSkCnkog3INNSsCT32n++EVDyGJFbVE3mAw==
"""
MINISIGN_LEGACY = """untrusted comment: signature from minisign secret key
RWTVVsmOVf0r/MHbnpNFOt8sKo845Mxkz6tS7zLj5xN7Ad3xgOHFrOEZGk3guAd7rfh9ZrrL+fmlPAoNgENYv0PQ1JgrEIgl8go=
trusted comment: x
uAuQHrmlRwk0W30upsqeA1wLwvUllSWD/rWsfKahiVLKBFnM/bzYFwXsu7sxfEk33tV0wlEcXfEVU+mF1ml+DA==
"""


def forged(text: str) -> str:
    """Return another signer's signature under the pinned signer's key id."""
    lines = text.splitlines()
    raw = bytearray(base64.b64decode(lines[1]))
    raw[2:10] = base64.b64decode(MINISIGN_KEY)[2:10]
    return "\n".join([lines[0], base64.b64encode(raw).decode(), *lines[2:]])


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "artifact"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("key", [pytest.param(MINISIGN_KEY, id="line"), pytest.param(MINISIGN_KEY_FILE, id="file")])
def test_minisign_of_the_pinned_signer_passes(artifact: Path, key: str) -> None:
    signature.verify({"type": "minisign", "key": key}, MINISIGN, artifact, WHERE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(MINISIGN_OTHER, "is signed by key F48DC42DE1FC74EE, pinned is FC2BFD558EC956D5", id="another-signer"),
        pytest.param(forged(MINISIGN_OTHER), "does not fit the artifact", id="another-signer-under-the-pinned-id"),
        pytest.param(MINISIGN.replace("release 1.0.0", "release 2.0.0"), "trusted comment was altered", id="altered-comment"),
        pytest.param(MINISIGN_LEGACY, "without a hash; the publisher must sign with minisign -H", id="old-kind"),
        pytest.param("<html>", "no minisign signature", id="a-page"),
        pytest.param("", "no minisign signature", id="empty"),
    ],
)
def test_f29_other_minisign_signatures_fail(artifact: Path, text: str, said: str) -> None:
    with pytest.raises(FleetError, match=rf"^{WHERE}: .*{said}"):
        signature.verify({"type": "minisign", "key": MINISIGN_KEY}, text, artifact, WHERE)


def test_f29_a_minisign_signature_of_other_bytes_fails(artifact: Path) -> None:
    artifact.write_bytes(CONTENT + b"!")
    with pytest.raises(FleetError, match="does not fit the artifact"):
        signature.verify({"type": "minisign", "key": MINISIGN_KEY}, MINISIGN, artifact, WHERE)


def test_a_key_of_another_tool_is_named(artifact: Path) -> None:
    with pytest.raises(FleetError, match="the public key is damaged"):
        signature.verify({"type": "minisign", "key": "ssh-ed25519 AAAA"}, MINISIGN, artifact, WHERE)


def ssh_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "signer", "-f", str(path)], check=True)
    return path.with_name(f"{path.name}.pub").read_text()


def ssh_sign(key: Path, artifact: Path, namespace: str = "file") -> str:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key)]
    return subprocess.run(command, input=artifact.read_bytes(), capture_output=True, check=True).stdout.decode()


needs_ssh = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")


@needs_ssh
def test_ssh_of_the_pinned_signer_passes_and_others_fail(tmp_path: Path, artifact: Path) -> None:
    pinned = {"type": "ssh", "key": ssh_key(tmp_path / "pinned"), "identity": "release", "namespace": "file"}
    ssh_key(tmp_path / "other")
    good = ssh_sign(tmp_path / "pinned", artifact)
    signature.verify(pinned, good, artifact, WHERE)
    fingerprint = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "other.pub")], capture_output=True, text=True, check=True).stdout.split()[1]
    others = {
        fingerprint: ssh_sign(tmp_path / "other", artifact),
        "namespace": ssh_sign(tmp_path / "pinned", artifact, "email"),
        "not parse|load signature|magic|header": "no signature",
    }
    for said, text in others.items():
        with pytest.raises(FleetError) as error:
            signature.verify(pinned, text, artifact, WHERE)
        refusal, _mark, reason = str(error.value).partition("ssh-keygen says: ")
        assert refusal == f"{WHERE}: the artifact is not signed by the pinned key of release for file; "
        assert any(word in reason for word in said.split("|")), reason
    artifact.write_bytes(CONTENT + b"!")
    with pytest.raises(FleetError, match="not signed by the pinned key"):
        signature.verify(pinned, good, artifact, WHERE)


def test_a_missing_tool_is_named_with_its_package(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(FleetError, match=r"no ssh-keygen .*apt install openssh-client"):
        signature.verify({"type": "ssh", "key": "ssh-ed25519 AAAA"}, "text", artifact, WHERE)
