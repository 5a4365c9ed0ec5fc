# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit files: whole ones as they are written, and texts that systemd must read back as they were meant."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import inventory, service_spec, unit_file, unit_marks, unit_review, unit_text
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

GOLDEN = Path(__file__).parent / "golden"

KONTINUUM = {
    "description": "Kontinuum Node Server",
    "account": {"user": "kontinuum-node", "home": "/var/lib/kontinuum-node"},
    "command": ["kontinuum-node-server", "--config", "/etc/kontinuum-node/node.toml"],
    "reload": {"signal": "SIGHUP"},
    "config": [{"path": "/etc/kontinuum-node/node.toml", "content": {}}],
    "directories": [{"path": "/var/lib/kontinuum-node/keys", "mode": "0700"}, {"path": "/var/log/kontinuum-node"}],
    "unit": {"restart": "always", "restart_delay": "10s", "start_limit": {"burst": 5, "interval": "600s"}},
    "resources": {"nofile": 65535, "nproc": 4096, "memory_max": "4G"},
    "ports": [{"name": "libp2p", "port": 4001, "proto": ["tcp", "udp"], "from": "any"}],
}
ICND = {
    "description": "ICN Daemon",
    "account": {"user": "icn", "home": "/var/lib/icn"},
    "command": ["icnd", "--config", "/etc/icn/config.toml", "--data-dir", "/var/lib/icn"],
    "binaries": ["icnd", "icnctl"],
    "config": [{"path": "/etc/icn/config.toml", "content": {}}],
    "environment": {"RUST_LOG": "icn=info"},
    "environment_file": "/etc/icn/icnd.env",
    "unit": {"restart": "on-failure", "restart_delay": 5},
}


RELOADED_BY_RTMAX = ['/bin/sh -c "kill -s RTMAX-2 $$MAINPID"', "+/usr/local/lib/hearth/stamp --reload relay"]


def finished(name: str, **described: Any) -> dict[str, Any]:
    """Return the finished spec of one service, as the join makes it, with what the slices add."""
    described = {"version": "1.0.0", "artifact": {"url": "https://example.org/daemon.tar.gz", "sha256": "0" * 64}, "command": [name], **described}
    mistakes: list[Any] = []
    host = inventory.Host(name="relay1", groups=[], addresses=[], placement={"relay1": [name]}, overrides={}, tiers={})
    host.catalogue = {name: described}
    spec = service_spec.finish_service(name, host, "", inventory.Fleet({"relay1": host}, {}), mistakes)
    assert spec is not None, mistakes
    return {**spec, "credentials": [], "environment_files": [], "stamp": [config["path"] for config in spec["config"]]}


def directive(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        pytest.param("kontinuum-node-server", finished("kontinuum-node-server", **KONTINUUM), id="kontinuum-node-server"),
        pytest.param("icnd", {**finished("icnd", **ICND), "environment_files": ["/etc/icn/icnd.env"]}, id="icnd"),
    ],
)
def test_whole_unit_file(name: str, spec: dict[str, Any]) -> None:
    assert unit_file.render(spec) == (GOLDEN / f"{name}.service").read_text()


def test_the_order_of_keys_does_not_matter() -> None:
    one = finished("relay", environment={"A": "1", "B": "2"})
    assert unit_file.render({**one, "environment": {"B": "2", "A": "1"}}) == unit_file.render(one)


