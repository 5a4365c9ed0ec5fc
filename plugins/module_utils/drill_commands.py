# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hearthctl drill``: what a person on the runner types to restore backups into a sandbox and to see what came of it, and what systemd runs."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import command_line, drill_report, drill_run, drill_sandbox, journal
from ansible_collections.hearth.fleet.plugins.module_utils.command_line import tell
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Store

CONFIG = Path("/etc/hearth/drill")
STATE = Path("/var/lib/hearth/drill")
UNIT = "hearth-drill.service"
SETTINGS, CREDENTIAL, IDENTITY, CA, REPORT = "settings.json", "rclone.conf", "identity", "ca.pem", "report.json"
METRICS = "hearth_drill.prom"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``hearthctl drill …`` with the words that follow; return its exit status: 1 where a drill failed or is overdue."""
    parser = argparse.ArgumentParser(prog="hearthctl drill", description="Prove that backups come back, and see what came of it.")
    add_verbs(parser.add_subparsers(metavar="VERB", required=True))
    words = sys.argv[2:] if arguments is None else arguments
    return command_line.run(parser, words, goes_on="a drill that was begun goes on by itself; hearthctl drill status shows it")


def add_verbs(verbs: Any) -> None:
    """Add the commands to the subparsers of ``hearthctl drill``."""
    command_line.add(verbs, "run", _run, "restore the newest backups at once, and wait for what comes of it")
    status = command_line.add(verbs, "status", _status, "what the last drill came to, and whether one is overdue")
    status.add_argument("--json", action="store_true", help="as JSON")
    command_line.add(verbs, "perform", _perform, "what systemd runs; for people: run")
    command_line.add(verbs, "tidy", _tidy, "what systemd runs afterwards")
    command_line.add(verbs, "ask", _ask, "what is run in the sandbox, to ask the daemon")
    guard = command_line.add(verbs, "guard", _guard, "what is run in the sandbox, before the daemon")
    guard.add_argument("unseen", nargs="*", metavar="PATH")


def orders() -> list[dict[str, Any]]:
    """Return the orders of this runner, with ``since`` when it has each."""
    return [{**_read(path), "since": path.stat().st_mtime} for path in sorted((CONFIG / "orders").glob("*.json"))]


def settings() -> dict[str, Any]:
    """Return what holds for all orders. Raises FleetError on a host that is no runner."""
    if not (CONFIG / SETTINGS).exists():
        raise FleetError("this host runs no drills\n  → set drill_runner: true for it, and run site.yml")
    return _read(CONFIG / SETTINGS)


def report() -> dict[str, Any] | None:
    """Return the report of the last drill; None where there is none."""
    try:
        return _read(STATE / REPORT)
    except FileNotFoundError:
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise FleetError(f"{path} is torn\n  → converge the host again") from None
    if not isinstance(found, dict):
        raise FleetError(f"{path} is not what it should be\n  → converge the host again")
    return found


# What people type


def _run(options: argparse.Namespace) -> int:
    _want_root()
    settings()
    began = time.time()
    subprocess.run(  # pylint: disable=ansible-bad-function  # no module here
        ["systemctl", "--no-ask-password", "start", "--", UNIT], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    found = report()
    if not found or found["ended"] < began:
        raise FleetError(f"the drill did not come to its end\n  → journalctl -u {UNIT}")
    options.json = False
    return _status(options)


def _status(options: argparse.Namespace) -> int:
    _want_root()
    found, now = report(), time.time()
    said = drill_report.problems(found, orders(), settings()["max_age"], now)
    if options.json:
        running = drill_run.is_running(_place())
        tell(json.dumps({"report": found, "problems": said, "running": running}, ensure_ascii=False, indent=1))
    else:
        tell(drill_report.render(found, now))
        for problem in (one for host in said.values() for one in host):
            tell(f"\n{problem}")
    return int(bool(said))


def _want_root() -> None:
    command_line.want_root("drill", "drill …")


# What systemd runs


def _place() -> drill_run.Place:
    return drill_run.Place(STATE, _credential(IDENTITY))


def _credential(name: str) -> Path:
    return Path(os.environ.get("CREDENTIALS_DIRECTORY") or CONFIG, name)


def _perform(options: argparse.Namespace) -> int:
    del options
    _want_root()
    signal.signal(signal.SIGTERM, _stop)
    os.umask(0o022)  # what is in the way to restored data must let the account of the sandbox pass; nobody else comes that far
    told = settings()
    ca = str(CONFIG / CA) if (CONFIG / CA).exists() else ""
    store = Store(_credential(CREDENTIAL), told["bucket"], told["prefix"], ca, tell=tell)
    found = drill_run.perform(orders(), told, store, _place(), report(), tell)
    journal.write_whole(STATE / REPORT, json.dumps(found, ensure_ascii=False, indent=1).encode(), durable=True)
    _export(Path(told["metrics_directory"]), drill_report.metrics(found, told["max_age"]))
    failed = [f"{row['service']}.{row['set']} of {row['host']}" for row in found["rows"] if not row["ok"]]
    if failed:
        command_line.complain(f"hearthctl: the drill failed: {', '.join(failed)}")
    return int(bool(failed))


def _export(directory: Path, text: str) -> None:
    if directory.is_dir():
        temporary = directory / f".{METRICS}.new"
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o644)
        temporary.replace(directory / METRICS)


def _stop(number: int, frame: object) -> None:
    del frame
    raise SystemExit(128 + number)  # through every `finally`, and past what takes errors of one backup for its own


def _tidy(options: argparse.Namespace) -> int:
    del options
    _want_root()
    place = _place()
    if not drill_run.is_running(place):
        drill_run.tidy(place)
    return 0


# What is run in the sandbox


def _guard(options: argparse.Namespace) -> int:
    drill_sandbox.guard(options.unseen)
    return 0


def _ask(options: argparse.Namespace) -> int:
    del options
    tell(drill_sandbox.ask(sys.stdin.read()))
    return 0
