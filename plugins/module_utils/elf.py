# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For which machine a program was built, read from its first bytes.

Architectures carry dpkg's names. What counts is the userland's, never the kernel's: a 64-bit kernel below a 32-bit
Raspberry Pi OS is still an ``armhf`` host.
"""

from __future__ import annotations

from pathlib import Path

HEADER_BYTES = 64
"""How much of a file the functions here want to see."""

_MACHINES = {3: "i386", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 258: "loong64"}
_POWERPC_64 = 21
_ARM_HARD_FLOAT = 0x400
_ARM_FLAGS_OFFSET = 36

_FOREIGN = (
    (b"#!", "script"),
    (b"MZ", "a Windows program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xca\xfe\xba\xbe", "a macOS program"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"BZh", "a bzip2 archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"!<arch>\n", "a Debian package or a library"),
)


def header_of(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(HEADER_BYTES)


def machine(header: bytes) -> str:
    """Return the machine an ELF file was built for (``amd64``, ``arm64``, ``arm``, ...); empty when it is no ELF file."""
    if not header.startswith(b"\x7fELF") or len(header) < 20:
        return ""
    little = header[5] == 1
    number = int.from_bytes(header[18:20], "little" if little else "big")
    if number == _POWERPC_64:
        return "ppc64el" if little else "ppc64"
    return _MACHINES.get(number, f"machine {number}")


def complaint(header: bytes, architecture: str) -> str:
    """Return why a program with this header cannot run on ``architecture`` (dpkg's name); empty when it can.

    Of 32-bit Arm programs the header does not say reliably which float convention they want (Go's say nothing), so any
    of them passes for ``armhf`` and ``armel``. Scripts run everywhere.
    """
    built_for = machine(header)
    if built_for:
        fits = built_for == architecture or (built_for == "arm" and architecture in ("armhf", "armel"))
        return "" if fits else f"it is built for {built_for}"
    kind = next((kind for start, kind in _FOREIGN if header.startswith(start)), "neither an ELF program nor a script")
    return "" if kind == "script" else f"it is {kind}"


def host_architecture(root: str = "/") -> str:
    """Return what ``dpkg --print-architecture`` prints, without running it; empty where there is no dpkg.

    dpkg prints the architecture that it was itself built for, and that stands in its header.
    """
    try:
        header = header_of(Path(root) / "usr/bin/dpkg")
    except OSError:
        return ""
    found = machine(header)
    if found != "arm":
        return found
    flags = int.from_bytes(header[_ARM_FLAGS_OFFSET : _ARM_FLAGS_OFFSET + 4], "little")
    return "armhf" if flags & _ARM_HARD_FLOAT else "armel"
