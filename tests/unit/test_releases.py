# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on a host: what is observed, what differs, and that applying it leaves nothing to do."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import artifacts, release_review, releases, staging
from ansible_collections.hearth.fleet.plugins.module_utils.elf import complaint, host_architecture
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

UNIT = "toyd.service"


def elf_header(machine: int, flags: int = 0, bits: int = 2) -> bytes:
    """Return the header of an ELF program: 64 bytes, as much as anyone here reads."""
    header = bytearray(64)
    header[:7] = b"\x7fELF" + bytes([bits, 1, 1])
    header[18:20] = machine.to_bytes(2, "little")
    header[36:40] = flags.to_bytes(4, "little")
    return bytes(header)


class Host:
    """A host below a temporary directory, with a publisher of releases of one toy daemon."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "host"
        self.published = directory / "published"
        self.root.mkdir()
        self.published.mkdir()

    def release(self, version: str, content: str = "", **changes: Any) -> dict[str, Any]:
        """Publish a version, and return it as the inventory wants it."""
        artifact = self.published / f"toyd-{version}"
        artifact.write_text(content or f"#!/bin/sh\necho toyd {version}\n")
        digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
        return {
            "service": "toyd",
            "version": version,
            "root": "/opt/toyd",
            "artifacts": {"amd64": {"url": f"https://example.org/toyd-{version}", "sha256": digest}},
            "format": "auto",
            "binaries": {"toyd": "toyd"},
            "signature": None,
            "keep": 3,
            "version_command": ["{binary}", "--version"],
            "version_pattern": "",
            "via": "target",
            "headers": {},
            "proxy": "",
            "timeout": 10,
            "retries": 1,
            "unit": UNIT,
            **changes,
        }

    def look(self, release: dict[str, Any], *, running: bool = False) -> dict[str, Any]:
        return releases.look([release], {UNIT} if running else set(), str(self.root), "amd64")

    def diff(self, release: dict[str, Any], *, running: bool = False) -> list[str]:
        return [f"{one} [{one.action}]" for one in releases.diff([release], self.look(release, running=running))]

    def install(self, release: dict[str, Any], *, running: bool = False) -> None:
        observed = self.look(release, running=running)
        seen = observed["services"]["toyd"]
        artifacts = {}
        if not releases.is_installed(release, seen, "amd64"):
            artifacts["toyd"] = self.published / f"toyd-{release['version']}"
        staging.apply([release], observed, artifacts, str(self.root))

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")


@pytest.fixture
def host() -> Iterator[Host]:
    # Not below pytest's own directory, which is closed to nobody; a staged program must be within its reach, as below /opt.
    with tempfile.TemporaryDirectory(prefix="releases-") as directory:
        Path(directory).chmod(0o755)
        yield Host(Path(directory))


def test_a_first_install_is_named_and_the_second_run_is_empty(host: Host) -> None:
    release = host.release("1.0.0")
    assert host.diff(release) == [
        "toyd 1.0.0: not installed [install]",
        "/opt/toyd/current: no release is current [switch]",
        "/usr/local/bin/toyd: link is missing [create]",
    ]
    host.install(release)
    assert host.diff(release) == []
    assert host.path("/opt/toyd/current").readlink() == Path("releases/1.0.0")
    assert host.path("/usr/local/bin/toyd").readlink() == Path("/opt/toyd/current/bin/toyd")
    assert os.access(host.path("/opt/toyd/current/bin/toyd"), os.X_OK)


JAR = b"PK\x03\x04 byte code"


def jar(host: Host, version: str, **changes: Any) -> dict[str, Any]:
    """Publish a version that is one file for a program of the host's."""
    release = host.release(version, name="toy.jar", binaries={}, version_command=[], **changes)
    (host.published / f"toyd-{version}").write_bytes(JAR)
    release["artifacts"]["amd64"]["sha256"] = hashlib.sha256(JAR).hexdigest()
    return release


def test_one_file_that_is_no_program_has_the_same_place_in_every_version(host: Host) -> None:
    release = jar(host, "1.0.0")
    host.install(release)
    assert host.diff(release) == []
    file = host.path("/opt/toyd/current/toy.jar")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (JAR, 0o644)
    assert list(host.path("/usr/local/bin").iterdir()) == []
    overwrite(file)
    assert "toy.jar was modified" in host.diff(release)[0]


