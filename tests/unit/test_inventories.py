"""The example inventories: each goes through the real join without a mistake, and says of its hosts what the system needs."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import joining
import pytest
import yaml

INVENTORIES = joining.ROOT / "inventories"
SYSTEMS = ["kontinuum", "icn", "crumpet", "blockchain", "single"]
DOCUMENTATION = [ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]
NOBODY = [ipaddress.ip_network(net) for net in ("0.0.0.0/32", "127.0.0.0/8", "::/128", "::1/128")]
PRIVATE = [ipaddress.ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8", "fe80::/10")]


@cache
def joined(system: str) -> joining.Specs:
    return joining.join(INVENTORIES / system)


def host(system: str, name: str) -> dict[str, Any]:
    return joined(system)[name]


def rules(system: str, name: str) -> set[tuple[str, str, str, str]]:
    """Return the rules of one host, without SSH: port, protocol, source, owner; all of them allow."""
    found = [rule for rule in host(system, name)["firewall"]["rules"] if rule["owner"] != "host/ssh"]
    assert {rule["action"] for rule in found} == {"allow"}
    return {(rule["port"], rule["proto"], rule["source"], rule["owner"]) for rule in found}


def file(system: str, name: str, path: str) -> dict[str, Any]:
    found = [one for one in host(system, name)["config"]["paths"] if one["path"] == path]
    assert len(found) == 1, [one["path"] for one in host(system, name)["config"]["paths"]]
    return found[0]


def unit(system: str, name: str, service: str) -> list[str]:
    found = [one["content"] for one in host(system, name)["unit"]["units"] if one["service"] == service]
    assert len(found) == 1
    return str(found[0]).splitlines()


def files_of(system: str) -> Iterator[Path]:
    return (path for path in sorted((INVENTORIES / system).rglob("*")) if path.is_file())


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_join_finds_no_mistake_and_every_host_keeps_its_ssh(system: str) -> None:
    for spec in joined(system).values():
        ssh = [(rule["port"], rule["source"]) for rule in spec["firewall"]["rules"] if rule["owner"] == "host/ssh" and rule["action"] != "deny"]
        assert ssh == [("22", "any")]
        assert spec["firewall"]["enabled"]
        assert spec["firewall"]["keep_connection"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_addresses_and_names_are_reserved_for_examples(system: str) -> None:
    for path in files_of(system):
        text = path.read_text()
        for word in re.findall(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w.])", text):
            try:
                address = ipaddress.ip_address(word)
            except ValueError:
                continue
            known = [*DOCUMENTATION, *NOBODY, *(PRIVATE if system == "single" else [])]
            assert any(address in net for net in known if net.version == address.version), f"{path}: {word}"
        for name in re.findall(r"https?://([^\s/\"'{}:,]+)", text):
            assert name.endswith((".example", "example.org", "127.0.0.1")), f"{path}: {name}"


@pytest.mark.parametrize("system", SYSTEMS)
def test_digests_are_examples_that_no_release_matches(system: str) -> None:
    digests = [digest for path in files_of(system) for digest in re.findall(r"\b[0-9a-f]{64}\b", path.read_text())]
    assert digests
    assert all(digest == digest[:8] * 8 for digest in digests)


@pytest.mark.parametrize("system", [system for system in SYSTEMS if system != "single"])
def test_f60_secrets_stay_where_secrets_may_be(system: str) -> None:
    vault = yaml.safe_load((INVENTORIES / system / "group_vars" / "all" / "vault.yml.example").read_text())
    allowed = re.compile(r".*(\.secret_content|\.secrets\.[^.]+\.value)")
    for path, text in leaves(joined(system)):
        if any(str(secret) in text for secret in vault.values()):
            assert allowed.fullmatch(path), path


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path, str(value)
    for key, item in items or ():
        yield from leaves(item, f"{path}.{key}")


def test_a_missing_vault_is_said_with_the_variable_and_the_key_that_needs_it() -> None:
    with pytest.raises(joining.Refused) as refused:
        joining.join(INVENTORIES / "icn", with_vault=False)
    assert "fleet_services.icnd.secrets.ICN_GATEWAY_JWT_SECRET: cannot be read" in str(refused.value)
    assert "vault_icn_gateway_jwt_secret" in str(refused.value)


RUNNERS = {"kontinuum": "mon1", "icn": "mon1", "crumpet": "watch1", "blockchain": "ops1"}


@pytest.mark.parametrize("system", RUNNERS)
def test_one_host_without_data_of_its_own_drills_every_backup(system: str) -> None:
    runner = RUNNERS[system]
    assert [name for name, spec in joined(system).items() if spec["drill"]["timers"]] == [runner]
    jobs = [(name, job["service"], job["set"]) for name, spec in joined(system).items() for job in spec["backup"]["jobs"]]
    orders = [path["path"] for path in host(system, runner)["drill"]["paths"] if path["path"].endswith(".json") and "/orders/" in path["path"]]
    assert jobs
    assert sorted(orders) == sorted(f"/etc/hearth/drill/orders/{'.'.join(job)}.json" for job in jobs)
    assert host(system, runner)["backup"]["jobs"] == []
    assert {rule["owner"] for rule in host(system, runner)["firewall"]["rules"]} == {"host/ssh"}


@pytest.mark.parametrize("system", RUNNERS)
def test_the_drills_identity_is_on_their_runner_alone_and_not_the_only_one(system: str) -> None:
    vault = yaml.safe_load((INVENTORIES / system / "group_vars" / "all" / "vault.yml.example").read_text())
    (secret,) = (value for name, value in vault.items() if name.endswith("_drill_identity"))
    assert {name for name, spec in joined(system).items() for _path, text in leaves(spec) if secret in text} == {RUNNERS[system]}
    assert {len(job["recipients"]) for spec in joined(system).values() for job in spec["backup"]["jobs"]} == {2}


# --- Kontinuum --------------------------------------------------------------------------------------------------------


def test_kontinuum_the_admin_is_alone_on_its_machine_and_every_tier_runs_nodes() -> None:
    services = {name: (spec["host"]["tier"], list(spec["services"])) for name, spec in joined("kontinuum").items()}
    assert services["admin1"] == ("", ["kontinuum-node-admin"])
    assert services["mon1"] == ("", [])
    tiers = {tier for tier, names in services.values() if names == ["kontinuum-node-server"]}
    assert tiers == {"tier0", "tier1_small", "tier1_medium", "tier1_large", "tier2_vps", "tier2_home"}


NODE_RULES = {
    ("4001", "tcp", "any", "kontinuum-node-server/libp2p"),
    ("4001", "udp", "any", "kontinuum-node-server/libp2p"),
    ("9100", "tcp", "192.0.2.71", "kontinuum-node-server/metrics"),
    ("9100", "tcp", "2001:db8:0:7::71", "kontinuum-node-server/metrics"),
}


@pytest.mark.parametrize("name", ["anchor1", "relay-eu-west-01", "partner1", "vps1", "home1"])
def test_kontinuum_nodes_open_libp2p_to_all_metrics_to_prometheus_and_the_blob_store_to_nobody(name: str) -> None:
    assert rules("kontinuum", name) == NODE_RULES


def test_kontinuum_admin_opens_its_api_to_the_vpn_and_its_webhooks_to_the_billing_system() -> None:
    nodes = {address for spec in joined("kontinuum").values() if "kontinuum-node-server" in spec["services"] for address in spec["host"]["addresses"]}
    assert rules("kontinuum", "admin1") == {
        *(("443", "tcp", address, "kontinuum-node-admin/https") for address in {"198.51.100.64/26", *nodes}),
        ("9100", "tcp", "192.0.2.71", "kontinuum-node-admin/metrics"),
        ("9100", "tcp", "2001:db8:0:7::71", "kontinuum-node-admin/metrics"),
        ("8080", "tcp", "198.51.100.64/26", "kontinuum-node-admin/api"),
        ("9090", "tcp", "198.51.100.7", "kontinuum-node-admin/billing"),
        ("9090", "tcp", "2001:db8:b111::7", "kontinuum-node-admin/billing"),
    }


@pytest.mark.parametrize(
    ("name", "tier", "operator", "geo_zone", "max_total_gb"),
    [
        pytest.param("anchor1", 0, "org", "eu-west", 40, id="anchor"),
        pytest.param("partner1", 1, "partner", "eu-west", 10, id="small-relay"),
        pytest.param("relay-us-east-01", 1, "org", "us-east", 80, id="large-relay"),
        pytest.param("home1", 2, "user", "eu-west", 10, id="home"),
    ],
)
def test_kontinuum_config_is_toml_layered_by_tier_and_host(name: str, tier: int, operator: str, geo_zone: str, max_total_gb: int) -> None:
    written = file("kontinuum", name, "/etc/kontinuum-node/node.toml")
    assert (written["owner"], written["group"], written["mode"]) == ("root", "kontinuum-node", "0640")
    node = tomllib.loads(written["content"])
    assert node["node"] == {"tier": tier, "tenancy": "single", "operator": operator, "geo_zone": geo_zone}
    assert node["storage"] == {"path": "/var/lib/kontinuum-node/data/node.db", "max_total_gb": max_total_gb}
    assert {"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"} <= set(node["network"]["listen_addrs"])
    assert node["blobstore"]["listen"] == "127.0.0.1:9000"


@pytest.mark.parametrize(
    ("name", "cpus", "memory_gib", "iops", "dns"),
    [
        pytest.param("anchor1", 4, 8, 500, ["anchor1.kontinuum.example"], id="anchor"),
        pytest.param("partner1", 2, 2, 500, [], id="small-relay-of-a-partner"),
        pytest.param("relay-eu-west-01", 4, 4, 500, ["relay-eu-west-01.kontinuum.example"], id="medium-relay"),
        pytest.param("relay-us-east-01", 8, 8, 500, ["relay-us-east-01.kontinuum.example"], id="large-relay"),
        pytest.param("vps1", 2, 2, 100, [], id="rented"),
        pytest.param("home1", None, 1, 100, [], id="home"),
    ],
)
def test_kontinuum_hosts_must_have_what_their_tier_asks(name: str, cpus: int | None, memory_gib: int, iops: int, dns: list[str]) -> None:
    wanted = host("kontinuum", name)["preflight"]
    assert (wanted["cpus"], wanted["memory_bytes"], wanted["iops"], wanted["dns"]) == (cpus, memory_gib * 2**30, iops, dns)


def test_f47_kontinuum_home_hosts_may_be_off_and_anchors_may_not() -> None:
    assert {name: host("kontinuum", name)["host"]["offline"] for name in ("home1", "anchor1")} == {"home1": "skip", "anchor1": "fail"}


def test_kontinuum_a_raspberry_pi_with_32_bit_userland_gets_its_own_artifact() -> None:
    artifacts = host("kontinuum", "home1")["release"][0]["artifacts"]
    assert artifacts["armhf"]["url"] == "https://releases.example.org/kontinuum/1.0.0/kontinuum-node-server-armhf.tar.gz"
    assert "armhf" in host("kontinuum", "home1")["preflight"]["architectures"]


def test_kontinuum_node_unit_has_the_limits_of_the_specification() -> None:
    lines = unit("kontinuum", "anchor1", "kontinuum-node-server")
    for line in (
        "User=kontinuum-node",
        "ExecStart=/usr/local/bin/kontinuum-node-server --config /etc/kontinuum-node/node.toml",
        "Restart=always",
        "RestartSec=10",
        "StartLimitIntervalSec=600",
        "StartLimitBurst=5",
        "ReadWritePaths=/var/lib/kontinuum-node /var/log/kontinuum-node",
        "ProtectSystem=strict",
        "NoNewPrivileges=true",
        "MemoryDenyWriteExecute=true",
        "MemoryMax=4G",
        "LimitNOFILE=65535",
        "LimitNPROC=4096",
    ):
        assert line in lines
    assert any(line.startswith("ExecReload=") and "HUP" in line for line in lines)
    assert "MemoryMax=768M" in unit("kontinuum", "home1", "kontinuum-node-server"), "4 GB of a 1 GB machine would be no limit"


def test_kontinuum_backups_are_hourly_for_nodes_and_daily_for_the_admin() -> None:
    node = host("kontinuum", "home1")["services"]["kontinuum-node-server"]
    admin = host("kontinuum", "admin1")["services"]["kontinuum-node-admin"]
    assert [(one["backup"]["schedule"], one["backup"]["keep"] // 86400) for one in (node, admin)] == [("hourly", 30), ("daily", 90)]
    assert [one["path"] for one in node["backup"]["databases"]] == ["/var/lib/kontinuum-node/data/node.db"]
    assert {name: (one["files"], one["schedule"], one["keep"]) for name, one in node["backup"]["more"].items()} == {
        "identity": (["/var/lib/kontinuum-node/keys/node.key"], "changes", 0),
        "certificates": (["/var/lib/kontinuum-node/keys/node.cert"], "changes", 0),
    }
    assert [job["class"] for job in host("kontinuum", "home1")["backup"]["jobs"]] == ["data-30d", "identity-forever", "certificates-forever"]
    assert node["drain"]["deadline"] == 60
    request = node["drain"]["request"]
    assert (request["method"], request["url"]) == ("POST", "https://admin.kontinuum.example/api/v1/nodes/home1/drain")
    assert node["drain"]["grace"] == 60


def test_kontinuum_the_admin_knows_every_node_of_the_inventory() -> None:
    admin = tomllib.loads(file("kontinuum", "admin1", "/etc/kontinuum-admin/admin.toml")["content"])
    nodes = {name for name, spec in joined("kontinuum").items() if "kontinuum-node-server" in spec["services"]}
    assert {node["id"] for node in admin["nodes"]} == nodes
    assert {"id": "anchor1", "addr": "/ip4/192.0.2.11/tcp/4001"} in admin["nodes"]


# --- ICN --------------------------------------------------------------------------------------------------------------


def test_icn_rules() -> None:
    assert rules("icn", "coop1") == {
        ("7777", "udp", "any", "icnd/p2p"),
        ("8080", "tcp", "any", "icnd/gateway"),
        ("9100", "tcp", "192.0.2.71", "icnd/metrics"),
        ("9100", "tcp", "2001:db8::71", "icnd/metrics"),
    }


def test_icn_config_is_checked_by_the_daemon_and_holds_no_secret() -> None:
    written = file("icn", "coop1", "/etc/icn/config.toml")
    assert written["validate"] == ["icnd", "--config", "{path}", "--validate-config"]
    config = tomllib.loads(written["content"])
    assert config["data_dir"] == "/var/lib/icn"
    assert config["observability"] == {"metrics_port": 9100, "health_port": 8080, "log_level": "info"}


def test_icn_secrets_are_an_environment_file_of_root() -> None:
    written = file("icn", "coop1", "/etc/icn/icnd.env")
    assert (written["owner"], written["group"], written["mode"]) == ("root", "root", "0600")
    assert "content" not in written
    assert {line.partition("=")[0] for line in written["secret_content"].splitlines()} == {"ICN_GATEWAY_JWT_SECRET", "ICN_KEYSTORE_PASSPHRASE"}
    assert "EnvironmentFile=/etc/icn/icnd.env" in unit("icn", "coop1", "icnd")


def test_icn_identity_is_made_once_by_the_account_that_needs_it() -> None:
    (once,) = host("icn", "coop1")["config"]["bootstrap"]
    assert once["command"] == ["/usr/local/bin/icnctl", "--data-dir", "/var/lib/icn", "id", "init"]
    assert (once["user"], once["creates"], once["environment_files"]) == ("icn", "/var/lib/icn/identity", ["/etc/icn/icnd.env"])


def test_icn_release_brings_the_companion_and_backups_use_it() -> None:
    assert host("icn", "coop1")["release"][0]["binaries"] == {"icnd": "icnd", "icnctl": "icnctl"}
    backup = host("icn", "coop1")["services"]["icnd"]["backup"]
    assert backup["command"] == ["icnctl", "--data-dir", "/var/lib/icn", "backup", "create", "-o", "{output}"]


# --- Crumpet ----------------------------------------------------------------------------------------------------------


def test_crumpet_only_the_edge_talks_to_the_api_and_only_nodes_gossip() -> None:
    assert rules("crumpet", "cin1") == {
        *(("8080", "tcp", address, "cin-node/http") for address in ("192.0.2.11", "2001:db8::11", "192.0.2.51", "2001:db8::51")),
        ("8081", "tcp", "192.0.2.11", "cin-node/grpc"),
        ("8081", "tcp", "2001:db8::11", "cin-node/grpc"),
        ("4001", "udp", "192.0.2.22", "cin-node/p2p"),
        ("4001", "udp", "2001:db8::22", "cin-node/p2p"),
    }


def test_f58_crumpet_kubo_and_a_node_want_the_same_port_so_no_host_has_both() -> None:
    assert list(host("crumpet", "pin1")["services"]) == ["kubo", "pin-orchestrator"]
    for name, spec in joined("crumpet").items():
        assert not {"cin-node", "kubo"} <= set(spec["services"]), name


def test_crumpet_the_api_of_kubo_is_open_to_nobody() -> None:
    found = rules("crumpet", "pin1")
    assert {rule[0] for rule in found} == {"4001", "7070"}
    assert {rule[1:3] for rule in found if rule[0] == "4001"} == {("tcp", "any"), ("udp", "any")}


@pytest.mark.parametrize(
    ("name", "service", "inside", "outside"),
    [
        pytest.param("cin1", "cin-node", {"198.51.100.10", "198.51.100.20", "192.0.2.22", "192.0.2.11"}, {"198.51.100.30", "192.0.2.41"}, id="node"),
        pytest.param("pin1", "pin-orchestrator", {"localhost", "198.51.100.30"}, {"198.51.100.10", "192.0.2.21"}, id="orchestrator"),
        pytest.param("watch1", "watcher", {"192.0.2.11", "198.51.100.10"}, {"192.0.2.21", "198.51.100.30"}, id="watcher"),
    ],
)
def test_crumpet_services_reach_what_they_are_told_and_nothing_else(name: str, service: str, inside: set[str], outside: set[str]) -> None:
    lines = unit("crumpet", name, service)
    assert "IPAddressDeny=any" in lines
    (allowed,) = (set(line.partition("=")[2].split()) for line in lines if line.startswith("IPAddressAllow="))
    assert inside <= allowed
    assert not outside & allowed


def test_crumpet_keys_are_credentials_and_the_edge_opens_http() -> None:
    assert "LoadCredential=signing-key:/etc/watcher/credentials/signing-key" in unit("crumpet", "watch1", "watcher")
    assert rules("crumpet", "edge1") == {
        ("80", "tcp", "any", "envoy/http"),
        ("443", "tcp", "any", "envoy/https"),
        ("443", "udp", "any", "envoy/https"),
    }


def test_crumpet_the_edge_sends_to_every_search_node_and_may_have_no_more_than_the_host_can_give() -> None:
    config = yaml.safe_load(file("crumpet", "edge1", "/etc/envoy/envoy.yaml")["content"])
    (cluster,) = config["static_resources"]["clusters"]
    endpoints = [one["endpoint"]["address"]["socket_address"] for one in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]]
    assert endpoints == [{"address": address, "port_value": 8080} for address in ("192.0.2.21", "192.0.2.22")]
    lines = unit("crumpet", "edge1", "envoy")
    assert {"MemoryMax=1536M", "AmbientCapabilities=CAP_NET_BIND_SERVICE"} <= set(lines)


def test_crumpet_a_new_search_node_is_held_to_its_objectives_for_an_hour() -> None:
    rollout = host("crumpet", "cin1")["services"]["cin-node"]["rollout"]
    assert rollout["canary_soak"] == 3600
    assert [(one["pass"], one["fail"]) for one in rollout["analysis"]] == [("<= 400", "> 1500"), ("<= 900", "> 1800")]


# --- Blockchain -------------------------------------------------------------------------------------------------------


def test_blockchain_peers_and_the_cache_come_from_the_inventory() -> None:
    environment = host("blockchain", "web1")["services"]["webserver"]["environment"]
    assert environment["NODE_CONNECT_NODES"] == "192.0.2.21:2001,192.0.2.22:2001,192.0.2.23:2001"
    assert environment["REDIS_URL"] == "redis://192.0.2.31:6379"
    assert host("blockchain", "miner2")["services"]["miner"]["environment"]["NODE_CONNECT_NODES"] == "192.0.2.21:2001,192.0.2.23:2001"


def test_blockchain_redis_lets_only_web_servers_in() -> None:
    assert rules("blockchain", "cache1") == {
        ("6379", "tcp", address, "redis/redis") for address in ("192.0.2.11", "192.0.2.12", "2001:db8::11", "2001:db8::12")
    }
    assert "appendonly yes\n" in file("blockchain", "cache1", "/etc/redis/redis.conf")["content"]


def test_blockchain_web_servers_are_reached_through_the_proxy_and_reach_miners_and_redis() -> None:
    assert {rule[2] for rule in rules("blockchain", "web1") if rule[0] == "8080"} == {"192.0.2.5", "2001:db8::5"}
    (allowed,) = (line for line in unit("blockchain", "web1", "webserver") if line.startswith("IPAddressAllow="))
    assert {"192.0.2.21", "192.0.2.22", "192.0.2.23", "192.0.2.31"} <= set(allowed.partition("=")[2].split())
    health = host("blockchain", "web1")["services"]["webserver"]["health"]
    assert (health["ready"], health["live"]) == ("http://127.0.0.1:8080/api/health/ready", "http://127.0.0.1:8080/api/health/live")


def test_blockchain_api_keys_are_in_an_environment_file_and_one_of_each_stays_up() -> None:
    secret = file("blockchain", "web1", "/etc/webserver/webserver.env")
    assert {line.partition("=")[0] for line in secret["secret_content"].splitlines()} == {"BITCOIN_API_ADMIN_KEY", "BITCOIN_API_WALLET_KEY"}
    for name, service in (("web1", "webserver"), ("miner1", "miner")):
        assert host("blockchain", name)["services"][service]["min_available"] == 1


# --- One machine ------------------------------------------------------------------------------------------------------


def test_single_installs_nothing_and_closes_nothing_to_the_home_network() -> None:
    (here,) = joined("single").values()
    assert here["services"] == {}
    assert [here[slice_name] for slice_name in ("release", "rollout")] == [[], []]
    assert [one["state"] for one in here["account"].pop("paths")] == ["absent"]
    assert here["account"] == {"groups": [], "users": []}
    open_to = {(rule["port"], rule["proto"], rule["source"]) for rule in here["firewall"]["rules"]}
    assert {("1:65535", "tcp", "192.168.0.0/16"), ("1:65535", "udp", "fd00::/8"), ("22", "tcp", "any")} <= open_to


def test_single_example_is_right_once_its_comment_signs_are_gone(tmp_path: Path) -> None:
    for path in files_of("single"):
        copy = tmp_path / path.relative_to(INVENTORIES / "single")
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text().replace("this_machine: []", "this_machine: [hello]")
        copy.write_text(re.sub(r"(?m)^#(  )", r"\1", text) if path.name == "services.yml" else text)
    (here,) = joining.join(tmp_path).values()
    assert list(here["services"]) == ["hello"]
    assert tomllib.loads(here["config"]["paths"][-1]["content"])["listen"] == "127.0.0.1:8080"
