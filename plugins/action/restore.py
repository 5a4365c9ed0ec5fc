# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a backup to a host: decrypted here, where the identity is, and exchanged there; see the module's documentation."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hearth.fleet.plugins.module_utils import backup_catalogue, restore_plan, restore_stream
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Store
from ansible_collections.hearth.fleet.plugins.module_utils.quantities import size_text
from ansible_collections.hearth.fleet.plugins.module_utils.rollout_look import new_identifier
from ansible_collections.hearth.fleet.plugins.plugin_utils import store_access

ARGUMENTS = {
    **store_access.ARGUMENTS,
    "specs": {"type": "dict", "required": True},
    "service": {"type": "str", "required": True},
    "set": {"type": "str", "default": "data"},
    "at": {"type": "str", "default": ""},
    "id": {"type": "str", "default": ""},
    "from_host": {"type": "str", "default": ""},
    "identity": {"type": "list", "elements": "str", "default": []},
    "identity_text": {"type": "str", "default": "", "no_log": True},
    "piece_size": {"type": "int", "default": 32 << 20},
}
PROGRESS_SECONDS = 15
display = Display()


class Refused(FleetError):
    """The host does not do it; the message is its own."""


class ActionModule(ActionBase):
    """Chooses the backup, streams its parts to the module ``restore_step``, and lets that exchange the data."""

    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return what was restored, and how long it took."""
        began = time.monotonic()
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = store_access.validated(self._task.args, ARGUMENTS)
        try:
            identities = [] if self._task.check_mode else identities_of(given, task_vars)
            with store_access.opened(given, task_vars) as store:
                result.update(self._restore(store, given, identities, task_vars))
        except FleetError as error:
            result.update(failed=True, msg=str(error))
        result["rto"] = round(time.monotonic() - began, 1)
        return result

    def _restore(self, store: Store, given: dict[str, Any], identities: list[str], task_vars: dict[str, Any]) -> dict[str, Any]:
        order = restore_plan.order(given["specs"], given["service"], given["set"], new_identifier())
        host = given["specs"]["host"]["name"]
        backup, manifest = find(store, given, host)
        seen = self._step("looked", order, task_vars)["seen"]
        refused = restore_plan.refusal(manifest, order, seen)
        if refused:
            raise FleetError(f"{host}: {refused}")
        shown = restore_plan.render(manifest, host, seen, backup.at, time.time())
        found = {"backup": manifest, "shown": shown, "changed": True}
        if self._task.check_mode:
            return found
        display.display(shown)
        order["backup"] = manifest
        for said in self._step("prepared", order, task_vars)["said"]:
            display.warning(said)
        try:
            for part in manifest["parts"]:
                self._send(store, order, part, identities, given, task_vars)
        except BaseException as error:
            self._discard(order, str(error) or type(error).__name__, task_vars)
            raise
        done = self._step("restored", order, task_vars)
        return {**found, **{key: done[key] for key in ("downtime", "aside", "said")}}

    def _send(
        self, store: Store, order: dict[str, Any], part: Mapping[str, Any], identities: list[str], given: dict[str, Any], task_vars: dict[str, Any]
    ) -> None:
        """Send a part to the host, piece by piece. Raises FleetError where the host refuses, or the object is not what it should be."""
        offset, told = 0, time.monotonic()
        for piece in restore_stream.pieces(store, order["backup"], part, identities, given["identity_text"], given["piece_size"]):
            with tempfile.NamedTemporaryFile(prefix="hearth-piece-") as file:  # private, and gone at once
                file.write(piece)
                file.flush()
                remote = self._transfer_file(file.name, self._connection._shell.join_path(self._remote_directory(), f"piece-{offset}"))
            self._step("received", order, task_vars, part=part["name"], offset=offset, piece=remote)
            offset += len(piece)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                display.display(f"{part['name']}: {size_text(offset)} of {size_text(part['size'])}")

    def _remote_directory(self) -> str:
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        return str(self._connection._shell.tmpdir)

    def _discard(self, order: dict[str, Any], why: str, task_vars: dict[str, Any]) -> None:
        """Let the host remove what it has received."""
        try:
            self._step("discarded", order, task_vars, why=why.splitlines()[0])
        except (FleetError, AnsibleConnectionFailure) as error:
            display.warning(f"what the host has received could not be removed; its next restore does that: {error}")

    def _step(self, state: str, order: dict[str, Any], task_vars: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Return what the host's module returns. Raises Refused with its message, or that of a host that cannot be reached."""
        arguments = {"state": state, "order": order, **more}
        answer: dict[str, Any] = self._execute_module("hearth.fleet.restore_step", module_args=arguments, task_vars=task_vars)
        if answer.get("failed") or answer.get("unreachable"):
            raise Refused(str(answer.get("msg") or "the host did not answer"))
        return answer


def find(store: Store, given: Mapping[str, Any], host: str) -> tuple[backup_catalogue.Backup, dict[str, Any]]:
    """Return the backup that is meant, with its manifest. Raises FleetError where there is none, or not all of it."""
    entries = store_access.catalogue(store)
    source = given["from_host"] or host
    backup = backup_catalogue.choose(backup_catalogue.read(entries), source, given["service"], given["set"], at=given["at"], identifier=given["id"])
    manifest = store_access.manifest_of(store, backup.key)
    problems = [*filter(None, [backup_catalogue.mismatch(manifest, backup)]), *backup_catalogue.part_problems(manifest, entries)]
    if problems:
        raise FleetError(f"backup {backup} cannot be restored: {'; '.join(problems)}\n  → restore another one: restore_id or restore_at")
    return backup, manifest


def identities_of(given: Mapping[str, Any], task_vars: Mapping[str, Any]) -> list[str]:
    """Return the files of identities as absolute paths. Raises FleetError where there is no identity at all, or a file is missing."""
    if not given["identity"] and not given["identity_text"]:
        raise FleetError(
            "there is no identity to open the backup with\n"
            "  → name its file on the controller, -e backup_identity=PATH (playbooks/keys.yml makes one), or take restore_identity_text from a vault"
        )
    files = [store_access.find(path, task_vars) for path in given["identity"]]
    for file in files:
        if not os.access(file, os.R_OK):
            raise FleetError(f"{Path(file)} cannot be read by this user")
    return files