def test_one_file_tells_its_version(host: Host) -> None:
    release = jar(host, "1.0.0", version_pattern=r"toy\.jar")
    with pytest.raises(FleetError, match=r"the inventory wants 1\.0\.0, the binary calls itself toy\.jar"):
        host.install({**release, "version_command": ["/bin/ls", "{binary}"]})


def overwrite(path: Path) -> None:
    """Change a file's content but neither its size nor its times."""
    before = path.stat()
    path.write_bytes(b"X" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


MUTATIONS = [
    pytest.param(lambda h: overwrite(h.path("/opt/toyd/current/bin/toyd")), "bin/toyd was modified", id="tampered-with-its-time-kept"),
    pytest.param(lambda h: h.path("/opt/toyd/current/bin/toyd").unlink(), "bin/toyd is missing", id="binary-deleted"),
    pytest.param(lambda h: h.path("/opt/toyd/current/bin/toyd").chmod(0o777), "bin/toyd has mode 0777", id="binary-writable-by-all"),
    pytest.param(lambda h: h.path("/opt/toyd/current/planted").touch(), "planted is not part of the release", id="file-planted"),
    pytest.param(lambda h: h.path("/opt/toyd/current/.release.json").unlink(), "no valid manifest", id="manifest-deleted"),
    pytest.param(lambda h: h.path("/opt/toyd/current/.release.json").write_text("{"), "no valid manifest", id="manifest-torn"),
    pytest.param(lambda h: h.path("/opt/toyd/current").unlink(), "no release is current", id="current-deleted"),
    pytest.param(lambda h: staging.replace_link(h.path("/opt/toyd/current"), "/tmp"), "no release is current", id="current-elsewhere"),
    pytest.param(lambda h: h.path("/usr/local/bin/toyd").unlink(), "link is missing", id="link-deleted"),
    pytest.param(lambda h: staging.replace_link(h.path("/usr/local/bin/toyd"), "/bin/false"), "points to /bin/false", id="link-swapped"),
    pytest.param(
        lambda h: (h.path("/usr/local/bin/toyd").unlink(), h.path("/usr/local/bin/toyd").write_text("mine")),
        "is not a link",
        id="link-replaced-by-a-file",
    ),
    pytest.param(lambda h: h.path("/usr/local/bin/toyctl").symlink_to("/opt/toyd/current/bin/toyctl"), "earlier description", id="stale-link"),
    pytest.param(lambda h: h.path("/opt/toyd").chmod(0o700), "/opt/toyd: has mode 0700", id="root-closed"),
    pytest.param(lambda h: h.path("/opt/toyd/releases/.stage-1.0.1-abc").mkdir(), "interrupted installation", id="left-over"),
    pytest.param(lambda h: h.path("/opt/toyd/releases/0.9").mkdir(), "is not a complete release", id="incomplete-release"),
    pytest.param(lambda h: shutil.rmtree(h.path("/opt/toyd")), "not installed", id="all-deleted"),
]


@pytest.mark.parametrize(("mutate", "said"), MUTATIONS)
@pytest.mark.parametrize("running", [pytest.param(False, id="stopped"), pytest.param(True, id="running")])
def test_every_mutation_is_observed_named_and_repaired(host: Host, mutate: Callable[[Host], Any], said: str, running: bool) -> None:
    release = host.release("1.0.0")
    host.install(release)
    mutate(host)
    assert any(said in one for one in host.diff(release, running=running)), host.diff(release, running=running)
    host.install(release, running=running)
    assert host.diff(release, running=running) == []
    assert host.path("/opt/toyd/current/bin/toyd").read_text() == "#!/bin/sh\necho toyd 1.0.0\n"


@pytest.mark.parametrize(("mutate", "_said"), MUTATIONS)
def test_expected_is_what_applying_brings(host: Host, mutate: Callable[[Host], Any], _said: str) -> None:
    for version in ("0.7.0", "0.8.0", "0.9.0", "1.0.0"):
        release = host.release(version)
        host.install(release)
    mutate(host)
    observed = host.look(release)
    foretold = release_review.expected([release], observed)
    assert releases.diff([release], foretold) == []
    host.install(release)
    found = host.look(release)
    assert release_review.state_lines("toyd", foretold["services"]["toyd"]) == release_review.state_lines("toyd", found["services"]["toyd"])


def test_a_file_in_the_place_of_a_link_is_kept_beside_it(host: Host) -> None:
    host.path("/usr/local/bin").mkdir(parents=True)
    host.path("/usr/local/bin/toyd").write_text("an operator's own")
    host.install(host.release("1.0.0"))
    assert host.path("/usr/local/bin/toyd.old").read_text() == "an operator's own"


def test_f30_the_same_version_from_another_artifact_is_installed_again(host: Host) -> None:
    host.install(host.release("1.0.0"))
    rebuilt = host.release("1.0.0", "#!/bin/sh\necho toyd 1.0.0 # rebuilt\n")
    assert [one for one in host.diff(rebuilt) if "another artifact" in one]
    host.install(rebuilt)
    assert host.diff(rebuilt) == []
    assert "rebuilt" in host.path("/opt/toyd/current/bin/toyd").read_text()


def test_the_release_of_a_stopped_service_is_switched(host: Host) -> None:
    host.install(host.release("1.0.0"))
    newer = host.release("1.0.1")
    host.install(newer)
    assert host.diff(newer) == []
    assert (host.path("/opt/toyd/current").readlink(), host.path("/opt/toyd/previous").readlink()) == (
        Path("releases/1.0.1"),
        Path("releases/1.0.0"),
    )


def test_a_running_service_keeps_its_release_and_the_switch_is_pending(host: Host) -> None:
    host.install(host.release("1.0.0"), running=True)
    newer = host.release("1.0.1")
    assert host.diff(newer, running=True) == ["toyd 1.0.1: not installed [stage]"]
    host.install(newer, running=True)
    assert host.diff(newer, running=True) == []
    assert host.path("/opt/toyd/current").readlink() == Path("releases/1.0.0")
    (pending,) = releases.pending_release([newer], host.look(newer, running=True))
    assert (str(pending), pending.action) == ("toyd 1.0.1: 1.0.0 runs; 1.0.1 is staged, the switch is the rollout's", "stage")


def test_a_running_service_whose_current_is_gone_gets_the_release_it_was_started_from(host: Host) -> None:
    host.install(host.release("1.0.0"))
    newer = host.release("1.0.1")
    host.install(newer, running=True)
    host.path("/opt/toyd/current").unlink()
    host.path("/run/hearth").mkdir(parents=True)
    host.path("/run/hearth/toyd.started").write_text("release /opt/toyd/releases/1.0.0\n")
    assert host.diff(newer, running=True) == ["/opt/toyd/current: no release is current, but 1.0.0 runs [switch]"]
    host.install(newer, running=True)
    assert host.path("/opt/toyd/current").readlink() == Path("releases/1.0.0")


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        pytest.param(1, {"1.0.3", "1.0.4"}, id="the-previous-stays-even-then"),
        pytest.param(3, {"1.0.2", "1.0.3", "1.0.4"}, id="three"),
        pytest.param(9, {"1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4"}, id="more-than-there-are"),
    ],
)
def test_old_releases_beyond_keep_go(host: Host, keep: int, kept: set[str]) -> None:
    for patch in range(5):
        newest = host.release(f"1.0.{patch}", keep=keep)
        host.install(newest)
        assert host.diff(newest) == []
    assert {path.name for path in host.path("/opt/toyd/releases").iterdir()} == kept


