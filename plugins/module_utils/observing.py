# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one look at a host that a run takes: observed, compared with what is wanted, and said. Needs nothing of Ansible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import plan
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError


def observe(
    *,
    specs: Mapping[str, Any],
    controller_time: float | None = None,
    resolved: Mapping[str, list[str]] | None = None,
    probe: bool = False,
    every: bool = False,
) -> dict[str, Any]:
    """Return the result of the module ``observe``, whose options the arguments are; one with ``failed`` and ``msg`` where the host cannot be read."""
    try:
        observed = plan.look(specs, controller_time=controller_time, resolved=resolved)
        planned = plan.plan(specs, observed, every=every)
        if probe:
            for service, ready in _readiness(specs["rollout"]).items():
                planned["services"][service]["ready"] = ready
    except FleetError as error:
        return {"failed": True, "msg": str(error)}
    return {"changed": False, "plan": planned, "facts": observed["preflight"]}


def _readiness(rollouts: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Return whether each service is ready, all asked at once."""
    # Most runs ask nobody, and a host compiles anew what it imports.
    from concurrent.futures import ThreadPoolExecutor

    from ansible_collections.hearth.fleet.plugins.module_utils import probe

    with ThreadPoolExecutor(max_workers=max(1, len(rollouts))) as pool:
        answers = pool.map(lambda one: probe.ask_ready(one["unit"], one["health"]["ready"]), rollouts)
        return {one["service"]: answer.ok for one, answer in zip(rollouts, answers)}
