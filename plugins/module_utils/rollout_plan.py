# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollout: which service changes to what, on which hosts, in which batches; and what stands against it. Pure.

Hosts take their turns in one order: tiers from the highest ``order`` to the lowest, names within. The canary is the first
of them. The order does not depend on how the hosts are, so that a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import rollout_look, transaction, versions
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, join_path
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import part_of
from ansible_collections.hearth.fleet.plugins.module_utils.rollout_batches import Quorum, batch_places, quorum_of
from ansible_collections.hearth.fleet.plugins.module_utils.rollout_place import Place
from ansible_collections.hearth.fleet.plugins.module_utils.schema import suggest

Plan = dict[str, Any]

_NEW_VERSION = ("upgrade", "rollback")
"""Kinds of orders that change which release runs."""


@dataclass(frozen=True)
class Settings:
    """What the person who starts a rollout asks for; each is an extra variable.

    ``services`` (rollout_service) and ``hosts`` (rollout_hosts): only these; empty for all. ``rollback``: go back to ``version``
    (rollout_version), or to what each host ran before. ``pending_only``: only what is pending restarts; staged releases wait, as
    in site.yml. ``proposed``: the hosts are not converged yet, so what will have to restart then counts as pending.
    ``restart`` (rollout_restart): restart what needs no change, too.
    ``promote`` (rollout_promote): services whose canary was found good. ``adopt``: the id of the rollout whose unfinished
    transactions are this one's own.
    """

    services: Sequence[str] = ()
    hosts: Sequence[str] = ()
    pending_only: bool = False
    proposed: bool = False
    rollback: bool = False
    version: str = ""
    restart: bool = False
    promote: Sequence[str] = ()
    adopt: str = ""


@dataclass(frozen=True)
class Change:
    """What is to happen to a service on a host: an order's kind, from which version to which, and why."""

    kind: str
    old: str
    new: str
    reasons: Sequence[str] = ()


@dataclass
class Findings:
    """What the plan says besides its rows."""

    mistakes: list[Mistake] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    held: list[dict[str, str]] = field(default_factory=list)
    unready: list[dict[str, str]] = field(default_factory=list)
    adopted: list[dict[str, str]] = field(default_factory=list)


def plan(specs: Mapping[str, Any], looks: Mapping[str, Mapping[str, Any]], settings: Settings) -> Plan:
    """Return the plan of a rollout as plain data.

    ``specs`` holds the slices of every host, ``looks`` what observe returned on each that was asked, with its probe
    (``away`` or ``msg`` instead of ``plan`` where it did not answer). The looks' ``services`` may have ``transaction`` (the
    state of the last or active one), ``restore`` (the one under way), ``backup_age`` (seconds) and ``previous`` (a version).

    ``batches``   {service, number, of, canary, tier, hosts}, in order
    ``rows``      one for each service and host: service, host, tier, batch, of, canary, kind, from, to, reasons, schema_risk,
                  backup_age, expected_downtime and expected_seconds, downtime_limit (seconds), note
    ``arithmetic`` per service: hosts, ready, min_available and batch (the largest), as numbers, ``because``, ``names`` and ``takes`` (hosts
                  that count, and those where it is taken out of service), and ``along``: the same of each service that stops with it
    ``skipped``, ``held``  {service, host, why}: switched off, or not installed yet; not now
    ``unready``   {service, host, why, remedy}: as it is wanted, but not ready
    ``adopted``   {service, host, id, phase}: transactions of ``settings.adopt`` that are still under way, to be followed to their end
                  before anything else; the plan takes them for done
    ``wanted``, ``sha256``  what the rollout brings about, per service [host, version, digest], whatever is done of it already
    ``nothing``, ``said``, ``mistakes``  whether there are no rows; sentences; what keeps the rollout from beginning
    """
    found = Findings()
    placed = _placed(specs, looks)
    found.mistakes += _unknown(settings, placed, specs)
    chosen = {service: places for service, places in placed.items() if not settings.services or service in settings.services}
    rows: list[dict[str, Any]] = []
    batches: list[dict[str, Any]] = []
    arithmetic: dict[str, Any] = {}
    for service, places in chosen.items():
        part = _Service(service, places, placed, settings, found).plan()
        rows += part.rows
        batches += part.batches
        arithmetic[service] = part.arithmetic
    # What was not looked at is not part of this rollout, so that another --limit makes it another one.
    wanted = {
        service: [[place.host, *_goal(place, settings, specs)] for place in places if place.look is not None and asked_for(place, settings)]
        for service, places in chosen.items()
    }
    return {
        "batches": batches,
        "rows": rows,
        "arithmetic": arithmetic,
        "skipped": found.skipped,
        "held": found.held,
        "unready": found.unready,
        "adopted": found.adopted,
        "wanted": wanted,
        "sha256": digest(wanted),
        "expected_seconds": sum(max(row["expected_seconds"] for row in rows_of(rows, batch)) for batch in batches),
        "nothing": not rows,
        "said": found.said,
        "mistakes": [str(mistake) for mistake in sorted(set(found.mistakes))],
    }


