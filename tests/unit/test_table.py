# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for people."""

from __future__ import annotations

import pytest

from ansible_collections.hearth.fleet.plugins.filter import tables
from ansible_collections.hearth.fleet.plugins.module_utils.table import render, render_findings, width


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        pytest.param([], ["NAME  COUNT"], id="no-rows"),
        pytest.param(
            [{"name": "relay1", "count": 1}, {"name": "a", "count": 12345678}],
            ["NAME       COUNT", "relay1         1", "a       12345678"],
            id="numbers-right",
        ),
        pytest.param([{"name": "a", "count": "x"}, {"name": "b"}], ["NAME  COUNT", "a     x", "b     -"], id="missing-and-no-trailing-space"),
        pytest.param(
            [{"name": "a", "count": 1}, {"name": "b", "count": None}], ["NAME  COUNT", "a         1", "b         -"], id="number-or-nothing"
        ),
        pytest.param([{"name": "東京", "count": "x"}, {"name": "abc", "count": "y"}], ["NAME  COUNT", "東京  x", "abc   y"], id="wide-characters"),
        pytest.param([{"name": "e\u0301", "count": "x"}], ["NAME  COUNT", "e\u0301     x"], id="combining-mark"),
        pytest.param([{"name": "a\nb\x1b[31m", "count": ["x", "y"]}], ["NAME      COUNT", "a b [31m  x, y"], id="control-characters-and-lists"),
        pytest.param([{"name": "a", "count": True}, {"name": "b", "count": False}], ["NAME  COUNT", "a     yes", "b     no"], id="truth-values"),
    ],
)
def test_render(rows, lines):
    assert render(rows, {"name": "NAME", "count": "COUNT"}).splitlines() == lines


@pytest.mark.parametrize(("text", "columns"), [("", 0), ("relay1", 6), ("東京", 4), ("e\u0301", 1), ("a\u200bb", 2)])
def test_width(text, columns):
    assert width(text) == columns


def finding(check, level, remedy="buy a new one"):
    return {"check": check, "level": level, "found": "1", "wanted": "2", "remedy": remedy, "path": f"preflight_{check}"}


def test_findings_of_all_hosts_are_one_table_failures_first():
    table = render_findings(
        {
            "anchor1": [finding("clock", "warn", "install chrony")],
            "relay2": [finding("cpus", "fail")],
            "relay1": [finding("cpus", "fail"), finding("clock", "warn", "install chrony")],
            "home1": [],
        }
    )
    assert table.splitlines() == [
        "HOST     LEVEL  CHECK  FOUND  WANTED  SET BY",
        "relay1   fail   cpus   1      2       preflight_cpus",
        "relay2   fail   cpus   1      2       preflight_cpus",
        "anchor1  warn   clock  1      2       preflight_clock",
        "relay1   warn   clock  1      2       preflight_clock",
        "",
        "What to do:",
        "  cpus on relay1, relay2: buy a new one",
        "  clock on anchor1, relay1: install chrony",
    ]


def test_no_findings_are_one_sentence():
    assert render_findings({"relay1": [], "relay2": []}) == "preflight: nothing found on 2 hosts"


@pytest.mark.parametrize(
    ("result_format", "shown"),
    [pytest.param("yaml", "A\nB", id="whole-in-yaml"), pytest.param("json", ["A", "B"], id="lines-in-json")],
)
def test_a_text_is_shown_legibly(result_format: str, shown: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_CALLBACK_RESULT_FORMAT", result_format)
    assert tables.shown("A\nB") == shown
