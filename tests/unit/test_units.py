# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units: what differs, what is pending and why, how systemd's words are read, and the stamp script itself."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import unit_marks, unit_review, units

CONFIG, PEERS = "/etc/relay/relay.toml", "/etc/relay/peers.json"
FILE, DROP_IN = "/etc/systemd/system/relay.service", "/etc/systemd/system/relay.service.d/nice.conf"
WANTED = {
    "service": "relay",
    "name": "relay.service",
    "content": "# Managed by hearth.fleet: service relay\n",
    "sha256": hashlib.sha256(b"# Managed by hearth.fleet: service relay\n").hexdigest(),
    "exposure_max": 1.5,
    "enabled": True,
    "stamp": [CONFIG, PEERS],
}
FILES = {CONFIG: "c1", PEERS: "p1", FILE: "u1"}
GOOD = {
    "load": "loaded",
    "active": "active",
    "sub": "running",
    "result": "success",
    "enabled": "enabled",
    "needs_reload": False,
    "file": {"kind": "file", "owner": "root", "group": "root", "mode": "0644", "sha256": WANTED["sha256"], "leftovers": []},
    "stamp": {"release": "/opt/relay/releases/1.0.0", "files": FILES},
    "present": {"release": "/opt/relay/releases/1.0.0", "files": FILES},
}
"""The unit as it should be, seen on a host."""


def seen(*, ours: dict[str, str] | None = None, **change: Any) -> dict[str, Any]:
    """Return an observation: all good, save for ``change``; a nested mapping changes single keys."""
    unit = copy.deepcopy(GOOD)
    for key, value in change.items():
        unit[key] = {**unit[key], **value} if isinstance(value, dict) and isinstance(unit[key], dict) else value
    return {"units": {"relay.service": unit}, "ours": {"relay.service": "relay"} if ours is None else ours}


def said(differences: list[Any]) -> list[tuple[str, str]]:
    return [(one.action, one.reason) for one in differences]


