# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide to restores and the runbooks of backups quote what the programs say, and their commands exist."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator

import pytest
import test_runbooks
import yaml
from ansible.cli.playbook import PlaybookCLI

from ansible_collections.hearth.fleet.plugins.module_utils import hearthctl

ROOT = test_runbooks.ROOT
PAGES = ("backup-runbooks.md", "guides/restore.md")
ROLES = ("backup", "restore")
INPUTS = {
    name
    for role in ROLES
    for name in yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
}
QUOTED = [line for line in test_runbooks.blocks("backup-runbooks.md", "text") for line in line.splitlines()]
COMMANDS = [(page, line.strip()) for page in PAGES for block in test_runbooks.blocks(page, "sh") for line in block.splitlines()]


@pytest.mark.parametrize("line", QUOTED)
def test_quotations_are_what_the_programs_say(line: str) -> None:
    job = re.sub(r"^kontinuum-node-server\.data of relay1: ", "", line)
    assert test_runbooks.uncovered(job) == []


def fragments() -> Iterator[str]:
    """Yield what the table tells to look for."""
    table = (ROOT / "docs/backup-runbooks.md").read_text().partition("| it says")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        yield from re.findall(r"`([^`]+)`", row.split("|")[1])


@pytest.mark.parametrize("fragment", list(fragments()))
def test_what_to_look_for_is_said(fragment: str) -> None:
    assert any(fragment in text.replace(test_runbooks.VALUE, "") for text in test_runbooks.literals())


@pytest.mark.parametrize("line", [pytest.param(line, id=f"{page}: {line[:60]}") for page, line in COMMANDS if "ansible-playbook" in line])
def test_playbooks_can_be_run(line: str) -> None:
    words = shlex.split(line.rpartition("| ")[2])
    assert (ROOT / words[1]).is_file()
    PlaybookCLI(words).parse()
    given = [after for before, after in itertools.pairwise(words) if before == "-e" and not after.startswith("@")]
    assert {one.partition("=")[0] for one in given} <= INPUTS


@pytest.mark.parametrize("line", [pytest.param(line, id=line) for _page, line in COMMANDS if "hearthctl" in line])
def test_hearthctl_can_be_called(line: str) -> None:
    hearthctl._parser().parse_args(shlex.split(line.removeprefix("sudo "))[1:])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_a_heading(page: str) -> None:
    test_runbooks.test_links_lead_to_a_heading(page)


def test_every_input_of_a_restore_that_a_person_gives_is_in_the_guide() -> None:
    guide = (ROOT / "docs/guides/restore.md").read_text()
    assert [name for name in sorted(INPUTS) if name.startswith("restore_") and name not in guide] == []
