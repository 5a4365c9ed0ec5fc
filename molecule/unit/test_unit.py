"""The role unit alone: units that systemd has nothing to say about, below the threshold, enabled and not started."""

import pytest

testinfra_hosts = ["ssh://relay1", "ssh://relay2"]

UNITS = ["nats-server.service", "kontinuum-node-server.service"]


@pytest.mark.parametrize("unit", UNITS)
def test_f53_systemd_has_nothing_to_say(host, unit):
    verified = host.run("systemd-analyze verify --man=no --recursive-errors=no /etc/systemd/system/%s", unit)
    assert (verified.rc, verified.stdout, verified.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS)
def test_f55_the_exposure_is_below_the_threshold(host, unit):
    assert host.run("systemd-analyze security --no-pager --threshold=15 %s", unit).rc == 0


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_enabled_and_the_role_starts_nothing(host, unit):
    service = host.service(unit)
    assert service.is_enabled
    assert not service.is_running


def test_the_unit_starts_in_its_sandbox(host):
    started = host.run(
        "systemctl start kontinuum-node-server && curl -fsS --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:9100/readyz"
    )
    host.run("systemctl stop kontinuum-node-server")
    assert started.rc == 0, started.stderr
