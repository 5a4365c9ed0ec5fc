# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of a transaction, driven through a simulated host: every way it can go, and killed at every point of each way."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import journal, transaction
from ansible_collections.hearth.fleet.plugins.module_utils.analysis import Measurement
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.journal import JOURNAL, Journal, read
from ansible_collections.hearth.fleet.plugins.module_utils.probe import Answer, UnitState
from ansible_collections.hearth.fleet.plugins.module_utils.transaction import (
    ABORTED,
    COMMITTED,
    INCONCLUSIVE,
    NEEDS_OPERATOR,
    ROLLED_BACK,
    Engine,
    Progress,
    complete,
    progress,
    summary,
    whence,
)

OLD, NEW = "1.0.0", "1.1.0"
DRAIN = {"request": "drain", "done": "drained", "resume": "resume", "deadline": 10}
UPGRADE = {
    "id": "20261121T120000Z-ab12cd",
    "service": "relay",
    "unit": "relay.service",
    "kind": "upgrade",
    "from": OLD,
    "to": NEW,
    "home": "/opt/relay",
    "databases": [{"path": "/var/lib/relay/relay.db", "engine": "sqlite"}],
    "health": {"ready": "ready", "version": "version", "deadline": 20, "passes": 3, "interval": 1},
    "drain": DRAIN,
    "soak": {"duration": 20, "interval": 2},
    "stop_timeout": 10,
}
ERRORS = {"name": "errors", "url": "http://p", "query": "q", "pass": "< 0.01", "fail": "> 0.05", "interval": 5, "count": 3}


class Killed(BaseException):
    """The engine's process is gone, as by kill -9 or a power cut."""


@dataclasses.dataclass
class Release:
    """How a release behaves."""

    schema: int = 1
    ready_after: float | None = 1.0
    flaps: bool = False
    lives: float | None = None
    exits: bool = False
    says: str = ""
    drains: bool = True
    ends_when_drained: bool = False
    error_rate: float | None = 0.0


class World:
    """A host with one service, in memory: time, files, databases and a daemon. It goes on when the engine dies."""

    def __init__(self, *, old: Release | None = None, new: Release | None = None, running: bool = True) -> None:
        self.releases = {OLD: old or Release(), NEW: new or Release()}
        self.time = 1000.0
        self.current, self.config = OLD, "old"
        self.kept: str | None = None
        self.database: dict[str, Any] = {"schema": 1, "rows": ["first"]}
        self.cold: dict[str, Any] | None = None
        self.aside: dict[str, Any] | None = None
        self.process: dict[str, Any] | None = None
        self.failed = False
        self.written: list[str] = ["first"]
        self.settled: list[bool] = []
        self.evidence = 0
        self.acts: list[str] = []
        self.full = False
        self.cannot_stop = False
        self.broken_after: dict[str, Callable[[World], None]] = {}
        self.needing = {"app.service"} if running else set()  # what systemd stops along with the service
        self.stopped: set[str] = set()
        self.broken_with_new: set[str] = set()
        if running:
            self.boot()
            self.time += 60

    def boot(self) -> None:
        """Let systemd start the service, and what needs it."""
        self.start()
        self.stopped = self.broken_with_new if self.current == NEW else set()

    def start(self) -> None:
        """Let systemd start the service with whatever is in place."""
        release = self.releases[self.current]
        self.failed = False
        self.process = {"release": self.current, "config": self.config, "since": self.time, "drain": None, "told": False}
        self.database["schema"] = max(self.database["schema"], release.schema)
        if release.exits:
            self.process, self.failed = None, True

    def reload(self) -> None:
        assert self.process
        self.process["config"] = self.config

    def power_cut(self) -> None:
        self.process, self.failed = None, False
        self.stopped = self.needing
        self.time += 5

    @property
    def behaviour(self) -> Release:
        assert self.process
        return self.releases[self.process["release"]]

    @property
    def age(self) -> float:
        return self.time - self.process["since"] if self.process else 0.0

    @property
    def restarts(self) -> int:
        lives = self.behaviour.lives if self.process else None
        return int(self.age / lives) if lives else 0

    @property
    def ready(self) -> bool:
        if not self.process or self.process["drain"] is not None or self.behaviour.ready_after is None:
            return False
        lives, age = self.behaviour.lives, self.age
        if lives:
            age %= lives
        return age >= self.behaviour.ready_after and not (self.behaviour.flaps and int(age) % 2)

    def pass_time(self, seconds: float) -> None:
        """Users write whatever a service takes that has called itself ready."""
        self.time += seconds
        if self.process and self.process["told"] and self.ready:
            row = f"{self.process['release']} {self.time}"
            self.database["rows"].append(row)
            self.written.append(row)


