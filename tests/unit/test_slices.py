# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From finished specs to slices: where the secrets of a service go, and where mistakes were written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fleets
import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import slices
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, InventoryError

SECRETS = {
    "TOKEN": "of-the-environment",
    "jwt": {"value": "of-the-credential", "as": "credential"},
    "ADMIN": {"value": "of-the-request", "as": "request"},
}
ADMIN = "/etc/icnd/credentials/ADMIN"


def unread(_path: str) -> str:
    raise AssertionError("no file of the controller belongs to this service")


def service() -> dict[str, Any]:
    joined, mistakes = fleets.join(fleets.fleet(services={"icnd": fleets.changed("secrets", SECRETS)}))
    assert mistakes == []
    return joined["relay1"]["services"]["icnd"]


def test_f60_every_secret_has_a_file_for_root_alone() -> None:
    files = {file["path"]: file for file in slices.config_paths(service(), slices.Sources(unread, unread, unread), [])}
    secret = {path: file for path, file in files.items() if "secret_content" in file}
    assert {path: file["secret_content"] for path, file in secret.items()} == {
        "/etc/icnd/icnd.env": "TOKEN=of-the-environment\n",
        "/etc/icnd/credentials/jwt": "of-the-credential",
        ADMIN: "of-the-request",
    }
    assert {(file["owner"], file["group"], file["mode"]) for file in secret.values()} == {("root", "root", "0600")}


def test_a_secret_for_requests_is_nothing_to_the_daemon() -> None:
    mistakes: list[Any] = []
    spec = service()
    files = {"icnd": slices.config_paths(spec, slices.Sources(unread, unread, unread), mistakes)}
    [unit] = slices.unit_slice({"icnd": spec}, files, {"unit_exposure_max": 1.5}, mistakes)["units"]
    assert mistakes == []
    assert "LoadCredential=jwt:/etc/icnd/credentials/jwt" in unit["content"].splitlines()
    assert "ADMIN" not in unit["content"], "the daemon neither gets it nor restarts for it"
    assert unit["stamp"] == ["/etc/icn/config.toml", "/etc/icnd/icnd.env", "/etc/icnd/credentials/jwt"]


def test_bootstrap_has_the_environment_and_the_secrets_of_the_daemon() -> None:
    [one] = slices.bootstraps({**service(), "bootstrap": [{"command": ["icnd", "init"], "creates": "/var/lib/icnd/key", "timeout": 120}]})
    assert (one["environment_files"], one["credentials"]) == (["/etc/icnd/icnd.env"], ["jwt:/etc/icnd/credentials/jwt"])
    assert "of-the" not in str(one)


INPUTS: dict[str, Any] = {
    "account": {"account_operators": [], "account_operators_exclusive_keys": True},
    "release": {"release_keep": 3, "release_via": "target", "release_proxy": "", "release_timeout": "5m", "release_retries": 5},
    "unit": {"unit_exposure_max": 1.5},
    "firewall": {
        "firewall_managed": True,
        "firewall_enabled": True,
        "firewall_default_incoming": "deny",
        "firewall_default_outgoing": "allow",
        "firewall_default_routed": "deny",
        "firewall_ipv6": True,
        "firewall_logging": "low",
        "firewall_exclusive": False,
        "firewall_ssh_ports": [22],
        "firewall_ssh_from": ["any"],
        "firewall_ssh_limit": True,
        "firewall_rules": [],
        "firewall_keep_connection": True,
        "firewall_confirm_seconds": 60,
    },
    "backup": {
        "backup_store": {"endpoint": "https://s3.example.org", "bucket": "fleet"},
        "backup_recipients": [],
        "backup_access_key_id": "ID",
        "backup_secret_access_key": "key",
        "backup_bandwidth": "",
        "backup_on_failure": "",
        "backup_metrics_directory": "/var/lib/node_exporter",
        "backup_readable_credentials": "fail",
        "backup_unreachable": "warn",
    },
    "preflight": {
        **{f"preflight_{name}": None for name in ("cpus", "memory", "iops")},
        **{f"preflight_{name}": [] for name in ("architectures", "dns")},
        "preflight_disk": {},
        "preflight_clock_offset": "5s",
        "preflight_python": "3.9",
        "preflight_on_finding": {},
    },
}


RECIPIENT = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"


def missing(path: str) -> str:
    raise FleetError(f"no file {path} on the controller")


def sliced(inputs: Mapping[str, Any] | None = None, **parts: Any) -> list[str]:
    """Return what is said about a fleet by the join and by the slices of its hosts."""
    given = INPUTS if inputs is None else inputs
    fleet = fleets.fleet(**parts)
    joined, mistakes = fleets.join(fleet)
    for name, host in joined.items():
        slices.slices(name, fleets.ADDRESSES[name], host, given, slices.Sources(missing, missing, missing, fleet.addresses), mistakes)
    return [str(one) for one in InventoryError(mistakes).mistakes]


def config(**more: Any) -> list[dict[str, Any]]:
    return [{"path": "/etc/icn/config.toml", **more}]


