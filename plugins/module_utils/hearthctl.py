# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hearthctl``: what a person on the host types to see services, releases and transactions, and to decide about them.

It needs Python's standard library and the files that ``host_tools.SOURCES`` names, nothing of Ansible and no controller.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import (
    backup_commands,
    cold_copy,
    command_line,
    drill_commands,
    releases,
    restore_swap,
    rollout_look,
    table,
    transaction,
    transaction_host,
    unit_marks,
    units,
    wrapped_table,
)
from ansible_collections.hearth.fleet.plugins.module_utils import probe as probes
from ansible_collections.hearth.fleet.plugins.module_utils.command_line import tell
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import duration_text

OPT = Path("/opt")
_FOLLOW_SECONDS = 10
_STATUS = {
    "service": "SERVICE",
    "release": "RELEASE",
    "unit": "UNIT",
    "ready": "READY",
    "transaction": "TRANSACTION",
    "change": "CHANGE",
    "where": "WHERE",
    "said": "STATE",
}
_PHASES = {"phase": "PHASE", "took": "TOOK", "said": "WHAT CAME OF IT"}
_RELEASES = {"service": "SERVICE", "version": "RELEASE", "state": "STATE", "installed": "INSTALLED", "sha256": "ARTIFACT SHA256"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0 for success, 1 where something is wrong or open, 2 for what cannot be done."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["backup"]:  # which accounts of services run, too
        return backup_commands.main(words[1:])
    if words[:1] == ["drill"]:
        return drill_commands.main(words[1:])
    return command_line.run(_parser(), words, goes_on="the transaction goes on by itself; hearthctl status shows it")


def _as_root(run: command_line.Command, options: argparse.Namespace) -> int:
    command_line.want_root("look at transactions", "…")
    return run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hearthctl", description="See and decide about the services, releases and rollouts of this host.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: command_line.Command, said: str, *, service: str | None = None) -> argparse.ArgumentParser:
        one = command_line.add(commands, name, partial(_as_root, run), said)
        if service:
            one.add_argument("service", nargs=None if service == "one" else "?", metavar="SERVICE")
        return one

    command("status", _status, "what runs, and where its last rollout stands", service="any").add_argument(
        "--json", action="store_true", help="the same as JSON, with all phases"
    )
    command("releases", _releases, "the releases that are installed", service="any").add_argument("--json", action="store_true", help="as JSON")
    back = command("rollback", _rollback, "go back to the release before, with its config", service="one")
    back.add_argument("--to", metavar="VERSION", help="to this release instead")
    databases = back.add_mutually_exclusive_group()
    databases.add_argument("--restore-database", action="store_true", help="put the databases back as they were; what was written since is lost")
    databases.add_argument("--keep-database", action="store_true", help="keep the databases although their schema changed since")
    for name in ("promote", "continue"):
        command(name, _promote, "keep the new release of a rollout that waits for a decision", service="one")
    command("resolve", _resolve, "say that you have settled what a rollout could not", service="one")
    command("resume", _resume, "take up what a boot or a crash interrupted")
    backups = commands.add_parser("backup", help="make and see the backups of this host", description="Make and see the backups of this host.")
    backup_commands.add_verbs(backups.add_subparsers(metavar="VERB", required=True))
    drills = commands.add_parser("drill", help="prove that backups come back", description="Prove that backups come back.")
    drill_commands.add_verbs(drills.add_subparsers(metavar="VERB", required=True))
    engine = commands.add_parser("transaction", help="what systemd runs; nothing for people").add_subparsers(metavar="VERB", required=True)
    run = command_line.add(engine, "run", partial(_as_root, _run), "bring a transaction to its outcome")
    run.add_argument("service", metavar="SERVICE")
    run.add_argument("id", metavar="ID")
    return parser


# Seeing


def _status(options: argparse.Namespace) -> int:
    names = [options.service] if options.service else known_services()
    rows = [status_of(name) for name in names]
    if options.service and rows == [None]:
        raise FleetError(f"{options.service} is no service of this host; known: {', '.join(known_services()) or 'none'}")
    found = [row for row in rows if row]
    if options.json:
        tell(json.dumps(found, ensure_ascii=False, indent=1))
    elif not found:
        tell("no service of the fleet is installed here")
    else:
        tell(wrapped_table.render([_status_row(row) for row in found], _STATUS, {"said": 44}))
        for row in found:
            state = row["transaction"] or {}
            if options.service and state:
                tell("\n" + wrapped_table.render(_phase_rows(state), _PHASES, {"said": 96}))
            if state.get("next"):
                tell(f"\n{row['service']}: {state['said']}\n  → {state['next']}")
            if row["restore"]:
                tell(f"\n{rollout_look.of_restore(row['service'], row['restore']).about(row['service'])}")
    return int(any(row["restore"] or (row["transaction"] or {}).get("next") for row in found))