@pytest.mark.parametrize(
    ("observed", "found"),
    [
        pytest.param(seen(), [], id="as-wanted"),
        pytest.param(seen(file={"sha256": "0"}), [("change", "content differs")], id="edited"),
        pytest.param(seen(file={"mode": "0666"}), [("change", "mode 0666, not 0644")], id="mode"),
        pytest.param(seen(file={"owner": "ada"}), [("change", "owner ada, not root")], id="owner"),
        pytest.param(seen(enabled="disabled"), [("enable", "does not start at boot (disabled)")], id="disabled"),
        pytest.param(seen(enabled=""), [("enable", "does not start at boot (unknown to systemd)")], id="unknown"),
        pytest.param(seen(file={"kind": "link", "target": "/dev/null"}, load="masked", enabled="masked"), [("unmask", "is masked")], id="masked"),
        pytest.param(seen(load="masked"), [("unmask", "is masked")], id="masked-elsewhere"),
        pytest.param(seen(needs_reload=True), [("daemon-reload", "systemd has not read its files since they changed")], id="needs-reload"),
        pytest.param(
            seen(file={"kind": "absent"}, load="not-found", enabled="", active="inactive"),
            [("create", "does not exist")],
            id="first-run-says-one-thing",
        ),
    ],
)
def test_diff(observed: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert said(units.diff([WANTED], observed)) == found


@pytest.mark.parametrize(
    ("enabled", "found"),
    [pytest.param("enabled", [("disable", "starts at boot")], id="enabled"), pytest.param("disabled", [], id="disabled")],
)
def test_a_unit_that_should_not_start_at_boot(enabled: str, found: list[tuple[str, str]]) -> None:
    assert said(units.diff([{**WANTED, "enabled": False}], seen(enabled=enabled))) == found


@pytest.mark.parametrize(
    ("held", "remove_stale", "found"),
    [
        pytest.param([], True, ["old.service"], id="stale"),
        pytest.param(["old"], True, [], id="held-is-not-stale"),
        pytest.param([], False, [], id="not-asked"),
    ],
)
def test_stale_units(held: list[str], remove_stale: bool, found: list[str]) -> None:
    observed = seen(ours={"relay.service": "relay", "old.service": "old"})
    differences = units.diff([WANTED], observed, held=held, remove_stale=remove_stale)
    assert [one.item for one in differences if one.action == "remove"] == found


def test_a_held_unit_stays_as_it_is() -> None:
    assert units.diff([WANTED], seen(file={"sha256": "0"}, enabled="disabled"), held=["relay"]) == []


def since(path: str, how: str, kind: str = "config") -> str:
    return f"{kind} {path} {how} since the service started"


@pytest.mark.parametrize(
    ("observed", "found"),
    [
        pytest.param(seen(), [], id="as-started"),
        pytest.param(seen(active="inactive", sub="dead"), [("start", "not running (inactive)")], id="stopped"),
        pytest.param(seen(active="failed", sub="failed", result="exit-code"), [("start", "not running (failed: exit-code)")], id="f56-failed"),
        pytest.param(
            seen(active="activating", sub="auto-restart", result="exit-code"),
            [("start", "not running (activating, auto-restart: exit-code)")],
            id="f56-loop",
        ),
        pytest.param(seen(active="reloading", sub="reload"), [], id="reloading-runs"),
        pytest.param(seen(stamp=None), [("restart", "not started by this collection's unit")], id="no-stamp"),
        pytest.param(seen(present={"release": "/opt/relay/releases/1.0.1"}), [("restart", "release 1.0.0 runs, current is 1.0.1")], id="release"),
        pytest.param(seen(present={"release": "-"}), [], id="without-a-release-a-restart-would-only-end-it"),
        pytest.param(seen(present={"files": {**FILES, CONFIG: "c2"}}), [("restart", since(CONFIG, "changed"))], id="config"),
        pytest.param(seen(present={"files": {**FILES, CONFIG: "-"}}), [("restart", since(CONFIG, "is gone"))], id="config-gone"),
        pytest.param(seen(stamp={"files": {**FILES, CONFIG: "-"}}), [("restart", since(CONFIG, "is new"))], id="config-new"),
        pytest.param(seen(present={"files": {**FILES, PEERS: "p2"}}), [("reload", since(PEERS, "changed"))], id="reloadable"),
        pytest.param(
            seen(present={"files": {**FILES, PEERS: "p2", CONFIG: "c2"}}),
            [("restart", since(CONFIG, "changed")), ("restart", since(PEERS, "changed"))],
            id="reload-is-not-enough",
        ),
        pytest.param(
            seen(present={"release": "/opt/relay/releases/1.0.1", "files": {**FILES, PEERS: "p2"}}),
            [("restart", "release 1.0.0 runs, current is 1.0.1"), ("restart", since(PEERS, "changed"))],
            id="a-release-needs-a-restart",
        ),
        pytest.param(seen(present={"files": {**FILES, FILE: "u2"}}), [("restart", "unit file changed since the service started")], id="unit-file"),
        pytest.param(seen(present={"files": {**FILES, DROP_IN: "d"}}), [("restart", since(DROP_IN, "is new", "drop-in"))], id="drop-in"),
        pytest.param(seen(stamp={"files": {**FILES, DROP_IN: "d"}}), [("restart", since(DROP_IN, "is gone", "drop-in"))], id="drop-in-gone"),
    ],
)
def test_pending(observed: dict[str, Any], found: list[tuple[str, str]]) -> None:
    differences = units.pending([WANTED], observed, {"relay": [PEERS]})
    assert said(differences) == found
    assert {one.service for one in differences} <= {"relay"}


def test_running_units_keep_their_release() -> None:
    states = {"active": True, "reloading": True, "activating": True, "failed": False, "inactive": False, "deactivating": False}
    observed = {"units": {f"{state}.service": {"active": state} for state in states}}
    assert units.running(observed) == {f"{state}.service" for state, runs in states.items() if runs}


SHOWN = """\
Result=success
NRestarts=2
MainPID=4711
Id=relay.service
LoadState=loaded
ActiveState=active
SubState=running
DropInPaths=/etc/systemd/system/relay.service.d/b.conf /etc/systemd/system/relay.service.d/a.conf
UnitFileState=enabled
NeedDaemonReload=no
ActiveEnterTimestamp=Sat 2026-11-21 08:20:37 UTC
ActiveEnterTimestampMonotonic=123456

Result=success
MainPID=0
Id=other.service
LoadState=not-found
ActiveState=inactive
SubState=dead
DropInPaths=
UnitFileState=
NeedDaemonReload=yes
ActiveEnterTimestamp=
ActiveEnterTimestampMonotonic=0
"""


def test_parse_show() -> None:
    states = units.parse_show(SHOWN, ["relay.service", "other.service"])
    assert states["relay.service"] == {
        "load": "loaded", "active": "active", "sub": "running", "result": "success", "enabled": "enabled", "needs_reload": False, "pid": 4711,
        "since": "Sat 2026-11-21 08:20:37 UTC", "since_monotonic": 123456, "restarts": 2,
        "drop_ins": ["/etc/systemd/system/relay.service.d/a.conf", "/etc/systemd/system/relay.service.d/b.conf"],
    }  # fmt: skip
    assert (states["other.service"]["load"], states["other.service"]["needs_reload"], states["other.service"]["restarts"]) == ("not-found", True, 0)


@pytest.mark.parametrize("shown", [pytest.param("", id="no-systemd"), pytest.param("Id=a.service\n", id="less-than-asked")])
def test_parse_show_without_an_answer_sees_nothing(shown: str) -> None:
    states = units.parse_show(shown, ["a.service", "b.service"])
    assert [(state["load"], state["active"]) for state in states.values()] == [("not-found", "inactive")] * 2


@pytest.mark.parametrize(
    ("observed", "changing", "found"),
    [
        pytest.param(seen(), {}, [], id="nothing"),
        pytest.param(seen(), {CONFIG: FILES[CONFIG]}, [], id="only-its-mode-changes"),
        pytest.param(seen(), {"/etc/another": "x"}, [], id="not-read-by-it"),
        pytest.param(seen(), {CONFIG: "c2"}, [("restart", f"config {CONFIG} is to change")], id="config"),
        pytest.param(seen(), {PEERS: "p2"}, [("reload", f"config {PEERS} is to change")], id="reloadable"),
        pytest.param(
            seen(),
            {PEERS: "p2", FILE: "u2"},
            [("restart", f"config {PEERS} is to change"), ("restart", "unit file is to change")],
            id="reload-is-not-enough",
        ),
        pytest.param(seen(active="inactive", sub="dead"), {CONFIG: "c2"}, [], id="it-starts-anyway"),
        pytest.param(seen(stamp=None), {CONFIG: "c2"}, [], id="it-restarts-anyway"),
    ],
)
def test_what_follows_from_what_is_to_be_written(observed: dict[str, Any], changing: dict[str, str], found: list[tuple[str, str]]) -> None:
    assert said(units.following([WANTED], observed, changing, {"relay": [PEERS]})) == found


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("", {"release": "-", "files": {}}, id="empty"),
        pytest.param(
            "release /opt/relay/releases/1\nabc  /etc/a b\n-  /etc/c\n\n",
            {"release": "/opt/relay/releases/1", "files": {"/etc/a b": "abc", "/etc/c": "-"}},
            id="whole",
        ),
    ],
)
def test_parse_stamp(text: str | None, stamp: dict[str, Any] | None) -> None:
    assert units.parse_stamp(text) == stamp


