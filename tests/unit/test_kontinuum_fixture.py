"""The simulated Kontinuum does what tests of the fleet rely on. Real processes on free loopback ports."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import importlib.util
import io
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "kontinuum"
DEADLINE_SECONDS = 5.0
TOKEN = "not-a-secret"


def load_build() -> Any:
    spec = importlib.util.spec_from_file_location("kontinuum_build", FIXTURE / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = load_build()


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Callable[[str, str], str]:
    """Path of an executable, by version and name."""
    folder = tmp_path_factory.mktemp("programs")

    def path(version: str, name: str) -> str:
        target = folder / f"{name}-{version}"
        if not target.exists():
            target.write_bytes(build.executable(version, "amd64", build.PROGRAMS[name]))
        return str(target)

    return path


def free_port() -> int:
    """A port that is free for TCP and UDP on the loopback addresses."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        return tcp.getsockname()[1]


def wait_for(condition: Callable[[], Any]) -> Any:
    """The first true value of `condition`; fails after DEADLINE_SECONDS."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def ask(method: str, port: int, path: str, body: bytes = b"", *, host: str = "127.0.0.1", token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Host:
    """A directory with a config, a key and a database, and the ports they name."""

    def __init__(self, folder: Path, programs: Callable[[str, str], str]) -> None:
        self.folder = folder
        self.programs = programs
        self.p2p, self.metrics, self.blobstore = free_port(), free_port(), free_port()
        self.config = folder / "node.toml"
        self.database = folder / "node.db"
        self.processes: list[subprocess.Popen] = []
        self.write_config()
        assert self.run("kontinuum-node-server", "bootstrap", "--key", str(folder / "node.key")).returncode == 0

    def write_config(self, *, gigabytes: int = 50, extra: str = "") -> None:
        self.config.write_text(
            f"""
