# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of backups, as actions reach it from the controller."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.hearth.fleet.plugins.module_utils import backup_catalogue, backup_manifest, backup_review, object_store
from ansible_collections.hearth.fleet.plugins.module_utils.backup_names import VERSION
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Store, conf_text

ARGUMENTS = {
    "store": {"type": "dict", "required": True},
    "access_key_id": {"type": "str", "default": "", "no_log": False},
    "secret_access_key": {"type": "str", "default": "", "no_log": True},
}
"""What every action wants that reads the store."""

_AT_A_TIME = 8
_OF_THE_INVENTORY = (object_store.DENIED, object_store.NO_BUCKET, object_store.UNREACHABLE, object_store.CLOCK)


def validated(arguments: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action's arguments with their types and defaults. Raises AnsibleActionFail."""
    checked = ArgumentSpecValidator(dict(spec)).validate(dict(arguments))
    if checked.error_messages:
        raise AnsibleActionFail("\n".join(checked.error_messages))
    return dict(checked.validated_parameters)


@contextmanager
def opened(given: Mapping[str, Any], task_vars: Mapping[str, Any], credentials: str = "backup_read") -> Iterator[Store]:
    """Open the store with an action's arguments; its credentials are in a private file as long as that lasts.

    ``credentials`` is how the variables begin from which they came, for the error. Raises FleetError, also where what is done with
    the store fails for a reason that is to be mended in the inventory: it names the variable then.
    """
    store = given["store"]
    if not store.get("endpoint") or not store.get("bucket"):
        raise FleetError("backup_store: there is no store\n  → write its endpoint and bucket, for example in group_vars/all.yml")
    for name in ("access_key_id", "secret_access_key"):
        if not given[name]:
            raise FleetError(
                f"{credentials}_{name} is not set\n  → write it into a vault of the inventory: only the controller uses it, no host gets it"
            )
    with tempfile.TemporaryDirectory(prefix="hearth-store-") as directory:
        conf = Path(directory, "rclone.conf")
        conf.touch(mode=0o600)
        conf.write_text(conf_text(store, given["access_key_id"], given["secret_access_key"]), encoding="utf-8")
        ca = find(store["ca"], task_vars) if store.get("ca") else ""
        try:
            yield Store(conf, store["bucket"], store.get("prefix") or "", ca)
        except object_store.StoreError as error:
            if error.kind not in _OF_THE_INVENTORY:
                raise
            check = {"store": store, "host": "the controller"}
            raise FleetError(str(backup_review.about_error(check, error.kind, str(error), credentials))) from error


def find(path: str, task_vars: Mapping[str, Any]) -> str:
    """Return the absolute path of a file of the user's: absolute, or below the playbook's or the inventory's directory. Raises FleetError."""
    given = os.path.expanduser(path)
    bases = [str(task_vars[name]) for name in ("playbook_dir", "inventory_dir") if task_vars.get(name)]
    places = [given] if os.path.isabs(given) else [os.path.join(base, below, given) for base in (*bases, os.getcwd()) for below in ("", "files")]
    for place in places:
        if os.path.isfile(place):
            return os.path.abspath(place)
    raise FleetError(f"no file {path} on the controller; looked for {', '.join(dict.fromkeys(map(os.path.abspath, places)))}")


def catalogue(store: Store) -> dict[str, backup_catalogue.Entry]:
    """Return all objects of backups. Raises FleetError."""
    return backup_catalogue.listing(store.list(f"{VERSION}/"))


def manifest_of(store: Store, key: str) -> dict[str, Any]:
    """Return the manifest that lies under a key. Raises FleetError."""
    return backup_manifest.parse(store.cat(key, backup_manifest.MAX_BYTES))


def manifests_of(store: Store, keys: Iterable[str], tell: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Return the manifests under these keys; ``tell`` is told of those that cannot be read, and they are left out."""

    def read(key: str) -> tuple[str, dict[str, Any] | None, str]:
        try:
            return key, manifest_of(store, key), ""
        except FleetError as error:
            return key, None, str(error)

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        found = list(pool.map(read, keys))
    for key, _manifest, problem in found:
        if problem:
            tell(problem if key in problem else f"{key}: {problem}")
    return {key: manifest for key, manifest, _problem in found if manifest is not None}
