# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout did: its events in, one document out, and that as text, metrics and annotations. Pure.

The page for people is made of the same document by ``rollout_page``. Times are seconds since 1970. An event is a dict with
``event`` and ``at``, and

``rollout``      ``id``, ``owner`` (user@controller), ``playbook``, ``command`` (that runs it again), ``plan`` (the rollout plan; the
                 last one counts)
``transaction``  ``host``, ``batch`` (one batch of the plan, or None), ``state`` (the host's state.json, None where nobody knows
                 it: the host did not answer), ``said``, ``evidence`` (the directory on the controller that its logs were fetched to);
                 a later one of the same host and service replaces the earlier one
``decision``     ``said``
``end``          ``failed`` (whether the run failed), ``said``, ``next`` (a command); missing while the run goes on, or was killed

Events are built from what hosts sent, so nothing is taken for granted: what is missing or of the wrong type becomes None or
an empty text, never an exception.
"""

from __future__ import annotations

import html
import math
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.hearth.fleet.plugins.module_utils import wrapped_table
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text

FORMAT, VERSION = "hearth.fleet/rollout", 1

ONE_TIME = ("rollout_confirm", "rollout_promote", "rollout_replan", "rollout_break_lock")
"""Variables that decide about one run, and must not be repeated unseen."""

PHASES = ("backup", "drain", "stop", "copy", "switch", "start", "ready", "resume", "soak", "commit")
PHASES_BACK = ("evidence", "back_stop", "back_database", "back_switch", "back_start", "back_ready", "back_resume")

COMMITTED, ROLLED_BACK, ABORTED, INCONCLUSIVE, NEEDS_OPERATOR = "committed", "rolled_back", "aborted", "inconclusive", "needs_operator"
RUNNING, UNKNOWN, PENDING = "running", "unknown", "pending"

WORDS = {
    COMMITTED: "committed",
    ROLLED_BACK: "rolled back",
    ABORTED: "aborted",
    INCONCLUSIVE: "inconclusive",
    NEEDS_OPERATOR: "needs operator",
    RUNNING: "running",
    UNKNOWN: "unknown",
    PENDING: "not begun",
    "halted": "halted",
    "paused": "paused",
    "unfinished": "unfinished",
    "nothing": "nothing to do",
}
"""Each outcome of a host or of the whole rollout as people read it, worst last within those of a host's journal."""

_WORST_FIRST = (NEEDS_OPERATOR, INCONCLUSIVE, UNKNOWN, ROLLED_BACK, ABORTED, RUNNING)
_FOR_A_PERSON = (NEEDS_OPERATOR, INCONCLUSIVE)
_WENT_WRONG = (ROLLED_BACK, ABORTED, UNKNOWN)
_FINAL = (COMMITTED, ROLLED_BACK, ABORTED, INCONCLUSIVE, NEEDS_OPERATOR)

RUNBOOKS = {
    ROLLED_BACK: "a-host-went-back",
    ABORTED: "not-drained-nothing-changed",
    INCONCLUSIVE: "nothing-proves-the-release",
    NEEDS_OPERATOR: "the-way-back-failed",
    UNKNOWN: "a-host-is-not-seen-any-more",
}
"""The headings of docs/runbooks.md, by outcome of a host."""

UNDECIDED = "the-database-was-converted-and-then-it-failed"
"""The heading for a host that needs a person's decision, not a repair."""

_COLUMNS = {"host": "HOST", "service": "SERVICE", "from": "FROM", "to": "TO", "outcome": "OUTCOME", "down": "DOWN", "took": "TOOK", "said": "STATE"}
_SAID_WIDTH = 44
_TEXT_MAX = 4000  # characters; a daemon's last words may be a core dump
_END_OF_CALENDARS = 253402300800.0  # the year 10000, which datetime does not know
_PHASE_WIDTH = max(map(len, PHASES_BACK))
_SERVED = ("resume", "soak", "commit")  # only a new release that got ready comes so far
_PACE_LIMITS = (0.25, 4.0)  # one odd batch must not make nonsense of the time left