class Start:
    def problem(self) -> str | None:
        return ""


class FakeHost:
    """``transaction.Host`` on a World. ``fuse`` counts down at every point where it may be killed; at 0 it is."""

    def __init__(self, order: dict[str, Any], world: World, fuse: list[int]) -> None:
        self.order = order
        self.world = world
        self.fuse = fuse

    def point(self) -> None:
        self.fuse[0] -= 1
        if self.fuse[0] == 0:
            raise Killed

    def act(self, name: str, *steps: Callable[[], object]) -> None:
        self.world.acts.append(name)
        for step in steps:
            self.point()
            step()
        self.point()
        if name in self.world.broken_after:
            self.world.broken_after.pop(name)(self.world)

    def now(self) -> float:
        return self.world.time

    def monotonic(self) -> float:
        return self.world.time

    def sleep(self, seconds: float, /) -> None:
        self.world.pass_time(seconds)

    def unit(self) -> UnitState:
        world = self.world
        active = "active" if world.process else "failed" if world.failed else "inactive"
        return UnitState("relay.service", "loaded", active, "running", "success", world.restarts, 1, 0, "relay", "10s")

    def ask(self, request: Any, *, timeout: float = 5) -> Answer:
        world = self.world
        if not world.process:
            return Answer(False, "Connection refused")
        if request == "ready":
            world.process["told"] = world.ready
            return Answer(world.ready, "HTTP 200" if world.ready else "HTTP 503")
        if request == "version":
            said = f'{{"version": "{world.behaviour.says or world.process["release"]}"}}'
            return Answer(True, f"HTTP 200: {said}", said)
        if request == "drain":
            self.act("drain", lambda: world.process and world.process.update(drain=world.time))
            return Answer(True, "HTTP 202")
        if request == "drained":
            drained = world.behaviour.drains and world.process["drain"] is not None and world.time - world.process["drain"] >= 2
            if drained and world.behaviour.ends_when_drained:
                world.process = None
            return Answer(drained, "HTTP 200")
        assert request == "resume"
        self.act("resume", lambda: world.process and world.process.update(drain=None))
        return Answer(True, "HTTP 200")

    def measure(self, analysis: Any) -> Measurement:
        value = self.world.behaviour.error_rate
        return Measurement(value, str(value))

    def back_up(self) -> str:
        if self.world.full:
            raise transaction.BackupError("the pre-upgrade backup failed: the disk is full")
        self.act("back_up", lambda: setattr(self.world, "kept", self.world.process["config"] if self.world.process else self.world.config))
        return "copied"

    def schemas(self) -> list[str]:
        return [f"{self.world.database['schema']}:x"]

    def stop(self) -> float:
        if self.world.cannot_stop:
            raise FleetError("it cannot be stopped")
        at = self.world.time
        self.act(
            "stop",
            lambda: setattr(self.world, "stopped", self.world.needing),
            lambda: setattr(self.world, "process", None),
            lambda: self.world.pass_time(0.5),
        )
        return at

    def copy_databases(self) -> str:
        self.act("copy", lambda: setattr(self.world, "cold", copy.deepcopy(self.world.database)))
        return "copied"

    def switch_forward(self) -> str:
        self.act("switch", lambda: setattr(self.world, "config", "new"), lambda: setattr(self.world, "current", self.order["to"]))
        return "switched"

    def start(self) -> Start:
        self.act("start", lambda: self.world.process or self.world.start())
        return Start()

    def stopped_along(self) -> list[str]:
        return sorted(self.world.needing - self.world.stopped)

    def start_along(self, units: Sequence[str]) -> None:
        world = self.world
        assert world.process, "what needs the service is started after it"
        broken = world.broken_with_new if world.process["release"] == NEW else set()
        self.act("start_along", lambda: setattr(world, "stopped", world.stopped - (set(units) - broken)))

    def not_running(self, units: Sequence[str]) -> list[str]:
        return sorted(set(units) & self.world.stopped)

    def reload(self) -> Start:
        self.act("reload", self.world.reload)
        return Start()

    def running_release(self) -> str:
        return self.world.process["release"] if self.world.process else ""

    def keep_evidence(self, facts: Any) -> str:
        self.world.evidence += 1
        return "evidence"

    def restore_databases(self) -> str:
        world = self.world
        self.act(
            "restore",
            lambda: setattr(world, "aside", world.aside or copy.deepcopy(world.database)),
            lambda: setattr(world, "database", copy.deepcopy(world.cold)),
        )
        return "restored"

    def switch_back(self) -> str:
        self.act("switch_back", lambda: setattr(self.world, "config", self.world.kept), lambda: setattr(self.world, "current", self.order["from"]))
        return "switched back"

    def settle(self, *, waits: bool) -> None:
        self.world.settled.append(waits)


