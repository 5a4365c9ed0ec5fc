"""The report of a rollout: what it says, that it adds up, and that nothing a host sends can harm its reader."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
import rollout_events as events

from ansible_collections.hearth.fleet.plugins.module_utils import rollout_page, rollout_report

NOW = events.START + 500
EVIL = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&lt;"
VOID = {"meta", "img", "br", "rect", "line", "link"}


class Page(HTMLParser):
    """What a browser finds in a page: elements, attributes, text; and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def told(*hosts: dict[str, Any], end: bool = True, **rollout: Any) -> dict[str, Any]:
    """Return the document about a rollout of some hosts."""
    last = [{"event": "end", "at": NOW, "failed": False}] if end else []
    return rollout_report.document([events.begin(**rollout), *hosts, *last], NOW)


def only(*hosts: str) -> dict[str, Any]:
    """Return the plan of some hosts alone, all of one batch."""
    batch = {"service": events.SERVICE, "number": 1, "of": 1, "canary": False, "tier": "tier2", "hosts": list(hosts)}
    return events.plan(batches=[batch], rows=[row for row in events.plan()["rows"] if row["host"] in hosts])


# What it says


def test_a_halted_rollout_says_what_happened_where_everybody_is_and_what_comes_next() -> None:
    report = rollout_report.document(events.halted(), NOW)
    why = "soak: error_rate is 0.081, which must stay below 0.01 (3 of 3 measurements)"
    assert (report["format"], report["version"]) == ("hearth.fleet/rollout", 1)
    assert report["outcome"] == "halted"
    assert report["said"] == [f"relay3 (nats-server): back on 2.11.4: {why}", "Of 12 hosts: 8 committed, 1 rolled back, 3 not begun."]
    assert report["counts"] == {"committed": 8, "rolled_back": 1, "pending": 3}
    assert report["next"] == [
        {"on": "relay3", "command": f"hearthctl log nats-server {events.ID}"},
        {"on": "", "command": "ansible-playbook rolling-upgrade.yml --check"},
    ]
    assert {row["host"]: row["state"] for row in report["rows"]}["anchor1"] == "not begun, on 2.11.4"
    assert [one["ended"] is not None for one in report["batches"]] == [True] * 4 + [False] * 3
    assert [one["said"] for one in report["decisions"]][:3] == [
        "ops@laptop confirmed the plan",
        "batch 1 of 7, nats-server, tier2, canary begins: home1",
        "the canary held for 5 s: promoted by time",
    ]
    assert f"relay3 goes back to 2.11.4: {why}" in [one["said"] for one in report["decisions"]]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        pytest.param({}, "rolling-upgrade.yml", id="plain"),
        pytest.param({"inventory": ["/etc/fleet"]}, "rolling-upgrade.yml", id="configured-inventory"),
        pytest.param(
            {"inventory": ["my fleet"], "subset": "tier1:!relay2"}, "rolling-upgrade.yml -i 'my fleet' --limit 'tier1:!relay2'", id="quoted"
        ),
        pytest.param({"extra_vars": ["@extra.yml"]}, "rolling-upgrade.yml -e @extra.yml", id="file"),
        pytest.param(
            {"extra_vars": ["token=abc rollout_service=icnd", "rollout_confirm=true", '{"password": "abc"}']},
            "rolling-upgrade.yml -e token=… -e rollout_service=icnd -e …",
            id="f60-no-values-that-may-be-secrets",
        ),
    ],
)
def test_the_command_that_comes_next_is_about_the_same_fleet(arguments: dict[str, Any], command: str) -> None:
    called = {"args": ("rolling-upgrade.yml",), "inventory": ["/etc/fleet"], "subset": None, "extra_vars": [], **arguments}
    assert rollout_report.same_command(called, ["/etc/fleet"]) == f"ansible-playbook {command}"
    started = {**events.begin(plan=only("home1")), "command": f"ansible-playbook {command}"}
    report = rollout_report.document([started, {"event": "end", "at": NOW, "failed": True, "said": "refused"}], NOW)
    assert report["next"] == [{"on": "", "command": f"ansible-playbook {command} --check"}]


