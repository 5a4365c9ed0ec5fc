# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of strangers: what is found in them, and what is refused."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import archive
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

PROGRAM = b"#!/bin/sh\necho toyd 1.0.0\n"


def tar(path: Path, members: list[tarfile.TarInfo], mode: str = "w:gz") -> Path:
    """Write a tar archive; files get PROGRAM as their content."""
    with tarfile.open(path, mode) as opened:
        for member in members:
            if member.isreg():
                member.size = len(PROGRAM)
            opened.addfile(member, io.BytesIO(PROGRAM) if member.isreg() else None)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, target, mode
    return member


GOOD = [
    ("toyd-1.0.0", tarfile.DIRTYPE, ""),
    ("toyd-1.0.0/toyd", tarfile.REGTYPE, ""),
    ("toyd-1.0.0/lib/toy.so", tarfile.REGTYPE, ""),
    ("toyd-1.0.0/toyctl", tarfile.SYMTYPE, "toyd"),
    ("toyd-1.0.0/toy-hard", tarfile.LNKTYPE, "toyd-1.0.0/toyd"),
]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param("tar", "w:", id="plain"),
        pytest.param("tar.gz", "w:gz", id="gz"),
        pytest.param("tar.xz", "w:xz", id="xz"),
        pytest.param("tar.bz2", "w:bz2", id="bz2"),
    ],
)
def test_tar_round_trip(tmp_path: Path, kind: str, mode: str) -> None:
    path = tar(tmp_path / "a", [entry(*member) for member in GOOD], mode)
    out = tmp_path / "out"
    out.mkdir()
    archive.unpack(path, kind, archive.contents(path, kind), out)
    assert (out / "toyd-1.0.0/toyctl").read_bytes() == PROGRAM
    assert (out / "toyd-1.0.0/toy-hard").read_bytes() == PROGRAM
    assert (out / "toyd-1.0.0/toyd").stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(not shutil.which("zstd"), reason="needs zstd")
def test_tar_zst_round_trip(tmp_path: Path) -> None:
    plain = tar(tmp_path / "a.tar", [entry(*member) for member in GOOD], "w:")
    archive.subprocess.run(["zstd", "-q", str(plain)], check=True)
    out = tmp_path / "out"
    out.mkdir()
    path = tmp_path / "a.tar.zst"
    archive.unpack(path, "tar.zst", archive.contents(path, "tar.zst"), out)
    assert (out / "toyd-1.0.0/toyctl").read_bytes() == PROGRAM


def test_zip_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as opened:
        program = zipfile.ZipInfo("toyd-1.0.0/toyd")
        program.external_attr, program.create_system = 0o100755 << 16, 3
        opened.writestr(program, PROGRAM)
        link = zipfile.ZipInfo("toyd-1.0.0/toyctl")
        link.external_attr, link.create_system = 0o120777 << 16, 3
        opened.writestr(link, "toyd")
    out = tmp_path / "out"
    out.mkdir()
    archive.unpack(path, "zip", archive.contents(path, "zip"), out)
    assert (out / "toyd-1.0.0/toyctl").read_bytes() == PROGRAM


@pytest.mark.parametrize(
    ("members", "said"),
    [
        pytest.param([("/etc/cron.d/x", tarfile.REGTYPE, "")], "unsafe path", id="absolute"),
        pytest.param([("a/../../x", tarfile.REGTYPE, "")], "unsafe path", id="dot-dot"),
        pytest.param([("dev", tarfile.CHRTYPE, "")], "no file, directory or link", id="device"),
        pytest.param([("pipe", tarfile.FIFOTYPE, "")], "no file, directory or link", id="pipe"),
        pytest.param([("x", tarfile.SYMTYPE, "/etc")], "leads out", id="absolute-link"),
        pytest.param([("x", tarfile.SYMTYPE, "../../etc")], "leads out", id="link-upwards"),
        pytest.param([("a/b/deep", tarfile.SYMTYPE, "../.."), ("out", tarfile.SYMTYPE, "a/b/deep/../x")], "leads out", id="links-that-conspire"),
        pytest.param([("x", tarfile.SYMTYPE, "."), ("x/y", tarfile.REGTYPE, "")], "lies below x", id="file-below-a-link"),
        pytest.param([("x", tarfile.REGTYPE, ""), ("x/y", tarfile.REGTYPE, "")], "lies below x", id="file-below-a-file"),
        pytest.param([("x", tarfile.REGTYPE, ""), ("./x", tarfile.REGTYPE, "")], "holds x twice", id="twice"),
        pytest.param([("x", tarfile.LNKTYPE, "nowhere")], "which is no file of it", id="hard-link-to-nothing"),
    ],
)
def test_unsafe_members_are_refused(tmp_path: Path, members: list[tuple[str, bytes, str]], said: str) -> None:
    path = tar(tmp_path / "a.tar.gz", [entry(*member) for member in members])
    out = tmp_path / "parent" / "out"
    out.mkdir(parents=True)
    with pytest.raises(FleetError, match=said):
        archive.unpack(path, "tar.gz", archive.contents(path, "tar.gz"), out)
    assert list((tmp_path / "parent").iterdir()) == [out]


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind) for kind in ("tar.gz", "zip")])
def test_what_is_no_archive_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    path.write_text("<html>Not found</html>")
    with pytest.raises(FleetError, match=rf"no readable {kind} archive .*begins with 3c 68 74 6d 6c"):
        archive.contents(path, kind)


def test_a_cut_off_archive_is_named(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar.gz", [entry("toyd")])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(FleetError, match="archive"):
        archive.contents(path, "tar.gz")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("https://example.org/toyd-1.0.0.tar.gz", "tar.gz", id="tar.gz"),
        pytest.param("https://example.org/toyd.TGZ?token=x.zip", "tar.gz", id="query-ignored"),
        pytest.param("/srv/toyd-1.0.0.zip", "zip", id="zip-file"),
        pytest.param("/srv/what?.tar.xz", "tar.xz", id="a-question-mark-in-a-file-name"),
        pytest.param("https://example.org/toyd-linux-amd64", "binary", id="binary"),
    ],
)
def test_format_of(name: str, kind: str) -> None:
    assert archive.format_of(name) == kind


@pytest.mark.parametrize(
    ("path", "found"),
    [
        pytest.param("toyd-1.0.0/bin/toyd", "toyd-1.0.0/bin/toyd", id="whole-path"),
        pytest.param("bin/toyd", "toyd-1.0.0/bin/toyd", id="end-of-the-path"),
        pytest.param("toyctl", "toyd-1.0.0/toyctl", id="file-name"),
    ],
)
def test_find_binary(path: str, found: str) -> None:
    assert archive.find_binary(MEMBERS, "toyd", path) == found


MEMBERS = {
    path: archive.Member(path, kind)
    for path, kind in [("toyd-1.0.0/bin/toyd", "file"), ("toyd-1.0.0/toyctl", "file"), ("toyd-1.0.0/share/toyd", "file"), ("x/toyctl", "directory")]
}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("toyd", "toyd is there 2 times", id="ambiguous"),
        pytest.param("nats", "the archive has no nats", id="missing"),
        pytest.param("x/toyctl", "the archive has no x/toyctl", id="a-directory"),
    ],
)
def test_a_binary_that_is_not_found_lists_what_there_is(path: str, said: str) -> None:
    with pytest.raises(FleetError, match=rf"{said}, which should be the binary b; it holds\n    toyd-1\.0\.0/bin/toyd\n"):
        archive.find_binary(MEMBERS, "b", path)
