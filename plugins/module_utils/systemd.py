# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemctl and systemd-analyze, as the modules use them: every failure is a FleetError."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.hearth.fleet.plugins.module_utils import unit_review
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

ENVIRONMENT = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"}
OFFLINE_SECURITY = 250  # the first systemd that measures a unit file without loading it, and keeps other units out of verify

KEPT = "the old unit files were kept, no service was touched"


class Systemd:
    """The programs of systemd, as far as they are needed here; every failure is a FleetError."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self.analyze = module.get_bin_path("systemd-analyze")

    def ctl(self, *words: str) -> None:
        """Run systemctl."""
        code, output, errors = self._module.run_command(["systemctl", "--no-ask-password", *words], environ_update=ENVIRONMENT)
        if code:
            said = (errors or output).strip()
            raise FleetError(f"systemctl {' '.join(words)} failed (exit code {code}): {said}\n  → once that is solved, running this again resumes")

    def why_no_schedule(self, schedule: str) -> str:
        """Return what systemd has against a calendar expression; empty when it takes it, or cannot be asked."""
        if self.analyze is None:
            return ""
        code, output, errors = self._module.run_command([self.analyze, "calendar", "--", schedule], environ_update=ENVIRONMENT)
        said = (errors or output).strip().splitlines()
        return (said or [f"exit code {code}"])[0] if code else ""

    def judge(self, candidates: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Return the exposures of new unit files. Raises FleetError if one is not sound, or more exposed than it may be.

        What starts services (timers and the like) is verified with them, and has no exposure of its own.
        """
        if not candidates:
            return {}
        if self.analyze is None:
            if self._module.check_mode:
                return {}
            raise FleetError(f"there is no systemd-analyze on this host, so the units cannot be checked; {KEPT}\n  → install the package systemd")
        with tempfile.TemporaryDirectory(dir=self._module.tmpdir) as directory:
            files = []
            for candidate in candidates:
                files.append(os.path.join(directory, candidate["name"]))
                with open(files[-1], "w", encoding="utf-8") as file:
                    file.write(candidate["content"])
            recent = self._version() >= OFFLINE_SECURITY
            self._verify(files, directory, recent)
            if recent:
                services = [one for one in candidates if one["name"].endswith(".service")]
                return self._measure(services, [os.path.join(directory, one["name"]) for one in services])
        self._module.warn(f"the exposure of units was not measured: this host's systemd is older than {OFFLINE_SECURITY}")
        return {}

    def _version(self) -> int:
        _code, output, _errors = self._module.run_command([self.analyze, "--version"], environ_update=ENVIRONMENT)
        return int(output.split()[1])  # "systemd 252 (252.39-1~deb12u2)"

    def _verify(self, files: Sequence[str], directory: str, recent: bool) -> None:
        only_these = ["--recursive-errors=no"] if recent else []
        code, output, errors = self._module.run_command([self.analyze, "verify", "--man=no", *only_these, *files], environ_update=ENVIRONMENT)
        said = f"{output}\n{errors}"
        complaints = unit_review.complaints(said, directory, tolerate_missing=self._module.check_mode)
        if not complaints and code and not said.strip():
            complaints = [f"systemd-analyze verify: exit code {code}"]
        if complaints:
            raise FleetError("\n".join([f"systemd finds fault with the new unit files; {KEPT}:", *(f"  | {line}" for line in complaints)]))

    def _measure(self, candidates: Sequence[Mapping[str, Any]], files: Sequence[str]) -> dict[str, float]:
        command = [self.analyze, "security", "--offline=true", "--no-pager", *files]
        _code, output, errors = self._module.run_command(command, environ_update=ENVIRONMENT)
        measured = unit_review.exposures(output)
        found = []
        for candidate in candidates:
            if candidate["name"] not in measured:
                raise FleetError(f"systemd-analyze security did not say how exposed {candidate['name']} is; {KEPT}: {errors.strip()}")
            found.append(unit_review.too_exposed(candidate, *measured[candidate["name"]]))
        if any(found):
            raise FleetError("\n".join([*filter(None, found), f"  {KEPT}"]))
        return {name: exposure for name, (exposure, _contributors) in measured.items()}
