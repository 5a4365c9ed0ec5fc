# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking daemons, and waiting for them, on a clock that takes no time."""

from __future__ import annotations

import http.server
import itertools
import json
import os
import pwd
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import probe, service_process
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.probe import Answer, UnitState


class Clock:
    """A clock on which only sleeping and asking take time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def daemon(clock: Clock, good: Callable[[float], bool], *, cost: float = 0.0) -> Callable[..., Answer]:
    """A daemon that answers well when ``good`` says so of the seconds since it was started."""
    begin = clock.now

    def ask(_probe: object, *, timeout: float) -> Answer:
        assert timeout > 0
        clock.now += cost
        return Answer(good(clock.now - begin), "fine" if good(clock.now - begin) else "starting")

    return ask


@pytest.mark.parametrize(
    ("good", "ready", "served_after", "seconds", "passes"),
    [
        pytest.param(lambda _seconds: True, True, 0.0, 2.0, 3, id="at-once"),
        pytest.param(lambda seconds: seconds >= 0.3, True, 0.3138, 2.3138, 3, id="quick"),
        pytest.param(lambda seconds: seconds >= 7, True, 7.2890, 9.2890, 3, id="slow"),
        pytest.param(lambda _seconds: False, False, None, 20.0, 0, id="never"),
        pytest.param(lambda seconds: seconds >= 19.5, False, None, 20.0, 2, id="too-late"),
    ],
)
def test_waiting(good, ready, served_after, seconds, passes):
    clock = Clock()
    result = probe.wait_ready("http://x/", deadline=20, passes=3, interval=1, clock=clock, ask=daemon(clock, good))
    assert (result.ready, result.passes) == (ready, passes)
    assert result.seconds == pytest.approx(seconds, abs=0.001)
    assert result.served_after == (None if served_after is None else pytest.approx(served_after, abs=0.001))
    assert result.hopeless == ""


def test_f34_a_daemon_that_flaps_is_not_ready():
    clock = Clock()
    result = probe.wait_ready("http://x/", deadline=20, passes=3, interval=1, clock=clock, ask=daemon(clock, lambda seconds: int(seconds) % 3 != 2))
    assert not result.ready
    assert result.served_after is None


def test_failures_are_asked_again_quickly_at_first_then_at_the_interval():
    clock = Clock()
    probe.wait_ready("http://x/", deadline=5, passes=1, interval=1, clock=clock, ask=daemon(clock, lambda _seconds: False))
    assert clock.slept[:3] == pytest.approx([0.01, 0.01, 0.01])
    waited = list(itertools.accumulate(clock.slept))
    assert all(pause <= max(0.01, before / 10) for before, pause in zip(waited, clock.slept[1:-1], strict=False))
    assert len(clock.slept) < 60
    assert sum(clock.slept) == pytest.approx(5)


def test_the_deadline_holds_when_answers_are_slow():
    clock = Clock()
    result = probe.wait_ready("http://x/", deadline=10, passes=3, interval=1, clock=clock, ask=daemon(clock, lambda _seconds: False, cost=4))
    assert result.seconds <= 10 + 4


def test_what_the_daemon_said_is_not_lost_to_a_last_question_that_had_no_time():
    clock = Clock()

    def ask(_probe: object, *, timeout: float) -> Answer:
        clock.now += min(timeout, 0.8)
        return Answer(False, "the database is locked" if timeout >= 0.8 else f"no answer within {timeout:.0f} s")

    assert probe.wait_ready("http://x/", deadline=2, passes=3, interval=0.1, clock=clock, ask=ask).answer == "the database is locked"
    assert probe.wait_ready("http://x/", deadline=0.5, passes=3, interval=0.1, clock=clock, ask=ask).answer == "no answer within 0 s"


def test_f56_waiting_ends_when_it_is_hopeless():
    clock = Clock()
    result = probe.wait_ready(
        "http://x/",
        deadline=600,
        passes=3,
        interval=1,
        clock=clock,
        ask=daemon(clock, lambda _seconds: False),
        hopeless=lambda: "it crashed" if clock.now > 1002 else "",
    )
    assert (result.ready, result.hopeless) == (False, "it crashed")
    assert result.seconds < 5


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers what the path asks for: /status/503, /json, /slow, /echo, /type."""

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        if self.path == "/slow":
            self.server.stopped.wait(5)
        status = int(self.path.rpartition("/")[2]) if self.path.startswith("/status/") else 200
        said = {
            "/json": json.dumps({"status": "healthy", "nodes": [{"ready": True}], "peers": 5}),
            "/echo": f"{self.command} {self.headers.get('X-Token')} {body}",
            "/type": str(self.headers.get("Content-Type")),
            "/long": "x" * 1000,
        }.get(self.path, "\nnot yet\nmore")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(said.encode())

    do_GET = do_POST = answer  # the names that http.server calls

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.stopped = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stopped.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("asked", "ok", "said"),
    [
        pytest.param("/readyz", True, "HTTP 200: not yet", id="2xx"),
        pytest.param("/status/503", False, "HTTP 503: not yet", id="503"),
        pytest.param("/status/302", False, "HTTP 302: not yet", id="redirects-are-not-followed"),
        pytest.param("/long", True, f"HTTP 200: {'x' * 199}…", id="long-answers-are-cut"),
        pytest.param({"url": "/status/404", "status": [404]}, True, "HTTP 404: not yet", id="wanted-status"),
        pytest.param({"url": "/readyz", "status": [204]}, False, "HTTP 200: not yet", id="unwanted-status"),
        pytest.param({"url": "/readyz", "contains": "more"}, True, "HTTP 200: not yet", id="contains"),
        pytest.param({"url": "/readyz", "contains": "1.2.3"}, False, "HTTP 200 without '1.2.3': not yet", id="contains-not"),
        pytest.param({"url": "/json", "json": {"status": "healthy", "nodes.0.ready": True}}, True, "HTTP 200: {", id="json"),
        pytest.param({"url": "/json", "json": {"peers": 6}}, False, "HTTP 200, but peers is 5, not 6", id="json-differs"),
        pytest.param({"url": "/json", "json": {"nodes.1.ready": True}}, False, "HTTP 200, but there is no nodes.1.ready", id="json-absent"),
        pytest.param({"url": "/readyz", "json": {"a": 1}}, False, "HTTP 200, but no JSON: not yet", id="json-is-none"),
        pytest.param(
            {"url": "/echo", "method": "POST", "headers": {"X-Token": 7}, "body": {"a": 1}},
            True,
            'HTTP 200: POST 7 {"a": 1}',
            id="method-headers-body",
        ),
        pytest.param({"url": "/type", "method": "POST", "body": {"a": 1}}, True, "HTTP 200: application/json", id="json-body"),
        pytest.param({"url": "/type", "body": [1], "headers": {"content-type": "text/x"}}, True, "HTTP 200: text/x", id="json-body-with-a-type"),
        pytest.param({"url": "/type", "body": "a=1"}, True, "HTTP 200: None", id="text-body-has-no-type-of-its-own"),
        pytest.param({"url": "/echo", "body": "text"}, True, "HTTP 200: GET None text", id="text-body"),
    ],
)
def test_http(url, asked, ok, said):
    answer = probe.probe_once(url + asked if isinstance(asked, str) else {**asked, "url": url + asked["url"]})
    assert answer.ok is ok
    assert answer.said.startswith(said)