def test_what_runs_stays_however_old(host: Host) -> None:
    for patch in range(5):
        newest = host.release(f"1.0.{patch}", keep=1)
        host.install(newest, running=True)
    assert host.path("/opt/toyd/current").readlink() == Path("releases/1.0.0")
    assert {path.name for path in host.path("/opt/toyd/releases").iterdir()} == {"1.0.0", "1.0.4"}


def test_no_digest_for_the_host_says_what_to_add(host: Host) -> None:
    release = host.release("1.0.0")
    with pytest.raises(FleetError) as error:
        releases.diff([release], releases.look([release], set(), str(host.root), "arm64"))
    assert str(error.value) == (
        "fleet_services.toyd.artifact.sha256: no digest for arm64, which this host needs (found: amd64)\n"
        "  → add sha256.arm64, or take the host out of the placement of toyd"
    )


def test_an_artifact_for_any_architecture_serves_all(host: Host) -> None:
    release = host.release("1.0.0")
    release["artifacts"] = {"any": release["artifacts"]["amd64"]}
    host.install(release)
    assert host.diff(release) == []


def test_the_version_is_asked_of_the_staged_binary_also_where_it_is_called_by_its_name(host: Host) -> None:
    command = {"version_command": ["toyd", "--version"]}
    host.install(host.release("1.0.0", **command))
    host.install(host.release("1.0.1", **command))
    assert host.path("/opt/toyd/current").readlink() == Path("releases/1.0.1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("#!/bin/sh\necho toyd 9.9\n", "wants 1.0.0, the binary calls itself otherwise; it said: toyd 9.9", id="another-version"),
        pytest.param("#!/bin/sh\necho toyd 1.0.01\n", "calls itself otherwise", id="a-version-that-only-begins-so"),
        pytest.param("#!/bin/sh\necho broken; exit 3\n", "ended with 3; it said: broken", id="fails"),
        pytest.param("#!/no/such/interpreter\n", "cannot be run: its interpreter is not there", id="no-interpreter"),
        pytest.param("just text", "neither an ELF program nor a script", id="no-program"),
    ],
)
def test_a_bad_program_leaves_the_host_as_it_was(host: Host, content: str, said: str) -> None:
    good = host.release("0.9.0")
    host.install(good)
    before = sorted(path for path in host.root.rglob("*"))
    with pytest.raises(FleetError, match=said):
        host.install(host.release("1.0.0", content))
    assert sorted(path for path in host.root.rglob("*")) == before
    assert host.diff(good) == []


