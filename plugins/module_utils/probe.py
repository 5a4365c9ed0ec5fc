# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a daemon serves: one question to it, the wait until it answers well, and when waiting is hopeless.

A probe is plain data, as service specs carry it: ``http://…`` or ``https://…`` (a 2xx answer), ``tcp://host:port`` (a
connection), ``{url, method, headers, secret_files, body, status, json, contains}``, ``{command, user}`` (exit status 0), or
``{unit}`` (systemd says active), for daemons that cannot be asked. ``secret_files`` says where the secrets are that the
headers refer to (see ``headers.py``). A command has the account, environment and secrets of the unit ``service_unit``, or the
``surroundings`` that are spelt out (see ``service_process.py``); ``where`` is its place in the inventory, for people.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import shlex
import signal
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from ansible_collections.hearth.fleet.plugins.module_utils import headers as request_headers
from ansible_collections.hearth.fleet.plugins.module_utils import programs, service_process
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

ATTEMPT_SECONDS = 5.0
"""How long one question may take."""

LEAST_ATTEMPT_SECONDS = 0.05
"""How long the last question before the deadline may take at least."""

FIRST_PAUSE_SECONDS = 0.01
"""The first pause between questions, so that a quick daemon is seen at once: many are up again within 0.2 s."""

PAUSE_SHARE = 0.1
"""Later pauses are this share of the time waited so far, so that a daemon is never seen much later than it was ready."""

SCRIPT_SECONDS = 5.0
"""How long a script may say that a program in it is not there, before that counts: the daemon itself may bring it when it starts."""

CANNOT_BE_ASKED = "it cannot be asked"
"""Why a wait was given up in which asking again would bring the same answer; what that was is in the result's ``answer``."""

_BODY_BYTES = 2**20
_SHOWN_CHARACTERS = 200
_UNIT_PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "ExecMainCode", "ExecMainStatus", "User", "TimeoutStopUSec")
_CLD_EXITED, _CLD_KILLED, _CLD_DUMPED = 1, 2, 3


