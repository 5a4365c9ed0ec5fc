"""The role release alone: what is installed is what was pinned, and it is installed whole."""

import json
from pathlib import Path

testinfra_hosts = ["ssh://anchor1", "ssh://relay2"]

PINNED = json.loads((Path(__file__).resolve().parents[2] / "tools" / "artifacts.json").read_text())["nats-server"]["2.11.11"]


def test_the_binary_is_the_pinned_one_of_the_hosts_own_architecture(host):
    arch = host.check_output("dpkg --print-architecture")
    assert host.check_output("sha256sum $(readlink -f /usr/local/bin/nats-server)").split()[0] == PINNED[arch]["binary"]


def test_current_leads_to_the_release(host):
    assert host.file("/opt/nats-server/current").linked_to == "/opt/nats-server/releases/2.11.11"
    assert host.check_output("readlink /usr/local/bin/nats-server") == "/opt/nats-server/current/bin/nats-server"
    assert "2.11.11" in host.check_output("nats-server --version")


def test_releases_belong_to_root_alone(host):
    assert host.check_output("find /opt/nats-server ! -user root -o -perm /0022 ! -type l") == ""


def test_nothing_is_left_over(host):
    assert host.check_output("ls -A /opt/nats-server/releases") == "2.11.11"
    assert host.check_output("find /var/cache/hearth -type f ! -name .lock") == ""
