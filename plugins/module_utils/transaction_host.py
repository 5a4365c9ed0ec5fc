# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transactions of a host: prepared, launched, followed, and ended by a person where that is what they wait for.

For who starts one (the module ``transaction``, or ``hearthctl rollback``):

    prepare(order, {name: content})   writes order and candidate files durably; nothing has happened yet. The files are called
                                      as the order's ``files[n].new`` says. Returns the transaction's directory; once more is harmless
    launch(service, id)               starts the engine in a transient unit, or lets it adopt what it left; harmless while it runs, and
                                      once there is an outcome
    follow(service, id, since, wait)  returns the journal's lines from number ``since`` on as soon as there are any (after ``wait`` seconds
                                      at the latest), the state, and whether the engine is at work:
                                      {"lines": [...], "next": 12, "state": {...}, "alive": true}

    <ROLLOUT>/<service>/<id>/order.json      what is to be done
                            /journal.jsonl   what was done (journal.py)
                            /state.json      that, in short (transaction.summary)
    <ROLLOUT>/<service>/active -> <id>       the transaction that has the service; gone once nothing about it is open

A service has one change at a time: a transaction, or a restore of its data. Both look for the other, and take the service, while they
hold ``deciding(service)``.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import (
    exclusive,
    host_tools,
    journal,
    live_host,
    programs,
    restore_swap,
    rollout_look,
    staging,
    transaction,
)
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.free_space import said_plainly

ROLLOUT = Path(rollout_look.ROLLOUT)
ORDER = "order.json"
KEPT = 3
"""So many transactions of a service are kept, and all that a person had to decide about."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_POLL_SECONDS = 0.1
_SYSTEMD_SECONDS = 30


def directory_of(service: str, identifier: str) -> Path:
    """Return a transaction's directory. Raises FleetError for names that cannot be ones."""
    for name in (service, identifier):
        if not _NAME.fullmatch(name):
            raise FleetError(f"{name!r} names no service and no transaction")
    return ROLLOUT / service / identifier


def services() -> list[str]:
    """Return the services that had a transaction on this host."""
    return sorted(path.name for path in ROLLOUT.iterdir() if path.is_dir()) if ROLLOUT.is_dir() else []


def identifiers(service: str) -> list[str]:
    """Return the ids of a service's transactions, the newest first."""
    home = ROLLOUT / service
    orders = [path for path in home.glob(f"*/{ORDER}") if not path.parent.is_symlink()] if home.is_dir() else []
    return [path.parent.name for path in sorted(orders, key=lambda path: (path.stat().st_mtime, path.parent.name), reverse=True)]


def has_begun(service: str, identifier: str) -> bool:
    """Return whether a transaction was started; one that was prepared only is nothing yet, and may never be."""
    return bool(journal.read(directory_of(service, identifier)))


def active(service: str) -> str:
    """Return the id of the transaction that has a service, because it runs or waits for a person; empty when none has."""
    name = _linked(service)
    if not name:
        return ""
    return name if rollout_look.is_open(state_of(service, name)) else ""


def _linked(service: str) -> str:
    try:
        name = str((ROLLOUT / service / "active").readlink())
    except OSError:
        return ""
    return name if (ROLLOUT / service / name / ORDER).is_file() else ""


