# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of a host, run for as long as they may take: the one place where they are started, heard and ended."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

TOO_LATE, NOT_STARTED, NOT_EXECUTABLE, NOT_FOUND = 124, 125, 126, 127
"""The exit statuses, as timeout(1) has them, of what took too long, and of what could not be started: for now, or as there is no such program."""

_STATUSES = {errno.ENOENT: NOT_FOUND, errno.ENOTDIR: NOT_FOUND, errno.EACCES: NOT_EXECUTABLE, errno.ENOEXEC: NOT_EXECUTABLE}


_QUOTED_LINES = 20


class Said(NamedTuple):
    """How a program ended (negative: by that signal), and what it said; ``ended`` is whether it did so by itself."""

    status: int
    output: str
    error: str
    ended: bool = True

    @property
    def why(self) -> str:
        """Why it failed, in its own words where it has some."""
        return (self.error or self.output).strip() or f"exit status {self.status}"


def quoted(output: str) -> list[str]:
    """Return the last lines of what a program said, as errors quote them."""
    return [f"  | {line}" for line in output.strip().splitlines()[-_QUOTED_LINES:] or ["(it said nothing)"]]


def run(
    words: Sequence[str],
    *,
    seconds: float | None = None,
    given: str = "",
    environment: Mapping[str, str] | None = None,
    account: Mapping[str, Any] | None = None,
    together: bool = False,
    directory: str = "/",
) -> Said:
    """Run a program with ``given`` on its standard input, for at most ``seconds`` (None: for ever); return what came of it.

    ``environment`` is all that it has (default: ours, in English), ``account`` the arguments of ``Popen`` that make it run as another
    one. ``together`` has both its channels in ``output``, in their order. ``directory`` is where it runs. It has a session of its own,
    and is ended with its children.
    """
    try:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # no module here: hosts run this without Ansible, too
            list(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if together else subprocess.PIPE,
            cwd=directory,
            env={**os.environ, "LC_ALL": "C.UTF-8"} if environment is None else dict(environment),
            start_new_session=True,
            **(account or {}),
        )
    except OSError as error:
        if error.filename == directory:
            return Said(NOT_STARTED, "", f"{words[0]} cannot be run in {directory}: {error.strerror}", ended=False)
        why = "its interpreter is not there" if error.errno == errno.ENOENT and os.path.exists(words[0]) else error.strerror
        return Said(_STATUSES.get(error.errno or 0, NOT_STARTED), "", f"{words[0]} cannot be run: {why}", ended=False)
    with process:
        try:
            output, errors = process.communicate(given.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with its children, which may be what hangs, and would keep the pipes open
            return Said(TOO_LATE, "", f"{words[0]} did not finish within {seconds:g} s", ended=False)
    return Said(process.returncode, output.decode(errors="replace"), (errors or b"").decode(errors="replace"))
