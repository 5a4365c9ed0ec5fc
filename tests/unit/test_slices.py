# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From finished specs to slices: where the secrets of a service go."""

from __future__ import annotations

from typing import Any

import fleets

from ansible_collections.hearth.fleet.plugins.module_utils import slices

SECRETS = {
    "TOKEN": "of-the-environment",
    "jwt": {"value": "of-the-credential", "as": "credential"},
    "ADMIN": {"value": "of-the-request", "as": "request"},
}
ADMIN = "/etc/icnd/credentials/ADMIN"


def unread(_path: str) -> str:
    raise AssertionError("no file of the controller belongs to this service")


def service() -> dict[str, Any]:
    joined, mistakes = fleets.join(fleets.fleet(services={"icnd": fleets.changed("secrets", SECRETS)}))
    assert mistakes == []
    return joined["relay1"]["services"]["icnd"]


def test_f60_every_secret_has_a_file_for_root_alone() -> None:
    files = {file["path"]: file for file in slices.config_paths(service(), slices.Sources(unread, unread, unread), [])}
    secret = {path: file for path, file in files.items() if "secret_content" in file}
    assert {path: file["secret_content"] for path, file in secret.items()} == {
        "/etc/icnd/icnd.env": "TOKEN=of-the-environment\n",
        "/etc/icnd/credentials/jwt": "of-the-credential",
        ADMIN: "of-the-request",
    }
    assert {(file["owner"], file["group"], file["mode"]) for file in secret.values()} == {("root", "root", "0600")}


def test_a_secret_for_requests_is_nothing_to_the_daemon() -> None:
    mistakes: list[Any] = []
    spec = service()
    files = {"icnd": slices.config_paths(spec, slices.Sources(unread, unread, unread), mistakes)}
    [unit] = slices.unit_slice({"icnd": spec}, files, {"unit_exposure_max": 1.5}, mistakes)["units"]
    assert mistakes == []
    assert "LoadCredential=jwt:/etc/icnd/credentials/jwt" in unit["content"].splitlines()
    assert "ADMIN" not in unit["content"], "the daemon neither gets it nor restarts for it"
    assert unit["stamp"] == ["/etc/icn/config.toml", "/etc/icnd/icnd.env", "/etc/icnd/credentials/jwt"]


def test_bootstrap_has_the_environment_and_the_secrets_of_the_daemon() -> None:
    [one] = slices.bootstraps({**service(), "bootstrap": [{"command": ["icnd", "init"], "creates": "/var/lib/icnd/key", "timeout": 120}]})
    assert (one["environment_files"], one["credentials"]) == (["/etc/icnd/icnd.env"], ["jwt:/etc/icnd/credentials/jwt"])
    assert "of-the" not in str(one)
