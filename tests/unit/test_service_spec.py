"""The join: layers, sources, defaults; and every sort of mistake, with its path and what to write instead."""

from __future__ import annotations

from typing import Any

import fleets
import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import placement

JAR = {"url": "https://example.org/icnd-{version}.jar", "sha256": fleets.DIGEST}


def spec(host: str = "relay1", **parts: Any) -> dict[str, Any]:
    joined, mistakes = fleets.join(fleets.fleet(**parts))
    assert mistakes == []
    return joined[host]["services"]["icnd"]


def said(**parts: Any) -> list[str]:
    return [str(mistake) for mistake in fleets.join(fleets.fleet(**parts))[1]]


def test_a_service_runs_only_where_it_is_placed() -> None:
    joined, mistakes = fleets.join(fleets.fleet())
    assert mistakes == []
    assert {host: list(one["services"]) for host, one in joined.items()} == {"relay1": ["icnd"], "home1": ["icnd"], "ops1": []}
    assert {host: one["tier"]["name"] for host, one in joined.items()} == {"relay1": "tier1", "home1": "tier2", "ops1": ""}


def test_defaults_that_follow_from_other_keys() -> None:
    icnd = spec()
    assert icnd["account"] == {"user": "icnd", "group": "icnd", "uid": None, "gid": None, "home": "/var/lib/icnd", "groups": [], "shared": False}
    assert icnd["binaries"] == {"icnd": "icnd"}
    assert icnd["directories"] == [{"path": "/var/lib/icnd", "owner": "icnd", "group": "icnd", "mode": "0750", "writable": True}]
    assert (icnd["config"][0]["owner"], icnd["config"][0]["group"], icnd["config"][0]["mode"]) == ("root", "icnd", "0640")
    assert icnd["unit"]["name"] == "icnd.service"
    assert icnd["health"]["deadline"] == 120


def test_a_group_as_source_becomes_the_addresses_of_its_hosts() -> None:
    metrics = spec()["ports"][1]
    assert metrics["sources"] == ["192.0.2.9", "2001:db8::9"]


def test_a_host_is_no_source_for_itself() -> None:
    peers = spec(services={"icnd": fleets.changed("ports.1.from", "group:icn")})["ports"][1]
    assert peers["sources"] == ["192.0.2.2"]


def test_a_port_below_1024_brings_its_capability() -> None:
    assert spec(services={"icnd": fleets.changed("ports.0.port", 443)})["sandbox"]["capabilities"] == ["CAP_NET_BIND_SERVICE"]


def test_a_daemon_with_control_groups_of_its_own_may_write_them() -> None:
    assert spec(services={"icnd": fleets.changed("unit.delegate", ["cpu", "memory"])})["sandbox"]["control_groups"] is True
    assert spec(services={"icnd": fleets.changed("unit.delegate", False)})["sandbox"]["control_groups"] is False


def test_what_outlives_a_stop_is_not_copied() -> None:
    icnd = {**fleets.changed("unit.kill_mode", "process"), "backup": {"databases": [{"path": "/var/lib/icnd/x.db"}]}}
    assert said(services={"icnd": icnd}) == [
        "fleet_services.icnd.unit.kill_mode: what outlives the stop could write to the databases while they are copied\n"
        "  → write mixed or control-group, or leave backup.databases out"
    ]


RUN = ["/usr/bin/java", "-jar", "/opt/icnd/current/icnd.jar"]


def test_a_release_may_be_one_file_for_a_program_of_the_host() -> None:
    icnd = spec(services={"icnd": {**fleets.ICND, "command": RUN, "artifact": {**JAR, "name": "icnd.jar"}}})
    assert (icnd["binaries"], icnd["artifact"]["name"]) == ({}, "icnd.jar")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"artifact": JAR},
            "fleet_services.icnd.artifact: is one file by its name, and the command calls no binary of the release\n"
            "  → write binaries: [icnd] if it is a program, artifact.name if it is a file for one, or artifact.format for an archive",
            id="file-without-a-name",
        ),
        pytest.param(
            {"artifact": {**JAR, "name": "icnd.jar", "format": "zip"}},
            "fleet_services.icnd.artifact.name: keeps the artifact as it is, which format is to change\n  → leave one of them out",
            id="file-and-archive",
        ),
        pytest.param(
            {"artifact": {**JAR, "format": "zip"}, "version_command": ["/usr/bin/java", "-jar", "{binary}"]},
            "fleet_services.icnd.version_command: {binary} stands for nothing, as the release has no binaries\n  → write its path",
            id="no-binary-to-ask",
        ),
    ],
)
def test_a_release_of_one_file_says_what_it_is(changes: dict[str, Any], message: str) -> None:
    assert said(services={"icnd": {**fleets.ICND, "command": RUN, **changes}}) == [message]


def test_layers_win_in_order_service_all_tier_group_host() -> None:
    layers = {
        "relay1": {"icnd": {"resources": {"nproc": 3}, "environment": {"B": "host"}}},
        "icn": {"icnd": {"resources": {"nofile": 2, "nproc": 2}}},
        "tier1": {"icnd": {"resources": {"memory_max": "1G", "nofile": 1, "nproc": 1}, "environment": {"A": "tier"}}},
        "all": {"icnd": {"resources": {"memory_max": "3G", "nofile": 4, "nproc": 4, "tasks_max": 4}, "environment": {"A": "all"}}},
    }
    icnd = spec(overrides=layers)
    assert [icnd["resources"][key] for key in ("tasks_max", "memory_max", "nofile", "nproc")] == [4, 2**30, 2, 3]
    assert icnd["environment"] == {"A": "tier", "B": "host"}
    assert spec(host="home1", overrides=layers)["environment"] == {"A": "all"}


def test_an_override_changes_one_port_of_several_and_adds_another() -> None:
    ports = spec(overrides={"relay1": {"icnd": {"ports": [{"name": "p2p", "port": 7778}, {"name": "api", "port": 8080}]}}})["ports"]
    assert [(port["name"], port["port"], port["proto"], port["from"]) for port in ports] == [
        ("p2p", "7778", ["udp"], ["any"]),
        ("metrics", "9100", ["tcp"], ["group:monitoring"]),
        ("api", "8080", ["tcp"], ["none"]),
    ]


def test_an_override_changes_one_key_of_a_config_and_null_takes_one_away() -> None:
    config = {"path": "/etc/icn/config.toml", "content": {"network": {"listen_addr": None, "mdns": False}}}
    assert spec(overrides={"tier1": {"icnd": {"config": [config]}}})["config"][0]["content"] == {"network": {"mdns": False}}


def test_like_places_what_another_group_has() -> None:
    joined, mistakes = fleets.join(fleets.fleet(placement={"tier1": ["icnd"], "ops1": ["like:tier1"]}))
    assert mistakes == []
    assert list(joined["ops1"]["services"]) == ["icnd"]
    assert placement.hosts_of("icnd", {"tier1": ["icnd"], "ops1": ["like:tier1"]}, fleets.GROUPS) == ["ops1", "relay1"]


