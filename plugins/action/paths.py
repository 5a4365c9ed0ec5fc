# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the contents of the collection's own files into the arguments, just before they are sent; see the module's documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

PARTS = Path(__file__).resolve().parents[1] / "module_utils"


def filled(path: Mapping[str, Any]) -> dict[str, Any]:
    """Return a path as the module takes it: ``part`` stands for the content of that file of the collection."""
    part = path.get("part")
    return {**path, "content": (PARTS / Path(part).name).read_text(encoding="utf-8")} if part else dict(path)


class ActionModule(ActionBase):
    """Runs the module of the same name."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module returns."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = {**self._task.args, "paths": [filled(path) for path in self._task.args["paths"]]}
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        return result
