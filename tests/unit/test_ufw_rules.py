# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall's thinking: reading UFW's files, comparing the kernel with them, and what must change.

data/ufw holds what ufw 0.36.2 wrote for one rule of every form it knows, and what iptables-save 1.8.9 printed of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import ufw_access, ufw_review, ufw_rules
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.programs import Said
from ansible_collections.hearth.fleet.plugins.module_utils.ufw_access import Connection
from ansible_collections.hearth.fleet.plugins.module_utils.ufw_rules import Rule

DATA = Path(__file__).parent / "data/ufw"
DEFAULTS = {"incoming": "deny", "outgoing": "allow", "routed": "deny"}
SSH = {"owner": "host/ssh", "port": "22", "proto": "tcp", "action": "limit"}
NODE = {"owner": "node/libp2p", "port": "4001"}
ANY4, ANY6 = "0.0.0.0/0", "::/0"


def wanted(*rules: Mapping[str, str], **settings: Any) -> dict[str, Any]:
    return {"enabled": True, "defaults": DEFAULTS, "ipv6": True, "logging": "low", "exclusive": False, "rules": list(rules), **settings}


def line(text: str, owner: str = "", comment: str = "") -> str:
    comment = f"hearth:{owner}" if owner else comment
    return f"### tuple ### {text}" + (f" comment={comment.encode().hex()}" if comment else "")


def observed(rules4: Sequence[str] = (), rules6: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
    return {
        "installed": True,
        "enabled": True,
        "boot": True,
        "defaults": DEFAULTS,
        "ipv6": True,
        "ipv6_kernel": True,
        "logging": "low",
        "rules": {"ipv4": list(rules4), "ipv6": list(rules6)},
        "kernel": {"structure": [], "rules": []},
        **settings,
    }


def said(wanted_: Mapping[str, Any], observed_: Mapping[str, Any]) -> list[str]:
    return [str(difference) for difference in ufw_rules.diff(wanted_, observed_)]


NODE4 = line(f"allow any 4001 {ANY4} any {ANY4} in", "node/libp2p")
NODE6 = line(f"allow any 4001 {ANY6} any {ANY6} in", "node/libp2p")
SSH4 = line(f"limit tcp 22 {ANY4} any {ANY4} in", "host/ssh")
SSH6 = line(f"limit tcp 22 {ANY6} any {ANY6} in", "host/ssh")
FOREIGN4 = line(f"allow tcp 80,443 {ANY4} any {ANY4} WWW%20Full - in")


# --- Parsing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param(f"allow tcp 22 {ANY4} any {ANY4} in", "allow 22/tcp from any [foreign]", id="plain"),
        pytest.param(f"allow tcp 22 {ANY4} any {ANY4}", "allow 22/tcp from any [foreign]", id="old-format"),
        pytest.param(f"deny any any {ANY4} any 9.9.9.9 in", "deny anything from 9.9.9.9 [foreign]", id="address"),
        pytest.param("allow tcp 9100 10.1.2.3 any 10.0.0.7/8 in", "allow 9100/tcp from 10.0.0.0/8 to 10.1.2.3 [foreign]", id="network"),
        pytest.param(f"allow tcp 81 {ANY4} any {ANY4} in_eth0", "allow 81/tcp from any on eth0 [foreign]", id="interface"),
        pytest.param(f"deny tcp 99 {ANY4} any {ANY4} out", "deny out 99/tcp from any [foreign]", id="out"),
        pytest.param(
            f"route:allow tcp 80 10.0.0.1 any {ANY4} in_eth0!out_eth1",
            "route allow 80/tcp from any to 10.0.0.1 on eth0 out on eth1 [foreign]",
            id="route",
        ),
        pytest.param(f"limit_log-all tcp 104 {ANY4} any {ANY4} in", "limit log-all 104/tcp from any [foreign]", id="log"),
        pytest.param(f"allow esp any {ANY4} any {ANY4} in", "allow esp from any [foreign]", id="protocol"),
        pytest.param(f"allow tcp 80,443 {ANY4} any {ANY4} WWW%20Full - in", "allow 80,443/tcp from any [profile WWW Full] [foreign]", id="app"),
        pytest.param(f"allow udp 9 {ANY4} 99 {ANY4} in", "allow 9/udp from any port 99 [foreign]", id="source-port"),
        pytest.param(f"allow tcp 1 {ANY4} any 10.0.0.0/255.0.255.0 in", "allow 1/tcp from 10.0.0.0/255.0.255.0 [foreign]", id="odd-netmask"),
    ],
)
def test_tuple_lines_are_read(text: str, read: str) -> None:
    rule = ufw_rules.parse_tuple(text, ipv6=False)
    assert rule is not None
    assert rule.text == read


