# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of one service on its host, as a transaction: forward to the new release, or back to the old one.

    forward   backup, drain, stop, copy, switch, start, ready, resume, soak, commit
    back      evidence, back_stop, back_database, back_switch, back_start, back_ready, back_resume

Each phase is announced in the journal before it is done, and may be repeated. Whoever finds a journal without an
outcome *adopts* it: ``whence`` says, from the journal alone, whether the way leads forward, back, or nowhere because nothing
happened yet. Outcomes:

    committed       the new release serves
    rolled_back     the old release serves (or is stopped, as it was before)
    aborted         the old release was never stopped, and is back in service
    inconclusive    the new release serves, but nothing says that it is good: a person decides
    needs_operator  the transaction touches nothing any more: a person decides, or repairs

All that touches the host is behind ``Host``, so that everything here can be tried without one, and killed anywhere.
An order is a mapping; its keys are those of ``ORDER``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.hearth.fleet.plugins.module_utils import analysis as analyses
from ansible_collections.hearth.fleet.plugins.module_utils import probe as probes
from ansible_collections.hearth.fleet.plugins.module_utils import staging, unit_control
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.journal import Journal
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text
from ansible_collections.hearth.fleet.plugins.module_utils.rollout_look import OPEN_OUTCOMES

Line = Mapping[str, Any]

FORWARD = ("backup", "drain", "stop", "copy", "switch", "start", "ready", "resume", "soak", "commit")
BACK = ("evidence", "back_stop", "back_database", "back_switch", "back_start", "back_ready", "back_resume")
KINDS = ("upgrade", "restart", "reload", "rollback")

COMMITTED, ROLLED_BACK, ABORTED = "committed", "rolled_back", "aborted"
INCONCLUSIVE, NEEDS_OPERATOR = OPEN_OUTCOMES
OUTCOMES = (COMMITTED, ROLLED_BACK, ABORTED, INCONCLUSIVE, NEEDS_OPERATOR)

NEEDED_KEYS = ("id", "service", "unit", "kind", "from", "to", "home", "health")
ORDER: dict[str, Any] = {
    "reasons": [],
    "user": "root",
    "group": "root",
    "files": [],  # {path, owner, group, mode, sha256, new: name below new/, or None: remove}
    "running": [],  # paths that the service reads when it starts
    "databases": [],  # {path, engine: sqlite}
    "version": {},  # pattern
    "drain": None,
    "soak": {},
    "analysis": [],
    "on_inconclusive": "pause",  # or pass, fail
    "backup": {},
    "stop_timeout": 90,
    "start_timeout": 90,
    "deadline": 0,
    "restore_from": "",  # a rollback that puts back the databases of the transaction of this id
    "secrets": {},
    "rollout": {},
}
HEALTH: dict[str, Any] = {"ready": None, "live": None, "version": None, "deadline": 120, "passes": 3, "interval": 1}
DRAIN: dict[str, Any] = {"request": None, "done": None, "resume": None, "deadline": 60, "grace": 0, "force": False}
SOAK: dict[str, Any] = {"duration": 0, "interval": 2, "restarts": 0}
BACKUP: dict[str, Any] = {"required": True, "command": []}

COPY_SECONDS = 120
"""What the copies of databases may take, in the deadline of the whole; they are not cut short at it."""
MISSES = 3
"""So many readiness probes in a row fail a soak, and so many in all if they are more than a fifth."""
VERSION_ATTEMPTS = 3
UNIT_SECONDS = 1.0
"""While a service starts, systemd is asked about it so often."""
ADOPTIONS = 50
"""An engine that dies more often than that is broken itself."""

_DOWN = ("stop", "copy", "switch", "start", "back_stop", "back_database", "back_switch", "back_start")
_DURABLE_BEGINS = {"backup", "drain", "stop", "switch", "start", "soak", *BACK}
# `copy` needs no flush: that `stop` has begun already leads back. The others repeat harmlessly.


class Starting(Protocol):
    """A start (or reload) that systemd works on."""

    def problem(self) -> str | None:
        """Return None while it is being done, else what went wrong (empty: nothing)."""