class Clock(Protocol):
    """What waiting needs of the module ``time``; tests bring their own."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


@dataclass(frozen=True)
class Answer:
    """What came of one question: whether the daemon serves, and what it said, for people; ``text`` is all of what it said.

    ``pointless_after``: nobody was asked, as the program for it is not there; once there was nothing but that for so many
    seconds, asking again is pointless. None where it never is.
    """

    ok: bool
    said: str
    text: str = field(default="", compare=False, repr=False)
    pointless_after: float | None = None


@dataclass(frozen=True)
class ProbeResult:
    """What came of waiting.

    ``seconds`` is the whole wait, ``served_after`` the time until the first of the successes that made it ready (None if
    not ready), ``passes`` how many successes in a row there were at the end, ``hopeless`` why the wait was given up early.
    """

    ready: bool
    seconds: float
    attempts: int
    passes: int
    answer: str
    served_after: float | None = None
    hopeless: str = ""


@dataclass(frozen=True)
class UnitState:
    """What systemd says of a unit; the names are those of its properties."""

    unit: str
    load: str
    active: str
    sub: str
    result: str
    restarts: int
    exit_code: int
    exit_status: int
    user: str
    stop_timeout: str

    def __str__(self) -> str:
        return f"{self.active} ({self.sub}), Result={self.result}, {self.ended or 'main process not ended'}, NRestarts={self.restarts}"

    @property
    def ended(self) -> str:
        """How the main process ended; empty while it runs, and before it first did."""
        if self.exit_code == _CLD_EXITED:
            return f"exit status {self.exit_status}"
        if self.exit_code in (_CLD_KILLED, _CLD_DUMPED):
            return f"killed by {_signal_name(self.exit_status)}"
        return ""


class Patience:
    """With a program that is not there: for how long nobody could be asked, one answer after the other."""

    def __init__(self) -> None:
        self._since: float | None = None

    def is_over(self, answer: Answer, now: float) -> bool:
        """Return whether asking again is pointless, after this answer at ``now`` (seconds since some fixed moment)."""
        if answer.pointless_after is None:
            self._since = None
            return False
        self._since = now if self._since is None else self._since
        return now - self._since >= answer.pointless_after


def wait_ready(
    probe: str | Mapping[str, Any],
    *,
    deadline: float,
    passes: int,
    interval: float,
    hopeless: Callable[[], str] | None = None,
    clock: Clock = time,
    ask: Callable[..., Answer] | None = None,
) -> ProbeResult:
    """Ask until ``passes`` answers in a row are good, for at most ``deadline`` seconds.

    Failed questions are repeated after 10 ms, then less and less often, down to every ``interval`` seconds; successes are
    always ``interval`` apart, so that a daemon that flaps is found out. After every failure ``hopeless`` may say why
    waiting is pointless (empty: it is not); an answer may itself. ``ask`` replaces ``probe_once``. Raises FleetError for what is no probe.
    """
    ask = ask or probe_once
    interval = max(interval, FIRST_PAUSE_SECONDS)
    start = clock.monotonic()
    attempts, streak, served_after = 0, 0, None
    refusal = ""
    patience = Patience()
    while True:
        left = start + deadline - clock.monotonic()
        answer = ask(probe, timeout=max(LEAST_ATTEMPT_SECONDS, min(ATTEMPT_SECONDS, left)))
        elapsed = clock.monotonic() - start
        attempts += 1
        if not (refusal and left < ATTEMPT_SECONDS and elapsed >= deadline):  # the last one had no time to say more than the one before
            refusal = "" if answer.ok else answer.said
        if answer.ok:
            streak, wait = streak + 1, interval
            served_after = elapsed if streak == 1 else served_after
        else:
            streak, wait, served_after = 0, min(max(FIRST_PAUSE_SECONDS, elapsed * PAUSE_SHARE), interval), None
        ready = streak >= passes
        given_up = "" if answer.ok or hopeless is None else hopeless()
        if patience.is_over(answer, elapsed):
            given_up = given_up or CANNOT_BE_ASKED
        if ready or given_up or elapsed >= deadline:
            return ProbeResult(ready, elapsed, attempts, streak, answer.said if answer.ok else refusal, served_after if ready else None, given_up)
        clock.sleep(min(wait, deadline - elapsed))


def probe_once(probe: str | Mapping[str, Any], *, timeout: float = ATTEMPT_SECONDS) -> Answer:
    """Ask once, for at most about ``timeout`` seconds. Raises FleetError for what is no probe."""
    if isinstance(probe, str):
        parts = urlsplit(probe)
        if parts.scheme == "tcp":
            return _ask_tcp(parts, timeout)
        if parts.scheme in ("http", "https"):
            return _ask_http({"url": probe}, timeout)
    elif "url" in probe:
        return _ask_http(probe, timeout)
    elif "command" in probe:
        return _ask_command(probe, timeout)
    elif "unit" in probe:
        return _ask_systemd(str(probe["unit"]), timeout)
    raise FleetError(f"{probe!r} is no probe; write a URL (http, https, tcp), or a mapping with url or command")


def as_service(probe: str | Mapping[str, Any], unit: str, user: str) -> str | Mapping[str, Any]:
    """Return the probe with its command, if it is one, run as the unit's service: as ``user``, with its environment and its secrets.

    A command that names its own user has nothing of the service.
    """
    if not isinstance(probe, Mapping) or "command" not in probe or "user" in probe:
        return probe
    return {"user": user, "service_unit": unit, **probe}


def of_unit(ready: str | Mapping[str, Any] | None, state: UnitState) -> str | Mapping[str, Any]:
    """Return the readiness probe of a unit: commands run as its service, and without a probe systemd is asked."""
    return as_service(ready, state.unit, state.user) if ready else {"unit": state.unit}


def ask_ready(unit: str, ready: str | Mapping[str, Any] | None) -> Answer:
    """Ask once whether a unit's daemon is ready. One that is not active is not, whoever answers in its place."""
    try:
        state = unit_state(unit)
        return probe_once(of_unit(ready, state)) if state.active == "active" else Answer(False, f"the unit is {state.active}")
    except FleetError as error:
        return Answer(False, str(error))


