"""docs/reliability.md: the failures a fleet must survive, from tests/reliability.yml, each with the tests that prove it."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
TEST = re.compile(r"^(?:async )?def (test_(f\d\d)_\w+)", re.MULTILINE)

INTRODUCTION = """\
# Reliability

What goes wrong in fleets, what is expected then, and the tests that show it. A test carries the number of its case in its name;
those in `tests/integration` and `molecule` run on booted systemd hosts (`make integration`, `make molecule`), those in `tests/unit` do not.
What takes long is run outside of CI: `make integration-rollout`, and `make pi` on an emulated Raspberry Pi.
"""


def proofs(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the tests of each case, as ``file::test`` relative to the repository, by the case's number."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted([*(root / "tests").rglob("test_*.py"), *(root / "molecule").rglob("test_*.py")]):
        for name, number in TEST.findall(path.read_text(encoding="utf-8")):
            found[number.upper()].append(f"{path.relative_to(root)}::{name}")
    return found


def page(generated: str, root: Path = ROOT) -> str:
    """Return the page; ``generated`` is the line that says not to edit it."""
    cases = yaml.safe_load((root / "tests" / "reliability.yml").read_text(encoding="utf-8"))
    tests = proofs(root)
    unknown = sorted(set(tests) - {number for section in cases.values() for number in section})
    if unknown:
        raise ValueError(f"tests name cases that tests/reliability.yml does not have: {', '.join(unknown)}")
    lines = [generated.format(source="tests/reliability.yml and the tests' names"), "", INTRODUCTION]
    for section, entries in cases.items():
        lines += [f"## {section}", "", "| case | what happens | expected | shown by |", "|---|---|---|---|"]
        for number, (what, expected) in entries.items():
            shown = "<br>".join(f"`{test}`" for test in tests.get(number, [])) or "not yet"
            lines.append(f"| {number} | {what} | {expected} | {shown} |")
        lines.append("")
    return "\n".join(lines)