@pytest.mark.parametrize(
    "artifact",
    [
        pytest.param({"url": "https://x/{version}.jar", "sha256": fleets.DIGEST}, id="one-for-any"),
        pytest.param({"url": {"any": "https://x/a"}, "sha256": fleets.DIGEST}, id="named-any"),
        pytest.param(
            {"url": {"amd64": "https://x/{arch}", "any": "https://x/a"}, "sha256": {"amd64": fleets.DIGEST, "any": fleets.DIGEST}}, id="both"
        ),
        pytest.param({"file": "{version}/{arch}", "sha256": {"armhf": fleets.DIGEST}}, id="file"),
    ],
)
def test_artifacts_for_all_architectures_and_for_each(artifact: dict[str, Any]) -> None:
    assert said(services={"icnd": fleets.changed("artifact", artifact)}) == []


BAD_SERVICES = [
    pytest.param("comand", ["icnd"], "fleet_services.icnd.comand: unknown key\n  → did you mean 'command'?", id="unknown-key"),
    pytest.param("ports.0.proto", "tpc", "fleet_services.icnd.ports[0].proto: 'tpc' is not one of tcp, udp\n  → did you mean 'tcp'?", id="choice"),
    pytest.param("resources.nofile", "many", "fleet_services.icnd.resources.nofile: 'many' (a text) is not a whole number", id="type"),
    pytest.param("resources.nofile", True, "fleet_services.icnd.resources.nofile: True (a truth value) is not a whole number", id="yes-is-no-number"),
    pytest.param("ports", {"p2p": 1}, "fleet_services.icnd.ports: {p2p} (a mapping) is not a list", id="mapping-for-list"),
    pytest.param("unit", "simple", "fleet_services.icnd.unit: 'simple' (a text) is not a mapping", id="text-for-mapping"),
    pytest.param(
        "version",
        1.10,
        "fleet_services.icnd.version: 1.1 is a number\n  → write it as a string: '1.1' (YAML reads 1.10 without quotes as 1.1)",
        id="number",
    ),
    pytest.param("version", "", "fleet_services.icnd.version: empty", id="empty-version"),
    pytest.param("version", "latest", "fleet_services.icnd.version: 'latest' is a moving target", id="moving-version"),
    pytest.param("version", "../../etc", "fleet_services.icnd.version: '../../etc' cannot name a directory", id="version-as-path"),
    pytest.param("artifact.sha256", {"amd64": "abc"}, "fleet_services.icnd.artifact.sha256.amd64: 'abc' is not a SHA-256", id="short-digest"),
    pytest.param(
        "artifact.sha256", {"x86_64": fleets.DIGEST}, "fleet_services.icnd.artifact.sha256.x86_64: 'x86_64' is not an architecture", id="kernel-arch"
    ),
    pytest.param(
        "artifact.sha256", None, "fleet_services.icnd.artifact.sha256: missing\n  → write, for example, sha256: {amd64: 9f86d0…", id="no-digest"
    ),
    pytest.param("artifact.file", "/a", "fleet_services.icnd.artifact: needs exactly one of url and file", id="two-origins"),
    pytest.param("artifact.url", "https://x/{verion}", "fleet_services.icnd.artifact.url: {verion} is not filled in here", id="placeholder"),
    pytest.param(
        "artifact.url",
        {"amd64": "https://x/{version}", "arm64": "https://x/{ver}"},
        "fleet_services.icnd.artifact.url.arm64: {ver} is not filled in here\n  → known: {version}, {arch}",
        id="placeholder-of-one-architecture",
    ),
    pytest.param(
        "artifact.signature",
        {"type": "minisign", "key": "RWQ", "url": "https://x/{Arch}.minisig"},
        "fleet_services.icnd.artifact.signature.url: {Arch} is not filled in here",
        id="placeholder-of-the-signature",
    ),
    pytest.param(
        "artifact.sha256",
        fleets.DIGEST,
        "fleet_services.icnd.artifact.sha256: one digest for all architectures, but url gives each a file of its own\n"
        "  → write one for each architecture of your hosts: sha256: {amd64: …, arm64: …}",
        id="one-digest-for-many-files",
    ),
    pytest.param(
        "artifact.sha256",
        {"amd64": fleets.DIGEST, "any": fleets.DIGEST},
        "fleet_services.icnd.artifact.sha256.any: one digest for all architectures, but url gives each a file of its own",
        id="one-digest-for-all-others",
    ),
    pytest.param(
        "artifact",
        {"url": {"amd64": "https://x/a", "arm64": "https://x/b"}, "sha256": fleets.DIGEST},
        "fleet_services.icnd.artifact.sha256: one digest for all architectures, but url gives each",
        id="one-digest-for-a-mapping-of-urls",
    ),
    pytest.param(
        "artifact",
        {"url": "https://x/a", "sha256": fleets.DIGEST, "signature": {"type": "ssh", "key": "k", "url": "https://x/{arch}.sig"}},
        "fleet_services.icnd.artifact.sha256: one digest for all architectures, but signature.url gives each",
        id="one-digest-for-several-signatures",
    ),
    pytest.param(
        "artifact.url",
        {"amd64": "https://x/a"},
        "fleet_services.icnd.artifact.url: nothing for arm64, which has a digest\n  → add url.arm64",
        id="digest-without-a-url",
    ),
    pytest.param("artifact.url", {"any": "ftp://x"}, "fleet_services.icnd.artifact.url.any: 'ftp://x' is not a URL", id="url-of-another-scheme"),
    pytest.param("health", {"ready": "htp://x"}, "fleet_services.icnd.health.ready: 'htp://x' is not a URL\n  → write it like http://", id="url"),
    pytest.param("health", {"ready": "127.0.0.1:80"}, "fleet_services.icnd.health.ready: '127.0.0.1:80' is not a URL", id="address-for-url"),
    pytest.param(
        "reload",
        "SIGHUP",
        "fleet_services.icnd.reload: 'SIGHUP' (a text) is not signal or command\n  → write {signal: …} or {command: …}",
        id="text-for-one-of-several-mappings",
    ),
    pytest.param("secrets", {"PIN": 1234}, "fleet_services.icnd.secrets.PIN: a secret must be one line of text", id="f60-number-for-secret"),
    pytest.param(
        "config",
        {"path": "/x", "content": "pin=1234"},
        "fleet_services.icnd.config: {path, content} (a mapping) is not a list\n  → make it an item",
        id="f60-one-for-list",
    ),
    pytest.param(
        "directories",
        [{"path": "/opt/icnd"}],
        "fleet_services.icnd.directories[0].path: /opt/icnd is for the service's releases, which only root may write\n"
        "  → keep it elsewhere, such as in /var/lib/icnd",
        id="directory-that-the-releases-need",
    ),
    pytest.param("account", {"home": "/opt/icnd/data"}, "fleet_services.icnd.account.home: /opt/icnd is for the service's releases", id="home"),
    pytest.param("capabilities", [], "fleet_services.icnd.capabilities: unknown key\n  → write it under sandbox", id="key-outside-its-place"),
    pytest.param(
        "health",
        {"ready": "http://127.0.0.1:99999/"},
        "fleet_services.icnd.health.ready: 'http://127.0.0.1:99999/' has a port that is no number from 0 to 65535",
        id="url-port",
    ),
    pytest.param(
        "health", {"deadline": "2 weeks"}, "fleet_services.icnd.health.deadline: '2 weeks' is not a duration\n  → write it like 90s", id="duration"
    ),
    pytest.param(
        "resources.memory_max", "4 gigs", "fleet_services.icnd.resources.memory_max: '4 gigs' is not a size\n  → write it like 512M", id="size"
    ),
    pytest.param(
        "backup",
        {"files": ["/x/y"], "recipients": "age1short"},
        "fleet_services.icnd.backup.recipients: 'age1short' (a text) is not an age recipient",
        id="recipient",
    ),
    pytest.param(
        "ports.1.from",
        "group:monitorin",
        "fleet_services.icnd.ports[1].from: no inventory group is called 'monitorin'\n  → did you mean 'monitoring'?",
        id="unknown-group",
    ),
    pytest.param("ports.1.from", "group:empty", "fleet_services.icnd.ports[1].from: group 'empty' has no hosts", id="group-without-hosts"),
    pytest.param("ports.1.from", "10.0.0.0/33", "fleet_services.icnd.ports[1].from: '10.0.0.0/33' is not a source\n  → write any, none", id="cidr"),
    pytest.param(
        "ports.1.from", ["any", "192.0.2.1"], "fleet_services.icnd.ports[1].from: 'any' cannot stand beside other sources", id="any-and-more"
    ),
    pytest.param("ports.1.port", 70000, "fleet_services.icnd.ports[1].port: 70000 is out of range", id="port-range"),
    pytest.param(
        "config.0.content", None, "fleet_services.icnd.config[0]: needs exactly one of content, template and file, has none", id="no-content"
    ),
    pytest.param(
        "config.0.validate", ["icnd", "--check"], "fleet_services.icnd.config[0].validate: does not say where the candidate goes", id="validator"
    ),
    pytest.param("config.0.path", "etc/icn.toml", "fleet_services.icnd.config[0].path: 'etc/icn.toml' is not an absolute path", id="relative-path"),
    pytest.param(
        "binaries",
        ["icnctl"],
        "fleet_services.icnd.command[0]: 'icnd' is not one of the binaries\n"
        "  → did you mean 'icnctl'?; a program of the host's is named by its path, such as /usr/bin/icnd",
        id="command-not-installed",
    ),
    pytest.param(
        "command",
        ["bin/icnd"],
        "fleet_services.icnd.command[0]: 'bin/icnd' is not one of the binaries\n"
        "  → one of the release's is named without a path: icnd; a program of the host's is named by its path, such as /usr/bin/icnd",
        id="path-in-the-archive",
    ),
    pytest.param(
        "reload", {"command": ["curl", "x"]}, "fleet_services.icnd.reload.command[0]: 'curl' is not one of the binaries", id="reload-not-installed"
    ),
    pytest.param(
        "bootstrap",
        [{"command": ["openssl"], "creates": "/var/lib/icnd/key"}],
        "fleet_services.icnd.bootstrap[0].command[0]: 'openssl' is not one of the binaries",
        id="bootstrap-not-installed",
    ),
    pytest.param(
        "backup",
        {"more": {"dump": {"command": ["pg_dump", "{output}"]}}},
        "fleet_services.icnd.backup.more.dump.command[0]: 'pg_dump' is not one of the binaries",
        id="backup-not-installed",
    ),
    pytest.param(
        "command",
        ["icnd", "--data", "/opt/icnd/releases/{version}/data"],
        "fleet_services.icnd.command[2]: {version} is not filled in here\n  → write /opt/icnd/current for the directory of the release that runs",
        id="version-in-a-command",
    ),
    pytest.param("command", ["icnd", "{arch}"], "fleet_services.icnd.command[1]: {arch} is not filled in here", id="arch-in-a-command"),
    pytest.param(
        "command",
        ["icnd", "{secret:TOKEN}"],
        "fleet_services.icnd.command[1]: {secret:TOKEN} is not filled in here\n  → the program finds secrets in its environment",
        id="secret-in-a-command",
    ),
    pytest.param(
        "command",
        ["icnd", "--tls", "$CREDENTIALS_DIRECTORY/key"],
        "fleet_services.icnd.command[2]: $CREDENTIALS_DIRECTORY is not filled in here, as there is no shell\n  → write /run/credentials/icnd.service",
        id="credentials-in-a-command",
    ),
    pytest.param(
        "reload",
        {"command": ["/bin/kill", "-HUP", "$MAINPID"]},
        "fleet_services.icnd.reload.command[2]: $MAINPID is not filled in here, as there is no shell\n  → write reload: {signal: SIGHUP}",
        id="main-pid-in-a-command",
    ),
    pytest.param(
        "command", ["icnd", "|", "/usr/bin/logger"], "fleet_services.icnd.command[1]: '|' is for a shell, and there is none", id="pipe-in-a-command"
    ),
    pytest.param(
        "environment",
        {"PATH": "/opt/icnd/current/bin:$PATH"},
        "fleet_services.icnd.environment.PATH: $PATH is not filled in here, as there is no shell",
        id="path-in-the-environment",
    ),
    pytest.param(
        "directories",
        [{"path": "/var/log"}],
        "fleet_services.icnd.directories[0].path: /var/log is the system's, and would be given to the service\n"
        "  → name one of its own, such as /var/log/icnd",
        id="directory-of-the-system",
    ),
    pytest.param("account", {"home": "/var/lib"}, "fleet_services.icnd.account.home: /var/lib is the system's", id="home-of-the-system"),
    pytest.param("directories", [{"path": "/var/run/x"}], "fleet_services.icnd.directories[0].path: /var/run/x is in /run", id="old-name-of-run"),
    pytest.param(
        "config.0.path", "/run/x/x.toml", "fleet_services.icnd.config[0].path: /run/x/x.toml is gone after the next boot", id="config-in-run"
    ),
    pytest.param(
        "directories", [{"path": "/srv/x/"}], "fleet_services.icnd.directories[0].path: '/srv/x/' is not an absolute path", id="slash-at-the-end"
    ),
    pytest.param("config.0.path", "/etc//x.toml", "fleet_services.icnd.config[0].path: '/etc//x.toml' is not an absolute path", id="double-slash"),
    pytest.param(
        "config.0.mode",
        0o640,
        "fleet_services.icnd.config[0].mode: 416 (a number) is not a file mode\n  → YAML changes what has no quotes: write '0640'",
        id="mode-without-quotes",
    ),
    pytest.param("config.0.mode", 640, "fleet_services.icnd.config[0].mode: 640 (a number) is not a file mode", id="mode-as-a-number"),
    pytest.param("sandbox.umask", 0o27, "fleet_services.icnd.sandbox.umask: 23 (a number) is not a file mode", id="umask-without-quotes"),
    pytest.param("reload", {"command": []}, "fleet_services.icnd.reload.command: empty\n  → write a list of", id="empty-reload"),
    pytest.param("bootstrap", [{"command": [], "creates": "/x/y"}], "fleet_services.icnd.bootstrap[0].command: empty", id="empty-bootstrap"),
    pytest.param("health", {"ready": {"command": []}}, "fleet_services.icnd.health.ready.command: empty", id="empty-probe"),
    pytest.param("health", {"ready": "tcp://127.0.0.1:99999"}, "fleet_services.icnd.health.ready: 'tcp://127.0.0.1:99999' has a port", id="tcp-port"),
    pytest.param(
        "artifact",
        {**JAR, "name": "icnd.jar"},
        "fleet_services.icnd.artifact.name: is for a file that is no program by itself, and icnd would be the program in it\n"
        "  → leave it out, or write a command such as [/usr/bin/java, -jar, /opt/icnd/current/icnd.jar], and no binaries",
        id="program-as-a-file",
    ),
    pytest.param("artifact.name", "../x", "fleet_services.icnd.artifact.name: '../x' cannot name a file of the release", id="name-as-a-path"),
    pytest.param("artifact.url", {}, "fleet_services.icnd.artifact.url: empty", id="no-url"),
    pytest.param("version_pattern", "v((", "fleet_services.icnd.version_pattern: 'v((' is no regular expression", id="pattern"),
    pytest.param(
        "binaries",
        ["icnd", "bin/icnctl"],
        "fleet_services.icnd.binaries: 'bin/icnctl' cannot be the name of a link in /usr/local/bin\n"
        "  → name the link, and where the binary is in the archive: binaries: {icnctl: bin/icnctl}",
        id="path-as-a-link",
    ),
    pytest.param(
        "sandbox.capabilities",
        ["CAP_NET_ADMN"],
        "fleet_services.icnd.sandbox.capabilities[0]: 'CAP_NET_ADMN' (a text) is not a capability\n  → did you mean CAP_NET_ADMIN?",
        id="capability",
    ),
    pytest.param(
        "sandbox.syscalls",
        ["~@resource"],
        "fleet_services.icnd.sandbox.syscalls[0]: '~@resource' is not a system call group that systemd knows\n  → did you mean '~@resources'?",
        id="system-call-group",
    ),
    pytest.param(
        "sandbox.syscalls",
        ["clock"],
        "fleet_services.icnd.sandbox.syscalls[0]: 'clock' is not a system call that systemd knows\n  → did you mean '@clock'?",
        id="group-without-its-at",
    ),
    pytest.param(
        "sandbox.syscalls",
        ["sched_setschedular:EPERM"],
        "fleet_services.icnd.sandbox.syscalls[0]: 'sched_setschedular:EPERM' is not a system call that systemd knows\n"
        "  → did you mean 'sched_setscheduler'?",
        id="system-call",
    ),
    pytest.param(
        "sandbox.syscalls",
        ["@clock @module"],
        "fleet_services.icnd.sandbox.syscalls[0]: '@clock @module' (a text) is not a system call\n  → write one call or group",
        id="two-in-one",
    ),
    pytest.param(
        "sandbox.devices",
        ["ttyACM0 rw"],
        "fleet_services.icnd.sandbox.devices[0]: 'ttyACM0 rw' (a text) is not a device\n  → did you mean '/dev/ttyACM0 rw'?",
        id="device-without-its-directory",
    ),
    pytest.param("sandbox.devices", ["/dev/tty* rw"], "fleet_services.icnd.sandbox.devices[0]: '/dev/tty* rw' (a text) is not a device", id="glob"),
    pytest.param(
        "sandbox.devices",
        ["/dev/kvm rx"],
        "fleet_services.icnd.sandbox.devices[0]: 'rx' is not an access to a device\n  → write some of r, w and m behind it, such as '/dev/kvm rw'",
        id="access-to-a-device",
    ),
    pytest.param(
        "sandbox.address_families",
        ["AF_NETLNIK"],
        "fleet_services.icnd.sandbox.address_families[0]: 'AF_NETLNIK' (a text) is not an address family\n  → did you mean AF_NETLINK?",
        id="address-family",
    ),
    pytest.param(
        "reload",
        {"signal": "SIGQIUT"},
        "fleet_services.icnd.reload.signal: 'SIGQIUT' (a text) is not a signal\n  → did you mean SIGQUIT?",
        id="signal",
    ),
    pytest.param(
        "unit.kill_signal",
        "SIGRTMIN+31",
        "fleet_services.icnd.unit.kill_signal: 'SIGRTMIN+31' (a text) is not a signal\n  → did you mean SIGRTMIN+3",
        id="real-time-signal",
    ),
    pytest.param(
        "unit.kill_mode",
        "none",
        "fleet_services.icnd.unit.kill_mode: 'none' leaves the daemon running when it is stopped, beside the next one\n  → write process",
        id="kill-nobody",
    ),
    pytest.param("unit.kill_mode", "mix", "fleet_services.icnd.unit.kill_mode: 'mix' is not one of control-group, mixed, process", id="kill-mode"),
    pytest.param("unit.delegate", ["cpus"], "fleet_services.icnd.unit.delegate[0]: 'cpus' is not one of cpu, cpuset, io", id="controller"),
    pytest.param(
        "unit.stop_timeout",
        "infinity",
        "fleet_services.icnd.unit.stop_timeout: infinity is no limit to systemd, and a rollout or a restore needs one\n"
        "  → write the longest that it may take, such as 30m",
        id="endless-stop",
    ),
    pytest.param("unit.start_timeout", 0, "fleet_services.icnd.unit.start_timeout: 0 is no limit to systemd, and a", id="endless-start"),
    pytest.param("unit.start_timeout", "long", "fleet_services.icnd.unit.start_timeout: 'long' is not a duration", id="timeout"),
    pytest.param(
        "unit.start_limit",
        {"interval": "infinity"},
        "fleet_services.icnd.unit.start_limit.interval: 'infinity' would count all starts since the boot, rollouts' too\n  → write 0 if",
        id="endless-interval",
    ),
    pytest.param("unit.restart", False, "fleet_services.icnd.unit.restart: False is not one of", id="no-without-quotes"),
    pytest.param("unit.watchdog", "30s", "fleet_services.icnd.unit.watchdog: a unit of type exec reports nothing to a watchdog", id="watchdog"),
    pytest.param(
        "backup",
        {"databases": [{"path": "/srv/x.db"}]},
        "fleet_services.icnd.backup.databases[0].path: /srv/x.db is outside",
        id="database-elsewhere",
    ),
    pytest.param(
        "unit.type",
        "dbus",
        "fleet_services.icnd.unit.type: 'dbus' needs a name on the bus, which cannot be said here\n  → write exec",
        id="dbus",
    ),
    pytest.param("unit.pid_file", "/run/x.pid", "fleet_services.icnd.unit.pid_file: a unit of type exec has no use for it", id="pid-file"),
    pytest.param("unit.type", "oneshot", "fleet_services.icnd.unit.type: 'oneshot' is of jobs that end, and a service stays up", id="oneshot"),
    pytest.param("unit.type", "notfy", "fleet_services.icnd.unit.type: 'notfy' is not one of simple, exec, notify, forking", id="unit-type"),
    pytest.param(
        "unit.after",
        ["icn"],
        "fleet_services.icnd.unit.after[0]: 'icn' is not in fleet_services\n"
        "  → did you mean 'icnd'?; a unit that is no service of this fleet has a suffix: icn.service",
        id="after-nobody",
    ),
    pytest.param(
        "account",
        {"home": "/home/icn"},
        "fleet_services.icnd.account.home: /home/icn is in /home, which the sandbox hides from the daemon\n  → write sandbox.home: read-only",
        id="home-hidden",
    ),
    pytest.param(
        "directories", [{"path": "/var/x"}, {"path": "/root"}], "fleet_services.icnd.directories[1].path: /root is in /root,", id="root-hidden"
    ),
    pytest.param(
        "config.0.path", "/run/user/7/x.toml", "fleet_services.icnd.config[0].path: /run/user/7/x.toml is in /run/user,", id="config-hidden"
    ),
    pytest.param(
        "directories",
        [{"path": "/tmp/icn"}],
        "fleet_services.icnd.directories[0].path: /tmp/icn is in /tmp, which the sandbox hides from the daemon\n  → write sandbox.private_tmp: false",
        id="temporary-hidden",
    ),
    pytest.param("unit.working_directory", "/home", "fleet_services.icnd.unit.working_directory: /home is in /home,", id="working-directory-hidden"),
    pytest.param("command.0", "/home/icn/bin/icnd", "fleet_services.icnd.command[0]: /home/icn/bin/icnd is in /home,", id="command-hidden"),
    pytest.param("sandbox.read_write", ["/root/x"], "fleet_services.icnd.sandbox.read_write[0]: /root/x is in /root,", id="relaxation-hidden"),
    pytest.param("environment", {"LEVEL": False}, "fleet_services.icnd.environment.LEVEL: False (a truth value) may not be what was", id="off"),
    pytest.param("environment", {"RATIO": 1.10}, "fleet_services.icnd.environment.RATIO: 1.1 (a number) may not be what was written", id="fraction"),
    pytest.param("environment", {"PEERS": ["a"]}, "fleet_services.icnd.environment.PEERS: ['a'] (a list) is not a text", id="list-in-environment"),
    pytest.param(
        "directories", [{"path": "/srv/x"}, {"path": "/srv/x"}], "fleet_services.icnd.directories[1].path: '/srv/x' stands there", id="twice"
    ),
    pytest.param(
        "account",
        {"groups": ["dialout", "docker"]},
        "fleet_services.icnd.account.groups[1]: whoever is in group 'docker' can become root\n  → name what the daemon needs instead",
        id="f58-group-of-root",
    ),
    pytest.param("account", {"group": "shadow"}, "fleet_services.icnd.account.group: whoever is in group 'shadow' can become root", id="own-group"),
    pytest.param(
        "unit.supplementary_groups", ["sudo"], "fleet_services.icnd.unit.supplementary_groups[0]: whoever is in group 'sudo' can", id="unit-group"
    ),
    pytest.param("account", {"user": "docker"}, "fleet_services.icnd.account.user: its group would be 'docker', whose members", id="user-of-root"),
    pytest.param("account", {"user": "root"}, "fleet_services.icnd.account.user: daemons do not run as root", id="root"),
    pytest.param("account", {"user": "Icn User"}, "fleet_services.icnd.account.user: 'Icn User' cannot name an account", id="account"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD_SERVICES)
def test_a_mistake_in_a_service_is_said_with_its_path(path: str, value: Any, message: str) -> None:
    errors = said(services={"icnd": fleets.changed(path, value)})
    assert any(error.startswith(message) for error in errors), errors
    assert len(errors) == 1, "one mistake, said once, however many hosts have it"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        pytest.param(
            {"placement": {"icn": ["icn"]}}, "fleet_placement.icn[0]: 'icn' is not in fleet_services\n  → did you mean 'icnd'?", id="unknown-service"
        ),
        pytest.param(
            {"placement": {"icm": ["icnd"]}},
            "fleet_placement.icm: no inventory group or host has this name\n  → did you mean 'icn'?",
            id="unknown-group",
        ),
        pytest.param(
            {"placement": {"icn": ["like:tier1"], "tier1": ["like:icn"]}}, "fleet_placement.icn: circular placement: icn → tier1 → icn", id="circular"
        ),
        pytest.param({"placement": {"icn": ["like:nobody"]}}, "fleet_placement.icn[0]: fleet_placement has no entry 'nobody'", id="like-nobody"),
        pytest.param({"placement": {"icn": {"a": 1}}}, "fleet_placement.icn: {a} (a mapping)", id="placement-type"),
        pytest.param(
            {"overrides": {"home": {}}},
            "fleet_overrides.home: no inventory group or host has this name\n  → did you mean 'home1'?",
            id="override-nobody",
        ),
        pytest.param(
            {"overrides": {"home1": {"icnd": {"ports": [{"name": "p2p", "prot": "tcp"}]}}}},
            "fleet_overrides.home1.icnd.ports[0].prot: unknown key\n  → did you mean 'proto'?",
            id="override-path",
        ),
        pytest.param(
            {"overrides": {"icn": {"icn": {}}}},
            "fleet_overrides.icn.icn: 'icn' is not in fleet_services\n  → did you mean 'icnd'?",
            id="override-of-nothing",
        ),
        pytest.param(
            {"overrides": {"monitoring": {"icnd": {"port": 1}}}},
            "fleet_overrides.monitoring.icnd.port: unknown key\n  → did you mean 'ports'?",
            id="override-where-it-does-not-run",
        ),
        pytest.param(
            {"overrides": {"home1": {"icnd": None}}},
            "fleet_overrides.home1.icnd: empty\n"
            "  → write what is different there, such as resources: {memory_max: 1G}, or leave the key out; where a service runs,",
            id="override-of-nothing-in-it",
        ),
        pytest.param(
            {"overrides": {"monitoring": {"icnd": ["x"]}}},
            "fleet_overrides.monitoring.icnd: ['x'] (a list) is not a mapping\n  → write what is different there",
            id="override-that-is-no-mapping",
        ),
        pytest.param(
            {"overrides": {"home1": None}},
            "fleet_overrides.home1: empty\n  → write a mapping of service to part of its description; or leave the key out",
            id="empty-layer",
        ),
        pytest.param(
            {"services": {"icnd": None}}, "fleet_services.icnd: empty\n  → write a mapping with keys out of: description", id="empty-service"
        ),
        pytest.param({"tiers": {"tier1": {}, "icn": {}}}, "fleet_tiers: several tiers hold host relay1: tier1, icn", id="two-tiers"),
        pytest.param(
            {"tiers": {"tier1": {"requires": {"cpu": 4}}}}, "fleet_tiers.tier1.requires.cpu: unknown key\n  → did you mean 'cpus'?", id="tier-key"
        ),
        pytest.param(
            {"addresses": {"relay1": ["192.0.2.1"], "home1": ["192.0.2.2"], "ops1": []}},
            "fleet_services.icnd.ports[1].from: host ops1 has no known address\n  → set fleet_addresses",
            id="no-address",
        ),
    ],
)
def test_a_mistake_around_the_services_is_said_with_its_path(parts: dict[str, Any], message: str) -> None:
    errors = said(**parts)
    assert any(error.startswith(message) for error in errors), errors
    assert len({error.partition(": ")[0] for error in errors}) == len(errors), "nothing is said twice of one place"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("8080", "'8080' cannot name a service", id="digits-cannot-name-an-account"),
        pytest.param(8080, "8080 cannot name a service", id="number"),
        pytest.param("../etc", "'../etc' cannot name a service", id="path"),
        pytest.param("Nats", "'Nats' cannot name a service", id="capitals"),
        pytest.param("ssh", "ssh.service is a unit of the host's own, which it would replace", id="way-in"),
        pytest.param("systemd-networkd", "systemd-networkd.service is a unit of the host's own", id="systemd"),
        pytest.param("hearth-resume", "hearth-resume.service is a unit of the host's own", id="of-this-collection"),
    ],
)
def test_a_name_that_no_service_can_have(name: Any, problem: str) -> None:
    errors = said(services={"icnd": fleets.ICND, name: fleets.ICND}, placement={"icn": ["icnd"]})
    assert len(errors) == 1
    assert problem in errors[0]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        pytest.param(
            {"ports": [{"name": "x", "port": 7777, "proto": ["tcp", "udp"]}]},
            "port 7777/udp is taken on host home1 by icnd (fleet_services.icnd.ports[0].port)",
            id="port",
        ),
        pytest.param({"ports": [{"name": "x", "port": "7000-8000", "proto": "udp"}]}, "port 7777/udp is taken on host home1 by icnd", id="range"),
        pytest.param({"account": {"user": "icnd"}}, "account 'icnd' is taken on host home1 by icnd (fleet_services.icnd.account.user)", id="account"),
        pytest.param(
            {"config": [{"path": "/etc/icn/config.toml", "content": {}}]}, "path /etc/icn/config.toml is taken on host home1 by icnd", id="config"
        ),
        pytest.param({"directories": [{"path": "/var/lib/icnd"}]}, "path /var/lib/icnd is taken on host home1 by icnd", id="directory"),
        pytest.param({"binaries": ["other", "icnd"]}, "binary /usr/local/bin/icnd is taken on host home1 by icnd", id="binary"),
        pytest.param({"command": ["icnd"]}, "names its link otherwise: binaries: {other: icnd}, command: [other, …]", id="instance-of-one-daemon"),
    ],
)
def test_f58_two_services_want_the_same(second: dict[str, Any], message: str) -> None:
    other = {"version": "1", "artifact": fleets.ICND["artifact"], "command": ["other"], **second}
    errors = said(services={"icnd": fleets.ICND, "other": other}, placement={"icn": ["icnd"], "home1": ["other"]})
    assert len(errors) == 1
    assert message in errors[0]
    assert errors[0].startswith("fleet_services.other.")