def test_the_comment_tells_whose_a_rule_is() -> None:
    ours, foreign = ufw_rules.parse_rules("\n".join([NODE4, line(f"allow any 1 {ANY4} any {ANY4} in", comment="it's hearth: ünï")]), ipv6=False)
    assert (ours.owner, ours.service, ours.comment) == ("node/libp2p", "node", "")
    assert (foreign.owner, foreign.comment) == ("", "it's hearth: ünï")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("allow tcp 22", id="too-short"),
        pytest.param("allow tcp 22 any any any in in in in", id="too-long"),
        pytest.param(f"allow tcp 22 {ANY4} any {ANY4} sideways", id="direction"),
    ],
)
def test_malformed_lines_are_left_out_as_ufw_does(text: str) -> None:
    assert ufw_rules.parse_tuple(text, ipv6=False) is None


@pytest.mark.parametrize("name", ["user.rules", "user6.rules"])
def test_every_form_of_rule_survives_the_way_there_and_back(name: str) -> None:
    rules = ufw_rules.parse_rules((DATA / name).read_text(), ipv6="6" in name)
    assert len(rules) > 20
    again = "\n".join(ufw_review.tuple_line(rule) for rule in rules)
    assert ufw_rules.parse_rules(again, ipv6="6" in name) == rules


# --- What is wanted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "ipv4", "ipv6"),
    [
        pytest.param(NODE, ["allow 4001 from any"], ["allow 4001 from any"], id="f49-anywhere-is-both-families"),
        pytest.param({**NODE, "source": "192.0.2.7/32"}, ["allow 4001 from 192.0.2.7"], [], id="ipv4-address"),
        pytest.param({**NODE, "source": "192.0.2.7/24"}, ["allow 4001 from 192.0.2.0/24"], [], id="ipv4-network"),
        pytest.param({**NODE, "source": "2001:DB8::/32"}, [], ["allow 4001 from 2001:db8::/32"], id="ipv6-network"),
        pytest.param({**NODE, "source": ANY4}, ["allow 4001 from any"], [], id="all-of-ipv4"),
        pytest.param(
            {**NODE, "port": "8000:8010", "source": "192.0.2.7"},
            ["allow 8000:8010/tcp from 192.0.2.7", "allow 8000:8010/udp from 192.0.2.7"],
            [],
            id="a-range-needs-a-protocol",
        ),
        pytest.param({**NODE, "interface": "wg0", "source": "10.0.0.1"}, ["allow 4001 from 10.0.0.1 on wg0"], [], id="interface"),
    ],
)
def test_wanted_rules(rule: dict[str, str], ipv4: list[str], ipv6: list[str]) -> None:
    rules = ufw_rules.wanted_rules(wanted(rule, rule))
    texts = {family: [one.text.removesuffix(" (node/libp2p)") for one in ones] for family, ones in rules.items()}
    assert texts == {"ipv4": ipv4, "ipv6": ipv6}


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        pytest.param({"port": "0"}, "port '0' is not a port; write 4001, 8000:8010 or any", id="zero"),
        pytest.param({"port": "70000"}, "port '70000' is not a port", id="too-high"),
        pytest.param({"port": "20:10"}, "port '20:10' is not a port", id="backwards"),
        pytest.param({"port": "http"}, "port 'http' is not a port", id="name"),
        pytest.param({"source": "example.org"}, "source 'example.org' is not an address; write any, 192.0.2.7", id="source"),
        pytest.param({"interface": "eth0:1"}, "interface 'eth0:1' is not the name of an interface", id="interface"),
        pytest.param({"owner": "a b"}, "'a b' cannot mark a rule; an owner is made of letters", id="owner"),
    ],
)
def test_rules_that_cannot_be_are_named(rule: dict[str, str], problem: str) -> None:
    with pytest.raises(FleetError) as error:
        ufw_rules.wanted_rules(wanted({**NODE, **rule}))
    assert problem in str(error.value)
    assert repr(rule.get("owner", "node/libp2p")) in str(error.value)


