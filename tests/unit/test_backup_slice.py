# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From descriptions to what backs a host up: sets, orders, units, files; and what is said of a description that cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fleets
import pytest
import yaml

from ansible_collections.hearth.fleet.plugins.module_utils import backup_slice, backup_spec, backup_units, drill_slice, slices
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError, Mistake

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
AGE = re.findall(r"age1\w+", (ROOT / "tests" / "fixtures" / "backup_identity.txt").read_text())[0]
DATABASE = {"path": "/var/lib/icnd/node.db", "tables": ["kv"], "sentinel": "SELECT count(*) FROM kv"}
BACKUP = {"databases": [DATABASE], "schedule": "hourly", "keep": "30d"}
INPUTS: dict[str, Any] = {
    **yaml.safe_load((ROOT / "roles" / "backup" / "defaults" / "main.yml").read_text()),
    "backup_store": {"endpoint": "https://s3.example.org", "bucket": "fleet", "region": None},
    "backup_access_key_id": "ID",
    "backup_secret_access_key": "hunter2",
    "backup_recipients": [AGE],
}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def described(backup: Any, **more: Any) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the services of one host, one of which has this backup, and what is wrong with them."""
    service = {**fleets.changed("backup", backup), **more}
    joined, mistakes = fleets.join(fleets.fleet(services={"icnd": service}))
    return joined["relay1"]["services"], mistakes


def sliced(backup: Any = None, **inputs: Any) -> tuple[dict[str, Any], list[Mistake]]:
    services, mistakes = described(BACKUP if backup is None else backup)
    assert mistakes == []
    found = backup_slice.backup_slice("relay1", services, {**INPUTS, **inputs}, 1.5, lambda _path: CERTIFICATE, mistakes)
    return found, mistakes


def right(backup: Any = None, **inputs: Any) -> dict[str, Any]:
    found, mistakes = sliced(backup, **inputs)
    assert mistakes == []
    return found


def text(found: dict[str, Any], path: str) -> str:
    (one,) = (path_["content"] for path_ in found["paths"] if path_["path"] == path)
    return str(one)


def values(unit: str, directive: str) -> list[str]:
    return re.findall(rf"(?m)^{directive}=(.*)$", unit)


def service_of(backup: Any, **inputs: Any) -> str:
    return text(right(backup, **inputs), "/etc/systemd/system/hearth-backup-icnd.data.service")


def test_services_whose_backups_go_nowhere_are_named() -> None:
    homeless = right(backup_store={})
    assert backup_slice.unstored({"relay1": {"backup": homeless}, "home1": {"backup": homeless}}) == ["icnd"]
    assert backup_slice.unstored({"relay1": {"backup": right()}, "ops1": {"backup": {**homeless, "sets": []}}}) == []


# --- What is described ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backup", "said"),
    [
        pytest.param({}, "fleet_services.icnd.backup: there is nothing in it\n  → write databases, files or command", id="empty"),
        pytest.param({"more": {"keys": {}}}, "fleet_services.icnd.backup.more.keys: there is nothing in it", id="empty-set"),
        pytest.param(
            {"more": {"data": {"files": ["/etc/icn"]}}}, "fleet_services.icnd.backup.more.data: is what stands directly under backup", id="data"
        ),
        pytest.param({"more": {"Keys": {"files": ["/x"]}}}, "fleet_services.icnd.backup.more.Keys: 'Keys' is not a set", id="set-name"),
        pytest.param({"more": {"a.b": {"files": ["/x"]}}}, "fleet_services.icnd.backup.more['a.b']: 'a.b' is not a set", id="set-name-with-a-dot"),
        pytest.param(
            {"more": {"db": {"databases": [{"path": "/srv/x.db"}]}}},
            "fleet_services.icnd.backup.more.db.databases[0].path: /srv/x.db is outside the service's directories\n  → they are: /var/lib/icnd",
            id="database-elsewhere",
        ),
        pytest.param(
            {"databases": [{"path": "/var/lib/icnd-other/x.db"}]},
            "fleet_services.icnd.backup.databases[0].path: /var/lib/icnd-other/x.db is outside",
            id="database-in-a-directory-with-the-same-beginning",
        ),
        pytest.param({"command": ["icnd", "dump"]}, "fleet_services.icnd.backup.command: does not say where the backup goes", id="no-output"),
        pytest.param(
            {"databases": [DATABASE], "schedule": "changes"},
            "fleet_services.icnd.backup.schedule: there are no files that could change",
            id="changes",
        ),
        pytest.param(
            {**BACKUP, "schedule": "hourli"}, "fleet_services.icnd.backup.schedule: 'hourli' is not a schedule\n  → did you mean 'hourly'?", id="typo"
        ),
        pytest.param({**BACKUP, "keep": "36h"}, "fleet_services.icnd.backup.keep: '36h' is not how long to keep a backup", id="keep"),
        pytest.param({**BACKUP, "user": "maria"}, "fleet_services.icnd.backup.user: 'maria' is neither root nor the service's account", id="user"),
        pytest.param(
            {**BACKUP, "recipients": ["age1x"]}, "fleet_services.icnd.backup.recipients[0]: 'age1x' (a text) is not an age recipient", id="recipient"
        ),
        pytest.param(
            {"databases": [{"path": "/var/lib/icnd/x.db", "sentinel": "DROP TABLE kv"}]},
            "fleet_services.icnd.backup.databases[0].sentinel: 'DROP TABLE kv' (a text) is not one SELECT",
            id="sentinel",
        ),
        pytest.param({"files": ["keys"]}, "fleet_services.icnd.backup.files[0]: 'keys' is not an absolute path", id="relative"),
    ],
)
def test_mistakes_of_a_description_name_their_place(backup: dict[str, Any], said: str) -> None:
    _services, mistakes = described(backup)
    assert any(said in str(mistake) for mistake in mistakes), mistakes


@pytest.mark.parametrize(
    ("backup", "users"),
    [
        pytest.param(BACKUP, {"data": "icnd"}, id="own-database"),
        pytest.param({"files": ["/var/lib/icnd/keys"]}, {"data": "icnd"}, id="own-files"),
        pytest.param({"files": ["/var/lib/icnd"]}, {"data": "icnd"}, id="the-directory-itself"),
        pytest.param({"files": ["/etc/icn"]}, {"data": "root"}, id="files-of-root"),
        pytest.param({"command": ["icnd", "backup", "{output}"]}, {"data": "icnd"}, id="command"),
        pytest.param({**BACKUP, "user": "root"}, {"data": "root"}, id="as-said"),
        pytest.param({"more": {"a": {"files": ["/etc/icn"]}, "b": {"files": ["/var/lib/icnd/k"]}}}, {"a": "root", "b": "icnd"}, id="only-more"),
    ],
)
def test_the_account_is_the_services_where_it_can_be(backup: dict[str, Any], users: dict[str, str]) -> None:
    services, mistakes = described(backup)
    assert mistakes == []
    assert {name: one["user"] for name, one in backup_spec.sets_of(services["icnd"]).items()} == users


def test_a_rollout_looks_after_the_databases_of_all_sets() -> None:
    services, mistakes = described({**BACKUP, "more": {"other": {"databases": [{"path": "/var/lib/icnd/other.db"}, DATABASE]}}})
    assert mistakes == []
    assert [one["path"] for one in backup_spec.databases_of(services["icnd"])] == ["/var/lib/icnd/node.db", "/var/lib/icnd/other.db"]


# --- What is written for the fleet ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        pytest.param(
            {"backup_recipients": []}, "fleet_services.icnd.backup.recipients: there is nobody to encrypt for\n  → set backup_recipients", id="nobody"
        ),
        pytest.param({"backup_recipients": ["age1x"]}, "backup_recipients[0]: 'age1x' (a text) is not an age recipient", id="recipient"),
        pytest.param({"backup_access_key_id": ""}, "backup_access_key_id: missing, but backup_store names a store", id="no-credentials"),
        pytest.param({"backup_secret_access_key": "hunter 2"}, "backup_secret_access_key: has spaces or characters", id="secret-with-a-space"),
        pytest.param({"backup_secret_access_key": "a\n[x]"}, "backup_secret_access_key: has spaces or characters", id="secret-with-a-line"),
        pytest.param({"backup_store": {"bucket": "fleet"}}, "backup_store.endpoint: missing, but backup_store names a bucket", id="no-endpoint"),
        pytest.param({"backup_store": {"endpoint": "https://s3.example.org"}}, "backup_store.bucket: missing", id="no-bucket"),
        pytest.param(
            {"backup_store": {"endpoint": "s3.example.org", "bucket": "fleet"}},
            "backup_store.endpoint: 's3.example.org' is not the URL",
            id="no-scheme",
        ),
        pytest.param({"backup_store": {"endpoint": "https://s3.example.org:x", "bucket": "fleet"}}, "backup_store.endpoint: ", id="port"),
        pytest.param({"backup_store": {"endpoint": "https://[::1", "bucket": "fleet"}}, "backup_store.endpoint: ", id="brackets"),
        pytest.param(
            {"backup_store": {"endpoint": "https://s3.example.org/fleet", "bucket": "fleet"}},
            "has more than an address\n  → write the bucket as",
            id="path",
        ),
        pytest.param(
            {"backup_store": {"endpoint": "https://s3.example.org", "bucket": "My Fleet"}}, "backup_store.bucket: 'My Fleet' cannot name", id="bucket"
        ),
        pytest.param(
            {"backup_store": {"endpoint": "https://s3.example.org", "bucket": "fleet", "prefix": "a/../b"}}, "backup_store.prefix: ", id="upwards"
        ),
        pytest.param(
            {"backup_store": {"endpoint": "https://s3.example.org", "bucket": "fleet", "prefix": "a//b"}}, "backup_store.prefix: ", id="prefix"
        ),
        pytest.param(
            {"backup_store": {"endpoint": "https://s3.example.org", "bucket": "fleet", "region": "here!"}}, "backup_store.region: ", id="region"
        ),
        pytest.param({"backup_on_failure": "alert"}, "backup_on_failure: 'alert' is not a unit", id="on-failure"),
        pytest.param({"backup_bandwidth": "slow!"}, "backup_bandwidth: 'slow!' is not a limit", id="bandwidth"),
        pytest.param({"backup_metrics_directory": "metrics"}, "backup_metrics_directory: 'metrics' is not an absolute path", id="metrics"),
    ],
)
def test_mistakes_of_the_inputs_name_the_input(inputs: dict[str, Any], said: str) -> None:
    _found, mistakes = sliced(**inputs)
    assert any(said in str(mistake) for mistake in mistakes)
    assert "hunter" not in " ".join(map(str, mistakes))


def test_credentials_in_an_endpoint_are_refused_and_not_repeated() -> None:
    _found, mistakes = sliced(backup_store={"endpoint": "https://id:hunter2@s3.example.org", "bucket": "fleet"})
    assert [mistake.path for mistake in mistakes] == ["backup_store.endpoint"]
    assert "hunter2" not in str(mistakes[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("nothing", "ca.pem holds no certificate in PEM", id="no-certificate"),
        pytest.param(CERTIFICATE + "-----BEGIN PRIVATE KEY-----\n", "ca.pem holds a private key", id="private-key"),
        pytest.param(None, "no file ca.pem on the controller", id="missing"),
    ],
)
def test_the_stores_certificate_must_be_one(content: str | None, said: str) -> None:
    def read(_path: str) -> str:
        if content is None:
            raise FleetError("no file ca.pem on the controller")
        return content

    mistakes: list[Mistake] = []
    store = {**INPUTS["backup_store"], "ca": "ca.pem"}
    backup_slice.backup_slice("relay1", {}, {**INPUTS, "backup_store": store}, 1.5, read, mistakes)
    assert [(mistake.path, said in mistake.problem) for mistake in mistakes] == [("backup_store.ca", True)]


def test_without_a_store_nothing_is_installed_and_the_sets_are_known() -> None:
    found = right(backup_store={}, backup_recipients=[], backup_access_key_id="", backup_secret_access_key="")
    assert [found[key] for key in ("jobs", "paths", "units", "timers", "packages", "check")] == [[], [], [], [], {}, None]
    assert [(one["job"], one["class"], one["max_age"]) for one in found["sets"]] == [("icnd.data", "data-30d", 3 * 3600)]


def test_a_host_that_backs_nothing_up_has_no_credentials() -> None:
    mistakes: list[Mistake] = []
    found = backup_slice.backup_slice("ops1", {}, INPUTS, 1.5, lambda _path: "", mistakes)
    assert (mistakes, found["paths"], found["check"]) == ([], [], None)


# --- What the host gets -----------------------------------------------------------------------------------------------


def test_an_order_is_all_that_a_run_needs() -> None:
    order = json.loads(text(right(), "/etc/hearth/backup/icnd.data.json"))
    assert order == {
        "service": "icnd",
        "set": "data",
        "host": "relay1",
        "class": "data-30d",
        "keep_days": 30,
        "refresh_days": 8,
        "databases": [{**DATABASE, "engine": "sqlite"}],
        "files": [],
        "command": [],
        "recipients": [AGE],
        "bucket": "fleet",
        "prefix": "",
        "endpoint": "https://s3.example.org",
        "bandwidth": "",
        "metrics_directory": "/var/lib/prometheus/node-exporter",
        "max_age": 10800,
        "release_home": "/opt/icnd",
        "user": "icnd",
    }


def test_f15_the_host_gets_the_writing_credentials_alone_and_only_root_reads_them() -> None:
    others = {f"backup_{role}_{part}": "hunter3" for role in ("read", "admin") for part in ("access_key_id", "secret_access_key")}
    found = right(backup_identity="/home/maria/hunter3", **others)
    secrets = [path for path in found["paths"] if "hunter2" in json.dumps(path)]
    assert [(one["path"], one["owner"], one["mode"], "content" in one) for one in secrets] == [
        ("/etc/hearth/backup/rclone.conf", "root", "0600", False)
    ]
    assert "hunter3" not in json.dumps(found)
    bare = slices.without_content({**_nothing(), "backup": found})["backup"]
    assert "hunter2" not in json.dumps(bare)
    assert set(bare) == {"packages", "paths", "units", "timers"}


def _nothing() -> dict[str, Any]:
    empty: dict[str, Any] = {"account": {"paths": []}, "release": [], "config": {"paths": []}, "unit": {"units": [], "paths": []}}
    return {**empty, "firewall": {}, "drill": drill_slice.nothing(), "preflight": {}, "rollout": []}


def test_orders_are_for_root_and_the_account_and_so_is_what_a_job_stores() -> None:
    found = {path["path"]: path for path in right()["paths"]}
    order, state = found["/etc/hearth/backup/icnd.data.json"], found["/var/lib/hearth/backup/icnd.data"]
    assert (order["owner"], order["group"], order["mode"]) == ("root", "icnd", "0640")
    assert (state["owner"], state["group"], state["mode"]) == ("icnd", "icnd", "0700")
    for parent in ("/var/lib/hearth", "/var/lib/hearth/backup"):
        assert found[parent]["mode"] == "0711", "its own directory must be within reach, the others out of sight"


def test_a_certificate_of_the_stores_own_goes_along() -> None:
    found = right(backup_store={**INPUTS["backup_store"], "ca": "ca.pem"})
    assert text(found, "/etc/hearth/backup/ca.pem") == CERTIFICATE


@pytest.mark.parametrize("kind", ["service", "timer"])
def test_units_are_as_they_were_looked_at(kind: str) -> None:
    name = f"hearth-backup-icnd.data.{kind}"
    assert text(right(), f"/etc/systemd/system/{name}") == (GOLDEN / name).read_text()


def test_files_that_are_waited_for_have_a_path_unit_and_a_daily_timer() -> None:
    found = right({"files": ["/var/lib/icnd/cert.pem", "/var/lib/icnd/key 2.pem"], "schedule": "changes", "keep": "forever"})
    assert found["timers"] == ["hearth-backup-icnd.data.path", "hearth-backup-icnd.data.timer"]
    path = text(found, "/etc/systemd/system/hearth-backup-icnd.data.path")
    assert values(path, "PathChanged") == ["/var/lib/icnd/cert.pem", "/var/lib/icnd/key 2.pem"]
    assert values(text(found, "/etc/systemd/system/hearth-backup-icnd.data.timer"), "OnCalendar") == ["daily"]
    links = {one["path"]: one["target"] for one in found["paths"] if one["state"] == "link"}
    assert links["/etc/systemd/system/paths.target.wants/hearth-backup-icnd.data.path"] == "/etc/systemd/system/hearth-backup-icnd.data.path"
    assert found["check"]["schedules"] == []


def test_f12_a_timer_catches_up_and_does_not_start_with_all_the_others() -> None:
    timer = text(right({**BACKUP, "schedule": "*-*-*  02:00"}), "/etc/systemd/system/hearth-backup-icnd.data.timer")
    assert [values(timer, key) for key in ("OnCalendar", "Persistent", "RandomizedDelaySec", "FixedRandomDelay")] == [
        ["*-*-* 02:00"],
        ["true"],
        ["10min"],
        ["true"],
    ]


@pytest.mark.parametrize(
    ("backup", "writable"),
    [
        pytest.param(BACKUP, ["/var/lib/hearth/backup/icnd.data", "/var/lib/icnd"], id="database"),
        pytest.param({"files": ["/var/lib/icnd/keys"]}, ["/var/lib/hearth/backup/icnd.data"], id="files"),
        pytest.param({"command": ["icnd", "{output}"]}, ["/var/lib/hearth/backup/icnd.data", "/var/lib/icnd"], id="command"),
    ],
)
def test_a_job_writes_where_it_must_and_nowhere_else(backup: dict[str, Any], writable: list[str]) -> None:
    assert values(service_of(backup), "ReadWritePaths") == [" ".join(writable)]


@pytest.mark.parametrize(
    ("backup", "user", "capabilities", "home"),
    [
        pytest.param(BACKUP, "icnd", "", "true", id="account"),
        pytest.param({"files": ["/etc/icn"]}, "root", "CAP_DAC_READ_SEARCH", "true", id="root-reads"),
        pytest.param(
            {**BACKUP, "files": ["/home/maria/notes"]}, "root", "CAP_CHOWN CAP_DAC_OVERRIDE", "read-only", id="root-with-a-database-and-a-home"
        ),
    ],
)
def test_root_keeps_what_reading_takes(backup: dict[str, Any], user: str, capabilities: str, home: str) -> None:
    unit = service_of(backup)
    assert [values(unit, key) for key in ("User", "CapabilityBoundingSet", "ProtectHome")] == [[user], [capabilities], [home]]


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        pytest.param("https://s3.example.org", [], id="a-name"),
        pytest.param("http://192.0.2.9:9001", ["localhost 192.0.2.9"], id="an-address"),
        pytest.param("http://[2001:db8::9]:9001", ["localhost 2001:db8::9"], id="ipv6"),
    ],
)
def test_a_job_talks_to_the_store_alone_where_that_has_an_address(endpoint: str, allowed: list[str]) -> None:
    assert values(service_of(BACKUP, backup_store={"endpoint": endpoint, "bucket": "fleet"}), "IPAddressAllow") == allowed


def test_a_services_own_command_has_what_the_service_has() -> None:
    services, mistakes = described(
        {"command": ["icnd", "backup", "-o", "{output}"]},
        environment={"LEVEL": "info"},
        secrets={"PASSPHRASE": "hunter2", "key": {"value": "hunter3", "as": "credential"}, "ADMIN": {"value": "hunter4", "as": "request"}},
        sandbox={"private_network": True, "proc": "all", "capabilities": ["CAP_NET_ADMIN"]},
    )
    assert mistakes == []
    found = backup_slice.backup_slice("relay1", services, INPUTS, 1.5, lambda _path: "", mistakes)
    unit = text(found, "/etc/systemd/system/hearth-backup-icnd.data.service")
    assert values(unit, "Environment") == ["LEVEL=info"]
    assert values(unit, "EnvironmentFile") == ["/etc/icnd/icnd.env"]
    assert values(unit, "LoadCredential") == ["key:/etc/icnd/credentials/key", "rclone.conf:/etc/hearth/backup/rclone.conf"]
    assert [values(unit, key) for key in ("ProtectProc", "PrivateNetwork", "CapabilityBoundingSet")] == [["default"], [], [""]]
    assert found["jobs"][0]["command"] == ["/usr/local/bin/icnd", "backup", "-o", "{output}"]


def test_a_failure_starts_what_is_asked_for() -> None:
    assert values(service_of(BACKUP, backup_on_failure="alert@%n.service"), "OnFailure") == ["alert@%n.service"]
    assert values(service_of(BACKUP), "OnFailure") == []


@pytest.mark.parametrize(("user", "limit"), [("root", backup_units.ROOT_EXPOSURE_MAX), ("icnd", 1.5)])
def test_f55_every_job_has_a_limit_to_its_exposure(user: str, limit: float) -> None:
    assert {one["exposure_max"] for one in right({**BACKUP, "user": user})["check"]["units"]} == {limit}