def known_services() -> list[str]:
    """Return the services of the collection on this host: by their units, and by their transactions."""
    return sorted({*units.look([])["ours"].values(), *transaction_host.services()})


def status_of(service: str) -> dict[str, Any] | None:
    """Return what runs and where the last transaction stands; None for a service that is not of this host.

    ``release`` is what is current, ``started`` what the process was started from, ``ready`` None where nobody knows how to ask.
    """
    ours = {name: unit for unit, name in units.look([])["ours"].items()}
    begun = [one for one in transaction_host.identifiers(service) if transaction_host.has_begun(service, one)]
    if service not in ours and not begun:
        return None
    latest = transaction_host.active(service) or (begun[0] if begun else "")
    order = transaction_host.order_of(service, latest) if latest else None
    unit = order["unit"] if order else ours[service]
    state = probes.unit_state(unit)
    return {
        "service": service,
        "release": releases.read_version(OPT / service / "current"),
        "unit": unit,
        "active": state.active,
        "state": str(state),
        "ready": probes.ask_ready(unit, order["health"]["ready"]).ok if order else None,
        "transaction": transaction_host.state_of(service, latest) if latest else None,
        "restore": restore_swap.open_of(service),
    }


def _status_row(found: Mapping[str, Any]) -> dict[str, Any]:
    state = found["transaction"] or {}
    change = f"{state['kind']} {state['from'] or '-'} → {state['to']}" if state else ""
    return {
        **{key: found[key] for key in ("service", "release", "ready")},
        "unit": found["active"],
        "transaction": state.get("id"),
        "change": change,
        "where": _where(state) if state else "",
        "said": state.get("said"),
    }


def _where(state: Mapping[str, Any]) -> str:
    if state["outcome"]:
        return f"{state['outcome']}{', settled' if state['resolved'] else ''}"
    return f"{state['phase'] or 'beginning'} for {duration_text(max(0, int(time.time() - state['since'])))}"


def _phase_rows(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"phase": one["phase"], "took": f"{one['end'] - one['begin']:.1f} s" if one["end"] else "…", "said": one["said"]} for one in state["phases"]
    ]


def _releases(options: argparse.Namespace) -> int:
    names = [options.service] if options.service else known_services()
    found = [row for name in names for row in releases_of(name)]
    if options.service and not found:
        raise FleetError(f"{options.service} has no releases in {OPT}; known services: {', '.join(known_services()) or 'none'}")
    if options.json:
        tell(json.dumps(found, indent=1))
    elif not found:
        tell("no release is installed here")
    else:
        shown = [{**row, "installed": time.strftime("%Y-%m-%d %H:%M", time.gmtime(row["installed"])), "sha256": row["sha256"][:12]} for row in found]
        tell(table.render(shown, _RELEASES))
    return 0


def releases_of(service: str) -> list[dict[str, Any]]:
    """Return the installed releases of a service, the newest first; ``state`` holds any of current, previous, running."""
    home = OPT / service
    stamp = units.parse_stamp(_text(Path(units.STAMPS, f"{service}.started"))) or {"release": ""}
    named = {
        "current": releases.read_version(home / "current"),
        "previous": releases.read_version(home / "previous"),
        "started last": Path(stamp["release"]).name,
    }
    found = []
    for directory in sorted((home / "releases").glob("*")):
        manifest = releases.read_manifest(directory, service)
        if manifest:
            state = [name for name, version in named.items() if version == directory.name]
            found.append({"service": service, **{key: manifest[key] for key in ("version", "installed", "sha256")}, "state": state})
    return sorted(found, key=lambda row: (row["installed"], row["version"]), reverse=True)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


# Deciding


def _rollback(options: argparse.Namespace) -> int:
    service = options.service
    identifier = transaction_host.active(service)
    if identifier:
        if options.to and options.to != transaction_host.order_of(service, identifier)["from"]:
            raise FleetError(f"{service}: transaction {identifier} is open, and leads back to its old release only; leave out --to")
        transaction_host.ask_back(service, _who(), restore_database=options.restore_database)
    else:
        order, files = rollback_order(
            service, version=options.to, restore=options.restore_database, keep=options.keep_database, identifier=rollout_look.new_identifier()
        )
        identifier = order["id"]
        transaction_host.prepare({**order, "rollout": {"owner": _who(), "playbook": "hearthctl rollback"}}, files)
        transaction_host.launch(service, identifier)
    return _watch(service, identifier)


