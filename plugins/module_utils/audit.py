# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the fleet is what the inventory says: all that was seen of its hosts in, findings out. Pure.

Each host is seen by three modules: ``observe`` (the plan), ``exposure`` (units, sockets) and ``reach`` (what it can connect
to elsewhere). What is missing of a host becomes a finding itself, so that silence never passes for health.
"""

from __future__ import annotations

import ipaddress
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import host_facts, wrapped_table
from ansible_collections.hearth.fleet.plugins.module_utils.errors import words_of_ssh
from ansible_collections.hearth.fleet.plugins.module_utils.exposure import is_loopback
from ansible_collections.hearth.fleet.plugins.module_utils.plan import AREAS
from ansible_collections.hearth.fleet.plugins.module_utils.plan_text import summed

FAIL, WARN = "fail", "warn"

Seen = Mapping[str, Mapping[str, Any]]
"""What a module returned, by host."""

_COLUMNS = {"host": "HOST", "service": "SERVICE", "check": "CHECK", "found": "FOUND", "wanted": "WANTED"}
_LINE_WIDTH = 111
"""Of 120 columns, which Ansible's own output indents by 8."""

_WANTED_WIDTH, _FOUND_WIDTH_MIN = 22, 30

_DRIFT_REMEDY = "ansible-playbook site.yml brings it back (--check --diff shows how); or put the change into the inventory"
_START_REMEDY = "see why it stopped: journalctl -u {item}; ansible-playbook site.yml starts it"
_RESTART_REMEDY = "ansible-playbook site.yml restarts what is pending, one host at a time"
_ROLLOUTS = {"start": ("running", _START_REMEDY), "restart": ("restarted since", _RESTART_REMEDY), "reload": ("reloaded since", _RESTART_REMEDY)}


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as it should be.

    ``service`` is empty for the host itself. ``check`` is one of look, drift, preflight, exposure, listening, reach, ready.
    ``level`` is fail, or warn for what does not fail the audit. ``found``, ``wanted`` and ``remedy`` are texts for people.
    """

    host: str
    service: str
    check: str
    level: str
    found: str
    wanted: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain data, as reports carry it."""
        return asdict(self)


def report(specs: Mapping[str, Any], looks: Seen, exposed: Seen, reached: Seen) -> dict[str, Any]:
    """Return the audit of the hosts in ``looks`` as plain data.

    ``specs`` holds the slices of each host; ``looks``, ``exposed`` and ``reached`` what observe, exposure and reach returned on
    each. The report: ``verified`` (no finding fails), counts of ``hosts``, ``services`` and ``probes``, ``findings``, and, which
    are no findings, ``staged`` (releases that wait for a rollout), ``waits`` (services that a rollout or a restore has) and
    ``offline`` (hosts that may be off, and are).
    """
    found: list[Finding] = []
    left: dict[str, list[dict[str, str]]] = {"staged": [], "waits": []}
    offline: list[str] = []
    for host, look in looks.items():
        if "plan" in look:
            found += _host_findings(host, specs[host], look["plan"], exposed.get(host, {}))
            for kind, found_there in left.items():
                found_there += [{"host": host, "service": one["service"], "reason": one["reason"]} for one in look["plan"][kind]]
        elif look.get("away") and specs[host]["host"]["offline"] == "skip":
            offline.append(host)
        else:
            found.append(_unseen(host, look))
    probes = [probe for host in reached for probe in reached[host].get("probes", [])]
    found += [_no_answer(host, "reach") for host in looks if "plan" in looks[host] and "probes" not in reached.get(host, {})]
    found += [finding for prober, one in reached.items() for finding in _reach(prober, one.get("probes", []), looks, exposed)]
    findings = sorted(set(found), key=lambda one: (one.level != FAIL, one))
    return {
        "verified": all(one.level != FAIL for one in findings),
        "hosts": sum("plan" in look for look in looks.values()),
        "services": sum(len(look["plan"]["services"]) for look in looks.values() if "plan" in look),
        "probes": len(probes),
        "findings": [one.as_dict() for one in findings],
        **left,
        "offline": offline,
    }


