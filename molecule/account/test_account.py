"""The role account alone, on bare hosts."""

import pytest

testinfra_hosts = ["ssh://relay1", "ssh://relay2"]


@pytest.mark.parametrize("name", ["nats", "kontinuum-node"])
def test_service_accounts_cannot_log_in(host, name):
    user = host.user(name)
    assert user.exists
    assert user.shell == "/usr/sbin/nologin"
    assert user.uid < 1000
    assert host.run("passwd --status %s", name).stdout.split()[1] == "L"


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("/var/lib/nats-server", "nats", 0o750),
        ("/var/lib/kontinuum-node", "kontinuum-node", 0o750),
        ("/var/lib/kontinuum-node/keys", "kontinuum-node", 0o700),
    ],
)
def test_directories(host, path, owner, mode):
    directory = host.file(path)
    assert directory.is_directory
    assert (directory.user, directory.group, directory.mode) == (owner, owner, mode)


def test_nothing_else_is_there(host):
    assert not host.file("/opt/nats-server").exists
    assert not host.file("/etc/systemd/system/nats-server.service").exists