def test_f58_two_services_on_one_host_that_want_different_things() -> None:
    other = {"version": "1", "artifact": fleets.ICND["artifact"], "command": ["other"], "ports": [{"name": "x", "port": 7777, "proto": "tcp"}]}
    joined, mistakes = fleets.join(fleets.fleet(services={"icnd": fleets.ICND, "other": other}, placement={"icn": ["icnd"], "home1": ["other"]}))
    assert mistakes == []
    assert list(joined["home1"]["services"]) == ["icnd", "other"]


def test_an_account_is_shared_on_purpose() -> None:
    shared = {"account": {"user": "icn", "shared": True}}
    services = {"icnd": {**fleets.ICND, **shared}, "other": {"version": "1", "artifact": fleets.ICND["artifact"], "command": ["other"], **shared}}
    assert said(services=services, placement={"icn": ["icnd", "other"]}) == []


@pytest.mark.parametrize(
    ("one", "other", "errors"),
    [
        pytest.param({"uid": 900}, {"uid": 901}, [], id="two-accounts"),
        pytest.param({"uid": 900}, {"gid": 900}, [], id="a-user-and-a-group"),
        pytest.param(
            {"uid": 900},
            {"uid": 900},
            [
                "b.account.uid: 900 is taken on hosts home1, relay1 by account 'a' (fleet_services.a.account.uid)\n"
                "  → write another number, or leave it out and let the host choose"
            ],
            id="one-uid",
        ),
        pytest.param({"gid": 900}, {"gid": 900}, ["b.account.gid: 900 is taken on hosts home1, relay1 by group 'a'"], id="one-gid"),
        pytest.param({"group": "g", "gid": 900}, {"group": "g", "gid": 900}, [], id="one-group"),
        pytest.param(
            {"group": "g", "gid": 900},
            {"group": "g", "gid": 901},
            ["b.account.gid: is 901, but group 'g', which both have on hosts home1, relay1, has 900 (fleet_services.a.account.gid)"],
            id="one-group-with-two-numbers",
        ),
        pytest.param(
            {"user": "x", "shared": True, "uid": 900, "home": "/srv/a", "groups": ["dialout"]},
            {"user": "x", "shared": True, "uid": 901, "home": "/srv/b", "groups": ["video"]},
            [
                "b.account.groups: is ['video'], but account 'x', which both have on hosts home1, relay1, has ['dialout']",
                "b.account.home: is /srv/b, but account 'x', which both have on hosts home1, relay1, has /srv/a",
                "b.account.uid: is 901, but account 'x', which both have on hosts home1, relay1, has 900 (fleet_services.a.account.uid)\n"
                "  → write the same for both, or give one of the two an account of its own",
            ],
            id="one-account-told-of-twice",
        ),
        pytest.param({"user": "x", "shared": True, "uid": 900}, {"user": "x", "shared": True, "groups": ["video"]}, [], id="one-account-in-parts"),
        pytest.param({"user": "x", "uid": 900}, {"user": "x", "uid": 901}, ["b.account.user: account 'x' is taken on"], id="not-shared-at-all"),
    ],
)
def test_f58_what_services_say_of_accounts_fits_together(one: dict[str, Any], other: dict[str, Any], errors: list[str]) -> None:
    services = {"a": {**simple("a"), "account": one}, "b": {**simple("b"), "account": other}}
    found = said(services=services, placement={"icn": ["a", "b"]})
    assert len(found) == len(errors), found
    for error, start in zip(found, errors, strict=True):
        assert error.startswith(f"fleet_services.{start}")