A, B, C, OLD = (Rule("allow", port=port, owner=f"node/{port}") for port in ("1", "2", "3", "4"))
F, G = Rule("deny", source="192.0.2.1"), Rule("allow", port="80")


@pytest.mark.parametrize(
    ("present", "ours", "exclusive", "result"),
    [
        pytest.param([], [A, B], False, [A, B], id="fresh"),
        pytest.param([F, A, G], [A, B], False, [F, A, B, G], id="missing-goes-behind-its-predecessor"),
        pytest.param([F, B, G], [A, B], False, [F, A, B, G], id="missing-first"),
        pytest.param([F, A, OLD, G, B], [A, B], False, [F, A, G, B], id="f52-stale-goes"),
        pytest.param([F, A, G, A], [A], False, [F, A, G], id="twice"),
        pytest.param([F, B, A, G], [A, B], False, [F, G, A, B], id="order"),
        pytest.param([F, A, G], [A], True, [A], id="f51-exclusive"),
        pytest.param([F, G], [A, B], False, [F, G, A, B], id="f51-foreign-first"),
    ],
)
def test_arrange(present: list[Rule], ours: list[Rule], exclusive: bool, result: list[Rule]) -> None:
    assert ufw_rules.arrange(present, ours, exclusive=exclusive) == result
    assert ufw_rules.arrange(result, ours, exclusive=exclusive) == result


# --- The difference --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("want", "there", "differences"),
    [
        pytest.param(wanted(SSH, NODE), observed([SSH4, NODE4], [SSH6, NODE6]), [], id="clean"),
        pytest.param(wanted(SSH), observed([SSH4, FOREIGN4], [SSH6]), [], id="f51-foreign-is-clean"),
        pytest.param(wanted(NODE), observed(), ["allow 4001 from any (node/libp2p): missing"], id="missing"),
        pytest.param(wanted(NODE), observed([NODE4]), ["IPv6 only: allow 4001 from any (node/libp2p): missing"], id="f49-missing-in-ipv6"),
        pytest.param(wanted(), observed([NODE4], [NODE6]), ["allow 4001 from any (node/libp2p): stale"], id="f52-stale"),
        pytest.param(
            wanted(exclusive=True),
            observed([FOREIGN4]),
            ["IPv4 only: allow 80,443/tcp from any [profile WWW Full] [foreign]: foreign"],
            id="exclusive",
        ),
        pytest.param(
            wanted({**NODE, "owner": "node/p2p"}),
            observed([NODE4], [NODE6]),
            ["allow 4001 from any (node/p2p): missing", "allow 4001 from any (node/libp2p): stale"],
            id="renamed",
        ),
        pytest.param(
            wanted(SSH, NODE),
            observed([NODE4, SSH4], [SSH6, NODE6]),
            ["ipv4 rules: in another order than wanted"],
            id="order",
        ),
        pytest.param(wanted(), observed(enabled=False), ["ufw: is inactive"], id="inactive"),
        pytest.param(wanted(), observed(boot=False), ["ufw.service: does not start at boot"], id="boot"),
        pytest.param(wanted(), observed(logging="off"), ["logging: is off, wanted low"], id="logging"),
        pytest.param(wanted(), observed(ipv6=False), ["IPv6: is off, wanted on"], id="f49-ipv6-off"),
        pytest.param(wanted(NODE, ipv6=False), observed([NODE4], ipv6=False), [], id="without-ipv6"),
        pytest.param(
            wanted(), observed(defaults={**DEFAULTS, "incoming": "allow"}), ["default incoming: is allow, wanted deny"], id="default-policy"
        ),
        pytest.param(
            wanted(),
            observed(kernel={"structure": ["policy"], "rules": ["chain"]}),
            ["ufw: the kernel does not hold what /etc/ufw says: policy (and 1 more)"],
            id="kernel",
        ),
        pytest.param(wanted(SSH, enabled=False), observed(enabled=False, boot=False), [], id="not-wanted-and-off"),
        pytest.param(wanted(enabled=False), observed([NODE4]), ["ufw: is active, wanted inactive"], id="not-wanted-and-on"),
    ],
)
def test_diff(want: dict[str, Any], there: dict[str, Any], differences: list[str]) -> None:
    assert said(want, there) == differences


