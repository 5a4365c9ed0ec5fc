# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema of the catalogue: what a service description may say, what each key means, and its default.

``docs/reference/service.md`` is generated from this file. Defaults that depend on other keys (the account's name, the
directories, the binaries) are filled by ``service_spec``; the reference says so in the key's own text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Callable
from urllib.parse import urlsplit

from ansible_collections.hearth.fleet.plugins.module_utils import archive, backup_formats, kernel_names
from ansible_collections.hearth.fleet.plugins.module_utils.headers import is_line
from ansible_collections.hearth.fleet.plugins.module_utils.limits import (
    COUNT_LIMIT,
    CPUS,
    INTERVAL,
    MEMORY_LIMIT,
    SIZE_LIMIT,
    SWAP_LIMIT,
    TASKS_LIMIT,
    TIMEOUT,
)
from ansible_collections.hearth.fleet.plugins.module_utils.schema import (
    ANY,
    ANY_TEXT,
    DURATION,
    FLAG,
    NUMBER,
    SIZE,
    TEXT,
    Field,
    ListOf,
    MapOf,
    OneOf,
    Record,
    Scalar,
    choice,
    describe,
    integer,
    matching,
    nearest,
)

ARCHITECTURES = ("amd64", "arm64", "armhf", "armel", "i386", "ppc64el", "riscv64", "s390x")
"""Debian's architecture names, as ``dpkg --print-architecture`` prints them, and ``any`` for artifacts that run everywhere."""

SERVICE_NAME = r"[a-z][a-z0-9_-]{0,62}"


def _version(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{describe(value)} is not a version; write a string such as '1.4.2'")
    if not isinstance(value, str):
        raise ValueError(f"{value} is a number; write it as a string: '{value}' (YAML reads 1.10 without quotes as 1.1)")
    if value == "":
        raise ValueError("empty; write the version to install, such as '1.4.2'")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+~-]*", value):
        raise ValueError(f"{value!r} cannot name a directory; use letters, digits and . _ + ~ - only")
    if value in ("latest", "stable", "edge"):
        raise ValueError(f"{value!r} is a moving target; pin one version, such as '1.4.2'")
    return value


def _port(value: Any) -> str:
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"(\d{1,5})(?:[-:](\d{1,5}))?", text)
    if not match:
        raise ValueError(f"{describe(value)} is not a port; write a number from 1 to 65535, or a range such as '8000-8010'")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"{text} is out of range; ports go from 1 to 65535, the lower one first")
    return str(first) if first == last else f"{first}:{last}"


def _source(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{describe(value)} is not a source; write any, none, an address, a CIDR, group:<name> or host:<name>")
    if value in ("any", "none") or re.fullmatch(r"(group|host):[^:\s]+", value):
        return value
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            f"{value!r} is not a source; write any, none, an address, a CIDR, group:<inventory group> or host:<inventory host>"
        ) from None
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _url(*schemes: str) -> Scalar:
    def parse(value: Any) -> str:
        parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
        try:
            parts.port  # noqa: B018  # raises on a port that is none
        except ValueError:
            raise ValueError(f"{value!r} has a port that is no number from 0 to 65535") from None
        if parts.scheme not in schemes or (parts.scheme != "file" and not parts.hostname) or re.search(r"\s", str(value)):
            raise ValueError(f"{value!r} is not a URL; write it like {schemes[0]}://host/path")
        return str(value)

    return Scalar("URL (" + ", ".join(schemes) + ")", parse)


def _probe(value: Any) -> Any:
    address = re.fullmatch(r"tcp://[^\s/]+:(\d{1,5})", value) if isinstance(value, str) else None
    if address and int(address[1]) > 65535:
        raise ValueError(f"{value!r} has a port that is no number from 0 to 65535")
    if address:
        return value
    if isinstance(value, str) and not value.startswith(("http://", "https://")):
        raise ValueError(f"{value!r} is not a URL; write it like http://127.0.0.1:8080/ready, or tcp://127.0.0.1:8080 where only a port answers")
    return _url("http", "https").parse(value)


def _secret(value: Any) -> str:
    if isinstance(value, str) and value != "" and "\n" not in value.rstrip("\n"):
        return value.rstrip("\n")
    raise ValueError("a secret must be one line of text, not empty (its value is not shown); keep it in a vault")


def _secret_text(value: Any) -> str:
    if isinstance(value, str) and value != "":
        return value
    raise ValueError("a secret must be a text, not empty (its value is not shown); keep it in a vault")


