# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/lab/lab.json is the lab's one definition: the inventory agrees with it, and the program reads it rightly."""

from __future__ import annotations

import json
import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests" / "lab"
DEFINITION = json.loads((LAB / "lab.json").read_text())
INVENTORY = yaml.safe_load((ROOT / "inventories" / "lab" / "hosts.yml").read_text())


def load_program():
    """The executable tests/lab/lab as a module; without leaving compiled files beside it."""
    loader = SourceFileLoader("hearth_fleet_lab", str(LAB / "lab"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module  # dataclasses look their module up
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


program = load_program()


# --- The inventory ----------------------------------------------------------------------------------------------------


def fill(text: str) -> str:
    """A value of the inventory with the definition's prefixes in place of its variables."""
    for family in ("ipv4", "ipv6"):
        text = text.replace(f"{{{{ lab_{family}_prefix }}}}", DEFINITION["network"][f"{family}_prefix"])
    return text


def inventory_hosts() -> dict[str, dict]:
    """Name → variables of every host, whichever group they stand in."""
    hosts: dict[str, dict] = {}
    for name, group in INVENTORY.items():
        if name != "all":
            for host, variables in group["hosts"].items():
                hosts.setdefault(host, {}).update(variables or {})
    return hosts


def test_inventory_has_the_hosts_of_the_definition():
    assert inventory_hosts().keys() == DEFINITION["hosts"].keys()


@pytest.mark.parametrize("host", program.load(DEFINITION, {}).hosts, ids=lambda host: host.name)
def test_inventory_reaches_the_host_where_the_lab_puts_it(host):
    variables = inventory_hosts()[host.name]
    assert fill(variables["ansible_host"]) == host.ipv4
    assert [fill(address) for address in variables["fleet_addresses"]] == [host.ipv4, host.ipv6]
    assert variables.get("ansible_user", INVENTORY["all"]["vars"]["ansible_user"]) == host.login


@pytest.mark.parametrize("name", DEFINITION["hosts"])
def test_inventory_groups_are_those_of_the_definition(name):
    groups = {group for group, content in INVENTORY.items() if name in content.get("hosts", {})}
    assert groups == set(DEFINITION["hosts"][name]["groups"])


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_inventory_moves_with_the_same_variables_as_the_lab(family):
    expression = INVENTORY["all"]["vars"][f"lab_{family}_prefix"]
    assert f"'LAB_{family.upper()}_PREFIX'" in expression
    assert f"LAB_{family.upper()}_PREFIX" in program.OVERRIDES
    assert f"or '{DEFINITION['network'][f'{family}_prefix']}'" in expression


def test_inventory_uses_the_keys_that_the_lab_makes():
    variables = INVENTORY["all"]["vars"]
    cache = variables["lab_cache"].replace("{{ inventory_dir | default('.') }}", str(ROOT / "inventories" / "lab"))
    cache = cache.replace("{{ lookup('ansible.builtin.env', 'LAB_SUFFIX') }}", program.SUFFIX)
    assert Path(cache).resolve() == program.CACHE
    assert variables["ansible_ssh_private_key_file"] == f"{{{{ lab_cache }}}}/{program.KEY.name}"
    assert f'UserKnownHostsFile="{{{{ lab_cache }}}}/{program.KNOWN_HOSTS.name}"' in variables["ansible_ssh_common_args"]
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]


# --- The definition ---------------------------------------------------------------------------------------------------


def test_addresses_are_unique():
    addresses = [host["address"] for host in DEFINITION["hosts"].values()]
    assert len(set(addresses)) == len(addresses)


def test_files_of_the_image_are_those_of_the_directory():
    assert set(DEFINITION["image"]["files"]) == {file.name for file in (LAB / "image").iterdir()}


def test_another_network_is_chosen_by_environment():
    lab = program.load(DEFINITION, {"LAB_IPV4_PREFIX": "10.9.8", "LAB_IPV6_PREFIX": "fd00:9"})
    assert lab.subnets == ("10.9.8.0/24", "fd00:9::/64")
    assert (lab.hosts[0].ipv4, lab.hosts[0].ipv6) == ("10.9.8.11", "fd00:9::11")


def test_a_further_lab_has_names_of_its_own():
    first, further = program.load(DEFINITION, {}), program.load(DEFINITION, {"LAB_SUFFIX": "-second"})
    assert further.network == f"{first.network}-second"
    assert [host.container for host in further.hosts] == [f"{host.name}-second" for host in first.hosts]
    assert [host.name for host in further.hosts] == [host.name for host in first.hosts]


@pytest.mark.parametrize("suffix", ["second", "-a b", "-", "/x"])
def test_a_suffix_must_be_part_of_names(suffix):
    with pytest.raises(program.LabError, match=r"cannot be part of names\n→ write it like -second"):
        program.load(DEFINITION, {"LAB_SUFFIX": suffix})


def test_all_hosts_can_have_one_release():
    assert {host.suite for host in program.load(DEFINITION, {"LAB_SUITE": "noble"}).hosts} == {"noble"}
    with pytest.raises(program.LabError, match=r"LAB_SUITE 'focal' is no release that the lab knows\n→ it knows bookworm, trixie, noble"):
        program.load(DEFINITION, {"LAB_SUITE": "focal"})


def test_unknown_host_is_an_error_that_names_the_known_ones():
    with pytest.raises(program.LabError, match=r"no host 'relay9'\n→ it has: anchor1, relay1"):
        program.load(DEFINITION, {}).pick(["relay9"])


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"recipe": {**DEFINITION["image"], "packages": ["ufw"]}}, id="recipe"),
        pytest.param({"suite": "trixie"}, id="suite"),
        pytest.param({"mirrors": program.Mirrors("http://mirror.example/debian", "")}, id="mirror"),
        pytest.param({"contents": {"lab-init": "exec systemd"}}, id="file"),
    ],
)
def test_image_is_another_when_anything_in_it_is(changed):
    usual = {"recipe": DEFINITION["image"], "suite": "bookworm", "mirrors": program.Mirrors(), "contents": {"lab-init": ""}}
    assert program.recipe_digest(**usual) == program.recipe_digest(**usual)
    assert program.recipe_digest(**usual) != program.recipe_digest(**{**usual, **changed})