def test_differences_carry_service_and_action() -> None:
    missing, host = ufw_rules.diff(wanted(NODE, SSH), observed())
    assert (missing.service, missing.action) == ("node", "add")
    assert (host.service, host.action) == ("", "add")


def test_the_target_has_no_difference() -> None:
    """What `describe_target` promises is what `diff` finds nothing wrong with."""
    want, there = wanted(SSH, NODE), observed([FOREIGN4, NODE4], [line(f"deny tcp 1 {ANY6} any {ANY6} in", "old/one")], logging="off")
    lines = {family: [ufw_review.tuple_line(rule) for rule in rules] for family, rules in ufw_rules.target_rules(want, there).items()}
    after = observed(lines["ipv4"], lines["ipv6"])
    assert said(want, after) == []
    assert ufw_review.describe(after) == ufw_review.describe_target(want, there)


def test_description_is_a_readable_list() -> None:
    there = observed([SSH4, FOREIGN4], [SSH6])
    assert ufw_review.describe(there).splitlines()[-2:] == [
        "IPv4 only: allow 80,443/tcp from any [profile WWW Full] [foreign]",
        "limit 22/tcp from any (host/ssh)",
    ]


# --- The kernel ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("files", "saved"), [("user.rules", "iptables-save.txt"), ("user6.rules", "ip6tables-save.txt")])
def test_the_kernel_holds_every_form_of_rule(files: str, saved: str) -> None:
    table = ufw_rules.parse_table((DATA / saved).read_text())
    assert ufw_rules.rule_problems(table, ufw_rules.parse_table((DATA / files).read_text())) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        pytest.param("-A ufw-user-input -p tcp -m tcp --dport 25 -j DROP\n", "", "ufw-user-input lacks '-p tcp --dport 25 -j DROP'", id="deleted"),
        pytest.param("--dport 25 -j DROP", "--dport 25 -j ACCEPT", "ufw-user-input lacks '-p tcp --dport 25 -j DROP'", id="edited"),
        pytest.param(
            "-A ufw-user-input -s 9.9.9.9/32 -j DROP\n",
            "-A ufw-user-input -j ACCEPT\n-A ufw-user-input -s 9.9.9.9/32 -j DROP\n",
            "ufw-user-input holds '-j ACCEPT'",
            id="inserted",
        ),
        pytest.param(
            "-A ufw-user-input -s 9.9.9.9/32 -j DROP\n",
            "-A ufw-user-input -s 9.9.9.9/32 -j DROP\n" * 2,
            "ufw-user-input holds its rules in another order or number",
            id="doubled",
        ),
    ],
)
def test_a_person_who_edits_the_kernel_is_noticed(old: str, new: str, problem: str) -> None:
    saved = (DATA / "iptables-save.txt").read_text()
    assert old in saved
    table = ufw_rules.parse_table(saved.replace(old, new))
    problems = ufw_rules.rule_problems(table, ufw_rules.parse_table((DATA / "user.rules").read_text()))
    assert any(one.startswith(problem) for one in problems), problems


