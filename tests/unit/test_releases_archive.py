# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of strangers: what is found in them, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import archive, staging
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
        pytest.param([("./", tarfile.SYMTYPE, "x")], "holds a link without a name", id="without-a-name"),
    ],
)
def test_unsafe_members_are_refused(tmp_path: Path, members: list[tuple[str, bytes, str]], said: str) -> None:
    path = tar(tmp_path / "a.tar.gz", [entry(*member) for member in members])
    out = tmp_path / "parent" / "out"
    out.mkdir(parents=True)
    with pytest.raises(FleetError, match=said):
        archive.unpack(path, "tar.gz", archive.contents(path, "tar.gz"), out)
    assert list((tmp_path / "parent").iterdir()) == [out]


def test_a_member_of_negative_size_is_refused() -> None:
    member = entry("toyd")
    member.size = -512
    # Some versions of Python end such an archive before that member, others read it for ever.
    with pytest.raises(FleetError, match="toyd declares a size of -512 bytes"):
        list(archive._tar_members([member]))  # type: ignore[arg-type]


def test_f57_what_would_fill_the_disk_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar.gz", [entry(f"file-{number}") for number in range(100)])
    seen = []

    def want_room(needed_bytes: int) -> None:
        seen.append(needed_bytes)
        if len(seen) == 3:
            raise FleetError("no room")

    with pytest.raises(FleetError, match="no room"):
        archive.contents(path, "tar.gz", want_room)
    assert seen == [len(PROGRAM), 2 * len(PROGRAM), 3 * len(PROGRAM)]


def zstd(content: bytes) -> bytes:
    return archive.subprocess.run(["zstd", "-qc"], input=content, capture_output=True, check=True).stdout


PACKERS = [
    pytest.param("gz", gzip.compress, id="gz"),
    pytest.param("xz", lzma.compress, id="xz"),
    pytest.param("bz2", bz2.compress, id="bz2"),
    pytest.param("zst", zstd, id="zst", marks=pytest.mark.skipif(not shutil.which("zstd"), reason="needs zstd")),
]


@pytest.mark.parametrize(("kind", "pack"), PACKERS)
def test_a_compressed_program_is_expanded(tmp_path: Path, kind: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "toyd"
    path.write_bytes(pack(PROGRAM))
    archive.expand(path, kind, tmp_path / "out", lambda _bytes: None)
    assert (tmp_path / "out").read_bytes() == PROGRAM


@pytest.mark.parametrize(("kind", "pack"), PACKERS)
@pytest.mark.parametrize("whole", [pytest.param(True, id="not-it"), pytest.param(False, id="cut")])
def test_a_compressed_program_that_is_damaged_is_named(tmp_path: Path, kind: str, pack: Callable[[bytes], bytes], whole: bool) -> None:
    path = tmp_path / "toyd"
    path.write_bytes(b"<html>Not found</html>" if whole else pack(random.Random(1).randbytes(100_000))[:-9])
    with pytest.raises(FleetError, match=f"it is no readable {kind} file|the {kind} file is damaged|packed is damaged"):
        archive.expand(path, kind, tmp_path / "out", lambda _bytes: None)


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
        pytest.param("https://example.org/toyd-linux-amd64.gz", "gz", id="compressed-binary"),
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


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(archive.Member("toyd-1.0.0/completions/toyd", "file"), id="a-shells-completion"),
        pytest.param(archive.Member("toyd-1.0.0/sbin/toyd", "link", target="../bin/toyd"), id="a-link-to-it"),
    ],
)
def test_of_several_files_called_like_the_binary_the_only_program_is_meant(other: archive.Member) -> None:
    program = archive.Member("toyd-1.0.0/bin/toyd", "file", executable=True)
    assert archive.find_binary({one.path: one for one in (program, other)}, "toyd", "toyd") == program.path


@pytest.mark.parametrize(
    ("paths", "top"),
    [
        pytest.param(["toyd-1.0.0/bin/toyd", "toyd-1.0.0/share/toyd"], "toyd-1.0.0", id="one-directory"),
        pytest.param(["toyd-1.0.0/toyd", "README"], "", id="something-beside-it"),
        pytest.param(["toyd"], "", id="one-file"),
        pytest.param(["bin/toyd", "bin/toyctl"], "", id="where-programs-belong"),
        pytest.param([], "", id="empty"),
    ],
)
def test_the_directory_that_an_archive_is_packed_in(paths: list[str], top: str) -> None:
    assert archive.wrapper({path: archive.Member(path, "file") for path in paths}) == top


@pytest.mark.parametrize("target", ["../toyd", "../toyd-1.0.0/toyd"])
def test_a_link_out_of_the_directory_that_an_archive_is_packed_in_is_refused(target: str, tmp_path: Path) -> None:
    path = tar(tmp_path / "a", [entry("toyd-1.0.0/toyd"), entry("toyd-1.0.0/escape", tarfile.SYMTYPE, target)])
    out = tmp_path / "out"
    out.mkdir()
    archive.unpack(path, "tar.gz", archive.contents(path, "tar.gz"), out)
    with pytest.raises(FleetError, match=f"link escape -> {re.escape(target)} leads out of the release"):
        staging._unwrap(out, "toyd-1.0.0")


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
    listed = rf"{said}, which should be the binary b; it holds\n    toyd-1\.0\.0/bin/toyd\n"
    with pytest.raises(FleetError, match=rf"{listed}(.*\n)+  → say which one .* such as binaries: {{b: bin/toyd}}$"):
        archive.find_binary(MEMBERS, "b", path)
