# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many hosts of a service must stay ready: what that makes of batches, and who looks again before each of them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import join_path
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import part_of
from ansible_collections.hearth.fleet.plugins.module_utils.rollout_place import Place


@dataclass(frozen=True)
class Quorum:
    """How many hosts of a service must stay ready: of the one that is rolled out, or of one that stops along with it.

    ``places`` are those that count, ``ready`` the hosts where it serves now, ``takes`` those where the rollout takes it out of service.
    """

    service: str
    wish: int | str | None
    places: Sequence[Place]
    ready: Collection[str]
    takes: Collection[str]

    @property
    def least(self) -> int:
        """How many hosts must stay ready."""
        return least_available(self.wish, len(self.places))

    @property
    def path(self) -> str:
        """Where in the inventory somebody says so, or may."""
        return join_path("fleet_services", self.service) + ".min_available"

    def as_data(self) -> dict[str, Any]:
        """Return it as a plan has it."""
        return {
            "hosts": len(self.places),
            "ready": len(self.ready),
            "min_available": self.least,
            "because": "by default" if self.wish is None else f"{self.path}: {self.wish}",
            "names": [place.host for place in self.places],
            "takes": sorted(self.takes),
        }


def least_available(min_available: int | str | None, hosts: int) -> int:
    """Return how many of ``hosts`` must stay ready. Without a wish: none of one, one of two, else more than half."""
    if min_available is None:
        return hosts // 2 if hosts < 3 else hosts // 2 + 1
    return part_of(hosts, min_available, up=True)


def quorum_of(places: Sequence[Place], takes: Collection[str], nearly_ready: Collection[str] = ()) -> Quorum:
    """Return what must stay ready of a service while hosts are taken out; ``nearly_ready`` count as if they were."""
    there = [place for place in places if not place.skipped]
    wish = places[0].wanted["min_available"]
    # Without a wish, a --limit says which hosts count: whoever names one host may restart it.
    counted = there if wish is not None else [place for place in there if place.look is not None]
    ready = {place.host for place in there if place.ready or place.host in nearly_ready}
    return Quorum(places[0].service, wish, counted, ready, takes)


def batch_places(
    places: Sequence[Place], quorums: Sequence[Quorum], canaries: int, sizes: Mapping[str, int]
) -> tuple[list[list[Place]], tuple[Place, Quorum] | None]:
    """Return places in batches, and the first one for which there is no room, with the quorum that has none (None: there is for all).

    The first ``canaries`` go by themselves, then one tier after the other, ``sizes`` (by tier) at a time; never so many that
    a quorum would not be met. Hosts that are not ready take nothing away. When they are done, they add one to the first quorum, which is
    the service's own; what stops along with it is afterwards as it was.
    """
    batches: list[list[Place]] = []
    left, spared = list(places), canaries
    serving = [set(quorum.ready) for quorum in quorums]
    while left:
        limit = spared or sizes[left[0].tier]
        batch: list[Place] = []
        lacking: Quorum | None = None
        for place in left[:limit]:
            other_tier = not spared and place.tier != left[0].tier
            lacking = _lacking([*batch, place], quorums, serving)
            if other_tier or lacking:
                break
            batch.append(place)
        if not batch:
            return batches, (left[0], lacking) if lacking else None
        batches.append(batch)
        left, spared = left[len(batch) :], max(0, spared - len(batch))
        serving[0].update(place.host for place in batch)
    return batches, None


def _lacking(batch: Sequence[Place], quorums: Sequence[Quorum], serving: Sequence[Collection[str]]) -> Quorum | None:
    """Return the first quorum that the last place of a batch would break."""
    for quorum, ready in zip(quorums, serving):
        taken = [place.host for place in batch if place.host in ready and place.host in quorum.takes]
        if batch[-1].host in taken and len(ready) - len(taken) < quorum.least:
            return quorum
    return None


def concerned(planned: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the arithmetic of the services that a batch takes out of use: its own, and those that stop along with it."""
    own = planned["arithmetic"][batch["service"]]
    return {batch["service"]: own, **own["along"]}


def gate(planned: Mapping[str, Any], batch: Mapping[str, Any], ready_now: Mapping[str, Collection[str]]) -> str:
    """Return why a batch must not begin now; empty when it may. ``ready_now`` names the hosts where each service ``concerned`` is ready.

    Hosts of the batch that are down already take nothing away.
    """
    refusals = [_refusal(service, one, batch, ready_now.get(service, ())) for service, one in concerned(planned, batch).items()]
    return "\n".join(filter(None, refusals))


def _refusal(service: str, arithmetic: Mapping[str, Any], batch: Mapping[str, Any], ready_now: Collection[str]) -> str:
    taken = [host for host in batch["hosts"] if host in ready_now and host in arithmetic["takes"]]
    left = sorted(set(ready_now) - set(taken))
    if not taken or len(left) >= arithmetic["min_available"]:
        return ""
    others = [name for name in arithmetic["names"] if name not in ready_now and name not in batch["hosts"]]
    down = f"; not ready now: {', '.join(others)}" if others else ""
    along = "" if service == batch["service"] else f", which stops with {batch['service']}"
    return (
        f"{service}{along}: while {', '.join(taken)} {'is' if len(taken) == 1 else 'are'} out of service, {len(left)} of "
        f"{arithmetic['hosts']} hosts would be ready ({', '.join(left) or 'none'}), and {arithmetic['min_available']} must be{down}\n"
        f"  → bring these back first, then run the same command again; or lower {join_path('fleet_services', service)}.min_available"
    )