[identity]
key_path = "{self.folder}/node.key"
[network]
listen_addrs = ["/ip4/127.0.0.1/tcp/{self.p2p}", "/ip4/127.0.0.1/udp/{self.p2p}/quic-v1"]
[blobstore]
listen = "127.0.0.1:{self.blobstore}"
[metrics]
listen = "127.0.0.1:{self.metrics}"
[storage]
path = "{self.database}"
max_total_gb = {gigabytes}
[node]
geo_zone = "eu-west"
{extra}
""",
            encoding="utf-8",
        )

    def run(self, name: str, *arguments: str, version: str = "1.0.1", environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        """Run a program to its end."""
        return subprocess.run(
            [sys.executable, self.programs(version, name), *arguments],
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
            env={**os.environ, **(environment or {})},
        )

    def serve(self, version: str = "1.0.1", **environment: str) -> subprocess.Popen:
        """Start the server; does not wait."""
        command = [sys.executable, self.programs(version, "kontinuum-node-server"), "--config", str(self.config)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
        self.processes.append(process)
        return process

    def serve_ready(self, version: str = "1.0.1", **environment: str) -> subprocess.Popen:
        """Start the server and wait until it is ready."""
        process = self.serve(version, **environment)
        wait_for(lambda: self.status("/readyz") == 200)
        return process

    def status(self, path: str) -> int:
        """HTTP status of a GET; 0 if nobody answers."""
        try:
            return ask("GET", self.metrics, path)[0]
        except OSError:
            return 0

    def json(self, path: str, method: str = "GET", value: Any = None) -> Any:
        return json.loads(ask(method, self.metrics, path, b"" if value is None else json.dumps(value).encode())[1])

    def metric(self, name: str) -> float:
        lines = ask("GET", self.metrics, "/metrics")[1].decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    @staticmethod
    def stop(process: subprocess.Popen) -> int:
        process.terminate()
        return process.wait(DEADLINE_SECONDS)


@pytest.fixture
def host(tmp_path, programs) -> Iterator[Host]:
    made = Host(tmp_path, programs)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


# --- artifacts


def test_a_rebuild_reproduces_the_committed_digests(tmp_path):
    assert build.build(tmp_path) == json.loads((FIXTURE / "digests.json").read_text(encoding="utf-8"))


def test_every_artifact_differs_from_every_other():
    digests = json.loads((FIXTURE / "digests.json").read_text(encoding="utf-8"))
    every = [digest for versions in digests.values() for archs in versions.values() for digest in archs.values()]
    assert len(every) == len(set(every)) == 2 * len(build.RELEASES) * len(build.ARCHITECTURES)


def test_the_tarball_opens_and_holds_the_executables(tmp_path):
    build.build(tmp_path)
    packed = (tmp_path / "1.0.1" / "kontinuum-node-server-arm64.tar.gz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        assert {member.name: member.mode for member in archive} == {"kontinuum-node-server": 0o755, "kontinuum-nodectl": 0o755}
    assert os.access(tmp_path / "1.0.1" / "kontinuum-node-admin-armhf", os.X_OK)


@pytest.mark.parametrize("name", sorted(build.PROGRAMS))
def test_version(host, name):
    assert host.run(name, "--version", version="1.1.0").stdout == f"{name} 1.1.0\n"


# --- config and identity


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param('geo_zone = "eu-west"|gezone = "eu"', "node.gezone: no such key", id="unknown-key"),
        pytest.param('geo_zone = "eu-west"|tier = 7', "node.tier: 7 is not one of 0, 1, 2", id="tier"),
        pytest.param("max_total_gb = 50|max_total_gb = true", "storage.max_total_gb: True is not a number", id="number"),
        pytest.param("/tcp/|/tpc/", "network.listen_addrs: '/ip4/127.0.0.1/tpc/", id="multiaddr"),
        pytest.param("/quic-v1|", "network.listen_addrs: '/ip4/127.0.0.1/udp/", id="udp-without-quic"),
        pytest.param('[metrics]\nlisten = "127.0.0.1|[metrics]\nlisten = "127.0.0.256', "metrics.listen: '127.0.0.256:", id="address"),
        pytest.param('[blobstore]\nlisten = "127.0.0.1|[blobstore]\nlisten = "0.0.0.0', "blobstore.listen: '0.0.0.0:", id="blobstore-open"),
        pytest.param('key_path = "|key_path = "x', "identity.key_path: 'x/", id="relative-path"),
        pytest.param("[identity]|[faults]\nnever_redy = true\n[identity]", "faults: never_redy: no such fault", id="fault"),
        pytest.param("[metrics]|[metrics", "not TOML", id="not-toml"),
        pytest.param("[storage]|[store]", "storage.path: missing", id="missing"),
    ],
)
def test_check_config_names_the_key(host, wrong, said):
    before, after = wrong.split("|")
    text = host.config.read_text(encoding="utf-8")
    assert before in text
    host.config.write_text(text.replace(before, after), encoding="utf-8")
    result = host.run("kontinuum-node-server", "--check-config", str(host.config))
    assert result.returncode == 1
    assert f"{host.config}: {said}" in result.stderr


def test_check_config_takes_a_good_config(host):
    assert host.run("kontinuum-node-server", "--check-config", str(host.config)).returncode == 0


def test_bootstrap_makes_an_identity_once(host):
    key = host.folder / "other.key"
    first = host.run("kontinuum-node-server", "bootstrap", "--key", str(key))
    content = key.read_bytes()
    again = host.run("kontinuum-node-server", "bootstrap", "--key", str(key))
    assert (first.returncode, stat.S_IMODE(key.stat().st_mode)) == (0, 0o600)
    assert (again.returncode, key.read_bytes()) == (1, content)
    assert "exists already" in again.stderr


def test_it_does_not_start_with_a_key_that_others_can_read(host):
    (host.folder / "node.key").chmod(0o644)
    process = host.serve()
    assert process.wait(DEADLINE_SECONDS) == 1
    assert "is open to others" in process.stderr.read()


# --- serving


def test_it_listens_where_the_config_says(host):
    host.serve_ready()
    with socket.create_connection(("127.0.0.1", host.p2p), DEADLINE_SECONDS) as peer:
        assert peer.makefile().readline() == f"/kontinuum/1.0.1/{host.json('/version')['peer_id']}\n"
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.settimeout(DEADLINE_SECONDS)
        peer.sendto(b"ping", ("127.0.0.1", host.p2p))
        assert peer.recv(16) == b"ping"
    assert ask("GET", host.blobstore, "/health")[0] == 200


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="no IPv6 here")
def test_metrics_on_the_ipv6_wildcard_serve_ipv4_too(host):
    text = host.config.read_text(encoding="utf-8")
    host.config.write_text(text.replace(f"127.0.0.1:{host.metrics}", f"[::]:{host.metrics}"), encoding="utf-8")
    host.serve_ready()
    assert [ask("GET", host.metrics, "/healthz", host=address)[0] for address in ("127.0.0.1", "::1")] == [200, 200]


def test_an_address_in_use_is_named(host):
    host.serve_ready()
    second = host.serve()
    assert second.wait(DEADLINE_SECONDS) == 6
    assert f"127.0.0.1 tcp {host.p2p}" in second.stderr.read()


@pytest.mark.parametrize("end", [pytest.param(signal.SIGTERM, id="stopped"), pytest.param(signal.SIGKILL, id="killed")])
def test_values_survive_a_restart(host, end):
    process = host.serve_ready()
    assert ask("PUT", host.metrics, "/kv/a%20key", b"\x00value")[0] == 200
    process.send_signal(end)
    assert process.wait(DEADLINE_SECONDS) == (0 if end == signal.SIGTERM else -signal.SIGKILL)
    host.serve_ready()
    assert ask("GET", host.metrics, "/kv/a%20key") == (200, b"\x00value")
    assert host.status("/kv/other") == 404


def test_metrics_count_only_what_users_ask(host):
    host.serve_ready()
    for key in ("a", "b", "c"):
        ask("PUT", host.metrics, f"/kv/{key}", b"1")
    assert host.metric("kontinuum_requests_total") == host.metric("kontinuum_request_seconds_count") == 3
    assert host.metric('kontinuum_build_info{name="kontinuum-node-server",version="1.0.1",arch="amd64",schema="1"}') == 1


# --- drain, reload, stop


def test_a_drain_waits_for_connected_peers_and_can_be_undone(host):
    host.serve_ready()
    with socket.create_connection(("127.0.0.1", host.p2p), DEADLINE_SECONDS) as peer:
        assert peer.recv(100)
        assert host.json("/drain", "POST") == {"draining": True, "connections": 1, "drained": False}
        assert host.status("/readyz") == 503
        with socket.create_connection(("127.0.0.1", host.p2p), DEADLINE_SECONDS) as newcomer:
            assert newcomer.recv(100) == b""
        assert host.json("/drain")["drained"] is False
    wait_for(lambda: host.json("/drain") == {"draining": True, "connections": 0, "drained": True})
    assert host.json("/drain", "DELETE") == {"draining": False, "connections": 0, "drained": False}
    assert host.status("/readyz") == 200


def test_a_drain_ends_after_drain_seconds(host):
    host.write_config(extra="drain_seconds = 0.2")
    host.serve_ready()
    with socket.create_connection(("127.0.0.1", host.p2p), DEADLINE_SECONDS) as peer:
        assert peer.recv(100)
        assert host.json("/drain", "POST")["drained"] is False
        wait_for(lambda: host.json("/drain") == {"draining": True, "connections": 1, "drained": True})


def test_sighup_takes_over_the_config_but_not_a_broken_one(host):
    process = host.serve_ready()
    host.write_config(gigabytes=80)
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: host.json("/version")["reloads"] == 1)
    assert host.json("/version")["config"]["storage.max_total_gb"] == 80
    host.write_config(gigabytes=-1)
    process.send_signal(signal.SIGHUP)
    assert host.stop(process) == 0
    assert "storage.max_total_gb: -1 is not a number of 0 or more" in process.stderr.read()


def test_sigterm_lets_a_request_in_flight_finish(host):
    process = host.serve_ready(KONTINUUM_FAULTS="latency=0.5")
    with socket.create_connection(("127.0.0.1", host.metrics), DEADLINE_SECONDS) as user:
        user.sendall(b"PUT /kv/last HTTP/1.0\r\nContent-Length: 1\r\n\r\n1")
        wait_for(lambda: host.metric("kontinuum_requests_in_flight") == 1)
        process.terminate()
        assert b" 200 " in user.makefile("rb").readline()
    assert process.wait(DEADLINE_SECONDS) == 0


# --- schema


def user_version(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(database)) as opened:
        return opened.execute("PRAGMA user_version").fetchone()[0]


def test_a_migration_keeps_values_and_an_older_release_refuses_the_result(host):
    process = host.serve_ready("1.0.1")
    ask("PUT", host.metrics, "/kv/a", b"1")
    assert (host.stop(process), user_version(host.database)) == (0, 1)
    process = host.serve_ready("1.1.0")
    assert ask("GET", host.metrics, "/kv/a") == (200, b"1")
    assert (host.stop(process), user_version(host.database)) == (0, 2)
    before = hashlib.sha256(host.database.read_bytes()).digest()
    process = host.serve("1.0.1")
    assert process.wait(DEADLINE_SECONDS) == 3
    assert "schema 2 is newer than schema 1 of this release" in process.stderr.read()
    assert hashlib.sha256(host.database.read_bytes()).digest() == before


def test_a_failing_migration_leaves_the_last_schema_that_works(host):
    host.stop(host.serve_ready("1.0.1"))
    process = host.serve("1.1.1")
    assert process.wait(DEADLINE_SECONDS) == 4
    assert "migration to schema 3 failed" in process.stderr.read()
    assert user_version(host.database) == 2


# --- the service manager


class Manager:
    """The receiving side of sd_notify."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(DEADLINE_SECONDS)

    def next(self, *, but: str = "") -> list[str]:
        """The lines of the next message that is not `but`."""
        while True:
            message = self.socket.recv(4096).decode().split("\n")
            if message != [but]:
                return message


