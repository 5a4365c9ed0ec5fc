# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a fleet to what its drill's runner does: orders without secrets, releases, the unit and its timer; and what is there of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fleets
import pytest
import yaml

from ansible_collections.hearth.fleet.plugins.module_utils import backup_slice, drill_area, drill_slice, releases, slices
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, said_once

ROOT = Path(__file__).resolve().parents[2]
DATABASE = {"path": "/var/lib/icnd/node.db", "tables": ["kv"], "sentinel": "SELECT count(*) FROM kv"}
BACKUP: dict[str, Any] = {"databases": [DATABASE], "more": {"identity": {"files": ["/var/lib/icnd/key"], "schedule": "changes", "keep": "forever"}}}
ICND: dict[str, Any] = {
    **fleets.ICND,
    "backup": BACKUP,
    "environment": {"LEVEL": "info"},
    "secrets": {"TOKEN": "hunter2", "cert": {"value": "hunter3", "as": "credential"}},
    "bootstrap": [{"command": ["icnd", "init"], "creates": "/var/lib/icnd/key"}],
    "health": {"ready": {"url": "http://127.0.0.1:9100/ready", "headers": {"Authorization": "Bearer {secret:TOKEN}"}}},
}
RECIPIENT = re.findall(r"age1\w+", (ROOT / "tests" / "fixtures" / "drill_identity.txt").read_text())[0]
INPUTS: dict[str, Any] = {
    **{key: value for role in ("backup", "drill") for key, value in yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text()).items()},
    "backup_store": {"endpoint": "https://s3.example.org", "bucket": "fleet", "region": None, "prefix": "home/"},
    "backup_access_key_id": "WRITER",
    "backup_secret_access_key": "hunter4",
    "backup_recipients": [RECIPIENT],
}
RUNNER = {
    "drill_runner": True,
    "drill_identity": "AGE-SECRET-KEY-1HUNTER5",
    "drill_read_access_key_id": "READER",
    "drill_read_secret_access_key": "hunter6",
}


def specs_of(service: Any = None, overrides: Any = None, stores: Any = None) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the slices of a fleet whose hosts relay1 and home1 have this service; ``stores`` are their own, by host."""
    joined, mistakes = fleets.join(fleets.fleet(services={"icnd": service or ICND}, overrides=overrides))
    assert mistakes == []
    sources = slices.Sources(template=str, read=str, find=str)
    found: dict[str, Any] = {}
    for name, host in joined.items():
        files = {one: slices.config_paths(spec, sources, mistakes) for one, spec in host["services"].items()}
        inputs = {**INPUTS, **({"backup_store": stores[name]} if name in (stores or {}) else {})}
        release = {"release_keep": 3, "release_via": "target", "release_proxy": "", "release_timeout": "5m", "release_retries": 5}
        found[name] = {
            "services": host["services"],
            "account": {"groups": [], "users": [], "paths": []},
            "release": [slices.release(spec, release, sources, mistakes) for spec in host["services"].values()],
            "config": {"paths": [path for one in files.values() for path in one]},
            "backup": backup_slice.backup_slice(name, host["services"], inputs, 1.5, str, mistakes),
        }
    assert mistakes == []
    return found, mistakes


def drilled(
    service: Any = None, overrides: Any = None, stores: Any = None, origins: Any = None, **inputs: Any
) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the slices of the fleet with those of drills, for which ops1 is the runner."""
    specs, mistakes = specs_of(service, overrides, stores)
    every = {name: {**INPUTS, **({**RUNNER, **inputs} if name == "ops1" else {})} for name in specs}
    drill_slice.add_to(specs, every, lambda _path: "CERTIFICATE", mistakes, dict.fromkeys(specs, origins or {}))
    return specs, mistakes


def right(*arguments: Any, **inputs: Any) -> dict[str, Any]:
    specs, mistakes = drilled(*arguments, **inputs)
    assert mistakes == []
    return specs