Document = dict[str, Any]
Event = Mapping[str, Any]
Gap = dict[str, Optional[float]]


def document(events: Iterable[Event], now: float) -> Document:
    """Return what is known of a rollout at the time ``now``, as plain data; this is what the JSON report holds.

    ``format`` and ``version`` (a higher one may lack keys that this one has), ``id``, ``owner``, ``playbook``, ``plan`` (its SHA-256),
    ``started``, ``ended`` (None while it goes on, or when nobody saw the end), ``written``; ``outcome``: committed, halted,
    needs_operator, paused (ended well, and hosts wait), unfinished, nothing; ``said``: sentences of what happened; ``next``: list of
    {``on``: a host, or "" for the controller, ``command``}; ``counts``: hosts by outcome; ``downtime_max`` in seconds;
    ``batches``: {``service``, ``number``, ``of``, ``tier``, ``canary``, ``hosts``, ``started``, ``ended``};
    ``skipped``, ``held`` and ``unready`` (before the rollout): {``host``, ``service``, ``why``};
    ``arithmetic``: {``service``, ``hosts``, ``ready``, ``min_available``, ``batch``};
    ``decisions``: {``at``, ``said``} by time; and ``rows``, one for each host and service in the order of the plan:
    ``host``, ``service``, ``batch`` and ``of`` (numbers), ``tier``, ``canary``, ``kind``, ``from``, ``to``, ``outcome`` (of the journal, or running,
    unknown, pending), ``phase``, ``state`` (in words), ``said``, ``next``, ``runbook`` (a heading of docs/runbooks.md), ``evidence``,
    ``started``, ``ended``, ``seconds``, ``expected_seconds``,
    ``downtime`` (stop to first ready), ``out_of_service`` (sum of all gaps), ``gaps``: {``begin``, ``end``}, ``facts``,
    ``phases``: {``phase``, ``begin``, ``end``, ``seconds``, ``said``}.
    """
    known = [event for event in events if isinstance(event, Mapping)]
    rollout = _last(known, "rollout")
    end = _last(known, "end")
    plan = _mapping(rollout.get("plan"))
    rows = _rows(plan, known, now)
    batches = [_batch(batch, rows) for batch in _mappings(plan.get("batches"))]
    outcome = _outcome(rows, plan, end)
    ids = [_mapping(event.get("state")).get("id") for event in known]
    times = [moment(event.get("at")) for event in known] + [row["started"] for row in rows]
    ended = moment(end.get("at"))
    return {
        "format": FORMAT,
        "version": VERSION,
        "id": text(rollout.get("id") or plan.get("id") or next(filter(None, ids), "")),
        "owner": text(rollout.get("owner")),
        "playbook": text(rollout.get("playbook")),
        "plan": text(plan.get("sha256")),
        "started": min((time for time in times if time is not None), default=None),
        "ended": ended,
        "written": now,
        "outcome": outcome,
        "said": _said(outcome, rows, plan, end),
        "next": _next(outcome, rows, rollout, end),
        "counts": dict(Counter(row["outcome"] for row in rows)),
        "downtime_max": max((row["downtime"] for row in rows if row["downtime"] is not None), default=None),
        "batches": batches,
        "skipped": _named(plan.get("skipped")),
        "held": _named(plan.get("held")),
        "unready": _named(plan.get("unready")),
        "arithmetic": _arithmetic(plan.get("arithmetic")),
        "decisions": _decisions(known, rows, batches),
        "rows": rows,
    }


def line(host: str, phase: str, seconds: float | None, said: str, host_width: int = 8) -> str:
    """Return one line about one phase on one host, for a terminal: ``relay1   drain      2.1 s  drained``.

    ``seconds`` is None while the phase lasts. ``host_width`` is the length of the longest name, so that lines of several hosts align.
    """
    took = "..." if seconds is None else seconds_text(seconds)
    return f"{text(host):<{host_width}}  {text(phase):<{_PHASE_WIDTH}}  {took:>7}  {text(said)}".rstrip()