@pytest.fixture
def manager(tmp_path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.socket.close()


def test_the_service_manager_is_told_everything(host, manager):
    started = time.monotonic_ns() // 1000
    process = host.serve(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="100000")
    assert manager.next()[0] == "READY=1"
    first_ping = time.monotonic()
    assert [manager.next() for _ping in range(8)] == [["WATCHDOG=1"]] * 8
    assert 0.1 < time.monotonic() - first_ping < 3.0
    process.send_signal(signal.SIGHUP)
    reloading, stamp = manager.next(but="WATCHDOG=1")
    assert reloading == "RELOADING=1"
    assert started < int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert manager.next(but="WATCHDOG=1") == ["READY=1"]
    assert host.stop(process) == 0
    assert manager.next(but="WATCHDOG=1") == ["STOPPING=1"]


def test_ready_is_not_announced_before_it_is_true(host, manager):
    host.serve("1.0.2", NOTIFY_SOCKET=manager.path)
    wait_for(lambda: host.status("/readyz") == 503)
    assert host.status("/healthz") == 200
    manager.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        manager.next()
    assert host.json("/readyz") == {"ready": False, "obstacles": ["fault never_ready"]}


# --- faults


def test_error_rate_is_exact(host):
    host.serve_ready()
    host.json("/fault", "POST", {"error_rate": 0.2})
    statuses = [host.status("/kv/none") for _request in range(20)]
    assert (statuses.count(500), statuses.count(404)) == (4, 16)
    assert host.metric("kontinuum_request_errors_total") == 4


def test_a_posted_fault_wins_until_it_is_taken_back(host):
    host.write_config(extra="[faults]\ndrain_never = true")
    host.serve_ready(KONTINUUM_FAULTS="wrong_version=0.9.9")
    assert host.json("/fault") == {"drain_never": True, "wrong_version": "0.9.9"}
    assert host.json("/version")["version"] == "0.9.9"
    assert host.json("/drain", "POST") == {"draining": True, "connections": 0, "drained": False}
    host.json("/fault", "POST", {"drain_never": False})
    assert host.json("/drain")["drained"] is True
    assert host.json("/fault", "DELETE") == {"drain_never": True, "wrong_version": "0.9.9"}


def test_an_unknown_fault_is_refused(host):
    host.serve_ready()
    assert ask("POST", host.metrics, "/fault", b'{"crash": 1}')[0] == 400


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param("exit_on_start=9", 9, id="exit_on_start"),
        pytest.param("crash_after=0.1s", 70, id="crash_after"),
        pytest.param("tpyo", 1, id="unknown"),
    ],
)
def test_faults_that_end_the_process(host, fault, code):
    assert host.serve(KONTINUUM_FAULTS=fault).wait(DEADLINE_SECONDS) == code


