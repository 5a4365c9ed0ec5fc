# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import grp
import hashlib
import os
import pwd
import subprocess
import sys
import tempfile
import time
from itertools import takewhile
from pathlib import Path

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import paths, placing
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

ME = pwd.getpwuid(os.geteuid()).pw_name
MY_GROUP = grp.getgrgid(os.getegid()).gr_name
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away and to run as others")


def file(path, content="new\n", **more):
    return {"path": str(path), "state": "file", "owner": ME, "group": MY_GROUP, "mode": "0640", "content": content, **more}


def secret(path, content, **more):
    return {**file(path, None, **more), "mode": "0600", "secret_content": content}


def directory(path, **more):
    return {"path": str(path), "state": "directory", "owner": ME, "group": MY_GROUP, "mode": "0750", **more}


def link(path, target):
    return {"path": str(path), "state": "link", "target": str(target)}


def absent(path):
    return {"path": str(path), "state": "absent"}


def plan(wanted):
    observed = paths.look(wanted)
    return observed, paths.diff(wanted, observed)


def converge(*wanted):
    observed, differences = plan(wanted)
    placing.apply(wanted, observed, differences)
    assert plan(wanted)[1] == [], "a second run must find nothing"
    return [(one.item, one.action) for one in differences]


def reasons(*wanted):
    return [one.reason for one in plan(wanted)[1]]


def tree(root):
    """Everything below a directory: names, modes and contents."""
    return {
        os.path.join(where, name): (os.lstat(os.path.join(where, name)).st_mode, _content(os.path.join(where, name)))
        for where, directories, files in os.walk(root)
        for name in [*directories, *files]
    }


def _content(path):
    if os.path.islink(path):
        return os.readlink(path)
    if os.path.isfile(path):
        with open(path, "rb") as opened:
            return opened.read()
    return None


def python(*lines):
    """A validator: a small program that gets the candidate's path."""
    return [sys.executable, "-c", "\n".join(["import os, sys", "path = sys.argv[1]", *lines]), "{path}"]


REJECT = python("print('line 3: unknown key')", "sys.exit(4)")


# The whole way


def test_everything_is_made_and_a_second_run_finds_nothing(tmp_path):
    home = tmp_path / "etc"
    done = converge(
        directory(home),
        directory(home / "keys", mode="0700"),
        file(home / "node.toml", "a = 1\n"),
        secret(home / "keys/token", "s3cret"),
        link(tmp_path / "current", "etc/node.toml"),
        absent(tmp_path / "nothing"),
    )
    assert [action for _item, action in done] == ["create"] * 5
    assert (home / "node.toml").read_text() == "a = 1\n"
    assert os.stat(home / "node.toml").st_mode & 0o7777 == 0o640
    assert os.stat(home / "keys/token").st_mode & 0o7777 == 0o600
    assert os.stat(home / "keys").st_mode & 0o7777 == 0o700
    assert os.readlink(tmp_path / "current") == "etc/node.toml"


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        pytest.param(lambda path: path.write_text("edited"), "content differs", id="edited"),
        pytest.param(lambda path: path.chmod(0o666), "mode 0666, not 0640", id="chmod"),
        pytest.param(lambda path: path.unlink(), "does not exist", id="deleted"),
        pytest.param(lambda path: os.chown(path, 1, 1), "owner daemon, not", id="chown", marks=as_root),
        pytest.param(lambda path: os.chown(path, 59999, -1), "owner 59999, not", id="unknown-owner", marks=as_root),
        pytest.param(lambda path: path.chmod(0o4640), "mode 4640, not 0640", id="setuid"),
    ],
)
def test_drift_of_a_file_is_named_and_repaired(tmp_path, drift, said):
    wanted = file(tmp_path / "node.toml")
    converge(wanted)
    drift(tmp_path / "node.toml")
    assert said in reasons(wanted)[0]
    converge(wanted)
    assert os.listdir(tmp_path) == ["node.toml"]


