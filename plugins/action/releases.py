# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module hearth.fleet.releases, and hand over the artifacts that come through the controller.

The module says what it lacks; only that is fetched (once for all hosts) and transferred. With nothing to do there is
one module call and no transfer.
"""

from __future__ import annotations

import copy
import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.hearth.fleet.plugins.module_utils.artifacts import digest_path, signature_location
from ansible_collections.hearth.fleet.plugins.module_utils.download import download, fetch_text, verify_digest
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import size_text
from ansible_collections.hearth.fleet.plugins.module_utils.releases import artifact_of
from ansible_collections.hearth.fleet.plugins.module_utils.signature import SIGNATURE_BYTES_MAX
from ansible_collections.hearth.fleet.plugins.module_utils.spool import source_of

CACHE = "~/.cache/hearth-fleet/artifacts"
_MODULE = "hearth.fleet.releases"


class ActionModule(ActionBase):
    """The controller's part of installing releases."""

    _supports_check_mode = True
    # A temporary directory costs a round trip; it is made only where something is transferred.
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Call the module; where it lacks something, provide that and call it once more."""
        super().run(tmp, task_vars)
        arguments = copy.deepcopy(dict(self._task.args))
        try:
            result = self._call(arguments, task_vars)
            if not result.get("needs"):
                return result
            arguments["handed_over"], arguments["refused"] = self._hand_over(arguments["releases"], result["needs"])
            return self._call(arguments, task_vars)
        except FleetError as error:
            raise AnsibleActionFail(str(error)) from error
        finally:
            if self._connection._shell.tmpdir:
                self._remove_tmp_path(self._connection._shell.tmpdir)

    def _call(self, arguments: Mapping[str, Any], task_vars: Any) -> dict[str, Any]:
        return dict(self._execute_module(module_name=_MODULE, module_args=dict(arguments), task_vars=task_vars))

    def _hand_over(self, releases: Any, needs: Any) -> tuple[dict[str, str], dict[str, str]]:
        """Return the path on the host of each transferred artifact, by digest, and what is wrong with the others, by service.

        Signatures are filled in. The host then looks at the rest, so that all that is wrong is said at once.
        """
        wanted = {release["service"]: release for release in releases}
        brought: dict[str, str] = {}
        refused: dict[str, str] = {}
        for need in needs:
            try:
                self._hand_one_over(wanted[need["service"]], need, brought)
            except FleetError as error:
                refused[need["service"]] = str(error)
        return brought, refused

    def _hand_one_over(self, wanted: dict[str, Any], need: Mapping[str, Any], brought: dict[str, str]) -> None:
        release, arch = _with_defaults(wanted), need["arch"]
        sha256 = artifact_of(release, arch)["sha256"]
        if need["artifact"] and sha256 not in brought:
            local = _local_artifact(release, arch)
            _check_space(release, local, need["free_bytes"])
            brought[sha256] = self._transfer(local, sha256)
        if need["signature"]:
            wanted["signature"]["text"] = {arch: _signature(release, arch)}

    def _transfer(self, local: Path, name: str) -> str:
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, name)
        self._transfer_file(str(local), remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))
        return str(remote)


def _with_defaults(release: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what the module would: the action reads a task's arguments as they were written."""
    return {"timeout": 300, "retries": 5, **release}


def _signature(release: Mapping[str, Any], arch: str) -> str:
    """Return the text of a signature that lies on the controller or that the controller fetches."""
    location = signature_location(release, arch)
    if "url" in location:
        return fetch_text(source_of(release, arch, location["url"]), SIGNATURE_BYTES_MAX)
    try:
        return Path(location["file"]).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        where = f"fleet_services.{release['service']}.artifact.signature"
        raise FleetError(f"{where}: {location['file']} cannot be read on the controller ({error})") from error


def _local_artifact(release: Mapping[str, Any], arch: str) -> Path:
    """Return the verified artifact on the controller, downloaded if no other host's task has done so."""
    artifact = artifact_of(release, arch)
    if artifact.get("file"):
        local = Path(artifact["file"]).expanduser()
        if not local.is_file():
            path = f"fleet_services.{release['service']}.artifact.file"
            raise FleetError(f"{path}: {local} does not exist on the controller, and {release['service']} needs it for {arch}")
        verify_digest(local, artifact["sha256"], path=digest_path(release, arch), origin=str(local), arch=arch)
        return local
    cache = Path(CACHE).expanduser()
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (cache / f"{artifact['sha256']}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        download(source_of(release, arch, artifact["url"], artifact["sha256"]), cache / artifact["sha256"])
    return cache / artifact["sha256"]


def _check_space(release: Mapping[str, Any], local: Path, free_bytes: int) -> None:
    needed = local.stat().st_size
    if needed > free_bytes:
        raise FleetError(
            f"{release['service']} {release['version']}: {needed} bytes ({size_text(needed)}) are needed for the artifact, "
            f"{free_bytes} bytes ({size_text(free_bytes)}) are free on the host"
        )
