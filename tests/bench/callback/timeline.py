# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback that notes when each play, task and result comes, in the file that BENCH_TIMELINE names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: timeline
type: notification
short_description: Note when each play, task and result comes
description: Appends one line of JSON per event to the file that the environment variable E(BENCH_TIMELINE) names.
"""


class CallbackModule(CallbackBase):
    """One line per event: monotonic seconds, what happened, the task or play, the host."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "timeline"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._path = Path(os.environ["BENCH_TIMELINE"])
        self._note("loaded", "callbacks")

    def _note(self, event: str, name: str, host: str = "") -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([time.monotonic(), event, name, host]) + "\n")

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._note("playbook", playbook._file_name)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._note("play", play.get_name())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._note("task", task.get_name())

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._note("queued", task.get_name(), host.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        self._note("result", result._task.get_name(), result._host.get_name())

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._note("result", result._task.get_name(), result._host.get_name())

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._note("stats", "recap")