def test_drift_of_directories_and_links_is_named_and_repaired(tmp_path):
    wanted = [directory(tmp_path / "d"), link(tmp_path / "l", "d")]
    converge(*wanted)
    (tmp_path / "d").chmod(0o777)
    (tmp_path / "l").unlink()
    (tmp_path / "l").symlink_to("/elsewhere")
    assert reasons(*wanted) == ["mode 0777, not 0750", "points to /elsewhere, not to d"]
    assert [action for _item, action in converge(*wanted)] == ["change", "change"]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.write_text("x"), id="file"),
        pytest.param(lambda path: path.mkdir(), id="empty-directory"),
        pytest.param(lambda path: path.symlink_to("/nowhere"), id="dangling-link"),
    ],
)
def test_absent_removes(tmp_path, make):
    make(tmp_path / "old")
    assert converge(absent(tmp_path / "old")) == [(str(tmp_path / "old"), "remove")]
    assert os.listdir(tmp_path) == []


def test_a_link_gives_way_to_a_file_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "node.toml").symlink_to("mine")
    wanted = file(tmp_path / "node.toml")
    assert reasons(wanted) == ["is a symbolic link to mine, where a file is wanted"]
    converge(wanted)
    assert not (tmp_path / "node.toml").is_symlink()
    assert (tmp_path / "mine").read_text() == "mine"


def test_removing_a_link_keeps_what_it_points_to(tmp_path):
    (tmp_path / "data").write_text("x")
    (tmp_path / "old").symlink_to("data")
    converge(absent(tmp_path / "old"))
    assert os.listdir(tmp_path) == ["data"]


# What is refused


def _full_directory(path):
    path.mkdir()
    (path / "mine").write_text("x")


@pytest.mark.parametrize(
    ("make", "want", "said"),
    [
        pytest.param(lambda path: path.mkdir(), file, "is a directory, where a file is wanted", id="directory-for-file"),
        pytest.param(lambda path: path.write_text("x"), directory, "is a file, where a directory is wanted", id="file-for-directory"),
        pytest.param(lambda path: path.symlink_to("/etc"), directory, "is a symbolic link, where a directory is wanted", id="link-for-directory"),
        pytest.param(lambda path: path.write_text("x"), lambda path: link(path, "y"), "is a file, where a symbolic link", id="file-for-link"),
        pytest.param(os.mkfifo, file, "is a special file, where a file is wanted", id="pipe-for-file"),
        pytest.param(_full_directory, absent, "is a directory with something in it", id="absent-full-directory"),
        pytest.param(os.mkfifo, absent, "is a special file, which is not removed unasked", id="absent-pipe"),
    ],
)
@pytest.mark.parametrize("act", [placing.apply, lambda wanted, _observed, differences: placing.rehearse(wanted, differences)], ids=["apply", "check"])
def test_what_is_in_the_way_is_named_and_kept(tmp_path, make, want, said, act):
    make(tmp_path / "thing")
    other = file(tmp_path / "other")
    wanted = [want(tmp_path / "thing"), other]
    before = tree(tmp_path)
    observed, differences = plan(wanted)
    assert [one.action for one in differences] == ["refuse", "create"]
    with pytest.raises(FleetError) as caught:
        act(wanted, observed, differences)
    assert f"{tmp_path}/thing: {said}" in str(caught.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        pytest.param(file("relative/path"), "is not an absolute path", id="relative"),
        pytest.param(file("/etc/../x"), "is not an absolute path", id="dots"),
        pytest.param(directory("/etc/x/"), "is not an absolute path", id="slash-at-the-end"),
        pytest.param(file("/nowhere/x", mode="rw"), "mode 'rw' is not octal", id="mode"),
        pytest.param(file("/nowhere/x", None), "needs either content or secret_content", id="no-content"),
        pytest.param(file("/nowhere/x", "a", secret_content="b"), "needs either content or secret_content", id="both-contents"),
        pytest.param(link("/nowhere/x", ""), "a link needs a target", id="no-target"),
        pytest.param(file("/nowhere/x"), "its directory /nowhere does not exist", id="no-directory"),
        pytest.param(file("/etc/passwd/x"), "'passwd' on the way to it is not a directory", id="file-on-the-way"),
        pytest.param(file("/tmp/x", owner="no-such-account"), "this host has no account 'no-such-account'", id="no-account"),
    ],
)
def test_mistakes_are_named(wanted, said):
    observed, differences = plan([wanted])
    with pytest.raises(FleetError) as caught:
        placing.apply([wanted], observed, differences)
    assert said in str(caught.value)