def simple(command: str, **unit: Any) -> dict[str, Any]:
    return {"version": "1", "artifact": fleets.ICND["artifact"], "command": [command], "unit": unit}


@pytest.mark.parametrize("other", ["b", "b.service"])
def test_a_circular_start_order_is_a_mistake(other: str) -> None:
    errors = said(services={"a": simple("a", after=[other]), "b": simple("b", requires=["a"])}, placement={"home1": ["a", "b"]})
    assert errors == ["fleet_services.a.unit.after: circular start order on host home1: a → b → a\n  → take one of them out"]


@pytest.mark.parametrize(
    ("unit", "placement", "errors"),
    [
        pytest.param({"requires": ["other"], "on_failure": ["other"]}, {"home1": ["one", "other"]}, [], id="on-the-same-host"),
        pytest.param({"after": ["other"], "wants": ["other", "redis-server.service", "x.socket"]}, {"home1": ["one"]}, [], id="may-be-elsewhere"),
        pytest.param(
            {"requires": ["other"]},
            {"home1": ["one"], "relay1": ["other"]},
            [
                "fleet_services.one.unit.requires[0]: service 'other' is not placed on host home1\n"
                "  → place it there too, or write wants and after, which do without it"
            ],
            id="elsewhere",
        ),
    ],
)
def test_services_depend_on_services_of_their_host(unit: dict[str, Any], placement: dict[str, Any], errors: list[str]) -> None:
    services = {"one": simple("one", **unit), "other": simple("other")}
    assert said(services=services, placement=placement) == errors


