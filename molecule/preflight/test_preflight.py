"""The role preflight alone: it looks, and leaves the hosts as they are."""

testinfra_hosts = ["ssh://relay1", "ssh://home1?sudo=true"]


def test_the_host_is_untouched(host):
    assert not host.file("/var/lib/hearth").exists
    assert not host.file("/opt/nats-server").exists
    assert not host.package("fio").is_installed