def test_f60_a_secret_is_put_into_a_header_on_the_host_alone(url, tmp_path):
    (tmp_path / "x.env").write_text("TOKEN=of-the-file\n")
    asked = {
        "url": f"{url}/echo",
        "headers": {"X-Token": "Bearer {secret:TOKEN}"},
        "secret_files": {"TOKEN": {"path": f"{tmp_path}/x.env", "as": "environment"}},
    }
    good = {**asked, "body": "sent", "contains": "Bearer ******** sent"}
    assert probe.probe_once(good) == Answer(True, "HTTP 200: GET Bearer ******** sent")  # the daemon repeats it; nobody reads it
    (tmp_path / "x.env").unlink()
    assert probe.probe_once(asked) == Answer(False, f"secret TOKEN cannot be read from {tmp_path}/x.env: No such file or directory")


def test_the_daemon_gets_the_secret_itself(tmp_path):
    received = []

    class Daemon(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append(self.headers["Authorization"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    (tmp_path / "ADMIN").write_text("päss\n")
    with http.server.HTTPServer(("127.0.0.1", 0), Daemon) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        asked = {
            "url": f"http://127.0.0.1:{server.server_port}/",
            "headers": {"Authorization": "Bearer {secret:ADMIN}"},
            "secret_files": {"ADMIN": {"path": f"{tmp_path}/ADMIN", "as": "request"}},
        }
        assert probe.probe_once(asked).ok
        thread.join()
    assert received[0].encode("latin-1").decode() == "Bearer päss"


def test_http_that_hangs_is_not_ready(url):
    assert probe.probe_once(f"{url}/slow", timeout=0.2) == Answer(False, "timed out")


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_tcp(url, closed_port):
    assert probe.probe_once(url.replace("http", "tcp")) == Answer(True, "connected")
    assert probe.probe_once(f"tcp://127.0.0.1:{closed_port}") == Answer(False, "Connection refused")
    assert probe.probe_once(f"http://127.0.0.1:{closed_port}/") == Answer(False, "Connection refused")


@pytest.mark.parametrize(
    ("command", "ok", "said"),
    [
        pytest.param(["sh", "-c", "echo fine; echo more"], True, "exit status 0: fine", id="fine"),
        pytest.param(["sh", "-c", "echo locked >&2; exit 3"], False, "exit status 3: locked", id="fails"),
        pytest.param(["sh", "-c", "sleep 30 & sleep 30"], False, "no answer within 1 s", id="hangs-with-children"),
    ],
)
def test_command(command, ok, said):
    assert probe.probe_once({"command": command}, timeout=1) == Answer(ok, said)


@pytest.mark.parametrize(
    ("command", "said", "after"),
    [
        pytest.param(["/nonexistent/x"], "/nonexistent/x cannot be run: No such file or directory (f.x.command)", 0.0, id="absent"),
        pytest.param(["no-such-x"], f"no-such-x cannot be run: there is no such program in {service_process.PATH} (f.x.command)", 0.0, id="bare"),
        pytest.param(["/etc/passwd"], "/etc/passwd cannot be run: Permission denied (f.x.command)", 0.0, id="no-program"),
        pytest.param(["/etc/passwd/x"], "/etc/passwd/x cannot be run: Not a directory (f.x.command)", 0.0, id="below-a-file"),
        pytest.param(["sh", "-c", "echo x: not found; exit 127"], "exit status 127: x: not found (f.x.command)", 5.0, id="within-a-script"),
        pytest.param(["sh", "-c", "exit 126"], "exit status 126 (f.x.command)", 5.0, id="within-a-silent-script"),
        pytest.param(["sh", "-c", "exit 125"], "exit status 125", None, id="another-status"),
    ],
)
def test_a_program_that_is_not_there_is_said_with_where_it_is_written(command, said, after):
    answer = probe.probe_once({"command": command, "where": "f.x.command"})
    assert (answer.ok, answer.said, answer.pointless_after) == (False, said, after)


def test_a_program_that_the_daemon_may_bring_itself_is_waited_for_a_while(tmp_path):
    answer = probe.probe_once({"command": [f"{tmp_path}/ctl"], "user": pwd.getpwuid(os.geteuid()).pw_name})
    assert answer.pointless_after == 5.0


@pytest.mark.parametrize(
    ("answers", "seconds", "hopeless"),
    [
        pytest.param(lambda _seconds: Answer(False, "absent", pointless_after=0.0), 0, probe.CANNOT_BE_ASKED, id="absent"),
        pytest.param(lambda _seconds: Answer(False, "127", pointless_after=5.0), 5, probe.CANNOT_BE_ASKED, id="within-a-script"),
        pytest.param(lambda seconds: Answer(seconds >= 4, "127", pointless_after=None if seconds >= 4 else 5.0), 6, "", id="it-came-in-time"),
        pytest.param(lambda seconds: Answer(False, "x", pointless_after=5.0 if int(seconds) % 4 else None), 20, "", id="now-and-then-it-is-there"),
        pytest.param(lambda _seconds: Answer(False, "Connection refused"), 20, "", id="nobody-answers"),
    ],
)
def test_who_cannot_be_asked_is_not_asked_until_the_deadline(answers, seconds, hopeless):
    clock = Clock()
    result = probe.wait_ready("x", deadline=20, passes=3, interval=1, clock=clock, ask=lambda _probe, *, timeout: answers(clock.now - 1000.0))
    assert result.hopeless == hopeless
    assert seconds <= result.seconds < seconds + 1


def test_a_crash_is_said_before_a_program_that_is_not_there():
    result = probe.wait_ready(
        "x",
        deadline=20,
        passes=3,
        interval=1,
        clock=Clock(),
        hopeless=lambda: "it crashed",
        ask=lambda _probe, *, timeout: Answer(False, "x", pointless_after=0.0),
    )
    assert result.hopeless == "it crashed"


@pytest.mark.parametrize("wrong", ["ftp://x/", "readyz", {}, {"signal": "SIGHUP"}])
def test_what_is_no_probe_is_said(wrong):
    with pytest.raises(FleetError, match="is no probe; write a URL"):
        probe.probe_once(wrong)


@pytest.mark.parametrize(
    ("active", "ready", "asked", "said"),
    [
        ("active", "http://127.0.0.1:1/readyz", "http://127.0.0.1:1/readyz", "yes"),
        ("active", {"command": ["noded", "ping"]}, {"command": ["noded", "ping"], "user": "node", "service_unit": "node.service"}, "yes"),
        ("active", {"command": ["noded", "ping"], "user": "root"}, {"command": ["noded", "ping"], "user": "root"}, "yes"),
        ("active", None, {"unit": "node.service"}, "yes"),
        ("activating", "http://127.0.0.1:1/readyz", None, "the unit is activating"),
    ],
)
def test_asking_a_unit(monkeypatch, active, ready, asked, said):
    questions = []
    monkeypatch.setattr(probe, "unit_state", lambda unit: UnitState(unit, "loaded", active, "", "success", 0, 0, 0, "node", ""))
    monkeypatch.setattr(probe, "probe_once", lambda question: questions.append(question) or Answer(True, "yes"))
    assert probe.ask_ready("node.service", ready) == Answer(active == "active", said)
    assert questions == ([asked] if asked else [])


@pytest.mark.parametrize(
    ("asked", "described"),
    [
        pytest.param("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", id="url"),
        pytest.param({"url": "http://x/", "method": "POST"}, "POST http://x/", id="request"),
        pytest.param({"command": ["ctl", "a b"]}, "ctl 'a b'", id="command"),
        pytest.param({"signal": "SIGUSR2"}, "signal SIGUSR2", id="signal"),
        pytest.param({"unit": "relay.service"}, "systemctl is-active relay.service", id="unit"),
    ],
)
def test_probes_have_names(asked, described):
    assert probe.describe(asked) == described


def test_f60_headers_are_not_described():
    described = probe.describe({"url": "http://127.0.0.1/x", "headers": {"Authorization": "Bearer s3cret"}, "body": "s3cret"})
    assert described == "GET http://127.0.0.1/x"


SHOWN = """\
LoadState=loaded
ActiveState={active}
SubState={sub}
Result={result}
NRestarts={restarts}
ExecMainCode={code}
ExecMainStatus={status}
User=nats
TimeoutStopUSec=1min 30s
"""


def state(active="active", sub="running", result="success", restarts=0, code=0, status=0) -> UnitState:
    return probe.parse_unit_state(
        "nats-server.service", SHOWN.format(active=active, sub=sub, result=result, restarts=restarts, code=code, status=status)
    )


@pytest.mark.parametrize(
    ("seen", "restarts_before", "why"),
    [
        pytest.param(state(), 0, "", id="running"),
        pytest.param(state("activating", "start-pre"), 0, "", id="starting"),
        pytest.param(state("reloading", "reload"), 0, "", id="reloading"),
        pytest.param(state(restarts=3), 3, "", id="restarted-long-ago"),
        pytest.param(state(restarts=4), 3, "it crashed, and systemd starts it again and again", id="restarted-now"),
        pytest.param(
            state("activating", "auto-restart", "exit-code", 0, 1, 1),
            0,
            "it crashed, and systemd starts it again and again (exit status 1)",
            id="waits-for-restart",
        ),
        pytest.param(
            state("failed", "failed", "start-limit-hit", 5, 1, 2), 0, "it crashed so often that systemd gave up (exit status 2)", id="start-limit"
        ),
        pytest.param(state("failed", "failed", "signal", 0, 2, 11), 0, "it failed, Result=signal (killed by SIGSEGV)", id="signal"),
        pytest.param(state("failed", "failed", "core-dump", 0, 3, 6), 0, "it failed, Result=core-dump (killed by SIGABRT)", id="core-dump"),
        pytest.param(state("inactive", "dead", "success", 0, 1, 0), 0, "it stopped by itself (exit status 0)", id="stopped"),
    ],
)
def test_f56_when_waiting_is_hopeless(seen, restarts_before, why):
    assert probe.why_hopeless(seen, restarts_before) == why


def test_a_unit_that_systemd_does_not_know_has_a_state_too():
    seen = probe.parse_unit_state("x.service", "LoadState=not-found\nActiveState=inactive\nSubState=dead\nNRestarts=\n")
    assert (seen.load, seen.active, seen.restarts, seen.ended) == ("not-found", "inactive", 0, "")
