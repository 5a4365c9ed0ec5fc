# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators: people with a shell on the hosts. Their description becomes wanted groups, users and paths (see ``accounts``, ``paths``)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.account_formats import CRYPT_HASH, MAKE_HASH, NO_HASH, SSH_KEY, ssh_key_parts
from ansible_collections.hearth.fleet.plugins.module_utils.errors import InventoryError, Mistake

Wanted = Mapping[str, Any]

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SUDO = {"password": "ALL=(ALL:ALL) ALL", "nopasswd": "ALL=(ALL:ALL) NOPASSWD: ALL"}


def operator_slices(operators: Sequence[Wanted], exclusive_keys: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Return the ``groups``, ``users`` and ``paths`` that make the operators' accounts (input ``account_operators``).

    With ``exclusive_keys``, ``~/.ssh/authorized_keys`` holds the listed keys and no others; without, the listed keys are
    in ``~/.ssh/authorized_keys2``, which sshd reads as well, and the other file is the operator's own.
    Raises InventoryError with all mistakes.
    """
    mistakes = [mistake for index, one in enumerate(operators) for mistake in _operator_mistakes(one, f"account_operators[{index}]")]
    names = [one.get("name") for one in operators]
    mistakes += [
        Mistake(f"account_operators[{index}].name", f"{name!r} is listed twice") for index, name in enumerate(names) if name in names[:index]
    ]
    if mistakes:
        raise InventoryError(mistakes)
    present = [one for one in operators if not _is_absent(one)]
    return {
        "groups": [{"name": one["name"], "gid": None, "system": False} for one in present if one["name"] != "root"],
        "users": [_operator_user(one, exclusive_keys) for one in operators],
        "paths": [path for one in operators for path in _operator_paths(one, exclusive_keys)],
    }


def _is_absent(operator: Wanted) -> bool:
    return bool(operator.get("state", "present") == "absent")


def _operator_home(operator: Wanted) -> str:
    return operator.get("home") or ("/root" if operator["name"] == "root" else f"/home/{operator['name']}")


def _operator_user(operator: Wanted, exclusive_keys: bool) -> dict[str, Any]:
    name = operator["name"]
    return {
        "name": name,
        "group": name,
        "groups": list(operator.get("groups") or ()),
        "uid": None,
        "home": _operator_home(operator),
        "shell": operator.get("shell") or "/bin/bash",
        "system": False,
        "create_home": True,
        "comment": "",
        "password_hash": operator.get("password_hash") or None,
        "service": "",
        "absent": _is_absent(operator),
        "ssh_keys": list(operator.get("ssh_keys") or ()) if exclusive_keys else [],
    }


def _operator_paths(operator: Wanted, exclusive_keys: bool) -> list[dict[str, Any]]:
    name, home, sudo = operator["name"], _operator_home(operator), operator.get("sudo") or "none"
    sudoers = f"/etc/sudoers.d/hearth-{name}"
    managed, other = f"{home}/.ssh/authorized_keys", f"{home}/.ssh/authorized_keys2"
    if not exclusive_keys:
        managed = other
    if _is_absent(operator):
        return [_absent(sudoers), _absent(f"{home}/.ssh/authorized_keys"), _absent(other)]
    paths = []
    if operator.get("ssh_keys"):
        owner = {"owner": name, "group": name, "service": ""}
        paths.append({"path": f"{home}/.ssh", "state": "directory", "mode": "0700", **owner})
        paths.append(_file(managed, "".join(f"{key.strip()}\n" for key in operator["ssh_keys"]), mode="0600", **owner))
        if exclusive_keys:
            paths.append(_absent(other))
    if sudo == "none":
        return [*paths, _absent(sudoers)]
    visudo = ["/usr/sbin/visudo", "-cf", "{path}"]
    return [*paths, _file(sudoers, f"{name} {_SUDO[sudo]}\n", mode="0440", owner="root", group="root", service="", validate=visudo)]


def _file(path: str, content: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "state": "file", "content": content, "sha256": hashlib.sha256(content.encode()).hexdigest(), **more}


def _absent(path: str) -> dict[str, Any]:
    return {"path": path, "state": "absent", "service": ""}


def _operator_mistakes(operator: Wanted, at: str) -> list[Mistake]:
    mistakes = []
    name = operator.get("name") or ""
    if not _NAME.fullmatch(name):
        mistakes.append(Mistake(f"{at}.name", f"{name!r} cannot name an operator", "use a-z, 0-9, _ and -, up to 32, a letter first"))
    if operator.get("state", "present") not in ("present", "absent"):
        mistakes.append(Mistake(f"{at}.state", f"{operator['state']!r} is not one of present, absent"))
    if name == "root" and _is_absent(operator):
        mistakes.append(Mistake(f"{at}.state", "root cannot be absent", "leave root out"))
    if (operator.get("sudo") or "none") not in ("none", *_SUDO):
        mistakes.append(Mistake(f"{at}.sudo", f"{operator['sudo']!r} is not one of none, {', '.join(_SUDO)}"))
    if operator.get("password_hash") and not CRYPT_HASH.fullmatch(operator["password_hash"]):
        mistakes.append(Mistake(f"{at}.password_hash", NO_HASH, MAKE_HASH))
    if operator.get("sudo") == "password" and not operator.get("password_hash") and not _is_absent(operator):
        mistakes.append(
            Mistake(f"{at}.sudo", "sudo asks for a password, and there is no password_hash", "add password_hash, or write sudo: nopasswd")
        )
    if operator.get("ssh_keys") == [] and not _is_absent(operator):
        mistakes.append(
            Mistake(f"{at}.ssh_keys", "no key would lock the operator out", "leave ssh_keys out to leave the keys alone, or write state: absent")
        )
    for index, key in enumerate(operator.get("ssh_keys") or ()):
        match = SSH_KEY.fullmatch(key.strip()) if "\n" not in key.strip() else None
        if match is None or not ssh_key_parts(match["blob"]):
            problem = "this public key is not whole" if match else "not a public key as OpenSSH writes it"
            mistakes.append(Mistake(f"{at}.ssh_keys[{index}]", problem, "write the line of the .pub file: ssh-ed25519 AAAA… me"))
    return mistakes