def render(audit: Mapping[str, Any]) -> str:
    """Return a report as a table for people, within 120 columns, and below it what to do about each finding."""
    parts = []
    findings = audit["findings"]
    if findings:
        rows = [{**one, "check": one["check"] if one["level"] == FAIL else f"{one['check']} ({one['level']})"} for one in findings]
        parts += [wrapped_table.render(rows, _COLUMNS, _widths(rows)), "", *_advice(findings), ""]
    parts += [f"waits for a rollout, on {one['host']}: {one['service']}: {one['reason']}" for one in audit["staged"]]
    parts += [f"waits, on {one['host']}: {one['service']}: {one['reason']}" for one in audit["waits"]]
    if audit["offline"]:
        parts.append(f"not verified, may be off and is: {', '.join(audit['offline'])}")
    return "\n".join([*parts, summary(audit)])


def summary(audit: Mapping[str, Any]) -> str:
    """Return the report in one sentence."""
    counted = ", ".join(_count(audit[what], what[:-1]) for what in ("hosts", "services", "probes"))
    warnings = sum(one["level"] == WARN for one in audit["findings"])
    failures = len(audit["findings"]) - warnings
    told = " and ".join(filter(None, (_count(failures, "finding") if failures else "", _count(warnings, "warning") if warnings else "")))
    return f"{'verified' if audit['verified'] else 'not verified'}: {counted}, {told or 'nothing found'}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# What could not be seen


def _unseen(host: str, look: Mapping[str, Any]) -> Finding:
    said = " ".join(str(look.get("msg") or "no answer").split())
    if look.get("away"):
        remedy = "start it, or repair its network or SSH; a host that may be off belongs into a tier with `offline: skip`"
        return Finding(host, "", "look", FAIL, f"unreachable: {words_of_ssh(said)}", "reachable by SSH", remedy)
    return Finding(host, "", "look", FAIL, said, "a look at the host", "repair what the message says, and verify again")


def _no_answer(host: str, module: str) -> Finding:
    return Finding(host, "", module, FAIL, f"{module} did not answer", "an answer", "run again with -vvv to see the error")


# One host


