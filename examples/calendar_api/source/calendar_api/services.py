# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the views work with, one object for each application."""

import dataclasses
from typing import Self

import redis
from flask import current_app
from sqlalchemy import orm

from .config import Settings
from .credentials import TokenStore
from .database import create_sessions
from .metrics import Metrics
from .provider import Provider


@dataclasses.dataclass(frozen=True)
class Services:
    """The settings, the servers behind the service, and its counters."""

    settings: Settings
    sessions: orm.sessionmaker[orm.Session]
    redis: redis.Redis
    provider: Provider
    tokens: TokenStore
    metrics: Metrics

    @classmethod
    def create(cls, settings: Settings) -> Self:
        """Connects to nothing yet."""
        return cls(
            settings=settings,
            sessions=create_sessions(settings),
            redis=redis.Redis.from_url(settings.redis_url, decode_responses=True, socket_timeout=3, socket_connect_timeout=3, health_check_interval=30),
            provider=Provider(settings),
            tokens=TokenStore(settings),
            metrics=Metrics(),
        )


def services() -> Services:
    """The services of the application that answers this request."""
    found: Services = current_app.extensions["calendar_api"]
    return found
