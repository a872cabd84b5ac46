# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stored tokens: renewed, and checked without being shown.

These two are for the deploy's own probes. The proxy in front keeps /api/users/ away from the public.
"""

import hashlib

import sqlalchemy as sa
from flask import Blueprint, abort
from flask.typing import ResponseReturnValue
from sqlalchemy import orm

from .credentials import TokenUnreadableError
from .models import Credential
from .services import services

blueprint = Blueprint("users", __name__, url_prefix="/api/users")


@blueprint.get("/<int:user_id>/token-check")
def token_check(user_id: int) -> ResponseReturnValue:
    """Whether the stored token can be read, and the start of its SHA-256."""
    with services().sessions() as session:
        return {"readable": True, "sha256": _short_digest(_read(session, user_id))}


@blueprint.post("/<int:user_id>/renew")
def renew(user_id: int) -> ResponseReturnValue:
    """Renew the token at the provider and keep the new one. No transaction waits for the provider."""
    with services().sessions() as session:
        token = _read(session, user_id)
    token, expires_at = services().provider.renew(token)
    with services().sessions.begin() as session:
        credential = _credential(session, user_id)
        services().tokens.write(credential, token)
        credential.expires_at = expires_at
    return {"renewed": True, "sha256": _short_digest(token), "expires_at": expires_at.isoformat(timespec="seconds")}


def _credential(session: orm.Session, user_id: int) -> Credential:
    credential = session.scalar(sa.select(Credential).where(Credential.user_id == user_id)) if user_id < 2**63 else None
    if credential is None:
        abort(404, "this user has no credential")
    return credential


def _read(session: orm.Session, user_id: int) -> str:
    """The stored token. Raises TokenUnreadableError."""
    token = services().tokens.read(_credential(session, user_id))
    if not token:
        raise TokenUnreadableError("the row holds no token")
    return token


def _short_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:12]