def test_look_at_a_bare_host(tmp_path: Path) -> None:
    observed = units.look([WANTED], str(tmp_path))
    unit = observed["units"]["relay.service"]
    assert observed["ours"] == {}
    assert unit["file"]["kind"] == "absent"
    assert unit["stamp"] is None
    assert unit["present"] == {"release": "-", "files": {CONFIG: "-", PEERS: "-", FILE: "-"}}
    assert said(units.diff([WANTED], observed)) == [("create", "does not exist")]
    assert said(units.pending([WANTED], observed, {})) == [("start", "not running (inactive)")]


def test_units_of_ours_are_known_by_their_header(tmp_path: Path) -> None:
    directory = tmp_path / "etc/systemd/system"
    directory.mkdir(parents=True)
    (directory / "old.service").write_text("# Managed by hearth.fleet: service old\n[Service]\n")
    (directory / "backup.service").write_text("# Managed by hearth.fleet: backup of old\n[Service]\n")
    (directory / "theirs.service").write_text("[Service]\n# Managed by hearth.fleet: service theirs\n")
    (directory / "alias.service").symlink_to("old.service")
    (directory / "binary.service").write_bytes(b"\xff\xfe\n")
    assert units.look([], str(tmp_path))["ours"] == {"old.service": "old"}