def _watch(service: str, identifier: str) -> int:
    """Show a transaction's journal until its outcome; return 0 when the service is where the person wants it."""
    said = len(transaction_host.follow(service, identifier)["lines"])
    while True:
        found = transaction_host.follow(service, identifier, said, _FOLLOW_SECONDS)
        said = found["next"]
        for line in found["lines"]:
            if line["event"] != "begin":
                tell(f"{time.strftime('%H:%M:%S', time.gmtime(line['at']))}  {line['phase'] or 'begin':<13}  {line['said']}")
        state = found["state"]
        if state["outcome"]:
            if state["next"]:
                tell(f"  → {state['next']}")
            return (
                0 if state["outcome"] == transaction.COMMITTED or (state["outcome"] == transaction.ROLLED_BACK and state["kind"] != "rollback") else 1
            )


def rollback_order(service: str, *, version: str | None, restore: bool, keep: bool, identifier: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the order that undoes a service's last committed transaction, and its candidate files by name.

    ``version`` names another installed release. Raises FleetError when there is no way back, or a decision about the databases is due.
    """
    current = releases.read_version(OPT / service / "current")
    wanted = version or releases.read_version(OPT / service / "previous")
    done = _last_committed(service, current)
    if done and not version and done["from"] and done["from"] != current:
        wanted = done["from"]
    installed = [row["version"] for row in releases_of(service)]
    if not wanted or wanted not in installed:
        known = ", ".join(one for one in installed if one != current) or "none"
        raise FleetError(f"{service}: release {wanted or 'before ' + (current or 'this one')} is not installed\n  → --to one of: {known}")
    if wanted == current:
        raise FleetError(f"{service}: {wanted} is current already")
    undone = done if done and done["from"] == wanted else None
    order = _same_service(service, done)
    if undone:
        _want_decision(service, undone, restore=restore, keep=keep)
    elif restore:
        raise FleetError(f"{service}: there are no databases from before {current} that belong to {wanted}\n  → leave out --restore-database")
    files, contents = transaction_host.old_files(service, undone["id"]) if undone else ([], {})
    return {
        **order,
        "id": identifier,
        "kind": "rollback",
        "reasons": [f"back from {current}"],
        "from": current,
        "to": wanted,
        "files": files,
        "restore_from": undone["id"] if undone and restore else "",
        "analysis": [],
        "deadline": 0,
    }, contents


def _last_committed(service: str, current: str) -> dict[str, Any] | None:
    """Return the order of the last committed transaction that led to the current release; None when nobody knows of one."""
    for identifier in transaction_host.identifiers(service):
        state = transaction_host.state_of(service, identifier)
        if state["outcome"] == transaction.COMMITTED and state["to"] == current and state["from"] != current:
            return transaction_host.order_of(service, identifier)
    return None


def _same_service(service: str, done: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what an order says of the service itself: as in its last transaction, else only what the host knows."""
    if done:
        kept = ("service", "unit", "home", "user", "group", "running", "databases", "version", "health", "drain", "soak", "stop_timeout")
        return {key: done[key] for key in (*kept, "start_timeout", "backup")}
    ours = {name: unit for unit, name in units.look([])["ours"].items()}
    if service not in ours:
        raise FleetError(f"{service} is no service of this host; known: {', '.join(known_services()) or 'none'}")
    stamp = units.parse_stamp(_text(Path(units.STAMPS, f"{service}.started"))) or {"files": {}}
    running = [path for path in stamp["files"] if not path.startswith(f"{unit_marks.UNITS}/{ours[service]}.d/")]
    return {"service": service, "unit": ours[service], "home": str(OPT / service), "health": {}, "running": running}


def _want_decision(service: str, undone: Mapping[str, Any], *, restore: bool, keep: bool) -> None:
    """Raise FleetError where the schema of a database changed on the way, and the person has not said what is to become of it."""
    if restore or keep or not undone["databases"]:
        return
    before = transaction_host.state_of(service, undone["id"])["facts"].get("schema_before")
    now = [cold_copy.schema(Path(one["path"])) for one in undone["databases"]]
    if before is not None and before != now:
        raise FleetError(
            f"{service}: {undone['to']} changed the schema of its database, and {undone['from']} may not be able to use it\n"
            f"  → on the host: hearthctl rollback {service} --restore-database puts it back as it was before {undone['to']} (what was written "
            f"since is lost); --keep-database tries {undone['from']} on it as it is, and comes back to {undone['to']} if that fails"
        )


def _promote(options: argparse.Namespace) -> int:
    tell(transaction_host.promote(options.service, _who())["said"])
    return 0


def _resolve(options: argparse.Namespace) -> int:
    tell(transaction_host.resolve(options.service, _who())["said"])
    return 0


def _who() -> str:
    return f"{os.environ.get('SUDO_USER') or 'root'}@{os.uname().nodename}"


# Running


def _resume(options: argparse.Namespace) -> int:
    del options
    for said in (*restore_swap.resume_all(), *transaction_host.adopt_all()):
        tell(said)
    return 0


def _run(options: argparse.Namespace) -> int:
    tell(transaction_host.run(options.service, options.id))
    return 0