def digest(wanted: Any) -> str:
    """Return the SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(wanted, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def rows_of(rows: Iterable[Mapping[str, Any]], batch: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of one batch."""
    return [row for row in rows if (row["service"], row["batch"]) == (batch["service"], batch["number"])]


def order(planned: Plan, batch: Mapping[str, Any], host: str, wanted: Mapping[str, Any], run: Mapping[str, str]) -> dict[str, Any]:
    """Return what a host is asked to do with the service of a batch, complete.

    ``wanted`` is the host's rollout slice of that service. ``run`` has the rollout's ``id``, ``owner`` and ``playbook``. The files of an
    upgrade are those of the slice, numbered in its order: config and secrets as in the config slice, the unit last.
    """
    row = next(row for row in rows_of(planned["rows"], batch) if row["host"] == host)
    numbered = [{**file, "new": str(number)} for number, file in enumerate(wanted["files"])]
    return transaction.complete(
        {
            "id": run["id"],
            "service": row["service"],
            "unit": wanted["unit"],
            "kind": row["kind"],
            "reasons": row["reasons"],
            "from": row["from"],
            "to": row["to"],
            "home": wanted["home"],
            "user": wanted["user"],
            "group": wanted["group"],
            "files": numbered if row["kind"] == "upgrade" else [],
            "running": wanted["running"],
            "databases": wanted["databases"],
            "health": wanted["health"],
            "version": {"pattern": wanted["version_pattern"]},
            "drain": wanted["drain"],
            "soak": {"duration": _soak(wanted, row["canary"])},
            "analysis": wanted["analysis"],
            "on_inconclusive": wanted["on_inconclusive"],
            "backup": {"command": wanted["backup_command"]},
            "stop_timeout": wanted["stop_timeout"],
            "start_timeout": wanted["start_timeout"],
            "rollout": {"owner": run["owner"], "plan": planned["sha256"], "playbook": run["playbook"]},
        }
    )


# What is where


def asked_for(place: Place, settings: Settings) -> bool:
    """Return whether a place's host is one of those that the rollout is about."""
    return not settings.hosts or place.host in settings.hosts


def _placed(specs: Mapping[str, Any], looks: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Place]]:
    """Return the places of every service, in the order in which they take their turns."""
    found: dict[str, list[Place]] = {}
    for host in sorted(specs, key=lambda name: (-specs[name]["host"]["order"], specs[name]["host"]["tier"], _natural(name))):
        about = specs[host]["host"]
        for wanted in specs[host]["rollout"]:
            place = Place(wanted["service"], host, about["tier"], wanted, looks.get(host), about["offline"] == "skip")
            found.setdefault(wanted["service"], []).append(place)
    return dict(sorted(found.items()))


def _natural(name: str) -> list[Any]:
    """Return a key that sorts relay2 before relay10."""
    return [(not part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name)]


