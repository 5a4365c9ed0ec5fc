# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import os
import pwd

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import accounts, operators
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, InventoryError

HASH = "$6$abcdefgh$" + "x" * 86
OTHER_HASH = "$6$abcdefgh$" + "y" * 86
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFirstKeyFirstKeyFirstKeyFirstKeyFirstKeyFir alice@desk"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOtherKeyOtherKeyOtherKeyOtherKeyOtherKeyOth alice@road"

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
nats:x:998:997:Messages:/var/lib/nats:/usr/sbin/nologin
alice:x:1000:1000:,,,:{home}:/bin/bash
broken line
+nis::::::
"""
GROUP = """\
root:x:0:
nats:x:997:
alice:x:1000:
dialout:x:20:nats,alice
adm:x:4:
"""
SHADOW = f"""\
root:*:19000:0:99999:7:::
nats:!:19000::::::
alice:{HASH}:19000:0:99999:7:::
"""


@pytest.fixture
def etc(tmp_path):
    (tmp_path / "home/.ssh").mkdir(parents=True)
    (tmp_path / "home/.ssh/authorized_keys").write_text(f"# mine\n{KEY}\n")
    (tmp_path / "passwd").write_text(PASSWD.format(home=tmp_path / "home"))
    (tmp_path / "group").write_text(GROUP)
    (tmp_path / "shadow").write_text(SHADOW)
    return tmp_path


connected_accounts = accounts.connected_accounts


@pytest.fixture(autouse=True)
def came_in_as_root(monkeypatch):
    monkeypatch.setattr(accounts, "connected_accounts", lambda: ["root"])


def nats(**more):
    return {
        "name": "nats",
        "group": "nats",
        "groups": ["dialout"],
        "uid": None,
        "home": "/var/lib/nats",
        "shell": "/usr/sbin/nologin",
        "system": True,
        "create_home": False,
        "comment": "",
        "password_hash": None,
        "service": "nats-server",
        "absent": False,
        **more,
    }


def alice(etc, **more):
    return nats(name="alice", group="alice", groups=[], home=f"{etc}/home", shell="/bin/bash", system=False, create_home=True, service="", **more)


def group(name, gid=None, system=True):
    return {"name": name, "gid": gid, "system": system}


def wanted(*users, groups=()):
    return {"groups": list(groups), "users": list(users)}


def plan(etc, want):
    return accounts.diff(want, accounts.look(want, str(etc)))


def run(etc, want):
    """Apply, and return the commands that would have run, each with what it reads."""
    ran = []
    accounts.apply(want, accounts.look(want, str(etc)), lambda arguments, text: ran.append((" ".join(arguments), text)))
    return ran


def test_what_is_as_wanted_is_no_difference(etc):
    want = wanted(nats(), alice(etc, password_hash=HASH), groups=[group("nats", 997), group("alice")])
    assert plan(etc, want) == []
    assert run(etc, want) == []


def test_a_bare_host_gets_groups_then_users(tmp_path):
    want = wanted(nats(uid=1500, comment="Messages"), groups=[group("nats", 1500), group("dialout", system=False)])
    assert [(one.item, one.action) for one in plan(tmp_path, want)] == [
        ("group nats", "create"),
        ("group dialout", "create"),
        ("user nats", "create"),
    ]
    assert run(tmp_path, want) == [
        ("groupadd --system --gid 1500 nats", ""),
        ("groupadd dialout", ""),
        (
            "useradd --system --gid nats --home-dir /var/lib/nats --shell /usr/sbin/nologin --no-create-home"
            " --uid 1500 --comment Messages --groups dialout nats",
            "",
        ),
    ]


def test_an_operator_is_made_with_a_home_and_a_password_that_no_argument_shows(tmp_path):
    want = wanted(alice(tmp_path, password_hash=HASH))
    assert run(tmp_path, want) == [
        (f"useradd --gid alice --home-dir {tmp_path}/home --shell /bin/bash --create-home alice", ""),
        ("chpasswd --encrypted", f"alice:{HASH}\n"),
    ]


@pytest.mark.parametrize(
    ("change", "said", "command"),
    [
        pytest.param({"shell": "/bin/false"}, "shell /usr/sbin/nologin, not /bin/false", "usermod --shell /bin/false nats", id="shell"),
        pytest.param(
            {"home": "/srv/nats"}, "home /var/lib/nats, not /srv/nats", "unshare --pid --fork --mount-proc usermod --home /srv/nats nats", id="home"
        ),
        pytest.param({"group": "adm"}, "group nats, not adm", "usermod --gid adm nats", id="primary-group"),
        pytest.param({"comment": "Queue"}, "comment Messages, not Queue", "usermod --comment Queue nats", id="comment"),
        pytest.param({"groups": ["adm", "dialout"]}, "not in group adm", "usermod --append --groups adm nats", id="group-missing"),
        pytest.param({"groups": []}, "in group dialout unasked", "usermod --groups  nats", id="group-unasked"),
        pytest.param(
            {"groups": ["adm"], "shell": "/bin/false"},
            "shell /usr/sbin/nologin, not /bin/false; not in group adm; in group dialout unasked",
            "usermod --shell /bin/false --groups adm nats",
            id="several-in-one-call",
        ),
    ],
)
def test_drift_of_an_account_is_named_and_repaired(etc, change, said, command):
    want = wanted(nats(**change))
    (difference,) = plan(etc, want)
    assert (difference.item, difference.reason, difference.action, difference.service) == ("user nats", said, "change", "nats-server")
    assert run(etc, want) == [(command, "")]


def test_operators_keep_groups_of_others(etc):
    assert plan(etc, wanted(alice(etc))) == []
    assert run(etc, wanted({**alice(etc), "groups": ["adm"]})) == [("usermod --append --groups adm alice", "")]


def test_a_missing_home_is_made(etc):
    (etc / "home/.ssh/authorized_keys").unlink()
    (etc / "home/.ssh").rmdir()
    (etc / "home").rmdir()
    want = wanted(alice(etc))
    assert [one.reason for one in plan(etc, want)] == [f"home {etc}/home is missing"]
    assert run(etc, want) == [("mkhomedir_helper alice", "")]


@pytest.mark.parametrize(
    ("field", "said"),
    [pytest.param("", "password is empty, not locked", id="empty"), pytest.param(HASH, "password is set, not locked", id="set")],
)
def test_passwords_of_services_are_locked(etc, field, said):
    (etc / "shadow").write_text(f"nats:{field}:19000::::::\n")
    want = wanted(nats())
    assert [one.reason for one in plan(etc, want)] == [said]
    assert run(etc, want) == [("usermod --password ! nats", "")]


def test_f60_no_hash_leaves_in_observations_differences_or_arguments(etc):
    want = wanted(alice(etc, password_hash=OTHER_HASH))
    observed = accounts.look(want, str(etc))
    differences = accounts.diff(want, observed)
    assert [one.reason for one in differences] == ["password differs"]
    ran = run(etc, want)
    assert ran == [("chpasswd --encrypted", f"alice:{OTHER_HASH}\n")]
    changes = accounts._changes(want, observed)
    for shown in (observed, differences, changes, [arguments for arguments, _text in ran]):
        assert "$6$" not in repr(shown)


@pytest.mark.parametrize("word", ["hunter2", "$6$short", "$1$abcdefgh$0123456789012345678901", f"{HASH}:0", f"{HASH}\n"])
def test_f60_a_password_itself_is_refused_and_not_repeated(word):
    with pytest.raises(FleetError, match="password_hash is not a hash") as caught:
        accounts.require_sound(wanted(nats(password_hash=word)))
    assert word not in str(caught.value)


@pytest.mark.parametrize("good", [HASH, "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", "$2b$12$" + "a" * 53, None, ""])
def test_hashes_of_crypt_are_accepted(good):
    accounts.require_sound(wanted(nats(password_hash=good)))


def test_accounts_listed_twice_are_a_mistake():
    with pytest.raises(FleetError, match="users: nats listed twice"):
        accounts.require_sound(wanted(nats(), nats()))


@pytest.mark.parametrize(
    ("want", "said"),
    [
        pytest.param(wanted(nats(uid=1500)), "user nats: has uid 998 on this host, 1500 in the inventory", id="uid"),
        pytest.param(wanted(groups=[group("nats", 1500)]), "group nats: has gid 997 on this host, 1500 in the inventory", id="gid"),
        pytest.param(wanted(nats(name="root", absent=True)), "user root: should go, but this run came in through it", id="root"),
    ],
)
def test_what_is_refused(etc, want, said):
    (difference,) = plan(etc, want)
    assert difference.action == "refuse"
    with pytest.raises(FleetError) as caught:
        accounts.require_allowed([difference])
    assert said in str(caught.value)
    with pytest.raises(FleetError):
        run(etc, want)


def test_an_unknown_supplementary_group_fails_before_anything_is_changed(etc):
    ran = []
    want = wanted(nats(groups=["gpio"]), groups=[group("new")])
    with pytest.raises(FleetError, match="user nats: this host has no group 'gpio'"):
        accounts.apply(want, accounts.look(want, str(etc)), lambda *command: ran.append(command))
    assert ran == []


def test_an_absent_account_goes_and_its_home_stays(etc):
    want = wanted({**alice(etc), "absent": True}, nats(name="never-there", absent=True))
    (difference,) = plan(etc, want)
    assert (difference.action, difference.reason) == ("remove", f"should not exist; its home {etc}/home stays")
    assert run(etc, want) == [("userdel alice", "")]


# Not locking oneself out


def test_a_service_does_not_take_an_account_of_the_distribution(etc):
    (etc / "passwd").write_text("news:x:9:9:news:/var/spool/news:/usr/sbin/nologin\n")
    (etc / "group").write_text("news:x:9:\n")
    (difference,) = plan(etc, wanted(nats(name="news", group="news", groups=[], home="/var/lib/news")))
    assert (difference.action, difference.reason.partition(";")[0]) == (
        "refuse",
        "is an account of the distribution, with its home in /var/spool/news",
    )
    assert plan(etc, wanted(nats(name="news", group="news", groups=[], home="/var/spool/news", comment="news"))) == []


@pytest.mark.parametrize("name", ["root", "alice"])
def test_a_service_does_not_take_the_account_of_the_connection(etc, monkeypatch, name):
    monkeypatch.setattr(accounts, "connected_accounts", lambda: ["alice"])
    (difference,) = plan(etc, wanted(nats(name=name, group=name, groups=[])))
    assert (difference.action, difference.reason.partition(",")[0]) == ("refuse", "people log in through it")


def test_f48_the_account_of_the_connection_is_not_removed(etc, monkeypatch):
    monkeypatch.setattr(accounts, "connected_accounts", lambda: ["alice", "root"])
    assert [one.action for one in plan(etc, wanted({**alice(etc), "absent": True}))] == ["refuse"]


@pytest.mark.parametrize(
    ("connected", "keys", "expected"),
    [
        pytest.param(["alice", "root"], [OTHER_KEY], ["refuse"], id="all-keys-replaced"),
        pytest.param(["alice", "root"], [OTHER_KEY, KEY], [], id="one-key-kept"),
        pytest.param(["alice", "root"], [KEY.rsplit(" ", 1)[0] + " renamed"], [], id="only-the-comment-differs"),
        pytest.param(["alice", "root"], [f'from="10.0.0.0/8" {KEY}'], [], id="only-options-differ"),
        pytest.param(["alice", "root"], [], [], id="keys-not-managed"),
        pytest.param(["root"], [OTHER_KEY], [], id="somebody-else"),
    ],
)
def test_f48_the_account_of_the_connection_keeps_a_key(etc, monkeypatch, connected, keys, expected):
    monkeypatch.setattr(accounts, "connected_accounts", lambda: connected)
    assert [one.action for one in plan(etc, wanted(alice(etc, ssh_keys=keys)))] == expected


# Operators


def test_operators_become_groups_users_and_paths():
    made = operators.operator_slices([{"name": "alice", "ssh_keys": [KEY, OTHER_KEY + "\n"], "sudo": "nopasswd", "groups": ["adm"]}])
    assert made["groups"] == [{"name": "alice", "gid": None, "system": False}]
    (user,) = made["users"]
    assert {key: user[key] for key in ("group", "groups", "home", "shell", "system", "create_home", "absent")} == {
        "group": "alice",
        "groups": ["adm"],
        "home": "/home/alice",
        "shell": "/bin/bash",
        "system": False,
        "create_home": True,
        "absent": False,
    }
    by_path = {one["path"]: one for one in made["paths"]}
    assert list(by_path) == [
        "/home/alice/.ssh",
        "/home/alice/.ssh/authorized_keys",
        "/home/alice/.ssh/authorized_keys2",
        "/etc/sudoers.d/hearth-alice",
    ]
    keys, sudoers = by_path["/home/alice/.ssh/authorized_keys"], by_path["/etc/sudoers.d/hearth-alice"]
    assert keys["content"] == f"{KEY}\n{OTHER_KEY}\n"
    assert keys["sha256"] == hashlib.sha256(keys["content"].encode()).hexdigest()
    assert (keys["owner"], keys["group"], keys["mode"]) == ("alice", "alice", "0600")
    assert by_path["/home/alice/.ssh"]["mode"] == "0700"
    assert by_path["/home/alice/.ssh/authorized_keys2"]["state"] == "absent"
    assert sudoers["content"] == "alice ALL=(ALL:ALL) NOPASSWD: ALL\n"
    assert (sudoers["mode"], sudoers["validate"]) == ("0440", ["/usr/sbin/visudo", "-cf", "{path}"])


def test_keys_of_others_stay_where_they_are_not_exclusive():
    made = operators.operator_slices([{"name": "alice", "ssh_keys": [KEY]}], exclusive_keys=False)
    assert [(one["path"], one["state"]) for one in made["paths"]] == [
        ("/home/alice/.ssh", "directory"),
        ("/home/alice/.ssh/authorized_keys2", "file"),
        ("/etc/sudoers.d/hearth-alice", "absent"),
    ]
    assert made["users"][0]["ssh_keys"] == []


def test_an_absent_operator_loses_account_keys_and_sudo():
    made = operators.operator_slices([{"name": "bob", "state": "absent"}])
    assert made["groups"] == []
    assert made["users"][0]["absent"] is True
    assert {one["path"]: one["state"] for one in made["paths"]} == {
        "/etc/sudoers.d/hearth-bob": "absent",
        "/home/bob/.ssh/authorized_keys": "absent",
        "/home/bob/.ssh/authorized_keys2": "absent",
    }


def test_keys_that_are_left_out_are_left_alone():
    made = operators.operator_slices([{"name": "root"}])
    assert [one["path"] for one in made["paths"]] == ["/etc/sudoers.d/hearth-root"]
    assert made["users"][0]["home"] == "/root"
    assert made["groups"] == []


@pytest.mark.parametrize(
    ("operator", "path", "problem"),
    [
        pytest.param({}, "name", "'' cannot name an operator", id="no-name"),
        pytest.param({"name": "a.b"}, "name", "'a.b' cannot name an operator", id="dot"),
        pytest.param({"name": "Ada"}, "name", "'Ada' cannot name an operator", id="capital"),
        pytest.param({"name": "root", "state": "absent"}, "state", "root cannot be absent", id="absent-root"),
        pytest.param({"name": "ada", "state": "gone"}, "state", "'gone' is not one of present, absent", id="state"),
        pytest.param({"name": "ada", "sudo": "yes"}, "sudo", "'yes' is not one of none, password, nopasswd", id="sudo"),
        pytest.param({"name": "ada", "sudo": "password"}, "sudo", "there is no password_hash", id="sudo-without-password"),
        pytest.param({"name": "ada", "password_hash": "hunter2"}, "password_hash", "is not a hash of crypt(5)", id="plain-password"),
        pytest.param({"name": "ada", "ssh_keys": []}, "ssh_keys", "no key would lock the operator out", id="no-keys"),
        pytest.param({"name": "ada", "ssh_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]}, "ssh_keys[0]", "not a public key", id="private-key"),
        pytest.param({"name": "ada", "ssh_keys": [KEY.replace("FirstKeyFirst", "First", 1)]}, "ssh_keys[0]", "not whole", id="cut-key"),
        pytest.param({"name": "ada", "ssh_keys": [KEY + "\n" + OTHER_KEY]}, "ssh_keys[0]", "not a public key", id="two-keys-in-one"),
    ],
)
def test_mistakes_of_operators_are_named(operator, path, problem):
    with pytest.raises(InventoryError) as caught:
        operators.operator_slices([operator])
    (mistake,) = caught.value.mistakes
    assert mistake.path == f"account_operators[0].{path}"
    assert problem in mistake.problem
    assert "hunter2" not in str(caught.value)


def test_all_mistakes_of_operators_at_once():
    with pytest.raises(InventoryError) as caught:
        operators.operator_slices([{"name": "ada", "sudo": "x"}, {"name": "ada", "ssh_keys": []}])
    assert [mistake.path for mistake in caught.value.mistakes] == [
        "account_operators[0].sudo",
        "account_operators[1].name",
        "account_operators[1].ssh_keys",
    ]


# The pieces


def test_account_files_are_read_as_they_are():
    assert accounts.parse_passwd(PASSWD)["nats"] == {
        "uid": 998,
        "gid": 997,
        "comment": "Messages",
        "home": "/var/lib/nats",
        "shell": "/usr/sbin/nologin",
    }
    assert set(accounts.parse_passwd(PASSWD)) == {"root", "nats", "alice"}
    assert accounts.parse_group(GROUP)["dialout"] == {"gid": 20, "members": ["nats", "alice"]}
    assert accounts.parse_shadow(SHADOW)["nats"] == "!"


def test_a_command_that_fails_says_what_it_said():
    with pytest.raises(FleetError, match="sh -c echo no such thing"):
        accounts._run(["sh", "-c", "echo no such thing >&2; exit 6"], "")
    with pytest.raises(FleetError, match="/nowhere/useradd cannot be run: No such file or directory"):
        accounts._run(["/nowhere/useradd"], "")


def test_the_accounts_of_the_connection_are_seen(monkeypatch):
    monkeypatch.setenv("SUDO_USER", "pilot")
    found = connected_accounts()
    assert "pilot" in found
    assert pwd.getpwuid(os.geteuid()).pw_name in found