def test_flap_goes_up_and_down(host):
    host.serve(KONTINUUM_FAULTS="flap=0.1")
    for status in (200, 503, 200, 503):
        wait_for(lambda status=status: host.status("/readyz") == status)


def test_slow_start_is_alive_before_it_is_ready(host):
    host.serve(KONTINUUM_FAULTS="slow_start=0.8")
    wait_for(lambda: host.status("/healthz") == 200)
    assert host.status("/readyz") == 503
    wait_for(lambda: host.status("/readyz") == 200)


def test_ignore_sigterm_leaves_only_sigkill(host):
    process = host.serve_ready(KONTINUUM_FAULTS="ignore_sigterm")
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert host.status("/readyz") == 200


def test_the_simulated_load_writes_steadily_and_leaves_with_a_drain(host):
    host.serve_ready(KONTINUUM_FAULTS="load=200")
    wait_for(lambda: host.metric("kontinuum_requests_total") > 5)
    host.json("/drain", "POST")
    wait_for(lambda: host.json("/drain")["drained"])
    time.sleep(0.05)
    drained_at = host.metric("kontinuum_requests_total")
    time.sleep(0.2)
    assert host.metric("kontinuum_requests_total") == drained_at


# --- the companions


def test_nodectl_backs_up_under_a_steady_writer(host):
    host.serve_ready(KONTINUUM_FAULTS="load=500")
    ask("PUT", host.metrics, "/kv/a", b"1")
    copy = host.folder / "copy.db"
    command = ("kontinuum-nodectl", "backup", "--database", str(host.database), "--to", str(copy))
    assert host.run(*command).returncode == 0
    with contextlib.closing(sqlite3.connect(copy)) as opened:
        assert opened.execute("SELECT value FROM kv WHERE key = 'a'").fetchone() == (b"1",)
    assert (host.run(*command).returncode, host.run(*command[:3], str(host.folder / "none.db"), "--to", str(host.folder / "x")).returncode) == (1, 1)
    assert sorted(path.name for path in host.folder.glob("*.partial")) == []


