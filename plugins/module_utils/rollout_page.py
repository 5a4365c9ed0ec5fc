# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a rollout as one HTML page: no scripts, nothing from elsewhere, readable on a phone, light and dark. Pure.

Bars are drawn in percent of their width and pixels of their height, so that nothing is distorted when the page gets narrow.
The colours of neighbouring phases differ in lightness, and ways back are hatched, so that nobody needs to tell hues apart.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import rollout_report
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text
from ansible_collections.hearth.fleet.plugins.module_utils.rollout_report import PHASES, PHASES_BACK, WORDS, duration, seconds_text

_SIGNS = {
    "committed": "✓",
    "rolled_back": "↩",
    "aborted": "⊘",
    "inconclusive": "?",
    "needs_operator": "!",
    "running": "…",
    "unknown": "?",
    "pending": "·",
    "halted": "■",
    "paused": "‖",
    "unfinished": "…",
    "nothing": "✓",
}
_MEANINGS = {
    "backup": "back up",
    "drain": "drain",
    "stop": "stop",
    "copy": "copy the database",
    "switch": "switch the release",
    "start": "start",
    "ready": "wait until ready",
    "resume": "undrain",
    "soak": "soak",
    "commit": "commit",
    "evidence": "keep evidence",
    "back_stop": "stop",
    "back_database": "database back",
    "back_switch": "switch back",
    "back_start": "start",
    "back_ready": "wait until ready",
    "back_resume": "undrain",
}
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 604800)
_TICKS_MAX = 5
_BAR = 'y="3" height="16"'

_STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--text:#1b2330;--soft:#5a6678;--line:#dde2e9;--code:#eef1f5;
--good:#0b6b50;--good-bg:#dcf3ea;--bad:#9c1c1c;--bad-bg:#fde4e1;--warn:#7a4b00;--warn-bg:#fdefcf;--calm-bg:#e8ecf2;--gap:#c3141b;
--backup:#a9b8c9;--drain:#f3d64e;--stop:#43184a;--copy:#84489a;--switch:#c79bd6;--start:#c65f00;--ready:#f5a63d;--resume:#c2ebe1;--soak:#2f9e83;
--commit:#0b5546;--evidence:#8b9099;--back_stop:#6b1220;--back_database:#a8404a;--back_switch:#dd9497;--back_start:#b93f16;--back_ready:#f0a58a;
--back_resume:#f6d3c6;--other:#7a8494;--hatch:#ffffff}
@media(prefers-color-scheme:dark){:root{--page:#0f141b;--card:#171e28;--text:#e7ecf3;--soft:#9aa7b8;--line:#2b3542;--code:#0f151d;
--good:#7fe0bd;--good-bg:#123a2f;--bad:#ffaaa2;--bad-bg:#4a1a1a;--warn:#ffd27a;--warn-bg:#453209;--calm-bg:#28323f;--gap:#ff5a52;
--backup:#8293a8;--stop:#74357e;--copy:#a565ba;--switch:#d8b4e4;--commit:#1b7d68;--soak:#37ae91;--back_stop:#7d2634;--back_database:#b34d58;--hatch:#171e28}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
overflow-wrap:anywhere}
main{max-width:68rem;margin:0 auto;padding:1.25rem 1rem 3rem}
section,header{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.1rem 1.25rem;margin:0 0 1rem}
header{border-left:6px solid var(--soft)}header.good{border-left-color:var(--good)}header.bad{border-left-color:var(--bad)}
header.warn{border-left-color:var(--warn)}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0 .15rem}h2{font-size:1.05rem;margin:0 0 .3rem}h3{font-size:.9rem;margin:1rem 0 .3rem}
p{margin:.3rem 0}.soft,.meta{color:var(--soft);font-size:.875rem}.said{margin:.8rem 0;padding:0;list-style:none}.said li{margin:.25rem 0}
.said li:first-child{font-size:1.1rem;font-weight:600}
.badge{display:inline-block;border-radius:99px;padding:.05rem .6rem;font-size:.8rem;font-weight:600;white-space:nowrap;background:var(--calm-bg)}
.badge.good{background:var(--good-bg);color:var(--good)}.badge.bad{background:var(--bad-bg);color:var(--bad)}
.badge.warn{background:var(--warn-bg);color:var(--warn)}header .badge{font-size:.95rem;padding:.2rem .8rem}
.next{margin:.8rem 0 0;border-top:1px solid var(--line);padding-top:.7rem}
pre,code{font:.875rem/1.5 ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;background:var(--code);border-radius:6px}
pre{margin:.25rem 0 .6rem;padding:.55rem .75rem;white-space:pre-wrap;border:1px solid var(--line)}code{padding:.1rem .3rem}
.figures{display:grid;grid-template-columns:repeat(4,1fr);gap:.75rem;margin:0 0 1rem;padding:0;list-style:none}
.figures li{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:.7rem 1rem;color:var(--soft);font-size:.85rem}
.figures b{display:block;font-size:1.4rem;line-height:1.3;color:var(--text);font-weight:650}
.lane{display:grid;grid-template-columns:14rem 1fr;gap:0 .9rem;align-items:center;padding:.14rem 0}
.lane:hover{background:var(--page)}
.who{display:flex;justify-content:space-between;gap:.5rem;align-items:center;min-width:0}.who a{color:inherit;font-weight:550;text-decoration:none}
.who a:hover{text-decoration:underline}.who .badge{font-size:.72rem}.who b{font-weight:600;font-variant-numeric:tabular-nums;font-size:.875rem}
svg{display:block;width:100%;overflow:visible}.grid{stroke:var(--line);stroke-width:1}.axis text{fill:var(--soft);font-size:11.5px}
.gap{fill:var(--gap);stroke:var(--gap);stroke-width:2}.open{opacity:.55}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1rem;margin:.8rem 0 0;padding:.7rem 0 0;list-style:none;font-size:.83rem;
border-top:1px solid var(--line)}
.legend li,.phase{display:flex;align-items:center;gap:.4rem}.legend li.what{color:var(--soft);width:100%;margin:.1rem 0 -.1rem}
.swatch{width:20px;height:13px;flex:none}
table{border-collapse:collapse;width:100%;font-size:.9rem}th{text-align:left;color:var(--soft);font-size:.8rem;font-weight:600}
th,td{padding:.45rem .8rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:top}tbody tr:last-child>td{border-bottom:0}
tbody tr:target>td{background:var(--warn-bg)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td.host{overflow-wrap:break-word}td.v{font-variant-numeric:tabular-nums;overflow-wrap:break-word}
details{margin:.2rem 0 0}summary{cursor:pointer;color:var(--soft);font-size:.84rem}details table{font-size:.84rem;margin:.2rem 0 .4rem}
details td{padding:.2rem .7rem .2rem 0}dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .8rem;font-size:.84rem;margin:.3rem 0}
dt{color:var(--soft)}dd{margin:0}ol.log{list-style:none;margin:0;padding:0;font-size:.92rem}
ol.log li{display:grid;grid-template-columns:5.5rem 1fr;gap:.8rem;padding:.25rem 0}
ol.log time{color:var(--soft);font-variant-numeric:tabular-nums}footer{color:var(--soft);font-size:.8rem}
@media(max-width:700px){main{padding:.6rem .6rem 2rem}section,header{padding:.9rem .9rem}h1{font-size:1.25rem}
.figures{grid-template-columns:1fr 1fr;gap:.6rem}.lane{grid-template-columns:1fr;padding:.3rem 0}
.hosts thead{display:none}.hosts>tbody>tr{display:block;border-bottom:1px solid var(--line);padding:.55rem 0}
.hosts>tbody>tr:last-child{border-bottom:0}
.hosts>tbody>tr>td{display:grid;grid-template-columns:6rem 1fr;gap:.6rem;border:0;padding:.1rem 0;text-align:left}
.hosts>tbody>tr>td::before{content:attr(data-name);color:var(--soft);font-size:.8rem}.hosts>tbody>tr>td.host{font-size:1.05rem}.hosts>tbody>tr>td>.badge{justify-self:start}
ol.log li{grid-template-columns:1fr;gap:0}}
@media(min-width:900px){td.v{white-space:nowrap}}
@media print{body{background:#fff}section,header,.figures li{break-inside:avoid}}
"""

Row = Mapping[str, Any]


def page(report: rollout_report.Document) -> str:
    """Return the page about a rollout, given its document (``rollout_report.document``)."""
    title = f"{WORDS[report['outcome']]}: {_title(report)}"
    parts = [
        _header(report),
        _figures(report),
        _timeline(report),
        _close_up(report),
        _hosts(report),
        _decisions(report),
        _rules(report),
        _footer(report),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            # Should anything ever slip through unescaped: the browser runs no script and loads nothing.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">',
            f"<title>{_e(title)}</title>",
            f"<style>{_STYLE}{_phase_styles()}</style></head><body>",
            _patterns(),
            "<main>",
            *filter(None, parts),
            "</main></body></html>",
            "",
        ]
    )


# On top


def _header(report: rollout_report.Document) -> str:
    until = f"still going on at {_clock(report['written'])}" if report["ended"] is None else f"to {_clock(report['ended'])}"
    meta = [
        ("rollout ", report["id"]),
        ("by ", report["owner"]),
        ("playbook ", report["playbook"]),
        ("", f"{_when(report['started'])} {until}" if report["started"] is not None else ""),
    ]
    said = "".join(f"<li>{_e(one)}</li>" for one in report["said"])
    commands = [
        f"<p class=soft>{_e('on ' + one['on'] if one['on'] else 'on the controller')}</p><pre>{_e(one['command'])}</pre>" for one in report["next"]
    ]
    following = f"<div class=next><h2>Next</h2>{''.join(commands)}</div>" if commands else ""
    return (
        f'<header class="{_tone(report["outcome"])}">{_badge(report["outcome"])}<h1>{_e(_title(report))}</h1>'
        f"<p class=meta>{' · '.join(f'{name}{_e(value)}' for name, value in meta if value)}</p><ul class=said>{said}</ul>{following}</header>"
    )


def _title(report: rollout_report.Document) -> str:
    """Return what the rollout was to bring: ``nats-server 2.11.4 → 2.12.8``."""
    changes: dict[str, tuple[set[str], set[str]]] = {}
    for row in report["rows"]:
        old, new = changes.setdefault(row["service"], (set(), set()))
        old.add(row["from"])
        new.add(row["to"])
    told = []
    for service, (old, new) in changes.items():
        told.append(f"{service} {_change(', '.join(sorted(filter(None, old))), ', '.join(sorted(filter(None, new))))}".strip())
    return "; ".join(filter(None, told)) or "rollout"


def _change(old: str, new: str) -> str:
    """Return which release follows which; a restart keeps its own."""
    return f"{new}, restarted" if old == new and new else " → ".join(filter(None, (old, new)))


def _figures(report: rollout_report.Document) -> str:
    rows, batches = report["rows"], report["batches"]
    if not rows:
        return ""
    end = report["ended"] if report["ended"] is not None else report["written"]
    took = max(0.0, end - report["started"]) if report["started"] is not None else None
    finished = sum(one["ended"] is not None for one in batches)
    figures = [
        (f"{report['counts'].get('committed', 0)} of {len(rows)}", "committed"),
        (duration(took) or "-", "whole rollout" if report["ended"] is not None else "so far"),
        (duration(report["downtime_max"]) or "none", "longest stop to ready"),
        (f"{finished} of {len(batches)}", "batches finished"),
    ]
    return f"<ul class=figures>{''.join(f'<li><b>{_e(value)}</b>{_e(name)}</li>' for value, name in figures)}</ul>"


# Bars


def _timeline(report: rollout_report.Document) -> str:
    """Return the phases of every host by the clock, batch after batch."""
    begun = [row for row in report["rows"] if row["started"] is not None]
    if not begun:
        return ""
    first = min(row["started"] for row in begun)
    last = max(max(_last_moment(row, report["written"]) for row in begun), first + 1)
    lanes, batch, several = [], (None, None), len({row["service"] for row in report["rows"]}) > 1
    for row in report["rows"]:
        if (row["service"], row["batch"]) != batch:
            batch = row["service"], row["batch"]
            lanes.append(f"<h3>{_e(_batch_name(row, several))}</h3>")
        who = f'<a href="#{_anchor(report, row)}">{_e(row["host"])}</a>{_badge(row["outcome"])}'
        lanes.append(_lane(who, _bars(row, row["phases"], first, last, report["written"], row["gaps"]), _spoken(row), first, last))
    legend = _legend({one["phase"] for row in begun for one in row["phases"]})
    return (
        "<section><h2>Timeline</h2><p class=soft>Every phase of every host, from the first to the last moment. "
        f"The red line below a bar marks where the service was not ready.</p>{''.join(lanes)}{_axis(last - first, _when(first))}{legend}</section>"
    )


def _close_up(report: rollout_report.Document) -> str:
    """Return each gap of readiness by itself, all beginning at the left, so that they can be compared."""
    gaps = [(row, gap) for row in report["rows"] for gap in row["gaps"]]
    if not gaps:
        return ""
    longest = max(max(_end(gap["end"], report["written"]) - gap["begin"] for _row, gap in gaps), 0.1)
    lanes = []
    for row, gap in gaps:
        begin, end = gap["begin"], _end(gap["end"], report["written"])
        what = "" if gap is row["gaps"][0] else ", way back"
        took = seconds_text(round(end - begin, 3)) + ("" if gap["end"] is not None else ", not ended")
        who = f'<a href="#{_anchor(report, row)}">{_e(row["host"])}{what}</a><b>{_e(took)}</b>'
        bars = _bars(row, [one for one in row["phases"] if _overlaps(one, begin, end)], begin, begin + longest, end, [gap])
        lanes.append(_lane(who, bars, f"{row['host']}: not ready for {took}", begin, begin + longest))
    return (
        "<section><h2>Stop to ready, close up</h2><p class=soft>Seconds from the stop of the service until it was ready, host by host.</p>"
        f"{''.join(lanes)}{_axis(longest, 'since the stop')}</section>"
    )


def _lane(who: str, bars: str, spoken: str, first: float, last: float) -> str:
    grid = "".join(f'<line class=grid x1="{at:.3f}%" x2="{at:.3f}%" y1="0" y2="26"/>' for at, _label in _ticks(last - first))
    return f'<div class=lane><div class=who>{who}</div><svg height="26" role="img" aria-label="{_e(spoken)}">{grid}{bars}</svg></div>'


def _bars(row: Row, phases: Iterable[Row], first: float, last: float, now: float, gaps: Sequence[Mapping[str, Any]]) -> str:
    """Return the shapes of one bar; ``first`` and ``last`` are the times at its two ends."""
    parts = []
    end_of_row = row["ended"] if row["ended"] is not None else now
    for one in phases:
        if one["begin"] is None:
            continue
        # Rounding errors and clocks that were set back must not draw beyond the bar.
        begin = min(max(one["begin"], first), last)
        end = min(max(_end(one["end"], end_of_row), begin), last)
        place = f'x="{_percent(begin, first, last)}" width="{_percent(end - begin, 0.0, last - first)}" {_BAR}'
        took = duration(one["seconds"]) or "not ended"
        note = f": {one['said']}" if one["said"] else ""
        title = f"<title>{_e(row['host'])} {_e(one['phase'])}, {_e(took)}{_e(note)}</title>"
        opened = " open" if one["end"] is None else ""
        parts.append(f'<rect class="{_phase_class(one["phase"])}{opened}" {place}>{title}</rect>')
        if one["phase"] in PHASES_BACK:
            parts.append(f'<rect fill="url(#hatch)" {place} pointer-events="none"/>')
    for gap in gaps:
        begin, end = max(gap["begin"], first), min(_end(gap["end"], end_of_row), last)
        width = _percent(max(0.0, end - begin), 0.0, last - first)
        parts.append(f'<rect class=gap x="{_percent(begin, first, last)}" y="22" width="{width}" height="1"><title>not ready</title></rect>')
    return "".join(parts)


def _axis(span: float, said: str) -> str:
    marks = []
    for at, label in _ticks(span):
        anchor = "start" if at < 2 else "end" if at > 94 else "middle"
        marks.append(f'<text x="{at:.3f}%" y="12" text-anchor="{anchor}">{_e(label)}</text>')
    return f'<div class=lane><div class="who soft">{_e(said)}</div><svg class=axis height="16" aria-hidden="true">{"".join(marks)}</svg></div>'


def _ticks(span: float) -> list[tuple[float, str]]:
    """Return marks along a span of seconds: where (percent) and what they say."""
    step = next((step for step in _STEPS if span / step <= _TICKS_MAX), span / _TICKS_MAX)
    return [(100 * index * step / span, _tick(index * step)) for index in range(int(span / step + 1e-9) + 1)]


def _tick(seconds: float) -> str:
    return duration_text(round(seconds)) if seconds >= 60 else f"{seconds:g} s"


def _legend(used: Iterable[str]) -> str:
    known = set(used)
    parts = []
    for heading, phases in (("forward", PHASES), ("back, hatched", PHASES_BACK)):
        shown = [phase for phase in phases if phase in known]
        if shown:
            parts.append(f"<li class=what>{heading}</li>" + "".join(f"<li>{_swatch(phase)}{_e(_MEANINGS[phase])}</li>" for phase in shown))
    gap = '<svg class=swatch aria-hidden="true"><rect class=gap x="1" y="6" width="18" height="1"/></svg>'
    return f"<ul class=legend>{''.join(parts)}<li class=what>below the bars</li><li>{gap}not ready</li></ul>"


def _swatch(phase: str) -> str:
    hatch = '<rect fill="url(#hatch)" width="20" height="13"/>' if phase in PHASES_BACK else ""
    return f'<svg class=swatch aria-hidden="true"><rect class="{_phase_class(phase)}" width="20" height="13"/>{hatch}</svg>'


def _phase_class(phase: str) -> str:
    """Return a phase's class; what hosts send never becomes part of the markup by itself."""
    return f"p-{phase}" if phase in PHASES or phase in PHASES_BACK else "p-other"


def _phase_styles() -> str:
    return "".join(f".p-{phase}{{fill:var(--{phase})}}" for phase in (*PHASES, *PHASES_BACK, "other"))


def _patterns() -> str:
    return (
        '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>'
        '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="2" height="6" style="fill:var(--hatch)" opacity=".6"/></pattern></defs></svg>'
    )


def _spoken(row: Row) -> str:
    """Return what a bar shows for those who cannot see it."""
    phases = ", ".join(f"{one['phase']} {duration(one['seconds']) or 'not ended'}" for one in row["phases"])
    return f"{row['host']}: {row['state']}. {phases}"


# Tables


def _hosts(report: rollout_report.Document) -> str:
    if not report["rows"]:
        return ""
    several = len({row["service"] for row in report["rows"]}) > 1
    columns = ["Host", *(["Service"] if several else []), "Batch", "Release", "Outcome", "Downtime", "Took", "State"]
    numbers = ("Downtime", "Took")
    lines = []
    for row in report["rows"]:
        cells = {
            "Host": ("host", f"<b>{_e(row['host'])}</b>"),
            "Service": ("", _e(row["service"])),
            "Batch": ("v", _e(f"{row['batch']}{', canary' if row['canary'] else ''}" if row["batch"] is not None else "-")),
            "Release": ("v", _e(_change(row["from"], row["to"]) or "-")),
            "Outcome": ("", _badge(row["outcome"])),
            "Downtime": ("n", _e(duration(row["downtime"]) or "-")),
            "Took": ("n", _e(duration(row["seconds"]) or "-")),
            "State": ("", f"<div>{_e(row['state'])}{_details(row)}</div>"),
        }
        shown = "".join(f'<td class="{cells[name][0]}" data-name="{name}">{cells[name][1]}</td>' for name in columns)
        lines.append(f'<tr id="{_anchor(report, row)}">{shown}</tr>')
    head = "".join(f"<th{' class=n' if name in numbers else ''}>{name}</th>" for name in columns)
    return f"<section><h2>Hosts</h2><table class=hosts><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></section>"


def _details(row: Row) -> str:
    """Return what else a host told, folded; a host that went wrong is unfolded."""
    phases = [
        f"<tr><td><span class=phase>{_swatch(one['phase'])}{_e(one['phase'])}</span></td><td class=n>{_e(duration(one['seconds']) or '-')}</td>"
        f"<td>{_e(one['said'])}</td></tr>"
        for one in row["phases"]
    ]
    known = {**row["facts"], "out of service": duration(row["out_of_service"]), "evidence": row["evidence"], "next": row["next"]}
    facts = "".join(f"<dt>{_e(name.replace('_', ' '))}</dt><dd>{_e(value)}</dd>" for name, value in known.items() if value)
    if not phases and not facts:
        return ""
    opened = " open" if _tone(row["outcome"]) in ("bad", "warn") else ""
    table = f"<table><tbody>{''.join(phases)}</tbody></table>" if phases else ""
    return f"<details{opened}><summary>{len(phases)} phases</summary>{table}{f'<dl>{facts}</dl>' if facts else ''}</details>"


def _decisions(report: rollout_report.Document) -> str:
    if not report["decisions"]:
        return ""
    lines = "".join(f"<li><time>{_e(_clock(one['at']) or '-')}</time><span>{_e(one['said'])}</span></li>" for one in report["decisions"])
    return f"<section><h2>Decisions</h2><ol class=log>{lines}</ol></section>"


def _rules(report: rollout_report.Document) -> str:
    """Return what bounded the rollout: who was left out, and how many hosts had to stay ready."""
    parts = []
    for one in report["arithmetic"]:
        known = {name: "unknown" if one[name] is None else str(one[name]) for name in ("hosts", "ready", "min_available", "batch")}
        said = "{hosts} hosts, {ready} ready when it was planned, never fewer than {min_available}: at most {batch} at a time".format(**known)
        parts.append(f"<p><b>{_e(one['service'])}</b>: {_e(said)}</p>")
    for heading, named in (("Held back", report["held"]), ("Skipped", report["skipped"]), ("Not ready before", report["unready"])):
        if named:
            lines = "".join(f"<li>{_e(': '.join(filter(None, (one['host'], one['service'], one['why']))))}</li>" for one in named)
            parts.append(f"<h3>{heading}</h3><ul>{lines}</ul>")
    return f"<section><h2>Limits</h2>{''.join(parts)}</section>" if parts else ""


def _footer(report: rollout_report.Document) -> str:
    plan = f" Plan {_e(report['plan'][:12])}." if report["plan"] else ""
    return f"<footer>Written by hearth.fleet at {_e(_when(report['written']))}. Times are UTC, and those of a host by its own clock.{plan}</footer>"


# Small parts


def _e(value: object) -> str:
    """Return a text so that it stays a text in HTML, in attributes too."""
    return html.escape(rollout_report.text(value), quote=True)


def _tone(outcome: str) -> str:
    if outcome in ("committed", "nothing"):
        return "good"
    if outcome in ("pending", "running", "paused"):
        return "calm"
    return "warn" if outcome in ("inconclusive", "unfinished", "unknown", "aborted") else "bad"


def _badge(outcome: str) -> str:
    return f'<span class="badge {_tone(outcome)}">{_SIGNS[outcome]} {_e(WORDS[outcome])}</span>'


def _batch_name(row: Row, several: bool) -> str:
    """Return the heading of a batch; which service it is of is said where there are several."""
    if row["batch"] is None:
        return f"Outside of the batches{', ' + row['service'] if several and row['service'] else ''}"
    name = rollout_report.batch_text({**row, "number": row["batch"], "service": row["service"] if several else ""})
    return name[:1].upper() + name[1:]


def _anchor(report: rollout_report.Document, row: Row) -> str:
    return f"row-{report['rows'].index(row)}"


def _last_moment(row: Row, now: float) -> float:
    known = [time for one in row["phases"] for time in (one["begin"], one["end"]) if time is not None]
    return max(*known, _end(row["ended"], now)) if known else _end(row["ended"], now)


def _overlaps(phase: Row, begin: float, end: float) -> bool:
    return phase["begin"] is not None and phase["begin"] < end and _end(phase["end"], end) > begin


def _end(end: float | None, otherwise: float) -> float:
    return otherwise if end is None else end


def _percent(value: float, first: float, last: float) -> str:
    return f"{100 * (value - first) / (last - first):.3f}%"


def _when(seconds: float | None) -> str:
    """Return a time as people read it, an empty text for none and for times beyond any calendar."""
    return _formatted(seconds, "%Y-%m-%d %H:%M:%S UTC")


def _clock(seconds: float | None) -> str:
    return _formatted(seconds, "%H:%M:%S")


def _formatted(seconds: float | None, pattern: str) -> str:
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime(pattern)
    except (OverflowError, ValueError, OSError):
        return ""