def order_of(service: str, identifier: str) -> dict[str, Any]:
    """Return a transaction's complete order. Raises FleetError when there is none."""
    path = directory_of(service, identifier) / ORDER
    try:
        return transaction.complete(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise FleetError(f"{path} cannot be read: {error}") from None


def state_of(service: str, identifier: str) -> dict[str, Any]:
    """Return where a transaction stands (``transaction.summary``), read from its journal. Raises FleetError when there is none."""
    return transaction.summary(order_of(service, identifier), journal.read(directory_of(service, identifier)))


def prepare(order: Mapping[str, Any], new_files: Mapping[str, bytes]) -> Path:
    """Write an order and its candidate files (content by name) durably; return the transaction's directory.

    Raises FleetError while another transaction or a restore has the service, or for an order that is none.
    """
    whole = transaction.complete(order)
    directory = directory_of(whole["service"], whole["id"])
    _refuse_while_taken(whole["service"], whole["id"])
    if journal.read(directory):
        return directory
    missing = sorted({file["new"] for file in whole["files"] if file.get("new") is not None} - set(new_files))
    if missing:
        raise FleetError(f"the order names new files that are not there: {', '.join(missing)}")
    draft = directory.with_name(f".{directory.name}.draft")
    with said_plainly(_existing(directory), "to prepare a transaction"):
        _make_private(directory.parent)
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)
        (draft / "new").mkdir(mode=0o700, parents=True)
        draft.chmod(0o700)
        for name, content in new_files.items():
            if not _NAME.fullmatch(name):
                raise FleetError(f"{name!r} cannot name a candidate file")
            journal.write_whole(draft / "new" / name, content, durable=True)
        journal.write_whole(draft / ORDER, json.dumps(order, ensure_ascii=False, indent=1).encode(), durable=True)
        draft.rename(directory)
        journal.sync_directory(directory.parent)
    return directory


def _existing(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())


def _make_private(directory: Path) -> None:
    for path in (ROLLOUT.parent, ROLLOUT, directory):
        path.mkdir(mode=0o700, exist_ok=True)


def deciding(service: str) -> AbstractContextManager[None]:
    """Keep others out while it is decided who has a service."""
    return exclusive.held(ROLLOUT / f".{service}.deciding")


def _refuse_while_taken(service: str, identifier: str) -> None:
    """Raise FleetError while a transaction other than this one, or a restore, has the service."""
    refuse_while_changed(service, identifier)
    restore_swap.refuse_while_open(service)


def refuse_while_changed(service: str, identifier: str = "") -> None:
    """Raise FleetError while a transaction other than this one has the service."""
    other = active(service)
    if other and other != identifier:
        raise FleetError(rollout_look.of_transaction(service, state_of(service, other)).about(service))


def _wait_for_the_last(service: str, identifier: str) -> None:
    """Let an engine that has reached its outcome, and is about to remove its link, do so."""
    other = _linked(service)
    end = time.monotonic() + _SYSTEMD_SECONDS
    while other and other != identifier and journal.is_held(directory_of(service, other)):
        if time.monotonic() > end:
            raise FleetError(f"{service}: the engine of transaction {other} does not end; see systemctl status hearth-rollout-{service}")
        time.sleep(_POLL_SECONDS)


def launch(service: str, identifier: str) -> dict[str, Any]:
    """Start a transaction, or let its engine take it up again where it ended without an outcome; return its state.

    Raises FleetError while another one or a restore has the service, and when systemd refuses.
    """
    directory = directory_of(service, identifier)
    order = order_of(service, identifier)
    refuse_while_changed(service, identifier)
    if not journal.read(directory):
        with _open_journal(order, directory) as book:
            _wait_for_the_last(service, identifier)
            with deciding(service):
                _refuse_while_taken(service, identifier)
                _begin(order, book)
    if not state_of(service, identifier)["outcome"] and not journal.is_held(directory):
        _run_engine(service, identifier)
    return state_of(service, identifier)


def _begin(order: Mapping[str, Any], book: journal.Journal) -> None:
    """Let a transaction have its service. The link first: a transaction that has begun is always found."""
    now = round(time.time(), 3)
    said = f"{order['kind']} of {order['service']} {order['from']} → {order['to']}, for {order['rollout'].get('owner') or 'root'}"
    staging.replace_link(book.directory.parent / "active", order["id"])
    book.append({"at": now, "phase": "", "event": "note", "said": said, "expires": now + order["deadline"]}, durable=True)