class Book(Journal):
    """A journal that knows what a power cut would leave of it, and where the engine can be killed after every line."""

    def __init__(self, directory: Path, fuse: list[int]) -> None:
        super().__init__(directory, lambda _lines: {})
        self.fuse = fuse
        self.on_disk = (directory / JOURNAL).stat().st_size

    def append(self, line: Any, *, durable: bool) -> None:
        super().append(line, durable=durable)
        if durable:
            self.on_disk = (self.directory / JOURNAL).stat().st_size
        self.fuse[0] -= 1
        if self.fuse[0] == 0:
            raise Killed


def launch(order: dict[str, Any], world: World, directory: Path) -> None:
    with Book(directory, [0]) as book:
        book.append({"at": world.time, "phase": "", "event": "note", "said": "started", "expires": world.time + order["deadline"]}, durable=True)


def run(order: dict[str, Any], world: World, directory: Path, fuse: int = 0, *, until_start: bool = False) -> str | None:
    """Run the engine; return the outcome, or None when it was killed at the ``fuse``-th point (0: never)."""
    count = [fuse]
    with Book(directory, count) as book:
        try:
            outcome = Engine(order, FakeHost(order, world, count), book).run(until_start=until_start)
        except Killed:
            outcome = None
        (directory / "on-disk").write_text(str(book.on_disk))
        (directory / "left").write_text(str(count[0]))
    return outcome


def points(directory: Path) -> int:
    """Return at how many points the last engine could have been killed."""
    return -int((directory / "left").read_text())


def lose_power(world: World, directory: Path) -> None:
    os.truncate(directory / JOURNAL, int((directory / "on-disk").read_text()))
    world.power_cut()


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _file: None)
    monkeypatch.setattr(journal, "write_whole", lambda *_arguments, **_options: None)  # state.json, which the engine never reads


def order_of(**changes: Any) -> dict[str, Any]:
    return complete({**UPGRADE, **changes})


@dataclasses.dataclass
class Case:
    """One way that a transaction can go: what there is, the outcome, and which others are as good if the engine is killed."""

    make: Callable[[], World]
    outcome: str
    killed: set[str]
    order: dict[str, Any] = dataclasses.field(default_factory=dict)


def old_release_breaks(world: World) -> None:
    world.releases[OLD] = Release(ready_after=None)


def fails_both_ways() -> World:
    world = World(new=Release(ready_after=None))
    world.broken_after["stop"] = old_release_breaks
    return world


def breaks_what_needs_it() -> World:
    world = World()
    world.broken_with_new = {"app.service"}
    return world


def full_disk() -> World:
    world = World()
    world.full = True
    return world


