# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout asks of one host, and what its gates say, as filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import rollout_batches, rollout_plan


def rollout_tasks(planned: Mapping[str, Any], host: str, specs: Mapping[str, Any], rollout: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what a host is asked to do: for each of its batches the arguments of ``hearth.fleet.transaction``."""
    return [
        {
            "batch": {key: batch[key] for key in ("service", "number", "of", "tier", "canary", "hosts")},
            "order": rollout_plan.order(dict(planned), batch, host, _of(specs["rollout"], batch["service"]), rollout),
            "files": [one for one in specs["config"]["paths"] if one["service"] == batch["service"] and one["state"] == "file"],
            "unit": _of(specs["unit"]["units"], batch["service"]),
            "binaries": list(_of(specs["release"], batch["service"])["binaries"]),
        }
        for batch in planned["batches"]
        if host in batch["hosts"]
    ]


def _of(slices: list[dict[str, Any]], service: str) -> dict[str, Any]:
    return next(one for one in slices if one["service"] == service)


def rollout_questions(slices: list[Mapping[str, Any]], planned: Mapping[str, Any], batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what ``hearth.fleet.readiness`` is to ask of a host before a batch: about what the batch takes out of use and is placed there."""
    services = rollout_batches.concerned(planned, batch)
    return [{"service": one["service"], "unit": one["unit"], "ready": one["health"]["ready"]} for one in slices if one["service"] in services]


def rollout_gate(planned: Mapping[str, Any], batch: Mapping[str, Any], answers: Mapping[str, Any]) -> str:
    """Return why a batch must not begin, empty when it may; ``answers`` is what ``hearth.fleet.readiness`` returned by host."""
    broken = [
        f"{host}: {answer.get('msg') or 'no answer'}" for host, answer in answers.items() if not ("services" in answer or answer.get("unreachable"))
    ]
    if broken:
        return "\n".join(["these hosts could not be asked whether they are ready:", *broken])
    services = {host: answer.get("services") or {} for host, answer in answers.items()}
    ready = {
        service: [host for host, found in services.items() if found.get(service, {}).get("ready")]
        for service in rollout_batches.concerned(planned, batch)
    }
    return rollout_batches.gate(planned, batch, ready)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"rollout_tasks": rollout_tasks, "rollout_questions": rollout_questions, "rollout_gate": rollout_gate}
