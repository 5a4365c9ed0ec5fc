# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that shows a plan to a person."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.hearth.fleet.plugins.module_utils.plan_text import render


class FilterModule:
    """Filters of the plan."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"plan_text": render}