UNDONE = {ABORTED, ROLLED_BACK}
CASES = {
    "f31-good": Case(World, COMMITTED, {COMMITTED, *UNDONE}),
    "f31-good-with-migration": Case(lambda: World(new=Release(schema=2)), COMMITTED, {COMMITTED, *UNDONE}),
    "f33-drain-never-done": Case(lambda: World(old=Release(drains=False)), ABORTED, UNDONE),
    "f33-drain-forced": Case(lambda: World(old=Release(drains=False)), COMMITTED, {COMMITTED, *UNDONE}, {"drain": {**DRAIN, "force": True}}),
    "f33-ends-when-drained": Case(lambda: World(old=Release(ends_when_drained=True)), COMMITTED, {COMMITTED, *UNDONE}),
    "drain-grace": Case(World, COMMITTED, {COMMITTED, *UNDONE}, {"drain": {**DRAIN, "grace": 5}}),
    "f34-never-ready": Case(lambda: World(new=Release(ready_after=None)), ROLLED_BACK, UNDONE),
    "f34-flapping": Case(lambda: World(new=Release(flaps=True)), ROLLED_BACK, UNDONE),
    "f34-crash-loop": Case(lambda: World(new=Release(lives=3.0)), ROLLED_BACK, UNDONE),
    "f34-crashes-in-the-soak": Case(lambda: World(new=Release(lives=9.0)), ROLLED_BACK, UNDONE),
    "f35-analysis-fails": Case(lambda: World(new=Release(error_rate=0.3)), ROLLED_BACK, UNDONE, {"analysis": [ERRORS]}),
    "f35-no-data": Case(lambda: World(new=Release(error_rate=None)), INCONCLUSIVE, {INCONCLUSIVE, *UNDONE}, {"analysis": [ERRORS]}),
    "f36-migration-fails": Case(lambda: World(new=Release(schema=2, exits=True)), ROLLED_BACK, UNDONE),
    "f36-migrated-never-ready": Case(lambda: World(new=Release(schema=2, ready_after=None)), ROLLED_BACK, UNDONE),
    "f37-migrated-soak-fails": Case(lambda: World(new=Release(schema=2, lives=9.0)), NEEDS_OPERATOR, {NEEDS_OPERATOR, *UNDONE}),
    "f38-rollback-fails": Case(fails_both_ways, NEEDS_OPERATOR, {NEEDS_OPERATOR, ABORTED}),
    "f44-backup-fails": Case(full_disk, ABORTED, UNDONE),
    "what-needs-it-does-not-run-with-it": Case(breaks_what_needs_it, ROLLED_BACK, UNDONE),
    "wrong-version": Case(lambda: World(new=Release(says="1.0.9")), ROLLED_BACK, UNDONE),
    "not-running": Case(lambda: World(running=False), COMMITTED, {COMMITTED, *UNDONE}),
    "not-running-never-ready": Case(lambda: World(running=False, new=Release(ready_after=None)), ROLLED_BACK, UNDONE),
    "reload": Case(World, COMMITTED, {COMMITTED, *UNDONE}, {"kind": "reload", "to": OLD}),
    "restart": Case(World, COMMITTED, {COMMITTED, *UNDONE}, {"kind": "restart", "to": OLD}),
    "no-drain-no-database": Case(World, COMMITTED, {COMMITTED, *UNDONE}, {"drain": None, "databases": [], "soak": {"duration": 0}}),
}


def check(world: World, outcome: str, lines: list[dict[str, Any]], *, ran_before: bool) -> None:
    """Check what holds after every transaction, whatever happened on the way."""
    told = progress(lines)
    running = world.process
    if outcome in (COMMITTED, INCONCLUSIVE):
        assert running is not None
        assert (running["config"], world.config) == ("new", "new")
    elif outcome in (ROLLED_BACK, ABORTED):
        assert (world.current, world.config) == (OLD, "old")
        assert bool(running) == ran_before
        assert running is None or (running["release"], running["config"]) == (OLD, "old")
    if running and outcome != NEEDS_OPERATOR:
        assert running["drain"] is None
        assert not world.stopped
        assert world.behaviour.flaps or world.ready or world.age < 1
    # Nothing that users wrote is ever lost, and a release never gets a database that is too new for it.
    assert world.database["rows"] == world.written
    if running and outcome != NEEDS_OPERATOR:
        assert world.database["schema"] <= max(world.behaviour.schema, 1)
    if outcome == NEEDS_OPERATOR:
        assert summary(complete(UPGRADE), lines)["next"]
    assert told.outcome == outcome


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_outcome(case: Case, tmp_path: Path) -> None:
    world, order = case.make(), order_of(**case.order)
    ran_before = world.process is not None
    launch(order, world, tmp_path)
    assert run(order, world, tmp_path) == case.outcome
    check(world, case.outcome, read(tmp_path), ran_before=ran_before)
    assert world.settled == [case.outcome in transaction.OPEN_OUTCOMES]
    assert world.time <= 1000 + 60 + order["deadline"]


def deaths(case: Case, tmp_path: Path) -> Iterator[tuple[World, dict[str, Any], Path, int]]:
    """Yield a world for each point at which its engine was just killed."""
    order = order_of(**case.order)
    for number in itertools.count(1):
        directory = tmp_path / str(number)
        directory.mkdir()
        world = case.make()
        launch(order, world, directory)
        if run(order, world, directory, number) is not None:
            assert number > 3  # there were points
            return
        yield world, order, directory, number


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_f31_killed_anywhere_and_adopted(case: Case, tmp_path: Path) -> None:
    for world, order, directory, number in deaths(case, tmp_path):
        world.pass_time(1)
        outcome = run(order, world, directory)
        assert outcome in case.killed, number
        check(world, str(outcome), read(directory), ran_before=case.make().process is not None)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_f31_killed_twice(case: Case, tmp_path: Path) -> None:
    dice = random.Random(7)
    for world, order, directory, number in deaths(case, tmp_path):
        for _death in range(2):
            run(order, world, directory, dice.randint(1, 12))
            world.pass_time(1)
        outcome = run(order, world, directory)
        assert outcome in case.killed, number
        check(world, str(outcome), read(directory), ran_before=case.make().process is not None)


