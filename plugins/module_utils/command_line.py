# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands of ``hearthctl`` share: how one is added, run, and answered. Imports little, as a backup has little memory."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

Command = Callable[[argparse.Namespace], int]

CANNOT, INTERRUPTED = 2, 130
"""The exit statuses of what cannot be done (also argparse's own), and of Ctrl-C."""


def add(commands: Any, name: str, run: Command, said: str) -> argparse.ArgumentParser:
    """Add a command to subparsers; ``run`` returns its exit status, ``said`` is what it is for."""
    one: argparse.ArgumentParser = commands.add_parser(name, help=said, description=said)
    one.set_defaults(run=run)
    return one


def run(parser: argparse.ArgumentParser, words: Sequence[str], *, goes_on: str) -> int:
    """Run the command that ``words`` are; return its exit status: its own, or that of its error, which is told on standard error.

    ``goes_on`` tells a person who stops waiting what becomes of what was begun.
    """
    options = parser.parse_args(list(words))
    try:
        code: int = options.run(options)
    except FleetError as error:
        complain(f"hearthctl: {error}")
        return error.exit_status
    except OSError as error:
        complain(f"hearthctl: {error}")
        return CANNOT
    except KeyboardInterrupt:
        complain(f"\nhearthctl: {goes_on}")
        return INTERRUPTED
    return code


def want_root(what: str, command: str) -> None:
    """Raise FleetError for everybody but root. ``what`` root alone may do; ``command`` is what to type after ``hearthctl``."""
    if os.geteuid() != 0:
        raise FleetError(f"only root may {what}\n  → sudo hearthctl {command}")


def tell(text: str) -> None:
    """Write a line to standard output, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
