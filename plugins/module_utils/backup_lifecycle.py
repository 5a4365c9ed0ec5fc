# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lifecycle rules by which the store itself expires backups, one for each class: what they should be, and what is wrong with those that are.

Rules are plain data, as S3's PutBucketLifecycleConfiguration takes them. Rules of others in the same bucket are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils import backup_names as names

OWN = "hearth-"
"""How the ids of the collection's rules begin."""

ABORT_DAYS = 7
"""After so many days, the parts of an upload that was never completed go: long enough for 100 GB over a slow line."""

Rule = Mapping[str, Any]


def wanted(classes: Iterable[str], prefix: str = "", *, versioned: bool = False) -> list[dict[str, Any]]:
    """Return the rules for these classes, and for what checks write, below a store's prefix.

    In a bucket with versions they are also about what was replaced or deleted.
    """
    base = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    found = []
    for class_name in sorted({*classes, names.PROBE_CLASS}):
        keep = names.split_class(class_name)[1]
        if keep:
            days = names.expiry_days(keep)
            rule = _rule(f"{OWN}{base.replace('/', '-')}{class_name}", base + names.class_prefix(class_name), Expiration={"Days": days})
            found.append({**rule, "NoncurrentVersionExpiration": {"NoncurrentDays": days}} if versioned else rule)
    abort = {"DaysAfterInitiation": ABORT_DAYS}
    found.append(_rule(f"{OWN}{base.replace('/', '-')}incomplete", f"{base}{names.VERSION}/", AbortIncompleteMultipartUpload=abort))
    return found


def _rule(identifier: str, prefix: str, **what: Any) -> dict[str, Any]:
    return {"ID": identifier, "Status": "Enabled", "Filter": {"Prefix": prefix}, **what}


def merged(present: Sequence[Rule], rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """Return all rules that the bucket should have: those of others as they are, and these; each in its place, as stores have orders of their own."""
    ours = {rule["ID"]: rule for rule in rules}
    kept = [dict(ours.pop(rule.get("ID"), rule)) for rule in present if rule.get("ID") in ours or not _is_stale(rule, rules)]
    return [*kept, *map(dict, ours.values())]


def _is_stale(rule: Rule, rules: Sequence[Rule]) -> bool:
    """Return whether a rule is one of the collection's for the same place, which is no longer wanted there."""
    return str(rule.get("ID", "")).startswith(OWN) and prefix_of(rule) in {prefix_of(one) for one in rules}


def problems(present: Sequence[Rule], rules: Sequence[Rule]) -> list[str]:
    """Return what is wrong with a bucket's rules, in words; nothing where they do what they should."""
    by_id = {rule.get("ID"): rule for rule in present}
    said = []
    for rule in rules:
        found = by_id.get(rule["ID"])
        if found is None:
            said.append(f"{prefix_of(rule)}: there is no rule; {_words(rule)} is wanted")
        elif found.get("Status") != "Enabled":
            said.append(f"{prefix_of(rule)}: the rule {rule['ID']} is not enabled")
        elif prefix_of(found) != prefix_of(rule) or any(found.get(key) != rule[key] for key in rule if key not in ("ID", "Filter")):
            said.append(
                f"{prefix_of(rule)}: the rule {rule['ID']} says {_words(found)} of {prefix_of(found) or 'everything'}, wanted is {_words(rule)}"
            )
    return [*said, *_foreign_problems(present, rules)]


def _foreign_problems(present: Sequence[Rule], rules: Sequence[Rule]) -> list[str]:
    """Return which rules of others would remove backups."""
    ours = {rule["ID"] for rule in rules}
    backups = next(prefix_of(rule) for rule in rules if "AbortIncompleteMultipartUpload" in rule)
    said = []
    for rule in present:
        prefix = prefix_of(rule)
        touches = backups.startswith(prefix) or prefix.startswith(backups)
        removes = "Expiration" in rule and rule.get("Status") == "Enabled"
        narrowed = set(rule.get("Filter") or {}) - {"Prefix"}
        if rule.get("ID") not in ours and touches and removes and not narrowed and not _is_left_over(rule, rules, backups):
            said.append(
                f"{prefix or 'everything'}: the rule {rule.get('ID') or 'without a name'}, which is not the collection's, removes backups too"
            )
    return said


def _is_left_over(rule: Rule, rules: Sequence[Rule], backups: str) -> bool:
    """Return whether a rule is one of the collection's for a class that is no more: it does no harm to those that are."""
    prefix = prefix_of(rule)
    return str(rule.get("ID", "")).startswith(OWN) and prefix.startswith(backups) and prefix != backups and not _is_stale(rule, rules)


def prefix_of(rule: Rule) -> str:
    """Return what a rule is about; the old form of rules has the prefix outside of the filter."""
    return str((rule.get("Filter") or {}).get("Prefix") or rule.get("Prefix") or "")


def _words(rule: Rule) -> str:
    expiration = rule.get("Expiration") or {}
    noncurrent = rule.get("NoncurrentVersionExpiration") or {}
    abort = rule.get("AbortIncompleteMultipartUpload") or {}
    words = [
        f"expiry after {expiration['Days']} days" if "Days" in expiration else "another expiry" if expiration else "",
        f"expiry of replaced versions after {noncurrent['NoncurrentDays']} days" if "NoncurrentDays" in noncurrent else "",
        f"abort of incomplete uploads after {abort['DaysAfterInitiation']} days" if "DaysAfterInitiation" in abort else "",
    ]
    return " and ".join(filter(None, words)) or "nothing of the kind"