# --- The machine ------------------------------------------------------------------------------------------------------

DEB822 = """Types: deb
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main contrib
"""


@pytest.mark.parametrize(
    ("sources", "archive", "security"),
    [
        pytest.param([DEB822], "http://mirror.example/debian", "http://mirror.example/debian-security", id="deb822"),
        pytest.param(
            ["# deb http://old.example/debian sid main\ndeb [arch=amd64] http://one.example/debian/ trixie main contrib\n"],
            "http://one.example/debian",
            "",
            id="one-line",
        ),
        pytest.param(["deb http://a.example/debian trixie contrib main\n"], "http://a.example/debian", "", id="main-is-not-first"),
        pytest.param(["deb-src http://a.example/debian trixie main\n"], program.Mirrors().archive, program.Mirrors().security, id="sources-only"),
        pytest.param([DEB822.replace("deb\n", "deb\nEnabled: no\n")], program.Mirrors().archive, program.Mirrors().security, id="disabled"),
        pytest.param(
            ["deb https://vendor.example/linux/debian bookworm stable\n"],
            program.Mirrors().archive,
            program.Mirrors().security,
            id="vendor",
        ),
        pytest.param([], program.Mirrors().archive, program.Mirrors().security, id="none"),
    ],
)
def test_archive_is_the_one_that_apt_uses(sources, archive, security):
    assert program.archive_mirrors(sources) == program.Mirrors(archive, security)


def test_the_archive_of_ubuntu_is_the_one_that_apt_uses():
    found = program.archive_mirrors(["deb http://ubuntu.example/ubuntu noble main restricted\n"])
    assert found == program.Mirrors(ubuntu="http://ubuntu.example/ubuntu")
    pockets = [line.split()[3] for line in found.sources("noble")]
    assert pockets == ["noble", "noble-updates", "noble-security"]
    assert all(str(program.UBUNTU_KEYRING) in line and " http://ubuntu.example/ubuntu " in line for line in found.sources("noble"))