@pytest.mark.parametrize(
    ("outcomes", "end", "outcome", "following"),
    [
        pytest.param(("committed", "committed"), {}, "committed", "", id="good"),
        pytest.param(("committed", "rolled_back"), {"failed": True}, "halted", "rolling-upgrade.yml --check", id="f46-rolled-back"),
        pytest.param(("committed", "rolled_back"), {}, "halted", "rolling-upgrade.yml --check", id="f46-rolled-back-unnoticed"),
        pytest.param(("rolled_back", "needs_operator"), {"failed": True}, "needs_operator", "rolling-upgrade.yml --check", id="f38-needs-operator"),
        pytest.param(("committed", "inconclusive"), {"failed": True}, "needs_operator", "rolling-upgrade.yml --check", id="f35-inconclusive"),
        pytest.param(("aborted", "committed"), {"failed": True}, "halted", "rolling-upgrade.yml --check", id="f33-aborted"),
        pytest.param(("committed", None), {}, "unfinished", "rolling-upgrade.yml", id="f39-still-running"),
        pytest.param(("committed",), None, "unfinished", "rolling-upgrade.yml", id="f39-no-end-seen"),
        pytest.param(("committed",), {}, "paused", "rolling-upgrade.yml", id="others-wait"),
        pytest.param((), {"failed": True, "said": "refused"}, "halted", "rolling-upgrade.yml --check", id="failed-before-a-host"),
        pytest.param(("committed",), {"next": "hearthctl x"}, "paused", "hearthctl x", id="command-given"),
    ],
)
def test_outcome_of_the_whole(outcomes: tuple[str | None, ...], end: dict[str, Any] | None, outcome: str, following: str) -> None:
    hosts = [events.transaction(f"home{index}", events.state(outcome=one)) for index, one in enumerate(outcomes, 1)]
    last = [] if end is None else [{"event": "end", "at": NOW, "failed": False, **end}]
    report = rollout_report.document([events.begin(plan=only("home1", "home2")), *hosts, *last], NOW)
    assert report["outcome"] == outcome
    assert [one["command"].removeprefix("ansible-playbook ") for one in report["next"]] == ([following] if following else [])


def test_f30_nothing_to_do_says_why() -> None:
    plan = {"nothing": True, "rows": [], "batches": [], "said": ["nats-server is already at 2.12.8 on 3 hosts"]}
    report = told(plan=plan)
    assert (report["outcome"], report["said"], report["next"]) == ("nothing", plan["said"], [])
    assert "already at 2.12.8" in rollout_page.page(report)


def test_f32_a_host_without_a_state_is_unknown() -> None:
    report = told(events.transaction("home1", None, said="timed out"), plan=only("home1"))
    assert (report["rows"][0]["outcome"], report["rows"][0]["state"]) == ("unknown", "unknown: timed out")
    assert report["outcome"] == "halted"


def test_a_later_look_replaces_an_earlier_one() -> None:
    running = events.transaction("home1", events.state(outcome=None, passed={"drain": 1.0}))
    report = told(running, events.transaction("home1", events.state()), plan=only("home1"))
    assert [row["outcome"] for row in report["rows"]] == ["committed"]


def test_f47_who_was_left_out_is_named() -> None:
    page = Page(rollout_page.page(told(plan=events.plan(held=["anchor1"])))).text
    assert "home6: nats-server: switched off, and its tier may be" in page
    assert "Held back" in page
    assert "12 hosts, 12 ready when it was planned, never fewer than 7: at most 4 at a time" in page


# Sums


def gaps(*more: dict[str, Any], passed: dict[str, float], outcome: str | None = "rolled_back", now: float = NOW) -> dict[str, Any]:
    row: dict[str, Any] = rollout_report.document(
        [{"event": "transaction", "host": "h", "state": events.state(0.0, outcome, passed, downtime=None)}, *more], now
    )["rows"][0]
    return row