def test_a_path_listed_twice_is_a_mistake(tmp_path):
    wanted = [file(tmp_path / "x", "a"), file(tmp_path / "x", "b")]
    with pytest.raises(FleetError, match="listed twice"):
        placing.apply(wanted, *plan(wanted))


@as_root
def test_links_of_others_are_not_followed_on_the_way(tmp_path):
    (tmp_path / "root-only").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.ssh").symlink_to(tmp_path / "root-only")
    os.chown(tmp_path / "home/.ssh", 1, 1, follow_symlinks=False)
    wanted = [file(tmp_path / "home/.ssh/authorized_keys")]
    with pytest.raises(FleetError, match=r"'.ssh' on the way to it is a symbolic link of daemon"):
        placing.apply(wanted, *plan(wanted))
    assert os.listdir(tmp_path / "root-only") == []


def test_links_of_roots_own_are_followed_on_the_way(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "absolute").symlink_to(tmp_path / "real")
    (tmp_path / "relative").symlink_to("absolute")
    converge(file(tmp_path / "relative/x"))
    assert os.listdir(tmp_path / "real") == ["x"]


# Validators


def test_f59_a_rejected_file_keeps_all_old_files_of_the_call(tmp_path):
    (tmp_path / "first").write_text("old")
    (tmp_path / "second.toml").write_text("old")
    before = tree(tmp_path)
    wanted = [file(tmp_path / "first"), file(tmp_path / "second.toml", validate=REJECT), link(tmp_path / "l", "x")]
    with pytest.raises(FleetError) as caught:
        placing.apply(wanted, *plan(wanted))
    said = str(caught.value)
    assert f"{tmp_path}/second.toml was rejected by its validator (exit code 4)" in said
    assert "the old file was kept, the service was not touched" in said
    assert "  | line 3: unknown key" in said
    assert tree(tmp_path) == before


def test_a_rejected_file_of_a_service_is_traced_to_the_inventory(tmp_path):
    wanted = [file(tmp_path / "x", validate=REJECT, service="nsd")]
    with pytest.raises(FleetError, match=r"\n  → correct what fleet_services\.nsd\.config says of it$"):
        placing.apply(wanted, *plan(wanted))


def test_f59_all_rejected_files_of_a_call_are_said_at_once(tmp_path):
    wanted = [file(tmp_path / "first", validate=REJECT), file(tmp_path / "second"), file(tmp_path / "third", validate=REJECT)]
    with pytest.raises(FleetError) as caught:
        placing.apply(wanted, *plan(wanted))
    assert [line for line in str(caught.value).splitlines() if "was rejected by its validator" in line] == [
        f"{tmp_path}/{name} was rejected by its validator (exit code 4); the old file was kept, the service was not touched."
        for name in ("first", "third")
    ]
    assert os.listdir(tmp_path) == []


def test_the_name_of_a_candidate_is_no_pattern_to_a_validator(tmp_path):
    converge(file(tmp_path / "x.conf", validate=python("assert not set(path) & set('~*?[]{}$ '), path")))


