# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on real hosts: the lab's anchor1 (Debian 12, root) and home1 (Debian 13, through sudo).

usage: pytest tests/integration/test_releases.py, while the lab is up (tests/lab/lab up).
A publisher of its own runs on this machine; on the hosts everything carries the name of a toy service and goes afterwards.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shlex
import socket
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab_hosts
import pytest
from publishers import Proxy, Publisher, certify, running

MODULE = "hearth.fleet.releases"
SERVICE = "toy-release"
HOME = f"/opt/{SERVICE}"
SPOOL = f"/var/cache/{SERVICE}"
SMALL = f"/mnt/{SERVICE}"
WITNESS = f"/tmp/{SERVICE}-ran"  # anybody may write there, so that a program leaves it whoever runs it
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


def program(version: str, first: str = "") -> bytes:
    return f'#!/bin/sh\n{first}\nif [ "$1" = --version ]; then echo "toyd {version}"; exit; fi\nexec sleep infinity\n'.encode()


def packed(files: dict[str, bytes], mode: int = 0o755) -> bytes:
    """Return a tar.gz archive of executable files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


WATCHED = program("1.0.0", f">{WITNESS}")


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

    def one_of_many(self, name: str, content: bytes, *moods: str, file: str = "toyd", **changes: Any) -> dict[str, Any]:
        """Return a release that others do not disturb, published below its own name."""
        return {
            **self.release("1.0.0"),
            "service": f"{SERVICE}-{name}",
            "root": f"{HOME}/{name}",
            "artifacts": {"any": self.publisher.publish(f"{name}/{file}", content, *moods)},
            "linked": False,
            "timeout": 6,
            **changes,
        }

    def installed(self) -> set[str]:
        """Return the names of the releases that are current, of those that ``one_of_many`` describes."""
        return set(self.shell(f"cd {HOME} 2>/dev/null && ls -d */current/bin/toyd | cut -d/ -f1 || true").split())

    def left_behind(self) -> str:
        """Return all files that installing has left on the host."""
        return self.shell(f"find {HOME} {SPOOL} {WITNESS} ! -type d ! -name .lock 2>/dev/null || true")

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
            f"if mountpoint -q {SMALL}; then umount {SMALL}; fi; rm -rf {HOME} {SPOOL} {SMALL} {WITNESS}"
        )


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    ipv4, _ipv6 = lab_hosts.controller_addresses("anchor1")
    server = Publisher(ipv4)
    with running(server):
        yield server
        server.released.set()


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


def signed(kind: str, signer: str, content: bytes, directory: Path) -> bytes:
    """Return a signature by a signer whose keys ``make_keys`` made."""
    artifact, signature = directory / "artifact", directory / "signature"
    artifact.write_bytes(content)
    signature.unlink(missing_ok=True)
    if kind == "ssh":
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", str(directory / signer)]
        return subprocess.run(command, input=content, capture_output=True, check=True).stdout
    command = ["minisign", "-S", "-H", "-s", str(directory / signer), "-m", str(artifact), "-x", str(signature), "-t", "release 1.0.0"]
    subprocess.run(command, capture_output=True, check=True)
    return signature.read_bytes()


def make_keys(kind: str, signer: str, directory: Path) -> str:
    """Make a signer's keys with the real tool, and return the public one."""
    private, public = directory / signer, directory / f"{signer}.pub"
    if kind == "ssh":
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(private)], check=True)
    else:
        subprocess.run(["minisign", "-G", "-f", "-W", "-s", str(private), "-p", str(public)], check=True, capture_output=True)
    return public.read_text()


KINDS = [pytest.param("ssh", id="ssh"), pytest.param("minisign", id="minisign")]


