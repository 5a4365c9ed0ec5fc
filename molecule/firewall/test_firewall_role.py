"""The role firewall alone: what is open and closed, seen from another host, over IPv4 and IPv6."""

import pytest

testinfra_hosts = ["ssh://relay1", "ssh://relay2"]


@pytest.fixture(scope="module", autouse=True)
def listeners(host):
    """Something answers on an allowed, on a restricted and on an unknown port."""
    for port in (4222, 6222, 4999):
        host.run("systemd-run --unit=listen-%s --collect python3 -m http.server --bind :: %s", str(port), str(port))
    for port in (4222, 6222, 4999):
        host.check_output("timeout 20 sh -c 'until nc -z ::1 %s; do sleep 0.1; done'", str(port))
    yield
    host.run("systemctl stop listen-4222 listen-6222 listen-4999")


@pytest.mark.parametrize("network", ["10.77.0", "fd77:7e57:0:1:"])
@pytest.mark.parametrize(("port", "open_to_all"), [(22, True), (4222, True), (6222, False), (4999, False)])
def test_f49_a_stranger_reaches_what_is_open_to_all_over_both_families(host, ops1, network, port, open_to_all):
    number = {"relay1": "21", "relay2": "22"}[host.check_output("hostname")]
    address = f"{network}.{number}" if "." in network else f"{network}:{number}"
    assert (ops1.run("nc -z -w 3 %s %s", address, str(port)).rc == 0) is open_to_all


def test_the_rules_carry_their_owner(host):
    assert "# hearth:nats-server/client" in host.check_output("ufw status")
