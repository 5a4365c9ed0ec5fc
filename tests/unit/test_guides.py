"""The guides tell the truth: their inventories go through the real join, their fragments fit the schema, their errors are said so."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fleets
import joining
import pytest
import test_runbooks
import yaml

import service_reference
from ansible_collections.hearth.fleet.plugins.module_utils import plan, plan_text, service_schema, slices
from ansible_collections.hearth.fleet.plugins.module_utils.errors import InventoryError, Mistake

DOCS = joining.ROOT / "docs"
GUIDES = ["your-own-service.md", "first-fleet.md", "errors.md", "upgrade.md", "backup.md", "verify.md"]
EXAMPLE = "inventories/mine/"


@dataclass(frozen=True)
class Block:
    """A block of code: its language, and its text; `path` is the file it stands for, as its first line says."""

    language: str
    text: str

    @property
    def path(self) -> str:
        found = re.match(rf"# ({EXAMPLE}\S+)\n", self.text)
        return found[1] if found else ""


def blocks(guide: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", (DOCS / "guides" / guide).read_text())]


def inventory(directory: Path, *guides: str) -> Path:
    """Write the files of guides below a directory; of a file that is shown again, each variable holds as shown last."""
    for guide in guides:
        for block in blocks(guide):
            if block.path:
                path = directory / block.path.removeprefix(EXAMPLE)
                path.parent.mkdir(parents=True, exist_ok=True)
                present = yaml.safe_load(path.read_text()) if path.exists() else {}
                path.write_text(yaml.safe_dump({**present, **yaml.safe_load(block.text)}, sort_keys=False))
    return directory


def first_fleet(directory: Path, *more: str) -> Path:
    """Return the inventory of the first fleet, with the service that another guide describes, and what ``more`` guides add to it."""
    mine, described = inventory(directory / "fleet", "first-fleet.md", *more), inventory(directory / "services", "your-own-service.md")
    catalogue = "group_vars/all/services.yml"
    (mine / catalogue).write_text((described / catalogue).read_text())
    return mine


def test_a_third_partys_daemon_takes_less_than_thirty_lines_and_goes_through_the_join(tmp_path: Path) -> None:
    whole = blocks("your-own-service.md")[0]
    assert whole.path == EXAMPLE + "group_vars/all/services.yml"
    assert len(whole.text.splitlines()) < 30
    specs = joining.join(inventory(tmp_path, "your-own-service.md"))
    relay1, relay2 = (specs[name]["services"]["ntfy"] for name in ("relay1", "relay2"))
    assert relay1["config"][0]["content"] == {
        "base-url": "https://ntfy.example.org",
        "listen-http": ":2586",
        "cache-file": "/var/lib/ntfy/cache.db",
    }
    assert relay2["config"][0]["content"]["base-url"] == "https://ntfy2.example.org"
    assert relay2["config"][0]["content"]["listen-http"] == ":2586"
    assert [spec["resources"]["memory_max"] // 2**20 for spec in (relay1, relay2)] == [256, 128]
    assert specs["relay1"]["release"][0]["artifacts"]["arm64"]["url"].endswith("/v2.11.0/ntfy_2.11.0_linux_arm64.tar.gz")
    assert {"port": "2586", "source": "192.0.2.0/24", "owner": "ntfy/http"}.items() <= specs["relay1"]["firewall"]["rules"][-1].items()


def test_the_first_fleet_goes_through_the_join(tmp_path: Path) -> None:
    specs = joining.join(first_fleet(tmp_path))
    assert {name: (spec["host"]["tier"], spec["host"]["offline"], list(spec["services"])) for name, spec in specs.items()} == {
        "relay1": ("tier1", "fail", ["ntfy"]),
        "relay2": ("tier1", "fail", ["ntfy"]),
        "home1": ("tier2", "skip", []),
    }
    assert [user["name"] for user in specs["home1"]["account"]["users"]] == ["maria"]
    rules = {(rule["owner"], rule["port"], rule["source"]) for rule in specs["relay1"]["firewall"]["rules"]}
    assert {("host/ssh", "2222", "192.0.2.0/24"), ("host/web", "443", "any"), ("ntfy/http", "2586", "192.0.2.0/24")} <= rules
    assert "host/web" not in {rule["owner"] for rule in specs["home1"]["firewall"]["rules"]}


WITHOUT_UFW = {
    "installed": False,
    "enabled": False,
    "boot": False,
    "defaults": {"incoming": "", "outgoing": "", "routed": ""},
    "ipv6": False,
    "ipv6_kernel": True,
    "logging": "",
    "rules": {"ipv4": [], "ipv6": []},
    "kernel": {"structure": [], "rules": []},
}


def test_the_plan_of_a_new_host_is_the_one_that_the_guide_shows(tmp_path: Path) -> None:
    specs = joining.join(first_fleet(tmp_path))["relay1"]
    wanted = {**specs, **slices.without_content(specs)}
    # This machine has nothing of it either; only its firewall is its own.
    observed = {**plan.look(wanted, controller_time=None, resolved=None), "firewall": WITHOUT_UFW}
    assert f"{plan_text.render(plan.plan(wanted, observed))}\n" in test_runbooks.blocks("guides/first-fleet.md", "text")


def test_the_overrides_of_the_upgrade_go_through_the_join(tmp_path: Path) -> None:
    specs = joining.join(first_fleet(tmp_path, "upgrade.md"))
    assert [specs[name]["services"]["ntfy"]["rollout"]["batch"] for name in ("relay1", "relay2")] == ["50%", "50%"]


def test_the_backups_of_the_guide_go_through_the_join(tmp_path: Path) -> None:
    mine = inventory(tmp_path, "your-own-service.md", "backup.md")
    described = [yaml.safe_load(block.text) for block in blocks("backup.md") if block.language == "yaml" and not block.path]
    everything = yaml.safe_load((mine / "group_vars/all/services.yml").read_text())
    everything["fleet_services"]["ntfy"].update(described[0])
    roles = ("", "read_")
    everything |= {f"vault_backup_{role}{part}": "secret" for role in roles for part in ("access_key_id", "secret_access_key")}
    (mine / "group_vars/all/services.yml").write_text(yaml.safe_dump(everything, sort_keys=False))
    backup = joining.join(mine)["relay1"]["backup"]
    assert [(one["set"], one["class"], one["schedule"]) for one in backup["sets"]] == [
        ("data", "data-30d", "hourly"),
        ("identity", "identity-forever", "changes"),
        ("config", "config-90d", "weekly"),
    ]
    assert [order["user"] for order in backup["jobs"]] == ["ntfy", "ntfy", "root"]
    assert len(backup["jobs"][0]["recipients"]) == 2


def test_the_runner_of_the_guide_goes_through_the_join(tmp_path: Path) -> None:
    mine = inventory(tmp_path, "your-own-service.md", "backup.md")
    written, sandbox = (yaml.safe_load(textwrap.dedent(block)) for block in test_runbooks.blocks("guides/drill.md", "yaml"))
    everything = yaml.safe_load((mine / "group_vars/all/services.yml").read_text())
    drill = sandbox["fleet_services"]["daemon"]["backup"]["drill"]
    everything["fleet_services"]["ntfy"]["backup"] = {"databases": [{"path": "/var/lib/ntfy/cache.db"}], "drill": drill}
    everything |= {f"vault_backup_{role}{name}": "secret" for role in ("", "read_") for name in ("access_key_id", "secret_access_key")}
    everything |= {f"vault_drill_{name}": "AGE-SECRET-KEY-1EXAMPLE" for name in ("identity", "read_access_key_id", "read_secret_access_key")}
    (mine / "group_vars/all/services.yml").write_text(yaml.safe_dump(everything, sort_keys=False))
    (mine / "host_vars").mkdir()
    (mine / "host_vars/relay2.yml").write_text(yaml.safe_dump(written))
    paths = {one["path"]: one for one in joining.join(mine)["relay2"]["drill"]["paths"]}
    orders = [yaml.safe_load(one["content"]) for path, one in paths.items() if path.startswith("/etc/hearth/drill/orders/")]
    assert {order["host"] for order in orders} == {"relay1", "relay2"}
    assert all({"mode": "0640", **file} in order["config"] for order in orders for file in drill["files"])
    assert "OnFailure=alert@%n.service" in paths["/etc/systemd/system/hearth-drill.service"]["content"]


@pytest.mark.parametrize("guide", GUIDES)
def test_the_playbooks_of_a_guide_are_there(guide: str) -> None:
    commands = [line for block in blocks(guide) if block.language == "sh" for line in block.text.splitlines()]
    named = {word for line in commands for word in line.split() if word.endswith(".yml") and not word.startswith("inventories/")}
    assert [playbook for playbook in sorted(named) if not (joining.ROOT / playbook).exists()] == []


FRAGMENTS = [(guide, index, block) for guide in GUIDES for index, block in enumerate(blocks(guide)) if block.language == "yaml" and not block.path]


@pytest.mark.parametrize(
    "fragment",
    [pytest.param(yaml.safe_load(block.text), id=f"{guide}-{index}") for guide, index, block in FRAGMENTS if guide != "errors.md"],
)
def test_fragments_are_parts_of_a_service(fragment: dict[str, Any]) -> None:
    mistakes: list[Mistake] = []
    for key, value in fragment.items():
        assert key in service_schema.SERVICE.fields
        service_schema.SERVICE.fields[key].kind.read(value, key, mistakes)
    assert mistakes == []


def merged(base: Any, part: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(part, dict):
        return part
    return {**base, **{key: merged(base.get(key), value) for key, value in part.items()}}


def said_about(fragment: dict[str, Any]) -> list[Mistake]:
    """Return what the join says about a small right fleet into which a fragment of an inventory was merged."""
    written = fragment.get("fleet_services", {})
    services = {name: merged(fleets.ICND, {}) if name == "icnd" else service(name) for name in ("icnd", *written)}
    return fleets.join(
        fleets.fleet(services=merged(services, written), placement=fragment.get("fleet_placement"), overrides=fragment.get("fleet_overrides"))
    )[1]


def service(name: str) -> dict[str, Any]:
    return {"version": "1", "artifact": {"url": "https://example.org/x", "sha256": fleets.DIGEST}, "command": [name]}


def test_the_first_error_shown_is_the_whole_answer_to_the_mistakes_below_it() -> None:
    answer, mistakes = blocks("errors.md")[:2]
    assert str(InventoryError(said_about(yaml.safe_load(mistakes.text)))) == answer.text.rstrip()


@pytest.mark.parametrize(
    ("mistake", "answer"),
    [
        pytest.param(mistake, answer, id=answer.text.partition(":")[0])
        for mistake, answer in zip(blocks("errors.md")[2::2], blocks("errors.md")[3::2], strict=True)
    ],
)
def test_errors_are_said_as_the_guide_shows_them(mistake: Block, answer: Block) -> None:
    assert (mistake.language, answer.language) == ("yaml", "text")
    assert "\n".join(str(one) for one in said_about(yaml.safe_load(mistake.text))) == answer.text.rstrip()


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_somewhere(guide: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (DOCS / "guides" / guide).read_text()):
        assert (DOCS / "guides" / target).exists(), target


@pytest.mark.parametrize("guide", GUIDES)
def test_playbooks_and_inventories_that_are_named_exist(guide: str) -> None:
    text = (DOCS / "guides" / guide).read_text()
    for playbook in re.findall(r"ansible-playbook (\S+)", text):
        assert (joining.ROOT / playbook).is_file(), playbook
    for name in re.findall(r"`inventories/(\w+)`", text):
        assert name == "mine" or (joining.ROOT / "inventories" / name).is_dir(), name


REFERENCE = service_reference.page("<!-- generated -->").splitlines()


@pytest.mark.parametrize(
    ("key", "kind", "default"),
    [
        pytest.param("version", "version", "**required**", id="required"),
        pytest.param("artifact.signature.namespace", "text", "`file`", id="nested"),
        pytest.param("reload.signal", "signal", "**required** for a signal", id="one-of-several-forms"),
        pytest.param("secrets.<secret>.as", "one of environment, credential, request", "`environment`", id="in-a-mapping"),
        pytest.param("config[].path", "absolute path", "**required**", id="in-a-list"),
        pytest.param("unit.start_limit.interval", "duration", "`10m`", id="duration"),
        pytest.param("backup.keep", "days (30d), or forever", "`30d`", id="days"),
        pytest.param("resources.core", "size or infinity", "`0`", id="size"),
        pytest.param("drain.done", "[request](#requests)", "", id="request"),
        pytest.param("json", "mapping of name to anything", "`{}`", id="of-a-request"),
        pytest.param("fleet_tiers.<inventory group>.offline", "one of fail, skip", "`fail`", id="of-a-tier"),
    ],
)
def test_the_reference_has_a_line_for_a_key(key: str, kind: str, default: str) -> None:
    assert [line.split(" | ")[1:3] for line in REFERENCE if line.startswith(f"| `{key}` | ")] == [[kind, default]]


def test_the_reference_lists_every_key_of_a_service_and_has_a_section_for_those_with_keys_of_their_own() -> None:
    for name, field in service_schema.SERVICE.fields.items():
        assert any(line.startswith(f"| `{name}` |") for line in REFERENCE), name
        assert (f"### {name}" in REFERENCE) == service_reference.has_records(field)