def _run_engine(service: str, identifier: str) -> None:
    unit = f"hearth-rollout-{service}.service"
    properties = {
        "Type": "exec",
        "Restart": "on-failure",  # also after a kill -9: it then adopts its own journal
        "RestartSec": "1",
        "StartLimitIntervalSec": "0",
        "KillMode": "mixed",
        "OOMScoreAdjust": "-500",
    }
    command = ["systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit}", f"--description=Rollout of {service}"]
    command += [f"--property={key}={value}" for key, value in properties.items()]
    command += ["--", host_tools.HEARTHCTL, "transaction", "run", service, identifier]
    end = time.monotonic() + _SYSTEMD_SECONDS
    while not _start(command, service):
        # The unit of an engine that has just ended is not gone yet, or one that died is about to be restarted.
        if journal.is_held(directory_of(service, identifier)):
            return
        if time.monotonic() > end:
            raise FleetError(f"{service}: the transaction cannot be started: systemctl status {unit} shows what is in the way")
        time.sleep(_POLL_SECONDS)


def _start(command: list[str], service: str) -> bool:
    """Start a transient unit; return False where there is one of its name already. Raises FleetError when systemd refuses."""
    said = programs.run(command, seconds=_SYSTEMD_SECONDS)
    if said.status and "already" not in said.error:
        raise FleetError(f"{service}: the transaction cannot be started: {said.why}")
    return said.status == 0


def _open_journal(order: Mapping[str, Any], directory: Path) -> journal.Journal:
    return journal.Journal(directory, lambda lines: transaction.summary(order, lines))


def run(service: str, identifier: str, *, until_start: bool = False) -> str:
    """Be the engine: bring a transaction to its outcome and return that. Raises JournalError while another process does it."""
    directory = directory_of(service, identifier)
    order = order_of(service, identifier)
    with _open_journal(order, directory) as book:
        outcome = transaction.Engine(order, live_host.LiveHost(order, directory), book).run(until_start=until_start)
    if outcome:
        prune(service)
    return outcome


def follow(service: str, identifier: str, since: int = 0, wait: float = 0, *, considerate: bool = False) -> dict[str, Any]:
    """Return what is new of a transaction, see above. Raises FleetError when there is no such transaction.

    With ``considerate`` nothing is new while the service restarts: who asks again with a new process for every line would
    take the time that the daemon needs for its start.
    """
    directory = directory_of(service, identifier)
    order = order_of(service, identifier)
    end = time.monotonic() + wait
    while True:
        lines = journal.read(directory)
        alive = journal.is_held(directory)
        state = transaction.summary(order, lines)
        news = len(lines) > since and not (considerate and transaction.restarting(lines))
        if news or state["outcome"] or time.monotonic() >= end:
            return {"lines": lines[since:], "next": len(lines), "state": state, "alive": alive}
        time.sleep(_POLL_SECONDS)


def adopt_all() -> list[str]:
    """After a boot: take up every transaction that has no outcome; return what was done, for people.

    Files and links are set right before anything else may start the services; the rest is left to the engines.
    """
    said = []
    for service in services():
        try:
            identifier = active(service)
            if identifier and not state_of(service, identifier)["outcome"]:
                run(service, identifier, until_start=True)
                launch(service, identifier)
                said.append(f"{service}: transaction {identifier} goes on")
        except (FleetError, OSError) as error:
            said.append(f"{service}: its transaction cannot be taken up: {error}")
    return said


def evidence(service: str, identifier: str) -> dict[str, str]:
    """Return what a transaction kept of a failure, by file name."""
    directory = directory_of(service, identifier) / "evidence"
    return {path.name: path.read_text(encoding="utf-8", errors="replace") for path in sorted(directory.glob("*")) if path.is_file()}