@pytest.mark.parametrize("resumes_first", [pytest.param(True, id="resume-then-services"), pytest.param(False, id="services-then-resume")])
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items() if "not-running" not in name])
def test_f31_power_lost_anywhere(case: Case, resumes_first: bool, tmp_path: Path) -> None:
    for world, order, directory, number in deaths(case, tmp_path):
        lose_power(world, directory)
        if resumes_first:
            run(order, world, directory, until_start=True)
            # What systemd starts then is of one piece.
            assert (world.current, world.config) in {(OLD, "old"), (order["to"], "new")}
        if not world.process:
            world.boot()
        world.pass_time(3)
        outcome = run(order, world, directory)
        assert outcome in case.killed, number
        if resumes_first or not case.make().releases[NEW].schema > 1:
            check(world, str(outcome), read(directory), ran_before=True)


# Taking up a journal


def line(phase: str, event: str, **more: Any) -> dict[str, Any]:
    return {"at": 1000.0, "phase": phase, "event": event, "said": phase, **more}


LAUNCHED = line("", "note", expires=2000.0)
BACKED_UP = [LAUNCHED, line("backup", "begin", was_running=True), line("backup", "end")]
DRAINED = [*BACKED_UP, line("drain", "begin"), line("drain", "end")]
STOPPED = [*DRAINED, line("stop", "begin"), line("stop", "end", stopped_at=1000.0), line("copy", "begin"), line("copy", "end", copied=True)]
SWITCHED = [*STOPPED, line("switch", "begin"), line("switch", "end")]
FAILED = [*SWITCHED, line("start", "begin"), line("start", "end"), line("ready", "begin"), line("ready", "fail", said="no")]


@pytest.mark.parametrize(
    ("lines", "now", "way"),
    [
        pytest.param([LAUNCHED], 1500, ("forward", "backup"), id="nothing-begun"),
        pytest.param([LAUNCHED], 2500, ("abort", ""), id="nothing-begun-and-too-late"),
        pytest.param(BACKED_UP, 1500, ("abort", ""), id="backed-up"),
        pytest.param(DRAINED, 1500, ("abort", ""), id="drained"),
        pytest.param([*DRAINED, line("back_resume", "begin")], 1500, ("abort", ""), id="f33-aborting"),
        pytest.param([*DRAINED, line("back_start", "begin")], 1500, ("back", "back_start"), id="f33-ended-when-drained"),
        pytest.param([*DRAINED, line("stop", "begin")], 1500, ("back", "evidence"), id="stopping"),
        pytest.param(STOPPED, 1500, ("back", "evidence"), id="stopped"),
        pytest.param([*STOPPED, line("switch", "begin")], 1500, ("back", "evidence"), id="switching"),
        pytest.param(SWITCHED, 1500, ("forward", "start"), id="switched"),
        pytest.param(SWITCHED, 2000, ("back", "evidence"), id="switched-and-too-late"),
        pytest.param(FAILED, 1500, ("back", "evidence"), id="failed"),
        pytest.param([*FAILED, line("evidence", "begin")], 1500, ("back", "evidence"), id="evidence"),
        pytest.param([*FAILED, line("evidence", "begin"), line("back_stop", "begin")], 9999, ("back", "back_stop"), id="going-back"),
        pytest.param(
            [*FAILED, line("back_stop", "begin"), line("back_switch", "begin")], 1500, ("back", "back_stop"), id="a-boot-may-have-started-it"
        ),
        pytest.param([*FAILED, line("back_stop", "begin"), line("back_start", "begin")], 1500, ("back", "back_start"), id="started-again"),
        pytest.param([*FAILED, line("back_start", "note", outcome=NEEDS_OPERATOR)], 1500, ("settled", ""), id="f38-settled"),
        pytest.param(
            [*FAILED, line("back_start", "begin"), line("back_start", "note", outcome=NEEDS_OPERATOR), line("", "note", asked="back")],
            9999,
            ("back", "evidence"),
            id="f38-a-person-asks-again",
        ),
    ],
)
def test_whence(lines: list[dict[str, Any]], now: float, way: tuple[str, str]) -> None:
    assert whence(order_of(), progress(lines), now) == way