@pytest.mark.parametrize(
    ("layer", "override", "said"),
    [
        pytest.param(
            "tier1",
            {"config": config(content={"log": {"level": "info", "peers": [None]}})},
            ["tier1.icnd.config[0].content.log.peers[0]: null has no TOML form\n  → leave the key out"],
            id="content",
        ),
        pytest.param("all", {"config": [{"path": "/x/a.txt", "content": {}}]}, ["all.icnd.config[0].content: a mapping, where"], id="another-file"),
        pytest.param("icn", {"environment": {"A": "x\x07"}}, ["icn.icnd.environment.A: has the character '\\x07'"], id="unit-text"),
        pytest.param(
            "relay1",
            {"egress": "none"},
            ["relay1.icnd.egress: cannot be limited, since port p2p is open to any"],
            id="sandbox",
        ),
        pytest.param("home1", {"artifact": {"url": None, "file": "a.zip"}}, ["home1.icnd.artifact.file: no file a.zip on the controller"], id="file"),
        pytest.param(
            "icn",
            {"backup": {"files": ["/var/lib/icnd/key"], "more": {"x": {"files": ["/var/lib/icnd/x"]}}}},
            ["icn.icnd.backup.more.x.recipients: there is nobody", "icn.icnd.backup.recipients: there is nobody to encrypt for"],
            id="backup",
        ),
    ],
)
def test_what_the_slices_find_is_said_where_it_was_written(layer: str, override: dict[str, Any], said: list[str]) -> None:
    errors = sliced(overrides={layer: {"icnd": override}})
    assert len(errors) == len(said), errors
    for error, start in zip(errors, said, strict=True):
        assert error.startswith(f"fleet_overrides.{start}")


def test_what_is_asked_of_systemd_on_the_host_is_named_as_it_was_written() -> None:
    backup = {"files": ["/var/lib/icnd/key"], "recipients": RECIPIENT}
    joined, mistakes = fleets.join(
        fleets.fleet(services={"icnd": fleets.changed("backup", backup)}, overrides={"icn": {"icnd": {"backup": {"schedule": "Mon *-*-* 1:0"}}}})
    )
    wanted = slices.slices("relay1", [], joined["relay1"], INPUTS, slices.Sources(unread, unread, unread), mistakes)
    assert mistakes == []
    assert wanted["backup"]["check"]["schedules"] == [{"path": "fleet_overrides.icn.icnd.backup.schedule", "schedule": "Mon *-*-* 1:0"}]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"firewall_rules": [{"port": "8000-8010", "from": ["192.0.2.0/24", "2001:db8::1", "group:icn"]}]}, [], id="as-it-should-be"),
        pytest.param(
            {"firewall_rules": [{}, {"name": "a b", "port": "http", "from": ["any", "group:icm"], "interface": "eth0:1"}]},
            [
                "firewall_rules[1].from[1]: no inventory group is called 'icm'\n  → did you mean 'icn'?",
                "firewall_rules[1].interface: interface 'eth0:1' is not the name of an interface\n  → write it like eth0, as ip link lists it",
                "firewall_rules[1].name: 'host/a b' cannot mark a rule\n  → an owner is made of letters, digits and ._/:@+-, like node/libp2p",
                "firewall_rules[1].port: port 'http' is not a port\n  → write 4001, 8000:8010 or any",
            ],
            id="all-of-a-rule-at-once",
        ),
        pytest.param(
            {"firewall_ssh_ports": [22, 70000], "firewall_ssh_from": ["home"], "firewall_confirm_seconds": 5},
            [
                "firewall_confirm_seconds: 5 is too short\n  → write 10 or more",
                "firewall_ssh_from[0]: source 'home' is not an address\n  → write any, 192.0.2.7 or 192.0.2.0/24",
                "firewall_ssh_ports[1]: port '70000' is not a port\n  → write 4001, 8000:8010 or any",
            ],
            id="ssh",
        ),
    ],
)
def test_f58_rules_of_the_host_are_checked_before_it_is_touched(inputs: dict[str, Any], said: list[str]) -> None:
    rule = {"name": "web", "port": "80", "proto": ["tcp"], "from": ["any"], "action": "allow", "interface": ""}
    given = {**inputs, **({"firewall_rules": [{**rule, **one} for one in inputs["firewall_rules"]]} if "firewall_rules" in inputs else {})}
    assert sliced(inputs={**INPUTS, "firewall": {**INPUTS["firewall"], **given}}) == said


def test_of_services_that_share_an_account_each_may_say_a_part() -> None:
    one, other = ({**fleets.ICND, "ports": [], "config": [], "command": [name], "account": {"user": "x", "shared": True}} for name in ("a", "b"))
    other["account"].update(uid=900, gid=901, home="/srv/x", groups=["video"])
    joined, mistakes = fleets.join(fleets.fleet(services={"a": one, "b": other}, placement={"relay1": ["a", "b"]}))
    wanted = slices.account_slice(joined["relay1"]["services"], INPUTS["account"], mistakes)
    assert mistakes == []
    assert wanted["groups"] == [{"name": "x", "gid": 901, "system": True}]
    assert [{key: user[key] for key in ("name", "uid", "home", "groups")} for user in wanted["users"]] == [
        {"name": "x", "uid": 900, "home": "/srv/x", "groups": ["video"]}
    ]


def test_groups_of_the_inventory_may_be_let_in_by_rules_of_the_host() -> None:
    inputs = {**INPUTS["firewall"], "firewall_ssh_from": ["group:monitoring", "192.0.2.9"]}
    resolved = slices.with_addresses(inputs, fleets.fleet().addresses, [])
    assert [rule["source"] for rule in slices.firewall_slice({}, resolved)["rules"]] == ["192.0.2.9", "2001:db8::9"]