def test_f59_a_validator_sees_the_finished_candidate(tmp_path):
    checks = [
        "assert path.endswith('.toml'), path",
        f"assert os.path.dirname(path) == {str(tmp_path)!r}",
        "assert open(path).read() == 'new\\n'",
        "assert os.stat(path).st_mode & 0o7777 == 0o640",
        f"assert open({str(tmp_path / 'node.toml')!r}).read() == 'old'",
    ]
    (tmp_path / "node.toml").write_text("old")
    converge(file(tmp_path / "node.toml", validate=python(*checks)))
    assert (tmp_path / "node.toml").read_text() == "new\n"


@as_root
def test_a_validator_runs_as_the_daemons_account(tmp_path):
    for directory in (tmp_path, *takewhile(lambda parent: parent != Path(tempfile.gettempdir()), tmp_path.parents)):
        directory.chmod(0o755)  # pytest's own are closed to others
    checks = ["assert os.getuid() == os.getgid() == 1", "assert os.getgroups() == [1], os.getgroups()", "open(path)"]
    command = ["/usr/bin/python3", *python(*checks)[1:]]
    readable = file(tmp_path / "x", group="daemon", validate=command, validate_as="daemon")
    converge(readable)
    wanted = [{**readable, "content": "unreadable", "group": "root"}]
    with pytest.raises(FleetError, match="Permission denied"):
        placing.apply(wanted, *plan(wanted))
    assert (tmp_path / "x").read_text() == "new\n"


def test_a_validator_that_hangs_is_killed_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(placing, "VALIDATION_SECONDS", 0.5)
    pid = tmp_path / "child"
    wanted = [file(tmp_path / "x", validate=["sh", "-c", f"sleep 300 & echo $! > {pid}; wait"])]
    with pytest.raises(FleetError, match=r"no answer in 0.5 seconds"):
        placing.apply(wanted, *plan(wanted))
    child, deadline = int(pid.read_text()), time.monotonic() + 10
    while not _has_ended(child):  # a kill is sent, not done, when kill(2) returns
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _has_ended(pid):
    """Whether a process is gone, or dead and only waiting for somebody to notice."""
    try:
        with open(f"/proc/{pid}/stat") as status:
            return status.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param(["/nowhere/check", "{path}"], "its validator /nowhere/check is not on this host", id="missing"),
        pytest.param(["sh", "-c", "kill -9 $$"], "killed by SIGKILL", id="killed"),
        pytest.param(["false"], "(it said nothing)", id="silent"),
        pytest.param(["sh", "-c", "seq 1 90; exit 1"], "  | 71\n", id="last-lines-only"),
    ],
)
def test_validators_that_fail_otherwise(tmp_path, command, said):
    wanted = [file(tmp_path / "x", validate=command)]
    with pytest.raises(FleetError) as caught:
        placing.apply(wanted, *plan(wanted))
    assert said in str(caught.value)
    assert "  | 70\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_unchanged_files_are_not_validated(tmp_path):
    converge(file(tmp_path / "x"))
    converge(file(tmp_path / "x", validate=REJECT))


# Files that include each other


def including(path, *others, **more):
    """A file whose validator wants other files to be there."""
    tests = " && ".join(f"test -f {other}" for other in others)
    return file(path, validate=["sh", "-c", tests or "true"], service="prometheus", **more)


def test_new_files_that_include_each_other_are_validated_whatever_their_order(tmp_path):
    assert converge(
        including(tmp_path / "main", tmp_path / "rules", tmp_path / "targets"),
        including(tmp_path / "rules", tmp_path / "targets"),
        file(tmp_path / "targets", service="prometheus"),
    ) == [(str(tmp_path / name), "create") for name in ("main", "rules", "targets")]


def test_a_new_file_goes_again_when_one_that_includes_it_is_rejected(tmp_path):
    (tmp_path / "main").write_text("old")
    before = tree(tmp_path)
    wanted = [including(tmp_path / "main", tmp_path / "rules", tmp_path / "missing"), including(tmp_path / "rules")]
    with pytest.raises(FleetError, match="main was rejected by its validator"):
        placing.apply(wanted, *plan(wanted))
    assert tree(tmp_path) == before


