# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verify.yml and status.yml make of what they saw, as filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import audit, reach, status


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "audit_report": audit.report,
            "audit_summary": audit.summary,
            "audit_table": audit.render,
            "plan_probes": reach.plan_probes,
            "status_rows": status.rows,
            "status_table": status.render,
        }