def test_look_and_stamp_agree(stamped: Any) -> None:
    """What the script records at a start is what the look finds afterwards, links, drop-ins and missing files included."""
    stamped("relay", CONFIG, PEERS)
    unit = units.look([WANTED], str(stamped.root))["units"]["relay.service"]
    unit["present"]["release"] = stamped.bare(unit["present"]["release"])
    unit["stamp"]["release"] = stamped.bare(unit["stamp"]["release"])
    assert unit["stamp"] == unit["present"]
    assert unit["present"]["files"][PEERS] == "-"
    assert unit["present"]["release"] == "/opt/relay/releases/1.0.0"
    assert DROP_IN in unit["present"]["files"]


# The stamp script


class Stamped:
    """A directory that stands for a host's root, and the stamp script made to work below it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for path, text in (
            (CONFIG, "a = 1\n"),
            (FILE, "[Service]\n"),
            (DROP_IN, "Nice=1\n"),
            ("/opt/relay/releases/1.0.0/x", ""),
            ("/opt/relay/releases/1.0.1/x", ""),
        ):
            self.write(path, text)
        (root / "run").mkdir()
        self.switch("1.0.0")
        script = unit_marks.STAMP_SCRIPT
        for directory in ("/run/hearth", "/etc/systemd", "/opt/"):
            script = script.replace(directory, f"{root}{directory}")
        self.script = root / "stamp"
        self.script.write_text(script)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # The script sees absolute paths; below the test's root they are found by their real names.
        real = [f"{self.root}{one}" if one.startswith("/") else one for one in arguments]
        done = subprocess.run(["/bin/sh", str(self.script), *real], capture_output=True, text=True, check=False)
        stamp = self.root / "run/hearth/relay.started"
        if stamp.exists():
            stamp.write_text(stamp.read_text().replace(str(self.root), ""))
        return done

    def again(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script on the stamp as it left it, which has the real paths."""
        stamp = self.root / "run/hearth/relay.started"
        stamp.write_text(stamp.read_text().replace("  /", f"  {self.root}/").replace("release /", f"release {self.root}/"))
        return self(*arguments)

    def write(self, path: str, text: str) -> None:
        (self.root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path[1:]).write_text(text)

    def switch(self, version: str) -> None:
        link = self.root / "opt/relay/current"
        link.unlink(missing_ok=True)
        link.symlink_to(f"releases/{version}")

    def bare(self, path: str) -> str:
        return path.replace(str(self.root), "")

    @property
    def recorded(self) -> dict[str, Any]:
        stamp = units.parse_stamp((self.root / "run/hearth/relay.started").read_text())
        assert stamp is not None
        return stamp