@one_host
@pytest.mark.parametrize("kind", KINDS)
def test_f29_only_the_pinned_signer_counts(host: Host, tmp_path: Path, kind: str) -> None:
    ending = {"ssh": "sig", "minisign": "minisig"}[kind]
    key, content = make_keys(kind, "pinned", tmp_path), WATCHED
    make_keys(kind, "other", tmp_path)
    good = signed(kind, "pinned", content, tmp_path)
    changed = content + b"# changed\n"
    # Who may publish what he likes, digest included, but has not the signer's key.
    refused = {
        "by-another": (content, signed(kind, "other", content, tmp_path)),
        "of-another-artifact": (changed, good),
        "that-is-a-web-page": (content, b"<html>\xe2\x80\xa6</html>"),
        "cut-off": (content, good[: len(good) // 2]),
        "empty": (content, b""),
        "missing": (content, None),
    }
    releases = {}
    for name, (artifact, signature) in refused.items():
        releases[name] = host.one_of_many(name, artifact, signature={"type": kind, "key": key})
        if signature is not None:
            host.publisher.publish(f"{name}/toyd.{ending}", signature)
    on_the_controller = tmp_path / "on-the-controller"
    on_the_controller.write_bytes(signed(kind, "other", content, tmp_path))
    releases["by-another-on-the-controller"] = host.one_of_many(
        "by-another-on-the-controller", content, signature={"type": kind, "key": key, "file": {"any": str(on_the_controller)}}
    )
    said = host.refusal(*releases.values())
    assert f"{len(releases)} releases are refused; none was put in its place" in said
    for name in releases:
        assert f"fleet_services.{SERVICE}-{name}.artifact.signature: " in said
    assert f"/missing/toyd.{ending}: HTTP 404" in said
    assert host.left_behind() == "", "nothing was placed, and no program has run"

    trusted = tmp_path / "trusted"
    trusted.write_bytes(good)
    beside = host.one_of_many("beside", content, signature={"type": kind, "key": key})
    host.publisher.publish(f"beside/toyd.{ending}", good)
    from_controller = host.one_of_many("from-controller", content, signature={"type": kind, "key": key, "file": {"any": str(trusted)}})
    assert host.run(beside, from_controller)["changed"]
    assert host.installed() == {"beside", "from-controller"}
    assert host.shell(f"ls {WITNESS}")


@one_host
def test_f29_a_host_that_cannot_check_signatures_says_what_it_lacks(host: Host, tmp_path: Path) -> None:
    releases = []
    for kind, ending in (("ssh", "sig"), ("minisign", "minisig")):
        releases.append(host.one_of_many(kind, WATCHED, signature={"type": kind, "key": make_keys(kind, kind, tmp_path)}))
        host.publisher.publish(f"{kind}/toyd.{ending}", signed(kind, kind, WATCHED, tmp_path))
    tools = ("/usr/bin/ssh-keygen", "/usr/bin/openssl")
    host.shell("\n".join(f"mv {tool} {tool}.away" for tool in tools))
    try:
        said = host.refusal(*releases)
    finally:
        host.shell("\n".join(f"mv {tool}.away {tool}" for tool in tools))
    assert "the host has no ssh-keygen to check the signature with: apt install openssh-client" in said
    assert "the host has no openssl to check the signature with: apt install openssl" in said
    assert host.left_behind() == ""


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=content, capture_output=True, check=True).stdout


@one_host
def test_each_format_by_its_name_alone(host: Host) -> None:
    content = WATCHED
    tar = gzip.decompress(packed({"toyd-1.0.0/toyd": content}, mode=0o6777))
    artifacts = {
        "toyd-linux-any": content,
        "toyd-linux-any.gz": gzip.compress(content),
        "toyd-linux-any.xz": lzma.compress(content),
        "toyd-linux-any.bz2": bz2.compress(content),
        "toyd-linux-any.zst": zstd(content),
        "toyd.tar": tar,
        "toyd.tar.gz": gzip.compress(tar),
        "toyd.tar.xz": lzma.compress(tar),
        "toyd.tar.bz2": bz2.compress(tar),
        "toyd.tar.zst": zstd(tar),
        "toyd.zip": zipped({"toyd-1.0.0/toyd": content}),
    }
    names = {f"format-{number}": file for number, file in enumerate(artifacts)}
    host.run(*(host.one_of_many(name, artifacts[file], file=file) for name, file in names.items()))
    programs = host.shell(f"stat -L -c '%a %U %s %n' {HOME}/*/current/bin/toyd").splitlines()
    assert sorted(programs) == sorted(f"755 root {len(content)} {HOME}/{name}/current/bin/toyd" for name in names)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o755
    return info


def hostile(*members: tarfile.TarInfo) -> bytes:
    """Return a tar.gz archive with a good program and, after it, other members; files are empty, whatever size they declare."""
    good = declaring(len(WATCHED), "toyd")
    blocks = [good.tobuf(tarfile.GNU_FORMAT), WATCHED.ljust(tarfile.BLOCKSIZE, b"\0"), *(one.tobuf(tarfile.GNU_FORMAT) for one in members)]
    return gzip.compress(b"".join(blocks) + bytes(2 * tarfile.BLOCKSIZE))


def declaring(size_bytes: int, name: str = "ballast") -> tarfile.TarInfo:
    info = member(name)
    info.size = size_bytes
    return info


UPWARDS = "../" * 12 + WITNESS.lstrip("/")
HOSTILE = {
    "absolute": (hostile(member(WITNESS)), f"the archive's member '{WITNESS}' has an unsafe path"),
    "upwards": (hostile(member(UPWARDS)), f"the archive's member '{UPWARDS}' has an unsafe path"),
    "link-out": (hostile(member("x", tarfile.SYMTYPE, "../../../../../etc")), "the archive's link x -> ../../../../../etc leads out of the release"),
    "link-to-root": (hostile(member("x", tarfile.SYMTYPE, "/etc/shadow")), "the archive's link x -> /etc/shadow leads out of the release"),
    "through-a-link": (hostile(member("x", tarfile.SYMTYPE, "."), member("x/y")), "the archive's member x/y lies below x, which is a link"),
    "hard-link-out": (hostile(member("x", tarfile.LNKTYPE, "/etc/shadow")), "the archive's member '/etc/shadow' has an unsafe path"),
    "device": (hostile(member("x", tarfile.BLKTYPE)), "the archive's member x is no file, directory or link"),
    "pipe": (hostile(member("x", tarfile.FIFOTYPE)), "the archive's member x is no file, directory or link"),
    "twice": (hostile(member("toyd")), "the archive holds toyd twice"),
    "own-manifest": (hostile(member(".release.json", tarfile.SYMTYPE, "toyd")), "the archive has a .release.json of its own"),
    "huge": (hostile(declaring(1 << 50)), f"{(1 << 50) + len(WATCHED) + (4 << 20)} bytes (1024.0 TiB) are needed to unpack"),
    "cut": (hostile()[:-20], "it is no readable tar.gz archive ("),
    "not-it": (b"<html>Sign in</html>", "it is no readable tar.gz archive (not a gzip file; it begins with 3c 68 74 6d 6c 3e 53 69)"),
    "without-it": (packed({"other": WATCHED}), "the archive has no toyd, which should be the binary toyd; it holds\n    other"),
}


@one_host
def test_hostile_archives_leave_nothing(host: Host) -> None:
    releases = [host.one_of_many(name, content, file="toyd.tar.gz") for name, (content, _said) in HOSTILE.items()]
    host.shell(f"mkdir -p {SMALL}; mount -t tmpfs -o size={SMALL_DISK_BYTES} tmpfs {SMALL}")
    bomb = bytes(64 << 20)
    bombs = {"bomb.tar.gz": packed({"toyd": bomb}), "bomb.zip": zipped({"toyd": bomb}), "bomb.gz": gzip.compress(bomb), "bomb.zst": zstd(bomb)}
    releases += [host.one_of_many(file, content, file=file, root=f"{SMALL}/{file}") for file, content in bombs.items()]
    said = host.refusal(*releases)
    assert f"{len(releases)} releases are refused" in said
    for name, (_content, message) in HOSTILE.items():
        subject = f"{HOME}/huge/releases" if name == "huge" else f"fleet_services.{SERVICE}-{name}.artifact"
        assert f"{subject}: {message}" in said
    for file in bombs:
        assert f"are needed to unpack {SERVICE}-{file} 1.0.0" in said
    assert host.shell(f"find {HOME} {SMALL} {WITNESS} ! -type d 2>/dev/null || true") == ""


@one_host
def test_a_rough_network_ends_in_the_right_release_or_a_clear_word(host: Host) -> None:

    def content(name: str) -> bytes:
        return WATCHED + name.encode() * 1000

    mirror = Publisher(host.publisher.server_address[0])
    elsewhere = mirror.publish("elsewhere", content("moved"))["url"]
    fine = {
        "cut": ["cut"],
        "busy": ["503"],
        "cut-where-nothing-can-be-resumed": ["cut", "no-ranges"],
        "announced-too-long": ["longer"],
        "announced-in-words": ["garbled"],
        "moved": [f"to {elsewhere}"],
    }
    bad = {
        "announced-too-short": (["shorter"], "the artifact has another digest"),
        "always-busy": (["503"] * 2, "/always-busy/toyd: HTTP 503 Service Unavailable (2 tries brought nothing)"),
        "moved-to-a-file": (["to file:///etc/passwd"], "/moved-to-a-file/toyd: redirects to file:///etc/passwd, which is not http or https"),
        "trickle": (["trickle"], "bytes so far (not done within 2 s; "),
    }
    said = host.refusal(
        *(host.one_of_many(name, content(name), *moods, timeout=2 if name == "trickle" else 6) for name, (moods, _said) in bad.items())
    )
    for _moods, message in bad.values():
        assert message in said
    assert host.left_behind().strip().endswith(".part"), "all that stays is what a rerun goes on with"

    publisher = host.publisher
    publisher.requests.clear()
    publisher.headers.clear()
    with running(mirror):
        host.run(*(host.one_of_many(name, content(name), *moods, headers={"Authorization": f"Bearer {name}"}) for name, moods in fine.items()))
    assert host.installed() == set(fine)
    starts = {name: [start for path, start in publisher.requests if path == f"/{name}/toyd"] for name in fine}
    assert starts["cut"] == [0, len(content("cut")) // 2]
    assert starts["announced-too-long"] == [0], "the digest says that all has arrived"
    assert {headers["Authorization"] for headers in publisher.headers} == {f"Bearer {name}" for name in fine}
    assert ["Authorization" in headers for headers in mirror.headers] == [False]


NAMED = "publisher.test"


@pytest.fixture
def proxy(publisher: Publisher) -> Iterator[Proxy]:
    """Return a proxy that alone knows where the publisher's name leads."""
    server = Proxy(publisher.server_address[0])
    server.places[NAMED] = publisher.server_address
    with running(server):
        yield server


@pytest.fixture
def secure(proxy: Proxy, tmp_path: Path) -> Iterator[Publisher]:
    """Return a publisher that speaks HTTPS, with a certificate of an authority of its own."""
    server = Publisher(proxy.server_address[0])
    certify(server, NAMED, tmp_path)
    proxy.places[f"{NAMED}:443"] = server.server_address
    with running(server):
        yield server


@pytest.fixture
def trusted(host: Host, secure: Publisher, tmp_path: Path) -> Iterator[Path]:
    """Let the host trust the publisher's authority, and return that authority's certificate."""
    certificate = tmp_path / "authority.crt"
    place = f"/usr/local/share/ca-certificates/{SERVICE}.crt"
    host.shell(f"printf %s {shlex.quote(certificate.read_text())} >{place}; update-ca-certificates >&2")
    yield certificate
    host.shell(f"rm {place}; update-ca-certificates >&2")


def closed_port(address: str) -> int:
    """Return a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def named(release: dict[str, Any], scheme: str, name: str = NAMED) -> dict[str, Any]:
    """Return a release whose artifact only the proxy finds."""
    artifact = release["artifacts"]["any"]
    return {**release, "artifacts": {"any": {**artifact, "url": f"{scheme}://{name}/{artifact['url'].split('/', 3)[3]}"}}}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the controller keep what it downloads where the test's files are."""
    monkeypatch.setenv("ANSIBLE_HOME", str(Path("~/.ansible").expanduser()))
    monkeypatch.setenv("HOME", str(tmp_path))


DOWNLOADERS = [pytest.param("target", id="the-host-downloads"), pytest.param("controller", id="the-controller-downloads")]


@one_host
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("via", DOWNLOADERS)
def test_downloads_go_through_the_proxy(
    host: Host, proxy: Proxy, secure: Publisher, trusted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, via: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    address, port = proxy.server_address
    proxy.credentials = "carrier:s3cret-carrier"
    good, wrong = f"http://{proxy.credentials}@{address}:{port}", f"http://carrier:wrong@{address}:{port}"
    nobody = f"http://{address}:{closed_port(address)}"

    def release(name: str, given: str, place: str = NAMED) -> dict[str, Any]:
        content = WATCHED + name.encode()
        secure.publish(f"{name}/toyd", content)
        return named(host.one_of_many(name, content, via=via, proxy=given, retries=0), name.partition("-")[0], place)

    said = host.refusal(
        *(release(f"{scheme}-wrong-password", wrong) for scheme in ("http", "https")),
        *(release(f"{scheme}-down", nobody) for scheme in ("http", "https")),
        release("https-unknown-there", good, "nowhere.test"),
    )
    through = f"through the proxy {address}:{port}"
    for scheme in ("http", "https"):
        assert f"{scheme}://{NAMED}/{scheme}-wrong-password/toyd {through}: HTTP 407 Proxy Authentication Required" in said
        refused = f"no connection through the proxy {nobody.removeprefix('http://')}: [Errno 111] Connection refused"
        assert f"{scheme}://{NAMED}/{scheme}-down/toyd: {refused}" in said
    assert f"no connection {through}: Tunnel connection failed: 502" in said
    assert "s3cret" not in said
    assert host.left_behind() == ""
    proxy.asked.clear()
    host.run(release("http", good), release("https", good))
    assert host.installed() == {"http", "https"}
    assert proxy.asked == [f"GET http://{NAMED}/http/toyd", f"CONNECT {NAMED}:443"]


@one_host
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("via", DOWNLOADERS)
def test_the_proxy_of_the_environment_serves_where_none_is_given(
    host: Host, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, via: str
) -> None:
    address, port = proxy.server_address
    # The proxy does not know the publisher's address, so that only who asks there directly gets an answer.
    environment = {"http_proxy": f"http://{address}:{port}", "no_proxy": f"{address},direct.test"}
    releases = [
        host.one_of_many("direct", WATCHED, via=via),
        named(host.one_of_many("through", WATCHED + b"#", via=via), "http"),
        named(host.one_of_many("given", WATCHED + b"##", via=via, proxy=f"http://{address}:{port}"), "http", "direct.test"),
    ]
    proxy.places["direct.test"] = host.publisher.server_address
    if via == "controller":
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
    task = {MODULE: {"releases": releases, "spool": SPOOL}, "become": True, "environment": environment if via == "target" else {}}
    done = lab_hosts.play(host.name, [task], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.installed() == {"direct", "through", "given"}
    assert proxy.asked == [f"GET http://{NAMED}/through/toyd", "GET http://direct.test/given/toyd"]


@one_host
def test_a_publisher_of_an_unknown_authority_is_not_believed(host: Host, proxy: Proxy, secure: Publisher, tmp_path: Path) -> None:
    address, port = proxy.server_address
    secure.publish("unknown/toyd", WATCHED)
    release = named(host.one_of_many("unknown", WATCHED, proxy=f"http://{address}:{port}"), "https")
    said = host.refusal(release)
    assert f"https://{NAMED}/unknown/toyd through the proxy {address}:{port}: its certificate is not trusted (unable to get local issuer" in said
    assert "add the publisher's authority" in said
    assert host.left_behind() == ""


@one_host
def test_f60_credentials_reach_the_publisher_and_the_proxy_and_no_output(host: Host, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    address, port = proxy.server_address
    proxy.credentials = "carrier:s3cret-carrier"
    proxy.places[f"{address}:{host.publisher.server_port}"] = host.publisher.server_address
    release = host.release("1.0.0", headers={"Private-Token": "s3cret-token"}, proxy=f"http://{proxy.credentials}@{address}:{port}")
    missing = {
        **release,
        "retries": 0,
        "service": "toy-missing",
        "artifacts": {"any": {**release["artifacts"]["amd64"], "url": f"http://{address}:{port}/missing"}},
    }
    monkeypatch.setenv("ANSIBLE_INJECT_INVOCATION", "true")  # the arguments, as older ansible-core always shows them
    said = ""
    for releases in ([release], [missing]):
        done = lab_hosts.ansible("ansible", *host.call(*releases, flags=("-vvv",)), check=False)
        said += done.stdout + done.stderr
    assert f"HTTP 502 Bad Gateway through the proxy {address}:{port} (1 tries brought nothing)" in said
    assert host.publisher.headers[-1]["Private-Token"] == "s3cret-token"
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in said
    assert "s3cret" not in said


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
