# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and messages for people, as filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.plugins.loader import lookup_loader

from ansible_collections.hearth.fleet.plugins.module_utils.preflight_policy import refusal
from ansible_collections.hearth.fleet.plugins.module_utils.table import render, render_findings


def shown(text: str) -> str | list[str]:
    """Return a text as the callback shows it legibly: whole where results are YAML, line by line where they are JSON."""
    formats = lookup_loader.get("config").run(["result_format"], variables={}, plugin_type="callback", plugin_name="default", on_missing="skip")
    return text if formats == ["yaml"] else text.splitlines()


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"findings_table": render_findings, "preflight_refusal": refusal, "shown": shown, "table": render}