def test_a_rejected_new_file_is_never_where_another_one_includes_it(tmp_path):
    wanted = [including(tmp_path / "main", tmp_path / "rules"), file(tmp_path / "rules", validate=REJECT, service="prometheus")]
    with pytest.raises(FleetError, match="was rejected by its validator"):
        placing.apply(wanted, *plan(wanted))
    assert os.listdir(tmp_path) == []


def test_check_mode_judges_a_file_together_with_those_that_are_yet_to_come(tmp_path):
    (tmp_path / "main").write_text("old")
    before = tree(tmp_path)
    wanted = [including(tmp_path / "main", tmp_path / "rules"), including(tmp_path / "rules")]
    placing.rehearse(wanted, plan(wanted)[1])
    wanted[0] = including(tmp_path / "main", tmp_path / "rules", tmp_path / "missing")
    with pytest.raises(FleetError, match="main was rejected"):
        placing.rehearse(wanted, plan(wanted)[1])
    assert tree(tmp_path) == before


def test_check_mode_judges_no_file_that_may_include_what_it_cannot_make_yet(tmp_path):
    wanted = [directory(tmp_path / "rules.d"), including(tmp_path / "main", tmp_path / "rules.d/x"), including(tmp_path / "rules.d/x")]
    placing.rehearse(wanted, plan(wanted)[1])
    assert os.listdir(tmp_path) == []


mounting = pytest.mark.skipif(not placing._can_mount(), reason="needs root that may mount")


def fleet_of_files(path, rules, main="main\n", validate=None, **more):
    """A main file whose validator reads the rules beside it, which have none, and the rules."""
    reads = ["sh", "-c", f'grep -q main "$1" && ! grep -H broken {path / "rules"}', "sh", "{path}"]
    return [
        file(path / "main", main, validate=validate or reads, service="prometheus", **more),
        file(path / "rules", rules, service="prometheus", validate_as=more.get("validate_as", "")),
    ]


@mounting
@pytest.mark.parametrize("main", [pytest.param("main\n", id="stays"), pytest.param("main, changed\n", id="changes-too")])
def test_f59_an_included_file_is_judged_by_the_one_that_includes_it(tmp_path, main):
    converge(*fleet_of_files(tmp_path, "good\n"))
    before = tree(tmp_path)
    wanted = fleet_of_files(tmp_path, "broken\n", main)
    for attempt in (placing.rehearse, lambda wanted, differences: placing.apply(wanted, paths.look(wanted), differences)):
        with pytest.raises(FleetError) as caught:
            attempt(wanted, plan(wanted)[1])
        assert f"{tmp_path}/main was rejected by its validator" in str(caught.value)
        assert f"  | {tmp_path}/rules:broken" in str(caught.value)
        assert (f" with {tmp_path}/rules, which is to change (exit code 1)" in str(caught.value)) == (main == "main\n")
        assert tree(tmp_path) == before
    assert converge(*fleet_of_files(tmp_path, "better\n", main))


@mounting
def test_a_file_is_judged_with_what_it_includes_as_that_will_be(tmp_path):
    needs_new = ["sh", "-c", f"grep -q new {tmp_path / 'rules'}"]
    converge(*fleet_of_files(tmp_path, "old\n"))
    converge(*fleet_of_files(tmp_path, "new\n", "main 2\n", validate=needs_new))
    assert (tmp_path / "rules").read_text() == "new\n"


