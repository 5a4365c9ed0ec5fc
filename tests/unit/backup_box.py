# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that makes backups, below a directory: stand-ins for age, zstd and rclone, which fail when they are told to.

The stand-in of age turns every bit of what follows its header; that of rclone keeps objects as files.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import backup_manifest, backup_run
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Store

RECIPIENT = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
_TURNED = bytes(255 - byte for byte in range(256))

_PRELUDE = """#!{python} -IS
import json, os, shutil, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
here = os.path.dirname(os.path.abspath(__file__))
program, words = os.path.basename(__file__), sys.argv[1:]
with open(os.path.join(here, "calls"), "a") as file:
    file.write(json.dumps([program, *words]) + "\\n")

def fault():
    path = os.path.join(here, "faults.json")
    if not os.path.exists(path):
        return {{}}
    faults = json.load(open(path))
    for one in faults:
        if one["program"] == program and one["count"] > 0 and one.get("word", "") in " ".join(words):
            one["count"] -= 1
            with open(path + "." + program, "w") as file:  # the programs of a pipeline run at the same time
                json.dump(faults, file)
            os.replace(file.name, path)
            return one
    return {{}}

now = fault()
if now.get("kill"):
    os.kill(os.getppid(), signal.SIGKILL)
if now.get("say"):
    sys.stderr.write(now["say"] + "\\n")
"""

_FILTER = """
source, sink = sys.stdin.buffer, sys.stdout.buffer
if now.get("cut"):
    sink.write(source.read(now["cut"]))
    sink.flush()
    os._exit(now["code"])
if now.get("code"):
    sys.exit(now["code"])
"""

_PROGRAMS = {
    "zstd": _FILTER + "shutil.copyfileobj(source, sink)\n",
    "age": _FILTER
    + """
turned = bytes(255 - byte for byte in range(256))
header = b"age-encryption.org/v1\\n"
if "--decrypt" in words:
    if source.read(len(header)) != header:
        sys.exit("no age file")
else:
    if not all(word.startswith(("age1", "ssh-")) for option, word in zip(words, words[1:]) if option == "--recipient"):
        sys.exit('age: error: malformed recipient')
    sink.write(b"" if now.get("plain") else header)
for chunk in iter(lambda: source.read(65536), b""):
    sink.write(chunk.translate(turned))
""",
    "rclone": """
if now.get("code"):
    sys.exit(now["code"])
values = {"--config", "--retries", "--low-level-retries", "--log-level", "--stats", "--stats-log-level", "--timeout", "--contimeout", "--ca-cert",
          "--s3-upload-cutoff", "--s3-chunk-size", "--buffer-size", "--multi-thread-streams", "--bwlimit", "--header", "--count",
          "--files-from-raw", "--max-delete"}
given, plain = {}, []
rest = iter(words)
for word in rest:
    if word in values:
        given[word] = next(rest)
    elif not word.startswith("--"):
        plain.append(word)
objects = os.path.join(here, "objects")
at = lambda name: os.path.join(objects, name.split(":", 1)[1])
verb, args = plain[0], plain[1:]
if verb == "copyto":
    source = at(args[0]) if args[0].startswith("store:") else args[0]
    target = at(args[1]) if args[1].startswith("store:") else args[1]
    if "If-None-Match: *" in given.get("--header", "") and os.path.exists(target):
        sys.stderr.write("PreconditionFailed: At least one of the pre-conditions you specified did not hold status code: 412\\n")
        sys.exit(1)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(source, target)
    size = os.path.getsize(source)
    sys.stderr.write(json.dumps({"level": "notice", "msg": "stats", "stats": {"bytes": now.get("sent", size)}}) + "\\n")
elif verb == "cat":
    if os.path.isfile(at(args[0])):
        data = open(at(args[0]), "rb").read()
        sys.stdout.buffer.write(data[: int(given.get("--count", len(data)))])
elif verb == "lsjson":
    top, rows = at(args[0]), []
    for directory, _names, names in os.walk(top):
        if directory.rstrip("/") == top.rstrip("/") or "--recursive" in words:
            rows += [os.path.join(directory, name) for name in names]
    print(json.dumps([{"Path": os.path.relpath(row, top), "Size": os.path.getsize(row), "ModTime": "2026-11-21T00:00:00Z"} for row in rows]))
elif verb == "delete":
    os.unlink(os.path.join(at(args[0]), open(given["--files-from-raw"]).read().strip()))
""",
}