def _unknown(settings: Settings, placed: Mapping[str, list[Place]], specs: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what the extra variables name that is nowhere."""
    for variable, names in (("rollout_service", settings.services), ("rollout_promote", settings.promote)):
        for name in names:
            if name not in placed:
                yield Mistake(variable, f"no host runs a service called {name!r}", suggest(name, placed))
    for name in settings.hosts:
        if name not in specs:
            yield Mistake("rollout_hosts", f"no inventory host is called {name!r}", suggest(name, specs))
    if settings.rollback and not settings.services:
        yield Mistake("rollout_service", "missing: which service is to go back?", f"write -e rollout_service=<name>; {suggest('', placed)}")


def _goal(place: Place, settings: Settings, specs: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a rollout brings about on a host, as a version and a digest of all that belongs to it."""
    if settings.rollback:
        return settings.version or "previous", ""
    artifacts = [one["artifacts"] for one in specs[place.host]["release"] if one["service"] == place.service]
    published = [{arch: artifact["sha256"] for arch, artifact in one.items()} for one in artifacts]
    return place.wanted["version"], digest([place.wanted["files"], published])[:16]


class _Service:
    """The part of a plan that is about one service."""

    def __init__(self, service: str, places: list[Place], placed: Mapping[str, list[Place]], settings: Settings, found: Findings) -> None:
        self.service = service
        self.path = join_path("fleet_services", service)
        self.all = places
        self.placed = placed
        self.there = [place for place in places if not place.skipped]
        self.settings = settings
        self.found = found
        self.under_way: dict[str, str] = {}
        """Hosts with a transaction of this very rollout, and the version that it brings: taken for done, as it is followed to its end first."""
        self.blamed: set[str] = set()
        self.rows: list[dict[str, Any]] = []
        self.batches: list[dict[str, Any]] = []
        self.arithmetic: dict[str, Any] = {}

    def plan(self) -> _Service:
        """Fill in rows, batches and arithmetic, and note what there is to say."""
        self._note_unseen()
        changes = {place.host: change for place in self.there for change in [self._change(place)] if change}
        waiting = {one["host"] for one in self.found.held if one["service"] == self.service}
        unchanged = [place for place in self.there if place.running and place.host not in {*changes, *self.under_way, *waiting}]
        self._note_unchanged(unchanged, {change.new for change in changes.values() if change.kind == "upgrade"})
        self._check_versions(changes)
        chosen = self._chosen(changes)
        canaries = self._canaries(changes, unchanged)
        chosen = self._promoted(chosen, changes, canaries)
        self._check_restores(chosen)
        self._plan_batches(chosen, changes, canaries)
        return self

    # What stands against it

    def _note_unseen(self) -> None:
        for place in self.all:
            why = " ".join(str((place.look or {}).get("msg") or "no answer").split())
            if place.skipped:
                said = f"switched off, or cannot be reached; {place.tier} may be (fleet_tiers.{place.tier}.offline: skip), the next run catches up"
                self._leave("skipped", place, said)
            elif place.look is None:
                self.found.said.append(f"{self.service} on {place.host} was not looked at (--limit, or it failed before), and counts as not ready")
            elif not place.seen and asked_for(place, self.settings):
                what = "cannot be reached" if place.look.get("away") else "cannot be seen"
                tier = place.tier or "<tier>"
                remedy = f"repair that; or set fleet_tiers.{tier}.offline: skip where hosts may be off; or name the others: -e rollout_hosts=…"
                self._blame(place, f"the host {what}: {why}", remedy)
            self._check_transaction(place)

    def _check_transaction(self, place: Place) -> None:
        state = place.transaction
        if not state or state.get("resolved"):
            return
        outcome = state.get("outcome")
        if outcome in rollout_look.OPEN_OUTCOMES:
            problem = f"a person has to decide ({outcome}, rollout {state['id']}): {state.get('said') or 'see the host'}"
            self._blame(place, problem, f"on {place.host}: {state.get('next') or 'hearthctl status'}")
        elif not outcome and state["id"] == self.settings.adopt:
            self.under_way[place.host] = str(state.get("to") or "")
            self.found.adopted.append({"service": self.service, "host": place.host, "id": state["id"], "phase": str(state.get("phase") or "")})
        elif not outcome:
            problem = f"a transaction of rollout {state['id']} is under way there (phase {state.get('phase') or 'none yet'})"
            self._blame(place, problem, f"it ends by itself; wait, or look: hearthctl status on {place.host}")

    def _check_restores(self, chosen: list[Place]) -> None:
        """Refuse to change a service whose data are being restored there."""
        for place in chosen:
            if place.restore:
                told = rollout_look.of_restore(self.service, place.restore)
                self._blame(place, told.problem, f"on {place.host}: {told.remedy}")

    def _note_unchanged(self, places: list[Place], coming: Collection[str]) -> None:
        """Say where nothing changes. A version that is not ready where it runs is none of the ``coming`` ones elsewhere."""
        by_version: dict[str, list[str]] = {}
        for place in places:
            if place.ready:
                by_version.setdefault(place.running, []).append(place.host)
                continue
            why = f"{place.running} runs there already, but is not ready"
            remedy = f"see why (journalctl -u {place.wanted['unit']}), or restart it: -e rollout_restart=true"
            self.found.unready.append({"service": self.service, "host": place.host, "why": why, "remedy": remedy})
            if place.running in coming:
                problem = f"{why}, so no other host gets it before that is understood"
                self._blame(place, problem, remedy)
        for version, hosts in by_version.items():
            self.found.said.append(f"{self.service} is already at {version} on {_some(hosts)}")

    def _check_versions(self, changes: Mapping[str, Change]) -> None:
        """Refuse downgrades that nobody asked for, and say where the order of two versions cannot be told."""
        hosts_of: dict[tuple[str, str], list[str]] = {}
        allowed = {place.host for place in self.there if place.wanted["allow_downgrade"]}
        for host, change in changes.items():
            if change.kind == "upgrade" and change.old and host not in allowed:
                hosts_of.setdefault((change.old, change.new), []).append(host)
        for (old, new), hosts in hosts_of.items():
            newer = versions.compare(old, new)
            if newer is None:
                self.found.said.append(f"{self.service}: nobody can tell whether {new} is newer than {old}; it is taken for an upgrade")
            elif newer > 0:
                remedy = f"write a newer version, go back with rollback.yml, or set {self.path}.rollout.allow_downgrade: true if it is meant"
                self.found.mistakes.append(Mistake(f"{self.path}.version", f"{new} is older than {old}, which runs on {_some(hosts)}", remedy))

    def _blame(self, place: Place, problem: str, remedy: str) -> None:
        self.blamed.add(place.host)
        self.found.mistakes.append(Mistake(f"{self.service} on {place.host}", problem, remedy))

    def _leave(self, sort: str, place: Place, why: str) -> None:
        left: list[dict[str, str]] = getattr(self.found, sort)
        left.append({"service": self.service, "host": place.host, "why": why})
        self.found.said.append(f"{self.service} on {place.host} is {sort}: {why}")

    # What is to be done

    def _target(self, place: Place) -> str:
        """Return the version that a host should run; empty where a rollback finds none."""
        if not self.settings.rollback:
            return str(place.wanted["version"])
        last = place.transaction
        came_from = last.get("from") if (last.get("outcome"), last.get("to")) == (transaction.COMMITTED, place.running) else ""
        return str(self.settings.version or came_from or place.seen.get("previous") or "")

    def _change(self, place: Place) -> Change | None:
        """Return what is to be done on a host; None for nothing."""
        if not place.seen or place.host in self.under_way:
            return None
        if not place.running:
            self._leave("skipped", place, "it was never started there; site.yml installs and starts it")
            return None
        return self._rollback(place) if self.settings.rollback else self._upgrade(place)

    def _upgrade(self, place: Place) -> Change | None:
        old, new = place.running, self._target(place)
        areas = ("rollout", "follows") if self.settings.proposed else ("rollout",)
        pending = [reason for area in areas for reason in place.reasons(area)]
        if self.settings.pending_only and place.reasons("staged"):
            self._leave("held", place, f"{new} is staged; rolling-upgrade.yml brings it")
            return None
        if old != new:
            return Change("upgrade", old, new, place.reasons("staged") or pending or [f"{old} runs, {new} is wanted"])
        title = f"{self.service} {new}"
        republished = [one["reason"] for one in place.plan.get("release", ()) if one["item"] == title and one["service"] == self.service]
        if republished:
            return Change("restart", old, new, [*republished, *pending])
        if pending:
            actions = {one["action"] for area in areas for one in place.plan.get(area, ()) if one["service"] == self.service}
            return Change("reload" if actions == {"reload"} else "restart", old, new, pending)
        return Change("restart", old, new, ["asked for"]) if self.settings.restart else None

    def _rollback(self, place: Place) -> Change | None:
        installed = ", ".join(place.seen["installed"]) or "none"
        target = self._target(place)
        if target not in place.seen["installed"] and not asked_for(place, self.settings):
            return None
        if not target:
            problem = f"nobody knows what ran before {place.running}"
            remedy = f"write -e rollout_version=…; installed there: {installed}"
            self._blame(place, problem, remedy)
        elif target not in place.seen["installed"]:
            problem = f"release {target} is not installed there (installed: {installed})"
            remedy = "choose one of these with -e rollout_version=…, or set the version in the inventory and run rolling-upgrade.yml"
            self._blame(place, problem, remedy)
        elif target != place.running:
            self._note_inventory(place, target)
            return Change("rollback", place.running, target, ["asked for"])
        return None

    def _note_inventory(self, place: Place, target: str) -> None:
        said = f"{self.path}.version still says {place.wanted['version']}: write {target} there, or the next rollout goes forward again"
        if place.wanted["version"] != target and said not in self.found.said:
            self.found.said.append(said)

    # Who takes part

    def _chosen(self, changes: Mapping[str, Change]) -> list[Place]:
        """Return the places that change now, in order; what is not asked for, or beyond the partition, is held."""
        partition = self.all[0].wanted["partition"] if self.all else None
        chosen = []
        for number, place in enumerate(self.all):
            if place.host not in changes:
                continue
            if not asked_for(place, self.settings):
                self._leave("held", place, "it is not among rollout_hosts")
            elif partition is not None and number >= partition and not self.settings.rollback:
                self._leave("held", place, f"only the first {partition} of {len(self.all)} hosts are to change ({self.path}.rollout.partition)")
            else:
                chosen.append(place)
        return chosen

    def _canaries(self, changes: Mapping[str, Change], unchanged: list[Place]) -> int:
        """Return how many hosts go first by themselves. A host that runs the new release, and is ready, has been one."""
        coming = {change.new for change in changes.values() if change.kind in _NEW_VERSION}
        proven = [place.running for place in unchanged if place.ready] + list(self.under_way.values())
        return max(0, int(self.all[0].wanted["canary"]) - sum(version in coming for version in proven))

    def _promoted(self, chosen: list[Place], changes: Mapping[str, Change], canaries: int) -> list[Place]:
        """Return the places that may change before a person has promoted the canary."""
        new_version = any(changes[place.host].kind == "upgrade" for place in chosen)
        if not new_version or self.all[0].wanted["promote"] == "auto" or self.service in self.settings.promote:
            return chosen
        for place in chosen[canaries:]:
            self._leave("held", place, f"it waits until a person promotes the canary: -e rollout_promote={self.service}")
        return chosen[:canaries]

    # Batches

    def _plan_batches(self, chosen: list[Place], changes: Mapping[str, Change], canaries: int) -> None:
        own, along = self._quorum(), self._quorums_along(chosen, changes)
        found, blocked = batch_places(chosen, [own, *along], canaries, self._sizes())
        if blocked and not any(place.host in self.blamed for place in self.there if place.host not in own.ready):
            self.found.mistakes.append(self._unavailable(*blocked, chosen))
        self.arithmetic = {
            **own.as_data(),
            "batch": max((len(batch) for batch in found), default=0),
            "along": {quorum.service: quorum.as_data() for quorum in along},
        }
        for number, batch in enumerate(found, 1):
            canary = sum(map(len, found[:number])) <= canaries
            about = {"service": self.service, "number": number, "of": len(found), "canary": canary, "tier": batch[0].tier}
            self.batches.append({**about, "hosts": [place.host for place in batch]})
            self.rows += [_row(place, changes[place.host], about) for place in batch]

    def _quorum(self) -> Quorum:
        return quorum_of(self.all, [place.host for place in self.all], self.under_way)

    def _quorums_along(self, chosen: list[Place], changes: Mapping[str, Change]) -> list[Quorum]:
        """Return what must stay ready of the services that stop along with this one. A reload stops nothing."""
        stopping = [place for place in chosen if changes[place.host].kind != "reload"]
        names = dict.fromkeys(name for place in stopping for name in place.along)
        return [quorum_of(self.placed[name], [place.host for place in stopping if name in place.along]) for name in names]

    def _sizes(self) -> dict[str, int]:
        """Return the size of a batch in each tier."""
        tiers: dict[str, list[Place]] = {}
        for place in self.there:
            tiers.setdefault(place.tier, []).append(place)
        return {tier: max(1, part_of(len(places), places[0].wanted["batch"], up=False)) for tier, places in tiers.items()}

    def _unavailable(self, blocked: Place, quorum: Quorum, chosen: list[Place]) -> Mistake:
        own, ready = quorum.service == self.service, len(quorum.ready)
        down = [place for place in self.placed[quorum.service] if not place.skipped and place.host not in quorum.ready]
        names = f" (not ready: {', '.join(_down(place) for place in down)})" if down else ""
        problem = f"{quorum.least} of {_count(len(quorum.places))} must stay ready and {ready} {'is' if ready == 1 else 'are'}{names}"
        first = [place.host for place in down if own and place in chosen]
        remedies = ["bring them back first"] if down else []
        remedies += [f"change them first: -e rollout_hosts={','.join(first)}"] if first else []
        problem += f", so {blocked.host} cannot be taken out of service" + ("" if own else f", which it is while {self.service} restarts")
        return Mistake(quorum.path, problem, "; or ".join([*remedies, "lower it"]))


def _row(place: Place, change: Change, about: Mapping[str, Any]) -> dict[str, Any]:
    last = place.transaction
    down = 0.0 if change.kind == "reload" else last.get("downtime")
    health = place.wanted["health"]
    until_ready = health["passes"] * health["interval"]
    return {
        "service": place.service,
        "host": place.host,
        "tier": place.tier,
        "batch": about["number"],
        "of": about["of"],
        "canary": about["canary"],
        "kind": change.kind,
        "from": change.old,
        "to": change.new,
        "reasons": list(change.reasons),
        "schema_risk": _schema_risk(place.wanted, change),
        "backup_age": place.seen.get("backup_age"),
        "expected_downtime": down,
        "downtime_limit": 0 if change.kind == "reload" else place.wanted["stop_timeout"] + health["deadline"],
        "expected_seconds": (down or 0) + until_ready + _soak(place.wanted, about["canary"]),
        "note": _note(place, change),
    }


def _schema_risk(wanted: Mapping[str, Any], change: Change) -> str:
    """Return whether another release may find, or leave, a database that the other one cannot read."""
    if not wanted["databases"] or change.kind not in _NEW_VERSION:
        return "none"
    older = change.kind == "rollback" or versions.compare(change.old, change.new) == 1
    return "older release" if older else "possible"


def _soak(wanted: Mapping[str, Any], canary: bool) -> float:
    soak = wanted["canary_soak"] if canary else wanted["soak"]
    return transaction.soak_seconds({"soak": {"duration": soak}, "analysis": wanted["analysis"]})


def _note(place: Place, change: Change) -> str:
    """Return what a person should know of a row before it begins; empty for nothing."""
    last = place.transaction
    notes = [] if place.ready else ["not ready now"]
    if place.along and change.kind != "reload":
        notes.append(f"with it, {', '.join(place.along)} {'stops and starts' if len(place.along) == 1 else 'stop and start'}")
    if (last.get("outcome"), last.get("to")) == (transaction.ROLLED_BACK, change.new):
        notes.append(f"{change.new} was rolled back here before ({last.get('failed') or last.get('said') or 'see hearthctl status'})")
    return "; ".join(notes)


def _down(place: Place) -> str:
    if place.look is None:
        return f"{place.host}, outside --limit"
    return f"{place.host}, {place.seen.get('state') or 'not seen'}"


def _some(hosts: Sequence[str]) -> str:
    return f"{', '.join(hosts)}" if len(hosts) <= 4 else f"{len(hosts)} hosts"


def _count(hosts: int) -> str:
    return f"{hosts} host{'' if hosts == 1 else 's'}"
