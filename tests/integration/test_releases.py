# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on real hosts: the lab's anchor1 (Debian 12, root) and home1 (Debian 13, through sudo).

usage: pytest tests/integration/test_releases.py, while the lab is up (tests/lab/lab up).
A publisher of its own runs on this machine; on the hosts everything carries the name of a toy service and goes afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shlex
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lab_hosts
import pytest

MODULE = "hearth.fleet.releases"
SERVICE = "toy-release"
HOME = f"/opt/{SERVICE}"
SPOOL = f"/var/cache/{SERVICE}"
SMALL = f"/mnt/{SERVICE}"
UNIT = f"{SERVICE}.service"
SMALL_DISK_BYTES = 6 << 20

both_hosts = pytest.mark.parametrize("host", [pytest.param("anchor1", id="anchor1"), pytest.param("home1", id="home1")], indirect=True)
one_host = pytest.mark.parametrize("host", [pytest.param("anchor1", id="anchor1")], indirect=True)

# The processes that hold the lock of our own spool: exactly the module run that this test started.
KILL_OUR_RUN = f"""
import os, signal
from pathlib import Path
for entry in Path("/proc").glob("[0-9]*"):
    try:
        held = [os.readlink(handle) for handle in (entry / "fd").iterdir()]
    except OSError:
        continue
    if "{SPOOL}/.lock" in held:
        os.kill(int(entry.name), signal.SIGKILL)
        print("killed", entry.name)
"""


def program(version: str) -> bytes:
    return f'#!/bin/sh\nif [ "$1" = --version ]; then echo "toyd {version}"; exit; fi\nexec sleep infinity\n'.encode()


