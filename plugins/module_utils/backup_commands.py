# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hearthctl backup``: what a person on the host types to make backups and to see them, and what systemd runs.

What systemd runs is imported by itself: a backup shall not need more memory for what it does not use.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_clock, backup_metrics, backup_run, command_line, table
from ansible_collections.hearth.fleet.plugins.module_utils.command_line import tell
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Store
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text, size_text

CONFIG = Path("/etc/hearth/backup")
STATE = Path("/var/lib/hearth/backup")
CREDENTIALS = "rclone.conf"
CA = "ca.pem"

_COLUMNS = {"job": "JOB", "newest": "NEWEST", "age": "AGE", "size": "SIZE", "state": "STATE"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``hearthctl backup …`` with the words that follow; return its exit status."""
    parser = argparse.ArgumentParser(prog="hearthctl backup", description="Make and see the backups of this host.")
    add_verbs(parser.add_subparsers(metavar="VERB", required=True))
    words = sys.argv[2:] if arguments is None else arguments
    return command_line.run(parser, words, goes_on="a backup that was begun goes on by itself; hearthctl backup status shows it")


def add_verbs(verbs: Any) -> None:
    """Add the commands to the subparsers of ``hearthctl backup``."""
    now = command_line.add(verbs, "now", _now, "make backups at once, and wait for them")
    now.add_argument("service", nargs="?", metavar="SERVICE", help="of this service alone")
    status = command_line.add(verbs, "status", _status, "what is in the store, and how the last runs went")
    status.add_argument("--json", action="store_true", help="as JSON")
    for name, run, said in (
        ("run", _run, "what systemd runs; for people: now"),
        ("export", _export, "what systemd runs afterwards, to show the metrics"),
    ):
        command_line.add(verbs, name, run, said).add_argument("job", metavar="JOB")


def jobs() -> list[str]:
    """Return the jobs of this host."""
    return sorted(path.stem for path in CONFIG.glob("*.json"))


def order_of(job: str) -> dict[str, Any]:
    """Return the order of a job. Raises FleetError where there is none."""
    try:
        found = json.loads((CONFIG / f"{job}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FleetError(f"{job} is no backup job of this host; known: {', '.join(jobs()) or 'none'}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FleetError(f"{CONFIG / job}.json is torn\n  → converge the host again")
    return found


def unit_of(job: str) -> str:
    """Return the unit that runs a job."""
    return f"hearth-backup-{job}.service"


# What people type


def _now(options: argparse.Namespace) -> int:
    _want_root()
    wanted = [job for job in jobs() if options.service in (None, job, order_of(job)["service"])]
    if not wanted:
        raise FleetError(f"{options.service or 'this host'} has no backups; jobs: {', '.join(jobs()) or 'none'}")
    failed = False
    for job in wanted:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # no module here
            ["systemctl", "--no-ask-password", "start", "--", unit_of(job)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        attempt = backup_run.read_state(STATE / job)["attempt"] or {}
        said = attempt.get("said") or done.stderr.strip() or "it has not said anything"
        tell(f"{job}: {said}" if done.returncode == 0 else f"{job}: FAILED: {said}\n  → journalctl -u {unit_of(job)}")
        failed |= done.returncode != 0
    return int(failed)


def _status(options: argparse.Namespace) -> int:
    _want_root()
    rows = [status_of(job, time.time()) for job in jobs()]
    if options.json:
        tell(json.dumps(rows, ensure_ascii=False, indent=1))
    elif not rows:
        tell("nothing is backed up here")
    else:
        tell(table.render([_row(found) for found in rows], _COLUMNS))
        for found in rows:
            for note in found["notes"]:
                tell(f"\n{found['job']}: {note}")
    return int(any(not found["ok"] for found in rows))


def status_of(job: str, now: float) -> dict[str, Any]:
    """Return where a job stands: ``newest`` in the store, ``age_seconds`` since a run last succeeded, ``state`` in words, whether that is ``ok``."""
    order, home = order_of(job), STATE / job
    state = backup_run.read_state(home)
    last, attempt = state["last"] or {}, state["attempt"] or {}
    succeeded = state.get("success_at")
    age = None if succeeded is None else max(0, int(now - succeeded))
    overdue = bool(order.get("max_age")) and (age is None or age > order["max_age"])
    words, ok = _in_words(attempt, running=backup_run.is_running(home))
    spooled = backup_run.spooled(home)
    return {
        "job": job,
        "newest": last.get("id") or "",
        "same_as": last.get("same_as") or "",
        "age_seconds": age,
        "stored_bytes": last.get("stored"),
        "spooled": spooled,
        "state": "; ".join([words, *(["overdue"] if overdue else []), *([f"{len(spooled)} not in the store yet"] if spooled else [])]),
        "ok": ok and not overdue and not spooled,
        "notes": attempt.get("notes") or [],
    }


def _in_words(attempt: Mapping[str, Any], *, running: bool) -> tuple[str, bool]:
    if running:
        return "under way", True
    if not attempt:
        return "never ran", False
    if attempt["ok"] is None:
        return "interrupted", False
    said = str(attempt["said"]).splitlines()[0]
    return (said, True) if attempt["ok"] else (f"FAILED: {said}", False)


def _row(found: Mapping[str, Any]) -> dict[str, Any]:
    age, size = found["age_seconds"], found["stored_bytes"]
    return {
        **{key: found[key] for key in ("job", "newest", "state")},
        "age": None if age is None else duration_text(age),
        "size": None if size is None else size_text(size),
    }


def _want_root() -> None:
    command_line.want_root("look at backups", "backup …")


# What systemd runs


def _run(options: argparse.Namespace) -> int:
    order = order_of(options.job)
    home = STATE / options.job
    _want_account(options.job, home)
    signal.signal(signal.SIGTERM, _stop)
    conf = Path(os.environ.get("CREDENTIALS_DIRECTORY") or CONFIG, CREDENTIALS)
    ca = str(CONFIG / CA) if (CONFIG / CA).exists() else ""
    store = Store(conf, order["bucket"], order["prefix"], ca, bandwidth=order["bandwidth"], tell=tell)
    result = backup_run.run(order, home, store, skew_seconds=lambda: backup_clock.skew_seconds(order["endpoint"], ca), tell=tell)
    tell(f"{result['id'] or options.job}: {result['said']} ({result['seconds']:.1f} s)")
    return 0


def _want_account(job: str, home: Path) -> None:
    """Raise FleetError where the run would leave files that the next one, by systemd, could not touch."""
    try:
        owner = home.stat().st_uid
    except FileNotFoundError:
        raise FleetError(f"{home} is not there\n  → converge the host again") from None
    if owner != os.geteuid():
        raise FleetError(f"{job} is run by the account with uid {owner}\n  → systemctl start {unit_of(job)}")


def _stop(number: int, frame: object) -> None:
    del frame
    raise backup_run.Stopped(f"stopped by {signal.Signals(number).name}; what was complete in the spool goes to the store next time")


def _export(options: argparse.Namespace) -> int:
    """Remove what a killed run left in the clear, and show the metrics."""
    order, home = order_of(options.job), STATE / options.job
    if not backup_run.is_running(home):
        backup_run.remove_plaintext(home)
    state = backup_run.read_state(home)
    failed = os.environ.get("SERVICE_RESULT", "success") != "success" or not (state["attempt"] or {}).get("ok")
    text = backup_metrics.text(order, state, failed=failed, spooled=len(backup_run.spooled(home)))
    directory = Path(order["metrics_directory"])
    if directory.is_dir():
        backup_metrics.write(directory, options.job, text)
    return 0
