# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far this host's clock is from the store's: a board without a battery may wake up in another year."""

from __future__ import annotations

import calendar
import time
from urllib.parse import urlsplit

from ansible_collections.hearth.fleet.plugins.module_utils.bounded_child import BoundedChild
from ansible_collections.hearth.fleet.plugins.module_utils.errors import FleetError

TOLERABLE_SECONDS = 60
"""A clock that is off by more is worth a word. At a quarter of an hour, many stores refuse every request."""

_TIMEOUT_SECONDS = 10.0


def skew_seconds(endpoint: str, ca: str = "") -> int | None:
    """Return by how many seconds this host's clock is ahead of the store's; None when the store did not say what time it is.

    ``ca`` is a file of certificates in PEM (empty: the system's).
    """
    # In a process of its own, whose memory is given back: http.client is the larger half of what a backup needs.
    with BoundedChild(lambda: _ask(endpoint, ca), _TIMEOUT_SECONDS + 5, f"asking {endpoint} for the time") as child:
        try:
            found: int | None = child.result()
        except FleetError:
            return None
    return found


def _ask(endpoint: str, ca: str) -> int:
    import http.client

    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if parts.scheme == "https":
        import ssl

        context = ssl.create_default_context(cafile=ca or None)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, parts.port, timeout=_TIMEOUT_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        before = time.time()
        connection.request("HEAD", "/", headers={"Connection": "close"})
        said = connection.getresponse().getheader("Date") or ""
        after = time.time()
    except http.client.HTTPException as error:
        raise FleetError(str(error)) from error
    finally:
        connection.close()
    return round((before + after) / 2 - parse_date(said))


def parse_date(text: str) -> int:
    """Return the Unix seconds of an HTTP date (``Sat, 21 Nov 2026 14:15:00 GMT``). Raises FleetError."""
    try:
        return calendar.timegm(time.strptime(text, "%a, %d %b %Y %H:%M:%S GMT"))
    except ValueError:
        raise FleetError(f"{text!r} is no date") from None