def test_services_are_named_and_become_units() -> None:
    services = {"icnd": fleets.changed("unit", {"requires": ["redis"], "after": ["docker.socket"]}), "redis": simple("redis")}
    unit = spec(services=services, placement={"icn": ["icnd", "redis"]})["unit"]
    assert (unit["requires"], unit["after"]) == (["redis.service"], ["docker.socket"])


def test_a_dependency_in_an_override_is_reported_there() -> None:
    errors = said(overrides={"relay1": {"icnd": {"unit": {"wants": ["nobody"]}}}})
    assert [error.partition(":")[0] for error in errors] == ["fleet_overrides.relay1.icnd.unit.wants[0]"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(
            {"home1": {"icnd": {"artifact": {"file": "/a"}}}},
            "fleet_services.icnd.artifact: needs exactly one of url and file (with fleet_overrides.home1.icnd.artifact.file)",
            id="part-of-it",
        ),
        pytest.param({"icn": {"icnd": {"version": None}}}, "fleet_overrides.icn.icnd.version: missing", id="taken-away"),
        pytest.param(
            {"icn": {"icnd": {"resources": {"nofile": "x"}}}, "relay1": {"icnd": {"resources": None}}, "home1": {"icnd": {"resources": 5}}},
            "fleet_overrides.home1.icnd.resources: 5 (a number) is not a mapping",
            id="replaced",
        ),
        pytest.param(
            {
                "tier1": {"icnd": {"ports": [{"name": "api", "port": 1}]}},
                "relay1": {"icnd": {"ports": [{"name": "api", "port": 7777, "proto": "udp"}]}},
            },
            "fleet_overrides.relay1.icnd.ports[0].port: port 7777/udp is taken on host relay1 by icnd (fleet_services.icnd.ports[0].port)",
            id="clash",
        ),
        pytest.param(
            {"relay1": {"icnd": {"unit": {"after": ["icnd"]}}}}, "fleet_overrides.relay1.icnd.unit.after: circular start order", id="start-order"
        ),
    ],
)
def test_a_mistake_of_an_override_is_said_where_it_was_written(overrides: dict[str, Any], message: str) -> None:
    [error] = said(overrides=overrides)
    assert error.startswith(message)