@mounting
def test_a_validator_with_candidates_in_their_places_runs_as_the_daemons_account(tmp_path):
    for directory in (tmp_path, *takewhile(lambda parent: parent != Path(tempfile.gettempdir()), tmp_path.parents)):
        directory.chmod(0o755)
    checks = [
        "assert os.getuid() == os.getgid() == 1",
        "assert os.getgroups() == [1], os.getgroups()",
        f"assert 'new' in open('{tmp_path}/rules').read()",
    ]
    command = ["/usr/bin/python3", *python(*checks)[1:]]
    converge(*fleet_of_files(tmp_path, "old\n", group="daemon"))
    converge(*[{**one, "group": "daemon"} for one in fleet_of_files(tmp_path, "new\n", validate=command, validate_as="daemon")])
    assert (tmp_path / "rules").read_text() == "new\n"


def test_the_file_of_a_secret_is_nothing_that_a_validator_reads(tmp_path):
    main = file(tmp_path / "main", service="prometheus")
    converge(main, secret(tmp_path / "env", "A=1", service="prometheus"))
    converge({**main, "validate": REJECT}, secret(tmp_path / "env", "A=2", service="prometheus"))
    assert (tmp_path / "env").read_text() == "A=2"


def test_where_nothing_can_be_mounted_a_file_is_judged_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(placing, "_can_mount", lambda: False)
    converge(*fleet_of_files(tmp_path, "old\n"))
    converge(*fleet_of_files(tmp_path, "new\n", "main 2\n"))
    assert (tmp_path / "main").read_text() == "main 2\n"


# Check mode


def test_check_mode_validates_and_leaves_nothing(tmp_path):
    (tmp_path / "x").write_text("old")
    before = tree(tmp_path)
    wanted = [file(tmp_path / "x", validate=REJECT)]
    with pytest.raises(FleetError, match="was rejected"):
        placing.rehearse(wanted, plan(wanted)[1])
    accepted = [directory(tmp_path / "d"), file(tmp_path / "x", validate=["true"]), absent(tmp_path / "y"), link(tmp_path / "l", "x")]
    placing.rehearse(accepted, plan(accepted)[1])
    assert tree(tmp_path) == before


def test_check_mode_finds_directories_that_nothing_holds(tmp_path):
    orphans = [directory(tmp_path / "a/b", service="relay"), directory(tmp_path / "c/d", service="relay")]
    differences = plan(orphans)[1]
    with pytest.raises(FleetError, match=r"(?s)/a/b: its directory .*/a does not exist.*/c/d: its directory .*/c does not exist"):
        placing.rehearse(orphans, differences, complete=True)
    placing.rehearse(orphans, differences)  # another task may be about to make what holds them
    listed = [directory(tmp_path / "a", service="relay"), orphans[0], directory(tmp_path / "home/.ssh")]
    placing.rehearse(listed, plan(listed)[1], complete=True)


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(file("/nowhere/x", validate=REJECT), id="no-directory"),
        pytest.param(file("/tmp/hearth-x", validate=["/nowhere/check"]), id="no-validator"),
        pytest.param(file("/tmp/hearth-x", owner="no-such-account", validate=REJECT), id="no-owner"),
        pytest.param(file("/tmp/hearth-x", group="no-such-group", validate=REJECT), id="no-group"),
        pytest.param(file("/tmp/hearth-x", validate=REJECT, validate_as="no-such-account"), id="no-validating-account"),
    ],
)
def test_check_mode_on_a_bare_host(wanted):
    differences = plan([wanted])[1]
    placing.rehearse([wanted], differences)
    assert [one.action for one in differences] == ["create"]


# Interrupted runs and full disks


