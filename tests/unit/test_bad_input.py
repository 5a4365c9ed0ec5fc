"""Bad input, seen through ``ansible-playbook site.yml``: every mistake is said, with its place, and no host is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fleets
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

HOSTS = """
all:
  vars: {ansible_user: nobody}
icn:
  hosts:
    relay1: {ansible_host: 192.0.2.1}
    home1: {ansible_host: 192.0.2.2}
monitoring:
  hosts:
empty:
  hosts:
"""

SERVICES = f"""
fleet_placement:
  icn: [icnd, second, icn, third]
  relay1: ["like:home1"]
  home1: ["like:relay1"]
fleet_services:
  icnd:
    version: 1.10
    artifact: {{url: "https://example.org/{{version}}", sha256: {{amd64: {fleets.DIGEST}}}}}
    comand: [icnd]
    resources: {{nofile: many}}
    command: [icnd]
  second:
    version: "1.0"
    artifact: {{url: "ftp://example.org/x", sha256: {fleets.DIGEST}}}
    command: [second]
    config: [{{path: /etc/second/second.toml, content: {{log: {{level: null}}}}}}]
    ports:
      - {{name: http, port: 8080, from: "group:empty"}}
      - {{name: other, port: 8080, from: any}}
  third:
    version: "1.0"
    artifact: {{url: "https://example.org/{{version}}", sha256: {fleets.DIGEST}}}
    command: [third]
    account: {{user: second}}
    health: {{ready: "htp://x", deadline: soon}}
    backup: {{recipients: [age1nonsense]}}
    environment: {{PEERS: "{{{{ nowhere_defined }}}}", PATH: "/x:$PATH"}}
    unit: {{after: ["{{{{ nowhere_defined }}}}", thrid]}}
    secrets:
      TOKEN: !vault |
        $ANSIBLE_VAULT;1.1;AES256
        62313365396662343061393464336163383764373764613633653634306231386433626436623361
        6134333665353966363534333632666535333761666131620a663537646436643839616531643561
        63396265333963386166373632626539326166353965363262633030333630313338646335303630
        3438626666666137650a353638643435666633633964366338633066623234616432373231333331
        6564
firewall_loging: high
firewall_logging: loud
release_proxy: "{{{{ nowhere_defined }}}}"
"""

SAID = {
    "unknown key": "fleet_services.icnd.comand: unknown key",
    "wrong type": "fleet_services.icnd.resources.nofile: 'many' (a text) is not a whole number",
    "a suggestion": "did you mean 'command'?",
    "version is a number": "fleet_services.icnd.version: 1.1 is a number",
    "unknown placement": "fleet_placement.icn[2]: 'icn' is not in fleet_services",
    "circular placement": "circular placement: home1 → relay1 → home1",
    "undefined variable": "fleet_services.third.environment.PEERS: cannot be read for hosts home1, relay1: ",
    "beside what is undefined": "fleet_services.third.unit.after[1]: 'thrid' is not in fleet_services",
    "below what is undefined": "fleet_services.third.environment.PATH: $PATH is not filled in here, as there is no shell",
    "wrong beside an unreadable vault": "fleet_services.third.health.deadline: 'soon' is not a duration",
    "unreadable vault": "fleet_services.third.secrets.TOKEN: cannot be read for hosts home1, relay1: ",
    "role input that cannot be read": "release_proxy: cannot be read for hosts home1, relay1: ",
    "value of a role input": "firewall_logging: value of firewall_logging must be one of: ",
    "role input": "firewall_loging: unknown input of role firewall",
}

LATER = {
    "url": "fleet_services.second.artifact.url: 'ftp://example.org/x' is not a URL",
    "toml": "fleet_services.second.config[0].content.log.level: ",
    "group without hosts": "fleet_services.second.ports[0].from: group 'empty' has no hosts",
    "same port": "port 8080/tcp is taken on host",
    "same account": "account 'second' is taken on host",
    "same path": "path /etc/second/second.toml is taken on host",
    "probe": "fleet_services.third.health.ready: ",
    "secret in a header": "fleet_services.second.health.ready.headers.Authorization: would show a secret in verbose output",
    "hidden home": "fleet_services.second.directories[0].path: /home/second is in /home, which the sandbox hides",
    "unknown service": "fleet_services.second.unit.after[0]: 'thrid' is not in fleet_services",
    "duration": "fleet_services.third.health.deadline: 'soon' is not a duration",
    "recipient": "fleet_services.third.backup.recipients[0]: ",
}

BACKUPS = """
fleet_placement: {icn: [icnd]}
fleet_services:
  icnd:
    version: "1.0"
    artifact: {url: "https://example.org/{version}", sha256: DIGEST}
    command: [icnd]
    backup:
      databases: [{path: /srv/icn.db}]
      schedule: "half past nine"
      keep: 36h
      more: {Keys: {files: [/var/lib/icnd/key]}, empty: {schedule: weekly}}
