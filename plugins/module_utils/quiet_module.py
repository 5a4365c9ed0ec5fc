# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module whose arguments are nobody's business: contents of files, password hashes, tokens."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


class QuietModule(AnsibleModule):  # type: ignore[misc]  # ansible-core ships no types
    """An AnsibleModule that does not write its arguments to the host's log.

    Ansible masks ``no_log`` values there as they are, but logs the arguments' representation, in which line ends are
    escaped: a secret of several lines, or with one line end, would be logged in full. (``no_log=True`` of the
    constructor does not help: the task's own setting replaces it before anything is logged.)
    """

    def _log_invocation(self) -> None:
        """Write nothing."""
