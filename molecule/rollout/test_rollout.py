"""The role rollout alone: what did not run was started, is ready, and is not restarted without a reason."""

import pytest

testinfra_hosts = ["ssh://anchor1", "ssh://relay2"]


def test_the_service_runs_and_is_ready(host):
    assert host.service("nats-server").is_running
    assert host.check_output("curl -fsS http://127.0.0.1:8222/healthz") == '{"status":"ok"}'


def test_it_was_started_once(host):
    assert host.check_output("systemctl show --property=NRestarts --value nats-server") == "0"
    assert host.check_output("journalctl -u nats-server -o cat | grep -c '^Started '") == "1"


@pytest.mark.parametrize("path", ["/etc/nats-server/nats.json", "/etc/systemd/system/nats-server.service"])
def test_what_it_was_started_with_is_noted(host, path):
    digest = host.file(path).sha256sum
    assert f"{digest}  {path}" in host.file("/run/hearth/nats-server.started").content_string
