# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a host as a person reads it: short where much differs, and nothing left away."""

from __future__ import annotations

from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import host_tools, plan_text
from ansible_collections.hearth.fleet.plugins.module_utils.plan import AREAS


def difference(item: str, reason: str, service: str = "", action: str = "") -> dict[str, str]:
    return {"item": item, "reason": reason, "service": service, "action": action}


def planned(**areas: list[dict[str, str]]) -> dict[str, Any]:
    return {**{key: [] for key in (*AREAS, "rollout", "follows", "staged", "waits")}, **areas}


def test_nothing_differs() -> None:
    assert plan_text.render(planned()) == ""


def test_what_differs_for_one_reason_stands_together() -> None:
    absent, rule = "does not exist", "missing"
    text = plan_text.render(
        planned(
            account=[difference("user nats", absent), difference("/var/lib/nats", "mode 0777, not 0750"), difference("user icn", absent)],
            firewall=[difference("ufw", "is inactive"), difference("allow 22/tcp from any", rule), difference("allow 4222/tcp from any", rule)],
            rollout=[difference("nats.service", "not running (inactive)", "nats", "start")],
            follows=[difference("icnd.service", "config /etc/icn/icn.toml changed", "icnd", "restart")],
            staged=[difference("icnd.service", "0.2.0 runs, 0.3.0 is installed", "icnd")],
        )
    )
    assert text.splitlines() == [
        "account              does not exist: user nats, user icn",
        "                     mode 0777, not 0750: /var/lib/nats",
        "firewall             is inactive: ufw",
        "                     missing:",
        "                       allow 22/tcp from any",
        "                       allow 4222/tcp from any",
        "start                not running (inactive): nats.service",
        "then restart         config /etc/icn/icn.toml changed: icnd.service",
        "waits for a rollout  icnd.service: 0.2.0 runs, 0.3.0 is installed",
    ]


def test_long_lists_go_on_below_and_no_path_is_broken() -> None:
    paths = [f"/var/lib/kontinuum-node/a-directory-of-some-length/{number}" for number in range(9)]
    lines = plan_text.render(planned(account=[difference(path, "does not exist") for path in paths])).splitlines()
    assert len(lines) > 1
    assert all(line.startswith(" " * len("account    ")) for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == f"account does not exist: {', '.join(paths)}"


def test_the_collection_s_own_programs_are_one_item() -> None:
    home = host_tools.SOURCES_HOME
    of_units = [
        difference("/usr/local/lib/hearth", "does not exist"),
        *(difference(f"{home}/{name}", "does not exist") for name in ("a.py", "b.py", "c.py")),
        difference(f"{home}/d.py", "content differs"),
        difference("/usr/local/lib/hearthstone", "does not exist"),
    ]
    assert [f"{one['item']}: {one['reason']}" for one in plan_text.summed(of_units)] == [
        "4 files and directories of this collection's own in /usr/local/lib/hearth: does not exist",
        f"{home}/d.py: content differs",
        "/usr/local/lib/hearthstone: does not exist",
    ]


def test_rules_that_differ_in_their_source_alone_are_one_item() -> None:
    rules = [
        difference("allow 4222/tcp from 192.0.2.1 (nats/client)", "missing", "nats"),
        difference("allow 4222/tcp from 2001:db8::1 (nats/client)", "missing", "nats"),
        difference("allow 4222/tcp from 192.0.2.9 (nats/client)", "stale", "nats"),
        difference("IPv6 only: allow 22/tcp from any (host/ssh)", "missing"),
        difference("ufw", "is inactive"),
    ]
    assert [f"{one['item']}: {one['reason']}" for one in plan_text.summed(rules)] == [
        "allow 4222/tcp from 192.0.2.1, 2001:db8::1 (nats/client): missing",
        "allow 4222/tcp from 192.0.2.9 (nats/client): stale",
        "IPv6 only: allow 22/tcp from any (host/ssh): missing",
        "ufw: is inactive",
    ]
