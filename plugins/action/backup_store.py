# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See on the controller what backups there are, and hold those of a host; see the module's documentation."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.hearth.fleet.plugins.module_utils import backup_catalogue, backup_spec
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.object_store import Store
from ansible_collections.hearth.fleet.plugins.plugin_utils import store_access

ARGUMENTS = {
    **store_access.ARGUMENTS,
    "specs": {"type": "dict", "required": True},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "hold": {"type": "str", "default": ""},
}
display = Display()


class ActionModule(ActionBase):
    """Runs once for the whole play: a store is one for all hosts."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the state of all jobs; a store that cannot be read is an error, a bad backup a row with problems."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = store_access.validated(self._task.args, ARGUMENTS)
        try:
            if not given["store"]:
                result.update(seen(given, {}, {}, "there is no store (backup_store), so that nothing is backed up"))
                return result
            with store_access.opened(given, task_vars, "backup_admin" if given["hold"] else "backup_read") as store:
                result.update(self._look(store, given))
        except FleetError as error:
            result.update(failed=True, msg=str(error))
        return result

    def _look(self, store: Store, given: dict[str, Any]) -> dict[str, Any]:
        entries = store_access.catalogue(store)
        newest = backup_catalogue.newest_of_each(backup_catalogue.read(entries))
        manifests = store_access.manifests_of(store, [one.key for one in newest.values()], display.warning)
        held = self._hold(store, given["hold"], entries, manifests) if given["hold"] else []
        if held and not self._task.check_mode:
            entries = store_access.catalogue(store)
            newest = backup_catalogue.newest_of_each(backup_catalogue.read(entries))
            manifests = store_access.manifests_of(store, [one.key for one in newest.values()], display.warning)
        return {**seen(given, entries, manifests), "changed": bool(held), "held": held}

    def _hold(self, store: Store, host: str, entries: backup_catalogue.Listing, manifests: backup_catalogue.Manifests) -> list[str]:
        """Copy the newest backups of a host to where nothing expires; return the ids of the copies."""
        planned = backup_catalogue.hold(entries, manifests, host)
        if not self._task.check_mode:
            for key, to in planned.copies:
                store.copy(key, to)
            with tempfile.TemporaryDirectory(prefix="hearth-hold-") as directory:
                for key, text in planned.manifests:  # last, so that there is no backup before all of it is there
                    file = Path(directory, "manifest.json")
                    file.write_text(text, encoding="utf-8")
                    store.put(file, key, again=True)
        return [key for key, _text in planned.manifests]


def seen(given: dict[str, Any], entries: backup_catalogue.Listing, manifests: backup_catalogue.Manifests, problem: str = "") -> dict[str, Any]:
    """Return what there is and what is wrong with it; ``problem`` is what is wrong with every one that is not there."""
    rows = backup_catalogue.rows(jobs_of(given["specs"]), entries, manifests, time.time())
    shown = [{**row, "problems": [problem] if problem else row["problems"]} for row in rows if _is_shown(row["host"], given)]
    return {
        "changed": False,
        "held": [],
        "rows": shown,
        "shown": backup_catalogue.render(shown),
        "problems": [f"{row['service']}.{row['set']} of {row['host']}: {said}" for row in shown for said in row["problems"]],
    }


def _is_shown(host: str, given: dict[str, Any]) -> bool:
    """Return whether a host was asked about, or is one that the inventory does not know any more."""
    return host in given["hosts"] or host not in given["specs"]


def jobs_of(specs: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what every host should back up, and how old the newest may be in seconds: 0 where nobody minds.

    A set that is kept for ever is written only when it has changed, so that its age tells nothing.
    """
    return [
        {"host": host, "service": service, "set": name, "max_age": one["max_age"] if one["keep"] else 0}
        for host, wanted in specs.items()
        for service, spec in wanted["services"].items()
        for name, one in backup_spec.sets_of(spec).items()
    ]
