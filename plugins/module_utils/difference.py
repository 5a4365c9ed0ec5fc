# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A difference between what a host is like and what it should be like: the unit of every plan."""

from __future__ import annotations

from typing import NamedTuple


# A tuple, because Python compiles a dataclass when it is declared, on every host at every call.
class Difference(NamedTuple):
    """One thing that is not as wanted.

    ``item`` names the thing (a path, an account, a unit, a rule), ``reason`` says what differs, for a person to read,
    ``service`` the service it belongs to (empty: the host itself), ``action`` what will be done where a role has a choice
    (``create``, ``remove``, ``start``, ``restart``, ``reload``, ...; empty: bring it to the wanted state).
    """

    item: str
    reason: str
    service: str = ""
    action: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the difference as plain data, as plans carry it."""
        return self._asdict()

    def __str__(self) -> str:
        return f"{self.item}: {self.reason}"