@pytest.mark.parametrize(
    "case", [pytest.param(CASES[name], id=name) for name in ("f31-good", "f34-never-ready", "f38-rollback-fails", "f35-no-data")]
)
def test_f38_after_an_outcome_nothing_is_touched(case: Case, tmp_path: Path) -> None:
    world, order = case.make(), order_of(**case.order)
    launch(order, world, tmp_path)
    run(order, world, tmp_path)
    world.acts.clear()
    before = read(tmp_path)
    assert run(order, world, tmp_path) == case.outcome
    assert (world.acts, read(tmp_path)) == ([], before)


def test_f37_the_service_goes_on_until_a_person_decides(tmp_path: Path) -> None:
    world, order = World(new=Release(schema=2, error_rate=0.3)), order_of(analysis=[ERRORS])
    launch(order, world, tmp_path)
    assert run(order, world, tmp_path) == NEEDS_OPERATOR
    assert world.process
    assert world.process["release"] == NEW
    assert world.acts[-1] == "resume"
    state = summary(order, read(tmp_path))
    assert state["undecided"]
    assert "from 1 to 2" in state["said"]
    assert state["next"] == (
        "hearthctl promote relay (keep 1.1.0), or hearthctl rollback relay --restore-database (loses what was written since the switch)"
    )


@pytest.mark.parametrize(
    ("restore", "outcome", "database"),
    [pytest.param(True, ROLLED_BACK, "restored", id="accepts-the-loss"), pytest.param(False, NEEDS_OPERATOR, None, id="says-nothing-about-it")],
)
def test_f37_a_person_wants_the_old_release_back(restore: bool, outcome: str, database: str | None, tmp_path: Path) -> None:
    world, order = World(new=Release(schema=2, error_rate=0.3)), order_of(analysis=[ERRORS])
    launch(order, world, tmp_path)
    run(order, world, tmp_path)
    with Book(tmp_path, [0]) as book:
        book.append(line("soak", "note", asked="back", **({"restore_database": True} if restore else {})), durable=True)
    assert run(order, world, tmp_path) == outcome
    assert progress(read(tmp_path)).facts.get("database") == database
    if restore:
        assert (world.current, world.config, world.database["schema"]) == (OLD, "old", 1)
        assert world.aside
        assert set(world.aside["rows"]) >= {row for row in world.written if row.startswith(NEW)}
    else:
        assert world.database["rows"] == world.written


def test_f37_served_is_on_the_disk_before_users_come_back(tmp_path: Path) -> None:
    world, order = World(), order_of()
    launch(order, world, tmp_path)
    run(order, world, tmp_path)
    lines = [(one["phase"], one["event"], one.get("served")) for one in read(tmp_path)]
    assert lines.index(("ready", "note", True)) < lines.index(("resume", "begin", None))


def test_f44_a_backup_that_is_not_required(tmp_path: Path) -> None:
    world, order = full_disk(), order_of(backup={"required": False})
    launch(order, world, tmp_path)
    assert run(order, world, tmp_path) == COMMITTED
    assert "without a backup" in read(tmp_path)[2]["said"]


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [pytest.param("pass", COMMITTED, id="pass"), pytest.param("fail", ROLLED_BACK, id="fail"), pytest.param("pause", INCONCLUSIVE, id="pause")],
)
def test_f35_inconclusive(policy: str, outcome: str, tmp_path: Path) -> None:
    world, order = World(new=Release(error_rate=None)), order_of(analysis=[ERRORS], on_inconclusive=policy)
    launch(order, world, tmp_path)
    assert run(order, world, tmp_path) == outcome


def test_a_failed_rollback_restores_what_it_had_put_back(tmp_path: Path) -> None:
    """A rollback that put an older database in place, and then fails, leaves the database that was there before."""
    world, order = World(new=Release(ready_after=None)), order_of(kind="rollback", restore_from="20261120T000000Z-000000")
    launch(order, world, tmp_path)
    world.broken_after["switch"] = lambda world: world.database.update(rows=["older"])
    assert run(order, world, tmp_path) == ROLLED_BACK
    assert world.database["rows"] == world.written


def test_what_needs_the_service_is_started_when_it_answers(tmp_path: Path) -> None:
    world, order = World(), order_of()
    launch(order, world, tmp_path)
    assert run(order, world, tmp_path) == COMMITTED
    said = {line["phase"]: line["said"] for line in read(tmp_path) if line["event"] == "end"}
    assert said["stop"] == "stopped, and with it app.service"
    assert said["ready"].endswith("; app.service started again")