def orders(specs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = [json.loads(path["content"]) for path in specs["ops1"]["drill"]["paths"] if path["path"].startswith("/etc/hearth/drill/orders/")]
    return {f"{one['host']}.{one['service']}.{one['set']}": one for one in found}


def test_every_set_of_every_host_is_ordered() -> None:
    assert sorted(orders(right())) == [f"{host}.icnd.{name}" for host in ("home1", "relay1") for name in ("data", "identity")]


def test_hosts_that_are_no_runners_get_nothing() -> None:
    specs = right()
    assert specs["relay1"]["drill"] == drill_slice.nothing()
    assert specs["relay1"]["account"]["users"] == []
    assert [user["name"] for user in specs["ops1"]["account"]["users"]] == ["hearth-drill"]


def test_an_order() -> None:
    order = orders(right())["relay1.icnd.data"]
    assert order["start"] is True
    assert order["command"] == ["/usr/local/bin/icnd", "--config", "/etc/icn/config.toml"]
    assert order["environment"] == {"LEVEL": "info"}
    assert order["release"] == {"version": "0.3.0", "root": "/opt/hearth-drill/icnd", "binaries": ["icnd"]}
    assert [(one["path"], one["mode"]) for one in order["config"]] == [("/etc/icn/config.toml", "0640")]
    assert order["bootstrap"] == [{"command": ["/usr/local/bin/icnd", "init"], "creates": "/var/lib/icnd/key", "timeout": 120}]
    assert order["ready"]["secret_files"] == {"TOKEN": {"as": "environment", "path": "/etc/icnd/icnd.env"}}
    assert order["other_databases"] == []
    assert (order["deadline"], order["passes"]) == (120, 3)


def test_f28_the_daemon_is_not_started_on_files_that_may_be_its_identity() -> None:
    assert orders(right())["relay1.icnd.identity"]["start"] is False


def test_f28_no_secret_of_a_service_or_of_the_hosts_reaches_the_runner() -> None:
    found = right()["ops1"]["drill"]
    text = json.dumps(found)
    assert [word for word in ("hunter2", "hunter3", "hunter4") if word in text] == []
    own = {path["path"]: (path["mode"], "content" in path) for path in found["paths"] if re.search(r"HUNTER5|hunter6", json.dumps(path))}
    assert own == {f"/etc/hearth/drill/{name}": ("0600", False) for name in ("rclone.conf", "identity")}
    bare = drill_slice.without_content(found, lambda paths: [{"path": path["path"]} for path in paths])
    assert not re.search(r"HUNTER5|hunter6", json.dumps(bare))


@pytest.mark.parametrize(
    ("drill", "key", "value"),
    [
        pytest.param({"start": False}, "start", False, id="start"),
        pytest.param({"command": ["icnd", "--offline"]}, "command", ["/usr/local/bin/icnd", "--offline"], id="command"),
        pytest.param({"environment": {"LEVEL": "debug", "PEERS": ""}}, "environment", {"LEVEL": "debug", "PEERS": ""}, id="environment"),
        pytest.param({"ready": "tcp://127.0.0.1:1"}, "ready", "tcp://127.0.0.1:1", id="ready"),
        pytest.param({"deadline": "5m"}, "deadline", 300, id="deadline"),
        pytest.param(
            {"files": [{"path": "/etc/icn/config.toml", "content": "[x]"}]},
            "config",
            [{"path": "/etc/icn/config.toml", "mode": "0640", "content": "[x]"}],
            id="files",
        ),
    ],
)
def test_a_set_says_what_is_different_in_the_sandbox(drill: dict[str, Any], key: str, value: Any) -> None:
    assert orders(right(fleets.changed("backup", {**BACKUP, "drill": drill}, ICND)))["relay1.icnd.data"][key] == value


def test_a_set_may_be_left_out() -> None:
    assert "relay1.icnd.data" not in orders(right(fleets.changed("backup", {**BACKUP, "drill": {"enabled": False}}, ICND)))


def test_f28_config_with_secrets_is_not_copied_and_somebody_must_write_another() -> None:
    config = [{"path": "/etc/icn/config.toml", "content": {"password": "x"}, "secret": True}]
    _specs, mistakes = drilled(fleets.changed("config", config, ICND))
    assert {(one.path, one.problem.partition(",")[0]) for one in mistakes} == {("fleet_services.icnd.config[0]", "/etc/icn/config.toml is secret")}
    origins = {"fleet_services.icnd.config[0].secret": "fleet_overrides.icn.icnd.config[0].secret"}
    _specs, mistakes = drilled(fleets.changed("config", config, ICND), origins=origins)
    assert all(one.problem.endswith("may have it (with fleet_overrides.icn.icnd.config[0].secret)") for one in mistakes)
    written = {**BACKUP, "drill": {"files": [{"path": "/etc/icn/config.toml", "content": "[x]"}]}}
    specs = right(fleets.changed("backup", written, {**ICND, "config": config}))
    assert [one["content"] for one in orders(specs)["relay1.icnd.data"]["config"]] == ["[x]"]


def test_the_newest_release_that_any_host_wants_is_staged_without_links() -> None:
    specs = right(overrides={"home1": {"icnd": {"version": "0.10.0"}}})
    (release,) = specs["ops1"]["drill"]["releases"]
    assert [release[key] for key in ("version", "root", "unit", "linked")] == ["0.10.0", "/opt/hearth-drill/icnd", "", False]
    assert {one["release"]["version"] for one in orders(specs).values() if one["start"]} == {"0.10.0"}


def test_a_runner_drills_what_is_in_its_own_store() -> None:
    other = {**INPUTS["backup_store"], "bucket": "another"}
    assert {one["host"] for one in orders(right(stores={"home1": other})).values()} == {"relay1"}


@pytest.mark.parametrize(
    ("inputs", "path", "problem"),
    [
        pytest.param({"drill_identity": ""}, "drill_identity", "missing, but drill_runner is true (host ops1)", id="no-identity"),
        pytest.param({"drill_identity": RECIPIENT}, "drill_identity", "is no private identity (it is not shown) (host ops1)", id="recipient"),
        pytest.param({"drill_read_access_key_id": ""}, "drill_read_access_key_id", "missing, but drill_runner is true (host ops1)", id="no-key"),
        pytest.param({"backup_store": {}}, "backup_store", "names no store to restore from (host ops1)", id="no-store"),
        pytest.param({"drill_older": -1}, "drill_older", "is below zero (host ops1)", id="older"),
        pytest.param({"drill_max_age": "often"}, "drill_max_age", "'often' is not a duration", id="max-age"),
        pytest.param({"drill_schedule": "weekli"}, "drill_schedule", "'weekli' is not a schedule", id="schedule"),
        pytest.param({"drill_schedule": "changes"}, "drill_schedule", "is for backups of files", id="changes"),
        pytest.param({"drill_on_failure": "two words"}, "drill_on_failure", "'two words' is no unit (host ops1)", id="on-failure"),
    ],
)
def test_bad_input_names_its_place(inputs: dict[str, Any], path: str, problem: str) -> None:
    specs, mistakes = drilled(**inputs)
    assert [(one.path, one.problem) for one in said_once(mistakes)] == [(path, problem)]
    assert specs["ops1"]["drill"] == drill_slice.nothing()


def test_credentials_that_no_file_can_carry_are_a_mistake() -> None:
    _specs, mistakes = drilled(drill_read_secret_access_key="two\nlines")
    assert [one.path for one in mistakes] == ["backup_store"]
    assert "the store's secret_access_key is empty, or has characters that no secret_access_key has" in mistakes[0].problem
    assert "lines" not in mistakes[0].problem


def test_a_release_of_a_drill_gets_no_links(tmp_path: Path) -> None:
    (release,) = right()["ops1"]["drill"]["releases"]
    for linked, links in ((False, []), (True, ["/usr/local/bin/icnd"])):
        wanted = [{**release, "linked": linked}]
        found = releases.diff(wanted, releases.look(wanted, root=str(tmp_path), arch="amd64"))
        assert [one.item for one in found if one.item.startswith("/usr/local/bin")] == links


def test_the_units() -> None:
    paths = right(drill_on_failure="alert@%n.service")["ops1"]["drill"]["paths"]
    found = {path["path"].rpartition("/")[2]: path["content"] for path in paths if path["path"].startswith("/etc/systemd/") and "content" in path}
    assert "\nOnFailure=alert@%n.service\n" in found["hearth-drill.service"]
    assert "\nLoadCredential=identity:/etc/hearth/drill/identity\n" in found["hearth-drill.service"]
    assert "\nOnCalendar=weekly\n" in found["hearth-drill.timer"]
    assert "\nPersistent=true\n" in found["hearth-drill.timer"]
    assert "OnFailure" not in drill_slice.service_text("")


def test_a_certificate_of_the_stores_own_goes_along() -> None:
    specs = right(backup_store={**INPUTS["backup_store"], "ca": "ca.pem"})
    assert [path["content"] for path in specs["ops1"]["drill"]["paths"] if path["path"] == "/etc/hearth/drill/ca.pem"] == ["CERTIFICATE"]


# --- What is on the host ----------------------------------------------------------------------------------------------

IDLE = {"load": "loaded", "active": "inactive", "needs_reload": False}
WANTED = {"packages": {"age": "/usr/bin/age"}, "releases": [], "paths": [], "units": ["hearth-drill.timer"], "timers": ["hearth-drill.timer"]}


@pytest.mark.parametrize(
    ("observed", "item", "action"),
    [
        pytest.param({"programs": {"age": False}}, "age", "install", id="package-gone"),
        pytest.param({"units": {"hearth-drill.timer": IDLE}}, "hearth-drill.timer", "start", id="timer-stopped"),
        pytest.param({"ours": ["/etc/hearth/drill/identity"]}, "/etc/hearth/drill/identity", "remove", id="left-by-a-former-runner"),
    ],
)
def test_f27_each_difference_is_named(observed: dict[str, Any], item: str, action: str) -> None:
    well = {"programs": {"age": True}, "releases": None, "paths": {}, "units": {"hearth-drill.timer": {**IDLE, "active": "active"}}, "ours": []}
    assert drill_area.diff(WANTED, well) == []
    assert [(one.item, one.action) for one in drill_area.diff(WANTED, {**well, **observed})] == [(item, action)]


def test_what_a_former_runner_left_is_found(tmp_path: Path) -> None:
    left = ["/etc/hearth/drill/orders/relay1.icnd.data.json", "/etc/hearth/drill/identity", "/etc/systemd/system/hearth-drill.timer"]
    for path in left:
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).touch()
    assert drill_area.look(drill_slice.nothing(), {}, str(tmp_path))["ours"] == sorted(left)
