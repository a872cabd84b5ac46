# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a token is kept in its row."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .config import Settings
from .models import Credential

NONCE_BYTES = 12


class TokenStore:
    """AES-256-GCM, and nothing in clear text."""

    def __init__(self, settings: Settings) -> None:
        self._cipher = AESGCM(settings.token_key)

    def read(self, credential: Credential) -> str | None:
        """The token of *credential*; None where it holds none. Raises TokenUnreadableError."""
        if credential.token_encrypted is None:
            return None
        try:
            return self._cipher.decrypt(credential.token_nonce or b"", credential.token_encrypted, None).decode()
        except (InvalidTag, ValueError):
            raise TokenUnreadableError("the ciphertext does not fit the key") from None

    def write(self, credential: Credential, token: str) -> None:
        """Put *token* into *credential*; the caller's session saves it."""
        credential.token_nonce = os.urandom(NONCE_BYTES)
        credential.token_encrypted = self._cipher.encrypt(credential.token_nonce, token.encode(), None)


class TokenUnreadableError(Exception):
    """The row holds something that is not a token of ours. The message has no part of it."""