def describe(probe: str | Mapping[str, Any]) -> str:
    """Return a probe as people name it. Headers and bodies, which may hold secrets, are left out."""
    if isinstance(probe, str):
        return probe
    if "url" in probe:
        return f"{probe.get('method') or 'GET'} {probe['url']}"
    if "command" in probe:
        return shlex.join(map(str, probe["command"]))
    if "signal" in probe:
        return f"signal {probe['signal']}"
    return f"systemctl is-active {probe.get('unit')}"


def unit_state(unit: str) -> UnitState:
    """Return what systemd says of a unit; one that it does not know is ``not-found``. Raises FleetError without systemd."""
    command = ["systemctl", "show", *(f"--property={name}" for name in _UNIT_PROPERTIES), "--", unit]
    said = programs.run(command, seconds=30)
    if said.status:
        raise FleetError(f"systemd cannot be asked about {unit}: {said.why}")
    return parse_unit_state(unit, said.output)


def parse_unit_state(unit: str, shown: str) -> UnitState:
    """Return the state of a unit out of what ``systemctl show`` prints."""
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    numbers = {name: int(found[name]) if found.get(name, "").isdigit() else 0 for name in ("NRestarts", "ExecMainCode", "ExecMainStatus")}
    return UnitState(
        unit=unit,
        load=found.get("LoadState", ""),
        active=found.get("ActiveState", ""),
        sub=found.get("SubState", ""),
        result=found.get("Result", ""),
        restarts=numbers["NRestarts"],
        exit_code=numbers["ExecMainCode"],
        exit_status=numbers["ExecMainStatus"],
        user=found.get("User", ""),
        stop_timeout=found.get("TimeoutStopUSec", ""),
    )


def why_hopeless(state: UnitState, restarts_before: int) -> str:
    """Return why a unit will not become ready; empty while it still may.

    One automatic restart is enough: a daemon that fell over while it started is not what anybody wants to call ready.
    """
    how = f" ({state.ended})" if state.ended else ""
    if state.result == "start-limit-hit":
        return f"it crashed so often that systemd gave up{how}"
    if state.restarts > restarts_before or state.sub.startswith("auto-restart"):
        return f"it crashed, and systemd starts it again and again{how}"
    if state.active == "failed":
        return f"it failed, Result={state.result}{how}"
    if state.active in ("inactive", "deactivating"):
        return f"it stopped by itself{how}"
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _ask_tcp(parts: SplitResult, timeout: float) -> Answer:
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=timeout):
            return Answer(True, "connected")
    except OSError as error:
        return Answer(False, _reason(error))