@pytest.mark.parametrize(
    ("passed", "outcome", "expected"),
    [
        pytest.param(events.FORWARD, "committed", [2.2], id="committed"),
        pytest.param({**events.FORWARD, **events.BACK}, "rolled_back", [2.2, 2.0], id="f35-soak-failed"),
        pytest.param({**events.GAP, **events.BACK}, "rolled_back", [4.6], id="f34-never-ready"),
        pytest.param({"drain": 60.0, "resume": 0.2}, "aborted", [], id="f33-never-stopped"),
        pytest.param({"ready": 3.0, "soak": 9.0}, "committed", [], id="reload"),
        pytest.param({"stop": 1.0, "copy": 1.0}, None, [None], id="still-down"),
    ],
)
def test_gaps_of_readiness(passed: dict[str, float], outcome: str | None, expected: list[float | None]) -> None:
    row = gaps(passed=passed, outcome=outcome, now=10.0)
    found = [None if one["end"] is None else round(one["end"] - one["begin"], 3) for one in row["gaps"]]
    assert found == expected
    assert row["downtime"] == (expected[0] if expected else None)
    assert row["out_of_service"] == (pytest.approx(sum(10.0 if one is None else one for one in expected)) if expected else None)


def test_sums() -> None:
    report = rollout_report.document(events.halted(), NOW)
    for row in report["rows"]:
        if row["started"] is not None:
            assert row["seconds"] == pytest.approx(sum(one["seconds"] for one in row["phases"]), abs=0.01)
    assert sum(report["counts"].values()) == len(report["rows"]) == 12
    assert report["downtime_max"] == max(row["downtime"] for row in report["rows"] if row["downtime"] is not None)


@pytest.mark.parametrize(
    ("done", "seconds", "left"),
    [
        pytest.param((), 50.0, 350, id="as-the-plan-expects"),
        pytest.param(("home1",), 100.0, 600, id="twice-as-slow"),
        pytest.param(("home1",), 1.0, 75, id="one-odd-batch-changes-little"),
        pytest.param(("home1", "home2"), 50.0, 300, id="a-batch-counts-when-all-its-hosts-are-done"),
    ],
)
def test_time_left(done: tuple[str, ...], seconds: float, left: int) -> None:
    report = told(*(events.transaction(host, events.state(passed={"soak": seconds})) for host in done), end=False)
    assert rollout_report.progress(report) == {"done": len(done), "hosts": 12, "left_seconds": left}


def test_time_left_is_unknown_where_the_plan_expects_none() -> None:
    rows = [{**row, "expected_seconds": None} for row in events.plan()["rows"]]
    assert rollout_report.progress(told(plan=events.plan(rows=rows)))["left_seconds"] is None


# Torn and hostile data


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(None, id="none"),
        pytest.param({}, id="empty"),
        pytest.param({"event": "rollout", "plan": [1], "id": 7, "owner": None}, id="plan-is-a-list"),
        pytest.param({"event": "rollout", "plan": {"rows": [{"host": None}, 3], "batches": [{"hosts": "home1", "number": "x"}]}}, id="torn-plan"),
        pytest.param({"event": "transaction"}, id="no-host"),
        pytest.param(events.transaction("home1", {}), id="empty-state"),
        pytest.param(events.transaction("home1", {"phases": [{"phase": "stop"}, {"begin": "x"}, None, {"begin": 5, "end": 1}]}), id="torn-phases"),
        pytest.param(events.transaction("home1", events.state(started=float("nan"), ended=float("inf"), downtime="soon")), id="no-numbers"),
        pytest.param(events.transaction("home1", events.state(started=10**400, ended=-1)), id="beyond-floats"),
        pytest.param(events.transaction("home1", events.state(begin=1e17)), id="beyond-calendars"),
        pytest.param(events.transaction("home1", events.state(phases=5, facts="x", outcome=["committed"], phase="soak")), id="wrong-types"),
        pytest.param(events.transaction("home1", events.state(passed={"stop": 0.0}, outcome=None)), id="took-no-time"),
        pytest.param(events.transaction("home1", events.state(service=None)), id="service-unknown"),
        pytest.param(events.transaction("stranger", events.state()), id="host-that-is-not-in-the-plan"),
        pytest.param({"event": "decision", "at": "noon", "said": 3}, id="decision"),
        pytest.param({"event": "end", "at": None, "failed": "yes", "next": ["x"]}, id="end"),
    ],
)
def test_torn_data_still_makes_a_report(event: Any) -> None:
    for given in ([event], [events.begin(), event], [*events.halted(), event]):
        report = rollout_report.document(given, NOW)
        Page(rollout_page.page(report))
        json.dumps(report, allow_nan=False)
        assert rollout_report.terminal(report)
        assert rollout_report.metrics(report).endswith("\n")
        json.dumps(rollout_report.grafana_annotations(report), allow_nan=False)
        rollout_report.progress(report)


