# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in the headers of requests: ``Bearer {secret:ADMIN_TOKEN}`` names one, and only the host puts its value in.

So the value is in no description, no argument of a module and no output. The host reads it from the file where it keeps the
secret, anew for every request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.hearth.fleet.plugins.module_utils import environment_file
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError
from ansible_collections.hearth.fleet.plugins.module_utils.started_files import StartedFiles

_REFERENCE = re.compile(r"\{secret:\s*([^{}\s]+)\s*\}")
_CONFIDENTIAL = re.compile(r"authorization|cookie|token|secret|password|api-?key", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def references(value: str) -> list[str]:
    """Return the names of the secrets that a header's value refers to."""
    return _REFERENCE.findall(value)


def is_confidential(name: str) -> bool:
    """Return whether a header of this name carries what nobody may see: Authorization, Cookie, X-Api-Key, X-Some-Token."""
    return bool(_CONFIDENTIAL.search(name))


def is_line(value: str) -> bool:
    """Return whether a text can be a header's value: one line, without control characters."""
    return not _CONTROL.search(value)


def read_secrets(files: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the values of secrets, by name, read from where the host keeps them.

    ``files`` holds, for each, its ``path``, and ``as``: environment (one variable of that file) or something else (the whole
    file); and the ``service`` whose daemon has it, if one has: until that is started again, its old secret is the one that it
    knows. Raises FleetError, without any value, for a secret that is not there or cannot be in a header.
    """
    return {name: _read_secret(name, file) for name, file in files.items()}


def _read_secret(name: str, file: Mapping[str, str]) -> str:
    path, variable = file["path"], file["as"] == "environment"
    try:
        content = StartedFiles(file["service"]).read(path) if file.get("service") else Path(path).read_bytes()
        text = content.decode()
    except OSError as error:
        raise FleetError(f"secret {name} cannot be read from {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FleetError(f"secret {name} in {path} is no text") from None
    value = environment_file.parse(text).get(name) if variable else text.rstrip("\n")
    if value is None:
        raise FleetError(f"secret {name} is not in {path}")
    if not is_line(value):
        raise FleetError(f"secret {name} in {path} has several lines, which no header can carry")
    return value


def fill(headers: Mapping[str, object], secrets: Mapping[str, str]) -> dict[str, bytes]:
    """Return headers as they go over the wire, with the values of their secrets. Raises FleetError for what no header can carry."""
    return {name: _fill(name, str(value), secrets) for name, value in headers.items()}


def _fill(name: str, value: str, secrets: Mapping[str, str]) -> bytes:
    unknown = [secret for secret in references(value) if secret not in secrets]
    if unknown:
        raise FleetError(f"header {name} refers to secret {unknown[0]}, of which the request does not say where it is")
    if not is_line(value):
        raise FleetError(f"header {name} has several lines, which no header can carry")
    return _REFERENCE.sub(lambda found: secrets[found[1]], value).encode()


def mask(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the values of secrets, which a daemon may repeat in its answer."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "********")
    return text