def failure(host: str, state: Mapping[str, Any], evidence: str = "") -> str:
    """Return the error about a transaction that did not commit: what happened, where the evidence is, and what to type next.

    ``state`` is the host's state.json, ``evidence`` the directory on the controller that its journal and logs were fetched to.
    """
    report = document([{"event": "transaction", "at": None, "host": host, "state": state}], now=0.0)
    row = report["rows"][0]
    lines = [f"{row['host']}: {row['service'] or 'the transaction'} {WORDS[row['outcome']]}: {row['state']}"]
    lines += [f"  evidence: {text(evidence)}"] if evidence else []
    return "\n".join([*lines, *([f"  → on {row['host']}: {row['next']}"] if row["next"] else [])])


def same_command(arguments: Mapping[str, Any], default_inventory: object = None) -> str:
    """Return the command that starts the same playbook on the same hosts, from what ``ansible-playbook`` was called with.

    Values of extra variables, which may be secrets, are left out but for those of rollouts; decisions for one time are left out whole.
    """
    words = ["ansible-playbook", *_texts(arguments.get("args"))]
    inventory = arguments.get("inventory")
    if inventory != default_inventory:
        words += [word for one in _texts(inventory) for word in ("-i", one)]
    if arguments.get("subset"):
        words += ["--limit", text(arguments["subset"])]
    for given in _texts(arguments.get("extra_vars")):
        words += ["-e", given] if given.startswith("@") else [word for one in _assignments(given) for word in ("-e", one)]
    return " ".join(word if "…" in word else shlex.quote(word) for word in words)


def _assignments(given: str) -> list[str]:
    """Return the ``key=value`` of an extra variable as they may be shown."""
    if given.lstrip().startswith(("{", "[")):
        return ["…"]
    found = [one.partition("=") for one in given.split() if "=" in one]
    return [f"{name}={value if name.startswith('rollout_') else '…'}" for name, _sign, value in found if name not in ONE_TIME and name.isidentifier()]


def progress(report: Document) -> dict[str, Any]:
    """Return how far a rollout is: ``done`` and ``hosts`` (rows), ``left_seconds`` (None where the plan expects no times).

    The batches to come take what the plan expects, stretched by what the finished ones took in truth; the hosts of a batch go
    side by side.
    """
    rows = report["rows"]
    done = sum(row["outcome"] in _FINAL for row in rows)
    finished, left = [], []
    for batch in report["batches"]:
        own = [row for row in rows if row["service"] == batch["service"] and row["batch"] == batch["number"]]
        expected = max((row["expected_seconds"] or 0.0 for row in own), default=0.0)
        if all(row["outcome"] in _FINAL for row in own):
            finished.append((expected, max((row["seconds"] or 0.0 for row in own), default=0.0)))
        else:
            left.append(expected)
    if any(expected == 0 for expected in left):
        return {"done": done, "hosts": len(rows), "left_seconds": None}
    expected, taken = (sum(times) for times in zip(*finished)) if finished else (0.0, 0.0)
    pace = min(max(taken / expected, _PACE_LIMITS[0]), _PACE_LIMITS[1]) if expected and taken else 1.0
    return {"done": done, "hosts": len(rows), "left_seconds": round(pace * sum(left))}


def terminal(report: Document, path: str = "") -> str:
    """Return a report as a few lines for a terminal; ``path`` is where its page is."""
    shown = [
        {
            **row,
            "outcome": WORDS[row["outcome"]],
            "down": duration(row["downtime"]),
            "took": duration(row["seconds"]),
            "said": row["state"],
        }
        for row in report["rows"]
    ]
    parts = [f"rollout {report['id']}: {WORDS[report['outcome']]}".replace(" :", ":"), *report["said"]]
    if shown:
        parts += ["", wrapped_table.render(shown, _COLUMNS, {"said": _SAID_WIDTH}), ""]
    parts += [f"skipped: {one['host']}{' ' + one['service'] if one['service'] else ''}: {one['why']}" for one in report["skipped"]]
    parts += [f"next{', on ' + one['on'] if one['on'] else ''}: {one['command']}" for one in report["next"]]
    parts += [f"runbook: docs/runbooks.md#{one}" for one in dict.fromkeys(row["runbook"] for row in report["rows"]) if one]
    return "\n".join([*parts, *([f"report: {path}"] if path else [])])