def _ask_http(probe: Mapping[str, Any], timeout: float) -> Answer:
    end = time.monotonic() + timeout
    try:
        secrets = request_headers.read_secrets(probe.get("secret_files") or {})
        given = request_headers.fill(probe.get("headers") or {}, secrets)
    except FleetError as error:
        return Answer(False, str(error))
    parts = urlsplit(str(probe["url"]))
    connection = _connection(parts, timeout)
    body = _body(probe.get("body"))
    json_body = body is not None and not isinstance(probe["body"], str) and "content-type" not in map(str.lower, given)
    headers = {"Connection": b"close", "User-Agent": b"hearth.fleet", **({"Content-Type": b"application/json"} if json_body else {}), **given}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(str(probe.get("method") or "GET"), target, body=body, headers=headers)
        response = connection.getresponse()
        text = request_headers.mask(_read_body(response, end), secrets.values())
    except (OSError, http.client.HTTPException) as error:
        return Answer(False, _reason(error))
    finally:
        connection.close()
    return _judge(probe, response.status, text)


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)
    context = ssl.create_default_context()
    if _is_loopback(host):
        # The daemon's certificate names the host as others see it, never "127.0.0.1"; and nobody sits in between.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _body(value: object) -> bytes | None:
    if value is None:
        return None
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _read_body(response: http.client.HTTPResponse, end: float) -> str:
    """Return an answer's body, as much as comes until ``end`` (monotonic seconds) and is worth reading."""
    body = b""
    while len(body) < _BODY_BYTES:
        if time.monotonic() > end:
            raise TimeoutError("timed out")
        part = response.read1(65536)
        if not part:
            break
        body += part
    return body.decode(errors="replace")


def _judge(probe: Mapping[str, Any], status: int, text: str) -> Answer:
    """Return whether an HTTP answer is what the probe wants."""
    wanted = probe.get("status") or range(200, 300)
    if status not in wanted:
        return Answer(False, f"HTTP {status}{_excerpt(text)}")
    if probe.get("contains") and str(probe["contains"]) not in text:
        return Answer(False, f"HTTP {status} without {probe['contains']!r}{_excerpt(text)}")
    if probe.get("json"):
        problem = _json_problem(text, probe["json"])
        if problem:
            return Answer(False, f"HTTP {status}, but {problem}")
    return Answer(True, f"HTTP {status}{_excerpt(text)}", text)


def _json_problem(text: str, wanted: Mapping[str, Any]) -> str:
    try:
        answer = json.loads(text)
    except ValueError:
        return f"no JSON{_excerpt(text)}"
    for path, value in wanted.items():
        try:
            found = _below(answer, path)
        except (KeyError, IndexError, ValueError, TypeError):
            return f"there is no {path}"
        if found != value:
            return f"{path} is {json.dumps(found)}, not {json.dumps(value)}"
    return ""


def _below(value: Any, path: str) -> Any:
    """Return what is at a dotted path such as ``nodes.0.state``."""
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def _ask_command(probe: Mapping[str, Any], timeout: float) -> Answer:
    command = [str(word) for word in probe["command"]]
    try:
        found = _surroundings(probe)
        said = service_process.run(command, found, seconds=timeout)
    except FleetError as error:
        return Answer(False, str(error))
    if said.status == programs.TOO_LATE and not said.ended:
        return Answer(False, f"no answer within {timeout:.0f} s")
    what = f"exit status {said.status}{_excerpt(said.output)}" if said.ended else said.error
    if said.status not in (programs.NOT_FOUND, programs.NOT_EXECUTABLE):
        return Answer(said.status == 0, what, said.output)
    place = f" ({probe['where']})" if probe.get("where") else ""
    may_come = said.ended or service_process.may_bring(command[0], found)
    return Answer(False, f"{what}{place}", said.output, SCRIPT_SECONDS if may_come else 0.0)


def _surroundings(probe: Mapping[str, Any]) -> service_process.Surroundings:
    user = str(probe.get("user") or "")
    if probe.get("service_unit"):
        return service_process.of_unit(str(probe["service_unit"]), user)
    return service_process.Surroundings(**{"user": user, **(probe.get("surroundings") or {})})


def _ask_systemd(unit: str, timeout: float) -> Answer:
    said = programs.run(["systemctl", "is-active", "--", unit], seconds=timeout)
    if not said.ended:
        return Answer(False, f"systemd cannot be asked: {said.why}")
    state = said.output.strip() or "unknown"
    return Answer(state == "active", f"the unit is {state}")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _excerpt(text: str) -> str:
    """Return the first line of an answer, shortened, to be appended to what it is about; empty for no text."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if not line:
        return ""
    return f": {line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + '…'}"