class Host(Protocol):
    """What a transaction needs of its host. All but ``ask``, ``measure`` and the clock raise FleetError or OSError."""

    def now(self) -> float:
        """Return seconds since 1970."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""

    def unit(self) -> probes.UnitState:
        """Return what systemd says of the service's unit."""

    def ask(self, request: Any, *, timeout: float = probes.ATTEMPT_SECONDS) -> probes.Answer:
        """Ask a probe or send a request, secrets filled in."""

    def measure(self, analysis: Mapping[str, Any]) -> analyses.Measurement:
        """Ask Prometheus once."""

    def back_up(self) -> str:
        """Keep what runs now (files in ``old``) and copy the databases while they are in use; return what was done.

        Raises BackupError where only the copies failed.
        """

    def schemas(self) -> list[str]:
        """Return the schema of each database now."""

    def stop(self) -> float:
        """Stop the service; return when that began (seconds since 1970)."""

    def copy_databases(self) -> str:
        """Copy the databases cold; return how."""

    def switch_forward(self) -> str:
        """Put the new files, then the new release in place; return what was changed."""

    def start(self) -> Starting:
        """Ask systemd to start the service."""

    def stopped_along(self) -> list[str]:
        """Return the units that run and that systemd stops together with the service."""

    def start_along(self, units: Sequence[str]) -> None:
        """Ask systemd to start these units again."""

    def not_running(self, units: Sequence[str]) -> list[str]:
        """Return those of these units that do not run."""

    def reload(self) -> Starting:
        """Ask systemd to reload the service."""

    def running_release(self) -> str:
        """Return the version that the service was started from; empty if nobody knows."""

    def keep_evidence(self, facts: Mapping[str, Any]) -> str:
        """Keep the logs and the state of what failed; return where."""

    def restore_databases(self) -> str:
        """Put the databases aside and the cold copies back; return what was done."""

    def switch_back(self) -> str:
        """Put the old files, then the old release back; return what was changed."""

    def settle(self, *, waits: bool) -> None:
        """Clean up after an outcome; ``waits``: for a person, so that the transaction keeps the service."""


class BackupError(FleetError):
    """The pre-upgrade backup failed."""


class Inconclusive(FleetError):
    """Nothing says whether the new release is good."""


class NeedsPerson(FleetError):
    """What comes next is not for a program to decide."""


# Orders


