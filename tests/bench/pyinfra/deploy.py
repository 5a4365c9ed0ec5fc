"""The state of ../ordinary, as a pyinfra deploy: what has no operation of its own is looked at with one fact first."""

import io
import json
from pathlib import Path
from typing import Any

import yaml
from jinja2.nativetypes import NativeEnvironment
from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.facts.server import Arch, Command
from pyinfra.operations import files, server, systemd

BENCH = Path(__file__).resolve().parents[1]
ARTIFACTS = BENCH.parents[1] / ".cache" / "artifacts"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def wanted(name: str, prefix: str) -> dict[str, Any]:
    """Return the variables that the Ansible contenders share, for one host."""
    known = {"inventory_hostname": name, "lab_ipv4_prefix": prefix}
    environment = NativeEnvironment()

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return environment.from_string(value).render(known) if isinstance(value, str) and "{{" in value else value

    variables: dict[str, Any] = filled(yaml.safe_load((BENCH / "inventory/group_vars/all/bench.yml").read_text()))
    return variables


def allow(rule: dict[str, Any]) -> str:
    """Return a rule as the command that adds it, in the words in which `ufw show added` lists it."""
    proto, source, port = rule["proto"][0], rule["from"][0], rule["port"]
    matched = f"{port}/{proto}" if source == "any" else f"from {source} to any port {port} proto {proto}"
    return f"ufw allow {matched} comment '{rule['name']}'"


state = wanted(host.name, host.data.lab_ipv4_prefix)
version = state["bench_version"]
release = f"/opt/nats-server/releases/{version}"

server.group(name="Create the group", group="nats", system=True)
server.user(
    name="Create the user",
    user="nats",
    group="nats",
    home="/var/lib/nats-server",
    shell="/usr/sbin/nologin",
    system=True,
    ensure_home=False,
)
files.directory(name="Create the data directory", path="/var/lib/nats-server", user="nats", group="nats", mode="750")

files.directory(name="Create the directory of the release", path=release, user="root", group="root", mode="755")
if not host.get_fact(File, path=f"{release}/nats-server"):
    arch = ARCHITECTURES[host.get_fact(Arch)]
    archive = f"nats-server-v{version}-linux-{arch}.tar.gz"
    files.put(name="Copy the archive", src=str(ARTIFACTS / archive), dest=f"/var/cache/{archive}", mode="644")
    server.shell(
        name="Check its digest and unpack it",
        commands=[
            f"echo '{state['bench_sha256'][arch]}  /var/cache/{archive}' | sha256sum --check --quiet",
            f"tar --extract --gzip --no-same-owner --strip-components=1 --directory {release} --file /var/cache/{archive}",
        ],
    )
current = files.link(name="Make the release the current one", path="/opt/nats-server/current", target=f"releases/{version}")
files.link(name="Link the binary", path="/usr/local/bin/nats-server", target="/opt/nats-server/current/nats-server")

files.directory(name="Create the directory of the config", path="/etc/nats-server", user="root", group="nats", mode="750")
config = files.put(
    name="Write the config",
    src=io.StringIO(json.dumps(state["bench_config"], indent=2) + "\n"),
    dest="/etc/nats-server/nats.json",
    user="root",
    group="nats",
    mode="640",
)
server.shell(name="Check the config", commands=["/usr/local/bin/nats-server --config /etc/nats-server/nats.json -t"], _if=config.did_change)

unit = files.template(
    name="Write the unit",
    src=str(BENCH / "ordinary/roles/unit/templates/nats-server.service.j2"),
    dest="/etc/systemd/system/nats-server.service",
    user="root",
    group="root",
    mode="644",
    ansible_managed="Managed by pyinfra",
)
systemd.service(
    name="Restart the service, if it must",
    service="nats-server.service",
    restarted=True,
    daemon_reload=True,
    _if=lambda: any(one.did_change() for one in (current, config, unit)),
)
systemd.service(name="Enable and start the service", service="nats-server.service", running=True, enabled=True)

if host.data.get("ufw") == "commands":
    # As it is usually written: pyinfra has no operation for UFW, so each rule is a command, which UFW itself skips.
    for rule in state["bench_rules"]:
        server.shell(name=f"Allow {rule['name']}", commands=[allow(rule)])
    server.shell(name="Deny the rest", commands=["ufw default deny incoming", "ufw --force enable"])
else:
    present = host.get_fact(Command, command="ufw show added; ufw status verbose", _sudo=host.data.get("_sudo")).splitlines()
    missing = [command for command in map(allow, state["bench_rules"]) if command not in present]
    if missing:
        server.shell(name="Allow what the host serves", commands=missing)
    if "Status: active" not in present or not any(line.startswith("Default: deny (incoming)") for line in present):
        server.shell(name="Deny the rest", commands=["ufw default deny incoming", "ufw --force enable"])

server.shell(
    name="Wait until the service is ready",
    commands=["curl --silent --fail --output /dev/null --retry 30 --retry-delay 1 --retry-all-errors http://127.0.0.1:8222/healthz"],
)