@pytest.mark.parametrize(
    ("unified", "may_raise", "expected"),
    [
        pytest.param(True, True, "", id="nothing-to-tell"),
        pytest.param(False, True, '[engine]\nruntime = "runc"\n', id="hybrid-cgroups"),
        pytest.param(True, False, '[containers]\ndefault_ulimits = ["nofile=8192:8192"]\n', id="no-cap-sys-resource"),
        pytest.param(False, False, '[engine]\nruntime = "runc"\n\n[containers]\ndefault_ulimits = ["nofile=8192:8192"]\n', id="both"),
    ],
)
def test_podman_is_told_only_what_this_machine_needs(unified, may_raise, expected):
    assert program.containers_conf(unified_cgroups=unified, may_raise_limits=may_raise, limits={"nofile": 8192}) == expected


@pytest.mark.parametrize(("limit", "expected"), [(-1, 100), (50, 50), (500, 100)], ids=["unlimited", "below", "above"])
def test_limits_have_a_ceiling(limit, expected):
    assert program.at_most(100, limit) == expected


def test_new_host_keys_replace_the_old_of_the_same_address():
    present = "10.77.0.11 ssh-ed25519 OLD\n10.77.0.21 ssh-ed25519 KEPT\n"
    merged = program.merge_known_hosts(present, ["10.77.0.11 ssh-ed25519 NEW", "fd77::11 ssh-ed25519 NEW"])
    assert merged == "10.77.0.11 ssh-ed25519 NEW\n10.77.0.21 ssh-ed25519 KEPT\nfd77::11 ssh-ed25519 NEW\n"


def test_other_hosts_are_known_by_name_in_both_families():
    hosts = program.hosts_file(program.load(DEFINITION, {})).splitlines()
    assert "10.77.0.21 relay1" in hosts
    assert "fd77:7e57:0:1::21 relay1" in hosts


def test_security_archive_is_built_in_only_where_there_is_one():
    with_it = program.build_command(DEFINITION["image"], "trixie", program.Mirrors(), Path("x.tar"))
    without = program.build_command(DEFINITION["image"], "trixie", program.Mirrors(security=""), Path("x.tar"))
    assert [part for part in with_it if part not in without] == [
        f"deb [signed-by={program.DEBIAN_KEYRING}] http://deb.debian.org/debian-security trixie-security main"
    ]


def test_furnished_host_lets_in_root_by_key_alone(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "root").mkdir()
    host = program.load(DEFINITION, {}).pick(["anchor1"])[0]
    program.furnish(tmp_path, host, "127.0.0.1 localhost\n", "ssh-ed25519 KEY\n")
    keys = tmp_path / "root" / ".ssh" / "authorized_keys"
    assert keys.read_text() == "ssh-ed25519 KEY\n"
    assert keys.stat().st_mode & 0o777 == 0o600
    assert keys.parent.stat().st_mode & 0o777 == 0o700


# --- Containers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cgroup", "alive"),
    [
        ("0::/machine.slice/libpod-4be1.scope/init.scope\n", True),
        ("0::/user.slice/user-1000.slice\n", False),  # somebody else's process has the number by now
        (None, False),  # no process has it
    ],
)
def test_a_killed_container_is_not_taken_for_a_running_one(tmp_path, cgroup, alive):
    if cgroup is not None:
        (tmp_path / "17").mkdir()
        (tmp_path / "17" / "cgroup").write_text(cgroup)
    assert program.is_alive({"Id": "4be1", "Pid": 17}, proc=tmp_path) is alive


def test_what_the_lab_runs_cannot_change_the_input_that_it_shares_with_others():
    ours, theirs = os.pipe()
    kept = os.dup(0)
    try:
        os.dup2(ours, 0)
        program.run([sys.executable, "-c", "import os; os.set_blocking(0, False)"], hint="")
        assert os.get_blocking(0)
    finally:
        os.dup2(kept, 0)
        for descriptor in (ours, theirs, kept):
            os.close(descriptor)
