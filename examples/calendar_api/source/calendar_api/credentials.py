# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a token is kept in its row."""

from .config import Settings
from .models import Credential


class TokenStore:
    """Tokens in clear text, as they always were."""

    def __init__(self, settings: Settings) -> None:
        """No setting matters here yet."""

    def read(self, credential: Credential) -> str | None:
        """The token of *credential*; None where it holds none."""
        return credential.token

    def write(self, credential: Credential, token: str) -> None:
        """Put *token* into *credential*; the caller's session saves it."""
        credential.token = token


class TokenUnreadableError(Exception):
    """The row holds something that is not a token of ours. The message has no part of it."""