def complete(order: Mapping[str, Any]) -> dict[str, Any]:
    """Return an order with all defaults filled in. Raises FleetError when it is none."""
    missing = [key for key in NEEDED_KEYS if key not in order]
    unknown = sorted(set(order) - set(NEEDED_KEYS) - set(ORDER))
    if missing or unknown:
        raise FleetError(f"this is no order: {', '.join([*(f'no {key}' for key in missing), *(f'unknown {key}' for key in unknown)])}")
    if order["kind"] not in KINDS:
        raise FleetError(f"an order cannot be of the kind {order['kind']!r}; it is one of {', '.join(KINDS)}")

    def filled(defaults: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
        return {**defaults, **{key: value for key, value in (given or {}).items() if value is not None}}

    whole = filled(ORDER, order)
    for key, defaults in (("health", HEALTH), ("soak", SOAK), ("backup", BACKUP)):
        whole[key] = filled(defaults, whole[key])
    whole["drain"] = filled(DRAIN, whole["drain"]) if whole["drain"] else None
    whole["health"]["ready"] = whole["health"]["ready"] or {"unit": order["unit"]}
    whole["deadline"] = whole["deadline"] or seconds_allowed(whole)
    return whole


def seconds_allowed(order: Mapping[str, Any]) -> int:
    """Return how long a whole transaction may take, there and back, from the deadlines of its (complete) order."""
    drain = max(order["drain"]["deadline"], order["drain"]["grace"]) if order["drain"] else 0
    copies = COPY_SECONDS if order["databases"] else 0
    there_and_back = drain + float(order["stop_timeout"]) + float(order["health"]["deadline"])
    return math.ceil(2 * there_and_back + copies + soak_seconds(order) + 60)


def soak_seconds(order: Mapping[str, Any]) -> float:
    """Return how long the soak lasts: its duration, or longer where an analysis needs it."""
    return max([float(order["soak"]["duration"]), *(analyses.duration(one) for one in order["analysis"])])


def phases_of(order: Mapping[str, Any], way: Sequence[str]) -> list[str]:
    """Return the phases of FORWARD or BACK that an order has. A reload stops nothing; a restart cannot change a schema."""
    absent = set()
    if order["kind"] == "reload":
        absent = {"drain", "stop", "copy", "resume", "back_stop", "back_database", "back_resume"}
    if not order["drain"]:
        absent |= {"drain", "resume", "back_resume"}
    if not order["databases"] or not may_migrate(order):
        absent |= {"copy", "back_database"}
    return [phase for phase in way if phase not in absent]


def may_migrate(order: Mapping[str, Any]) -> bool:
    """Return whether databases may become others than the old release can read: not by a restart of the same one."""
    return bool(order["from"] != order["to"] or order["restore_from"])


# What a journal says


@dataclass
class Progress:
    """What a journal's lines come to. ``asked_back``: a person wants the old release back after an open outcome."""

    begun: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    phase: str = ""
    outcome: str = ""
    failed: str = ""
    expires: float = 0.0
    asked_back: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    adoptions: int = 0

    @property
    def served(self) -> bool:
        """Whether the new release may have taken writes."""
        return bool(self.facts.get("served"))


_ABOUT_A_LINE = ("at", "phase", "event", "said", "outcome", "expires", "asked", "adopted")


def progress(lines: Sequence[Line]) -> Progress:
    """Return what has happened so far. Facts are all further keys of the lines, the later ones counting."""
    found = Progress()
    for line in lines:
        phase, event = line.get("phase", ""), line.get("event", "")
        if event == "begin":
            found.phase = phase
            found.begun.add(phase)
        elif event == "end":
            found.ended.add(phase)
        elif event == "fail":
            found.failed = found.failed or str(line.get("said"))
        found.outcome = line.get("outcome", found.outcome)
        found.expires = line.get("expires", found.expires)
        found.adoptions += bool(line.get("adopted"))
        found.facts.update({key: value for key, value in line.items() if key not in _ABOUT_A_LINE})
        if line.get("asked") == "back":
            found.asked_back, found.outcome = True, ""
            found.begun -= set(BACK)
    return found


def whence(order: Mapping[str, Any], found: Progress, now: float) -> tuple[str, str]:
    """Return where a journal is to be taken up: ``forward`` or ``back`` and from which phase, ``abort``, or ``settled``. Pure."""
    if found.outcome:
        return "settled", ""
    back_begun = [phase for phase in BACK if phase in found.begun]
    first_touch = "switch" if order["kind"] == "reload" else "stop"
    if not found.begun:
        return ("forward", "backup") if now < found.expires else ("abort", "")
    if first_touch not in found.begun and not found.asked_back and set(back_begun) <= {"back_resume"}:
        return "abort", ""
    if back_begun or found.asked_back:
        return "back", _back_from(order, back_begun)
    if found.failed or "switch" not in found.ended or now >= found.expires:
        return "back", "evidence"
    # A host that was off meanwhile may have started the service or not; `start` settles that, and what follows checks it again.
    return "forward", "start"


def restarting(lines: Sequence[Line]) -> bool:
    """Return whether the service is down just now, or starts: then the host has nothing better to do. Pure."""
    last = lines[-1] if lines else {}
    return last.get("phase") in _DOWN or (last.get("phase") in ("ready", "back_ready") and last.get("event") == "begin")


def _back_from(order: Mapping[str, Any], begun: Sequence[str]) -> str:
    """Return the phase of the way back to repeat from: all before the start once more, as a boot may have started the service meanwhile."""
    if "back_start" in begun:
        return "back_start"
    stopping = "back_stop" if "back_stop" in phases_of(order, BACK) else "back_switch"
    return stopping if stopping in begun else "evidence"


def summary(order: Mapping[str, Any], lines: Sequence[Line]) -> dict[str, Any]:
    """Return a transaction's state for readers: ``state.json``. Pure."""
    found = progress(lines)
    told = [line for line in lines if line.get("said")]
    begins = {line["phase"]: line["at"] for line in lines if line.get("event") == "begin"}
    return {
        **{key: order[key] for key in ("id", "service", "kind", "from", "to")},
        "phase": found.phase,
        "since": begins.get(found.phase, lines[0]["at"] if lines else 0),
        "outcome": found.outcome or None,
        "undecided": found.outcome == NEEDS_OPERATOR and bool(found.facts.get("undecided")),
        "resolved": bool(found.facts.get("resolved")),
        "said": str(told[-1]["said"]) if told else "",
        "failed": found.failed,
        "started": lines[0]["at"] if lines else 0,
        "ended": lines[-1]["at"] if found.outcome else None,
        "expires": found.expires,
        "downtime": _downtime(found.facts),
        "phases": _phases(lines),
        "facts": {key: value for key, value in found.facts.items() if key in _FACTS_SHOWN},
        "next": next_command(order, found),
        "rollout": order["rollout"],
    }


_FACTS_SHOWN = ("schema_before", "schema_after", "served", "restarts", "database", "was_running", "drained", "copied")


def _downtime(facts: Mapping[str, Any]) -> float | None:
    """Return the seconds from the (first) stop to the first good probe of whatever then became ready."""
    if facts.get("stopped_at") is None or facts.get("ready_at") is None:
        return None
    return round(float(facts["ready_at"]) - float(facts["stopped_at"]), 3)


def _phases(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return the phases in the order in which they began; one that was repeated is listed as often."""
    phases: list[dict[str, Any]] = []
    for line in lines:
        if line.get("event") == "begin":
            phases.append({"phase": line["phase"], "begin": line["at"], "end": None, "said": line.get("said", "")})
        elif phases and line.get("event") in ("end", "fail"):
            phases[-1].update(end=line["at"], said=line.get("said") or phases[-1]["said"])
            if line["event"] == "fail":
                phases[-1]["failed"] = True
    return phases


def next_command(order: Mapping[str, Any], found: Progress) -> str:
    """Return what a person types next on the host; empty where nothing is open."""
    service = order["service"]
    if found.facts.get("resolved"):
        return ""
    if found.outcome == INCONCLUSIVE:
        return f"hearthctl promote {service} (keep {order['to']}), or hearthctl rollback {service}"
    if found.outcome == NEEDS_OPERATOR and found.facts.get("undecided"):
        restore = f"hearthctl rollback {service} --restore-database"
        return f"hearthctl promote {service} (keep {order['to']}), or {restore} (loses what was written since the switch)"
    if found.outcome == NEEDS_OPERATOR:
        return f"hearthctl status {service}; repair it, then hearthctl resolve {service}, or try again: hearthctl rollback {service}"
    return ""


def rolled_back_text(order: Mapping[str, Any], found: Progress) -> str:
    """Return why a transaction went back, and what the service is now. Pure."""
    if found.failed and "switch" in found.ended:
        tried = order["to"] if order["from"] != order["to"] else f"the {order['kind']}"
        why = f"{tried} failed: {found.failed}"
    elif found.failed:
        why = found.failed
    else:
        why = "a person wanted it back" if found.asked_back else "it was interrupted on its way"
    if found.facts.get("was_running", True):
        return f"{why}; {order['service']} serves {order['from']} again"
    return f"{why}; {order['service']} is on {order['from']} again, stopped as it was before"


# Doing it


_INTENTIONS = {
    "backup": "keep what runs now, and copy the databases",
    "drain": "take the service out of use",
    "stop": "stop the service",
    "copy": "copy the databases cold",
    "switch": "put the new release in place",
    "start": "start the service",
    "ready": "wait until it is ready",
    "resume": "put the service back to use",
    "soak": "watch it under load",
    "commit": "keep the new release",
    "evidence": "keep the evidence",
    "back_stop": "stop the new release",
    "back_database": "see whether the databases must go back",
    "back_switch": "put the old release back",
    "back_start": "start the old release",
    "back_ready": "wait until it is ready",
    "back_resume": "put the service back to use",
}


class Engine:
    """Takes one order to its outcome, from the beginning or from wherever its journal ends."""

    def __init__(self, order: Mapping[str, Any], host: Host, journal: Journal) -> None:
        self._order = order
        self._host = host
        self._journal = journal
        self._starting: Starting | None = None
        self._unit_seen = 0.0
        self._until_start = False

    def run(self, *, until_start: bool = False) -> str:
        """Bring the order to an outcome, and return that. Raises OSError when not even the journal can be written.

        With ``until_start`` it is only brought to where the service would be started (for the boot: what systemd starts
        must not be half of one release and half of the other); then the outcome may be empty.
        """
        self._until_start = until_start
        found = self._found
        way, phase = whence(self._order, found, self._host.now())
        if way != "settled" and found.begun:
            self._say(found.phase, "note", f"taken up again: {way} {phase}".rstrip(), adopted=True)
            if found.adoptions >= ADOPTIONS:
                self._close(NEEDS_OPERATOR, f"taken up {found.adoptions} times, to no end")
        if not self._found.outcome:
            if way == "forward":
                self._forward(phase)
            elif way == "back":
                self._back(phase)
            else:
                self._abort("interrupted before the service was stopped")
        outcome = self._found.outcome
        if outcome:
            self._host.settle(waits=outcome in OPEN_OUTCOMES and not self._found.facts.get("resolved"))
        return outcome

    @property
    def _found(self) -> Progress:
        return progress(self._journal.lines)

    @property
    def _along(self) -> list[str]:
        """The units that ran, and that stopping the service stopped along with it."""
        return list(self._found.facts.get("along", []))

    def _say(self, phase: str, event: str, said: str, *, durable: bool = True, **facts: Any) -> None:
        self._journal.append({"at": round(self._host.now(), 3), "phase": phase, "event": event, "said": said, **facts}, durable=durable)

    def _close(self, outcome: str, said: str, **facts: Any) -> None:
        self._say(self._found.phase, "note", said, outcome=outcome, **facts)

    def _phase(self, phase: str) -> None:
        """Announce a phase, do it, and say what came of it."""
        facts: dict[str, Any] = {}
        if phase == "backup":
            facts = {"was_running": self._host.unit().active in unit_control.RUNNING}
        elif phase in ("stop", "back_stop"):  # known before it is too late to ask
            facts = {"along": sorted({*self._along, *self._host.stopped_along()})}
        self._say(phase, "begin", _INTENTIONS[phase], durable=phase in _DURABLE_BEGINS, **facts)
        do: Callable[[], tuple[str, dict[str, Any]]] = getattr(self, f"_do_{phase}")
        said, facts = do()
        self._say(phase, "end", said, durable=False, **facts)

    # Forward

    def _forward(self, first: str) -> None:
        phases = phases_of(self._order, FORWARD)
        for phase in phases[phases.index(first) :]:
            if self._until_start:
                return
            try:
                self._phase(phase)
            except Inconclusive as error:
                self._close(INCONCLUSIVE, str(error))
                return
            except Exception as error:
                # Also a mistake of this program: the service must come back all the same.
                self._say(phase, "fail", _said(error))
                touched = {"stop", "switch"} & self._found.begun
                if touched:
                    self._back("evidence")
                else:
                    self._abort(_said(error))
                return
        self._close(COMMITTED, f"{self._order['service']} serves {self._order['to']}".rstrip())

    def _do_backup(self) -> tuple[str, dict[str, Any]]:
        facts: dict[str, Any] = {}
        try:
            said = self._host.back_up()
        except BackupError as error:
            if self._order["backup"]["required"]:
                raise
            said = f"without a backup, as backup.required is false: {error}"
        if "copy" in phases_of(self._order, FORWARD):
            facts["schema_before"] = self._host.schemas()
        return said, facts

    def _do_drain(self) -> tuple[str, dict[str, Any]]:
        drain, host = self._order["drain"], self._host
        if host.unit().active not in unit_control.RUNNING:
            return "nothing to drain: the service does not run", {"drained": False}
        started = host.monotonic()
        problem = self._ask_to_drain(drain)
        seconds = duration_text(round(host.monotonic() - started))
        if problem and not drain["force"]:
            raise FleetError(problem)
        unnoticed = started + float(drain["grace"]) - host.monotonic()
        # What ended by itself while it drained serves nobody: waiting would only make that longer.
        if unnoticed > 0 and host.unit().active in unit_control.RUNNING:
            host.sleep(unnoticed)
        if problem:
            return f"{problem}; going on, as drain.force says", {"drained": False}
        return f"drained in {seconds}", {"drained": True}

    def _ask_to_drain(self, drain: Mapping[str, Any]) -> str:
        """Return what keeps the service from being drained; empty when it is."""
        host = self._host
        answer = host.ask(drain["request"], timeout=max(probes.ATTEMPT_SECONDS, float(drain["deadline"])))
        if not answer.ok:
            absent = answer.pointless_after is not None
            hint = self._of_the_old_release() if absent else ""
            return f"the drain request failed: {probes.describe(drain['request'])}: {answer.said}{hint}"
        if not drain["done"]:
            return ""

        def gone() -> str:
            # Some daemons end when they are drained.
            return "" if host.unit().active in unit_control.RUNNING else "it ended by itself"

        waited = probes.wait_ready(drain["done"], deadline=drain["deadline"], passes=1, interval=1, hopeless=gone, clock=host, ask=host.ask)
        if waited.hopeless == probes.CANNOT_BE_ASKED:
            return f"nobody can see whether it is drained: {probes.describe(drain['done'])}: {waited.answer}{self._of_the_old_release()}"
        if waited.ready or waited.hopeless:
            return ""
        return f"not drained within {duration_text(int(drain['deadline']))}: {probes.describe(drain['done'])}: {waited.answer}"

    def _of_the_old_release(self) -> str:
        """Return a hint about a program that is not there while the old release is: the new one may bring it, which is too late."""
        old, new = self._order["from"], self._order["to"]
        return f"; until the switch, the programs of {old} are there, and none that {new} brings" if old and old != new else ""

    def _do_stop(self) -> tuple[str, dict[str, Any]]:
        at = self._host.stop()
        return self._stopped(), {"stopped_at": round(at, 3)}

    def _do_copy(self) -> tuple[str, dict[str, Any]]:
        return self._host.copy_databases(), {"copied": True}

    def _do_switch(self) -> tuple[str, dict[str, Any]]:
        return self._host.switch_forward(), {}

    def _do_start(self) -> tuple[str, dict[str, Any]]:
        reload = self._order["kind"] == "reload" and "ready" not in self._found.begun
        self._starting = self._host.reload() if reload else self._host.start()
        return "systemd reloads it" if reload else "systemd starts it", {}

    def _do_ready(self) -> tuple[str, dict[str, Any]]:
        waited, at = self._wait_ready("ready")
        self._want_release(self._order["to"])
        self._want_version()
        return self._ready(waited), {"ready_at": at, "restarts": self._host.unit().restarts}

    def _do_resume(self) -> tuple[str, dict[str, Any]]:
        return self._resume(), {}

    def _do_soak(self) -> tuple[str, dict[str, Any]]:
        return Soak(self._order, self._host, self._journal.lines, self._say).run(), {}

    def _do_commit(self) -> tuple[str, dict[str, Any]]:
        return "kept", {}

    # Back

    def _abort(self, why: str) -> None:
        """End before the service was stopped: it is put back to use. One that ended while it was drained is started again."""
        found = self._found
        if self._until_start:
            return
        try:
            if found.facts.get("was_running") and self._host.unit().active not in unit_control.RUNNING:
                self._back("back_start")
                return
            if "drain" in found.begun and found.facts.get("was_running"):
                self._phase("back_resume")
        except Exception as error:
            self._say("back_resume", "fail", _said(error))
            self._close(NEEDS_OPERATOR, f"{why}; and then: {_said(error)}")
            return
        self._close(ABORTED, f"nothing was changed: {why}")

    def _back(self, first: str) -> None:
        phases = phases_of(self._order, BACK)
        if not self._found.facts.get("was_running", True):
            phases = [phase for phase in phases if phase not in ("back_start", "back_ready", "back_resume")]
        begin = BACK.index(first)
        for phase in phases:
            if BACK.index(phase) < begin:
                continue
            if self._until_start and phase == "back_start":
                return
            try:
                self._phase(phase)
            except NeedsPerson as error:
                self._close(NEEDS_OPERATOR, str(error), undecided=True)
                return
            except Exception as error:
                self._say(phase, "fail", _said(error))
                self._close(NEEDS_OPERATOR, f"the way back failed ({phase}): {_said(error)}", undecided=False)
                return
        self._close(ROLLED_BACK, rolled_back_text(self._order, self._found))

    def _do_evidence(self) -> tuple[str, dict[str, Any]]:
        found = self._found
        try:
            said = self._host.keep_evidence({**found.facts, "failed": found.failed})
        except Exception as error:  # it must not keep the service down
            said = f"incomplete: {_said(error)}"
        if found.served and not self._may_restore(found):
            # Asked before it is stopped: if a person has to decide, the service goes on as it is.
            self._want_same_schema(self._host.schemas(), found)
        return said, {}

    def _may_restore(self, found: Progress) -> bool:
        """Say whether nothing can be lost by putting the databases back, or a person accepted it."""
        return not found.facts.get("copied") or bool(found.facts.get("restore_database"))

    def _want_same_schema(self, now: list[str], found: Progress) -> None:
        if now == found.facts.get("schema_before"):
            return
        before, after = _versions(found.facts.get("schema_before")), _versions(now)
        raise NeedsPerson(
            f"the schema of the database changed (from {before} to {after}) and {self._order['to']} has served since: going back to "
            f"{self._order['from']} would lose what was written; nothing more was touched"
        )

    def _do_back_stop(self) -> tuple[str, dict[str, Any]]:
        at = self._host.stop()
        return self._stopped(), {"stopped_at": self._found.facts.get("stopped_at") or round(at, 3)}

    def _do_back_database(self) -> tuple[str, dict[str, Any]]:
        found = self._found
        done = found.facts.get("database") or "none"
        if not found.facts.get("copied"):
            return "the databases were not touched", {"database": done}
        now = self._host.schemas()
        facts = {"schema_after": now}
        changed, forced = now != found.facts.get("schema_before"), found.facts.get("restore_database")
        if not (changed or forced or self._order["restore_from"]):
            return "the schema is the same: the databases stay", {**facts, "database": "restored" if done == "restored" else "kept"}
        if found.served and not forced:
            if changed:
                self._want_same_schema(now, found)
            return "the databases stay, as they were in use", {**facts, "database": "kept"}
        return self._host.restore_databases(), {**facts, "database": "restored"}

    def _do_back_switch(self) -> tuple[str, dict[str, Any]]:
        if not self._order["from"]:
            raise FleetError("there is no release to go back to")
        return self._host.switch_back(), {}

    def _do_back_start(self) -> tuple[str, dict[str, Any]]:
        reload = self._order["kind"] == "reload" and self._host.unit().active in unit_control.RUNNING
        self._starting = self._host.reload() if reload else self._host.start()
        return "systemd reloads it" if reload else "systemd starts it", {}

    def _do_back_ready(self) -> tuple[str, dict[str, Any]]:
        waited, at = self._wait_ready("back_ready")
        return self._ready(waited), {"ready_at": at, "restarts": self._host.unit().restarts}

    def _do_back_resume(self) -> tuple[str, dict[str, Any]]:
        return self._resume(), {}

    # Both ways

    def _stopped(self) -> str:
        return f"stopped, and with it {', '.join(self._along)}" if self._along else "stopped"

    def _ready(self, waited: probes.ProbeResult) -> str:
        """Return how the service became ready. Raises FleetError when what stopped with it does not run again."""
        gone = self._host.not_running(self._along)
        if gone:
            raise FleetError(f"{', '.join(gone)}, which stopped with it, does not run again")
        also = f"; {', '.join(self._along)} started again" if self._along else ""
        return f"ready after {waited.attempts} probes: {waited.answer}{also}"

    def _wait_ready(self, phase: str) -> tuple[probes.ProbeResult, float]:
        """Wait for the service; return what came of it, and when it first answered well. Raises FleetError when it is not ready."""
        host, health = self._host, self._order["health"]
        began, self._unit_seen = host.now(), host.monotonic()
        along = self._along

        def ask(request: Any, *, timeout: float) -> probes.Answer:
            nonlocal along
            answer = host.ask(request, timeout=timeout)
            if answer.ok and phase == "ready" and not self._found.served:
                # On the disk before anything acts on it: from here on, going back may lose what users wrote.
                self._say(phase, "note", "it answers", served=True)
            if answer.ok and along:
                host.start_along(along)
                along = []
            return answer

        restarts = host.unit().restarts if self._order["kind"] == "reload" else 0
        waited = probes.wait_ready(
            health["ready"],
            deadline=health["deadline"],
            passes=health["passes"],
            interval=health["interval"],
            hopeless=lambda: self._hopeless(restarts, at_most_every=UNIT_SECONDS),
            clock=host,
            ask=ask,
        )
        problem = waited.hopeless or self._hopeless(restarts)
        if problem or waited.served_after is None:
            late = f"{waited.passes} of {health['passes']} probes in a row succeeded within {duration_text(int(health['deadline']))}"
            back = phase == "back_ready" and problem == probes.CANNOT_BE_ASKED
            hint = self._of_the_old_release() if back else ""
            raise FleetError(f"not ready: {problem or late}; {probes.describe(health['ready'])}: {waited.answer}{hint}")
        return waited, round(began + waited.served_after, 3)

    def _hopeless(self, restarts: int, *, at_most_every: float = 0.0) -> str:
        problem = self._starting.problem() if self._starting else ""
        if problem:
            why = probes.why_hopeless(self._host.unit(), restarts)
            return f"{why}; {problem}" if why else problem
        # Asking systemd takes a process, and on a small host that is time which the daemon needs for its start.
        if self._host.monotonic() < self._unit_seen + at_most_every:
            return ""
        self._unit_seen = self._host.monotonic()
        state = self._host.unit()
        if problem is None and state.active in ("inactive", "deactivating"):
            return ""  # systemd has not come to it yet
        return probes.why_hopeless(state, restarts)

    def _want_release(self, wanted: str) -> None:
        runs = self._host.running_release()
        if wanted and runs and runs != wanted:
            raise FleetError(f"the service was started from release {runs}, not {wanted}")

    def _want_version(self) -> None:
        """Raise FleetError unless the version endpoint, if there is one, says the release's version."""
        request, wanted = self._order["health"]["version"], self._order["to"]
        if not request or not wanted:
            return
        for attempt in range(VERSION_ATTEMPTS):
            answer = self._host.ask(request)
            if answer.ok and staging.version_in(answer.text, str(self._order["version"].get("pattern") or ""), wanted) == wanted:
                return
            if attempt + 1 < VERSION_ATTEMPTS:
                self._host.sleep(self._order["health"]["interval"])
        raise FleetError(f"it does not say that it is {wanted}: {probes.describe(request)}: {answer.said}")

    def _resume(self) -> str:
        resume = (self._order["drain"] or {}).get("resume")
        if not resume:
            return "nothing to ask: a start ends the drain"
        end = self._host.monotonic() + self._order["health"]["deadline"]
        patience = probes.Patience()
        pause = 1.0
        while True:
            answer = self._host.ask(resume)
            if answer.ok:
                return f"back in use: {answer.said}"
            if patience.is_over(answer, self._host.monotonic()) or self._host.monotonic() + pause > end:
                raise FleetError(f"it cannot be put back to use: {probes.describe(resume)}: {answer.said}")
            self._host.sleep(pause)
            pause = min(2 * pause, 10.0)


class Soak:
    """Watches a service that has become ready: it stays ready, is not restarted, and its metrics are as they should be."""

    def __init__(self, order: Mapping[str, Any], host: Host, lines: Sequence[Line], say: Callable[..., None]) -> None:
        self._order = order
        self._host = host
        self._say = say
        self._asked = self._missed = self._missed_in_row = 0
        self._restarts = int(progress(lines).facts.get("restarts") or 0) + order["soak"]["restarts"]
        self._began = min((line["at"] for line in lines if (line.get("phase"), line.get("event")) == ("soak", "begin")), default=host.now())
        self._results: dict[str, list[str]] = {one["name"]: [] for one in order["analysis"]}
        for line in lines:
            if line.get("analysis") in self._results:
                self._results[line["analysis"]].append(line["result"])

    def run(self) -> str:
        """Watch until the soak is over, one that was interrupted for what is left of it. Raises FleetError, or Inconclusive."""
        host = self._host
        over = host.monotonic() + max(0.0, self._began + soak_seconds(self._order) - host.now())
        while True:
            self._check_unit()
            self._check_ready()
            self._analyse(over)
            left = over - host.monotonic()
            if left <= 0:
                break
            host.sleep(min(float(self._order["soak"]["interval"]) or 1.0, left))
        verdicts = [analyses.judge(one, self._results[one["name"]]) for one in self._order["analysis"]]
        unclear = [verdict.said for verdict in verdicts if verdict.result == analyses.INCONCLUSIVE]
        if unclear and self._order["on_inconclusive"] == "fail":
            raise FleetError(f"the analysis is inconclusive, and on_inconclusive says fail: {'; '.join(unclear)}")
        if unclear and self._order["on_inconclusive"] == "pause":
            raise Inconclusive("; ".join(unclear))
        return "; ".join([f"{self._asked - self._missed} of {self._asked} probes succeeded", *(verdict.said for verdict in verdicts)])

    def _check_unit(self) -> None:
        state = self._host.unit()
        problem = probes.why_hopeless(state, self._restarts)
        permitted = state.sub.startswith("auto-restart") and state.restarts < self._restarts
        if problem and not permitted:
            raise FleetError(f"{problem}; {state}")

    def _check_ready(self) -> None:
        answer = self._host.ask(self._order["health"]["ready"])
        self._asked += 1
        self._missed += not answer.ok
        self._missed_in_row = 0 if answer.ok else self._missed_in_row + 1
        if self._missed_in_row >= MISSES or (self._missed >= MISSES and self._missed * 5 > self._asked):
            raise FleetError(f"it does not stay ready: {self._missed} of {self._asked} probes failed, the last one said: {answer.said}")

    def _analyse(self, over: float) -> None:
        """Make the measurements that are due: the n-th of an analysis after n of its intervals, all before the soak is over."""
        elapsed = self._host.now() - self._began
        at_the_end = self._host.monotonic() >= over
        for one in self._order["analysis"]:
            results = self._results[one["name"]]
            due = elapsed >= (len(results) + 1) * float(one["interval"]) or at_the_end
            if len(results) >= one["count"] or not due:
                continue
            measurement = self._host.measure(one)
            result = analyses.classify(one, measurement)
            results.append(result)
            self._say("soak", "note", f"{one['name']}: {result} ({measurement.said})", durable=False, analysis=one["name"], result=result)
            verdict = analyses.judge(one, results)
            if verdict.result == analyses.FAIL:
                raise FleetError(f"the analysis failed: {verdict.said}; the last one: {measurement.said}")


def _said(error: Exception) -> str:
    if isinstance(error, FleetError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}"
    return f"{type(error).__name__}: {error}"


def _versions(schemas: Sequence[str] | None) -> str:
    """Return the version numbers of schemas, for people."""
    return ", ".join(one if one.startswith("unreadable") else one.partition(":")[0] for one in schemas or []) or "unknown"
