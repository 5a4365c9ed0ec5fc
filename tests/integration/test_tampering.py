# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever somebody does to a converged host is observed, named and repaired; and what the plan calls clean is clean.

Each group of kinds is done to a Debian 12 and a Debian 13 host at once, observed with one look, repaired with one run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import converged
import pytest

HOSTS = "relay1,relay2"
SOUND = pytest.StashKey[bool]()
NODE, NATS = "kontinuum-node-server", "nats-server"

ACCOUNTS = {
    "shell": ("usermod -s /bin/bash nats || sed -i '/^nats:/s,/usr/sbin/nologin,/bin/bash,' /etc/passwd", "account: user nats: shell"),
    "home": ("sed -i '/^kontinuum-node:/s,/var/lib/kontinuum-node,/tmp,' /etc/passwd", "account: user kontinuum-node: home"),
    "password": ("echo 'nats:guessable' | chpasswd", "account: user nats: "),
    "group added": ("usermod -aG adm kontinuum-node", "account: user kontinuum-node: "),
    "directory mode": ("chmod 0777 /var/lib/nats-server", "account: /var/lib/nats-server: mode"),
    "directory owner": ("chown root /var/lib/kontinuum-node/data", "account: /var/lib/kontinuum-node/data: owner"),
    "directory group": ("chgrp adm /var/lib/kontinuum-node/keys", "account: /var/lib/kontinuum-node/keys: group"),
}

RELEASES = {
    "link deleted": ("rm /usr/local/bin/kontinuum-nodectl", "release: /usr/local/bin/kontinuum-nodectl: "),
    "link elsewhere": ("ln -sfn /bin/true /usr/local/bin/nats-server", "release: /usr/local/bin/nats-server: "),
    "link replaced by a file": (f"rm /usr/local/bin/{NODE}; cp /bin/true /usr/local/bin/{NODE}", f"release: /usr/local/bin/{NODE}: "),
    "current deleted": ("rm /opt/nats-server/current", "release: /opt/nats-server/current: "),
    "binary changed": (
        f"cd /opt/{NODE}/releases/1.0.0; cp -a bin copy; echo '#' >> $(readlink -f bin/{NODE}); rm -rf copy",
        f"release: {NODE} 1.0.0: ",
    ),
    "left-over of a broken run": ("mkdir -p /opt/nats-server/releases/9.9.9; touch /opt/nats-server/releases/9.9.9/x", "release: "),
}

RELEASES_AGAIN = {
    "manifest deleted": (f"rm /opt/{NODE}/releases/1.0.0/.release.json", f"release: {NODE} 1.0.0: "),
    "binary not executable": ("chmod 0644 $(readlink -f /opt/nats-server/current/bin/nats-server)", "release: nats-server 2.11.11: "),
}

CONFIG = {
    "edited": ("echo '# mine' >> /etc/kontinuum-node/node.toml", "config: /etc/kontinuum-node/node.toml: content"),
    "deleted": ("rm /etc/nats-server/nats.json", "config: /etc/nats-server/nats.json: does not exist"),
    "directory mode": ("chmod 0777 /etc/kontinuum-node", "config: /etc/kontinuum-node: mode"),
    "directory owner": ("chown nats /etc/nats-server", "config: /etc/nats-server: owner"),
    "identity gone": ("rm /var/lib/kontinuum-node/keys/node.key", "config: /var/lib/kontinuum-node/keys/node.key: not there yet"),
}

CONFIG_AGAIN = {
    "mode": ("chmod 0666 /etc/kontinuum-node/node.toml", "mode 0666, not 0640"),
    "owner": ("chown kontinuum-node /etc/kontinuum-node/node.toml", "config: /etc/kontinuum-node/node.toml: owner"),
    "replaced by a link": (
        "mv /etc/nats-server/nats.json /root/nats.json; ln -s /root/nats.json /etc/nats-server/nats.json",
        "config: /etc/nats-server/nats.json: ",
    ),
}

UNITS = {
    "edited": (f"echo '# mine' >> /etc/systemd/system/{NODE}.service", f"unit: /etc/systemd/system/{NODE}.service: content"),
    "deleted": ("rm /etc/systemd/system/nats-server.service", "unit: /etc/systemd/system/nats-server.service: does not exist"),
    "host tool edited": ("echo '# mine' >> /usr/local/lib/hearth/stamp", "unit: /usr/local/lib/hearth/stamp: content"),
    "host tool mode": ("chmod 0644 /usr/local/lib/hearth/stamp", "mode"),
    "stale unit of ours": (
        "printf '# Managed by hearth.fleet: service ghost\\n[Service]\\nExecStart=/bin/sleep 999\\n' > /etc/systemd/system/ghost.service;"
        " systemctl daemon-reload; systemctl start ghost",
        "unit: ghost.service: nothing wants it here any more",
    ),
}

UNITS_AGAIN = {
    "mode": (f"chmod 0666 /etc/systemd/system/{NODE}.service", f"unit: /etc/systemd/system/{NODE}.service: mode"),
    "disabled": ("systemctl disable nats-server", "unit: nats-server.service: "),
    "systemd not told": (f"touch /etc/systemd/system/{NODE}.service", f"unit: {NODE}.service: "),
    "stopped": (f"systemctl stop {NODE}", f"start: {NODE}.service: not running"),
}

