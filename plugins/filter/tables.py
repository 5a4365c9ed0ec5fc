# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and messages for people, as filters."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.hearth.fleet.plugins.module_utils.preflight_policy import refusal
from ansible_collections.hearth.fleet.plugins.module_utils.table import render, render_findings


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filters by name."""
        return {"findings_table": render_findings, "preflight_refusal": refusal, "table": render}
