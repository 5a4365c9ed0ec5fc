# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a job, as metrics for the textfile collector of the node exporter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_METRICS = (
    ("last_success_timestamp_seconds", "When a run last succeeded, also one that found nothing changed."),
    ("last_attempt_timestamp_seconds", "When a run last ended."),
    ("last_attempt_failed", "1 if the last run failed."),
    ("last_duration_seconds", "How long the last run took."),
    ("last_sent_bytes", "What the newest backup sent to the store."),
    ("stored_bytes", "The size of the newest data in the store."),
    ("data_timestamp_seconds", "When the newest data were stored, by the store's clock."),
    ("sequence", "The number of the last backup."),
    ("spooled", "How many backups are complete, but not in the store yet."),
    ("clock_skew_seconds", "By how much the host's clock is ahead of the store's."),
    ("max_age_seconds", "From which age on a backup is overdue; 0: never."),
)


def text(order: Mapping[str, Any], state: Mapping[str, Any], *, failed: bool, spooled: int) -> str:
    """Return the metrics of a job: its order, its state, whether the last run failed, how many backups wait in the spool."""
    last, attempt = _mapping(state.get("last")), _mapping(state.get("attempt"))
    values = {
        "last_success_timestamp_seconds": state.get("success_at"),
        "last_attempt_timestamp_seconds": attempt.get("at"),
        "last_attempt_failed": int(failed),
        "last_duration_seconds": attempt.get("seconds"),
        "last_sent_bytes": last.get("bytes"),
        "stored_bytes": last.get("stored"),
        "data_timestamp_seconds": last.get("full_at"),
        "sequence": state.get("sequence"),
        "spooled": spooled,
        "clock_skew_seconds": state.get("clock_skew_seconds"),
        "max_age_seconds": order.get("max_age") or 0,
    }
    labels = ",".join(f'{name}="{_escaped(order[name])}"' for name in ("service", "set", "class"))
    lines = []
    for name, said in _METRICS:
        value = values[name]
        if isinstance(value, (int, float)):  # the state is a file of the service's account, and may say anything
            metric = f"hearth_backup_{name}"
            lines += [f"# HELP {metric} {said}", f"# TYPE {metric} gauge", f"{metric}{{{labels}}} {_number(value)}"]
    return "\n".join(lines) + "\n"


def write(directory: Path, job: str, content: str) -> None:
    """Replace a job's file in the collector's directory, whole and readable by all. Raises OSError."""
    path = directory / f"hearth_backup_{job}.prom"
    temporary = directory / f".{path.name}.new"
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)
    temporary.replace(path)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _escaped(value: object) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
