# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewall for a person to read, as it is and as it is wanted: what ``--diff`` shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.ufw_rules import (
    ANYWHERE,
    DIRECTIONS,
    TUPLE,
    Rule,
    encode_comment,
    observed_rules,
    rule_lines,
    target_rules,
)


def describe(observed: Mapping[str, Any]) -> str:
    """Return an observed firewall for a person to read: its settings, then its rules, sorted, one per line."""
    if not observed["installed"]:
        return "ufw is not installed\n"
    drift = [*observed["kernel"]["structure"], *observed["kernel"]["rules"]]
    lines = [
        "active" if observed["enabled"] else "inactive",
        "starts at boot" if observed["boot"] else "does not start at boot",
        *(f"default {direction}: {observed['defaults'][direction]}" for direction in DIRECTIONS),
        f"IPv6: {'on' if observed['ipv6'] else 'off'}",
        f"logging: {observed['logging']}",
        *(f"kernel: {problem}" for problem in drift),
        *(text for text, _service in rule_lines(observed_rules(observed))),
    ]
    return "\n".join(lines) + "\n"


def describe_target(wanted: Mapping[str, Any], observed: Mapping[str, Any]) -> str:
    """Return the wanted firewall in the words of `describe`."""
    if not wanted["enabled"]:
        return describe({**observed, "enabled": False})
    target = {family: [tuple_line(rule) for rule in rules] for family, rules in target_rules(wanted, observed).items()}
    settings = {name: wanted[name] for name in ("enabled", "defaults", "ipv6", "logging")}
    kernel: dict[str, list[str]] = {"structure": [], "rules": []}
    return describe({**observed, **settings, "installed": True, "boot": True, "rules": target, "kernel": kernel})


def tuple_line(rule: Rule) -> str:
    """Return a rule as the line of UFW's file that `parse_tuple` reads back as the same rule."""
    anywhere = ANYWHERE["ipv6" if rule.ipv6 else "ipv4"]
    source, destination = (anywhere if address == "any" else address for address in (rule.source, rule.destination))
    action = ("route:" if rule.routed else "") + rule.action + (f"_{rule.log}" if rule.log else "")
    if rule.interface and rule.interface_out:
        direction = f"in_{rule.interface}!out_{rule.interface_out}"
    else:
        direction = "_".join(filter(None, (rule.direction, rule.interface or rule.interface_out)))
    apps = [app.replace(" ", "%20") or "-" for app in (rule.app, rule.source_app)] if rule.app or rule.source_app else []
    comment = encode_comment(rule.owner) if rule.owner else rule.comment.encode().hex()
    words = [TUPLE, action, rule.proto, rule.port, destination, rule.source_port, source, *apps, direction]
    return " ".join(words) + (f" comment={comment}" if comment else "")