def test_f58_a_clash_of_many_hosts_is_said_once() -> None:
    other = {"version": "1", "artifact": {"url": "https://x/a", "sha256": fleets.DIGEST}, "command": ["other"], "account": {"user": "icnd"}}
    assert said(services={"icnd": fleets.ICND, "other": other}, placement={"icn": ["icnd", "other"]}) == [
        "fleet_services.other.account.user: account 'icnd' is taken on hosts home1, relay1 by icnd (fleet_services.icnd.account.user)\n"
        "  → give one of the two another, or place them on different hosts"
    ]


def test_both_places_of_a_clash_are_said_as_they_were_written() -> None:
    other = {"version": "1", "artifact": {"url": "https://x/a", "sha256": fleets.DIGEST}, "command": ["other"]}
    [error] = said(
        services={"icnd": fleets.ICND, "other": other},
        placement={"home1": ["icnd", "other"]},
        overrides={
            "home1": {"icnd": {"ports": [{"name": "p2p", "port": 1}]}},
            "tier2": {"other": {"ports": [{"name": "x", "port": 1, "proto": "udp"}]}},
        },
    )
    assert error.startswith(
        "fleet_overrides.tier2.other.ports[0].port: port 1/udp is taken on host home1 by icnd (fleet_overrides.home1.icnd.ports[0]."
    )