def old_files(service: str, identifier: str) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Return what a transaction replaced, as the ``files`` of an order that puts it back, and the contents by name.

    What the service read besides, and the transaction did not change, may have changed since, and stays.
    """
    directory = directory_of(service, identifier)
    changed_to = {file["path"]: file["sha256"] if file.get("new") is not None else None for file in order_of(service, identifier)["files"]}
    files, contents = [], {}
    for kept in live_host.old_files(directory):
        file, content = _as_file(directory, kept)
        if file["path"] in changed_to and file["sha256"] != changed_to[file["path"]]:
            files.append(file)
            if content is not None:
                contents[file["new"]] = content
    return files, contents


def _as_file(directory: Path, kept: Mapping[str, Any]) -> tuple[dict[str, Any], bytes | None]:
    """Return a kept file as an order's file, and its content; None for one that is to be absent."""
    if kept["name"] is None:
        return {"path": kept["path"], "owner": "root", "group": "root", "mode": "0600", "sha256": None, "new": None}, None
    source = directory / "old" / kept["name"]
    content, found = source.read_bytes(), source.stat()
    return {
        "path": kept["path"],
        "owner": str(found.st_uid),
        "group": str(found.st_gid),
        "mode": f"{found.st_mode & 0o7777:04o}",
        "sha256": hashlib.sha256(content).hexdigest(),
        "new": kept["name"],
    }, content


def prune(service: str) -> None:
    """Remove the oldest transactions, and those that were prepared before a later one ended, as nobody will start them any more."""
    keep = {active(service)}
    closed = 0
    for identifier in identifiers(service):
        if identifier in keep or state_of(service, identifier)["outcome"] in rollout_look.OPEN_OUTCOMES:
            continue
        begun = has_begun(service, identifier)
        closed += begun
        if closed > (KEPT if begun else 0):
            shutil.rmtree(directory_of(service, identifier))


# What a person decides


def open_transaction(service: str) -> tuple[str, dict[str, Any]]:
    """Return id and state of the transaction that waits for a person. Raises FleetError when none does."""
    identifier = active(service)
    if not identifier:
        raise FleetError(f"{service}: no transaction waits for a decision; hearthctl status {service} shows the last one")
    state = state_of(service, identifier)
    if state["outcome"] not in rollout_look.OPEN_OUTCOMES:
        raise FleetError(f"{service}: transaction {identifier} is under way ({state['phase']}: {state['said']}); wait for its outcome")
    return identifier, state


def promote(service: str, who: str) -> dict[str, Any]:
    """Keep the new release although nothing proves it good; return the state. Raises FleetError."""
    identifier, state = open_transaction(service)
    if state["outcome"] == transaction.NEEDS_OPERATOR and not state["undecided"]:
        raise FleetError(f"{service}: {state['said']}\n  → there is nothing to promote: {state['next']}")
    return _decide(service, identifier, f"{who} keeps {state['to']}", outcome=transaction.COMMITTED)


def resolve(service: str, who: str) -> dict[str, Any]:
    """Note that a person has settled what the transaction could not; return the state. Raises FleetError."""
    identifier, state = open_transaction(service)
    return _decide(service, identifier, f"{who} says that it is settled", outcome=state["outcome"], resolved=True)


def ask_back(service: str, who: str, *, restore_database: bool) -> str:
    """Let the open transaction go back to the old release; return its id. Raises FleetError.

    ``restore_database`` accepts that what was written since the switch is lost.
    """
    identifier, state = open_transaction(service)
    if state["undecided"] and not restore_database:
        raise FleetError(f"{service}: {state['said']}\n  → {state['next']}")
    said = f"{who} wants {state['from']} back" + (", with the databases as they were" if restore_database else "")
    _decide(service, identifier, said, asked="back", **({"restore_database": True} if restore_database else {}))
    _run_engine(service, identifier)
    return identifier


def _decide(service: str, identifier: str, said: str, **facts: Any) -> dict[str, Any]:
    directory = directory_of(service, identifier)
    order = order_of(service, identifier)
    with _open_journal(order, directory) as book:
        phase = transaction.progress(book.lines).phase
        book.append({"at": round(time.time(), 3), "phase": phase, "event": "note", "said": said, **facts}, durable=True)
        if facts.get("outcome"):
            live_host.LiveHost(order, directory).settle(waits=False)
    return state_of(service, identifier)
