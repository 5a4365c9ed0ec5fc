# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a function of this directory on a host that has none of its files: their sources come in one text, and stay in memory.

This file's own text is the beginning of that one (``plugin_utils.sent_python``), so it imports nothing of the collection, and is all ASCII.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
import zlib
from collections.abc import Mapping
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import CodeType
from typing import Any

PACKAGE = "ansible_collections.hearth.fleet.plugins.module_utils"


class Sources(InspectLoader):
    """Finds and loads modules whose sources it has. https://docs.python.org/3/reference/import.html#the-meta-path"""

    def __init__(self, sources: Mapping[str, str]) -> None:
        parts = PACKAGE.split(".")
        self._packages = {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
        self._sources = {**dict.fromkeys(self._packages, ""), **{f"{PACKAGE}.{name}": source for name, source in sources.items()}}

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Return how to import ``name``; None for what others have."""
        return spec_from_loader(name, self) if name in self._sources else None

    def is_package(self, fullname: str) -> bool:
        """Tell whether a module has modules below it."""
        return fullname in self._packages

    def get_source(self, fullname: str) -> str:
        """Return a module's source; a package has none."""
        return self._sources[fullname]

    def get_code(self, fullname: str) -> CodeType:
        """Return a module, compiled."""
        return self.source_to_code(self.get_source(fullname), fullname)


def run(packed: str) -> None:
    """Write the result of a function to standard output, as JSON in one line; ``packed`` is what ``pack`` returned."""
    given = json.loads(zlib.decompress(base64.b85decode(packed)))
    sys.meta_path.insert(0, Sources(given["sources"]))
    function = getattr(importlib.import_module(f"{PACKAGE}.{given['module']}"), given["function"])
    sys.stdout.write(json.dumps(function(**given["arguments"])) + "\n")


def pack(sources: Mapping[str, str], module: str, function: str, arguments: Mapping[str, Any]) -> str:
    """Return what ``run`` takes: a function of a module, its arguments by name, and the sources of all that it imports."""
    given = {"sources": dict(sources), "module": module, "function": function, "arguments": dict(arguments)}
    return base64.b85encode(zlib.compress(json.dumps(given).encode(), 1)).decode()
