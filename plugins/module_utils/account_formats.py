# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a password's hash and a public key look like, for accounts of services and of operators."""

from __future__ import annotations

import base64
import binascii
import re

CRYPT_HASH = re.compile(r"\$(?:5|6|y|7|gy|2[abxy])\$[./A-Za-z0-9$,=+-]{20,}")
SSH_KEY = re.compile(
    r"(?:.* )?"  # options
    r"(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[a-z0-9-]+@openssh\.com)(?:-cert-v01@openssh\.com)? "
    r"(?P<blob>AAAA[A-Za-z0-9+/]+=*)"
    r"(?: .*)?"  # comment
)

NO_HASH = "password_hash is not a hash of crypt(5), as /etc/shadow holds them"
MAKE_HASH = "write \"{{ the_password | password_hash('sha512', 'a-fixed-salt') }}\", or what mkpasswd prints; a password itself is never accepted"


def ssh_key_parts(blob: str) -> list[bytes]:
    """Return the parts of a public key in base64, each preceded by its length; nothing for what is cut or has more."""
    try:
        left = base64.b64decode(blob, validate=True)
    except (ValueError, binascii.Error):
        return []
    parts = []
    while left:
        size = int.from_bytes(left[:4], "big")
        if len(left) < 4 + size:
            return []
        parts.append(left[4 : 4 + size])
        left = left[4 + size :]
    return parts
