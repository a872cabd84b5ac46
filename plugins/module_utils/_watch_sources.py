# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a watch takes its figures from: probes and scrapes over HTTP, PostgreSQL's own statistics. PRIVATE to the collection."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import time
import typing as t

from . import _http
from ._errors import LastroError, Text
from ._postgres import ConnectionSettings, connect, redact, require_psycopg2

with contextlib.suppress(ImportError):  # require_psycopg2 says what to install
    import psycopg2

WORKERS = 8
APPLICATION_NAME = "lastro.deploy watch"
QUERY_TIMEOUT = "5s"


@dataclasses.dataclass(frozen=True)
class Request:
    """One HTTP request. ``repr`` never shows the headers, which may hold credentials."""

    url: str
    method: str = "GET"
    expect_status: int = 200
    headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back: *status* is None where nothing did, and *problem* says why, in a few words. *seconds* until the last byte."""

    seconds: float
    status: int | None = None
    body: str = ""
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class DatabaseFigures:
    """Connections in use on the whole server, how many it allows, deadlocks of the database since its statistics began."""

    connections: int
    max_connections: int
    deadlocks: int


Fetch = t.Callable[[Request], Answer]
Ask = t.Callable[[], DatabaseFigures]


def http_fetch(*, timeout: float, ca_cert: str | None = None) -> Fetch:
    """A way to send requests, each over a connection of its own, as a new visitor would. Raises LastroError where requests is missing.

    *timeout* (seconds) holds for the whole exchange, *ca_cert* is the authority that servers' certificates are checked against.
    """
    _http.open_session(ca_cert).close()

    def fetch(request: Request) -> Answer:
        started = time.monotonic()
        try:
            with _http.open_session(ca_cert) as session:
                answer = _http.ask(session, request.url, timeout=timeout, method=request.method, headers={**request.headers, "Connection": "close"})
        except _http.RequestFailedError as error:
            return Answer(time.monotonic() - started, problem=str(error))
        return Answer(answer.seconds, answer.status, answer.body.decode("utf-8", errors="replace"))

    return fetch


def fetch_all(wanted: t.Sequence[Request], fetch: Fetch) -> list[Answer]:
    """The answers to all requests, in their order; at most ``WORKERS`` at a time."""
    if not wanted:
        return []
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(WORKERS, len(wanted))) as pool:
        return list(pool.map(fetch, wanted))


_STATISTICS = """
    SELECT (SELECT coalesce(sum(numbackends), 0)::int FROM pg_catalog.pg_stat_database),
           current_setting('max_connections')::int,
           (SELECT coalesce(deadlocks, 0)::bigint FROM pg_catalog.pg_stat_database WHERE datname = current_database())
"""


def database_ask(settings: ConnectionSettings) -> Ask:
    """A way to ask PostgreSQL for its figures, over a connection of its own each time.

    Raises LastroError where psycopg2 is missing; what it returns raises LastroError where the server gives no figures.
    """
    require_psycopg2()

    def ask() -> DatabaseFigures:
        with (
            connect(settings, application_name=APPLICATION_NAME, autocommit=True, statement_timeout=QUERY_TIMEOUT) as connection,
            connection.cursor() as cursor,
        ):
            try:
                cursor.execute(_STATISTICS)
                return DatabaseFigures(*cursor.fetchall()[0])
            except psycopg2.Error as error:
                reason = redact(" ".join(str(error).split()), settings)
                raise LastroError(
                    f"PostgreSQL at {settings} gives no statistics: {reason}",
                    remedy=Text(en="Let the role read pg_stat_database.", pt_BR="Permita que o usuário leia pg_stat_database."),
                ) from None

    return ask


__all__ = ("Answer", "Ask", "DatabaseFigures", "Fetch", "Request", "database_ask", "fetch_all", "http_fetch")
