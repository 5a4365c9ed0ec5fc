# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment files are read as systemd reads them."""

from __future__ import annotations

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import config_formats, environment_file


@pytest.mark.parametrize(
    "value", ["", "plain", "with space ", 'q"uo\\te', "$HOME `x` \\", "\\\\$", "'single'", "a=b", "#no-comment", "ümläut", '"', "\t", "{x}", "\u2028"]
)
def test_what_the_collection_writes_is_read_back(value: str) -> None:
    written = config_formats.encode("env", {"BEFORE": "1", "VALUE": value, "AFTER": "2"}, "x")
    assert environment_file.parse(written) == {"BEFORE": "1", "VALUE": value, "AFTER": "2"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("A=1", {"A": "1"}, id="without-a-last-line-end"),
        pytest.param("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}, id="carriage-returns"),
        pytest.param("# A=1\n ; B=2\nC=3\n", {"C": "3"}, id="comments"),
        pytest.param(" A = 1 2  \n", {"A": "1 2"}, id="blanks-around"),
        pytest.param("A=1\nA=2\n", {"A": "2"}, id="the-last-one-counts"),
        pytest.param('A=\'\\n $x\' "b\\"c"d\n', {"A": '\\n $xb"cd'}, id="parts-in-quotes"),
        pytest.param('A="one\ntwo"\n', {"A": "one\ntwo"}, id="a-line-end-in-quotes"),
        pytest.param("A=one\\\ntwo\n", {"A": "onetwo"}, id="a-line-goes-on"),
        pytest.param("A=a\\b\\ \n", {"A": "ab "}, id="a-backslash-without-quotes"),
        pytest.param("A=it's\n", {"A": "it's"}, id="quotes-within"),
        pytest.param('A="\\t\\$"\n', {"A": "\\t$"}, id="what-is-no-escape-stays"),
        pytest.param("export A=1\n1A=2\nnothing\nB=\n", {"B": ""}, id="what-is-no-assignment"),
    ],
)
def test_what_others_write_is_read_as_systemd_does(text: str, found: dict[str, str]) -> None:
    assert environment_file.parse(text) == found
