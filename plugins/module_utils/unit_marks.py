# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where units of ours lie, and how they are known: by their first line, and by the tool that notes what their services start with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNITS = "/etc/systemd/system"
HEADER = "# Managed by hearth.fleet: service "
"""The first line of our unit files, followed by the service's name."""

STAMP_PATH = "/usr/local/lib/hearth/stamp"

STAMP_SCRIPT = r"""#!/bin/sh
# Managed by hearth.fleet. Usage: stamp SERVICE FILE...            when the service starts
#                                 stamp --reload SERVICE FILE...   when it has read just these files again
# Records in /run/hearth/SERVICE.started what the service runs with: a line "release DIRECTORY", and a line
# "SHA256  PATH" for every file, the unit file and its drop-ins ("-" for what is not there).
# /run/hearth/SERVICE.files/SHA256 are copies of these files, so that what a service runs with can be put back.
# It only takes notes, so it never keeps a service from starting.
trap 'exit 0' EXIT
umask 077
reload=
if [ "$1" = --reload ]; then reload=yes; shift; fi
service=$1
shift
unit=/etc/systemd/system/$service.service
stamp=/run/hearth/$service.started
copies=/run/hearth/$service.files
if [ "$reload" ] && { [ ! -f "$stamp" ] || [ $# -eq 0 ]; }; then exit 0; fi

missing() {
  for path; do [ -f "$path" ] && [ -r "$path" ] || printf -- '-  %s\n' "$path"; done
}

digests() {
  missing "$@"
  [ $# -eq 0 ] || sha256sum --zero -- "$@" 2>/dev/null | tr '\0' '\n'
}

started() {
  current=-
  if [ -e "/opt/$service/current" ]; then current=$(readlink -f "/opt/$service/current"); fi
  printf 'release %s\n' "$current"
  set -- "$@" "$unit"
  for path in "$unit.d"/*.conf; do [ ! -f "$path" ] || set -- "$@" "$path"; done
  digests "$@"
}

reloaded() {
  fresh=$(digests "$@")
  printf '%s\n' "$fresh"
  # What was not read again stays as it was when the service started.
  while IFS= read -r line; do
    for path; do [ "${line#*  }" != "$path" ] || continue 2; done
    printf '%s\n' "$line"
  done <"$stamp"
}

# One copy of each file that the stamp names; no program is started for those that are there.
copy() {
  named=
  while IFS= read -r line; do
    digest=${line%%  *}
    case $line in "release "* | "-  "*) continue ;; esac
    named="$named $digest"
    [ -e "$copies/$digest" ] || cp -p -- "${line#*  }" "$copies/$digest"
  done <"$stamp"
  for path in "$copies"/*; do
    case "$named " in *" ${path##*/} "*) ;; *) rm -f -- "$path" ;; esac
  done
}

mkdir -p "$copies" || exit 0
new=$stamp.$$
if [ -n "$reload" ]; then reloaded "$@" >"$new"; else started "$@" >"$new"; fi && mv -f "$new" "$stamp" && copy || rm -f "$new"
"""


def entry(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the unit file as a path, for ``paths``."""
    content = {"content": wanted["content"]} if wanted.get("content") is not None else {}
    return {
        "path": f"{UNITS}/{wanted['name']}", "state": "file", "owner": "root", "group": "root", "mode": "0644",
        "sha256": wanted["sha256"], "service": wanted["service"], **content,
    }  # fmt: skip
