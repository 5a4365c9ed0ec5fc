# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of descriptions laid over one another, with a note of where each part was written."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ansible_collections.hearth.fleet.plugins.module_utils.errors import Mistake, join_path

_ADDED = 3
"""So many overrides of one thing are named."""

_NAMED_LISTS = {"ports": "name", "config": "path", "directories": "path", "bootstrap": "creates"}
"""Lists of a service whose items are merged by a key of theirs, so that an override can change one port of three."""


def merge(base: Any, layer: Any, path: str, layer_path: str, origins: dict[str, str], *, within: bool = False) -> Any:
    """Return ``base`` with ``layer`` laid over it: mappings per key, everything else replaced, null taking a key away.

    A service's own lists of named things are merged by these names; ``within`` one of its keys there are none.

    ``origins`` learns, for each merged path, the path of the layer it came from, so that mistakes name the right place.
    """
    if not isinstance(base, Mapping) or not isinstance(layer, Mapping):
        _note_origin(path, layer_path, origins)
        return copy.deepcopy(layer)
    merged = dict(base)
    for key, value in layer.items():
        below, layer_below = join_path(path, key), join_path(layer_path, key)
        if value is None:
            # What is then missing was taken away here.
            _note_origin(below, layer_below, origins)
            merged.pop(key, None)
        elif not within and key in _NAMED_LISTS and _is_named(merged.get(key), _NAMED_LISTS[key]) and _is_named(value, _NAMED_LISTS[key]):
            merged[key] = _merge_named(merged[key], value, _NAMED_LISTS[key], below, layer_below, origins)
        elif key in merged:
            merged[key] = merge(merged[key], value, below, layer_below, origins, within=True)
        else:
            _note_origin(below, layer_below, origins)
            merged[key] = copy.deepcopy(value)
    return merged


def _note_origin(path: str, layer_path: str, origins: dict[str, str]) -> None:
    """Note that all of ``path`` is of one layer now, whatever earlier ones wrote within."""
    for within in [noted for noted in origins if _is_within(noted, path)]:
        del origins[within]
    origins[path] = layer_path


def _is_within(path: str, whole: str) -> bool:
    return path == whole or path.startswith((f"{whole}.", f"{whole}["))


def _is_named(items: Any, name_key: str) -> bool:
    return isinstance(items, list) and all(isinstance(item, Mapping) and isinstance(item.get(name_key), str) for item in items)


def _merge_named(base: list[Any], layer: list[Any], name_key: str, path: str, layer_path: str, origins: dict[str, str]) -> list[Any]:
    merged = list(base)
    places = {item[name_key]: index for index, item in enumerate(merged)}
    for layer_index, item in enumerate(layer):
        index = places.get(item[name_key], len(merged))
        below, layer_below = join_path(path, index), join_path(layer_path, layer_index)
        if index == len(merged):
            _note_origin(below, layer_below, origins)
            merged.append(copy.deepcopy(item))
        else:
            merged[index] = merge(merged[index], item, below, layer_below, origins, within=True)
    return merged


def original_path(path: str, origins: Mapping[str, str]) -> str:
    """Return where in the inventory a merged path was written: the longest known beginning, translated."""
    known = [start for start in origins if _is_within(path, start)]
    if not known:
        return path
    start = max(known, key=len)
    return origins[start] + path[len(start) :]


def where_written(mistake: Mistake, origins: Mapping[str, str]) -> Mistake:
    """Return a mistake of a merged description with the path at which it was written, and what overrides have added below that."""
    path = original_path(mistake.path, origins)
    added = sorted({origin for start, origin in origins.items() if start != mistake.path and _is_within(start, mistake.path)})
    more = f" (with {', '.join(added[:_ADDED])}{', …' if len(added) > _ADDED else ''})" if added else ""
    return mistake._replace(path=path, problem=mistake.problem + more)
