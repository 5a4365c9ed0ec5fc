# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging a release by measurements: conditions, what Prometheus answers, and what all of it comes to."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import analysis
from ansible_collections.hearth.fleet.plugins.module_utils.analysis import FAIL, INCONCLUSIVE, PASS, Measurement, classify, holds, judge, read_answer
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

ERRORS = {"name": "errors", "url": "http://p", "query": "q", "pass": "< 0.01", "fail": "> 0.05", "interval": 5, "count": 3, "failure_limit": 1}


@pytest.mark.parametrize(
    ("condition", "value", "result"),
    [
        pytest.param("< 0.01", 0.009, True, id="less"),
        pytest.param("<0.01", 0.01, False, id="not-less"),
        pytest.param(">= 1e-3", 0.001, True, id="at-least"),
        pytest.param("== 3", 3.0, True, id="equal"),
        pytest.param("!= 3", 3.0, False, id="unequal"),
        pytest.param("> -1", 0.0, True, id="negative"),
    ],
)
def test_holds(condition: str, value: float, result: bool) -> None:
    assert holds(condition, value) is result


@pytest.mark.parametrize("condition", ["0.01", "< x", "=< 1", ""])
def test_holds_refuses(condition: str) -> None:
    with pytest.raises(FleetError, match="is no condition"):
        holds(condition, 1.0)


@pytest.mark.parametrize(
    ("fail", "value", "result"),
    [
        pytest.param("> 0.05", 0.001, PASS, id="good"),
        pytest.param("> 0.05", 0.03, INCONCLUSIVE, id="between"),
        pytest.param("> 0.05", 0.3, FAIL, id="bad"),
        pytest.param(None, 0.03, FAIL, id="not-good-is-bad"),
        pytest.param("> 0.05", None, INCONCLUSIVE, id="f35-no-value"),
    ],
)
def test_classify(fail: str | None, value: float | None, result: str) -> None:
    assert classify({**ERRORS, "fail": fail}, Measurement(value, "")) == result


@pytest.mark.parametrize(
    ("results", "result", "final"),
    [
        pytest.param([], INCONCLUSIVE, False, id="none-yet"),
        pytest.param([PASS], PASS, False, id="one"),
        pytest.param([PASS] * 3, PASS, True, id="all-passed"),
        pytest.param([PASS, FAIL, PASS], PASS, True, id="within-the-limit"),
        pytest.param([FAIL, FAIL], FAIL, True, id="f35-over-the-limit"),
        pytest.param([INCONCLUSIVE] * 3, INCONCLUSIVE, True, id="f35-nothing-known"),
        pytest.param([INCONCLUSIVE, FAIL, INCONCLUSIVE], INCONCLUSIVE, True, id="no-pass"),
        pytest.param([INCONCLUSIVE, PASS, INCONCLUSIVE], PASS, True, id="one-passed"),
    ],
)
def test_judge(results: list[str], result: str, final: bool) -> None:
    verdict = judge(ERRORS, results)
    assert (verdict.result, verdict.final) == (result, final)
    assert verdict.said.startswith("errors: ")


def vector(*values: str) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, one]} for one in values]}})


@pytest.mark.parametrize(
    ("text", "value", "said"),
    [
        pytest.param(vector("0.25"), 0.25, "0.25", id="one-series"),
        pytest.param('{"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}', 3.0, "3", id="scalar"),
        pytest.param(vector(), None, "no data", id="f35-no-data"),
        pytest.param(vector("1", "2"), None, "2 series", id="two-series"),
        pytest.param(vector("NaN"), None, "the value is nan", id="f35-nan"),
        pytest.param('{"status": "error", "error": "parse error"}', None, "parse error", id="error"),
        pytest.param("<html>", None, "no answer", id="no-json"),
        pytest.param("[]", None, "no answer", id="other-json"),
        pytest.param('{"status": "success"}', None, "no answer", id="no-result"),
    ],
)
def test_read_answer(text: str, value: float | None, said: str) -> None:
    measurement = read_answer(text)
    assert measurement.value == value
    assert said in measurement.said


def test_f35_unreachable_is_no_value() -> None:
    measurement = analysis.measure({**ERRORS, "url": "http://127.0.0.1:1"})
    assert measurement.value is None
    assert "cannot be asked" in measurement.said


@pytest.fixture
def prometheus() -> Iterator[tuple[str, list[Any]]]:
    """Answer every query with 0.5, and note what came."""
    asked: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.headers["X-Scope"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(vector("0.5").encode())

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/base/", asked
        server.shutdown()


def test_measure(prometheus: tuple[str, list[Any]]) -> None:
    url, asked = prometheus
    assert analysis.measure({**ERRORS, "url": url, "query": "a + b", "headers": {"X-Scope": "fleet"}}).value == 0.5
    assert asked == [("/base/api/v1/query", "fleet", b"query=a+%2B+b")]
