"""The role config alone: files that the daemons accept, secrets that nobody else reads, and an identity made once."""

import pytest

testinfra_hosts = ["ssh://relay1", "ssh://relay2"]


@pytest.mark.parametrize(
    ("path", "group", "check"),
    [
        ("/etc/nats-server/nats.json", "nats", "nats-server -t --config %s"),
        ("/etc/kontinuum-node/node.toml", "kontinuum-node", "kontinuum-node-server --check-config %s"),
    ],
)
def test_config_is_readable_by_its_service_and_accepted(host, path, group, check):
    config = host.file(path)
    assert (config.user, config.group, config.mode) == ("root", group, 0o640)
    assert host.run(check, path).rc == 0


def test_the_peers_come_from_the_inventory(host):
    others = {"relay1": "10.77.0.22", "relay2": "10.77.0.21"}[host.check_output("hostname")]
    config = host.file("/etc/nats-server/nats.json").content_string
    assert f"nats://{others}:6222" in config
    assert "nats://10.77.0.11:6222" in config


def test_the_identity_was_made_once_as_the_account(host):
    key = host.file("/var/lib/kontinuum-node/keys/node.key")
    assert (key.user, key.group, key.mode) == ("kontinuum-node", "kontinuum-node", 0o600)


def test_f60_secrets_are_roots_alone(ops1):
    secrets = ops1.file("/etc/kontinuum-node-admin/kontinuum-node-admin.env")
    assert (secrets.user, secrets.group, secrets.mode) == ("root", "root", 0o600)


def test_no_candidate_is_left_behind(host):
    assert host.check_output("find /etc -name '.hearth-*'") == ""