def _header(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and is_line(value):
        return value
    raise ValueError("a header must be one line of text (its value is not shown)")


def _count_or_share(minimum: int, too_few: str) -> Callable[[Any], int | str]:
    def parse(value: Any) -> int | str:
        if isinstance(value, Mapping):
            raise ValueError(
                "one number or percentage stands here; what is different for a tier goes into fleet_overrides.<tier>.<service>, at the same place"
            )
        text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
        match = re.fullmatch(r"(\d+)(\s*%)?", text)
        if not match:
            raise ValueError(f"{describe(value)} is not a number or a percentage; write it like 2 or '25%'")
        count = int(match[1])
        if count < minimum:
            raise ValueError(f"{text} {too_few}; write a number from {minimum}, or a percentage such as '25%'")
        if match[2] and not 1 <= count <= 100:
            raise ValueError(f"{text} is out of range; percentages go from 1% to 100%")
        return f"{count}%" if match[2] else count

    return parse


def _condition(value: Any) -> str:
    match = re.fullmatch(r"\s*(<=|>=|==|!=|<|>)\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*", value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{describe(value)} is not a condition; write a comparison with a number, in quotes, such as '< 0.01'")
    return f"{match[1]} {match[2]}"


def named(label: str, prefix: str, names: tuple[str, ...], *, example: str, optional_prefix: bool = False) -> Scalar:
    """Return the kind of a text that is one of the system's names, with its prefix."""

    def parse(value: Any) -> str:
        text = value if isinstance(value, str) else ""
        bare = text[len(prefix) :] if text.startswith(prefix) else text if optional_prefix else ""
        if bare not in names:
            near = nearest(bare or text, names)
            article = "an" if label[0] in "aeiou" else "a"
            raise ValueError(f"{describe(value)} is not {article} {label}; {f'did you mean {prefix}{near}?' if near else f'write it like {example}'}")
        return text

    return Scalar(label, parse)


def _syscall(value: Any) -> str:
    match = re.fullmatch(r"(~?)(@?)([A-Za-z0-9_-]+)((?::(?:kill|E[A-Z0-9]+|\d+))?)", value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{describe(value)} is not a system call; write one call or group, such as sched_setscheduler, '@clock' or '~@obsolete'")
    away, group, name, _error = match.groups()
    known = kernel_names.SYSCALL_GROUPS if group else kernel_names.SYSCALLS
    if name not in known:
        near, other = nearest(name, known), name in kernel_names.SYSCALL_GROUPS
        hint = (
            f"did you mean '{away}{'@' if other else group}{name if other else near}'?"
            if near or other
            else "systemd-analyze syscall-filter lists them"
        )
        raise ValueError(f"{value!r} is not a system call{' group' if group else ''} that systemd knows; {hint}")
    return str(value)


def _device(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    node, _space, access = text.partition(" ")
    if not re.fullmatch(r"(/dev/(?!.*\.\.)|(?:char|block)-)[^\s\[\]?]+", node) or (node.startswith("/") and "*" in node):
        meant = re.fullmatch(r"/?(?:dev/)?([\w/-]+)((?: [rwm]+)?)", text)
        hint = f"did you mean '/dev/{meant[1]}{meant[2]}'?" if meant else "write it like '/dev/ttyACM0 rw', or 'char-ttyACM rw' for all of one driver"
        raise ValueError(f"{describe(value)} is not a device; {hint}")
    if " " in text and (not re.fullmatch(r"[rwm]{1,3}", access) or len(set(access)) < len(access)):
        raise ValueError(f"{access!r} is not an access to a device; write some of r, w and m behind it, such as '{node} rw'")
    return text


_USUAL_MODES = (400, 440, 444, 500, 550, 555, 600, 640, 644, 660, 664, 700, 710, 711, 750, 755, 770, 775)


def _mode(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        # YAML reads 0640 as the number 416, and 640 as 640; whoever wrote either meant the same.
        meant = f"0{value}" if value in _USUAL_MODES else f"{value:04o}"
        raise ValueError(f"{value} (a number) is not a file mode; YAML changes what has no quotes: write '{meant}'")
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3,4}", value):
        raise ValueError(f"{describe(value)} is not a file mode; write it in quotes, like '0640'")
    return value


def _unit_type(value: Any) -> str:
    if value == "dbus":
        raise ValueError("'dbus' needs a name on the bus, which cannot be said here; write exec, or notify where the daemon can")
    if value in ("oneshot", "idle"):
        raise ValueError(f"{value!r} is of jobs that end, and a service stays up; write exec, and let a systemd timer of your own run what ends")
    return str(UNIT_TYPES.parse(value))


def _kill_mode(value: Any) -> str:
    if value == "none":
        raise ValueError(
            "'none' leaves the daemon running when it is stopped, beside the next one; write process to stop the daemon and not its children"
        )
    return str(KILL_MODES.parse(value))


ROOT_GROUPS = (
    *("root", "sudo", "wheel", "admin", "shadow", "disk", "kmem", "staff"),
    *("docker", "podman", "containerd", "lxd", "incus", "incus-admin", "libvirt"),
)
"""Groups whose members are root when they like: by sudo, by raw disks and memory, by /usr/local, or by a container that root starts."""


def _group(value: Any) -> str:
    name = str(UNIX_NAME.parse(value))
    if name in ROOT_GROUPS:
        raise ValueError(
            f"whoever is in group {name!r} can become root; name what the daemon needs instead: sandbox.capabilities, sandbox.devices, or a port; "
            "a daemon that cannot do without it has the group in unit.supplementary_groups, with sandbox.root_groups: true"
        )
    return name


def _override(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value
    example = "write what is different there, such as resources: {memory_max: 1G}"
    if value is None:
        raise ValueError(f"empty; {example}, or leave the key out; where a service runs, fleet_placement says")
    raise ValueError(f"{describe(value)} is not a mapping; {example}")


VERSION = Scalar("version", _version)
PORT = Scalar("port or range", _port)
SOURCE = Scalar("any, none, address, CIDR, group:… or host:…", _source)
PROBE = Scalar("URL (http, https, tcp)", _probe)
SHA256 = matching("SHA-256 in hex", r"[0-9a-f]{64}", "is not a SHA-256; write its 64 lower-case hex digits")
ABSOLUTE = matching(
    "absolute path",
    r"/(?!.*(?:^|/)\.\.?(?:/|$))(?!/)(?!.*//)[^\0\n]*(?<!/)|/",
    "is not an absolute path; begin it with / and leave out . and .., // and a / at its end",
)
FILE_NAME = matching("file name", r"(?!bin$)[A-Za-z0-9_][A-Za-z0-9._+-]*", "cannot name a file of the release; write it like daemon.jar")
MODE = Scalar("file mode", _mode)
UNIX_NAME = matching("account name", r"[a-z_][a-z0-9_-]{0,31}", "cannot name an account; use at most 32 lower-case letters, digits, - and _")
GROUP = Scalar("group name", _group)
ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
ARGV = ListOf(ANY_TEXT)
COMMAND = ListOf(ANY_TEXT, filled=True)
SIGNAL = named("signal", "SIG", kernel_names.SIGNALS, example="SIGHUP", optional_prefix=True)
CAPABILITY = named("capability", "CAP_", kernel_names.CAPABILITIES, example="CAP_NET_ADMIN")
ADDRESS_FAMILY = named("address family", "AF_", kernel_names.ADDRESS_FAMILIES, example="AF_NETLINK")
SYSCALL = Scalar("system call or @group", _syscall)
DEVICE = Scalar("device and access", _device)
UNIT_TYPES = choice("simple", "exec", "notify", "forking")
KILL_MODES = choice("control-group", "mixed", "process")
CONTROLLERS = choice("cpu", "cpuset", "io", "memory", "pids")
HEADERS = MapOf(Scalar("text or whole number", _header), key=r"[A-Za-z0-9][A-Za-z0-9_.-]*", key_label="header", confidential=True)
BATCH = Scalar("number or percentage", _count_or_share(1, "hosts in a batch would upgrade nobody"))
MIN_AVAILABLE = Scalar("number or percentage", _count_or_share(0, "is below zero"))
CONDITION = Scalar("condition, such as '< 0.01'", _condition)
REQUEST = OneOf(
    (
        _url("http", "https"),
        Record(
            optional=True,
            label="request",
            fields={
                "url": Field(_url("http", "https"), "Where the request goes, as seen on the host itself.", required=True),
                "method": Field(choice("GET", "POST", "PUT", "DELETE", "PATCH"), "HTTP method. Default: POST where there is a `body`, else GET."),
                "headers": Field(
                    HEADERS,
                    "Headers to send. `{secret:NAME}` stands for one of the service's `secrets`, whose value the host puts in. "
                    "Everything else of a request is shown in verbose output.",
                    default=dict,
                    example="{Authorization: 'Bearer {secret:ADMIN_TOKEN}'}",
                ),
                "body": Field(ANY, "Body: a text as it is, anything else as JSON, with its `Content-Type` unless `headers` has one."),
                "status": Field(ListOf(integer(100, 599), single=True), "Statuses that count as success.", default=lambda: [200, 202, 204]),
                "json": Field(MapOf(ANY), "Keys (dotted paths) of the JSON answer and the values they must have.", default=dict),
            },
        ),
        Record(
            optional=True,
            label="command",
            fields={
                "command": Field(
                    COMMAND,
                    "A command; exit status 0 is success. It runs as the service does: as its account, with its `environment` and `secrets` "
                    "as they were when the daemon was started, but outside of its sandbox. No secret may be among its arguments.",
                    required=True,
                )
            },
        ),
        Record(optional=True, label="signal", fields={"signal": Field(SIGNAL, "A signal for the daemon's main process.", required=True)}),
    )
)

PER_ARCHITECTURE = "|".join((*ARCHITECTURES, "any"))


def _per_architecture(kind: Scalar) -> OneOf:
    return OneOf((kind, MapOf(kind, key=PER_ARCHITECTURE, key_label="architecture")))


ARTIFACT = Record(
    fields={
        "url": Field(
            _per_architecture(TEXT),
            "Where the release is downloaded from: one URL, in which `{version}` and `{arch}` are filled in, or one URL per architecture.",
            example="https://example.org/releases/{version}/daemon-{arch}.tar.gz",
        ),
        "file": Field(
            _per_architecture(TEXT),
            "Instead of `url`: the release as a file on the controller; `{version}` and `{arch}` are filled in. "
            "Relative paths start at the playbook's or the inventory's directory.",
        ),
        "sha256": Field(
            OneOf((MapOf(SHA256, key=PER_ARCHITECTURE, key_label="architecture"), SHA256)),
            "The artifact's SHA-256 per architecture (`dpkg --print-architecture`), or one digest for an artifact that runs on any.",
            required=True,
            example="{amd64: 9f86d0…, arm64: 60303a…}",
        ),
        "signature": Field(
            Record(
                optional=True,
                fields={
                    "type": Field(
                        choice("ssh", "minisign"),
                        "Made by `ssh-keygen -Y sign` or by `minisign -S`. The host checks it, with ssh-keygen or with openssl.",
                        required=True,
                    ),
                    "key": Field(TEXT, "The one signer's public key.", required=True),
                    "identity": Field(TEXT, "ssh: the signer's identity, as in an allowed-signers file.", default="release"),
                    "namespace": Field(TEXT, "ssh: the namespace that was signed for.", default="file"),
                    "url": Field(
                        _per_architecture(TEXT), "Where the signature is; by default the artifact's address with `.sig` (ssh) or `.minisig`."
                    ),
                    "file": Field(_per_architecture(TEXT), "The signature as a file on the controller."),
                },
            ),
            "A signature that must verify with one pinned key before anything runs.",
        ),
        "format": Field(
            choice(*archive.FORMATS),
            "How the artifact is packed; `auto` goes by its name, in which `.gz` without `.tar` is one compressed binary.",
            default="auto",
        ),
        "name": Field(
            FILE_NAME,
            "For a release that is one file and no program by itself, such as a `.jar`: what it is called in every version. It is kept as it is, "
            "at /opt/<service>/current/<name>.",
            example="daemon.jar",
        ),
        "headers": Field(
            MapOf(Scalar("secret text", _secret), key_label="header", confidential=True),
            "Headers for the download, for example a token. Never shown.",
            default=dict,
        ),
        "via": Field(choice("target", "controller"), "Who downloads: the host, or the controller, which then sends it. Default: `release_via`."),
    },
)

CONFIG_FILE = Record(
    fields={
        "path": Field(ABSOLUTE, "Where the file goes.", required=True, example="/etc/daemon/daemon.toml"),
        "format": Field(choice("toml", "yaml", "json", "ini", "env", "text"), "How `content` is written; by default the path's suffix decides."),
        "content": Field(ANY, "The settings as data, or a text for format `text`. Overrides merge into it per key."),
        "template": Field(TEXT, "Instead of `content`: a Jinja2 template of yours, rendered with the host's variables."),
        "file": Field(TEXT, "Instead of `content`: a file on the controller, copied as it is."),
        "owner": Field(TEXT, "Owner. Default: root, or the service's user when `secret`."),
        "group": Field(TEXT, "Group. Default: the service's group."),
        "mode": Field(MODE, "Mode. Default: '0640', or '0600' when `secret`."),
        "secret": Field(FLAG, "The file holds secrets: 0600, and its content is never shown.", default=False),
        "validate": Field(
            ARGV,
            "The daemon's own check of a candidate, run before it replaces the old file; `{path}` stands for the candidate. It has the service's "
            "account, and none of its environment and secrets: these may be candidates themselves.",
            default=list,
            example="[icnd, --config, '{path}', --validate-config]",
        ),
        "reloadable": Field(FLAG, "A change takes effect by `reload` instead of a restart. Default: true where the service can reload."),
    },
)

DIRECTORY = Record(
    fields={
        "path": Field(ABSOLUTE, "The directory. One below /run is made anew at every boot.", required=True),
        "owner": Field(TEXT, "Owner. Default: the service's user."),
        "group": Field(TEXT, "Group. Default: the service's group."),
        "mode": Field(MODE, "Mode.", default="0750"),
        "writable": Field(FLAG, "The daemon may write there, through its sandbox.", default=True),
    },
)

PORTS = Record(
    fields={
        "name": Field(
            matching("name", r"[a-z][a-z0-9-]{0,31}", "cannot name a port; use lower-case letters, digits and -"),
            "What the port is for; marks its firewall rules.",
            required=True,
            example="http",
        ),
        "port": Field(PORT, "The port, or a range '8000-8010'.", required=True, example="8080"),
        "proto": Field(ListOf(choice("tcp", "udp"), single=True), "Protocols.", default=lambda: ["tcp"]),
        "from": Field(
            ListOf(SOURCE, single=True),
            "Who may connect: `any`, `none` (this host only), addresses, CIDRs, `group:<inventory group>`, `host:<inventory host>`.",
            default=lambda: ["none"],
        ),
        "limit": Field(FLAG, "Rate-limit new connections (UFW's `limit`: 6 in 30 s per address).", default=False),
        "listen": Field(FLAG, "The daemon listens there itself, so two services may not share it, and `verify` probes it.", default=True),
    },
)

BOOTSTRAP = Record(
    fields={
        "command": Field(
            COMMAND, "What to run, as the service's account and with its `environment` and `secrets`, before the first start.", required=True
        ),
        "creates": Field(ABSOLUTE, "The path that shows it was done; it never runs again while that exists.", required=True),
        "timeout": Field(DURATION, "How long it may take.", default=120),
    },
)

SANDBOX = Record(
    fields={
        "exposure_max": Field(NUMBER, "The highest exposure that `systemd-analyze security` may find, of 10. Default: `unit_exposure_max`."),
        "address_families": Field(
            ListOf(ADDRESS_FAMILY),
            "Socket families beyond AF_INET, AF_INET6 and AF_UNIX.",
            default=list,
        ),
        "capabilities": Field(
            ListOf(CAPABILITY),
            "Capabilities that the daemon keeps. Ports below 1024 bring CAP_NET_BIND_SERVICE by themselves.",
            default=list,
        ),
        "devices": Field(
            ListOf(DEVICE),
            "Devices that it may use, and how (`r`, `w`, `m`), such as `/dev/ttyACM0 rw`; `char-` or `block-` and a driver's name stand for all "
            "of its devices.",
            default=list,
        ),
        "write_execute": Field(FLAG, "Allow memory that is writable and executable (JIT compilers).", default=False),
        "syscalls": Field(ListOf(SYSCALL), "System calls and groups of them added to @system-service; `~@group` takes one away.", default=list),
        "namespaces": Field(ListOf(choice("cgroup", "ipc", "net", "mnt", "pid", "user", "uts")), "Namespaces that it may create.", default=list),
        "proc": Field(choice("invisible", "all"), "Which processes it sees in /proc.", default="invisible"),
        "proc_subset": Field(choice("pid", "all"), "What of /proc it sees beyond processes.", default="pid"),
        "private_network": Field(FLAG, "No network but a loopback of its own.", default=False),
        "private_users": Field(FLAG, "A user namespace of its own.", default=True),
        "private_tmp": Field(FLAG, "A /tmp of its own.", default=True),
        "private_devices": Field(FLAG, "No physical devices.", default=True),
        "home": Field(choice("hidden", "read-only", "visible"), "What it sees of /home, /root and /run/user.", default="hidden"),
        "read_write": Field(ListOf(ABSOLUTE), "Further paths that it may write.", default=list),
        "read_only": Field(ListOf(ABSOLUTE), "Paths that it may only read.", default=list),
        "inaccessible": Field(ListOf(ABSOLUTE), "Paths that it cannot see.", default=list),
        "realtime": Field(
            FLAG,
            "Allow realtime scheduling. It takes `syscalls: [sched_setscheduler]`, and CAP_SYS_NICE or `resources.rtprio`, as well.",
            default=False,
        ),
        "root_groups": Field(
            FLAG, "Allow groups whose members can become root, such as `docker` and `disk`, in `unit.supplementary_groups`.", default=False
        ),
        "suid": Field(FLAG, "Allow creating set-user-ID files.", default=False),
        "personality": Field(FLAG, "Allow changing the execution domain.", default=False),
        "clock": Field(FLAG, "Allow setting the clock. It takes `syscalls: ['@clock']` and CAP_SYS_TIME as well.", default=False),
        "hostname": Field(FLAG, "Allow setting the host name. It takes `syscalls: [sethostname]` and CAP_SYS_ADMIN as well.", default=False),
        "kernel_logs": Field(FLAG, "Allow reading the kernel's log.", default=False),
        "kernel_modules": Field(FLAG, "Allow loading kernel modules. It takes `syscalls: ['@module']` and CAP_SYS_MODULE as well.", default=False),
        "kernel_tunables": Field(FLAG, "Allow writing kernel tunables.", default=False),
        "control_groups": Field(FLAG, "Allow writing control groups.", default=False),
        "umask": Field(MODE, "Mask of the modes of new files.", default="0077"),
    },
)

RESOURCES = Record(
    fields={
        "memory_max": Field(MEMORY_LIMIT, "Memory beyond which the kernel kills it; as a percentage, of the host's."),
        "memory_high": Field(MEMORY_LIMIT, "Memory beyond which it is slowed down."),
        "memory_swap_max": Field(SWAP_LIMIT, "Swap that it may use; 0 keeps its memory, and keys in it, off the disk."),
        "memlock": Field(SIZE_LIMIT, "Memory that it may lock against swapping, as Vault, databases and eBPF programs do."),
        "nofile": Field(COUNT_LIMIT, "Open files."),
        "nproc": Field(COUNT_LIMIT, "Processes and threads of the account."),
        "tasks_max": Field(TASKS_LIMIT, "Processes and threads of the unit; as a percentage, of what the kernel can have."),
        "cpu_quota": Field(matching("percentage", r"0*[1-9]\d*%", "is not a percentage, such as '150%'"), "CPU time, where 100% is one core."),
        "cpu_weight": Field(integer(1, 10000), "Share of the CPU against other units (100 is usual)."),
        "cpu_affinity": Field(ListOf(CPUS, single=True), "The CPUs that it runs on, by number from 0. Default: all.", example="[0-3, 6]"),
        "io_weight": Field(integer(1, 10000), "Share of disk I/O against other units (100 is usual)."),
        "core": Field(SIZE_LIMIT, "Size of core dumps.", default=0),
        "rtprio": Field(integer(1, 99), "Highest realtime priority that it may take, with `sandbox.realtime`."),
        "oom_score_adjust": Field(integer(-1000, 1000), "Higher is killed earlier when memory runs out."),
        "nice": Field(integer(-20, 19), "Scheduling niceness."),
    },
)

UNIT = Record(
    fields={
        "type": Field(
            Scalar(UNIT_TYPES.label, _unit_type),
            "How systemd learns that it started; `notify` where the daemon can.",
            default="exec",
        ),
        "description": Field(TEXT, "Description. Default: the service's."),
        "pid_file": Field(
            ABSOLUTE,
            "Where a daemon of `type: forking` leaves its process ID. Without it systemd guesses which process is the daemon, and may be wrong "
            "when it forks twice. Example: `/run/daemon/daemon.pid`, with `/run/daemon` among `directories`.",
        ),
        "watchdog": Field(DURATION, "Restart when the daemon does not report for so long (needs `type: notify`)."),
        "restart": Field(choice("always", "on-failure", "on-abnormal", "no"), "When systemd starts it again.", default="always"),
        "restart_delay": Field(DURATION, "Pause before that.", default=5),
        "start_limit": Field(
            Record(
                fields={
                    "burst": Field(integer(1), "So many starts …", default=5),
                    "interval": Field(INTERVAL, "… within so long, and systemd gives up; with 0 it never does.", default=600),
                },
            ),
            "When a crash loop counts as failed.",
        ),
        "start_timeout": Field(TIMEOUT, "How long a start may take.", default=90),
        "stop_timeout": Field(TIMEOUT, "How long a stop may take before it is killed.", default=90),
        "kill_signal": Field(SIGNAL, "The signal that stops it; `SIGRTMIN+3` is one, too.", default="SIGTERM"),
        "kill_mode": Field(
            Scalar(KILL_MODES.label, _kill_mode),
            "Who gets it: all of its processes; the main one first and the others when it has ended (`mixed`); or the main one alone, whose children "
            "live on (`process`).",
            default="control-group",
        ),
        "delegate": Field(
            OneOf((FLAG, ListOf(CONTROLLERS))),
            "It manages control groups of its own below the unit's, as container engines and schedulers do: all controllers, or those named. "
            "Brings `sandbox.control_groups`.",
            default=False,
        ),
        "success_exit_status": Field(
            ListOf(integer(1, 255), single=True), "Exit statuses that are no failure, as with daemons that answer SIGTERM with 143.", default=list
        ),
        "after": Field(
            ListOf(TEXT),
            "What starts earlier, where it is there: services of this fleet by their names, or units with their suffix (`redis-server.service`).",
            default=list,
        ),
        "wants": Field(ListOf(TEXT), "Services or units that should run too, where they are there.", default=list),
        "requires": Field(ListOf(TEXT), "Services of the same host, or units, without which it must not run. They start earlier.", default=list),
        "on_failure": Field(ListOf(TEXT), "Services of the same host, or units, to start when it fails.", default=list),
        "working_directory": Field(ABSOLUTE, "Where it runs. Default: its home."),
        "supplementary_groups": Field(
            ListOf(UNIX_NAME),
            "Further groups of the process. Those that `account.groups` refuses take `sandbox.root_groups`.",
            default=list,
        ),
    },
)

HEALTH = Record(
    fields={
        "ready": Field(OneOf((PROBE, REQUEST)), "Answers with success when the daemon can serve. Without it, an active unit counts as ready."),
        "live": Field(OneOf((PROBE, REQUEST)), "Answers while the daemon is alive."),
        "version": Field(OneOf((PROBE, REQUEST)), "Where the running version can be read."),
        "deadline": Field(DURATION, "How long a start may take to become ready.", default=120),
        "passes": Field(integer(1, 100), "So many successes in a row count as ready.", default=3),
        "interval": Field(DURATION, "Pause between two probes.", default=1),
    },
)

DRAIN = Record(
    optional=True,
    fields={
        "request": Field(REQUEST, "Asks the daemon to stop taking work.", required=True),
        "done": Field(REQUEST, "Succeeds when it is drained."),
        "deadline": Field(DURATION, "How long draining may take.", default=60),
        "grace": Field(
            DURATION,
            "At least so long between the request and the stop, even if it is drained at once: the time in which load balancers notice that it "
            "is not ready any more.",
            default=0,
        ),
        "resume": Field(REQUEST, "Puts it back to work."),
        "force": Field(
            FLAG, "Go on when the deadline has passed, undrained. Without it, the daemon is put back to work and not upgraded.", default=False
        ),
    },
)

ANALYSIS = Record(
    optional=True,
    label="analysis",
    fields={
        "name": Field(TEXT, "What is measured, for people.", required=True, example="errors"),
        "url": Field(
            _url("http", "https"), "Base URL of a Prometheus, as seen from the host.", required=True, example="http://monitoring.example.org:9090"
        ),
        "query": Field(
            TEXT,
            "PromQL query whose result is one number.",
            required=True,
            example="'sum(rate(http_errors_total[1m])) / sum(rate(http_requests_total[1m]))'",
        ),
        "pass": Field(CONDITION, "A measurement is good when this holds.", required=True, example="'< 0.01'"),
        "fail": Field(CONDITION, "A measurement is bad when this holds; what is neither is inconclusive. Default: whatever is not good is bad."),
        "interval": Field(DURATION, "Pause before each measurement.", default=10),
        "count": Field(integer(1), "So many measurements.", default=3),
        "failure_limit": Field(integer(), "So many may be bad.", default=0),
        "headers": Field(HEADERS, "Headers to send, as for requests: `{secret:NAME}` stands for one of the service's `secrets`.", default=dict),
    },
)

ROLLOUT = Record(
    fields={
        "canary": Field(integer(), "So many hosts go first, by themselves, beginning in the outermost tier; 0 for none.", default=1),
        "batch": Field(
            BATCH,
            "So many hosts of a tier at the same time, as a number or as a share of the tier's hosts (rounded down, at least one). "
            "Never more than `min_available` allows. For another number in one tier, write it under `fleet_overrides`.",
            default=1,
        ),
        "soak": Field(
            DURATION, "How long a host is watched on the new release before it counts as upgraded; longer where measurements need it.", default=30
        ),
        "canary_soak": Field(DURATION, "How long the canary is watched. Default: `soak`."),
        "promote": Field(
            choice("auto", "manual"),
            "What follows a good canary: the rest of the fleet, or a wait until somebody says `-e rollout_promote=<service>`.",
            default="auto",
        ),
        "partition": Field(integer(), "Upgrade the first so many hosts in the order of the rollout, and hold the rest on what they run."),
        "allow_downgrade": Field(FLAG, "A lower version than the running one is meant.", default=False),
        "analysis": Field(ListOf(ANALYSIS), "Measurements that decide during the soak whether the new release stays.", default=list),
        "on_inconclusive": Field(
            choice("pause", "pass", "fail"),
            "When measurements say neither good nor bad, for example because Prometheus does not answer: stop and let a person decide, "
            "go on, or roll back.",
            default="pause",
        ),
    },
)

KEEP = Scalar("days (30d), or forever", backup_formats.keep)

DATABASE = Record(
    fields={
        "path": Field(ABSOLUTE, "The database file, in one of the service's directories.", required=True),
        "engine": Field(choice("sqlite"), "Its engine.", default="sqlite"),
        "tables": Field(ListOf(TEXT), "Tables that must be in it.", default=list),
        "sentinel": Field(
            Scalar("one SELECT", backup_formats.sentinel),
            "A question with one value for an answer. The answer is kept with the backup, and a restored database must give the same.",
            example="SELECT max(id) FROM blobs",
        ),
    },
)

DRILL = Record(
    fields={
        "enabled": Field(FLAG, "Whether the runner restores it at all.", default=True),
        "start": Field(FLAG, "Whether the daemon is started on it, too. Default: whether there are databases in it."),
        "command": Field(ARGV, "The daemon and its arguments in the sandbox. Default: the service's `command`.", default=list),
        "environment": Field(
            MapOf(ANY_TEXT, key=ENV_NAME, key_label="variable"),
            "Environment variables beside, or instead of, the service's own. Its secrets never get there: the daemon finds made-up values.",
            default=dict,
        ),
        "files": Field(
            ListOf(
                Record(
                    fields={
                        "path": Field(ABSOLUTE, "Where the daemon looks for it.", required=True),
                        "content": Field(TEXT, "Its text.", required=True),
                    },
                )
            ),
            "Files beside, or instead of, the service's rendered `config`; those with secrets are never copied.",
            default=list,
        ),
        "ready": Field(OneOf((PROBE, REQUEST)), "How the daemon is asked in the sandbox. Default: `health.ready`."),
        "deadline": Field(DURATION, "How long it may take to become ready. Default: `health.deadline`."),
    },
)

BACKUP_SET: dict[str, Field] = {
    "databases": Field(ListOf(DATABASE), "Databases, taken consistently while the daemon writes.", default=list),
    "files": Field(ListOf(ABSOLUTE), "Files and directories.", default=list),
    "command": Field(
        ARGV,
        "The service's own backup command, run as `user` with the service's `environment` and `secrets`; `{output}` stands for the file that it "
        "must write.",
        default=list,
    ),
    "schedule": Field(
        Scalar("schedule", backup_formats.schedule),
        "When: `hourly`, `daily`, `weekly`, `monthly`, a systemd calendar expression, or `changes`: whenever one of the files changes.",
        default="daily",
    ),
    "keep": Field(
        KEEP,
        "How long a backup is kept, in whole days, or `forever`. The store expires it; no host can delete.",
        default=30 * 86400,
    ),
    "max_age": Field(
        DURATION,
        "How old the newest backup may become before it counts as overdue. Default: 3h for hourly, 2d for daily, 9d for weekly, 33d for monthly, "
        "never for `changes`, else 2d.",
    ),
    "recipients": Field(
        ListOf(Scalar("age recipient", backup_formats.recipient), single=True),
        "Public keys that can open it, besides `backup_recipients`.",
        default=list,
    ),
    "user": Field(
        UNIX_NAME,
        "The account that makes the backup: root, or the service's. Default: the service's where all of it lies in the service's own directories.",
    ),
    "drill": Field(DRILL, "What is different where a drill restores it into a sandbox without a network, and starts the daemon on it."),
}
"""What is backed up together, on one schedule, and kept for one time."""

BACKUP = Record(
    optional=True,
    fields={
        **BACKUP_SET,
        "more": Field(
            MapOf(Record(optional=True, fields=BACKUP_SET), key=r"[a-z][a-z0-9-]{0,30}", key_label="set"),
            "Further sets by name, each with the keys above, for what has another schedule or is kept for another time.",
            default=dict,
            example="{identity: {files: [/var/lib/daemon/key], keep: forever}}",
        ),
    },
)

SERVICE = Record(
    fields={
        "description": Field(TEXT, "One line about the daemon, shown by systemctl. Default: its name."),
        "version": Field(VERSION, "The release to install, as a string.", required=True, example="'1.4.2'"),
        "artifact": Field(ARTIFACT, "Where the release comes from, and its digests.", required=True, example="{url: https://…, sha256: {amd64: …}}"),
        "binaries": Field(
            OneOf((ListOf(TEXT), MapOf(TEXT, key_label="binary"))),
            "Binaries of the release that get a link in /usr/local/bin: names, or names and their paths inside the archive. "
            "Default: the first word of `command`.",
        ),
        "version_command": Field(
            ARGV, "Prints the version of the staged binary; `{binary}` stands for it.", default=list, example="['{binary}', --version]"
        ),
        "version_pattern": Field(
            TEXT, "Regular expression whose first group is the version in what `version_command` prints. Default: the version itself must occur."
        ),
        "keep": Field(integer(1, 100), "Releases kept on the host. Default: `release_keep`."),
        "account": Field(
            Record(
                fields={
                    "user": Field(UNIX_NAME, "The account that it runs as. Default: the service's name."),
                    "group": Field(GROUP, "Its group. Default: the user's name."),
                    "uid": Field(integer(1, 65533), "Fixed user ID."),
                    "gid": Field(integer(1, 65533), "Fixed group ID."),
                    "home": Field(ABSOLUTE, "Home, and where its data is. Default: /var/lib/<service>."),
                    "groups": Field(
                        ListOf(GROUP),
                        f"Further groups of the account. Those whose members can become root are refused: {', '.join(ROOT_GROUPS)}.",
                        default=list,
                    ),
                    "shared": Field(
                        FLAG,
                        "Other services of the host may use the same account. What they say of it must be the same, or one alone says it.",
                        default=False,
                    ),
                },
            ),
            "The system account that the daemon runs as.",
        ),
        "command": Field(
            ARGV,
            "The daemon and its arguments; a bare name is one of its binaries.",
            required=True,
            example="[daemon, --config, /etc/daemon/daemon.toml]",
        ),
        "reload": Field(
            OneOf(
                (
                    Record(
                        optional=True, label="signal", fields={"signal": Field(SIGNAL, "Signal that makes it read its config again.", required=True)}
                    ),
                    Record(
                        optional=True,
                        label="command",
                        fields={"command": Field(COMMAND, "Command that makes it read its config again.", required=True)},
                    ),
                )
            ),
            "How the daemon takes new config without a restart.",
        ),
        "config": Field(ListOf(CONFIG_FILE), "Its config files.", default=list),
        "environment": Field(
            MapOf(ANY_TEXT, key=ENV_NAME, key_label="variable"),
            "Environment variables that are no secrets. Truth values and fractions must stand in quotes.",
            default=dict,
        ),
        "secrets": Field(
            MapOf(
                OneOf(
                    (
                        Scalar("secret text", _secret),
                        Record(
                            optional=True,
                            label="secret",
                            fields={
                                "value": Field(Scalar("secret text", _secret_text), "The secret.", required=True),
                                "as": Field(
                                    choice("environment", "credential", "request"),
                                    "How the daemon gets it. With `request` it does not: only the headers of [requests](#requests) use it.",
                                    default="environment",
                                ),
                            },
                        ),
                    )
                ),
                key=r"[A-Za-z_][A-Za-z0-9_.-]*",
                key_label="secret",
                confidential=True,
            ),
            "Secrets, from a vault or sops: environment variables from a file with mode 0600, or systemd credentials "
            "($CREDENTIALS_DIRECTORY/<name>). Only root can read their files.",
            default=dict,
        ),
        "environment_file": Field(ABSOLUTE, "Where the secret environment variables are kept. Default: /etc/<service>/<service>.env."),
        "directories": Field(ListOf(DIRECTORY), "Directories that it needs; its home is always one.", default=list),
        "bootstrap": Field(ListOf(BOOTSTRAP), "Commands run once, before the first start, for example to create an identity.", default=list),
        "ports": Field(ListOf(PORTS), "Ports that it listens on, and who may reach them.", default=list),
        "egress": Field(ListOf(SOURCE, single=True), "Where it may connect to: `any`, `none`, or sources as for ports.", default=lambda: ["any"]),
        "resources": Field(RESOURCES, "Limits of the unit."),
        "sandbox": Field(SANDBOX, "Relaxations of the sandbox; strict where nothing is said."),
        "unit": Field(UNIT, "The systemd unit."),
        "health": Field(HEALTH, "How to see that it serves."),
        "drain": Field(DRAIN, "How it is taken out of service without users noticing."),
        "backup": Field(BACKUP, "What is backed up, and when."),
        "rollout": Field(ROLLOUT, "How a new release reaches the hosts."),
        "min_available": Field(
            MIN_AVAILABLE,
            "So many hosts of this service stay ready at any time, as a number or as a share of its hosts (rounded up). "
            "Default: more than half of them; one of two; none of one.",
        ),
    },
)

REQUIRES = Record(
    fields={
        "cpus": Field(integer(1), "CPU cores."),
        "memory": Field(SIZE, "Memory."),
        "disk": Field(MapOf(SIZE, key=r"/.*", key_label="path"), "Free space by path.", default=dict),
        "iops": Field(integer(1), "Random write operations per second, measured once by fio."),
        "architectures": Field(ListOf(choice(*ARCHITECTURES)), "Architectures that are allowed.", default=list),
        "dns": Field(ListOf(TEXT), "Names that must resolve to the host's addresses.", default=list),
    },
)

TIER = Record(
    fields={
        "requires": Field(REQUIRES, "What a host of this tier must have."),
        "order": Field(integer(), "Rollouts go from the highest number to the lowest.", default=0),
        "offline": Field(
            choice("fail", "skip"), "What a host that cannot be reached means: an error, or skipped and caught up later.", default="fail"
        ),
        "description": Field(TEXT, "One line about the tier."),
    },
)

FLEET = Record(
    fields={
        "fleet_services": Field(
            MapOf(SERVICE, key=SERVICE_NAME, key_label="service name"), "The catalogue: every service, described once.", default=dict
        ),
        "fleet_placement": Field(
            MapOf(ListOf(TEXT, single=True), key_label="group or host"),
            "Which group or host runs which services; `like:<group>` stands for all services of another group.",
            default=dict,
        ),
        "fleet_overrides": Field(
            MapOf(MapOf(Scalar("part of its description", _override), key_label="service"), key_label="tier, group or host"),
            "What is different for a tier, a group or a host: parts of service descriptions, merged per key (service < all < tier < group < host). "
            "Null takes a key away.",
            default=dict,
        ),
        "fleet_tiers": Field(MapOf(TIER, key_label="inventory group"), "The tiers: inventory groups with what their hosts must have.", default=dict),
    },
)