def test_a_temporary_directory_that_is_not_hidden_may_be_used() -> None:
    described = {**fleets.ICND, "directories": [{"path": "/var/tmp/icn"}], "sandbox": {"private_tmp": False}}
    assert said(services={"icnd": described}) == []


def test_a_group_that_gives_root_away_may_be_accepted() -> None:
    described = fleets.changed("unit", {"supplementary_groups": ["docker"]}, fleets.changed("sandbox", {"root_groups": True}))
    assert said(services={"icnd": described}) == []


def test_a_home_that_is_not_hidden_may_be_used() -> None:
    relaxed = fleets.changed("account", {"home": "/home/icn"}, fleets.changed("sandbox", {"home": "read-only"}))
    assert said(services={"icnd": relaxed}) == []
    assert said(services={"icnd": fleets.changed("account", {"home": "/homes/icn"})}) == []


def test_whole_numbers_are_environment_too() -> None:
    assert spec(services={"icnd": fleets.changed("environment", {"RUST_BACKTRACE": 1, "DEBUG": "true", "EMPTY": ""})})["environment"] == {
        "RUST_BACKTRACE": "1",
        "DEBUG": "true",
        "EMPTY": "",
    }


SECRETS = {"TOKEN": "hunter2", "jwt": {"value": "hunter3\n", "as": "credential"}, "ADMIN": {"value": "hunter4", "as": "request"}}


def with_headers(headers: Any, secrets: Any) -> dict[str, Any]:
    service = fleets.changed("health", {"ready": {"url": "http://127.0.0.1/", "headers": headers}})
    return fleets.changed("secrets", secrets, service)


def test_headers_say_where_the_host_finds_their_secrets() -> None:
    headers = {"Authorization": "Bearer {secret:TOKEN}", "X-Keys": "{secret:jwt} {secret:ADMIN}", "Accept": "text/plain"}
    ready = spec(services={"icnd": with_headers(headers, SECRETS)})["health"]["ready"]
    assert ready["headers"] == headers
    assert ready["secret_files"] == {
        "ADMIN": {"path": "/etc/icnd/credentials/ADMIN", "as": "request"},
        "TOKEN": {"path": "/etc/icnd/icnd.env", "as": "environment", "service": "icnd"},
        "jwt": {"path": "/etc/icnd/credentials/jwt", "as": "credential", "service": "icnd"},
    }


LITERAL = "would show a secret in verbose output (its value is not shown here)\n  → keep it under secrets, and write {secret:NAME} in its place"


@pytest.mark.parametrize(
    ("headers", "secrets", "message"),
    [
        pytest.param({"Authorization": "Bearer hunter9"}, SECRETS, f".Authorization: {LITERAL}", id="literal-authorization"),
        pytest.param({"cookie": "hunter9"}, SECRETS, f".cookie: {LITERAL}", id="literal-cookie"),
        pytest.param({"X-Api-Key": 9}, SECRETS, f".X-Api-Key: {LITERAL}", id="literal-key"),
        pytest.param({"X-Vault-Token": "{secrets:TOKEN}"}, SECRETS, f".X-Vault-Token: {LITERAL}", id="reference-misspelt"),
        pytest.param({"X-A": "{secret:TOKN}"}, SECRETS, ".X-A: there is no secret 'TOKN'\n  → did you mean 'TOKEN'?", id="unknown-secret"),
        pytest.param(
            {"X-A": "{secret:TOKEN}"},
            {},
            ".X-A: there is no secret 'TOKEN'\n  → write it under fleet_services.icnd.secrets, with as: request",
            id="no-secrets",
        ),
        pytest.param(
            {"X-A": "{secret:pem}"},
            {"pem": {"value": "hunter\nhunter", "as": "credential"}},
            ".X-A: secret 'pem' has several lines, which no header can carry",
            id="several-lines",
        ),
        pytest.param({"X-A": ["hunter9"]}, SECRETS, ".X-A: a header must be one line of text (its value is not shown)", id="list"),
        pytest.param({"X-A": "hunter9\nX: 1"}, SECRETS, ".X-A: a header must be one line of text (its value is not shown)", id="two-lines"),
        pytest.param("Cookie: hunter9", SECRETS, ": this (its value is not shown) is not a mapping", id="text"),
        pytest.param({"X A": "1"}, SECRETS, "['X A']: 'X A' is not a header", id="name"),
    ],
)
def test_f60_headers_keep_their_secrets(headers: Any, secrets: Any, message: str) -> None:
    errors = said(services={"icnd": with_headers(headers, secrets)})
    assert len(errors) == 1
    assert errors[0].startswith(f"fleet_services.icnd.health.ready.headers{message}"), errors[0]
    assert "hunter" not in errors[0]


