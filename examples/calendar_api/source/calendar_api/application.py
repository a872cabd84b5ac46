# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application: views, errors in JSON, and the release on every answer."""

import redis
from flask import Flask, Response, request
from flask.sessions import SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from . import login, probes, scheduling, users
from .config import Settings
from .credentials import TokenUnreadableError
from .provider import ProviderError
from .services import Services


class Sessions(SecureCookieSessionInterface):
    """Flask's signed cookie, marked Secure wherever the browser came over HTTPS."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Whether this request came over HTTPS."""
        return request.is_secure


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application. Raises RuntimeError where the environment lacks a setting."""
    app = Flask(__name__, static_folder=None)
    found = Services.create(settings or Settings.from_environment())
    app.extensions["calendar_api"] = found
    app.secret_key = found.settings.secret_key
    app.session_interface = Sessions()
    app.config.update(SESSION_COOKIE_NAME="calendar_session", SESSION_COOKIE_SAMESITE="Lax", MAX_CONTENT_LENGTH=64 * 1024)
    # One proxy stands in front: it says which host and scheme the browser used.
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
    for module in (probes, login, scheduling, users):
        app.register_blueprint(module.blueprint)
    _handle_errors(app)

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Release"] = found.settings.release
        found.metrics.count(request, response)
        return response

    return app


def _handle_errors(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> ResponseReturnValue:
        response = error.get_response()
        response.data = app.json.dumps({"error": error.description})
        response.content_type = "application/json"
        return response

    @app.errorhandler(OperationalError)
    @app.errorhandler(NoConnectionFree)
    @app.errorhandler(redis.RedisError)
    def unavailable(error: Exception) -> ResponseReturnValue:
        app.logger.error("a server behind the service does not answer: %s", type(error).__name__)
        return {"error": "the service is not available now"}, 503

    @app.errorhandler(ProviderError)
    def provider_failed(error: ProviderError) -> ResponseReturnValue:
        app.logger.error("%s", error)
        return {"error": str(error)}, 502

    @app.errorhandler(TokenUnreadableError)
    def unreadable(error: TokenUnreadableError) -> ResponseReturnValue:
        app.logger.error("a stored token is not readable: %s", error)
        return {"readable": False, "error": str(error)}, 409
