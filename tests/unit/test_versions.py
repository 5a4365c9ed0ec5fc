# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of two versions is the older one, and where nobody can tell."""

from __future__ import annotations

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import versions


@pytest.mark.parametrize(
    ("one", "other", "sign"),
    [
        pytest.param("1.0.0", "1.0.1", -1, id="patch"),
        pytest.param("1.9", "1.10", -1, id="numbers-are-numbers"),
        pytest.param("2.0.0", "10.0.0", -1, id="major"),
        pytest.param("1.0", "1.0.1", -1, id="shorter"),
        pytest.param("1.0", "1.0.0", 0, id="the-same-written-shorter"),
        pytest.param("v1.0", "1.1", -1, id="with-a-v"),
        pytest.param("2025.12.31", "2026.01.01", -1, id="dates"),
        pytest.param("20251231", "20260101", -1, id="dates-in-one"),
        pytest.param("2.0.0-rc.1", "2.0.0", -1, id="candidate"),
        pytest.param("2.0rc1", "2.0", -1, id="candidate-of-python"),
        pytest.param("2.0~beta2", "2.0", -1, id="beta-of-debian"),
        pytest.param("2.0-rc.2", "2.0-rc.10", -1, id="candidates-are-numbered"),
        pytest.param("2.0-alpha", "2.0-beta", -1, id="alpha-before-beta"),
        pytest.param("2.0-beta.9", "2.0-RC1", -1, id="beta-before-candidate"),
        pytest.param("1.9", "2.0-rc.1", -1, id="candidate-of-a-later-one"),
        pytest.param("1.0-custom", "1.1", -1, id="unknown-suffix-on-another-number"),
        pytest.param("1.0-custom", "1.0-custom", 0, id="the-same"),
        pytest.param("1.0-custom", "1.0", None, id="unknown-suffix"),
        pytest.param("1.0+a", "1.0+b", None, id="two-builds"),
        pytest.param("1.0-rc1+a", "1.0-rc1+b", None, id="two-builds-of-a-candidate"),
        pytest.param("9f86d08", "60303ae", None, id="commits"),
        pytest.param("9f86d08", "1.0", None, id="a-commit-and-a-version"),
        pytest.param("nightly", "1.0", None, id="a-word"),
    ],
)
def test_compare(one: str, other: str, sign: int | None) -> None:
    expected = {(one, other): sign, (other, one): -sign if sign else sign}
    assert {pair: versions.compare(*pair) for pair in expected} == expected