def _host_findings(host: str, specs: Mapping[str, Any], plan: Mapping[str, Any], exposed: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _drift(host, plan)
    yield from _preflight(host, plan)
    yield from _unready(host, plan)
    if "units" not in exposed:
        yield _no_answer(host, "exposure")
        return
    for unit in specs["unit"]["units"]:
        if unit["name"] in exposed["units"]:
            yield from _exposure(host, unit, exposed["units"][unit["name"]])
    for name, spec in specs["services"].items():
        if plan["services"][name]["state"] in ("active", "reloading"):
            yield from _listening(host, spec, exposed)


def _drift(host: str, plan: Mapping[str, Any]) -> Iterator[Finding]:
    for area in AREAS:
        for one in summed(plan[area]):
            yield Finding(host, one["service"], "drift", FAIL, f"{one['item']}: {one['reason']}", f"{area} as described", _DRIFT_REMEDY)
    for one in plan["rollout"]:
        wanted, remedy = _ROLLOUTS[one["action"]]
        yield Finding(host, one["service"], "drift", FAIL, f"{one['item']}: {one['reason']}", wanted, remedy.format(item=one["item"]))


def _preflight(host: str, plan: Mapping[str, Any]) -> Iterator[Finding]:
    for one in plan["preflight"]:
        if one["level"] == "fail":
            yield Finding(host, "", "preflight", FAIL, f"{one['check']}: {one['found']}", one["wanted"], one["remedy"])


def _unready(host: str, plan: Mapping[str, Any]) -> Iterator[Finding]:
    stopped = {one["service"] for one in plan["start"]}
    for service, seen in plan["services"].items():
        if not seen["ready"] and service not in stopped:  # that it does not run is told already
            yield Finding(host, service, "ready", FAIL, f"{seen['state']}, but not ready", "ready", f"see what it says: journalctl -u {service}")


def _exposure(host: str, unit: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[Finding]:
    if seen["score"] <= unit["exposure_max"]:
        return
    sandbox = f"fleet_services.{unit['service']}.sandbox"
    drop_ins = ", ".join(seen["drop_ins"])
    remedy = f"remove or narrow {drop_ins}" if drop_ins else f"take back a relaxation in {sandbox}"
    yield Finding(
        host,
        unit["service"],
        "exposure",
        FAIL,
        f"{seen['score']} of 10, most of it {', '.join(seen['causes'])}" + (f"; drop-in {drop_ins}" if drop_ins else ""),
        f"at most {unit['exposure_max']}",
        f"{remedy}; or accept it with {sandbox}.exposure_max",
    )


# Who listens


def _listening(host: str, spec: Mapping[str, Any], exposed: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the sockets of a running service."""
    if spec["sandbox"]["private_network"]:
        return  # its sockets are in a network of its own
    own = [one for one in exposed["sockets"] if one["unit"] == spec["unit"]["name"] and not is_loopback(one["address"])]
    for (proto, port), sockets in _by_port(own).items():
        if proto == "udp" and exposed["ephemeral"][0] <= port <= exposed["ephemeral"][-1]:
            continue  # a client's socket, not a server's
        described = _described(spec["ports"], proto, port)
        if described is None:
            yield _stray(host, spec["name"], sockets)
        elif described["sources"] == ["none"] and any(one["closed"] is False for one in sockets):
            yield _unguarded(host, spec["name"], described, sockets)
    for port in spec["ports"]:
        if port["listen"] and "tcp" in port["proto"]:
            yield from _deaf(host, spec["name"], port, exposed["sockets"])


def _by_port(sockets: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    found: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for one in sockets:
        found.setdefault((one["proto"], one["port"]), []).append(one)
    return found


def _described(ports: Iterable[Mapping[str, Any]], proto: str, number: int) -> Any:
    """Return the description of a port, None where the service has none."""
    return next((port for port in ports if proto in port["proto"] and number in host_facts.port_range(port["port"])), None)


def _stray(host: str, service: str, sockets: Sequence[Mapping[str, Any]]) -> Finding:
    remedy = f"bind it to 127.0.0.1, or describe it in fleet_services.{service}.ports (`from: none` keeps the firewall closed)"
    return Finding(host, service, "listening", FAIL, f"listens on {_endpoints(sockets)}", "no such port described", remedy)


def _unguarded(host: str, service: str, port: Mapping[str, Any], sockets: Sequence[Mapping[str, Any]]) -> Finding:
    remedy = f"bind port {port['name']} to 127.0.0.1; what lets others in: ufw status numbered"
    found = f"listens on {_endpoints(sockets)}, which no firewall closes"
    return Finding(host, service, "listening", WARN, found, f"{port['name']} from: none", remedy)


def _deaf(host: str, service: str, port: Mapping[str, Any], sockets: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    here = [one for one in sockets if one["proto"] == "tcp" and one["port"] in host_facts.port_range(port["port"])]
    wanted = f"{port['name']} on {port['port']}/tcp"
    if not here:
        remedy = f"correct its config or fleet_services.{service}.ports, or say there `listen: false`"
        yield Finding(host, service, "listening", FAIL, f"nobody listens on {port['port']}/tcp", wanted, remedy)
    elif port["sources"] != ["none"] and all(is_loopback(one["address"]) for one in here):
        remedy = f"bind it to an address that others can reach, or write `from: none` in fleet_services.{service}.ports"
        yield Finding(host, service, "listening", FAIL, f"listens on {_endpoints(here)} only", f"{wanted}, reachable", remedy)


def _endpoints(sockets: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(sorted({f"{endpoint(one['address'], one['port'])}/{one['proto']}" for one in sockets}))


def endpoint(address: str, port: int) -> str:
    """Return address and port as people write them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# Who gets through


def _reach(prober: str, probes: Iterable[Mapping[str, Any]], looks: Seen, exposed: Seen) -> Iterator[Finding]:
    for one in probes:
        host, service, place = one["host"], one["service"], endpoint(one["address"], one["port"])
        if one["expect"] == "closed" and one["outcome"] == "open":
            remedy = f"see which rule lets it in (on {host}: ufw status numbered); if it is right, widen fleet_services.{service}.ports"
            yield Finding(host, service, "reach", FAIL, f"{prober} connects to {place}", f"{one['name']} closed to {prober}", remedy)
        elif one["expect"] == "open" and one["outcome"] != "open" and _serves(one, looks, exposed):
            level, remedy = _blocked(one, looks, exposed)
            yield Finding(host, service, "reach", level, f"{prober} to {place}: {one['outcome']}", f"{one['name']} open to {prober}", remedy)


def _serves(probe: Mapping[str, Any], looks: Seen, exposed: Seen) -> bool:
    """Return whether the service runs and listens on the address, so that only the way to it can be in the way."""
    running = looks.get(probe["host"], {}).get("plan", {}).get("services", {}).get(probe["service"], {}).get("state") in ("active", "reloading")
    return running and any(_takes(address, probe["address"]) for address in _listened_on(probe, exposed))


def _listened_on(probe: Mapping[str, Any], exposed: Seen) -> list[str]:
    """Return the addresses on which the probed host listens at the probed port."""
    sockets = exposed.get(probe["host"], {}).get("sockets", [])
    return [one["address"] for one in sockets if one["proto"] == "tcp" and one["port"] == probe["port"]]


def _takes(listening: str, address: str) -> bool:
    """Return whether a socket on one address gets connections to another; one on ``::`` usually gets those of IPv4 too."""
    one, other = ipaddress.ip_address(listening), ipaddress.ip_address(address)
    return one == other or (one.is_unspecified and one.version >= other.version)


def _is_ipv6_alone(probe: Mapping[str, Any], exposed: Seen) -> bool:
    """Return whether a refusal over IPv4 may be the daemon's own: a socket on ``::`` need not take IPv4, which no list of sockets tells."""
    addresses = [probe["address"], *_listened_on(probe, exposed)]
    return probe["outcome"] == "refused" and [ipaddress.ip_address(one).version for one in addresses] == [4, *[6] * (len(addresses) - 1)]


def _blocked(probe: Mapping[str, Any], looks: Seen, exposed: Seen) -> tuple[str, str]:
    """Return level and remedy of a port that should have answered."""
    if probe["outcome"] == "no route":
        return WARN, f"correct the routes between them, or fleet_addresses of {probe['host']}"
    if looks[probe["host"]]["plan"]["firewall"]:
        return FAIL, f"its firewall differs: ansible-playbook site.yml --limit {probe['host']}"
    if _is_ipv6_alone(probe, exposed):
        remedy = "it may listen on IPv6 alone: configure it for IPv4 too, or, if that is meant, write listen: false for the port"
        return FAIL, f"{remedy}; where it does take IPv4, a rule of {probe['host']} that is not this collection's rejects it"
    return FAIL, f"the rules of {probe['host']} let it in, so look between them: the provider's firewall, a router; and at its other firewall rules"


# Rendering


def _widths(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how wide the columns of long texts may be, so that a line of the table fits."""
    names = sum(2 + max(len(heading), *(len(row[key]) for row in rows)) for key, heading in _COLUMNS.items() if key not in ("found", "wanted"))
    return {"found": max(_FOUND_WIDTH_MIN, _LINE_WIDTH - names - 2 - _WANTED_WIDTH), "wanted": _WANTED_WIDTH}


def _advice(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what to do, each advice once with the hosts that it is for."""
    hosts: dict[tuple[str, str], list[str]] = {}
    for one in findings:
        named = hosts.setdefault((one["check"], one["remedy"]), [])
        if one["host"] not in named:
            named.append(one["host"])
    lines = ["What to do:"]
    for (check, remedy), named in hosts.items():
        lines += textwrap.wrap(
            f"{check} on {', '.join(named)}: {remedy}",
            _LINE_WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
