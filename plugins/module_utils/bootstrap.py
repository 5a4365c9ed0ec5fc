# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service needs once before its first start, such as an identity: which of it is there. ``bootstrapping`` makes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference

Command = Mapping[str, Any]
"""One of ``slices.bootstraps``: a command, known by the path that it ``creates``."""


def look(wanted: Iterable[Command]) -> dict[str, bool]:
    """Return of each path that a command creates whether it is there."""
    return {one["creates"]: os.path.lexists(one["creates"]) for one in wanted}


def diff(wanted: Iterable[Command], done: Mapping[str, bool]) -> list[Difference]:
    """Return what has not been created yet."""
    return [Difference(one["creates"], "not there yet; bootstrap makes it", one["service"], "create") for one in wanted if not done[one["creates"]]]