@pytest.fixture
def stamped(tmp_path: Path) -> Stamped:
    return Stamped(tmp_path)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_stamp_records_release_files_unit_and_drop_ins(stamped: Stamped) -> None:
    stamped.write("/etc/relay/a b.txt", "x")
    stamped.write("/etc/relay/back\\slash", "y")
    done = stamped("relay", CONFIG, PEERS, "/etc/relay/a b.txt", "/etc/relay/back\\slash")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stamped.recorded == {
        "release": "/opt/relay/releases/1.0.0",
        "files": {
            CONFIG: digest("a = 1\n"),
            PEERS: "-",
            "/etc/relay/a b.txt": digest("x"),
            "/etc/relay/back\\slash": digest("y"),
            FILE: digest("[Service]\n"),
            DROP_IN: digest("Nice=1\n"),
        },
    }
    assert sorted(path.name for path in (stamped.root / "run/hearth").iterdir()) == ["relay.files", "relay.started"]
    assert (stamped.root / "run/hearth").stat().st_mode & 0o777 == 0o700


def test_stamp_keeps_copies_of_what_the_service_runs_with(stamped: Stamped) -> None:
    stamped.write("/etc/relay/a b.txt", "x")
    (stamped.root / CONFIG[1:]).chmod(0o640)
    for _start in range(2):
        stamped("relay", CONFIG, PEERS, "/etc/relay/a b.txt")
    copies = {path.name: path for path in (stamped.root / "run/hearth/relay.files").iterdir()}
    assert set(copies) == {digest(text) for text in ("a = 1\n", "x", "[Service]\n", "Nice=1\n")}
    assert copies[digest("a = 1\n")].read_text() == "a = 1\n"
    assert copies[digest("a = 1\n")].stat().st_mode & 0o777 == 0o640
    assert (stamped.root / "run/hearth/relay.files").stat().st_mode & 0o777 == 0o700


def test_stamp_drops_copies_that_it_no_longer_names(stamped: Stamped) -> None:
    stamped.write(PEERS, "[]")
    stamped("relay", CONFIG, PEERS)
    stamped.write(CONFIG, "a = 2\n")
    stamped.write(PEERS, "[1]")
    stamped.again("--reload", "relay", PEERS)
    copies = stamped.root / "run/hearth/relay.files"
    # The service has not read the new config yet: what it runs with is still there.
    assert {path.name for path in copies.iterdir()} == {digest(text) for text in ("a = 1\n", "[1]", "[Service]\n", "Nice=1\n")}
    stamped("relay", CONFIG)
    assert {path.name for path in copies.iterdir()} == {digest(text) for text in ("a = 2\n", "[Service]\n", "Nice=1\n")}


def test_stamp_without_release_and_without_files(stamped: Stamped) -> None:
    (stamped.root / "opt/relay/current").unlink()
    assert stamped("relay").returncode == 0
    assert stamped.recorded["release"] == "-"
    assert set(stamped.recorded["files"]) == {FILE, DROP_IN}


def test_a_reload_records_only_what_was_read_again(stamped: Stamped) -> None:
    stamped.write(PEERS, "[]")
    stamped("relay", CONFIG, PEERS)
    before = stamped.recorded
    stamped.write(CONFIG, "a = 2\n")
    stamped.write(PEERS, "[1]")
    stamped.write(FILE, "[Service]\nNice=2\n")
    stamped.switch("1.0.1")
    assert stamped.again("--reload", "relay", PEERS).returncode == 0
    assert stamped.recorded == {**before, "files": {**before["files"], PEERS: digest("[1]")}}


@pytest.mark.parametrize(
    "arguments", [pytest.param(["--reload", "relay", PEERS], id="never-started"), pytest.param(["--reload", "relay"], id="nothing-read")]
)
def test_a_reload_makes_no_stamp(stamped: Stamped, arguments: list[str]) -> None:
    assert stamped(*arguments).returncode == 0
    assert not (stamped.root / "run/hearth/relay.started").exists()


def test_stamp_never_keeps_a_service_from_starting(stamped: Stamped) -> None:
    (stamped.root / "run/hearth").write_text("in the way")
    assert stamped("relay", CONFIG).returncode == 0
    assert stamped().returncode == 0


def test_stamp_calls_one_program_for_all_digests() -> None:
    assert unit_marks.STAMP_SCRIPT.count("sha256sum") == 1


# What systemd says about candidates (words of systemd 252 and 257)

