# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A part on its way from the store: what is damaged, exchanged or for somebody else is found out, and identities stay where they are."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import restoring

from ansible_collections.hearth.fleet.plugins.module_utils import identities, restore_stream
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

pytestmark = pytest.mark.skipif(not shutil.which("age"), reason="needs age")
PLAIN = hashlib.shake_128(b"data").digest(500_000)


class Bucket:
    """Stands in for a store with one object."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @contextmanager
    def reader(self, key: str) -> Iterator[IO[bytes]]:
        assert key.endswith("/database-0.zst.age")
        yield io.BytesIO(self.content)


class Keys:
    """The identities of an operator."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        _changed, self.keys = identities.bring_about(directory, ["operator", "other"], [], check_mode=False)

    def file(self, name: str) -> str:
        return str(self.directory / f"{name}.txt")

    def recipient(self, name: str) -> str:
        return str(next(key["recipient"] for key in self.keys if key["name"] == name))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture(scope="module")
def sealed(keys: Keys) -> bytes:
    return subprocess.run(["age", "--recipient", keys.recipient("operator")], input=PLAIN, capture_output=True, check=True).stdout


def manifest(sealed: bytes, keys: Keys) -> dict[str, Any]:
    part = {**restoring.part("database-0.zst.age", "database", "/x", b""), "size": len(sealed), "sha256": hashlib.sha256(sealed).hexdigest()}
    return {**restoring.manifest(part), "recipients": [keys.recipient("operator")]}


def read(content: bytes, about: dict[str, Any], identity: list[str], text: str = "", piece_bytes: int = 65536) -> list[bytes]:
    store: Any = Bucket(content)
    return list(restore_stream.pieces(store, about, about["parts"][0], identity, text, piece_bytes))


def test_a_part_comes_in_pieces(sealed: bytes, keys: Keys) -> None:
    found = read(sealed, manifest(sealed, keys), [keys.file("operator")])
    assert b"".join(found) == PLAIN
    assert {len(piece) for piece in found[:-1]} == {65536}


def test_f60_an_identity_that_is_in_no_file_is_in_no_argument_either(sealed: bytes, keys: Keys) -> None:
    text = Path(keys.file("operator")).read_text()
    assert b"".join(read(sealed, manifest(sealed, keys), [], text)) == PLAIN


def test_one_of_several_identities_is_enough(sealed: bytes, keys: Keys) -> None:
    assert b"".join(read(sealed, manifest(sealed, keys), [keys.file("other"), keys.file("operator")])) == PLAIN


def test_f20_a_wrong_identity_is_told_whose_the_backup_is(sealed: bytes, keys: Keys) -> None:
    with pytest.raises(FleetError, match="cannot be opened with this identity") as refused:
        read(sealed, manifest(sealed, keys), [keys.file("other")])
    assert f"It was made for:\n    {keys.recipient('operator')}\n  → " in str(refused.value)


