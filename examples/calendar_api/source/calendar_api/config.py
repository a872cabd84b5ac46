# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings, from the environment alone."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Self

REQUIRED = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET", "OAUTH_BASE_URL")


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

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Raises RuntimeError that names every variable that is missing."""
        environment = os.environ if environment is None else environment
        missing = [name for name in REQUIRED if not environment.get(name)]
        if missing:
            raise RuntimeError(f"environment variables are not set: {', '.join(missing)}")
        return cls(release=environment.get("DEPLOY_RELEASE", "unknown"), **{name.lower(): environment[name] for name in REQUIRED})