DIRECTORY = "/tmp/judged"


@pytest.mark.parametrize(
    ("words", "tolerate_missing", "found"),
    [
        pytest.param("", False, [], id="silence"),
        pytest.param(
            f"{DIRECTORY}/relay.service:15: Unknown key 'ProtectHomee' in section [Service], ignoring.\n",
            False,
            ["relay.service:15: Unknown key 'ProtectHomee' in section [Service], ignoring."],
            id="f53-257",
        ),
        pytest.param(
            f"{DIRECTORY}/relay.service:15: Unknown key name 'ProtectHomee' in section 'Service', ignoring.\n",
            True,
            ["relay.service:15: Unknown key name 'ProtectHomee' in section 'Service', ignoring."],
            id="f53-252",
        ),
        pytest.param(
            "relay.service: Command /usr/local/bin/relay is not executable: No such file or directory\n",
            False,
            ["relay.service: Command /usr/local/bin/relay is not executable: No such file or directory"],
            id="f54-missing",
        ),
        pytest.param("relay.service: Command /usr/local/bin/relay is not executable: No such file or directory\n", True, [], id="f54-not-there-yet"),
        pytest.param(
            "relay.service: Command /usr/local/bin/relay is not executable: Permission denied\n",
            True,
            ["relay.service: Command /usr/local/bin/relay is not executable: Permission denied"],
            id="f54-not-executable",
        ),
        pytest.param("a\na\nb\n", False, ["a", "b"], id="said-twice"),
    ],
)
def test_complaints(words: str, tolerate_missing: bool, found: list[str]) -> None:
    assert unit_review.complaints(words, DIRECTORY, tolerate_missing=tolerate_missing) == found


SECURITY = """\
  NAME                                          DESCRIPTION                                                         EXPOSURE
✓ SystemCallFilter=~@swap                       System call allow list defined for service, and @swap is not included
✗ RootDirectory=/RootImage=                     Service runs within the host's root directory                            0.1
  SupplementaryGroups=                          Service has no supplementary groups
✗ RestrictAddressFamilies=~AF_(INET|INET6)      Service may allocate Internet sockets                                    0.3
✗ PrivateNetwork=                               Service has access to the host's network                                 0.5

→ Overall exposure level for relay.service: 1.1 OK :-)
x PrivateTmp=                                   Service has access to other software's temporary files                   0.2

-> Overall exposure level for other.service: 9.6 UNSAFE 😨
"""


def test_exposures() -> None:
    assert unit_review.exposures(SECURITY) == {
        "relay.service": (1.1, [("PrivateNetwork=", 0.5), ("RestrictAddressFamilies=~AF_(INET|INET6)", 0.3), ("RootDirectory=/RootImage=", 0.1)]),
        "other.service": (9.6, [("PrivateTmp=", 0.2)]),
    }


def test_f55_an_exposed_unit_is_named_with_what_exposes_it_and_how_to_accept_it() -> None:
    message = unit_review.too_exposed(WANTED, 2.3, [("PrivateTmp=", 0.2), ("PrivateUsers=", 0.2)])
    assert message.splitlines() == [
        "relay.service: its exposure is 2.3 of 10, over the 1.5 that is allowed",
        "  most of it: PrivateTmp= 0.2, PrivateUsers= 0.2",
        "  → take back a relaxation in fleet_services.relay.sandbox (or a drop-in in /etc/systemd/system/relay.service.d), "
        "or accept it: fleet_services.relay.sandbox.exposure_max: 2.3",
    ]


@pytest.mark.parametrize("exposure", [pytest.param(1.1, id="below"), pytest.param(1.5, id="at-the-threshold")])
def test_f55_the_threshold_itself_is_allowed(exposure: float) -> None:
    assert unit_review.too_exposed(WANTED, exposure, []) == ""


def test_the_script_is_where_units_call_it() -> None:
    assert os.path.basename(unit_marks.STAMP_PATH) == "stamp"
    assert unit_marks.STAMP_SCRIPT.startswith("#!/bin/sh\n")
