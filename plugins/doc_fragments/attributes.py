# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the attributes of modules mean; each module says how far it supports them."""

from __future__ import annotations


class ModuleDocFragment:
    """The part of the documentation that is the same for every module."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Says what it would change, and changes nothing.
  diff_mode:
    description: Shows what changes, or would change in check mode.
"""