def test_f20_a_file_that_holds_no_identity(sealed: bytes, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no identity at all\n")
    with pytest.raises(FleetError, match="age cannot use the identity: reading "):
        read(sealed, manifest(sealed, keys), [str(tmp_path / "notes.txt")])


def flipped(at: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        where = int(len(content) * at)
        return content[:where] + bytes([content[where] ^ 4]) + content[where + 1 :]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda content: content[:-1], r"has \d+ bytes in the store, its manifest says \d+", id="a-byte-short"),
        pytest.param(lambda content: content[: len(content) // 2], r"has \d+ bytes in the store", id="half"),
        pytest.param(lambda content: content + b"x", r"has \d+ bytes in the store", id="a-byte-more"),
        pytest.param(lambda content: b"", "has 0 bytes in the store", id="empty"),
        pytest.param(flipped(0.5), "is not the object that was uploaded", id="bit-flipped-in-the-middle"),
        pytest.param(flipped(0.999), "is not the object that was uploaded", id="bit-flipped-at-the-end"),
    ],
)
def test_f19_a_damaged_object_is_an_error_although_age_gives_most_of_it(
    change: Callable[[bytes], bytes], said: str, sealed: bytes, keys: Keys
) -> None:
    with pytest.raises(FleetError, match=said):
        read(change(sealed), manifest(sealed, keys), [keys.file("operator")])


def test_f19_an_object_that_was_damaged_before_its_manifest_was_written(sealed: bytes, keys: Keys) -> None:
    damaged = flipped(0.5)(sealed)
    with pytest.raises(FleetError, match="cannot be decrypted"):
        read(damaged, manifest(damaged, keys), [keys.file("operator")])


def test_who_stops_reading_leaves_nothing_behind(sealed: bytes, keys: Keys) -> None:
    about = manifest(sealed, keys)
    store: Any = Bucket(sealed * 3)
    stream = restore_stream.pieces(store, about, about["parts"][0], [keys.file("operator")], "", 1000)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator has it


# Identities


def test_identities_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    changed, keys = identities.bring_about(tmp_path / "keys", ["operator"], [], check_mode=False)
    file = tmp_path / "keys" / "operator.txt"
    before = file.read_bytes()
    assert (changed, keys[0]["here"], file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (True, True, 0o600, 0o700)
    assert keys[0]["recipient"].startswith("age1")
    assert identities.bring_about(tmp_path / "keys", ["operator"], [], check_mode=False) == (False, keys)
    assert file.read_bytes() == before


def test_a_rotated_identity_still_opens_old_backups(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    _changed, (old,) = identities.bring_about(directory, ["operator"], [], check_mode=False)
    changed, (new,) = identities.bring_about(directory, ["operator"], ["operator"], check_mode=False)
    assert (changed, new["former"]) == (True, [old["recipient"]])
    for recipient in (old["recipient"], new["recipient"]):
        sealed = subprocess.run(["age", "--recipient", recipient], input=PLAIN, capture_output=True, check=True).stdout
        about = {**restoring.part("database-0.zst.age", "database", "/x", b""), "size": len(sealed), "sha256": hashlib.sha256(sealed).hexdigest()}
        assert b"".join(read(sealed, restoring.manifest(about), [new["file"]])) == PLAIN


def test_an_identity_that_was_taken_to_a_safe_place_is_not_made_anew(tmp_path: Path) -> None:
    _changed, (key,) = identities.bring_about(tmp_path, ["offline"], [], check_mode=False)
    (tmp_path / "offline.txt").unlink()
    assert identities.bring_about(tmp_path, ["offline"], [], check_mode=False) == (False, [{**key, "here": False}])
    with pytest.raises(FleetError, match=r"offline.txt is not here, only its recipient is"):
        identities.bring_about(tmp_path, ["offline"], ["offline"], check_mode=False)


@pytest.mark.parametrize(
    ("names", "rotate", "said"),
    [
        pytest.param(["../x"], [], "'../x' cannot name an identity", id="path"),
        pytest.param(["operator"], ["drill"], "drill: no identity of this name is to be rotated; there are: operator", id="unknown"),
    ],
)
def test_names_of_identities(names: list[str], rotate: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=said):
        identities.bring_about(tmp_path, names, rotate, check_mode=False)


def test_f60_an_identity_that_others_can_read_is_refused(tmp_path: Path) -> None:
    identities.bring_about(tmp_path, ["operator"], [], check_mode=False)
    (tmp_path / "operator.txt").chmod(0o644)
    with pytest.raises(FleetError, match="can be read by others\n  → chmod 600"):
        identities.bring_about(tmp_path, ["operator"], [], check_mode=False)


def test_check_mode_makes_nothing(tmp_path: Path) -> None:
    changed, keys = identities.bring_about(tmp_path / "keys", ["operator"], [], check_mode=True)
    assert (changed, keys[0]["recipient"], (tmp_path / "keys").exists()) == (True, "", False)
