# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hearthctl and what is behind it: orders prepared and launched, journals followed, decisions of people; and the real host's files."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import (
    hearthctl,
    host_tools,
    journal,
    live_host,
    releases,
    restore_swap,
    transaction,
    transaction_host,
    unit_control,
    unit_marks,
    units,
)
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.journal import Journal
from ansible_collections.hearth.fleet.plugins.module_utils.live_host import LiveHost
from ansible_collections.hearth.fleet.plugins.module_utils.probe import Answer, UnitState

MODULE_UTILS = Path(hearthctl.__file__).parent
PREFIX = "ansible_collections.hearth.fleet.plugins.module_utils"
OLD_CONFIG, NEW_CONFIG = b"a = 1\n", b"a = 2\n"
IDENTIFIER = "20261121T120000Z-ab12cd"
RESTORE_ID = "20261121T115900Z-beef01"


class Box:
    """A host below a directory: releases, config, a unit, a database; and a systemd that starts whatever it is told to."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.started: list[list[str]] = []
        self.systemctl: list[str] = []
        self.config = root / "etc/relay/relay.toml"
        self.unit = root / "etc/systemd/system/relay.service"
        self.database = root / "relay.db"
        for path, content in ((self.config, OLD_CONFIG), (self.unit, b"# Managed by hearth.fleet: service relay\n")):
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        for version in ("1.0.0", "1.0.1"):
            self.install(version)
        (root / "opt/relay/current").symlink_to("releases/1.0.0")
        (root / "run").mkdir()
        self.stamp({str(self.config): OLD_CONFIG, str(self.unit): self.unit.read_bytes()})
        with closing(sqlite3.connect(self.database)) as database:
            database.execute("CREATE TABLE kv (key TEXT)")
        monkeypatch.setattr(transaction_host, "ROLLOUT", root / "var/lib/hearth/rollout")
        monkeypatch.setattr(restore_swap, "RESTORE", root / "var/lib/hearth/restore")
        (root / "var/lib").mkdir(parents=True)
        monkeypatch.setattr(units, "STAMPS", str(root / "run"))
        monkeypatch.setattr(unit_marks, "UNITS", str(self.unit.parent))
        monkeypatch.setattr(hearthctl, "OPT", root / "opt")
        monkeypatch.setattr(units, "look", lambda _wanted: {"ours": {"relay.service": "relay"}})
        monkeypatch.setattr(transaction_host, "_start", lambda command, _service: self.started.append(command) or True)
        monkeypatch.setattr(unit_control, "act", lambda verb, *_units, **_: self.systemctl.append(verb) or "")
        state = UnitState("relay.service", "loaded", "active", "running", "success", 0, 0, 0, "relay", "10s")
        monkeypatch.setattr("ansible_collections.hearth.fleet.plugins.module_utils.probe.unit_state", lambda _unit: state)
        monkeypatch.setattr("ansible_collections.hearth.fleet.plugins.module_utils.probe.ask_ready", lambda _unit, _ready: Answer(True, "HTTP 200"))
        monkeypatch.setattr(os, "geteuid", lambda: 0)

    def install(self, version: str) -> None:
        directory = self.root / "opt/relay/releases" / version
        directory.mkdir(parents=True)
        manifest = {"service": "relay", "version": version, "arch": "amd64", "sha256": "0" * 64, "installed": 1790000000, "entries": {}}
        (directory / releases.MANIFEST).write_text(json.dumps(manifest))

    def stamp(self, files: dict[str, bytes]) -> None:
        lines = [f"release {self.root}/opt/relay/releases/1.0.0", *(f"{sha256(content)}  {path}" for path, content in files.items())]
        (self.root / "run/relay.started").write_text("\n".join(lines) + "\n")
        copies = self.root / "run/relay.files"
        copies.mkdir(exist_ok=True)
        for content in files.values():
            (copies / sha256(content)).write_bytes(content)

    def order(self, **changes: Any) -> dict[str, Any]:
        owner, group = str(os.getuid()), str(os.getgid())
        file = {"path": str(self.config), "owner": owner, "group": group, "mode": "0640", "sha256": sha256(NEW_CONFIG), "new": "0"}
        return {
            "id": IDENTIFIER,
            "service": "relay",
            "unit": "relay.service",
            "kind": "upgrade",
            "from": "1.0.0",
            "to": "1.0.1",
            "home": str(self.root / "opt/relay"),
            "files": [file],
            "running": [str(self.config), str(self.unit)],
            "databases": [{"path": str(self.database)}],
            "health": {"ready": "http://127.0.0.1:1/"},
            "rollout": {"owner": "ops@laptop"},
            **changes,
        }

    def prepare(self, **changes: Any) -> Path:
        return transaction_host.prepare(self.order(**changes), {"0": NEW_CONFIG})

    def host(self, **changes: Any) -> tuple[LiveHost, Path]:
        directory = self.prepare(**changes)
        return LiveHost(transaction_host.order_of("relay", directory.name), directory), directory

    def restore(self, *events: str, service: str = "relay") -> Path:
        """Leave a restore as it is after these events."""
        directory = restore_swap.directory_of(service, RESTORE_ID)
        directory.mkdir(parents=True)
        (directory / restore_swap.ORDER).write_text("{}")
        with restore_swap.open_journal(directory) as book:
            for event in events:
                restore_swap.note(book, event, f"it is {event}", **({"moves": []} if event == "moving" else {}))
        return directory

    def end(self, outcome: str, **facts: Any) -> None:
        """Write the outcome that an engine would have reached."""
        directory = transaction_host.directory_of("relay", IDENTIFIER)
        order = transaction_host.order_of("relay", IDENTIFIER)
        with Journal(directory, lambda lines: transaction.summary(order, lines)) as book:
            for one in (
                {"phase": "soak", "event": "begin", "said": "watch"},
                {"phase": "soak", "event": "note", "said": "so it is", "outcome": outcome, **facts},
            ):
                book.append({"at": time.time(), **one}, durable=False)
        LiveHost(order, directory).settle(waits=outcome in transaction.OPEN_OUTCOMES)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(tmp_path, monkeypatch)


def imports_of(name: str) -> set[str]:
    """Return the files of this directory that one of them imports."""
    found = set()
    for node in ast.walk(ast.parse((MODULE_UTILS / name).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == PREFIX:
            found |= {f"{alias.name}.py" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PREFIX}."):
            found.add(f"{(node.module or '').rpartition('.')[2]}.py")
    return found


def test_sources_are_all_that_the_host_needs() -> None:
    needed, todo = set(), {"hearthctl.py"}
    while todo:
        needed |= todo
        todo = {name for one in todo for name in imports_of(one)} - needed
    assert sorted(needed) == list(host_tools.SOURCES)


@pytest.mark.parametrize("name", host_tools.SOURCES)
def test_sources_need_nothing_of_ansible(name: str) -> None:
    modules = {node.module or "" for node in ast.walk(ast.parse((MODULE_UTILS / name).read_text())) if isinstance(node, ast.ImportFrom)}
    assert not {one for one in modules if one == "ansible" or one.startswith("ansible.")}


def test_the_launcher_runs_from_the_sources_alone(tmp_path: Path) -> None:
    home = tmp_path.joinpath(*host_tools.PACKAGES)
    home.mkdir(parents=True)
    for name in host_tools.SOURCES:
        (home / name).write_bytes((MODULE_UTILS / name).read_bytes())
    launcher = tmp_path / "hearthctl"
    launcher.write_text(host_tools.LAUNCHER.replace(host_tools.LIBRARY, str(tmp_path)))
    done = subprocess.run([sys.executable, "-IS", str(launcher), "--help"], capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert "rollback" in done.stdout


def test_the_boot_unit_comes_before_the_services() -> None:
    text = host_tools.resume_unit(["b.service", "a.service"])
    assert "\nBefore=a.service b.service\n" in text
    assert f"\nExecStart={host_tools.HEARTHCTL} resume\n" in text


# Preparing and launching


def test_prepare_writes_all_or_nothing(box: Box) -> None:
    directory = box.prepare()
    assert json.loads((directory / "order.json").read_text()) == box.order()
    assert (directory / "new/0").read_bytes() == NEW_CONFIG
    assert {path.stat().st_mode & 0o777 for path in (directory, directory.parent, directory / "new")} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in directory.rglob("*") if path.is_file()} == {0o600}
    assert box.prepare() == directory
    with pytest.raises(FleetError, match="new files that are not there: 0"):
        transaction_host.prepare(box.order(id="other"), {})


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b"])
def test_names_cannot_lead_elsewhere(name: str) -> None:
    with pytest.raises(FleetError, match="names no service"):
        transaction_host.directory_of(name, "x")


def test_launch_starts_a_transient_unit_that_survives_its_engine(box: Box) -> None:
    box.prepare()
    state = transaction_host.launch("relay", IDENTIFIER)
    assert transaction_host.active("relay") == IDENTIFIER
    command = box.started[0]
    assert {"--unit=hearth-rollout-relay.service", "--property=Restart=on-failure", "--property=KillMode=mixed", "--collect"} <= set(command)
    assert command[-4:] == ["transaction", "run", "relay", IDENTIFIER]
    deadline = transaction_host.order_of("relay", IDENTIFIER)["deadline"]
    assert deadline - 5 < state["expires"] - time.time() <= deadline
    transaction_host.launch("relay", IDENTIFIER)
    assert len(journal.read(transaction_host.directory_of("relay", IDENTIFIER))) == 1


def test_f40_another_transaction_has_the_service(box: Box) -> None:
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    with pytest.raises(FleetError, match=rf"transaction {IDENTIFIER} of ops@laptop has the service since 20"):
        transaction_host.prepare(box.order(id="other"), {"0": NEW_CONFIG})


RESTORES = [
    pytest.param([], id="taken"),
    pytest.param(["receiving"], id="receiving"),
    pytest.param(["receiving", "staging"], id="staging"),
    pytest.param(["receiving", "staging", "stopping"], id="stopping"),
    pytest.param(["receiving", "staging", "stopping", "moving"], id="moving"),
    pytest.param(["receiving", "staging", "stopping", "moving", "swapped"], id="swapped"),
    pytest.param(["receiving", "staging", "stopping", "moving", "swapped", "reverting"], id="reverting"),
]
REFUSED = rf"relay: restore {RESTORE_ID} has the service since 20.*\n  → wait until it has ended: hearthctl status relay"


@pytest.mark.parametrize("events", RESTORES)
def test_f40_a_restore_keeps_rollouts_of_its_service_out(events: list[str], box: Box) -> None:
    box.prepare()
    directory = box.restore(*events)
    with pytest.raises(FleetError, match=REFUSED):
        box.prepare(id="other")
    with pytest.raises(FleetError, match=REFUSED):
        transaction_host.launch("relay", IDENTIFIER)  # it was prepared before the restore began
    assert (transaction_host.active("relay"), box.started) == ("", [])
    assert not transaction_host.has_begun("relay", IDENTIFIER)
    with restore_swap.open_journal(directory) as book:
        restore_swap.close(book, restore_swap.RESTORED, "restored")
    transaction_host.launch("relay", IDENTIFIER)
    assert transaction_host.active("relay") == IDENTIFIER


def test_f40_a_restore_of_another_service_keeps_nobody_out(box: Box) -> None:
    box.restore("receiving", service="other")
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    assert transaction_host.active("relay") == IDENTIFIER


@pytest.mark.parametrize("events", RESTORES)
def test_f40_hearthctl_rolls_nothing_back_during_a_restore(events: list[str], upgraded: Box, capsys: pytest.CaptureFixture[str]) -> None:
    upgraded.restore(*events)
    before = len(upgraded.started)
    assert hearthctl.main(["rollback", "relay"]) == 2
    assert re.search(f"^hearthctl: {REFUSED}", capsys.readouterr().err)
    assert (transaction_host.active("relay"), len(upgraded.started)) == ("", before)


def test_f40_a_restore_that_does_not_go_on_can_be_given_up(upgraded: Box, capsys: pytest.CaptureFixture[str]) -> None:
    upgraded.restore("receiving")
    assert hearthctl.main(["status", "relay"]) == 1
    assert f"relay: restore {RESTORE_ID} has the service since 20" in capsys.readouterr().out
    assert hearthctl.main(["resume"]) == 0
    assert capsys.readouterr().out == "relay: interrupted before anything was exchanged; the data are the old ones\n"
    assert hearthctl.main(["status", "relay"]) == 0
    upgraded.prepare(id="other")
    transaction_host.launch("relay", "other")
    assert transaction_host.active("relay") == "other"


def test_launch_after_an_outcome_starts_nothing(box: Box) -> None:
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    box.end(transaction.COMMITTED)
    assert transaction_host.launch("relay", IDENTIFIER)["outcome"] == transaction.COMMITTED
    assert len(box.started) == 1


def test_follow_returns_as_soon_as_there_is_something(box: Box) -> None:
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    first = transaction_host.follow("relay", IDENTIFIER)
    assert (first["next"], first["alive"], first["state"]["outcome"]) == (1, False, None)
    threading.Timer(0.3, box.end, [transaction.COMMITTED]).start()
    began = time.monotonic()
    news = transaction_host.follow("relay", IDENTIFIER, first["next"], 20)
    assert time.monotonic() - began < 10
    assert news["lines"][0]["phase"] == "soak"


def test_old_transactions_go_but_not_those_that_a_person_decided_about(box: Box) -> None:
    for number in range(6):
        identifier = f"20261121T12000{number}Z-000000"
        directory = box.prepare(id=identifier)
        os.utime(directory / "order.json", (number, number))
        order = transaction_host.order_of("relay", identifier)
        outcome = transaction.NEEDS_OPERATOR if number == 0 else transaction.COMMITTED
        with Journal(directory, lambda lines, order=order: transaction.summary(order, lines)) as book:
            book.append({"at": 1.0, "phase": "", "event": "note", "said": "x", "outcome": outcome}, durable=False)
    transaction_host.prune("relay")
    assert [one[14] for one in transaction_host.identifiers("relay")] == ["5", "4", "3", "0"]


def test_what_was_prepared_and_never_begun_goes_when_a_later_one_has_ended(box: Box) -> None:
    for number in (1, 2, 3):
        directory = box.prepare(id=f"20261121T12000{number}Z-000000")
        os.utime(directory / "order.json", (number, number))
        if number == 2:
            with Journal(directory, lambda lines: transaction.summary(transaction.complete(box.order()), lines)) as book:
                book.append({"at": 1.0, "phase": "", "event": "note", "said": "x", "outcome": transaction.COMMITTED}, durable=False)
    transaction_host.prune("relay")
    assert [one[14] for one in transaction_host.identifiers("relay")] == ["3", "2"]


# The real host's files


def test_back_up_keeps_what_runs_even_if_the_disk_has_changed(box: Box) -> None:
    box.config.write_bytes(b"a = 1.5\n")
    host, directory = box.host()
    host.back_up()
    kept = {one["path"]: one["name"] for one in live_host.old_files(directory)}
    assert (directory / "old" / kept[str(box.config)]).read_bytes() == OLD_CONFIG
    assert (directory / "before/0").is_file()
    assert (directory / journal.BALLAST).stat().st_size == journal.BALLAST_BYTES


def test_switch_there_and_back(box: Box) -> None:
    box.config.chmod(0o600)
    host, _directory = box.host()
    host.back_up()
    assert host.switch_forward() == f"current is 1.0.1, {box.config}"
    assert (box.config.read_bytes(), box.config.stat().st_mode & 0o777) == (NEW_CONFIG, 0o640)
    assert host.switch_forward() == "current is 1.0.1"  # nothing more to change
    host.switch_back()
    assert box.config.read_bytes() == OLD_CONFIG
    assert releases.read_version(box.root / "opt/relay/current") == "1.0.0"
    assert not (box.root / "opt/relay/previous").is_symlink()
    assert box.systemctl == []
    assert sorted(path.name for path in box.config.parent.iterdir()) == ["relay.toml"]


def test_after_the_way_back_the_release_before_is_not_the_one_that_failed(box: Box) -> None:
    box.install("0.9.0")
    (box.root / "opt/relay/previous").symlink_to("releases/0.9.0")
    host, _directory = box.host()
    host.back_up()
    host.switch_forward()
    assert releases.read_version(box.root / "opt/relay/previous") == "1.0.0"
    host.switch_back()
    assert releases.read_version(box.root / "opt/relay/previous") == "0.9.0"


def test_a_file_that_was_not_there_goes_away_again(box: Box) -> None:
    extra = box.config.with_name("extra.toml")
    order = box.order()
    order["files"] = [
        {**order["files"][0], "path": str(extra)},
        {"path": str(box.unit), "owner": "0", "group": "0", "mode": "0644", "sha256": "", "new": None},
    ]
    host, _directory = box.host(files=order["files"])
    host.back_up()
    host.switch_forward()
    assert (extra.exists(), box.unit.exists()) == (True, False)
    host.switch_back()
    assert (extra.exists(), box.unit.exists()) == (False, True)
    assert box.systemctl == ["daemon-reload", "daemon-reload"]


def test_a_candidate_that_is_not_whole_changes_nothing(box: Box) -> None:
    host, directory = box.host()
    (directory / "new/0").write_bytes(b"a =")
    with pytest.raises(FleetError, match="did not arrive whole"):
        host.back_up()


def test_a_release_that_is_not_installed_is_found_before_the_drain(box: Box) -> None:
    host, _directory = box.host(to="9.9.9")
    with pytest.raises(FleetError, match=r"release 9\.9\.9 is not installed"):
        host.back_up()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param(["/bin/false"], "exit status 1", id="fails"),
        pytest.param(["/bin/true", "{output}"], "wrote no {output}", id="writes-nothing"),
    ],
)
def test_f44_the_services_own_backup_fails(box: Box, command: list[str], said: str) -> None:
    host, _directory = box.host(backup={"command": command})
    with pytest.raises(transaction.BackupError, match=said):
        host.back_up()


def test_the_services_own_backup_is_kept(box: Box) -> None:
    host, directory = box.host(backup={"command": ["/bin/cp", str(box.config), "{output}"]})
    host.back_up()
    assert (directory / "before/command").read_bytes() == OLD_CONFIG


def test_f60_a_drain_has_the_secrets_that_the_daemon_was_started_with_and_tells_none(box: Box) -> None:
    secrets = box.root / "relay.env"
    secrets.write_text('PASSWORD="hunter2 hunter3"\n')
    box.unit.write_text(f"[Service]\nEnvironment=LEVEL=info\nEnvironmentFile={secrets}\n")
    box.stamp({str(path): path.read_bytes() for path in (box.config, box.unit, secrets)})
    secrets.write_text("PASSWORD=of-the-next-start\n")
    host, _directory = box.host()
    answer = host.ask({"command": ["/bin/sh", "-c", 'test "$PASSWORD" = "hunter2 hunter3" && echo "$LEVEL $PASSWORD"']})
    assert answer == Answer(True, "exit status 0: info ********")


@pytest.mark.parametrize(
    ("code", "said", "answer"),
    [
        pytest.param(0, "", Answer(True, "sent"), id="sent"),
        pytest.param(1, "Failed to kill it: no main process\n", Answer(False, "Failed to kill it: no main process"), id="nobody-there"),
    ],
)
def test_a_signal_can_drain_a_service(box: Box, monkeypatch: pytest.MonkeyPatch, code: int, said: str, answer: Answer) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(live_host, "_run", lambda command, _seconds: commands.append(list(command)) or (code, said))
    host, _directory = box.host(drain={"request": {"signal": "SIGUSR2"}})
    assert host.ask({"signal": "SIGUSR2"}) == answer
    assert commands == [["systemctl", "kill", "--kill-who=main", "--signal=SIGUSR2", "--", "relay.service"]]


def test_f36_databases_go_back(box: Box) -> None:
    host, directory = box.host()
    host.back_up()
    before = host.schemas()
    host.copy_databases()
    with closing(sqlite3.connect(box.database)) as database:
        database.execute("ALTER TABLE kv ADD COLUMN more")
    assert host.schemas() != before
    host.restore_databases()
    assert host.schemas() == before
    assert (directory / "aside/0").is_file()


# Deciding


def test_promote_keeps_the_new_release(box: Box) -> None:
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    box.end(transaction.INCONCLUSIVE)
    assert hearthctl.main(["promote", "relay"]) == 0
    assert transaction_host.state_of("relay", IDENTIFIER)["outcome"] == transaction.COMMITTED
    assert transaction_host.active("relay") == ""


def test_f38_resolve_frees_the_service_and_keeps_the_outcome(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    box.end(transaction.NEEDS_OPERATOR, undecided=False)
    assert hearthctl.main(["promote", "relay"]) == 2
    assert "nothing to promote" in capsys.readouterr().err
    assert hearthctl.main(["resolve", "relay"]) == 0
    state = transaction_host.state_of("relay", IDENTIFIER)
    assert (state["outcome"], state["resolved"], state["next"]) == (transaction.NEEDS_OPERATOR, True, "")
    assert transaction_host.active("relay") == ""


def test_f37_a_rollback_must_say_what_becomes_of_the_database(box: Box) -> None:
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    box.end(transaction.NEEDS_OPERATOR, undecided=True)
    with pytest.raises(FleetError, match="--restore-database"):
        transaction_host.ask_back("relay", "me", restore_database=False)
    transaction_host.ask_back("relay", "me", restore_database=True)
    found = transaction.progress(journal.read(transaction_host.directory_of("relay", IDENTIFIER)))
    assert (found.asked_back, found.outcome, found.facts["restore_database"]) == (True, "", True)
    assert len(box.started) == 2


def test_nothing_to_decide_while_it_runs(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearthctl.main(["promote", "relay"]) == 2
    assert "no transaction waits for a decision" in capsys.readouterr().err
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    assert hearthctl.main(["rollback", "relay"]) == 2
    assert "is under way" in capsys.readouterr().err


@pytest.fixture
def upgraded(box: Box) -> Box:
    """Return a host whose last transaction upgraded it."""
    host, _directory = box.host()
    host.back_up()
    host.switch_forward()
    transaction_host.launch("relay", IDENTIFIER)
    box.end(transaction.COMMITTED, schema_before=host.schemas())
    return box


def rollback(**changes: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    given = {"version": None, "restore": False, "keep": False, "identifier": "next", **changes}
    return hearthctl.rollback_order("relay", **given)


def test_a_rollback_brings_the_config_that_belongs_to_the_release(upgraded: Box) -> None:
    order, files = rollback()
    assert (order["from"], order["to"], order["kind"], order["restore_from"]) == ("1.0.1", "1.0.0", "rollback", "")
    assert [(file["path"], file["sha256"]) for file in order["files"]] == [(str(upgraded.config), sha256(OLD_CONFIG))]
    assert files[order["files"][0]["new"]] == OLD_CONFIG
    assert transaction_host.prepare(order, files).is_dir()


def test_a_rollback_after_a_migration_asks_for_a_decision(upgraded: Box) -> None:
    with closing(sqlite3.connect(upgraded.database)) as database:
        database.execute("ALTER TABLE kv ADD COLUMN more")
    with pytest.raises(FleetError, match="--restore-database puts it back"):
        rollback()
    assert rollback(keep=True)[0]["restore_from"] == ""
    assert rollback(restore=True)[0]["restore_from"] == IDENTIFIER


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"version": "9"}, "release 9 is not installed\n  → --to one of: 1.0.0", id="unknown"),
        pytest.param({"version": "1.0.1"}, "1.0.1 is current already", id="current"),
    ],
)
def test_no_way_back(upgraded: Box, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetError) as raised:
        rollback(**changes)
    assert said in str(raised.value)


def test_a_rollback_without_any_transaction(box: Box) -> None:
    (box.root / "opt/relay/previous").symlink_to("releases/1.0.1")
    order, files = rollback()
    assert (order["to"], order["files"], files) == ("1.0.1", [], {})
    assert order["running"] == [str(box.config), str(box.unit)]


# Seeing


def test_status(upgraded: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearthctl.main(["status"]) == 0
    text = capsys.readouterr().out
    assert "upgrade 1.0.0 → 1.0.1  committed" in text
    assert hearthctl.main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert (found["release"], found["ready"], found["transaction"]["outcome"]) == ("1.0.1", True, "committed")
    assert hearthctl.main(["status", "nobody"]) == 2


def test_status_passes_over_what_was_only_prepared(upgraded: Box, capsys: pytest.CaptureFixture[str]) -> None:
    upgraded.prepare(id="20991121T120000Z-000000")
    assert hearthctl.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["transaction"]["outcome"] == "committed"


def test_status_says_what_to_type_next(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    box.end(transaction.INCONCLUSIVE)
    assert hearthctl.main(["status", "relay"]) == 1
    assert "→ hearthctl promote relay (keep 1.0.1), or hearthctl rollback relay" in capsys.readouterr().out


def test_releases(upgraded: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearthctl.main(["releases", "relay", "--json"]) == 0
    found = {one["version"]: one["state"] for one in json.loads(capsys.readouterr().out)}
    assert found == {"1.0.1": ["current"], "1.0.0": ["previous", "started last"]}


def test_only_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert hearthctl.main(["status"]) == 2
    assert "only root" in capsys.readouterr().err


def test_a_boot_takes_up_what_was_interrupted(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.prepare()
    assert hearthctl.main(["resume"]) == 0
    assert capsys.readouterr().out == ""  # prepared, but never begun
    transaction_host.launch("relay", IDENTIFIER)
    assert hearthctl.main(["resume"]) == 0
    assert capsys.readouterr().out == f"relay: transaction {IDENTIFIER} goes on\n"
    assert len(box.started) == 2
    box.end(transaction.ROLLED_BACK)
    assert hearthctl.main(["resume"]) == 0
    assert len(box.started) == 2


def test_an_engine_that_has_just_ended_is_in_nobodys_way(box: Box) -> None:
    """Its outcome can be read a moment before it removes its link."""
    box.prepare()
    transaction_host.launch("relay", IDENTIFIER)
    box.end(transaction.COMMITTED)
    link = transaction_host.ROLLOUT / "relay/active"
    link.symlink_to(IDENTIFIER)
    directory = transaction_host.directory_of("relay", IDENTIFIER)
    book = Journal(directory, lambda _lines: {})
    threading.Timer(0.3, lambda: (link.unlink(), book.close())).start()
    box.prepare(id="other")
    transaction_host.launch("relay", "other")
    assert transaction_host.active("relay") == "other"
