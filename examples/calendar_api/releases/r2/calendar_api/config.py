# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings, from the environment alone."""

import base64
import binascii
import dataclasses
import os
from collections.abc import Mapping
from typing import Self

REQUIRED = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET", "OAUTH_BASE_URL")
KEY_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the service needs to know. ``repr`` shows the release alone."""

    release: str
    database_url: str = dataclasses.field(repr=False)
    redis_url: str = dataclasses.field(repr=False)
    secret_key: str = dataclasses.field(repr=False)
    google_client_id: str = dataclasses.field(repr=False)
    google_client_secret: str = dataclasses.field(repr=False)
    oauth_base_url: str = dataclasses.field(repr=False)
    token_key: bytes = dataclasses.field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Raises RuntimeError that names every variable that is missing, or a key that is none."""
        environment = os.environ if environment is None else environment
        missing = [name for name in (*REQUIRED, "TOKEN_ENCRYPTION_KEY") if not environment.get(name)]
        if missing:
            raise RuntimeError(f"environment variables are not set: {', '.join(missing)}")
        return cls(
            release=environment.get("DEPLOY_RELEASE", "unknown"),
            token_key=_token_key(environment["TOKEN_ENCRYPTION_KEY"]),
            **{name.lower(): environment[name] for name in REQUIRED},
        )


def _token_key(text: str) -> bytes:
    try:
        key = base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise RuntimeError(f"TOKEN_ENCRYPTION_KEY must be the urlsafe base64 of {KEY_BYTES} bytes")
    return key