def grafana_annotations(report: Document) -> list[dict[str, Any]]:
    """Return the bodies for Grafana's ``POST /api/annotations``: one region for the whole rollout, then one for each host that began.

    ``time`` and ``timeEnd`` are milliseconds. Grafana shows ``text`` as HTML, so it is escaped.
    """
    common = ["hearth", "rollout", f"rollout:{report['id']}"]
    whole = {"started": report["started"], "ended": report["ended"]}
    services = sorted({f"service:{row['service']}" for row in report["rows"]})
    found = [_annotation(report, whole, [*common, f"outcome:{report['outcome']}", *services], "; ".join(report["said"]))]
    for row in report["rows"]:
        if row["started"] is not None:
            tags = [*common, f"outcome:{row['outcome']}", f"service:{row['service']}", f"host:{row['host']}", f"version:{row['to']}"]
            found.append(_annotation(report, row, tags, f"{row['service']} on {row['host']}: {row['state']}"))
    return [one for one in found if one["time"] is not None]


def metrics(report: Document) -> str:
    """Return a report in Prometheus' text format, as node_exporter's textfile collector and the Pushgateway take it."""
    info = {key: report[key] for key in ("id", "owner", "playbook", "outcome")}
    hosts = Counter((row["service"], row["outcome"]) for row in report["rows"])
    named = [({"host": row["host"], "service": row["service"]}, row) for row in report["rows"]]
    families: list[tuple[str, str, list[tuple[Mapping[str, str], float | None]]]] = [
        ("info", "The last rollout and how it ended.", [(info, 1)]),
        ("started_timestamp_seconds", "When it began.", [({}, report["started"])]),
        ("ended_timestamp_seconds", "When it ended.", [({}, report["ended"])]),
        ("hosts", "Hosts by outcome.", [({"service": service, "outcome": outcome}, count) for (service, outcome), count in sorted(hosts.items())]),
        ("downtime_seconds", "From the stop to the first readiness.", [(labels, row["downtime"]) for labels, row in named]),
        ("host_seconds", "What the transaction on the host took.", [(labels, row["seconds"]) for labels, row in named]),
    ]
    lines = []
    for name, what, samples in families:
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            full = f"hearth_rollout_{name}"
            lines += [f"# HELP {full} {what}", f"# TYPE {full} gauge", *(f"{full}{_labels(labels)} {value:.15g}" for labels, value in known)]
    return "\n".join(lines) + "\n"


def seconds_text(seconds: float) -> str:
    """Return a duration as people read it: ``2.1 s``, ``45 s``, ``4m12s``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    return f"{round(seconds)} s" if seconds < 119.5 else duration_text(round(seconds))


def duration(seconds: float | None) -> str:
    """Return a duration as people read it, an empty text for none."""
    return "" if seconds is None else seconds_text(seconds)


def text(value: object) -> str:
    """Return a value of unknown origin as one line of printable text, an empty one for None.

    Control characters, line breaks, marks that turn the direction of writing and halves of surrogate pairs become blanks.
    """
    if value is None:
        return ""
    raw = str(value)
    long = raw[:_TEXT_MAX] + (" ..." if len(raw) > _TEXT_MAX else "")
    return " ".join("".join(" " if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") else one for one in long).split())


def number(value: object) -> float | None:
    """Return a value of unknown origin as a number, None where it is none, or not a finite one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def moment(value: object) -> float | None:
    """Return a value of unknown origin as a time in seconds since 1970, None where no calendar has it."""
    found = number(value)
    return found if found is not None and 0 <= found < _END_OF_CALENDARS else None


