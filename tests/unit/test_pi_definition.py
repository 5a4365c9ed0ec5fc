# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/lab/pi.json is the one definition of the emulated Pi: its inventory agrees with it, and all files that it names are there."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = json.loads((ROOT / "tests/lab/pi.json").read_text())


def test_the_inventory_reaches_it_where_the_definition_says() -> None:
    inventory = yaml.safe_load((ROOT / "tests/pi/inventory/hosts.yml").read_text())
    host = inventory["pis"]["hosts"][DEFINITION["name"]]
    assert (host["ansible_host"], host["ansible_port"], host["ansible_user"]) == ("127.0.0.1", DEFINITION["ports"]["22"], DEFINITION["login"])


def test_its_image_has_no_firewall_so_that_the_role_installs_it() -> None:
    assert not {"ufw", "iptables", "nftables"} & set(DEFINITION["packages"])


def test_every_file_of_the_image_is_there_and_used() -> None:
    named = {*DEFINITION["setup_files"], *DEFINITION["files"]}
    assert named == {path.name for path in (ROOT / "tests/lab/pi-image").iterdir()}