""".replace("DIGEST", fleets.DIGEST)

SAID_OF_BACKUPS = {
    "schedule": "fleet_services.icnd.backup.schedule: 'half past nine' (a text) is not a schedule",
    "keep": "fleet_services.icnd.backup.keep: '36h' is not how long to keep a backup",
    "set name": "fleet_services.icnd.backup.more.Keys: 'Keys' is not a set",
}
SAID_OF_SETS = {
    "database": "fleet_services.icnd.backup.databases[0].path: /srv/icn.db is outside the service's directories",
    "empty set": "fleet_services.icnd.backup.more.empty: there is nothing in it",
}
STORE = """
backup_store: {endpoint: s3.example.org, bucket: My Bucket}
backup_recipients: [age1nonsense]
backup_access_key_id: "ID"
backup_identiti: x
"""
SAID_OF_THE_STORE = {
    "endpoint": "backup_store.endpoint: 's3.example.org' is not the URL of a store",
    "bucket": "backup_store.bucket: 'My Bucket' cannot name a bucket",
    "credentials": "backup_secret_access_key: missing, but backup_store names a store",
    "input": "backup_identiti: unknown input of role backup",
}


def run(tmp_path: Path, services: str) -> subprocess.CompletedProcess[str]:
    inventory = tmp_path / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "hosts.yml").write_text(HOSTS)
    (inventory / "group_vars" / "all.yml").write_text(services)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "site.yml", "-i", str(inventory)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def assert_said(done: subprocess.CompletedProcess[str], wanted: dict[str, str]) -> None:
    output = unwrapped(done.stdout + done.stderr)
    assert done.returncode == 2
    assert "UNREACHABLE" not in output, "a host was touched"
    missing = {case: text for case, text in wanted.items() if unwrapped(text) not in output}
    assert not missing, output


def test_every_mistake_of_an_inventory_is_said_at_once(tmp_path: Path) -> None:
    assert_said(run(tmp_path, SERVICES), SAID)


@pytest.mark.parametrize("given", ["icn", ["icn"]], ids=["text", "list"])
def test_f58_what_is_no_mapping_is_said_at_once(tmp_path: Path, given: object) -> None:
    names = ("fleet_services", "fleet_placement", "fleet_overrides", "fleet_tiers")
    done = run(tmp_path, yaml.safe_dump(dict.fromkeys(names, given)))
    assert_said(done, {name: f"{name}: {given!r} (a {'text' if isinstance(given, str) else 'list'}) is not a mapping" for name in names})


def test_f58_mistakes_in_services_and_between_them_are_said_at_once(tmp_path: Path) -> None:
    one = yaml.safe_load(SERVICES.partition("    environment:")[0])
    one["fleet_placement"] = {"icn": ["second", "third"]}
    second, third = (one["fleet_services"][name] for name in ("second", "third"))
    second.update(
        health={"ready": {"url": "http://127.0.0.1/", "headers": {"Authorization": "Bearer hunter2"}}},
        directories=[{"path": "/home/second"}],
        unit={"after": ["thrid"]},
    )
    third["config"] = [{"path": "/etc/second/second.toml", "content": {}}]
    done = run(tmp_path, yaml.safe_dump(one))
    assert_said(done, LATER)
    assert "hunter2" not in done.stdout + done.stderr


def test_bad_backups_are_said_before_any_host_is_touched(tmp_path: Path) -> None:
    assert_said(run(tmp_path / "all", BACKUPS + STORE), {**SAID_OF_BACKUPS, **SAID_OF_SETS, **SAID_OF_THE_STORE})
    sets = yaml.safe_load(BACKUPS)
    sets["fleet_services"]["icnd"]["backup"] = {"databases": [{"path": "/var/lib/icnd/icn.db"}]}
    sound = "backup_store: {endpoint: 'https://s3.example.org', bucket: fleet}\nbackup_access_key_id: ID\nbackup_secret_access_key: hunter2\n"
    nobody = run(tmp_path / "nobody", yaml.safe_dump(sets) + sound)
    assert_said(nobody, {"f14": "fleet_services.icnd.backup.recipients: there is nobody to encrypt for"})
    assert "hunter2" not in nobody.stdout + nobody.stderr


def test_an_unreadable_vault_file_is_said(tmp_path: Path) -> None:
    done = run(tmp_path, "$ANSIBLE_VAULT;1.1;AES256\n6231\n")
    assert done.returncode != 0
    assert "vault" in unwrapped(done.stdout + done.stderr)


@pytest.mark.parametrize(
    "services",
    ["fleet_services: []", "fleet_placement: {icn: [icnd]}", "fleet_services: {icnd: }\nfleet_placement: {icn: icnd}"],
    ids=["a-list", "no-catalogue", "nothing"],
)
def test_a_catalogue_of_the_wrong_type(tmp_path: Path, services: str) -> None:
    done = run(tmp_path, services)
    assert_said(done, {"it": "fleet_services"})