@pytest.mark.parametrize(
    ("described", "name", "values"),
    [
        pytest.param({"command": ["/opt/x/relay", "-v"]}, "ExecStart", ["/opt/x/relay -v"], id="absolute-command"),
        pytest.param(
            {"command": ["relay", "a b", "$COST", "100%", ";", ""]}, "ExecStart", ['/usr/local/bin/relay "a b" "$$COST" 100%% ";" ""'], id="quoting"
        ),
        pytest.param(
            {"environment": {"A": 'say "$HOME" 5% \\'}}, "Environment", ['"A=say \\"$HOME\\" 5%% \\\\"'], id="environment-has-no-variables-to-put-in"
        ),
        pytest.param(
            {"reload": {"command": ["relay", "reload"]}},
            "ExecReload",
            ["/usr/local/bin/relay reload", "+/usr/local/lib/hearth/stamp --reload relay"],
            id="reload-command",
        ),
        pytest.param(
            {
                "reload": {"signal": "USR1"},
                "config": [{"path": "/etc/a.toml", "content": {}}, {"path": "/etc/b.toml", "content": {}, "reloadable": False}],
            },
            "ExecReload",
            ['/bin/sh -c "kill -s USR1 $$MAINPID"', "+/usr/local/lib/hearth/stamp --reload relay /etc/a.toml"],
            id="a-reload-records-only-what-is-read-again",
        ),
        pytest.param({}, "ExecReload", [], id="no-reload"),
        pytest.param(
            {"config": [{"path": "/etc/a.toml", "content": {}}]}, "ExecStartPre", ["+/usr/local/lib/hearth/stamp relay /etc/a.toml"], id="stamp"
        ),
        pytest.param({"unit": {"type": "notify", "watchdog": "30s"}}, "WatchdogSec", ["30"], id="watchdog"),
        pytest.param({"unit": {"type": "notify"}}, "NotifyAccess", ["main"], id="notify-access"),
        pytest.param({"unit": {"type": "forking", "pid_file": "/run/relay/x.pid"}}, "PIDFile", ["/run/relay/x.pid"], id="pid-file"),
        pytest.param({"unit": {"type": "forking"}}, "PIDFile", [], id="no-pid-file"),
        pytest.param({"unit": {"on_failure": ["alarm@%n.service"]}}, "OnFailure", ["alarm@%%n.service"], id="f56-on-failure"),
        pytest.param({"unit": {"start_limit": {"burst": 3, "interval": "2m"}}}, "StartLimitIntervalSec", ["120"], id="f56-start-limit"),
        pytest.param({"unit": {"start_limit": {"interval": 0}}}, "StartLimitIntervalSec", ["0"], id="never-gives-up"),
        pytest.param({"unit": {"requires": ["nats.service"]}}, "After", ["network-online.target nats.service"], id="what-is-required-starts-earlier"),
        pytest.param({"unit": {"supplementary_groups": ["tty", "dialout"]}}, "SupplementaryGroups", ["dialout tty"], id="groups"),
        pytest.param({"unit": {"kill_signal": "INT"}}, "KillSignal", ["SIGINT"], id="kill-signal"),
        pytest.param({"unit": {"kill_signal": "SIGRTMIN+3"}}, "KillSignal", ["SIGRTMIN+3"], id="kill-signal-of-real-time"),
        pytest.param({"reload": {"signal": "RTMAX-2"}}, "ExecReload", RELOADED_BY_RTMAX, id="reload-signal-of-real-time"),
        pytest.param({}, "KillMode", [], id="kill-mode-of-systemd"),
        pytest.param({"unit": {"kill_mode": "mixed"}}, "KillMode", ["mixed"], id="kill-mode"),
        pytest.param({}, "Delegate", [], id="nothing-delegated"),
        pytest.param({"unit": {"delegate": True}}, "Delegate", ["true"], id="delegate"),
        pytest.param({"unit": {"delegate": ["cpu", "memory"]}}, "Delegate", ["cpu memory"], id="delegate-controllers"),
        pytest.param({"unit": {"delegate": True}}, "ProtectControlGroups", ["false"], id="what-is-delegated-can-be-written"),
        pytest.param({"unit": {"success_exit_status": [143]}}, "SuccessExitStatus", ["143"], id="success-exit-status"),
        pytest.param({"directories": [{"path": "/mnt/disk/relay"}]}, "RequiresMountsFor", ["/mnt/disk/relay /var/lib/relay"], id="mounts"),
        pytest.param({"description": "50% relay"}, "Description", ["50%% relay"], id="description"),
    ],
)
def test_directive(described: dict[str, Any], name: str, values: list[str]) -> None:
    assert directive(unit_file.render(finished("relay", **described)), name) == values


def test_secrets_come_by_file_and_by_credential_never_in_the_unit() -> None:
    spec = finished("relay", secrets={"TOKEN": "s3cret", "key": {"value": "k3y", "as": "credential"}})
    text = unit_file.render(
        {**spec, "environment_files": ["/etc/relay/relay.env"], "credentials": [{"name": "key", "path": "/etc/relay/credentials/key"}]}
    )
    assert directive(text, "EnvironmentFile") == ["/etc/relay/relay.env"]
    assert directive(text, "LoadCredential") == ["key:/etc/relay/credentials/key"]
    assert "s3cret" not in text
    assert "k3y" not in text