def test_what_needs_the_service_and_does_not_run_again_fails_the_release(tmp_path: Path) -> None:
    world, order = breaks_what_needs_it(), order_of()
    launch(order, world, tmp_path)
    assert run(order, world, tmp_path) == ROLLED_BACK
    assert "1.1.0 failed: app.service, which stopped with it, does not run again" in summary(order, read(tmp_path))["said"]


def test_downtime_is_from_stop_to_the_first_good_probe(tmp_path: Path) -> None:
    world, order = World(new=Release(ready_after=4.0)), order_of()
    launch(order, world, tmp_path)
    run(order, world, tmp_path)
    downtime = summary(order, read(tmp_path))["downtime"]
    assert 4.5 <= downtime < 6


@pytest.mark.parametrize(
    ("order", "found", "said"),
    [
        pytest.param(
            {},
            Progress(ended={"stop", "switch"}, failed="not ready: it exited with 1"),
            "1.1.0 failed: not ready: it exited with 1; relay serves 1.0.0 again",
            id="f34-not-ready",
        ),
        pytest.param(
            {},
            Progress(ended={"switch"}, failed="not ready", facts={"was_running": False}),
            "1.1.0 failed: not ready; relay is on 1.0.0 again, stopped as it was before",
            id="was-stopped",
        ),
        pytest.param(
            {"kind": "restart", "to": OLD},
            Progress(ended={"switch"}, failed="not ready"),
            "the restart failed: not ready; relay serves 1.0.0 again",
            id="restart",
        ),
        pytest.param(
            {},
            Progress(begun={"stop"}, failed="it cannot be stopped"),
            "it cannot be stopped; relay serves 1.0.0 again",
            id="new-release-never-tried",
        ),
        pytest.param({}, Progress(begun={"stop"}), "it was interrupted on its way; relay serves 1.0.0 again", id="f31-interrupted"),
        pytest.param({}, Progress(ended={"switch"}, asked_back=True), "a person wanted it back; relay serves 1.0.0 again", id="f35-asked-for"),
    ],
)
def test_a_rolled_back_transaction_says_why(order: dict[str, Any], found: Progress, said: str) -> None:
    assert transaction.rolled_back_text(order_of(**order), found) == said


def test_f34_what_failed_is_the_last_word_of_the_state(tmp_path: Path) -> None:
    world, order = World(new=Release(ready_after=None)), order_of()
    launch(order, world, tmp_path)
    run(order, world, tmp_path)
    state = summary(order, read(tmp_path))
    assert state["said"] == f"{NEW} failed: {state['failed']}; relay serves {OLD} again"
    assert state["failed"].startswith("not ready: ")


@pytest.mark.parametrize(
    ("lines", "restarting"),
    [
        pytest.param([], False, id="not-begun"),
        pytest.param(DRAINED, False, id="drained"),
        pytest.param([*DRAINED, line("stop", "begin")], True, id="stops"),
        pytest.param([*DRAINED, line("switch", "end")], True, id="switched"),
        pytest.param([*DRAINED, line("ready", "begin")], True, id="starts"),
        pytest.param([*DRAINED, line("ready", "begin"), line("ready", "note", served=True)], False, id="answers"),
        pytest.param([*DRAINED, line("back_ready", "begin")], True, id="starts-again"),
        pytest.param([*DRAINED, line("back_ready", "end")], False, id="back"),
        pytest.param([*DRAINED, line("evidence", "begin")], False, id="evidence"),
    ],
)
def test_while_a_service_restarts_nobody_takes_the_hosts_time(lines: list[dict[str, Any]], restarting: bool) -> None:
    assert transaction.restarting(lines) == restarting


@pytest.mark.parametrize(
    ("grace", "old", "drained_for"),
    [
        pytest.param(0, Release(), 2, id="none"),
        pytest.param(1, Release(), 2, id="over-before-it-is-drained"),
        pytest.param(7, Release(), 7, id="longer-than-the-drain"),
        pytest.param(15, Release(drains=False), 15, id="f33-forced-and-longer-than-the-deadline"),
        pytest.param(7, Release(ends_when_drained=True), 2, id="f33-ended-by-itself"),
    ],
)
def test_load_balancers_have_the_grace_to_notice_a_drain(grace: int, old: Release, drained_for: int, tmp_path: Path) -> None:
    world, order = World(old=old), order_of(drain={**DRAIN, "grace": grace, "force": True})
    launch(order, world, tmp_path)
    assert run(order, world, tmp_path) == COMMITTED
    begins = {entry["phase"]: entry["at"] for entry in read(tmp_path) if entry["event"] == "begin"}
    assert drained_for <= begins["stop"] - begins["drain"] < drained_for + 1