def test_a_stopped_firewall_is_noticed() -> None:
    files = ufw_rules.parse_table((DATA / "user.rules").read_text())
    assert "chain ufw-user-input is missing" in ufw_rules.rule_problems(ufw_rules.parse_table("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"), files)


FRAME = "*filter\n:ufw-before-input - [0:0]\n-A ufw-before-input -i lo -j ACCEPT\nCOMMIT\n*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        pytest.param("", "", "", id="clean"),
        pytest.param(":INPUT DROP", ":INPUT ACCEPT", "policy of INPUT (ufw) is ACCEPT, not DROP", id="policy"),
        pytest.param("-A FORWARD -j ufw-track-forward\n", "", "FORWARD does not go through all chains of ufw", id="jump"),
        pytest.param("-A INPUT -j ufw-before-input\n", "-A INPUT -j DOCKER\n-A INPUT -j ufw-before-input\n", "", id="f51-others-in-between"),
        pytest.param(
            "-A ufw-before-input -j ufw-user-input\n", "", "ufw-before-input does not go to ufw-user-input", id="user-rules-are-not-reached"
        ),
        pytest.param("-A ufw-before-input", "-A other", "ufw-before-input lacks rules", id="flushed"),
    ],
)
def test_frame_problems(old: str, new: str, problem: str) -> None:
    table = ufw_rules.parse_table((DATA / "iptables-save.txt").read_text().replace(old, new) if old else (DATA / "iptables-save.txt").read_text())
    problems = ufw_rules.frame_problems(table, "ufw", DEFAULTS, ufw_rules.parse_table(FRAME))
    assert problem in problems if problem else problems == []


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        pytest.param("-p udp --dport 26 -j REJECT", "-p udp -m udp --dport 26 -j REJECT --reject-with icmp-port-unreachable", id="reject"),
        pytest.param("-p tcp -d 10.1.2.3 --dport 1 -s 10.0.0.7", "-s 10.0.0.7/32 -d 10.1.2.3/32 -p tcp -m tcp --dport 1", id="addresses"),
        pytest.param("-s 2001:db8::1:2/64", "-s 2001:db8::/64", id="host-bits"),
        pytest.param("-p ah -j ACCEPT", "-p 51 -j ACCEPT", id="protocol-number"),
        pytest.param("-m limit --limit 3/minute -j LOG", "-m limit --limit 3/min -j LOG", id="limit"),
        pytest.param('-j LOG --log-prefix "[UFW BLOCK] "', '-j LOG --log-prefix "[UFW BLOCK] "', id="prefix"),
        pytest.param("-m comment --comment 'dapp_A'", "-m comment --comment \"\\'dapp_A\\'\"", id="quotes-kept-by-iptables"),
        pytest.param("-m comment --comment 'dapp_A'", "-m comment --comment dapp_A", id="quotes-dropped-by-iptables"),
    ],
)
def test_two_spellings_of_one_rule(written: str, printed: str) -> None:
    assert ufw_rules.canonical(written) == ufw_rules.canonical(printed)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("-p tcp --dport 1", "-p tcp --sport 1", id="port"),
        pytest.param("-s 10.0.0.1", "! -s 10.0.0.1", id="negation"),
        pytest.param("-p udp -j REJECT", "-p udp -j DROP", id="target"),
        pytest.param("-s 10.0.0.0/8", "-s 10.0.0.0/9", id="network"),
    ],
)
def test_two_rules_are_not_one(one: str, other: str) -> None:
    assert ufw_rules.canonical(one) != ufw_rules.canonical(other)


