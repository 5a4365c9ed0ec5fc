# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the collection is installed on hosts, so that they start services and finish rollouts by themselves. Imports nothing."""

from __future__ import annotations

from collections.abc import Sequence

SOURCES = (
    "analysis.py", "archive.py", "backup_catalogue.py", "backup_clock.py", "backup_commands.py", "backup_files.py", "backup_fingerprint.py",
    "backup_manifest.py", "backup_metrics.py", "backup_names.py", "backup_pipeline.py", "backup_run.py", "backup_snapshot.py", "bounded_child.py",
    "cold_copy.py", "command_line.py", "difference.py", "drill_commands.py", "drill_negative.py", "drill_report.py", "drill_run.py",
    "drill_sandbox.py", "elf.py", "environment_file.py", "errors.py", "exclusive.py", "free_space.py", "headers.py", "hearthctl.py",
    "host_tools.py", "journal.py", "live_host.py", "object_store.py", "paths.py", "probe.py", "programs.py", "quantities.py", "releases.py",
    "restore_stage.py", "restore_stream.py", "restore_swap.py", "rollout_look.py", "service_process.py", "staging.py", "started_files.py",
    "table.py", "transaction.py", "transaction_host.py", "unit_control.py", "unit_marks.py", "units.py", "wrapped_table.py",
)  # fmt: skip
"""The files of this directory that the host needs, below SOURCES_HOME."""

LIBRARY = "/usr/local/lib/hearth"
PACKAGES = ("ansible_collections", "hearth", "fleet", "plugins", "module_utils")
SOURCES_HOME = "/".join((LIBRARY, *PACKAGES))

HEARTHCTL = "/usr/local/sbin/hearthctl"
LAUNCHER = f"""#!/usr/bin/python3 -IS
# Managed by hearth.fleet. Without other packages of this host: only the standard library and what is below the directory here.
import sys
sys.path.insert(0, "{LIBRARY}")
if sys.argv[1:2] == ["backup"]:  # which shall not need memory for the rest
    from {".".join(PACKAGES)}.backup_commands import main
elif sys.argv[1:2] == ["drill"]:  # which is run in sandboxes, too
    from {".".join(PACKAGES)}.drill_commands import main
else:
    from {".".join(PACKAGES)}.hearthctl import main
sys.exit(main())
"""

RESUME_UNIT = "hearth-resume.service"


def resume_unit(service_units: Sequence[str]) -> str:
    """Return the unit that takes up interrupted transactions and restores at boot, before any of these units starts."""
    return "\n".join(
        [
            "# Managed by hearth.fleet",
            "",
            "[Unit]",
            "Description=Finish what a power cut interrupted",
            "ConditionDirectoryNotEmpty=|/var/lib/hearth/rollout",
            "ConditionDirectoryNotEmpty=|/var/lib/hearth/restore",
            "RequiresMountsFor=/var/lib/hearth /opt",
            f"Before={' '.join(sorted(service_units))}",
            "",
            "[Service]",
            "Type=oneshot",
            f"ExecStart={HEARTHCTL} resume",
            "TimeoutStartSec=300",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )
