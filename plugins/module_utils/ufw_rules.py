# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the firewall of a host is like and what it should be like: UFW's files, its rules, and the kernel's copy of them.

`look` reads a host, `diff` compares; neither changes anything. A rule whose UFW comment is ``hearth:<owner>`` is ours;
every other rule is foreign.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

from ansible_collections.hearth.fleet.plugins.module_utils import firewall_formats, programs
from ansible_collections.hearth.fleet.plugins.module_utils.difference import Difference
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.programs import Said

OWNER_MARK = "hearth:"
FAMILIES = ("ipv4", "ipv6")
DIRECTIONS = {"incoming": "INPUT", "outgoing": "OUTPUT", "routed": "FORWARD"}
POLICIES = {"ACCEPT": "allow", "DROP": "deny", "REJECT": "reject"}
ANYWHERE = {"ipv4": "0.0.0.0/0", "ipv6": "::/0"}

TUPLE = "### tuple ###"
_SETTING = re.compile(r'^(\w+)="?(\w+)"?')

# How iptables-save may name the protocols that UFW knows, with or without /etc/protocols.
_PROTOCOLS = {"2": "igmp", "41": "ipv6", "47": "gre", "50": "esp", "51": "ah", "112": "vrrp", "6": "tcp", "17": "udp"}
# What iptables-save spells out although it is the default, and what UFW writes although it says nothing.
_SILENT = {
    ("--name", "DEFAULT"),
    ("--mask", "255.255.255.255"),
    ("--mask", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("--rsource",),
    ("--reject-with", "icmp-port-unreachable"),
    ("--reject-with", "icmp6-port-unreachable"),
}


# A tuple, because Python compiles a dataclass when it is declared: with so many fields in 4 ms, on every host at every call.
class Rule(NamedTuple):
    """One rule as it stands in one of UFW's two files. Addresses are canonical; ``any`` stands for "not restricted".

    ``owner`` is empty for foreign rules, whose decoded comment is ``comment``. ``log`` is ``""``, ``log`` or ``log-all``.
    """

    action: str
    port: str = "any"
    proto: str = "any"
    source: str = "any"
    interface: str = ""
    owner: str = ""
    ipv6: bool = False
    destination: str = "any"
    source_port: str = "any"
    interface_out: str = ""
    direction: str = "in"
    routed: bool = False
    log: str = ""
    app: str = ""
    source_app: str = ""
    comment: str = ""

    @property
    def text(self) -> str:
        """The rule for a person to read, without its family: ``allow 4001/tcp from any (node/libp2p)``."""
        words = ["route"] if self.routed else []
        words.append(self.action)
        if self.log:
            words.append(self.log)
        if self.direction == "out":
            words.append("out")
        words.append(_port_text(self.port, self.proto))
        words += ["from", self.source]
        if self.source_port != "any":
            words += ["port", self.source_port]
        if self.destination != "any":
            words += ["to", self.destination]
        if self.interface:
            words += ["on", self.interface]
        if self.interface_out:
            words += ["out on", self.interface_out]
        apps = ", ".join(filter(None, (self.app, self.source_app)))
        if apps:
            words.append(f"[profile {apps}]")
        if self.owner:
            words.append(f"({self.owner})")
        else:
            words.append(f"[foreign: {self.comment}]" if self.comment else "[foreign]")
        return " ".join(words)

    @property
    def service(self) -> str:
        """The service that the rule belongs to; empty for rules of the host itself and for foreign ones."""
        service = self.owner.partition("/")[0]
        return "" if service == "host" else service


def _port_text(port: str, proto: str) -> str:
    if port == "any":
        return "anything" if proto == "any" else proto
    return port if proto == "any" else f"{port}/{proto}"


# --- Reading UFW's files ---------------------------------------------------------------------------------------------


def parse_settings(text: str) -> dict[str, str]:
    """Return the ``NAME=value`` lines of ufw.conf or default/ufw, without quotes."""
    found = (_SETTING.match(line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def parse_rules(text: str, *, ipv6: bool) -> list[Rule]:
    """Return the rules of a user.rules or user6.rules, in their order. Malformed ones are left out, as UFW leaves them out."""
    lines = (line[len(TUPLE) :] for line in text.splitlines() if line.startswith(TUPLE))
    rules = (parse_tuple(line, ipv6=ipv6) for line in lines)
    return [rule for rule in rules if rule is not None]


def parse_tuple(line: str, *, ipv6: bool) -> Rule | None:
    """Return the rule of one tuple line (without its ``### tuple ###``), or None when UFW would skip it as well.

    The fields are: action[_log], protocol, port, destination, source port, source, [profile, source profile,] direction.
    ``route:`` before the action marks a routed rule; the direction may carry interfaces (``in_eth0!out_eth1``).
    """
    fields, _mark, hexed = line.partition(" comment=")
    words = fields.split()
    if len(words) not in (6, 7, 8, 9):
        return None
    action, _underscore, log = words[0].rpartition(":")[2].partition("_")
    directions = _parse_direction(words[-1] if len(words) in (7, 9) else "in")
    if directions is None:
        return None
    direction, interface, interface_out = directions
    apps = [word.replace("%20", " ") if word != "-" else "" for word in words[6:8]] if len(words) >= 8 else ["", ""]
    comment = _decode(hexed.strip())
    owned = comment.startswith(OWNER_MARK)
    return Rule(
        action=action,
        proto=words[1],
        port=words[2],
        destination=_address(words[3]),
        source_port=words[4],
        source=_address(words[5]),
        direction=direction,
        interface=interface,
        interface_out=interface_out,
        routed=words[0].startswith("route:"),
        log=log,
        app=apps[0],
        source_app=apps[1],
        ipv6=ipv6,
        owner=comment[len(OWNER_MARK) :] if owned else "",
        comment="" if owned else comment,
    )


def _parse_direction(word: str) -> tuple[str, str, str] | None:
    """Return direction, incoming and outgoing interface of the last field of a tuple line."""
    parts = word.split("!")
    direction = parts[0].partition("_")[0]
    if direction not in ("in", "out"):
        return None
    interfaces = {"in": "", "out": ""}
    for part in parts:
        which, _underscore, name = part.partition("_")
        if which not in interfaces:
            return None
        interfaces[which] = name
    return direction, interfaces["in"], interfaces["out"]


def _decode(hexed: str) -> str:
    try:
        return bytes.fromhex(hexed).decode("utf-8", "replace")
    except ValueError:
        return hexed


def encode_comment(owner: str) -> str:
    """Return the comment of a rule of ours as UFW stores it."""
    return f"{OWNER_MARK}{owner}".encode().hex()


def _address(text: str) -> str:
    """Return an address or network in its canonical form; ``any`` for the whole family; what is neither, as it is."""
    if text == "any" or text in ANYWHERE.values():
        return "any"
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:  # iptables also takes netmasks with holes, and so does UFW
        return text
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


# --- What is wanted --------------------------------------------------------------------------------------------------


def wanted_rules(wanted: Mapping[str, Any]) -> dict[str, list[Rule]]:
    """Return the wanted rules of ours per family, in their order, each once.

    A rule from anywhere stands in both families, one with an address in its own; without IPv6 only IPv4 rules are left.
    Raises FleetError, naming the rule, when one cannot be written as a UFW rule.
    """
    families: dict[str, dict[Rule, None]] = {family: {} for family in FAMILIES}
    for described in wanted["rules"]:
        for rule in _rules_of(described):
            families["ipv6" if rule.ipv6 else "ipv4"][rule] = None
    return {"ipv4": list(families["ipv4"]), "ipv6": list(families["ipv6"]) if wanted["ipv6"] else []}


def _rules_of(described: Mapping[str, Any]) -> list[Rule]:
    """Return the one to four rules that one described rule becomes: per family, and per protocol where UFW wants one."""
    owner, port = described["owner"], str(described["port"])
    for _key, problem, remedy in firewall_formats.complaints(described):
        raise FleetError(f"firewall rule {owner!r}: {problem}; {remedy}")
    source = str(described.get("source") or "any")
    versions = [4, 6] if source == "any" else [ipaddress.ip_network(source, strict=False).version]
    proto = described.get("proto") or "any"
    # UFW wants a protocol where a rule has several ports.
    protos = ["tcp", "udp"] if proto == "any" and ":" in port else [proto]
    return [
        Rule(
            action=described.get("action") or "allow",
            port=port,
            proto=one,
            source=_address(source),
            interface=described.get("interface") or "",
            owner=owner,
            ipv6=version == 6,
        )
        for version in versions
        for one in protos
    ]


def arrange(present: Sequence[Rule], ours: Sequence[Rule], *, exclusive: bool) -> list[Rule]:
    """Return the rules of one family as they should stand.

    Foreign rules keep their places (or go, if ``exclusive``), rules of ours that stay keep theirs, a missing one comes right
    behind the wanted rule before it. Where ours stand in another order than wanted, they move to the end, in order.
    """
    result: list[Rule] = []
    for rule in present:
        if (rule in ours and rule not in result) if rule.owner else not exclusive:
            result.append(rule)
    kept = [rule for rule in result if rule.owner]
    if kept != [rule for rule in ours if rule in kept]:
        return [rule for rule in result if not rule.owner] + list(ours)
    for index, rule in enumerate(ours):
        if rule in kept:
            continue
        if index:
            result.insert(result.index(ours[index - 1]) + 1, rule)
        else:
            result.insert(result.index(kept[0]) if kept else len(result), rule)
    return result


def target_rules(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> dict[str, list[Rule]]:
    """Return all rules per family as they should stand in UFW's files. Files of a family that is off are left as they are."""
    ours = wanted_rules(wanted)
    present = observed_rules(observed)
    if not wanted["enabled"]:
        return present
    target = {family: arrange(present[family], ours[family], exclusive=wanted["exclusive"]) for family in FAMILIES}
    # Without IPv6, in the settings or in the kernel, UFW neither reads nor writes its IPv6 rules.
    return target if wanted["ipv6"] and observed["ipv6_kernel"] else {**target, "ipv6": present["ipv6"]}


def observed_rules(observed: Mapping[str, Any]) -> dict[str, list[Rule]]:
    """Return the rules that `look` found, per family."""
    return {family: parse_rules("\n".join(observed["rules"][family]), ipv6=family == "ipv6") for family in FAMILIES}


# --- Observation -----------------------------------------------------------------------------------------------------


def run(argv: Sequence[str], text: str = "") -> Said:
    """Run a program of the system with ``text`` on its standard input."""
    return programs.run(argv, given=text, environment={**os.environ, "LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def read(path: str) -> str:
    """Return a file's text; empty when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def look(wanted: Mapping[str, Any], root: str = "", command: Callable[..., Said] = run) -> dict[str, Any]:
    """Return what the host's firewall is like, as plain data. Changes nothing; never fails.

    UFW's files below ``root`` are read; where they say that the firewall is on, the kernel's filter tables are read too
    (two short programs), because a person can empty those without UFW noticing.
    """
    conf = parse_settings(read(f"{root}/etc/ufw/ufw.conf"))
    defaults = parse_settings(read(f"{root}/etc/default/ufw"))
    texts = {"ipv4": read(f"{root}/etc/ufw/user.rules"), "ipv6": read(f"{root}/etc/ufw/user6.rules")}
    # A removed but not purged package leaves its files in /etc.
    installed = Path(f"{root}/usr/sbin/ufw").exists() and bool(defaults)
    enabled = installed and conf.get("ENABLED", "").lower() == "yes"
    observed: dict[str, Any] = {
        "installed": installed,
        "enabled": enabled,
        "boot": _starts_at_boot(root),
        "defaults": {name: POLICIES.get(defaults.get(f"DEFAULT_{chain}_POLICY", "").upper(), "") for name, chain in DIRECTIONS.items()},
        "ipv6": defaults.get("IPV6", "").lower() == "yes",
        "ipv6_kernel": Path("/proc/sys/net/ipv6").exists(),
        "logging": conf.get("LOGLEVEL", "").lower(),
        "rules": {family: [line for line in text.splitlines() if line.startswith(TUPLE)] for family, text in texts.items()},
        "kernel": {"structure": [], "rules": []},
    }
    if enabled and wanted["enabled"]:
        observed["kernel"] = look_at_kernel(observed, f"{root}/etc/ufw", command)
    return observed


def _starts_at_boot(root: str) -> bool:
    """Whether ufw.service is enabled and not masked, as its links say."""
    units = Path(f"{root}/etc/systemd/system")
    masked = os.path.realpath(units / "ufw.service") == "/dev/null"
    return not masked and any(units.glob("*.wants/ufw.service"))


def look_at_kernel(observed: Mapping[str, Any], directory: str, command: Callable[..., Said] = run) -> dict[str, list[str]]:
    """Return where the kernel differs from UFW's files in ``directory``, in words: the frame (chains, jumps, policies) and the rules."""
    found: dict[str, list[str]] = {"structure": [], "rules": []}
    for family, suffix in (("ipv4", ""), ("ipv6", "6")):
        if family == "ipv6" and not observed["ipv6_kernel"]:
            continue
        program = f"ip{suffix}tables-save"
        said = command([program, "-t", "filter"])
        if said.status:
            found["structure"].append(f"{program} failed: {said.error.strip() or said.status}")
            continue
        table = parse_table(said.output)
        if family == "ipv6" and not observed["ipv6"]:
            if table.policies.get("INPUT") != "DROP":
                found["structure"].append("IPv6 is off in UFW, but the kernel accepts IPv6")
            continue
        frame = "\n".join(read(f"{directory}/{name}{suffix}.rules") for name in ("before", "after"))
        found["structure"] += frame_problems(table, f"ufw{suffix}", observed["defaults"], parse_table(frame))
        found["rules"] += rule_problems(table, parse_table(read(f"{directory}/user{suffix}.rules")))
    return found


# --- The kernel's filter table ---------------------------------------------------------------------------------------


class Table(NamedTuple):
    """A filter table: the policies of its built-in chains, and the rules (without ``-A chain``) of every chain."""

    policies: Mapping[str, str]
    chains: Mapping[str, list[str]]


def parse_table(text: str) -> Table:
    """Return the filter table of a text in the format of iptables-save, such as UFW's own rules files."""
    policies: dict[str, str] = {}
    chains: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif table != "filter":
            continue
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains.setdefault(name, [])
            if policy != "-":
                policies[name] = policy
        elif line.startswith(("-A ", "-I ")):
            chain, _space, rule = line[3:].partition(" ")
            rules = chains.setdefault(chain, [])
            rules.insert(0 if line.startswith("-I") else len(rules), rule)
    return Table(policies, chains)


def canonical(rule: str) -> tuple[tuple[str, ...], ...]:
    """Return an iptables rule in a form that is the same for what UFW wrote and for what iptables-save prints of it.

    Options are sorted, names of matches dropped (their options imply them), addresses and defaults made uniform.
    """
    groups: list[list[str]] = []
    # Some versions of iptables-restore keep the quotes that UFW puts around a comment.
    text = rule.replace("\\'", "").replace("'", "")
    for word in shlex.split(text) if '"' in text or "\\" in text else text.split():  # shlex takes 50 times as long
        if (word.startswith("-") and len(word) > 1) or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    uniform = (_uniform(group) for group in groups if group[0] != "-m")
    return tuple(sorted(group for group in uniform if group not in _SILENT))


def _uniform(group: Sequence[str]) -> tuple[str, ...]:
    option, values = group[0], list(group[1:])
    if option in ("-s", "-d") and values:
        values = [_address(values[0])]
    elif option == "-p" and values:
        values = [_PROTOCOLS.get(values[0], values[0])]
    elif option == "--limit" and values:
        values = [values[0].replace("/minute", "/min")]
    return (option, *(value.strip() for value in values))


def frame_problems(table: Table, prefix: str, defaults: Mapping[str, str], frame: Table) -> list[str]:
    """Return what of UFW's frame is not in the kernel: policies, jumps, and the rules of before.rules and after.rules.

    Those two files may hold anything a person wrote, so their rules are counted, not compared.
    """
    problems = []
    for direction, chain in DIRECTIONS.items():
        policy = "ACCEPT" if defaults.get(direction) == "allow" else "DROP"
        if table.policies.get(chain) != policy:
            problems.append(f"policy of {chain} ({prefix}) is {table.policies.get(chain, 'unknown')}, not {policy}")
        low = chain.lower()
        if f"-j {prefix}-user-{low}" not in table.chains.get(f"{prefix}-before-{low}", []):
            problems.append(f"{prefix}-before-{low} does not go to {prefix}-user-{low}")
    problems += jump_problems(table, prefix)
    for chain, rules in frame.chains.items():
        if len(table.chains.get(chain, [])) < len(rules):
            problems.append(f"{chain} lacks rules")
    return problems


def jump_problems(table: Table, prefix: str) -> list[str]:
    """Return the built-in chains that do not jump to every chain of UFW (``prefix`` is ufw or ufw6), in its order."""
    problems = []
    for chain in DIRECTIONS.values():
        steps = [f"{prefix}-{step}-{chain.lower()}" for step in ("before-logging", "before", "after", "after-logging", "reject", "track")]
        if [rule[3:] for rule in table.chains.get(chain, []) if rule[3:] in steps] != steps:
            problems.append(f"{chain} does not go through all chains of {prefix}")
    return problems


def rule_problems(table: Table, files: Table) -> list[str]:
    """Return the chains of a user.rules file that the kernel holds with other rules, each with the first difference."""
    problems = []
    for chain, rules in files.chains.items():
        held = table.chains.get(chain)
        if held is None:
            problems.append(f"chain {chain} is missing")
            continue
        there, wanted = [canonical(rule) for rule in held], [canonical(rule) for rule in rules]
        missing = [rule for form, rule in zip(wanted, rules) if form not in there]
        extra = [rule for form, rule in zip(there, held) if form not in wanted]
        if missing:
            problems.append(f"{chain} lacks '{missing[0]}'")
        elif extra:
            problems.append(f"{chain} holds '{extra[0]}', which is not in UFW's files")
        elif there != wanted:
            problems.append(f"{chain} holds its rules in another order or number")
    return problems


# --- The difference --------------------------------------------------------------------------------------------------


def diff(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> list[Difference]:
    """Return everything in which the observed firewall is not the wanted one."""
    if not wanted["enabled"]:
        return [Difference("ufw", "is active, wanted inactive")] if observed["enabled"] else []
    return [*_setting_differences(wanted, observed), *_rule_differences(wanted, observed), *_kernel_differences(observed)]


def _setting_differences(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> list[Difference]:
    found = []
    if not observed["installed"]:
        found.append(Difference("ufw", "is not installed", action="install"))
    if not observed["enabled"]:
        found.append(Difference("ufw", "is inactive"))
    if not observed["boot"]:
        found.append(Difference("ufw.service", "does not start at boot", action="enable"))
    found += [
        Difference(f"default {direction}", f"is {observed['defaults'][direction] or 'unknown'}, wanted {wanted['defaults'][direction]}")
        for direction in DIRECTIONS
        if observed["defaults"][direction] != wanted["defaults"][direction]
    ]
    if observed["ipv6"] != wanted["ipv6"]:
        found.append(Difference("IPv6", "is off, wanted on" if wanted["ipv6"] else "is on, wanted off"))
    if observed["logging"] != wanted["logging"]:
        found.append(Difference("logging", f"is {observed['logging'] or 'unknown'}, wanted {wanted['logging']}"))
    return found


def _rule_differences(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> list[Difference]:
    present, target = observed_rules(observed), target_rules(wanted, observed)
    missing = rule_lines({family: [rule for rule in target[family] if rule not in present[family]] for family in FAMILIES})
    extra = rule_lines({family: _surplus(present[family], target[family]) for family in FAMILIES})
    found = [Difference(text, "missing", service, "add") for text, service in missing]
    found += [Difference(text, "foreign" if text.endswith("]") else "stale", service, "remove") for text, service in extra]
    for family in FAMILIES:
        if present[family] != target[family] and sorted(present[family]) == sorted(target[family]):
            found.append(Difference(f"{family} rules", "in another order than wanted"))
    return found


def _surplus(present: Sequence[Rule], target: Sequence[Rule]) -> list[Rule]:
    """Return the present rules that the target has not, or has less often."""
    left = list(target)
    surplus = []
    for rule in present:
        if rule in left:
            left.remove(rule)
        else:
            surplus.append(rule)
    return surplus


def _kernel_differences(observed: Mapping[str, Any]) -> list[Difference]:
    problems = [*observed["kernel"]["structure"], *observed["kernel"]["rules"]]
    if not problems:
        return []
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return [Difference("ufw", f"the kernel does not hold what /etc/ufw says: {problems[0]}{more}", action="load")]


def rule_lines(rules: Mapping[str, Sequence[Rule]]) -> list[tuple[str, str]]:
    """Return the rules of both families as sorted lines with their services; what stands in both families is one line."""
    texts: dict[str, set[str]] = {}
    services: dict[str, str] = {}
    for family in FAMILIES:
        for rule in rules[family]:
            texts.setdefault(rule.text, set()).add(family)
            services[rule.text] = rule.service
    lines = []
    for text, families in sorted(texts.items()):
        one_family = len(families) == 1 and " from any" in text
        note = {"ipv4": "IPv4 only: ", "ipv6": "IPv6 only: "}[next(iter(families))] if one_family else ""
        lines.append((note + text, services[text]))
    return lines