# --- Observation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's files with UFW active, its rules one of every form."""
    files = {
        "usr/sbin/ufw": "",
        "etc/default/ufw": 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\nDEFAULT_FORWARD_POLICY="DROP"\nIPT_MODULES=""\n',
        "etc/ufw/ufw.conf": "# a comment\nENABLED=yes\nLOGLEVEL=low\n",
        "etc/systemd/system/multi-user.target.wants/ufw.service": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("user.rules", "user6.rules"):
        (tmp_path / "etc/ufw" / name).write_text((DATA / name).read_text())
    return tmp_path


def saved(argv: Sequence[str]) -> Said:
    return Said(0, (DATA / f"{argv[0]}.txt").read_text(), "")


def test_look_reads_the_host(root: Path) -> None:
    seen = ufw_rules.look(wanted(), str(root), saved)
    assert seen["kernel"] == {"structure": [], "rules": []}
    assert (seen["installed"], seen["enabled"], seen["boot"], seen["ipv6"], seen["logging"]) == (True, True, True, True, "low")
    assert seen["defaults"] == DEFAULTS
    assert "limit 22/tcp from any (host/ssh): stale" in said(wanted(), seen)


def test_look_before_anything_is_installed(tmp_path: Path) -> None:
    seen = ufw_rules.look(wanted(NODE), str(tmp_path), saved)
    differences = said(wanted(NODE), seen)
    assert differences[:3] == ["ufw: is not installed", "ufw: is inactive", "ufw.service: does not start at boot"]
    assert "allow 4001 from any (node/libp2p): missing" in differences
    assert ufw_review.describe(seen) == "ufw is not installed\n"
    assert "allow 4001 from any (node/libp2p)\n" in ufw_review.describe_target(wanted(NODE), seen)


def test_look_survives_a_kernel_that_cannot_be_read(root: Path) -> None:
    seen = ufw_rules.look(wanted(), str(root), lambda _argv: Said(4, "", "Permission denied\n"))
    assert "iptables-save failed: Permission denied" in seen["kernel"]["structure"]


def test_look_starts_no_program_where_the_firewall_is_off(root: Path) -> None:
    (root / "etc/ufw/ufw.conf").write_text("ENABLED=no\n")
    ufw_rules.look(wanted(), str(root), lambda _argv: pytest.fail("a program was started"))


def test_a_masked_service_does_not_start_at_boot(root: Path) -> None:
    (root / "etc/systemd/system/ufw.service").symlink_to("/dev/null")
    assert not ufw_rules.look(wanted(), str(root), saved)["boot"]


def test_diff_does_not_change_what_it_is_given() -> None:
    want, there = wanted(SSH, NODE), observed([NODE4, FOREIGN4], [NODE6])
    before = copy.deepcopy((want, there))
    ufw_rules.diff(want, there)
    assert (want, there) == before


# --- The connection --------------------------------------------------------------------------------------------------

V4 = Connection("192.0.2.7", 50000, "198.51.100.1", 22, "eth0")
V6 = Connection("2001:db8::7", 50000, "2001:db8:1::1", 22, "eth0")


@pytest.mark.parametrize(
    ("rules", "connection", "kept"),
    [
        pytest.param([SSH], V4, True, id="f48-limit"),
        pytest.param([SSH], V6, True, id="f48-ipv6"),
        pytest.param([], V4, False, id="f48-no-rule"),
        pytest.param([{**SSH, "port": "2222"}], V4, False, id="f48-other-port"),
        pytest.param([{**SSH, "port": "2222"}], V4._replace(local_port=2222), True, id="f48-sshd-elsewhere"),
        pytest.param([{**SSH, "port": "20:30"}], V4, True, id="f48-range"),
        pytest.param([{**SSH, "proto": "udp"}], V4, False, id="f48-other-protocol"),
        pytest.param([{**SSH, "source": "192.0.2.0/24"}], V4, True, id="f48-network"),
        pytest.param([{**SSH, "source": "192.0.2.8"}], V4, False, id="f48-other-source"),
        pytest.param([{**SSH, "source": "2001:db8::/32"}], V4, False, id="f48-ipv6-only"),
        pytest.param([{**SSH, "source": "192.0.2.0/24"}], V6, False, id="f48-ipv4-only"),
        pytest.param([{**SSH, "action": "deny", "source": "192.0.2.7"}, SSH], V4, False, id="f48-denied-first"),
        pytest.param([SSH, {**SSH, "action": "deny", "source": "192.0.2.7"}], V4, True, id="f48-denied-later"),
        pytest.param([{**SSH, "interface": "eth0"}], V4, True, id="f48-its-interface"),
        pytest.param([{**SSH, "interface": "wg0"}], V4, False, id="f48-other-interface"),
        pytest.param([{**SSH, "interface": "eth0"}], V4._replace(interface=""), False, id="f48-unknown-interface-is-no-promise"),
        pytest.param(
            [{**SSH, "action": "deny", "interface": "wg0"}, SSH], V4._replace(interface=""), False, id="f48-unknown-interface-may-be-denied"
        ),
        pytest.param([], V4._replace(peer="127.0.0.1"), True, id="loopback"),
        pytest.param([], V4._replace(peer="198.51.100.1"), True, id="own-address"),
    ],
)
def test_rules_that_cut_the_connection_are_refused(rules: list[dict[str, str]], connection: Connection, kept: bool) -> None:
    assert (ufw_access.refusal(wanted(*rules), observed(), [connection]) == "") == kept


def test_f48_a_refusal_helps() -> None:
    said_ = ufw_access.refusal(wanted(NODE), observed(), [V4])
    rule = "{name: ssh, port: 22, proto: tcp, from: 192.0.2.7}"
    for part in (
        "nothing was changed",
        "write 22 into firewall_ssh_ports",
        "192.0.2.7 into firewall_ssh_from",
        rule,
        "firewall_keep_connection: false",
    ):
        assert part in said_


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        pytest.param({"defaults": {**DEFAULTS, "incoming": "allow"}}, True, id="open-default"),
        pytest.param({"enabled": False}, True, id="no-firewall"),
        pytest.param({"ipv6": False, "rules": [SSH]}, False, id="f48-ipv6-switched-off"),
    ],
)
def test_settings_decide_too(settings: dict[str, Any], kept: bool) -> None:
    assert (ufw_access.refusal({**wanted(), **settings}, observed(), [V6]) == "") == kept