class Clock:
    """The host's clock, and how far it is ahead of the store's."""

    def __init__(self) -> None:
        self.now, self.skew = 1795270500.0, 0

    def __call__(self) -> float:
        return self.now


class Box:
    """A host with a database, a job for it, and a store."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.home, self.bin = root, root / "state/relay.data", root / "bin"
        self.database, self.files = root / "node/relay.db", root / "node/tls"
        self.clock = Clock()
        self.told: list[str] = []
        for directory in (self.home, self.bin / "objects", self.files):
            directory.mkdir(parents=True)
        for name, text in _PROGRAMS.items():
            program = self.bin / name
            program.write_text(_PRELUDE.format(python=sys.executable) + text)
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")
        (self.files / "key.pem").write_text("key")
        (root / "opt").mkdir()
        (root / "opt/current").symlink_to("releases/1.4.2")
        self.write("CREATE TABLE kv (key TEXT)", "PRAGMA journal_mode = WAL", "INSERT INTO kv VALUES ('a')")

    def write(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.database, isolation_level=None)) as database:
            for statement in statements:
                database.execute(statement)

    def order(self, **changes: Any) -> dict[str, Any]:
        return {
            "service": "relay",
            "set": "data",
            "host": "relay1",
            "class": "data-30d",
            "keep_days": 30,
            "refresh_days": 8,
            "databases": [{"path": str(self.database), "engine": "sqlite", "tables": ["kv"], "sentinel": "SELECT count(*) FROM kv"}],
            "files": [],
            "command": [],
            "recipients": [RECIPIENT],
            "bucket": "fleet",
            "prefix": "",
            "endpoint": "http://127.0.0.1:1",
            "bandwidth": "",
            "metrics_directory": str(self.root / "metrics"),
            "max_age": 10800,
            "release_home": str(self.root / "opt"),
            "user": "relay",
            **changes,
        }

    def store(self, **changes: Any) -> Store:
        return Store(self.root / "rclone.conf", "fleet", sleep=lambda _seconds: None, tell=self.told.append, **changes)

    def run(self, **changes: Any) -> dict[str, Any]:
        skew = self.clock.skew
        return backup_run.run(self.order(**changes), self.home, self.store(), skew_seconds=lambda: skew, now=self.clock, tell=self.told.append)

    def in_child(self, act: Callable[[], object]) -> int:
        """Do something in another process; return the signal that killed it, or 0."""
        pid = os.fork()
        if pid == 0:
            try:
                act()
            finally:
                os._exit(0)
        return os.WTERMSIG(os.waitpid(pid, 0)[1])

    def fail(self, program: str, count: int = 1, **how: Any) -> None:
        """Let a program fail so many times, where ``word`` is among its arguments.

        ``say`` and ``code``; ``cut``: bytes until it ends; ``kill``: its parent; ``sent``: bytes it claims; ``plain``: without a header.
        """
        (self.bin / "faults.json").write_text(json.dumps([{"program": program, "count": count, **how}]))

    def heal(self) -> None:
        (self.bin / "faults.json").unlink(missing_ok=True)

    def calls(self, program: str) -> list[list[str]]:
        lines = [json.loads(line) for line in (self.bin / "calls").read_text().splitlines()]
        return [words for found, *words in lines if found == program]

    def forget_calls(self) -> None:
        (self.bin / "calls").unlink(missing_ok=True)

    @property
    def objects(self) -> dict[str, bytes]:
        top = self.bin / "objects/fleet"
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """The manifests in the store, the oldest first."""
        found = [backup_manifest.parse(content) for key, content in self.objects.items() if key.endswith("/manifest.json")]
        return sorted(found, key=lambda manifest: manifest["sequence"])

    def plain(self, key: str) -> bytes:
        """Return what an object holds, decrypted."""
        content = self.objects[key]
        assert content.startswith(b"age-encryption.org/v1\n")
        return content.partition(b"\n")[2].translate(_TURNED)

    @property
    def left_over(self) -> list[str]:
        """Whatever lies below the job's directory, but for its state and its lock."""
        return [str(path.relative_to(self.home)) for path in sorted(self.home.rglob("*")) if path.name not in ("state.json", "lock", "spool")]


SIGKILL = int(signal.SIGKILL)
