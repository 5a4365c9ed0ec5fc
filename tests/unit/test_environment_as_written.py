# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon's environment is byte for byte what the inventory says, whoever reads the unit: systemd, or the commands beside the daemon."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import service_process, unit_text

SYSTEMD = Path("/lib/systemd/systemd")
MEANINGFUL = " \t\n\"'\\\\$%#;={}[]`~!*&|<>?,:\u00fc\u2028\x85\xa0\U0001f525ns0x"
"""Characters that systemd, a shell or Python's own reading of lines could make something of, alone and together."""

VALUES = [
    *("", "info", "a b", "  two  ", "\\n", "\\", "\\\\", "%%", "%n.service", "%h/x", "100%", "$HOME", "${HOME}", "$$", "$(id)", "`id`"),
    *('say "hi"', "it's", '"', "'", '"quoted"', "a=b=c", "#no comment", ";", "a\\", "\\x41\\101", "-", "@x", "+x", "!x", "a,b", "/a:/b"),
    *('{"a": ["b c", "\\\\n"]}', "one\ntwo\n", "\nUser=root\n[Install]\n", "-----BEGIN KEY-----\nMIIB/+==\n-----END KEY-----\n", "x" * 5000),
    *("".join(pair) for pair in itertools.product(MEANINGFUL, repeat=2)),
    *(f"a{character}b" for character in MEANINGFUL),
]
ENVIRONMENT = {f"V{number:04}": value for number, value in enumerate(VALUES)}
UNIT = "\n".join(
    ["[Unit]", "DefaultDependencies=no", "[Service]", "ExecStart=/bin/true"]
    + [f"Environment={unit_text.word(f'{name}={value}', 'here')}" for name, value in ENVIRONMENT.items()]
)


def differing(found: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    return {name: (value, found.get(name)) for name, value in ENVIRONMENT.items() if found.get(name) != value}


@pytest.fixture
def unit_directory() -> Iterator[Path]:
    """Yield a directory that everybody can use, with the unit in it."""
    with tempfile.TemporaryDirectory() as path:
        directory = Path(path)
        directory.chmod(0o777)
        (directory / "relay.service").write_text(UNIT)
        yield directory


def test_commands_beside_the_daemon_find_what_was_written() -> None:
    words = [word for value in service_process.read_settings([UNIT])["Environment"] for word in service_process.read_words(value)]
    assert differing(dict(word.split("=", 1) for word in words)) == {}


@pytest.mark.skipif(not SYSTEMD.exists(), reason="asks the systemd of this machine")
def test_systemd_finds_what_was_written(unit_directory: Path) -> None:
    done = subprocess.run(
        [str(SYSTEMD), "--test", "--user", "--unit=relay.service", "--no-pager", "--log-target=console"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        user="nobody" if os.geteuid() == 0 else None,  # root gets no dry run
        env={"HOME": "/", "XDG_RUNTIME_DIR": str(unit_directory), "SYSTEMD_UNIT_PATH": str(unit_directory), "LC_ALL": "C.UTF-8"},
    )
    if "-> Unit relay.service:" not in done.stdout:
        pytest.skip(f"no dry run of systemd here: {done.stderr.strip()[-200:]}")
    shown = done.stdout.partition("-> Unit relay.service:")[2]
    found = dict(
        re.findall(r"^\t\tEnvironment: (V\d{4})=(.*?)\n(?=\t\t(?:Environment: V\d{4}=|RuntimeDirectory\w+: ))", shown, re.MULTILINE | re.DOTALL)
    )
    assert differing(found) == {}
