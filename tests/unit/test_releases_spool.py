# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spool: what the controller must bring, who may work in it, and what stays."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import spool
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

CONTENT = b"an artifact"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
BY_URL = {"amd64": {"url": "https://example.org/toyd.tar.gz", "sha256": DIGEST}}
BY_FILE = {"amd64": {"file": "/srv/toyd.tar.gz", "sha256": DIGEST}}
NOT_INSTALLED = {"arch": "amd64", "services": {"toyd": {"installed": {}, "modified": []}}}


def release(**changes: Any) -> dict[str, Any]:
    return {"service": "toyd", "version": "1.0.0", "artifacts": BY_URL, "via": "target", "signature": None, "timeout": 5, "retries": 0, **changes}


SIGNED = {"type": "ssh", "key": "ssh-ed25519 AAAA"}


@pytest.mark.parametrize(
    ("wanted", "artifact", "signature"),
    [
        pytest.param(release(), False, False, id="the-host-downloads"),
        pytest.param(release(via="controller"), True, False, id="the-controller-downloads"),
        pytest.param(release(artifacts=BY_FILE), True, False, id="a-file-of-the-controller"),
        pytest.param(release(signature=SIGNED), False, False, id="a-signature-beside-the-url"),
        pytest.param(release(signature={**SIGNED, "file": {"any": "/srv/toyd.sig"}}), False, True, id="a-signature-of-the-controller"),
        pytest.param(release(signature={**SIGNED, "file": {"any": "/srv/toyd.sig"}, "text": {"amd64": "text"}}), False, False, id="brought"),
        pytest.param(release(artifacts=BY_FILE, signature=SIGNED), True, True, id="both"),
    ],
)
def test_needs(tmp_path: Path, wanted: dict[str, Any], artifact: bool, signature: bool) -> None:
    found = spool.needs([wanted], NOT_INSTALLED, tmp_path)
    assert [(need["artifact"], need["signature"]) for need in found] == ([(artifact, signature)] if artifact or signature else [])


def test_nothing_is_needed_for_what_is_installed(tmp_path: Path) -> None:
    seen = {"installed": {"1.0.0": {"sha256": DIGEST}}, "modified": []}
    assert spool.needs([release(artifacts=BY_FILE)], {"arch": "amd64", "services": {"toyd": seen}}, tmp_path) == []


def test_what_lies_in_the_spool_is_not_brought_again(tmp_path: Path) -> None:
    (tmp_path / DIGEST).write_bytes(CONTENT)
    assert spool.needs([release(artifacts=BY_FILE)], NOT_INSTALLED, tmp_path) == []


def test_two_services_may_have_the_same_artifact(tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    brought.write_bytes(CONTENT)
    for service in ("toyd", "toyd-too"):
        path = spool.obtain(release(service=service, artifacts=BY_FILE), "amd64", tmp_path, {DIGEST: str(brought)})
        assert path.read_bytes() == CONTENT


def test_f29_what_the_controller_brings_is_verified_on_the_host_too(tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    brought.write_bytes(b"something else")
    with pytest.raises(FleetError, match=rf"(?s)artifact\.sha256\.amd64: .*{DIGEST}.*/srv/toyd\.tar\.gz, through the controller"):
        spool.obtain(release(artifacts=BY_FILE), "amd64", tmp_path, {DIGEST: str(brought)})
    assert list(tmp_path.iterdir()) == []


def test_f29_an_artifact_with_a_bad_signature_leaves_the_spool(tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    brought.write_bytes(CONTENT)
    signed = release(artifacts=BY_FILE, signature={"type": "minisign", "key": "none", "text": {"amd64": "text"}})
    with pytest.raises(FleetError, match=r"fleet_services\.toyd\.artifact\.signature: "):
        spool.obtain(signed, "amd64", tmp_path, {DIGEST: str(brought)})
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_waits_for_a_signature_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "brought").write_bytes(CONTENT)
    unsigned = release(artifacts=BY_FILE, signature={"type": "minisign", "key": "none"})
    with pytest.raises(FleetError, match=r"toyd\.artifact\.signature: the controller has not handed the signature over"):
        spool.obtain(unsigned, "amd64", tmp_path, {DIGEST: str(tmp_path / "brought")})
    assert [path.name for path in tmp_path.iterdir()] == [DIGEST]


def test_f29_all_that_cannot_be_had_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "brought").write_bytes(CONTENT)
    (tmp_path / "spoilt").write_bytes(b"something else")
    others = {name: {"amd64": {"file": f"/srv/{name}", "sha256": character * 64}} for name, character in (("spoilt", "1"), ("absent", "2"))}
    wanted = [
        release(service="spoilt", artifacts=others["spoilt"]),
        release(service="absent", artifacts=others["absent"]),
        release(artifacts=BY_FILE),
    ]
    handed_over = {"1" * 64: str(tmp_path / "spoilt"), DIGEST: str(tmp_path / "brought")}
    found, refused = spool.obtain_all(wanted, "amd64", tmp_path, handed_over, 5)
    assert found == {"toyd": tmp_path / DIGEST}
    assert [str(error).partition(": ")[0] for error in refused] == [
        "fleet_services.spoilt.artifact.sha256.amd64",
        "fleet_services.absent.artifact.sha256.amd64",
    ]


def test_a_publisher_that_does_not_answer_is_not_waited_for_again_and_again(tmp_path: Path) -> None:
    wanted = [release(service=name, artifacts=BY_FILE) for name in ("first", "second", "third")]
    found, refused = spool.obtain_all(wanted, "amd64", tmp_path, {}, 0)
    assert found == {}
    assert [str(error) for error in refused[1:]] == [f"{name} 1.0.0: was not looked at, as the others took 0 s" for name in ("second", "third")]


def test_f29_two_services_with_one_artifact_of_which_a_signature_is_bad(tmp_path: Path) -> None:
    (tmp_path / "brought").write_bytes(CONTENT)
    signed = release(service="signed", artifacts=BY_FILE, signature={"type": "minisign", "key": "none", "text": {"amd64": "text"}})
    found, refused = spool.obtain_all([release(artifacts=BY_FILE), signed], "amd64", tmp_path, {DIGEST: str(tmp_path / "brought")}, 5)
    assert (found, len(refused)) == ({}, 1)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    order = []
    holds = threading.Event()

    def first() -> None:
        with spool.locked(tmp_path, 1) as waited:
            holds.set()
            time.sleep(0.2)
            order.append(("first", waited))

    thread = threading.Thread(target=first)
    thread.start()
    assert holds.wait(5)
    with spool.locked(tmp_path, 5) as waited:
        order.append(("second", waited))
    thread.join()
    assert order == [("first", False), ("second", True)]


def test_a_lock_that_is_never_released_is_named(tmp_path: Path) -> None:
    with spool.locked(tmp_path, 1), pytest.raises(FleetError, match="another run has been installing"), spool.locked(tmp_path, 0):
        pass


def test_tidy_keeps_what_a_rerun_resumes(tmp_path: Path) -> None:
    for name in ("done", "young.part", "old.part", ".lock"):
        (tmp_path / name).touch()
    os.utime(tmp_path / "old.part", (0, 0))
    os.utime(tmp_path / ".lock", (0, 0))
    spool.tidy(tmp_path, {"done"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "young.part"]