def test_nodectl_drains_and_resumes(host):
    host.serve_ready()
    url = ("--url", f"http://127.0.0.1:{host.metrics}")
    commands = (["status"], ["drain", "--wait", "2"], ["status"], ["resume"], ["status"])
    assert [host.run("kontinuum-nodectl", *url, *command).returncode for command in commands] == [0, 0, 1, 0, 0]
    assert host.run("kontinuum-nodectl", "--url", f"http://127.0.0.1:{free_port()}", "status").returncode == 2


def test_admin_forwards_drains_and_stores_webhooks_for_those_with_the_token(host):
    host.serve_ready()
    api, billing = free_port(), free_port()
    config = host.folder / "admin.toml"
    config.write_text(
        f"""
[api]
listen = "127.0.0.1:{api}"
[billing]
listen = "127.0.0.1:{billing}"
[storage]
path = "{host.folder}/admin.db"
[[nodes]]
id = "relay1"
url = "http://127.0.0.1:{host.metrics}"
""",
        encoding="utf-8",
    )
    assert host.run("kontinuum-node-admin", "--check-config", str(config)).returncode == 0
    tokenless = host.run("kontinuum-node-admin", "--config", str(config), environment={"ADMIN_TOKEN": ""})
    assert (tokenless.returncode, "ADMIN_TOKEN: missing" in tokenless.stderr) == (1, True)

    command = [sys.executable, host.programs("1.0.1", "kontinuum-node-admin"), "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "ADMIN_TOKEN": TOKEN})
    host.processes.append(process)

    def is_ready() -> bool:
        with contextlib.suppress(OSError):
            return ask("GET", api, "/readyz")[0] == 200
        return False

    wait_for(is_ready)
    drain = "/api/v1/nodes/relay1/drain"
    assert [ask("POST", api, drain, token=token)[0] for token in ("", "wrong")] == [401, 401]
    assert host.status("/readyz") == 200
    assert ask("POST", api, drain, b'{"reason": "version-upgrade"}', token=TOKEN)[0] == 202
    assert host.status("/readyz") == 503
    node = json.loads(ask("GET", api, "/api/v1/nodes")[1])[0]
    assert (node["id"], node["version"], node["drain"]["draining"]) == ("relay1", "1.0.1", True)
    assert ask("POST", api, "/api/v1/nodes/relay9/drain", token=TOKEN)[0] == 404
    assert [ask("POST", billing, "/", b'{"paid": 1}', token=token)[0] for token in ("", TOKEN)] == [401, 201]
    assert json.loads(ask("GET", api, "/api/v1/webhooks")[1]) == {"stored": 1}
    assert TOKEN not in ask("GET", api, "/version")[1].decode()
    assert host.stop(process) == 0
    assert TOKEN not in process.stderr.read()
