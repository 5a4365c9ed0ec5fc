# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What drills came to: what is wrong, the table, the metrics, and what backup_status says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.filter.drills import drill_problems
from ansible_collections.hearth.fleet.plugins.module_utils import drill_report

NOW = 1_800_000_000.0
DAY = 86400
ORDER = {"host": "relay1", "service": "node", "set": "data"}
ORDERED = {**ORDER, "since": NOW - DAY}
ID = "20261121T120000Z-000007-ab12cd"


def row(**more: Any) -> dict[str, Any]:
    found = {"id": ID, "older": [], "rpo": 3600, "max_age": 7200, "rto": 4.25, "started": True, "said": ["2 tables"], "problems": []}
    return {**ORDER, **found, "ok": not more.get("problems"), "last_success": NOW - DAY, **more}


def report(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"began": NOW - 60, "ended": NOW, "ok": all(one["ok"] for one in rows), "rows": list(rows), **more}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param(report(row()), [], id="all-is-well"),
        pytest.param(None, [], id="a-new-runner"),
        pytest.param(report(), [], id="a-new-service"),
        pytest.param(report(row(problems=["torn"])), ["node.data of relay1: the drill failed: torn"], id="failed"),
        pytest.param(
            report(row(last_success=NOW - 9 * DAY)),
            ["node.data of relay1: the drill is overdue: the last that succeeded was 9d ago"],
            id="overdue",
        ),
        pytest.param(
            report(row(last_success=None, problems=["a", "b"])), [f"node.data of relay1: the drill failed: {one}" for one in "ab"], id="two"
        ),
    ],
)
def test_f27_what_is_wrong_with_drills_is_said(found: dict[str, Any] | None, said: list[str]) -> None:
    assert drill_report.problems(found, [ORDERED], 8 * DAY, NOW) == ({"relay1": said} if said else {})


@pytest.mark.parametrize("found", [pytest.param(None, id="no-report"), pytest.param(report(), id="not-in-the-report")])
def test_f27_what_was_never_drilled_is_overdue_after_a_while(found: dict[str, Any] | None) -> None:
    said = {"relay1": ["node.data of relay1: the drill is overdue: none has restored it yet"]}
    assert drill_report.problems(found, [{**ORDERED, "since": NOW - 9 * DAY}], 8 * DAY, NOW) == said


def test_what_is_not_ordered_any_more_is_no_problem() -> None:
    assert drill_report.problems(report(row(problems=["torn"])), [], 8 * DAY, NOW) == {}


def test_the_last_success_outlives_a_failure() -> None:
    rows = [row(), row(set="keys", problems=["torn"]), row(set="new", problems=["torn"])]
    for one in rows:
        del one["last_success"]
    former = report(row(last_success=5.0), row(set="keys", last_success=6.0))
    assert [one["last_success"] for one in drill_report.with_successes(rows, former, NOW)] == [NOW, 6.0, None]


def test_a_table_says_one_line_of_what_went_wrong() -> None:
    shown = drill_report.render(report(row(), row(set="keys", rto=None, problems=["not ready\n  | why"])), NOW)
    assert "1h" in shown
    assert "4.2 s" in shown
    assert "1d ago" in shown
    assert "FAILED: not ready" in shown
    assert "| why" not in shown
    assert drill_report.render(None, NOW) == "no drill has run yet"
    assert drill_report.render(report(), NOW) == "there is no backup to drill"


def test_metrics() -> None:
    text = drill_report.metrics(report(row(), row(set='a"b', rto=None, rpo=None, last_success=None, problems=["torn"])), 8 * DAY)
    assert 'hearth_drill_ok{host="relay1",service="node",set="data"} 1\n' in text
    assert 'hearth_drill_ok{host="relay1",service="node",set="a\\"b"} 0\n' in text
    assert 'hearth_drill_rto_seconds{host="relay1",service="node",set="data"} 4.250\n' in text
    assert text.count("\nhearth_drill_rto_seconds{") == 1
    assert "\nhearth_drill_last_run_ok 0\n" in text
    assert f"\nhearth_drill_max_age_seconds {8 * DAY}\n" in text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param({"skipped": True}, [], id="no-runner"),
        pytest.param({"rc": 0, "stdout": json.dumps({"problems": {}})}, [], id="well"),
        pytest.param({"rc": 1, "stdout": json.dumps({"problems": {"relay1": ["torn"], "home1": ["late"]}})}, ["drills on ops1: torn"], id="failed"),
        pytest.param({"unreachable": True, "msg": "no  route"}, ["drills on ops1: nobody knows what they came to: no route"], id="unreachable"),
        pytest.param({"rc": 2, "stdout": "", "stderr": "boom"}, ["drills on ops1: nobody knows what they came to: boom"], id="broken"),
    ],
)
def test_f27_backup_status_says_it_too(answer: dict[str, Any], said: list[str]) -> None:
    assert drill_problems({"ops1": answer}, ["ops1", "relay1"]) == said
