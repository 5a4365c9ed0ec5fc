# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories below /run come back after a boot, with the owner, group and mode that the service wants."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import fleets
import pytest

from ansible_collections.hearth.fleet.plugins.module_utils import runtime_directories, slices
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

PATHS = ("run/my 5% icn", "run/my 5% icn/open")
ACCOUNT = {"account_operators": [], "account_operators_exclusive_keys": False}


def services(*directories: dict[str, Any]) -> dict[str, Any]:
    joined, mistakes = fleets.join(fleets.fleet(services={"icnd": fleets.changed("directories", list(directories))}))
    assert mistakes == []
    return joined["relay1"]["services"]


@pytest.mark.parametrize(
    ("directories", "lines"),
    [
        pytest.param([{"path": "/srv/icn", "group": "adm"}], [], id="elsewhere"),
        pytest.param([{"path": "/run/icn"}, {"path": "/run/icn2"}], [], id="made-by-the-unit"),
        pytest.param([{"path": "/run/icn", "group": "www-data"}], ["d /run/icn 0750 icnd www-data -"], id="another-group"),
        pytest.param([{"path": "/run/icn", "owner": "root", "mode": "755"}], ["d /run/icn 0755 root icnd -"], id="another-owner"),
        pytest.param([{"path": "/run/icn", "writable": False}], ["d /run/icn 0750 icnd icnd -"], id="to-be-read"),
        pytest.param(
            [{"path": "/run/icn/public", "mode": "0755"}, {"path": "/run/icn"}],
            ["d /run/icn 0750 icnd icnd -", "d /run/icn/public 0755 icnd icnd -"],
            id="two-modes",
        ),
        pytest.param([{"path": "/run/my 5% icn", "group": "adm"}], ['d "/run/my 5%% icn" 0750 icnd adm -'], id="quoted"),
    ],
)
def test_what_no_unit_can_make_is_made_at_boot(directories: list[dict[str, Any]], lines: list[str]) -> None:
    assert runtime_directories.at_boot(services(*directories)).splitlines()[1:] == lines


def test_directories_of_two_services_within_each_other_are_made_at_boot_although_their_units_could() -> None:
    """The first unit to start gives its account the outer one with all that is in it, unless that is there and its own already."""
    outer, inner = (services({"path": path})["icnd"] for path in ("/run/icn", "/run/icn/web"))
    inner["directories"] = [{**one, "owner": "web", "group": "web"} for one in inner["directories"]]
    inner["account"] = {**inner["account"], "user": "web", "group": "web"}
    alone = services({"path": "/run/icn-web"})["icnd"]
    expected = ["d /run/icn 0750 icnd icnd -", "d /run/icn/web 0750 web web -"]
    assert runtime_directories.at_boot({"web": inner, "icnd": outer, "alone": alone}).splitlines()[1:] == expected


NESTED = ("/run/icn", "/run/icn/spool", "/run/icn/spool/deep")
"""Directories within each other, whose owners a case names."""


def nested(*owners: str) -> dict[str, Any]:
    return services(*({"path": path, "owner": owner} for path, owner in zip(NESTED, owners, strict=True)))


@pytest.mark.parametrize(
    "owners",
    [
        pytest.param(("root", "nobody", "root"), id="root-holds-anybodys"),
        pytest.param(("icnd", "icnd", "root"), id="the-last-is-anybodys"),
        pytest.param(("root", "root", "nobody"), id="all-above-are-roots"),
    ],
)
def test_owners_within_each_other_that_systemd_follows(owners: tuple[str, ...]) -> None:
    assert len(runtime_directories.at_boot(nested(*owners)).splitlines()) == 1 + len(NESTED)


@pytest.mark.parametrize(
    "owners", [pytest.param(("icnd", "root", "icnd"), id="root"), pytest.param(("nobody", "icnd", "icnd"), id="another-account")]
)
def test_owners_within_each_other_that_systemd_does_not_follow_are_refused(owners: tuple[str, ...]) -> None:
    """It would leave the deepest one out at boot, and the unit could not start."""
    said = f"fleet_services.icnd.directories: {NESTED[2]} would not be there after a boot, .* {NESTED[0]}, which is {owners[0]}'s, .* {NESTED[1]} is"
    with pytest.raises(FleetError, match=said):
        runtime_directories.at_boot(nested(*owners))


def test_the_file_is_there_only_where_it_is_needed() -> None:
    mistakes: list[Any] = []
    with_one = slices.account_slice(services({"path": "/run/icn", "group": "adm"}), ACCOUNT, mistakes)["paths"]
    [file] = [one for one in with_one if one["path"] == runtime_directories.TMPFILES]
    assert (file["state"], file["content"].splitlines()[1:]) == ("file", ["d /run/icn 0750 icnd adm -"])
    absent = {"path": runtime_directories.TMPFILES, "state": "absent", "service": ""}
    assert absent in slices.account_slice(services(), ACCOUNT, mistakes)["paths"]
    assert slices.account_slice({}, ACCOUNT, mistakes)["paths"] == [absent], "the last service may have needed it"
    assert mistakes == []


@pytest.mark.skipif(not shutil.which("systemd-tmpfiles") or os.geteuid() != 0, reason="has systemd-tmpfiles make directories of several owners")
def test_systemd_makes_what_was_wanted(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nicnd:x:4711:4712::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nicnd:x:4712:\nadm:x:4713:\n")
    (tmp_path / "hearth.conf").write_text(
        runtime_directories.at_boot(services({"path": "/run/my 5% icn", "group": "adm"}, {"path": "/run/my 5% icn/open", "mode": "0755"}))
    )
    subprocess.run(["systemd-tmpfiles", f"--root={tmp_path}", "--create", str(tmp_path / "hearth.conf")], check=True)
    found = {path: ((tmp_path / path).stat().st_uid, (tmp_path / path).stat().st_gid, oct((tmp_path / path).stat().st_mode)) for path in PATHS}
    assert found == {PATHS[0]: (4711, 4713, "0o40750"), PATHS[1]: (4711, 4712, "0o40755")}