def hostile() -> dict[str, Any]:
    """Return a document in which every text is an attack on the page."""
    passed = [*events.phases(events.START, {EVIL: 3.0, "stop": 2.0, "ready": 1.0}), {"phase": "soak", "begin": NOW, "end": None, "said": EVIL}]
    names = {"id": EVIL, "service": EVIL, "kind": EVIL, "from": EVIL, "to": EVIL, "phase": EVIL}
    state = events.state(**names, said=EVIL, next=EVIL, phases=passed, facts={EVIL: EVIL}, outcome="needs_operator")
    batch = {"service": EVIL, "number": 1, "of": 1, "tier": EVIL, "hosts": [EVIL]}
    left_out = [{"host": EVIL, "service": EVIL, "why": EVIL}]
    plan = {"sha256": EVIL, "batches": [batch], "rows": [{"host": EVIL, "service": EVIL}], "skipped": left_out, "held": left_out}
    plan["arithmetic"] = {EVIL: {"hosts": EVIL}}
    start = {"event": "rollout", "at": events.START, "id": EVIL, "owner": EVIL, "playbook": EVIL, "plan": plan}
    seen = {"event": "transaction", "host": EVIL, "batch": batch, "state": state, "said": EVIL, "evidence": EVIL}
    rest = [{"event": "decision", "at": 1.0, "said": EVIL}, {"event": "end", "at": NOW, "failed": True, "said": EVIL, "next": EVIL}]
    return rollout_report.document([start, seen, *rest], NOW)


def test_nothing_from_a_host_becomes_markup() -> None:
    page = Page(rollout_page.page(hostile()))
    assert not {"script", "img", "iframe", "link", "object"} & set(page.tags)
    assert not [name for name, _value in page.attributes if name.startswith("on")]
    assert not [value for name, value in page.attributes if name in ("src", "href") and not value.startswith("#")]
    assert set(re.findall(r"[^\w -]", " ".join(value for name, value in page.attributes if name in ("class", "id")))) == set()
    assert page.text.count("<script>alert(1)</script>") > 10, "it is shown as what it is"
    assert page.open == []


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = rollout_page.page(rollout_report.document(events.halted(), NOW))
    assert "default-src 'none'" in page
    assert not re.findall(r"https?:|@import|url\((?!#)", page)
    assert page.isprintable() or set(page) - {"\n"}, "no control characters"


def test_control_characters_do_not_reach_the_terminal() -> None:
    said = rollout_report.line("relay1", "drain", 2.1, "a\x1b[2Jb\nc\u202ed\udc80")
    assert said == "relay1    drain            2.1 s  a [2Jb c d"
    assert "\x1b" not in rollout_report.terminal(told(events.transaction("home1", events.state(said="\x1b[2J", outcome="rolled_back"))))


def test_long_texts_are_cut() -> None:
    assert len(rollout_report.text("x" * 10**6)) < 5000


def test_metrics_escape_labels() -> None:
    state = events.state(service='a"b\\c')
    lines = rollout_report.metrics(rollout_report.document([{"event": "transaction", "host": "h", "state": state}], NOW)).splitlines()
    assert 'hearth_rollout_downtime_seconds{host="h",service="a\\"b\\\\c"} 2.2' in lines


# The parts of the page