@pytest.mark.parametrize(
    ("described", "said"),
    [
        pytest.param({"command": ["relay", "a\rb"]}, "fleet_services.relay.command[1]: has the character '\\r'", id="carriage-return-in-command"),
        pytest.param({"environment": {"A": "\x1b[0m"}}, "fleet_services.relay.environment.A: has the character '\\x1b'", id="escape-in-environment"),
        pytest.param({"environment": {"A": "\ud800"}}, "fleet_services.relay.environment.A: has the character '\\ud800'", id="no-unicode"),
        pytest.param({"secrets": {}, "unit": {"working_directory": "/a "}}, "fleet_services.relay.unit.working_directory: '/a ' begins", id="space"),
        pytest.param({"description": "relay\\"}, "fleet_services.relay.description: 'relay\\\\' begins or ends", id="continued-line"),
    ],
)
def test_what_no_unit_file_can_say(described: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetError, match=re.escape(said)):
        unit_file.render(finished("relay", **described))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param("plain-1.2:3/x", "plain-1.2:3/x", id="plain"),
        pytest.param("", '""', id="empty"),
        pytest.param("a b", '"a b"', id="space"),
        pytest.param("it's", '"it\'s"', id="apostrophe"),
        pytest.param('"', '"\\""', id="quote"),
        pytest.param("\\", '"\\\\"', id="backslash"),
        pytest.param("\t", '"\\t"', id="tab"),
        pytest.param("a\nUser=root", '"a\\nUser=root"', id="several-lines"),
        pytest.param("%i", "%%i", id="specifier"),
        pytest.param(";", '";"', id="semicolon"),
        pytest.param("#", '"#"', id="comment"),
        pytest.param("ünï", '"ünï"', id="unicode"),
    ],
)
def test_word(text: str, written: str) -> None:
    assert unit_text.word(text, "x") == written


@pytest.mark.parametrize("text", [pytest.param(text, id=repr(text)) for text in ("a\rb", "\0", "\x1b[0m", "\x7f")])
@pytest.mark.parametrize("write", [unit_text.word, unit_text.line])
def test_control_characters_are_refused(write: Any, text: str) -> None:
    with pytest.raises(FleetError, match=r"^here: has the character"):
        write(text, "here")


def test_one_line_is_no_place_for_several() -> None:
    with pytest.raises(FleetError, match=r"^here: has several lines, and one belongs there"):
        unit_text.line("a\nUser=root", "here")


def test_executables_are_in_the_directory_of_links() -> None:
    assert [unit_file.executable(name) for name in ("relay", "/opt/x/relay")] == ["/usr/local/bin/relay", "/opt/x/relay"]


@pytest.mark.parametrize(("name", "number"), [("RTMIN", 34), ("RTMIN+3", 37), ("RTMAX-2", 62), ("SIGRTMAX", 64)])
def test_the_shell_sends_the_signals_of_real_time_that_systemd_names(name: str, number: int) -> None:
    described = finished("relay", reload={"signal": name})
    [script] = re.findall(r'/bin/sh -c "(kill .*) \$\$MAINPID"', unit_file.render(described))
    assert subprocess.run(["/bin/sh", "-c", f"{script} $$"], check=False).returncode == -number


EVERYTHING = {
    "unit": {"kill_mode": "process", "kill_signal": "RTMIN+3", "delegate": ["cpu", "memory", "pids"]},
    "reload": {"signal": "SIGRTMAX"},
    "resources": {
        "memory_max": "80%", "memory_high": "1.5G", "memory_swap_max": 0, "memlock": "infinity", "nofile": "infinity", "nproc": 4096,
        "tasks_max": "50%", "cpu_quota": "150%", "cpu_affinity": ["0-1", 0], "core": "1G", "rtprio": 50, "oom_score_adjust": -5, "nice": 5,
    },
}  # fmt: skip


def analyze(directory: Path, *words: str, **described: Any) -> str:
    """Return what this machine's systemd-analyze says about the unit of a service, whose program is everywhere."""
    file = directory / "relay.service"
    file.write_text(unit_file.render(finished("relay", **described, command=["/bin/true"])).replace(unit_marks.STAMP_PATH, "/bin/true"))
    done = subprocess.run(["systemd-analyze", *words, str(file)], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="asks the systemd of this machine")
@pytest.mark.parametrize(
    "described",
    [
        pytest.param({}, id="defaults"),
        pytest.param(EVERYTHING, id="everything"),
        pytest.param(
            {"unit": {"delegate": True, "kill_mode": "mixed"}, "resources": {"tasks_max": "infinity", "memory_max": "infinity"}}, id="others"
        ),
    ],
)
def test_systemd_finds_no_fault_with_a_unit(tmp_path: Path, described: dict[str, Any]) -> None:
    said = analyze(tmp_path, "verify", "--man=no", "--recursive-errors=no", **described)
    assert unit_review.complaints(said, str(tmp_path), tolerate_missing=False) == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="measures with the systemd of this machine")
@pytest.mark.parametrize(
    ("described", "highest"), [pytest.param({}, 1.1, id="default"), pytest.param({"unit": {"delegate": True}}, 1.3, id="delegate")]
)
def test_f55_exposure_of_a_unit(tmp_path: Path, described: dict[str, Any], highest: float) -> None:
    said = analyze(tmp_path, "security", "--offline=true", "--no-pager", **described)
    assert unit_review.exposures(said)["relay.service"][0] <= highest
