# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login at the provider, and who is logged in."""

import datetime
import hmac
import secrets

import sqlalchemy as sa
from flask import Blueprint, abort, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.dialects.postgresql import insert

from .models import Credential, User
from .services import services

SESSION_SECONDS = 12 * 3600

blueprint = Blueprint("login", __name__)


@blueprint.get("/login")
def login() -> ResponseReturnValue:
    """To the provider. The state goes with the browser, signed, and must come back."""
    session["oauth_state"] = secrets.token_urlsafe(24)
    address = services().provider.login_address(
        state=session["oauth_state"], redirect_uri=url_for("login.callback", _external=True), login_hint=request.args.get("login_hint")
    )
    return redirect(address)


@blueprint.get("/oauth/callback")
def callback() -> ResponseReturnValue:
    """Back from the provider: keep the credential, open a session in Redis."""
    state = session.pop("oauth_state", "")
    if not state or not hmac.compare_digest(state, request.args.get("state", "")) or "code" not in request.args:
        abort(400, "this login was not started here, or it was refused")
    provider = services().provider
    token, expires_at = provider.exchange(code=request.args["code"], redirect_uri=url_for("login.callback", _external=True))
    email, name = provider.who(token)
    user_id = _keep(email=email, name=name, token=token, expires_at=expires_at)
    session["id"] = secrets.token_urlsafe(32)
    services().redis.set(_key(session["id"]), user_id, ex=SESSION_SECONDS)
    return redirect(url_for("login.me"))


@blueprint.get("/api/me")
def me() -> ResponseReturnValue:
    """The user of this session; 401 without one."""
    user_id = services().redis.get(_key(session["id"])) if "id" in session else None
    if user_id is None:
        abort(401, "no session: log in at /login")
    with services().sessions() as database:
        user = database.get(User, int(user_id))
        if user is None:
            abort(401, "the user of this session is gone")
        return {"id": user.id, "email": user.email, "name": user.name}


def _key(session_id: str) -> str:
    return f"calendar-api:session:{session_id}"


def _keep(*, email: str, name: str, token: str, expires_at: datetime.datetime) -> int:
    """The id of the user, made or brought up to date together with the credential."""
    with services().sessions.begin() as database:
        # The row of the user stays locked until the end, so two logins of one user keep one credential.
        upsert = insert(User).values(email=email, name=name).on_conflict_do_update(constraint="uq_users_email", set_={"name": name})
        user_id = database.scalars(upsert.returning(User.id)).one()
        credential = database.scalar(sa.select(Credential).where(Credential.user_id == user_id))
        if credential is None:
            credential = Credential(user_id=user_id)
            database.add(credential)
        services().tokens.write(credential, token)
        credential.expires_at = expires_at
        return user_id