def packed(files: dict[str, bytes]) -> bytes:
    """Return a tar.gz archive of executable files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.server.requests.append((self.path, start))
        self.server.headers.append(dict(self.headers))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.server.stall:
            self.wfile.write(content[start : start + len(content) // 2])
            self.wfile.flush()
            self.server.stalled.set()
            self.server.released.wait(60)
        else:
            with contextlib.suppress(ConnectionError):  # who finds no room hangs up
                self.wfile.write(content[start:])

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


class Publisher(ThreadingHTTPServer):
    """Publishes artifacts to the lab; with ``stall`` it stops in the middle of each until ``released``."""

    def __init__(self, address: str) -> None:
        super().__init__((address, 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, int]] = []
        self.headers: list[dict[str, str]] = []
        self.stall = False
        self.stalled, self.released = threading.Event(), threading.Event()

    def publish(self, name: str, content: bytes) -> dict[str, str]:
        self.files[f"/{name}"] = content
        return {"url": f"http://{self.server_address[0]}:{self.server_port}/{name}", "sha256": hashlib.sha256(content).hexdigest()}


class Host:
    """A host of the lab."""

    def __init__(self, name: str, publisher: Publisher) -> None:
        self.name = name
        self.publisher = publisher

    def shell(self, script: str) -> str:
        """Return what a script prints that root runs on the host; every command of it must succeed."""
        return lab_hosts.shell(self.name, f"set -e\n{script}")

    def call(self, *releases: dict[str, Any], flags: tuple[str, ...] = (), spool: str = SPOOL) -> list[str]:
        """Return the arguments of the program ``ansible`` for one task."""
        return lab_hosts.module_call(self.name, MODULE, {"releases": releases, "spool": spool}, *flags)

    def run(self, *releases: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
        """Return the result of one task."""
        done = lab_hosts.ansible("ansible", *self.call(*releases, flags=("--check",) if check else (), **options), check=False)
        return lab_hosts.result(self.name, done.stdout, done.stderr)

    def refusal(self, *releases: dict[str, Any], **options: Any) -> str:
        result = self.run(*releases, **options)
        assert result["failed"], result
        return str(result["msg"])

    def release(self, version: str, content: bytes | None = None, **changes: Any) -> dict[str, Any]:
        artifact = self.publisher.publish(f"toyd-{version}.tar.gz", content or packed({f"toyd-{version}/toyd": program(version)}))
        return {
            "service": SERVICE,
            "version": version,
            "root": HOME,
            "artifacts": {"amd64": artifact, "arm64": artifact},
            "binaries": {"toyd": "toyd"},
            "version_command": ["{binary}", "--version"],
            "unit": UNIT,
            "timeout": 20,
            "retries": 1,
            **changes,
        }

    def state(self) -> str:
        """Return every path of the service with its time of change, the link, and what runs."""
        return self.shell(
            f"find {HOME} /usr/local/bin/toyd {SMALL} -printf '%p %l %T@ %m\\n' 2>/dev/null | sort || true; systemctl is-active {UNIT} || true"
        )

    def start_service(self) -> None:
        unit = f"[Service]\nExecStart={HOME}/current/bin/toyd\n"
        self.shell(f"printf %s {shlex.quote(unit)} >/etc/systemd/system/{UNIT}; systemctl daemon-reload; systemctl start {UNIT}")

    def clean(self) -> None:
        self.shell(
            f"systemctl stop {UNIT} 2>/dev/null || true; rm -f /etc/systemd/system/{UNIT} /usr/local/bin/toyd; systemctl daemon-reload; "
            f"if mountpoint -q {SMALL}; then umount {SMALL}; fi; rm -rf {HOME} {SPOOL} {SMALL}"
        )


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    ipv4, _ipv6 = lab_hosts.controller_addresses("anchor1")
    server = Publisher(ipv4)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def host(request: pytest.FixtureRequest, publisher: Publisher) -> Iterator[Host]:
    chosen = Host(request.param, publisher)
    chosen.clean()
    publisher.stall = False
    publisher.requests.clear()
    yield chosen
    publisher.stall = False
    chosen.clean()


@both_hosts
def test_install_then_nothing_to_do(host: Host) -> None:
    release = host.release("1.0.0")
    foretold = host.run(release, check=True)
    assert foretold["changed"]
    assert foretold["said"][0].startswith(f"{SERVICE} 1.0.0: will be downloaded from {release['artifacts']['amd64']['url']} (sha256 ")
    assert host.publisher.requests == []
    assert host.run(release)["differences"] == foretold["differences"]
    assert host.shell("/usr/local/bin/toyd --version") == "toyd 1.0.0\n"
    before = host.state()
    assert not host.run(release)["changed"]
    assert not host.run(release, check=True)["changed"]
    assert host.state() == before
    assert len(host.publisher.requests) == 1


@both_hosts
def test_the_controller_hands_over_what_the_host_lacks(host: Host, tmp_path: Path) -> None:
    local = tmp_path / "toyd-1.0.0.tar.gz"
    local.write_bytes(packed({"toyd": program("1.0.0")}))
    digest = hashlib.sha256(local.read_bytes()).hexdigest()
    by_file = host.release("1.0.0", artifacts={"any": {"file": str(local), "sha256": digest}})
    assert host.run(by_file)["changed"]
    assert host.shell("/usr/local/bin/toyd --version") == "toyd 1.0.0\n"
    local.unlink()
    assert not host.run(by_file)["changed"], "with nothing to do the controller's file is not even looked at"
    assert host.publisher.requests == []


@one_host
def test_the_controller_downloads_once(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Path("~/.cache/hearth-fleet/artifacts").expanduser()
    release = host.release("1.0.0", packed({"toyd": program("1.0.0"), "unique": os.urandom(16)}), via="controller")
    digest = release["artifacts"]["amd64"]["sha256"]
    try:
        for _time in range(2):
            assert host.run(release)["changed"]
            host.clean()
        assert len(host.publisher.requests) == 1
    finally:
        (cache / digest).unlink(missing_ok=True)
        (cache / f"{digest}.lock").unlink(missing_ok=True)


@both_hosts
def test_an_upgrade_of_a_running_service_is_only_staged(host: Host) -> None:
    host.run(host.release("1.0.0"))
    host.start_service()
    process = host.shell(f"systemctl show -P MainPID {UNIT}")
    newer = host.release("1.0.1")
    result = host.run(newer)
    assert [one["action"] for one in result["differences"]] == ["stage"]
    assert result["pending"][0]["reason"] == "1.0.0 runs; 1.0.1 is staged, the switch is the rollout's"
    assert not host.run(newer)["changed"]
    assert host.shell(f"readlink {HOME}/current") == "releases/1.0.0\n"
    assert host.shell(f"systemctl show -P MainPID {UNIT}") == process
    host.shell(f"systemctl stop {UNIT}")
    assert host.run(newer)["changed"]
    assert host.shell("/usr/local/bin/toyd --version") == "toyd 1.0.1\n"


@both_hosts
def test_f29_another_digest_leaves_the_host_untouched(host: Host) -> None:
    host.run(host.release("1.0.0"))
    host.start_service()
    before = host.state()
    bad = host.release("1.0.1")
    for artifact in bad["artifacts"].values():
        artifact["sha256"] = "0" * 64
    said = host.refusal(bad)
    found = hashlib.sha256(host.publisher.files["/toyd-1.0.1.tar.gz"]).hexdigest()
    for part in (f"fleet_services.{SERVICE}.artifact.sha256.amd64", "0" * 64, found, "/toyd-1.0.1.tar.gz", "(for amd64)"):
        assert part in said
    assert host.state() == before
    assert host.shell(f"ls {SPOOL}") == ""


@one_host
@pytest.mark.parametrize("signer", [pytest.param("pinned", id="good"), pytest.param("other", id="another-signer")])
@pytest.mark.parametrize("where", [pytest.param("url", id="published"), pytest.param("file", id="on-the-controller")])
def test_f29_only_the_pinned_signer_counts(host: Host, tmp_path: Path, signer: str, where: str) -> None:
    for name in ("pinned", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    release = host.release("1.0.0")
    artifact = tmp_path / "artifact"
    artifact.write_bytes(host.publisher.files["/toyd-1.0.0.tar.gz"])
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", str(tmp_path / signer), str(artifact)], check=True)
    signature = tmp_path / "artifact.sig"
    location = host.publisher.publish("toyd-1.0.0.tar.gz.sig", signature.read_bytes())["url"] if where == "url" else str(signature)
    release["signature"] = {"type": "ssh", "key": (tmp_path / "pinned.pub").read_text(), where: {"any": location}}
    if signer == "pinned":
        assert host.run(release)["changed"]
        assert host.shell("/usr/local/bin/toyd --version") == "toyd 1.0.0\n"
    else:
        before = host.state()
        assert f"fleet_services.{SERVICE}.artifact.signature: the artifact is not signed by the pinned key" in host.refusal(release)
        assert host.state().replace("inactive\n", "") == before.replace("inactive\n", "")
        assert host.shell(f"ls {SPOOL}") == ""


@one_host
def test_f60_headers_reach_the_publisher_and_no_output(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    release = host.release("1.0.0", headers={"Private-Token": "s3cret-token"}, proxy="")
    monkeypatch.setenv("ANSIBLE_INJECT_INVOCATION", "true")  # the arguments, as older ansible-core always shows them
    done = lab_hosts.ansible("ansible", *host.call(release, flags=("-vvv",)))
    said = done.stdout + done.stderr
    assert host.publisher.headers[-1]["Private-Token"] == "s3cret-token"
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in said
    assert "s3cret-token" not in said


@one_host
def test_f54_a_program_for_another_machine_is_found_before_the_switch(host: Host) -> None:
    host.run(host.release("1.0.0"))
    before = host.state()
    header = bytearray(64)
    header[:7], header[18] = b"\x7fELF\x02\x01\x01", 183 if host.shell("dpkg --print-architecture") == "amd64\n" else 62
    said = host.refusal(host.release("1.0.1", packed({"toyd": bytes(header)})))
    assert "toyd 1.0.1 cannot run on this host" in said
    assert host.shell(f"ls -A {HOME}/releases; readlink {HOME}/current") == "1.0.0\nreleases/1.0.0\n"
    assert [line for line in before.splitlines() if "/bin/" in line] == [line for line in host.state().splitlines() if "/bin/" in line]


@both_hosts
def test_f31_killed_in_the_middle_then_run_again(host: Host) -> None:
    host.run(host.release("1.0.0"))
    newer = host.release("1.0.1", packed({"toyd": program("1.0.1"), "ballast": os.urandom(4 << 20)}))
    size = len(host.publisher.files["/toyd-1.0.1.tar.gz"])
    host.publisher.stall = True
    host.publisher.stalled.clear()
    host.publisher.released.clear()
    with lab_hosts.start_ansible("ansible", *host.call(newer)) as process:
        assert host.publisher.stalled.wait(60)
        # What is in flight may still be on its way to the disk.
        host.shell(f"until [ $(stat -c %s {SPOOL}/*.part) -gt {size // 4} ]; do :; done")
        assert "killed" in host.shell(f"python3 -c {shlex.quote(KILL_OUR_RUN)}")
        host.publisher.released.set()
        process.communicate(timeout=60)
    host.publisher.stall = False
    assert host.shell("/usr/local/bin/toyd --version") == "toyd 1.0.0\n"
    assert host.run(newer)["changed"]
    assert host.shell("/usr/local/bin/toyd --version") == "toyd 1.0.1\n"
    assert host.publisher.requests[-1][1] > 0, "the download was resumed, not begun again"
    assert not host.run(newer)["changed"]
    assert host.shell(f"ls -A {SPOOL} {HOME}/releases") == f"{HOME}/releases:\n1.0.0\n1.0.1\n\n{SPOOL}:\n.lock\n"


@one_host
@pytest.mark.parametrize("full", [pytest.param("spool", id="to-download"), pytest.param("root", id="to-unpack")])
def test_f57_a_small_disk_is_named_before_anything_is_written(host: Host, full: str) -> None:
    host.shell(f"mkdir -p {SMALL}; mount -t tmpfs -o size={SMALL_DISK_BYTES} tmpfs {SMALL}")
    ballast = os.urandom(8 << 20) if full == "spool" else bytes(8 << 20)
    release = host.release("1.0.0", packed({"toyd": program("1.0.0"), "ballast": ballast}))
    if full == "spool":
        said = host.refusal(release, spool=f"{SMALL}/spool")
        assert "are needed to download" in said
    else:
        said = host.refusal({**release, "root": f"{SMALL}/opt"})
        assert f"are needed to unpack {SERVICE} 1.0.0" in said
    needed, free = (int(part.split(" bytes")[0].rsplit(" ", 1)[-1]) for part in said.split(" are needed")[0:1] + said.split(", ")[-1:])
    assert needed > (8 << 20)
    assert 0 < free <= SMALL_DISK_BYTES
    assert host.shell(f"find {SMALL} -type f ! -name .lock") == ""
    assert host.shell("ls /usr/local/bin").count("toyd") == 0