def test_f60_headers_of_draining_are_checked_too() -> None:
    request = {"url": "http://127.0.0.1/drain", "headers": {"Authorization": "Bearer hunter9"}}
    errors = said(services={"icnd": fleets.changed("drain", {"request": request, "resume": request})})
    assert [error.partition(":")[0] for error in errors] == [
        f"fleet_services.icnd.drain.{key}.headers.Authorization" for key in ("request", "resume")
    ]


def test_all_mistakes_are_said_at_once() -> None:
    spoilt = fleets.changed("ports.0.proto", "tpc", fleets.changed("version", 1.1, fleets.changed("helth", {})))
    assert [error.split(":")[0] for error in said(services={"icnd": spoilt}, overrides={"nobody": {}})] == [
        "fleet_overrides.nobody",
        "fleet_services.icnd.helth",
        "fleet_services.icnd.ports[0].proto",
        "fleet_services.icnd.version",
    ]


def test_f60_a_secret_is_never_in_an_error() -> None:
    errors = said(
        services={"icnd": fleets.changed("secrets", {"TOKEN": ["hunter2", "hunter3"], "OTHER": {"value": "hunter4\nhunter5", "as": "env"}})}
    )
    assert len(errors) == 2
    assert "hunter" not in "".join(errors)


LONG_SECRETS = {"PASSWORD": "hunter2-hunter3", "cert": {"value": "hunter4-hunter5", "as": "credential"}, "SHORT": "icnd"}


@pytest.mark.parametrize(
    ("path", "command", "where"),
    [
        pytest.param("health", {"ready": {"command": ["icnctl", "-a", "hunter2-hunter3", "ping"]}}, "health.ready.command[2]", id="ready"),
        pytest.param("health", {"live": {"command": ["icnctl", "--url=icn://x:hunter2-hunter3@/"]}}, "health.live.command[1]", id="within-a-word"),
        pytest.param("drain", {"request": {"command": ["icnctl", "hunter4-hunter5"]}}, "drain.request.command[1]", id="drain-and-a-credential"),
        pytest.param("command", ["icnd", "--password", "hunter2-hunter3"], "command[2]", id="the-daemon-itself"),
        pytest.param("bootstrap", [{"command": ["icnd", "hunter2-hunter3"], "creates": "/x/y"}], "bootstrap[0].command[1]", id="bootstrap"),
        pytest.param("config.0.validate", ["icnd", "{path}", "hunter2-hunter3"], "config[0].validate[2]", id="validator"),
        pytest.param(
            "backup",
            {"files": ["/var/lib/icnd/x"], "drill": {"ready": {"command": ["icnctl", "hunter2-hunter3"]}}},
            "backup.drill.ready.command[1]",
            id="drill",
        ),
    ],
)
def test_f60_a_secret_is_no_argument(path: str, command: Any, where: str) -> None:
    errors = said(services={"icnd": fleets.changed(path, command, fleets.changed("secrets", LONG_SECRETS))})
    assert [error.partition(": ")[0] for error in errors] == [f"fleet_services.icnd.{where}"]
    assert "and the arguments of a process are no secret\n  → have the program read it from its environment" in errors[0]
    assert "hunter" not in errors[0]


def test_a_command_says_where_it_is_written() -> None:
    service = fleets.changed("health", {"ready": {"command": ["icnctl", "ping"]}, "live": "tcp://127.0.0.1:1"})
    service = fleets.changed(
        "backup", {"files": ["/var/lib/icnd/x"], "more": {"key": {"files": ["/x/y"], "drill": {"ready": {"command": ["x"]}}}}}, service
    )
    overrides = {"home1": {"icnd": {"drain": {"request": {"command": ["icnctl", "drain"]}}, "health": {"ready": {"command": ["icnctl", "pong"]}}}}}
    there, here = (spec(host, services={"icnd": service}, overrides=overrides) for host in ("relay1", "home1"))
    assert there["health"]["ready"] == {"command": ["icnctl", "ping"], "where": "fleet_services.icnd.health.ready.command"}
    assert here["health"]["ready"] == {"command": ["icnctl", "pong"], "where": "fleet_overrides.home1.icnd.health.ready.command"}
    assert here["drain"]["request"]["where"] == "fleet_overrides.home1.icnd.drain.request.command"
    assert there["backup"]["more"]["key"]["drill"]["ready"]["where"] == "fleet_services.icnd.backup.more.key.drill.ready.command"


@pytest.mark.parametrize(
    ("asked", "method"),
    [
        pytest.param({}, "GET", id="nothing-to-send"),
        pytest.param({"body": {"reason": "upgrade"}}, "POST", id="body"),
        pytest.param({"body": ""}, "POST", id="empty-body"),
        pytest.param({"body": "x", "method": "PUT"}, "PUT", id="said"),
    ],
)
def test_a_request_with_a_body_is_a_post(asked: dict[str, Any], method: str) -> None:
    request = {"url": "http://127.0.0.1/drain", **asked}
    found = spec(services={"icnd": fleets.changed("drain", {"request": request, "resume": {"url": "http://127.0.0.1/resume"}})})
    assert (found["drain"]["request"]["method"], found["drain"]["resume"]["method"]) == (method, "GET")


def test_a_description_is_one_line_however_it_is_written() -> None:
    assert spec(services={"icnd": fleets.changed("description", "Keeps\nthe ledger\n")})["description"] == "Keeps the ledger"


def test_lists_of_the_daemons_own_config_are_replaced_whatever_they_are_called() -> None:
    config = [{"path": "/etc/icn/config.toml", "content": {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}}]
    override = {"config": [{"path": "/etc/icn/config.toml", "content": {"ports": [{"name": "b", "port": 3}]}}]}
    found = spec(services={"icnd": fleets.changed("config", config)}, overrides={"relay1": {"icnd": override}})
    assert found["config"][0]["content"] == {"ports": [{"name": "b", "port": 3}]}


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        pytest.param({"tier1": {"requires": {"disk": "5G"}}}, "fleet_tiers.tier1.requires.disk: ", id="disk-without-a-path"),
        pytest.param({"tier1": {"requires": [1]}}, "fleet_tiers.tier1.requires: ", id="list"),
        pytest.param({"tier1": "hello"}, "fleet_tiers.tier1: ", id="text"),
    ],
)
def test_a_mistake_in_a_tier_hides_no_other(tiers: dict[str, Any], message: str) -> None:
    errors = said(tiers=tiers, services={"icnd": fleets.changed("version", 1.1)})
    assert any(error.startswith(message) for error in errors), errors
    assert any(error.startswith("fleet_services.icnd.version: ") for error in errors), errors


@pytest.mark.parametrize("entry", [pytest.param(None, id="nothing"), pytest.param(5, id="number")])
def test_a_placement_of_nothing_hides_no_other_mistake(entry: Any) -> None:
    assert any("'icn' is not in fleet_services" in error for error in said(placement={"icn": entry, "relay1": ["icn"]}))


def test_names_that_are_numbers_are_mistakes_among_others() -> None:
    errors = said(services={"icnd": fleets.ICND, 443: {}}, placement={"icn": ["icn"]})
    assert any("443" in error for error in errors), errors
    assert any("'icn' is not in fleet_services" in error for error in errors), errors
