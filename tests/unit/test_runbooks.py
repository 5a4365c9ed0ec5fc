"""The runbooks quote what the programs say: every fixed word of a quotation stands in the sources, and every command exists."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from ansible.cli.playbook import PlaybookCLI

from ansible_collections.hearth.fleet.plugins.module_utils import hearthctl, rollout_report, service_schema, transaction
from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("runbooks.md", "guides/upgrade.md")
VALUE = "\0"
VALUES = {
    *transaction.FORWARD,
    *transaction.BACK,
    *transaction.OUTCOMES,
    *(word for words in rollout_report.WORDS.values() for word in words.split()),
    *("nats-server", "kontinuum-node-server", "rolling_upgrade", "active", "tier1", "tier2", "canary"),
    *("HTTP", "GET", "timed", "out", "Connection", "refused", "kernel", "errors", "true", "false"),
    *("s", "MiB", "is", "are", "of", "on", "or", "none", "possible", "stopped", "kept", "runs", "report", "upgrade", "host", "hosts"),
    *("batch", "batches", "rollout", "copied", "drained", "failed"),
}
"""Words of the examples, and of other programs; and single ones of which sentences are composed."""


def blocks(page: str, language: str) -> list[str]:
    return [found[1] for found in re.findall(rf"(?ms)^( *)```{language}\n(.*?)^ *```$", (ROOT / "docs" / page).read_text())]


class Literals(ast.NodeVisitor):
    """Collects the texts of a program, line by line, with VALUE in the place of what is filled in. Docstrings are none."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.update(node.value.split("\n"))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        parts = [str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values]
        self.found.update("".join(parts).split("\n"))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)


@cache
def literals() -> frozenset[str]:
    visitor = Literals()
    for path in sorted((ROOT / "plugins").glob("*/*.py")):
        visitor.visit(ast.parse(path.read_text()))
    return frozenset(visitor.found)


@cache
def templates() -> list[re.Pattern[str]]:
    """Return the texts that have at least two words, as patterns whose groups are the fixed parts."""
    long = [text for text in literals() if len(re.findall(r"[^\W\d]{2,}", text)) > 1]
    return [re.compile(".*?".join(f"({re.escape(part.strip())})" for part in text.split(VALUE) if part.strip())) for text in long]


def uncovered(line: str) -> list[str]:
    """Return the words of a quoted line that no text of the sources has in that place, and that are no values."""
    fixed = [False] * len(line)
    for template in templates():
        for match in template.finditer(line):
            for group in range(1, len(match.groups()) + 1):
                begin, end = match.span(group)
                fixed[begin:end] = [True] * (end - begin)
    left = []
    for found in re.finditer(r"\S+", line):
        core = found[0].strip(".,;:()→'")
        begin = line.index(core, found.start()) if core else 0
        is_value = core in VALUES or not re.search(r"[^\W\d]", core) or bool(re.search(r"[\d/@{}\"=]|\w[.]\w", core))
        is_value = is_value or (core.isupper() and core in literals())
        if not is_value and not all(fixed[begin : begin + len(core)]):
            left.append(core)
    return left


QUOTED = [(page, line) for page in PAGES for block in blocks(page, "text") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("line", [pytest.param(line, id=f"{page}: {line[:60]}") for page, line in QUOTED])
def test_quotations_are_what_the_programs_say(line: str) -> None:
    assert uncovered(line) == []


def test_a_quotation_that_nobody_says_is_found() -> None:
    said = "nats-server: while relay1 is out of service, 2 of 4 hosts would be ready (none), and 3 must be"
    assert uncovered(said) == []
    assert "prepared" in uncovered(said.replace("ready", "prepared"))


def fragments() -> Iterator[str]:
    """Yield the parts of sentences that the runbooks name in their text: code of words only."""
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", (ROOT / "docs/runbooks.md").read_text())
    for code in re.findall(r"`([^`\n]+)`", prose):
        if not code.startswith("sudo ") and re.fullmatch(r"[a-z',]+( [a-z',]+)+", words := re.sub(r"\s\S*\d\S*$", "", code)):
            yield words


@pytest.mark.parametrize("fragment", sorted(set(fragments())))
def test_what_to_look_for_is_said(fragment: str) -> None:
    assert any(fragment in text for text in literals())


COMMANDS = [(page, line.strip()) for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
INPUTS = yaml.safe_load((ROOT / "roles/rollout/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
VARIABLES = {*INPUTS, "lab_kontinuum_version"}


@pytest.mark.parametrize("line", [pytest.param(line, id=f"{page}: {line}") for page, line in COMMANDS])
def test_commands_can_be_typed(line: str) -> None:
    words = shlex.split(line.removeprefix("sudo "))
    if words[0] == "ansible-playbook":
        assert (ROOT / words[1]).is_file()
        PlaybookCLI(words).parse()
        given = [after for before, after in itertools.pairwise(words) if before == "-e"]
        assert {one.partition("=")[0] for one in given} <= VARIABLES
    elif words[0] == "hearthctl":
        hearthctl._parser().parse_args(words[1:])
    else:
        assert words[0] in ("journalctl", "df", "systemctl")


@pytest.mark.parametrize("block", [pytest.param(block, id=str(index)) for index, block in enumerate(blocks("runbooks.md", "yaml"))])
def test_fragments_are_parts_of_a_service(block: str) -> None:
    mistakes: list[Mistake] = []
    for key, value in yaml.safe_load(block).items():
        service_schema.SERVICE.fields[key].kind.read(value, key, mistakes)
    assert mistakes == []


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_a_heading(page: str) -> None:
    path = ROOT / "docs" / page
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text()):
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("outcome", [outcome for outcome in transaction.OUTCOMES if outcome != transaction.COMMITTED])
def test_every_bad_outcome_has_a_runbook(outcome: str) -> None:
    table = (ROOT / "docs/runbooks.md").read_text().partition("| the run says")[2].partition("\n\n")[0]
    assert f"`{rollout_report.WORDS[outcome]}`" in table
    assert outcome in rollout_report.RUNBOOKS


@pytest.mark.parametrize("heading", [*rollout_report.RUNBOOKS.values(), rollout_report.UNDECIDED])
def test_what_the_report_names_is_a_runbook(heading: str) -> None:
    assert heading in anchors(ROOT / "docs/runbooks.md")