def test_one_bad_release_keeps_the_good_ones_of_the_call_from_being_installed(host: Host) -> None:
    good, bad = host.release("1.0.0"), host.release("2.0.0", "text", service="other", root="/opt/other", binaries={"other": "other"})
    observed = releases.look([good, bad], set(), str(host.root), "amd64")
    artifacts = {"toyd": host.published / "toyd-1.0.0", "other": host.published / "toyd-2.0.0"}
    with pytest.raises(FleetError):
        staging.apply([good, bad], observed, artifacts, str(host.root))
    assert list(host.path("/opt/toyd/releases").iterdir()) == []


def test_f29_all_bad_releases_of_a_call_are_said_at_once(host: Host) -> None:
    good, text = host.release("1.0.0"), host.release("2.0.0", "text", service="other", root="/opt/other", binaries={"other": "other"})
    lies = host.release("3.0.0", "#!/bin/sh\necho 9.9\n", service="liar", root="/opt/liar", binaries={"liar": "liar"}, version_command=["{binary}"])
    observed = releases.look([good, text, lies], set(), str(host.root), "amd64")
    artifacts = {"toyd": host.published / "toyd-1.0.0", "other": host.published / "toyd-2.0.0", "liar": host.published / "toyd-3.0.0"}
    with pytest.raises(FleetError) as caught:
        staging.apply([good, text, lies], observed, artifacts, str(host.root), refused=[FleetError("fleet_services.far.artifact: no connection")])
    heading, *said = str(caught.value).splitlines()
    assert heading == "3 releases are refused; none was put in its place:"
    assert [line.partition(": ")[0] for line in said if not line.startswith("  ")] == [
        "fleet_services.far.artifact",
        "fleet_services.other.artifact",
        "fleet_services.liar.version",
    ]
    assert [list(host.path(f"/opt/{name}/releases").iterdir()) for name in ("toyd", "other", "liar")] == [[], [], []]


