# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in a process of its own, so that it can be ended at any time: for calls into libraries that nothing else interrupts.

The child is a copy of this process, and shares its memory. It must be started while no other thread runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError


class BoundedChild:
    """Begins ``function`` at once. What it returns must be plain data; a FleetError or OSError of it becomes a FleetError here."""

    def __init__(self, function: Callable[[], Any], seconds: float, doing: str) -> None:
        """``seconds`` is how long it may take, ``doing`` what it does, for people ("the snapshot of /x")."""
        self._ends, self._seconds, self._doing = time.monotonic() + seconds, seconds, doing
        self._pipe, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._pipe)
            _be_child(function, writer)
        os.close(writer)

    def __enter__(self) -> BoundedChild:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def result(self) -> Any:
        """Wait for what the function returns. Raises FleetError when it failed, or has not ended in time; then it is ended."""
        content = b""
        while True:
            left = self._ends - time.monotonic()
            if left <= 0 or not select.select([self._pipe], [], [], left)[0]:
                self.end()
                raise FleetError(f"{self._doing} took more than {self._seconds:.0f} s and was given up")
            more = os.read(self._pipe, 65536)
            if not more:
                break
            content += more
        status = self.end()
        try:
            answer = json.loads(content)
        except ValueError:
            raise FleetError(f"{self._doing} ended without a result (wait status {status})") from None
        if "error" in answer:
            raise FleetError(answer["error"])
        return answer["result"]

    def end(self) -> int:
        """End the child, if it still runs, and return its wait status."""
        if self._pid == 0:
            return 0
        with contextlib.suppress(ProcessLookupError):
            if not _has_closed(self._pipe):
                os.kill(self._pid, signal.SIGKILL)
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._pipe)
        self._pid = 0
        return status


def _has_closed(pipe: int) -> bool:
    """Return whether the other end of a pipe, of which everything was read, is closed."""
    return bool(select.select([pipe], [], [], 0)[0]) and not os.read(pipe, 1)


def _be_child(function: Callable[[], Any], writer: int) -> None:
    """Run the function, say what came of it, and end without running anything of the parent's."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            answer: dict[str, Any] = {"result": function()}
        except (FleetError, OSError) as error:
            answer = {"error": str(error)}
        except Exception as error:  # a mistake of ours; nobody else would say what it was
            answer = {"error": f"{type(error).__name__}: {error}"}
        with open(writer, "w", encoding="utf-8", closefd=False) as file:
            json.dump(answer, file)
        code = 0
    finally:
        os._exit(code)