# Rows


def _rows(plan: Mapping[str, Any], events: Iterable[Event], now: float) -> list[dict[str, Any]]:
    """Return the rows of the plan, and after them those that only a host told of."""
    planned = {(text(row.get("service")), text(row.get("host"))): row for row in _mappings(plan.get("rows"))}
    batches = {(text(batch.get("service")), host): batch for batch in _mappings(plan.get("batches")) for host in _texts(batch.get("hosts"))}
    told: dict[tuple[str, str], Event] = {}
    for event in events:
        if event.get("event") == "transaction":
            told[_key(event, planned)] = event
    order = [*(key for key in batches if key in planned), *planned, *batches, *told]
    return [_row(key, planned.get(key, {}), batches.get(key, {}), told.get(key), now) for key in dict.fromkeys(order)]


def _key(event: Event, planned: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return service and host of a transaction; where nobody names the service, the host's first one of the plan."""
    host = text(event.get("host"))
    service = text(_mapping(event.get("state")).get("service") or _mapping(event.get("batch")).get("service"))
    return next((key for key in planned if key[1] == host), ("", host)) if not service else (service, host)


def _row(key: tuple[str, str], planned: Mapping[str, Any], batch: Mapping[str, Any], told: Event | None, now: float) -> dict[str, Any]:
    state = _mapping(told.get("state")) if told else {}
    batch = batch or _mapping(told.get("batch") if told else None)
    phases = [_phase(one) for one in _mappings(state.get("phases"))]
    begun = [one["begin"] for one in phases if one["begin"] is not None]
    outcome = _row_outcome(state, told)
    started = _first(moment(state.get("started")), min(begun, default=None))
    ends = [one["end"] for one in phases if one["end"] is not None]
    ended = _first(moment(state.get("ended")), max(ends, default=None)) if outcome in _FINAL else None
    gaps = _gaps(phases)
    row: dict[str, Any] = {
        "host": key[1],
        "service": key[0],
        "batch": _integer(batch.get("number")),
        "of": _integer(batch.get("of")),
        "tier": text(batch.get("tier") or planned.get("tier")),
        "canary": batch.get("canary") is True,
        "kind": text(state.get("kind") or planned.get("kind")),
        "from": text(state.get("from") or planned.get("from")),
        "to": text(state.get("to") or planned.get("to")),
        "outcome": outcome,
        "phase": text(state.get("phase")),
        "said": text(state.get("said") or (told or {}).get("said")),
        "next": text(state.get("next")),
        "runbook": UNDECIDED if state.get("undecided") is True else RUNBOOKS.get(outcome, ""),
        "evidence": text((told or {}).get("evidence")),
        "started": started,
        "ended": ended,
        "seconds": _span(started, ended),
        "expected_seconds": number(planned.get("expected_seconds")),
        "downtime": _first(number(state.get("downtime")), _span(gaps[0]["begin"], gaps[0]["end"]) if gaps else None),
        "out_of_service": sum(max(0.0, (_first(gap["end"], now) or 0.0) - (gap["begin"] or 0.0)) for gap in gaps) if gaps else None,
        "gaps": gaps,
        "facts": {text(name): _fact(value) for name, value in _mapping(state.get("facts")).items()},
        "phases": phases,
    }
    return {**row, "state": _state(row)}


def _row_outcome(state: Mapping[str, Any], told: Event | None) -> str:
    if state.get("outcome") in _FINAL:
        return str(state["outcome"])
    if told is None:
        return PENDING
    return RUNNING if state.get("phase") else UNKNOWN


def _phase(one: Mapping[str, Any]) -> dict[str, Any]:
    begin, end = moment(one.get("begin")), moment(one.get("end"))
    return {"phase": text(one.get("phase")), "begin": begin, "end": end, "seconds": _span(begin, end), "said": text(one.get("said"))}


def _gaps(phases: Sequence[Mapping[str, Any]]) -> list[Gap]:
    """Return when the service was not ready: from a stop to the readiness that ended it; ``end`` is None where none did.

    A new release that never got ready leaves the gap open until the old one is ready again; one that failed in its soak makes two.
    """
    served = any(one["phase"] in _SERVED for one in phases)
    gaps: list[Gap] = []
    for one in phases:
        opened = bool(gaps) and gaps[-1]["end"] is None
        if one["phase"] in ("stop", "back_stop") and not opened and one["begin"] is not None:
            gaps.append({"begin": one["begin"], "end": None})
        elif opened and (one["phase"] == "back_ready" or (one["phase"] == "ready" and served)):
            gaps[-1]["end"] = one["end"]
    return gaps


def _state(row: Mapping[str, Any]) -> str:
    """Return what state a host is in, in words."""
    old, new = row["from"] or "what it ran", row["to"] or "the new release"
    phase = f" ({row['phase']})" if row["phase"] else ""
    told = f": {row['said']}" if row["said"] else ""
    return {
        COMMITTED: f"runs {new}" + (f", {row['kind']}ed" if row["kind"] in ("restart", "reload") else ""),
        ROLLED_BACK: f"back on {old}{told}",
        ABORTED: f"still on {old}, never stopped{told}",
        INCONCLUSIVE: f"runs {new}, unproven: a person decides{told}",
        NEEDS_OPERATOR: f"waits for a person{told}",
        RUNNING: f"on its way{phase}, ends by itself{told}",
        UNKNOWN: f"unknown{told or ': it did not answer'}",
        PENDING: f"not begun, on {old}",
    }[str(row["outcome"])]


def _batch(batch: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    service, position = text(batch.get("service")), _integer(batch.get("number"))
    own = [row for row in rows if row["service"] == service and row["batch"] == position]
    ends = [row["ended"] for row in own]
    return {
        "service": service,
        "number": position,
        "of": _integer(batch.get("of")),
        "tier": text(batch.get("tier")),
        "canary": batch.get("canary") is True,
        "hosts": _texts(batch.get("hosts")),
        "started": min((row["started"] for row in own if row["started"] is not None), default=None),
        "ended": max(ends) if ends and None not in ends else None,
    }


# The whole


def _outcome(rows: Sequence[Mapping[str, Any]], plan: Mapping[str, Any], end: Event) -> str:
    found = {row["outcome"] for row in rows}
    if found & set(_FOR_A_PERSON):
        return NEEDS_OPERATOR
    if found & set(_WENT_WRONG) or end.get("failed"):
        return "halted"
    if not rows:
        return "nothing" if plan else "unfinished"
    if RUNNING in found or (PENDING in found and not end):
        return "unfinished"
    return "paused" if PENDING in found else COMMITTED


def _said(outcome: str, rows: Sequence[Mapping[str, Any]], plan: Mapping[str, Any], end: Event) -> list[str]:
    """Return sentences: what happened first, then what state the hosts are in."""
    if outcome == "nothing":
        return _texts(plan.get("said")) or ["There was nothing to do."]
    worst = [row for what in _WORST_FIRST for row in rows if row["outcome"] == what]
    sentences = [f"{row['host']} ({row['service'] or 'service unknown'}): {row['state']}" for row in worst]
    if not sentences and end.get("failed"):
        sentences = [text(end.get("said")) or "The run failed before a host was touched."]
    return [*sentences, *([_counted(rows)] if rows else [])]


def _counted(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return in one sentence how many hosts ended how."""
    counts = Counter(row["outcome"] for row in rows)
    targets = {(row["service"], row["to"]) for row in rows}
    services, hosts = len({row["service"] for row in rows}), len({row["host"] for row in rows})
    whom = _plural(hosts, "host") if services == 1 else f"{_plural(len(rows), 'transaction')} on {_plural(hosts, 'host')}"
    if set(counts) == {COMMITTED} and len(targets) == 1:
        return f"All went well: {' '.join(filter(None, targets.pop()))} runs on {whom}."
    return f"Of {whom}: {', '.join(f'{counts[what]} {WORDS[what]}' for what in (COMMITTED, *_WORST_FIRST, PENDING) if counts[what])}."


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _next(outcome: str, rows: Iterable[Mapping[str, Any]], rollout: Event, end: Event) -> list[dict[str, str]]:
    """Return the commands that come next: those on the hosts that wait for a person, then the controller's."""
    found = [{"on": row["host"], "command": row["next"]} for what in _WORST_FIRST for row in rows if row["outcome"] == what and row["next"]]
    given = text(end.get("next"))
    if not given and outcome not in (COMMITTED, "nothing"):
        playbook = text(rollout.get("playbook")) or "rolling_upgrade"
        command = text(rollout.get("command")) or f"ansible-playbook {playbook.replace('_', '-')}.yml"
        given = command + ("" if outcome in ("unfinished", "paused") else " --check")
    return [*found, *([{"on": "", "command": given}] if given else [])]


def _decisions(events: Iterable[Event], rows: Iterable[Mapping[str, Any]], batches: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what was decided by people, by the controller and by the hosts themselves, by time."""
    found = [{"at": moment(event.get("at")), "said": text(event.get("said"))} for event in events if event.get("event") == "decision"]
    found += [{"at": one["started"], "said": f"{batch_text(one)} begins: {', '.join(one['hosts'])}"} for one in batches if one["started"] is not None]
    for row in rows:
        back = next((one for one in row["phases"] if one["phase"] in PHASES_BACK), None)
        if back is not None:
            why = f": {row['said']}" if row["said"] else ""
            found.append({"at": back["begin"], "said": f"{row['host']} goes back to {row['from'] or 'what it ran'}{why}"})
        if row["outcome"] in (ABORTED, INCONCLUSIVE, NEEDS_OPERATOR):
            found.append({"at": row["ended"], "said": f"{row['host']}: {WORDS[row['outcome']]}: {row['state']}"})
    return sorted((one for one in found if one["said"]), key=lambda one: (one["at"] is None, one["at"] or 0.0))


def batch_text(batch: Mapping[str, Any]) -> str:
    """Return a batch's name: ``batch 2 of 5, tier1, canary``."""
    of = f" of {batch['of']}" if batch["of"] else ""
    parts = [f"batch {batch['number'] or '?'}{of}", batch["service"], batch["tier"], "canary" if batch["canary"] else ""]
    return ", ".join(filter(None, parts))


# Annotations and metrics


def _annotation(report: Document, times: Mapping[str, Any], tags: Sequence[str], said: str) -> dict[str, Any]:
    ended = _first(times["ended"], report["written"])
    return {"time": _milliseconds(times["started"]), "timeEnd": _milliseconds(ended), "tags": list(tags), "text": html.escape(said)}


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _labels(labels: Mapping[str, str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


# Data of unknown origin


def _last(events: Sequence[Event], kind: str) -> Event:
    return next((event for event in reversed(events) if event.get("event") == kind), {})


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, (list, tuple)) else []


def _texts(value: object) -> list[str]:
    given = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    return [text(one) for one in given if one is not None]


def _named(value: object) -> list[dict[str, str]]:
    """Return hosts that were left out; each is given as a name, or with ``service`` and ``why``."""
    given = value if isinstance(value, (list, tuple)) else []
    full = [one if isinstance(one, Mapping) else {"host": one} for one in given]
    return [{key: text(one.get(key)) for key in ("host", "service", "why")} for one in full]


def _arithmetic(value: object) -> list[dict[str, Any]]:
    found = []
    for service, one in _mapping(value).items():
        numbers = _mapping(one)
        found.append({"service": text(service), **{key: _integer(numbers.get(key)) for key in ("hosts", "ready", "min_available", "batch")}})
    return found


def _fact(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else text(value)


def _integer(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def _span(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else round(max(0.0, end - begin), 3)