def test_structure_of_the_page() -> None:
    report = rollout_report.document(events.halted(), NOW)
    page = Page(rollout_page.page(report))
    shown = page.text
    assert shown.index("halted") < shown.index("Next") < shown.index("Timeline") < shown.index("Stop to ready") < shown.index("Decisions")
    bars = [value for name, value in page.attributes if name == "aria-label"]
    assert len(bars) == 12 + 10, "a bar for each host, and one for each gap of readiness"
    assert [value for name, value in page.attributes if name == "class"].count("gap") == 10 + 10 + 1, "and one in the legend"
    assert page.tags.count("details") == 9
    hosts = [value for name, value in page.attributes if name == "id" and value.startswith("row-")]
    assert len(set(hosts)) == 12
    links = {value for name, value in page.attributes if name == "href"}
    assert links == {f"#{host}" for host in hosts}


def test_bars_stay_within_the_timeline() -> None:
    page = rollout_page.page(rollout_report.document(events.halted(), NOW))
    for x, width in re.findall(r'x="(-?[\d.]+)%"(?: y="\d+")? width="(-?[\d.]+)%"', page):
        assert float(x) >= 0
        assert float(width) >= 0
        assert float(x) + float(width) <= 100.01


def luminance(color: str) -> float:
    """Return the relative luminance of a colour (WCAG), 0 to 1."""
    parts = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("phases", [rollout_report.PHASES, rollout_report.PHASES_BACK[1:]])
def test_neighbouring_phases_differ_in_lightness(phases: tuple[str, ...], dark: bool) -> None:
    style = re.findall(r"<style>(.*?)</style>", rollout_page.page(told()), re.DOTALL)[0]
    light, _at, rest = style.partition("@media(prefers-color-scheme:dark)")
    colors = dict(re.findall(r"--(\w+):(#[0-9a-f]{6})", light))
    if dark:
        colors.update(re.findall(r"--(\w+):(#[0-9a-f]{6})", rest.partition("}}")[0]))
    for one, other in pairwise(phases):
        low, high = sorted((luminance(colors[one]), luminance(colors[other])))
        assert (high + 0.05) / (low + 0.05) > 1.3, f"{one} and {other}"


# Texts


def test_a_line_of_a_phase() -> None:
    assert rollout_report.line("relay1", "drain", 2.1, "drained", host_width=6) == "relay1  drain            2.1 s  drained"
    assert rollout_report.line("relay1", "soak", None, "") == "relay1    soak               ..."


@pytest.mark.parametrize(("seconds", "said"), [(0.04, "0.0 s"), (2.14, "2.1 s"), (9.96, "10 s"), (119.4, "119 s"), (252.0, "4m12s"), (-1.0, "0.0 s")])
def test_durations(seconds: float, said: str) -> None:
    assert rollout_report.seconds_text(seconds) == said


def test_terminal_fits_and_ends_with_the_report() -> None:
    shown = rollout_report.terminal(rollout_report.document(events.halted(), NOW), "reports/x.html").splitlines()
    assert shown[0] == f"rollout {events.ID}: halted"
    assert shown[-3:] == [
        "next: ansible-playbook rolling-upgrade.yml --check",
        "runbook: docs/runbooks.md#a-host-went-back",
        "report: reports/x.html",
    ]
    assert max(map(len, shown)) <= 120


def test_failure_says_what_happened_where_the_evidence_is_and_what_next() -> None:
    event = events.rolled_back(events.START)
    assert rollout_report.failure("relay3", event["state"], "reports/x").splitlines() == [
        "relay3: nats-server rolled back: back on 2.11.4: soak: error_rate is 0.081, which must stay below 0.01 (3 of 3 measurements)",
        "  evidence: reports/x",
        f"  → on relay3: hearthctl log nats-server {events.ID}",
    ]


def test_annotations_are_regions_in_milliseconds() -> None:
    found = rollout_report.grafana_annotations(rollout_report.document(events.halted(), NOW))
    assert len(found) == 1 + 9, "the rollout, and every host that began"
    assert all(set(one) == {"time", "timeEnd", "tags", "text"} and one["time"] <= one["timeEnd"] for one in found)
    assert found[0]["time"] == round((events.START - 20) * 1000)
    assert {"outcome:rolled_back", "host:relay3", "version:2.12.8"} <= set(found[8]["tags"])
