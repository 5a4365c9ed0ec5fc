# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell another service about a rollout over HTTP, so that neither a redirect nor an error gives its token away."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 5


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry the token to another place."""

    def redirect_request(self, *_args: Any) -> None:
        """Return nothing, which makes the redirect an error."""
        return


def post(url: str, body: bytes, headers: Mapping[str, str], method: str = "POST") -> str:
    """Send a body to an HTTP(S) URL; return what went wrong, empty when nothing did.

    What is returned names the host only: neither headers nor a password in the URL.
    """
    place = urlsplit(url)
    if place.scheme not in ("http", "https"):
        return "an address to announce to must begin with http:// or https://"
    try:
        # A header with a line break raises ValueError with the header in it.
        request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)  # noqa: S310 - the scheme is checked above
        with urllib.request.build_opener(_Stay()).open(request, timeout=TIMEOUT_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"{place.hostname} answered {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return f"{place.hostname} cannot be reached: {error.reason}"
    except (OSError, ValueError) as error:
        return f"{place.hostname} could not be told ({type(error).__name__})"
