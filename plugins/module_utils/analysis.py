# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a release is good enough, judged by measurements that Prometheus has. All pure, except ``measure``.

An analysis is a mapping: ``name``, ``url`` (where Prometheus answers), ``query`` (gives one number), ``pass`` and ``fail``
(conditions such as ``< 0.01``; without ``fail``, what does not pass fails), ``interval`` (seconds), ``count`` (how many
measurements), ``failure_limit`` (so many of them may fail), ``headers`` and ``secret_files`` (see ``headers.py``).
"""

from __future__ import annotations

import http.client
import json
import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from ansible_collections.hearth.fleet.plugins.module_utils import headers as request_headers
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
QUERY_SECONDS = 5.0

_CONDITION = re.compile(r"\s*(<=|>=|==|!=|<|>)\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*")
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
_ANSWER_BYTES = 2**20


@dataclass(frozen=True)
class Measurement:
    """One number, or None and in ``said`` why there is none."""

    value: float | None
    said: str


@dataclass(frozen=True)
class Verdict:
    """What an analysis comes to so far. ``final``: more measurements cannot change it."""

    result: str
    said: str
    final: bool


def holds(condition: str, value: float) -> bool:
    """Return whether a condition such as ``< 0.01`` holds for a value. Raises FleetError for what is no condition."""
    match = _CONDITION.fullmatch(condition)
    if not match:
        raise FleetError(f"{condition!r} is no condition; write it like '< 0.01' (operators: {' '.join(_OPERATORS)})")
    return bool(_OPERATORS[match[1]](value, float(match[2])))


def classify(analysis: Mapping[str, Any], measurement: Measurement) -> str:
    """Return what one measurement says: ``pass``, ``fail``, or ``inconclusive`` where it has no value, or is between the two conditions."""
    if measurement.value is None:
        return INCONCLUSIVE
    if holds(analysis["pass"], measurement.value):
        return PASS
    if analysis.get("fail") and not holds(analysis["fail"], measurement.value):
        return INCONCLUSIVE
    return FAIL


def judge(analysis: Mapping[str, Any], results: Sequence[str]) -> Verdict:
    """Return what the results of an analysis' measurements, in order, come to.

    More failures than ``failure_limit`` fail it at once. It passes when it is complete and at least one measurement passed.
    """
    fails, passes, limit = results.count(FAIL), results.count(PASS), int(analysis.get("failure_limit") or 0)
    counted = f"{analysis['name']}: {passes} of {len(results)} measurements passed, {fails} failed"
    if fails > limit:
        return Verdict(FAIL, f"{counted} ({limit} may)", True)
    complete = len(results) >= analysis["count"]
    if passes:
        return Verdict(PASS, counted, complete)
    return Verdict(INCONCLUSIVE, f"{counted}, the others say nothing", complete)


def duration(analysis: Mapping[str, Any]) -> float:
    """Return how many seconds it takes to make all measurements: the first after one interval, then one each."""
    return float(analysis["interval"]) * int(analysis["count"])


def read_answer(text: str) -> Measurement:
    """Return the number in an answer of Prometheus' query API: a scalar, or a vector of exactly one series."""
    try:
        answer = json.loads(text)
        if answer.get("status") != "success":
            return Measurement(None, f"Prometheus says: {str(answer.get('error') or answer)[:200]}")
        kind, result = answer["data"]["resultType"], answer["data"]["result"]
        samples = [result] if kind == "scalar" else [series["value"] for series in result]
        values = [float(sample[1]) for sample in samples]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return Measurement(None, "this is no answer of Prometheus' query API")
    if len(values) != 1:
        return Measurement(None, "no data" if not values else f"{len(values)} series; make it one with sum() or max()")
    if not math.isfinite(values[0]):
        return Measurement(None, f"the value is {values[0]}")
    return Measurement(values[0], f"{values[0]:g}")


def measure(analysis: Mapping[str, Any], *, timeout: float = QUERY_SECONDS) -> Measurement:
    """Ask Prometheus once. Whatever goes wrong is a measurement without a value."""
    parts = urlsplit(str(analysis["url"]))
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=timeout)
    headers = {"Content-Type": b"application/x-www-form-urlencoded", "User-Agent": b"hearth.fleet"}
    try:
        secrets = request_headers.read_secrets(analysis.get("secret_files") or {})
        headers.update(request_headers.fill(analysis.get("headers") or {}, secrets))
        connection.request("POST", f"{parts.path.rstrip('/')}/api/v1/query", urlencode({"query": analysis["query"]}), headers)
        response = connection.getresponse()
        text = request_headers.mask(response.read(_ANSWER_BYTES).decode(errors="replace"), secrets.values())
    except FleetError as error:
        return Measurement(None, str(error))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Measurement(None, f"Prometheus cannot be asked: {getattr(error, 'strerror', None) or error or type(error).__name__}")
    finally:
        connection.close()
    if response.status not in (200, 400, 422, 503):  # those carry an error as JSON
        return Measurement(None, f"HTTP {response.status}")
    return read_answer(text)