def test_one_refusal_that_came_before_keeps_everything_as_it_was(host: Host) -> None:
    good = host.release("1.0.0")
    observed = releases.look([good], set(), str(host.root), "amd64")
    with pytest.raises(FleetError, match=r"^no connection$"):
        staging.apply([good], observed, {"toyd": host.published / "toyd-1.0.0"}, str(host.root), refused=[FleetError("no connection")])
    assert list(host.path("/opt/toyd/releases").iterdir()) == []


def test_all_missing_digests_are_said_at_once(host: Host) -> None:
    wanted = [host.release("1.0.0", service=name) for name in ("toyd", "other")]
    with pytest.raises(
        FleetError, match=r"(?s)2 releases are refused.*services\.toyd\.artifact\.sha256: .*services\.other\.artifact\.sha256: no digest for s390x"
    ):
        releases.want_digests(wanted, "s390x")
    releases.want_digests(wanted, "amd64")


def test_f54_a_program_for_another_machine_is_found_before_the_switch(host: Host) -> None:
    release = host.release("1.0.0")
    (host.published / "toyd-1.0.0").write_bytes(elf_header(183))
    with pytest.raises(FleetError, match=r"toyd 1\.0\.0 cannot run on this host \(amd64\): it is built for arm64"):
        host.install(release)
    assert not host.path("/opt/toyd/current").exists()


@pytest.mark.parametrize("moment", [pytest.param(name, id=name) for name in ("put_in_place", "switch", "_link_binaries", "_remove")])
def test_f31_a_run_cut_off_at_any_moment_is_finished_by_the_next(host: Host, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    for version in ("0.8.0", "0.9.0"):
        host.install(host.release(version, keep=2))
    release = host.release("1.0.0", keep=2)

    def cut(*_arguments: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(staging, moment, cut)
        patch.setattr(staging.shutil, "rmtree", lambda *_a, **_k: None)  # the dead clean nothing up
        with pytest.raises(KeyboardInterrupt):
            host.install(release)
    assert releases.read_version(host.path("/opt/toyd/current")) in ("0.9.0", "1.0.0")
    assert host.diff(release) != []
    host.install(release)
    assert host.diff(release) == []


@pytest.mark.parametrize("exchanges", [pytest.param(True, id="exchange"), pytest.param(False, id="two-renames")])
def test_an_altered_release_is_replaced_whole(host: Host, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    release = host.release("1.0.0")
    host.install(release)
    overwrite(host.path("/opt/toyd/current/bin/toyd"))
    if not exchanges:
        monkeypatch.setattr(staging, "_exchange", lambda *_directories: False)
    host.install(release, running=True)
    assert host.diff(release, running=True) == []
    assert [path.name for path in host.path("/opt/toyd/releases").iterdir()] == ["1.0.0"]


def test_f57_too_little_space_names_needed_and_free_bytes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.hearth.fleet.plugins.module_utils.free_space.free_bytes", lambda _path: 1000)
    with pytest.raises(FleetError, match=r"\d+ bytes \(4\.0 MiB\) are needed for toyd 1\.0\.0, 1000 bytes \(1000 B\) are free"):
        host.install(host.release("1.0.0"))
    assert list(host.path("/opt/toyd/releases").iterdir()) == []


@pytest.mark.parametrize(
    ("said", "pattern", "found"),
    [
        pytest.param("nats-server: v2.10.22", "", "2.10.22", id="with-a-v"),
        pytest.param("toyd 2.10.22-rc1", "", "", id="a-candidate-is-another-version"),
        pytest.param("toyd 12.10.22", "", "", id="only-its-end"),
        pytest.param("version: 2.10.22.", "", "2.10.22", id="end-of-a-sentence"),
        pytest.param("toyd (build 7) 2.10.21", r"\) (\S+)", "2.10.21", id="first-group"),
        pytest.param("toyd 2.10.21", r"[\d.]+", "2.10.21", id="whole-match"),
        pytest.param("toyd", r"[\d.]+", "", id="no-match"),
    ],
)
def test_version_in(said: str, pattern: str, found: str) -> None:
    assert staging.version_in(said, pattern, "2.10.22") == found


@pytest.mark.parametrize(
    ("header", "arch", "said"),
    [
        pytest.param(elf_header(62), "amd64", "", id="amd64"),
        pytest.param(elf_header(62), "arm64", "it is built for amd64", id="amd64-on-arm64"),
        pytest.param(elf_header(40, bits=1), "armhf", "", id="arm-on-armhf"),
        pytest.param(elf_header(40, bits=1), "arm64", "it is built for arm", id="arm-on-arm64"),
        pytest.param(b"#!/bin/sh\n", "riscv64", "", id="script"),
        pytest.param(b"MZ\x90", "amd64", "it is a Windows program", id="windows"),
        pytest.param(b"\xcf\xfa\xed\xfe", "amd64", "it is a macOS program", id="macos"),
        pytest.param(b"\x1f\x8b\x08", "amd64", "it is a gzip archive", id="gzip"),
        pytest.param(b"", "amd64", "it is neither an ELF program nor a script", id="empty"),
    ],
)
def test_complaint(header: bytes, arch: str, said: str) -> None:
    assert complaint(header, arch) == said


@pytest.mark.parametrize(
    ("header", "arch"),
    [
        pytest.param(elf_header(62), "amd64", id="amd64"),
        pytest.param(elf_header(183), "arm64", id="arm64"),
        pytest.param(elf_header(40, 0x5000400, bits=1), "armhf", id="armhf"),
        pytest.param(elf_header(40, 0x5000200, bits=1), "armel", id="armel"),
        pytest.param(None, "", id="no-dpkg"),
    ],
)
def test_the_architecture_is_dpkgs_own(tmp_path: Path, header: bytes | None, arch: str) -> None:
    if header:
        (tmp_path / "usr/bin").mkdir(parents=True)
        (tmp_path / "usr/bin/dpkg").write_bytes(header)
    assert host_architecture(str(tmp_path)) == arch


def test_running_units() -> None:
    shown = "Id=a.service\nActiveState=active\n\nId=b.service\nActiveState=inactive\n\nId=c.service\nActiveState=activating\n"
    assert releases.running_units(shown) == {"a.service", "c.service"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("https://example.org/a.tar.gz", "https://example.org/a.tar.gz", id="plain"),
        pytest.param("https://me:secret@example.org/a", "https://example.org/a", id="credentials"),
        pytest.param("https://example.org/a?token=secret@x", "https://example.org/a?...", id="query"),
    ],
)
def test_f60_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert artifacts.public_url(url) == shown


def test_check_mode_says_what_will_be_downloaded(host: Host) -> None:
    release = host.release("1.0.0")
    digest = release["artifacts"]["amd64"]["sha256"]
    assert release_review.intentions([release], host.look(release))[0] == (
        f"toyd 1.0.0: will be downloaded from https://example.org/toyd-1.0.0 (sha256 {digest})"
    )


def packed(host: Host, files: dict[str, str]) -> dict[str, Any]:
    """Publish an archive of executable files, and return it as the inventory wants it."""
    release = host.release("1.0.0", format="tar.gz")
    path = host.published / "toyd-1.0.0"
    with tarfile.open(path, "w:gz") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            opened.addfile(member, io.BytesIO(content.encode()))
    release["artifacts"]["amd64"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return release


def test_an_archive_is_installed_without_the_directory_that_it_was_packed_in(host: Host) -> None:
    """So that the path of what a daemon brings along is the same in each version."""
    program = "#!/bin/sh\necho toyd 1.0.0\n"
    release = packed(host, {"toyd-1.0.0/sbin/toyd": program, "toyd-1.0.0/toyd-1.0.0": "named like its directory", "toyd-1.0.0/share/page": "x"})
    host.install(release)
    assert host.diff(release) == []
    current = host.path("/opt/toyd/current")
    assert sorted(os.listdir(current.resolve())) == [".release.json", "bin", "sbin", "share", "toyd-1.0.0"]
    assert (current / "share/page").read_text() == "x"
    assert os.listdir(current.parent / "releases") == ["1.0.0"]


def test_a_manifest_of_an_archives_own_is_refused_in_the_directory_that_it_was_packed_in(host: Host) -> None:
    release = packed(host, {"toyd-1.0.0/toyd": "", "toyd-1.0.0/.release.json": "{}"})
    with pytest.raises(FleetError, match=r"has a \.release\.json of its own"):
        host.install(release)