def absent(requests: Mapping[str, Sequence[str]], ask: Callable[..., Answer]) -> Callable[..., Answer]:
    """Return how a host answers on which the programs for some requests are not there while one of the releases of each is current."""

    def answer(self: FakeHost, request: Any, *, timeout: float = 5) -> Answer:
        if self.world.current in requests.get(str(request), ()):
            return Answer(False, f"{request}ctl cannot be run: No such file or directory (fleet_services.relay.{request})", pointless_after=0.0)
        return ask(self, request, timeout=timeout)

    return answer


@pytest.mark.parametrize(
    ("requests", "behaviour", "outcome", "at_most", "said"),
    [
        pytest.param(
            {"drain": [OLD]},
            Release(),
            ABORTED,
            5,
            f"the drain request failed: drain: drainctl cannot be run: No such file or directory (fleet_services.relay.drain); until the switch, "
            f"the programs of {OLD} are there, and none that {NEW} brings",
            id="drain",
        ),
        pytest.param({"drained": [OLD]}, Release(), ABORTED, 5, "nobody can see whether it is drained: drained: drainedctl cannot", id="drained"),
        pytest.param({"ready": [OLD]}, Release(), COMMITTED, 60, "kept", id="ready-comes-with-the-new-release"),
        pytest.param({"ready": [NEW]}, Release(), ROLLED_BACK, 10, "not ready: it cannot be asked; ready: readyctl cannot be run", id="ready"),
        pytest.param(
            {"ready": [OLD]},
            Release(ready_after=None),
            NEEDS_OPERATOR,
            35,
            f"the way back failed (back_ready): not ready: it cannot be asked; ready: readyctl cannot be run: No such file or directory "
            f"(fleet_services.relay.ready); until the switch, the programs of {OLD} are there",
            id="ready-went-with-the-new-release",
        ),
        pytest.param({"resume": [NEW]}, Release(), ROLLED_BACK, 15, "it cannot be put back to use: resume: resumectl cannot be run", id="resume"),
    ],
)
def test_a_program_that_is_not_there_ends_a_phase_at_once_and_may_come_with_the_new_release(
    requests: dict[str, list[str]], behaviour: Release, outcome: str, at_most: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHost, "ask", absent(requests, FakeHost.ask))
    world, order = World(new=behaviour), order_of()
    began = world.time
    launch(order, world, tmp_path)
    assert run(order, world, tmp_path) == outcome
    assert world.time - began <= at_most
    assert said in "\n".join(str(entry.get("said")) for entry in read(tmp_path))


def test_the_deadline_covers_the_grace() -> None:
    assert order_of(drain={**DRAIN, "grace": 25})["deadline"] == order_of()["deadline"] + 2 * 15


def test_an_engine_that_dies_again_and_again_gives_up(tmp_path: Path) -> None:
    world, order = World(), order_of()
    launch(order, world, tmp_path)
    for _death in range(transaction.ADOPTIONS + 40):
        outcome = run(order, world, tmp_path, 2)
        if outcome:
            break
    assert outcome in transaction.OUTCOMES


def test_a_mistake_of_the_engine_does_not_keep_the_service_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_host: FakeHost) -> str:
        raise KeyError("a mistake")

    monkeypatch.setattr(FakeHost, "switch_forward", broken)
    world, order = World(), order_of()
    launch(order, world, tmp_path)
    assert run(order, world, tmp_path) == ROLLED_BACK
    assert world.ready


@pytest.mark.parametrize(
    ("order", "said"),
    [
        pytest.param({"service": "relay"}, "no id, no unit", id="missing"),
        pytest.param({**UPGRADE, "form": 1}, "unknown form", id="unknown"),
        pytest.param({**UPGRADE, "kind": "downgrade"}, "'downgrade'; it is one of upgrade, restart, reload, rollback", id="kind"),
    ],
)
def test_complete_refuses(order: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetError, match=re.escape(said)):
        complete(order)


def test_the_deadline_covers_the_way_there_and_back() -> None:
    order = complete({**UPGRADE, "analysis": [{**ERRORS, "interval": 60}]})
    assert order["deadline"] == 2 * (10 + 10 + 20) + transaction.COPY_SECONDS + 180 + 60
    assert complete(order) == order