UNITS_ONCE_MORE = {
    "masked": (
        "rm /etc/systemd/system/nats-server.service; ln -s /dev/null /etc/systemd/system/nats-server.service; systemctl daemon-reload",
        "unit: nats-server.service: ",
    ),
    "note of the start lost": (f"rm /run/hearth/{NODE}.started", f"restart: {NODE}.service: not started by this collection's unit"),
}

PENDING = {
    "started with another config": (
        'sed -i \'s/log_level = "info"/log_level = "debug"/\' /etc/kontinuum-node/node.toml; systemctl restart kontinuum-node-server;'
        ' sed -i \'s/log_level = "debug"/log_level = "info"/\' /etc/kontinuum-node/node.toml',
        f"reload: {NODE}.service: config /etc/kontinuum-node/node.toml changed since the service started",
    ),
    "drop-in added": (
        "mkdir -p /etc/systemd/system/nats-server.service.d; printf '[Service]\\nNice=1\\n' > /etc/systemd/system/nats-server.service.d/nice.conf;"
        " systemctl daemon-reload",
        "restart: nats-server.service: drop-in /etc/systemd/system/nats-server.service.d/nice.conf is new",
    ),
}

FIREWALL = {
    "rule deleted": ("ufw delete allow 4222/tcp", "firewall: allow 4222/tcp from any (nats-server/client): missing"),
    "rule of a service that is gone": ("ufw allow 1234/tcp comment hearth:ghost/http", "firewall: allow 1234/tcp from any (ghost/http): stale"),
    "default changed": ("ufw default allow incoming", "firewall: default incoming"),
    "logging changed": ("ufw logging high", "firewall: logging"),
    "not started at boot": ("systemctl disable ufw", "firewall: "),
}

FIREWALL_AGAIN = {
    "owner taken off a rule": (
        "sed -i 's/ comment=6865617274683a6e6174732d7365727665722f636c69656e74//' /etc/ufw/user.rules",
        "firewall: allow 4222/tcp from any (nats-server/client): missing",
    ),
    "IPv6 off": ("sed -i 's/^IPV6=yes/IPV6=no/' /etc/default/ufw; ufw reload", "firewall: IPv6"),
}

FIREWALL_IN_THE_KERNEL = {
    "rules flushed": ("iptables -F ufw-user-input; iptables -A ufw-user-input -p tcp --dport 22 -j ACCEPT", "firewall: "),
    "policy opened": ("ip6tables -P INPUT ACCEPT", "firewall: "),
}

FIREWALL_OFF = {"disabled": ("ufw disable", "firewall: ufw: is inactive")}

GROUPS = {
    "accounts": ACCOUNTS,
    "releases": RELEASES,
    "releases-again": RELEASES_AGAIN,
    "config": CONFIG,
    "config-again": CONFIG_AGAIN,
    "units": UNITS,
    "units-again": UNITS_AGAIN,
    "units-once-more": UNITS_ONCE_MORE,
    "pending": PENDING,
    "firewall": FIREWALL,
    "firewall-again": FIREWALL_AGAIN,
    "firewall-in-the-kernel": FIREWALL_IN_THE_KERNEL,
    "firewall-off": FIREWALL_OFF,
}


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Iterator[None]:
    """Two converged hosts, made anew where the test before left them in ruins."""
    if not request.config.stash.get(SOUND, False):
        converged.reset(HOSTS)
        converged.site("--limit", HOSTS)
    failed = request.session.testsfailed
    yield
    request.config.stash[SOUND] = request.session.testsfailed == failed and not sys.exc_info()[0]


def test_there_are_at_least_forty_kinds() -> None:
    assert sum(len(group) for group in GROUPS.values()) >= 40


@pytest.mark.parametrize("group", GROUPS)
def test_tampering_is_observed_named_and_repaired(fleet: None, group: str, tmp_path: Path) -> None:
    kinds = GROUPS[group]
    for script, _said in kinds.values():
        converged.shell(HOSTS, script)
    for host, found in converged.plan_lines(tmp_path / "tampered", HOSTS).items():
        missing = {kind: said for kind, (_script, said) in kinds.items() if not any(line.startswith(said) or said in line for line in found)}
        assert not missing, f"{host} shows only:\n" + "\n".join(found)
    converged.site("--limit", HOSTS)
    assert converged.plan_lines(tmp_path / "repaired", HOSTS) == {"relay1": [], "relay2": []}


def test_f51_what_belongs_to_others_is_no_difference(fleet: None, tmp_path: Path) -> None:
    converged.shell(HOSTS, "ufw allow 2222/tcp comment mine; echo 'x = 1' > /etc/kontinuum-node/mine.toml; touch /var/lib/nats-server/mine")
    assert converged.plan_lines(tmp_path, HOSTS) == {"relay1": [], "relay2": []}
    converged.site("--limit", HOSTS)
    assert "2222/tcp" in converged.shell("relay1", "ufw status")


def test_where_nothing_is_observed_a_full_run_changes_nothing(fleet: None, tmp_path: Path) -> None:
    assert converged.plan_lines(tmp_path, HOSTS) == {"relay1": [], "relay2": []}
    done = converged.site("--limit", HOSTS, "-e", "fleet_observe=false")
    assert set(converged.changes(done).values()) == {0}, done.stdout