def test_f57_a_full_disk_keeps_every_old_file(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("old")
    before = tree(tmp_path)
    real, written = os.write, []

    def full_after_one(fd, data):
        written.append(fd)
        if len(written) > 1:
            raise OSError(28, os.strerror(28))
        return real(fd, data)

    monkeypatch.setattr(os, "write", full_after_one)
    wanted = [file(tmp_path / "a"), file(tmp_path / "b")]
    with pytest.raises(FleetError, match=f"cannot write {tmp_path}/b: No space left on device; what was there is kept"):
        placing.apply(wanted, *plan(wanted))
    assert tree(tmp_path) == before


def test_candidates_of_a_killed_run_are_removed_by_the_next(tmp_path):
    script = [
        "from ansible_collections.hearth.fleet.plugins.module_utils import paths, placing",
        f"wanted = [{file(tmp_path / 'x', validate=['sh', '-c', 'kill -9 $PPID'])!r}]",
        "observed = paths.look(wanted)",
        "placing.apply(wanted, observed, paths.diff(wanted, observed))",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", "\n".join(script)], env=environment, check=False)
    assert killed.returncode == -9
    leftover = os.listdir(tmp_path)
    assert len(leftover) == 1
    assert leftover[0].startswith(".hearth-")
    assert converge(file(tmp_path / "x")) == [(str(tmp_path / "x"), "create"), (str(tmp_path / leftover[0]), "remove")]
    assert os.listdir(tmp_path) == ["x"]


def test_a_leftover_alone_is_observed_and_removed(tmp_path):
    converge(file(tmp_path / "x"))
    (tmp_path / ".hearth-0123456789ab-x").write_text("half")
    (tmp_path / ".hearth-0123456789ab-not-x").write_text("not of this path")
    assert reasons(file(tmp_path / "x")) == ["left behind by an interrupted run"]
    converge(file(tmp_path / "x"))
    assert sorted(os.listdir(tmp_path)) == [".hearth-0123456789ab-not-x", "x"]


def test_candidates_of_a_living_run_are_no_leftovers(tmp_path):
    wanted = file(tmp_path / "x")
    with placing._candidate(wanted) as candidate:
        assert os.path.exists(candidate.path)
        assert reasons(wanted) == ["does not exist"]
    assert os.listdir(tmp_path) == []


def test_what_was_done_before_a_late_failure_is_said(tmp_path, monkeypatch):
    (tmp_path / "gone").write_text("x")
    wanted = [file(tmp_path / "a"), absent(tmp_path / "gone")]
    observed, differences = plan(wanted)
    (tmp_path / "gone").unlink()
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone/since").write_text("x")
    with pytest.raises(FleetError, match=rf"cannot remove {tmp_path}/gone: Directory not empty[\s\S]*Already in place: {tmp_path}/a"):
        placing.apply(wanted, observed, differences)


# What is shown


def test_the_diff_shows_contents_and_attributes(tmp_path):
    (tmp_path / "x").write_text("old\n")
    (tmp_path / "x").chmod(0o644)
    wanted = [file(tmp_path / "x")]
    at = {"before_header": f"{tmp_path}/x", "after_header": f"{tmp_path}/x"}
    assert placing.changes(wanted, paths.look(wanted)) == [
        {"before": f"file {ME}:{MY_GROUP} 0644\n", "after": f"file {ME}:{MY_GROUP} 0640\n", **at},
        {"before": "old\n", "after": "new\n", **at},
    ]
    converge(*wanted)
    assert placing.changes(wanted, paths.look(wanted)) == []


def test_the_diff_names_the_collection_s_own_sources_and_does_not_show_them(tmp_path):
    wanted = [{**file(tmp_path / "x"), "part": "plan.py"}]
    assert [one["after"] for one in placing.changes(wanted, paths.look(wanted))] == [f"file {ME}:{MY_GROUP} 0640\n", "(of hearth.fleet: plan.py)\n"]
    (tmp_path / "x").write_text("old\n")
    assert placing.changes(wanted, paths.look(wanted))[-1]["before"] == "(of hearth.fleet)\n"


@pytest.mark.parametrize(
    ("old", "shown"),
    [
        pytest.param(None, ("", "(secret)\n"), id="new"),
        pytest.param("hunter1", ("(secret)\n", "(secret, sha256 differs)\n"), id="changed"),
    ],
)
def test_f60_secrets_are_not_in_the_diff(tmp_path, old, shown):
    if old:
        (tmp_path / "x").write_text(old)
        (tmp_path / "x").chmod(0o600)
    wanted = [secret(tmp_path / "x", "hunter2")]
    observed = paths.look(wanted)
    changes = placing.changes(wanted, observed)
    assert (changes[-1]["before"], changes[-1]["after"]) == shown
    everything = repr([changes, paths.diff(wanted, observed)])
    assert "hunter" not in everything
    assert hashlib.sha256(b"hunter2").hexdigest() not in everything


def test_f60_what_was_a_secret_yesterday_is_not_shown(tmp_path):
    (tmp_path / "x").write_text("hunter1")
    (tmp_path / "x").chmod(0o600)
    wanted = [file(tmp_path / "x")]
    assert "hunter1" not in repr(placing.changes(wanted, paths.look(wanted)))


def test_binary_and_long_files_are_not_shown(tmp_path):
    (tmp_path / "binary").write_bytes(b"a\0b")
    (tmp_path / "long").write_bytes(b"a" * (placing.SHOWN_BYTES + 1))
    wanted = [file(tmp_path / "binary"), file(tmp_path / "long")]
    shown = [one["before"] for one in placing.changes(wanted, paths.look(wanted)) if one["after"] == "new\n"]
    assert shown == ["(not shown: not a text)\n", "(not shown: longer than 256 KiB)\n"]


def test_f60_a_validator_that_quotes_a_secret_is_masked(tmp_path):
    quotes = ["sh", "-c", """cat "$1"; echo 'hunter''2-token, with'' space, p4ss''w0rd! of user nats'; exit 1""", "sh", "{path}"]
    wanted = [
        secret(tmp_path / "x.env", '# tokens\nTOKEN=hunter2-token\nQUOTED="with space"\n'),
        secret(tmp_path / "x.json", '{"user": "x", "password": "p4ssw0rd!"}', validate=quotes),
    ]
    with pytest.raises(FleetError) as caught:
        placing.apply(wanted, *plan(wanted))
    said = str(caught.value)
    assert "of user nats" in said
    for word in ("hunter2", "with space", "p4ssw0rd"):
        assert word not in said


# The plan without contents


def test_the_plan_needs_digests_only(tmp_path):
    wanted = file(tmp_path / "x")
    converge(wanted)
    bare = {**wanted, "sha256": hashlib.sha256(b"new\n").hexdigest()}
    del bare["content"]
    assert plan([bare])[1] == []
    (tmp_path / "x").write_text("edited")
    assert reasons(bare) == ["content differs"]


def test_the_service_is_named_in_differences(tmp_path):
    assert plan([file(tmp_path / "x", service="icnd")])[1][0].service == "icnd"


def test_looking_follows_no_link_and_waits_for_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/shadow")
    observed = paths.look([file(tmp_path / "pipe"), file(tmp_path / "link"), file("/etc/passwd/x")])
    assert [one["kind"] for one in observed.values()] == ["other", "link", "absent"]
    assert all("sha256" not in one for one in observed.values())


def test_a_pipe_that_takes_a_files_place_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert paths.open_to_read(str(tmp_path / "pipe")) is None


def test_modes_of_new_files_do_not_depend_on_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        converge(directory(tmp_path / "d", mode="2775"), file(tmp_path / "d/x", mode="0664"))
    finally:
        os.umask(before)
    assert oct(os.stat(tmp_path / "d").st_mode & 0o7777) == "0o2775"
    assert oct(os.stat(tmp_path / "d/x").st_mode & 0o7777) == "0o664"


def test_defaults(tmp_path):
    bare = {"path": str(tmp_path / "x"), "content": ""}
    observed = {str(tmp_path / "x"): {"kind": "file", "owner": "root", "group": "root", "mode": "0644", "sha256": hashlib.sha256(b"").hexdigest()}}
    assert paths.diff([bare], observed) == []
