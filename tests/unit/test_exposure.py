"""What the firewall closes, as it is; and whose sockets listen, out of a stand-in for /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import exposure, ufw_review, ufw_rules

WANTED = {"managed": True, "enabled": True}


def firewall(*rules: ufw_rules.Rule, incoming: str = "deny", **more: Any) -> dict[str, Any]:
    """Return an observed firewall with ``rules`` in both families."""
    lines = [ufw_review.tuple_line(rule) for rule in rules]
    defaults = {"incoming": incoming, "outgoing": "allow", "routed": "deny"}
    return {
        "enabled": True,
        "ipv6": True,
        "defaults": defaults,
        "rules": {"ipv4": lines, "ipv6": lines},
        "kernel": {"structure": [], "rules": []},
        **more,
    }


ALLOW = ufw_rules.Rule("allow", port="9000", proto="tcp")


@pytest.mark.parametrize(
    ("observed", "closed"),
    [
        pytest.param(firewall(), True, id="by-default"),
        pytest.param(firewall(incoming="allow"), False, id="open-by-default"),
        pytest.param(firewall(enabled=False), False, id="inactive"),
        pytest.param(firewall(kernel={"structure": ["policy of INPUT is ACCEPT"], "rules": []}), False, id="emptied-in-the-kernel"),
        pytest.param(firewall(ALLOW), False, id="a-rule"),
        pytest.param(firewall(ufw_rules.Rule("allow", port="9000", proto="tcp", source="192.0.2.7")), False, id="a-rule-for-one"),
        pytest.param(firewall(ufw_rules.Rule("limit", port="8000:9999", proto="any")), False, id="a-range"),
        pytest.param(firewall(ufw_rules.Rule("allow", port="9000", proto="udp")), True, id="another-protocol"),
        pytest.param(firewall(ufw_rules.Rule("allow", port="9001,9002", proto="tcp")), True, id="other-ports"),
        pytest.param(firewall(ufw_rules.Rule("allow", port="any", interface="lo")), True, id="loopback"),
        pytest.param(firewall(ufw_rules.Rule("deny", port="9000", proto="tcp"), ALLOW), True, id="denied-first"),
        pytest.param(firewall(ufw_rules.Rule("deny", port="9000", source="192.0.2.7"), ALLOW), False, id="denied-to-one-only"),
        pytest.param(firewall(ufw_rules.Rule("reject", port="9000", proto="tcp"), incoming="allow"), True, id="rejected"),
    ],
)
def test_what_the_firewall_closes_to_everybody(observed: dict[str, Any], closed: bool) -> None:
    assert exposure.closed(observed, 9000, "tcp") is closed


def test_f49_one_open_family_is_enough() -> None:
    observed = firewall()
    observed["rules"]["ipv6"] = [ufw_review.tuple_line(ufw_rules.Rule("allow", port="9000", proto="tcp", ipv6=True))]
    assert not exposure.closed(observed, 9000, "tcp")


def test_sockets_are_given_to_the_units_that_hold_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 111 1 0\n"
        "   1: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 222 1 0\n"
        "   2: 0100007F:2328 0100007F:9999 01 00000000:00000000 00:00000000 00000000   998        0 333 1 0\n"
    )
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(table)
    for pid, unit, inode in ((7, "icnd.service", 111), (8, "ssh.service", 222)):
        (tmp_path / f"proc/{pid}/fd").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/cgroup").write_text(f"0::/system.slice/{unit}/inner\n")
        os.symlink(f"socket:[{inode}]", tmp_path / f"proc/{pid}/fd/3")
        os.symlink("/dev/null", tmp_path / f"proc/{pid}/fd/4")
    monkeypatch.setattr(ufw_rules, "look", lambda _wanted: firewall(ufw_rules.Rule("allow", port="8080", proto="tcp")))
    monkeypatch.setattr(exposure, "_security", lambda _unit: "")

    seen = exposure.look(["icnd.service"], WANTED, root=tmp_path)

    assert seen["sockets"] == [
        {"proto": "tcp", "address": "0.0.0.0", "port": 8080, "unit": "icnd.service", "closed": False},
        {"proto": "tcp", "address": "127.0.0.1", "port": 9000, "unit": "", "closed": True},
    ]
    assert seen["units"] == {}
    assert seen["ephemeral"] == [32768, 60999]

    monkeypatch.setattr(ufw_rules, "look", None)  # it must not even be looked at
    unmanaged = exposure.look(["icnd.service"], {"managed": False}, root=tmp_path)
    assert [(one["port"], one["closed"]) for one in unmanaged["sockets"]] == [(8080, None), (9000, True)]


def test_the_score_of_a_unit_comes_with_its_causes_and_drop_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "  NAME              DESCRIPTION            EXPOSURE\n"
        "✗ PrivateNetwork=   Service has access          0.5\n"
        "✗ User=/DynamicUser= Service runs as root       0.4\n"
        "✓ UMask=            Files are private\n"
        "\n→ Overall exposure level for icnd.service: 2.3 OK :-)\n"
    )
    drop_in = tmp_path / "etc/systemd/system/icnd.service.d/open.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nPrivateTmp=no\n")
    monkeypatch.setattr(ufw_rules, "look", lambda _wanted: firewall())
    monkeypatch.setattr(exposure, "_security", lambda _unit: said)

    seen = exposure.look(["icnd.service"], WANTED, root=tmp_path)["units"]["icnd.service"]

    assert seen["score"] == 2.3
    assert seen["causes"][0] == "PrivateNetwork="
    assert seen["drop_ins"] == ["/etc/systemd/system/icnd.service.d/open.conf"]
