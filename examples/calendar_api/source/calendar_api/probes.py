# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the platform asks: /health, /ready, /metrics."""

from collections.abc import Callable

import redis
import sqlalchemy as sa
from flask import Blueprint, Response
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from .services import services

blueprint = Blueprint("probes", __name__)


@blueprint.get("/health")
def health() -> ResponseReturnValue:
    """The process answers; nothing behind it is asked."""
    return {"status": "ok", "release": services().settings.release}


@blueprint.get("/ready")
def ready() -> ResponseReturnValue:
    """The database and Redis answer too; 503 names the ones that do not."""
    checks = {"database": _answers(_ask_database), "redis": _answers(services().redis.ping)}
    failed = [name for name, works in checks.items() if not works]
    body = {"status": "failed" if failed else "ok", "failed": failed, "release": services().settings.release}
    return body, 503 if failed else 200


@blueprint.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Prometheus text."""
    return Response(services().metrics.render(), content_type=services().metrics.content_type)


def _ask_database() -> None:
    with services().sessions() as session:
        session.execute(sa.text("SELECT 1"))


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (SQLAlchemyError, redis.RedisError):
        return False
    return True
