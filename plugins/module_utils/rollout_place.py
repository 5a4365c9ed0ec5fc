# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service on a host as a rollout finds it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """One service on one host: what is wanted there (its rollout slice), and what the host's look found."""

    service: str
    host: str
    tier: str
    wanted: Mapping[str, Any]
    look: Mapping[str, Any] | None
    skip_offline: bool

    @property
    def plan(self) -> Mapping[str, Any]:
        """What the look made of the host; empty where there was none."""
        return (self.look or {}).get("plan") or {}

    @property
    def seen(self) -> Mapping[str, Any]:
        """The state of the service; empty where it was not seen."""
        found: Mapping[str, Any] = self.plan.get("services", {}).get(self.service) or {}
        return found

    @property
    def skipped(self) -> bool:
        """Whether the host is off, and its tier takes that for normal."""
        return self.skip_offline and bool((self.look or {}).get("away"))

    @property
    def ready(self) -> bool:
        """Whether the service serves there now."""
        return bool(self.seen.get("ready", self.seen.get("state") == "active"))

    @property
    def running(self) -> str:
        """The version that runs there, or would be started; empty for none."""
        return str(self.seen.get("release") or "")

    @property
    def along(self) -> Sequence[str]:
        """The services of the host that stop whenever this one does."""
        found: Sequence[str] = self.wanted["along"]
        return found

    @property
    def transaction(self) -> Mapping[str, Any]:
        """The state of the service's last transaction there; empty for none."""
        return self.seen.get("transaction") or {}

    @property
    def restore(self) -> Mapping[str, Any]:
        """The restore that has the service there; empty for none."""
        return self.seen.get("restore") or {}

    def reasons(self, area: str) -> list[str]:
        """Return the reasons of the look's differences of this service in one area."""
        return [one["reason"] for one in self.plan.get(area, ()) if one["service"] == self.service]