def test_foreign_rules_count_too() -> None:
    let_in = line(f"allow tcp 22 {ANY4} any {ANY4} in")
    assert ufw_access.refusal(wanted(), observed([let_in]), [V4]) == ""
    assert ufw_access.refusal(wanted(exclusive=True), observed([let_in]), [V4]) != ""
    blocked = line(f"deny any any {ANY4} any 192.0.2.7 in")
    assert ufw_access.refusal(wanted(SSH), observed([blocked]), [V4]) != ""


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param(f"allow tcp 22 {ANY4} 1000 {ANY4} in", False, id="source-port-is-no-promise"),
        pytest.param(f"allow tcp 22 {ANY4} any 10.0.0.0/255.0.255.0 in", False, id="odd-netmask-is-no-promise"),
        pytest.param(f"allow tcp 22 198.51.100.1 any {ANY4} in", True, id="our-address"),
        pytest.param(f"allow tcp 22 198.51.100.2 any {ANY4} in", False, id="another-address"),
        pytest.param(f"allow tcp 22 {ANY4} any {ANY4} out", False, id="out"),
        pytest.param(f"route:allow tcp 22 {ANY4} any {ANY4} in", False, id="routed"),
    ],
)
def test_f48_foreign_rules_are_judged_with_caution(text: str, kept: bool) -> None:
    assert (ufw_access.refusal(wanted(), observed([line(text)]), [V4]) == "") == kept
