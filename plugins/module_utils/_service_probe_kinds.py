# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One question to one service, and its failure in words: PostgreSQL, Redis, TCP, HTTP, TLS. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import socket
import ssl
import time
import typing as t
from urllib.parse import unquote, urlsplit

from ._errors import LastroError, Text
from ._http import RequestFailedError, ask, open_session, url_problem
from ._postgres import connect, parse_url, redact, require_psycopg2

with contextlib.suppress(ImportError):  # require_psycopg2 says so
    import psycopg2

try:
    import redis
    import redis.backoff
    import redis.exceptions
    import redis.retry

    HAS_REDIS = True
except ImportError:
    HAS_REDIS = False

KINDS = ("postgres", "redis", "tcp", "http", "tls")
DEFAULT_PORTS = {"https": 443, "postgres": 5432, "postgresql": 5432, "redis": 6379, "rediss": 6379}


@dataclasses.dataclass(frozen=True)
class Target:
    """Whom to ask. *timeout* in seconds; *url* is not in ``repr``, since it may hold a password."""

    name: str
    kind: str
    url: str = dataclasses.field(default="", repr=False)
    host: str = ""
    port: int = 0
    timeout: float = 5.0
    min_days: int = 14
    ca_cert: str = ""

    @property
    def address(self) -> str:
        """Host and port for messages, without user and password."""
        return f"{self.host}:{self.port}" if self.host else "its address"


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a service told of itself; empty or None where it told nothing."""

    version: str = ""
    days_left: int | None = None


def resolve(target: Target) -> Target:
    """The target with host and port taken from its URL. Raises LastroError where neither says whom to ask."""
    remedy = Text(en=f"Correct the target {target.name}.", pt_BR=f"Corrija o alvo {target.name}.")
    if target.url:
        try:
            parts = urlsplit(target.url)
            port = parts.port or DEFAULT_PORTS.get(parts.scheme.partition("+")[0], 80 if parts.scheme == "http" else 0)
        except ValueError:
            raise LastroError("its URL has an address or port that cannot be read", remedy=remedy) from None
        target = dataclasses.replace(target, host=unquote(parts.hostname or target.host), port=port or target.port)
    if target.kind in ("postgres", "http") and not target.url:
        raise LastroError(f"a target of kind {target.kind} needs a URL", remedy=remedy)
    if not target.url and not (target.host and 0 < target.port < 65536):
        raise LastroError(f"a target of kind {target.kind} needs a URL, or host and port (1 to 65535)", remedy=remedy)
    if target.kind in ("tcp", "tls") and not (target.host and target.port):
        raise LastroError("its URL has no host or no port", remedy=remedy)
    return target


def ask_postgres(target: Target) -> Reply:
    """A query, the server's version, and that it is no standby."""
    settings = parse_url(target.url)
    parameters = {**settings.parameters, "connect_timeout": str(max(math.ceil(target.timeout), 2))}
    settings = dataclasses.replace(settings, parameters=parameters, ca_cert=target.ca_cert or settings.ca_cert)
    limit = f"{int(target.timeout * 1000)}ms"
    require_psycopg2()
    try:
        with connect(settings, application_name="lastro service_probe", autocommit=True, statement_timeout=limit) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), pg_is_in_recovery()")
            ((version, standby),) = cursor.fetchall()
    except psycopg2.Error as error:
        reason = redact(" ".join(str(error).split()), settings)
        raise LastroError(f"PostgreSQL at {target.address} answers no query: {reason}", remedy=_remedy(target)) from None
    if standby:
        raise LastroError(
            f"PostgreSQL at {target.address} is a standby, which takes no writes",
            remedy=Text(en="Point the URL at the primary server.", pt_BR="Aponte a URL para o servidor primário."),
        )
    return Reply(version=str(version).split(" ", 1)[0])


def ask_redis(target: Target) -> Reply:
    """PING, and the version where the role may ask for it."""
    with redis_client(target, command="PING") as client:
        client.ping()
        return Reply(version=_redis_version(client))


@contextlib.contextmanager
def redis_client(target: Target, *, command: str) -> t.Iterator[redis.Redis]:
    """A client that tries once; what goes wrong inside becomes a LastroError which says that *command* was not answered."""
    if not HAS_REDIS:
        raise LastroError(
            "This Python has no redis",
            remedy=Text(
                en="Install redis in the interpreter that ansible_python_interpreter names for this host.",
                pt_BR="Instale redis no interpretador que ansible_python_interpreter indica para este host.",
            ),
        )
    url = target.url or f"redis://{target.host}:{target.port}"
    options: dict[str, t.Any] = {"ssl_ca_certs": target.ca_cert} if target.ca_cert and url.startswith("rediss:") else {}
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=target.timeout,
            socket_connect_timeout=target.timeout,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            **options,
        )
    except ValueError:
        raise LastroError(f"its URL is not a Redis URL (scheme {urlsplit(url).scheme or 'none'})", remedy=_remedy(target)) from None
    try:
        yield client
    except (redis.exceptions.RedisError, OSError) as error:
        raise LastroError(f"Redis at {target.address} does not answer {command}: {_redis_reason(error, target)}", remedy=_remedy(target)) from None
    finally:
        client.close()


def _redis_version(client: redis.Redis) -> str:
    try:
        info = client.info("server")
    except redis.exceptions.ResponseError:
        return ""
    return str(info.get("valkey_version") or info.get("redis_version") or "")


def _redis_reason(error: Exception, target: Target) -> str:
    password = unquote(urlsplit(target.url).password or "")
    if isinstance(error, redis.exceptions.TimeoutError):
        return f"no answer within {target.timeout:g} s"
    if isinstance(error, redis.exceptions.AuthenticationError):
        return "the password is wrong or missing"
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, OSError) and isinstance(cause.errno, int) and cause.errno > 0:
            return os.strerror(cause.errno).lower()
    text = " ".join(str(error).split())[:200]
    return text.replace(password, "********") if password else text


def ask_tcp(target: Target) -> Reply:
    """A connection, closed at once."""
    with _connection(target):
        return Reply()


def ask_http(target: Target) -> Reply:
    """GET, without following redirects; every status below 500 will do."""
    problem = url_problem(target.url)
    if problem:
        raise LastroError(f"its URL {problem}", remedy=_remedy(target))
    with open_session(target.ca_cert or None) as session:
        try:
            answer = ask(session, target.url, timeout=target.timeout)
        except RequestFailedError as error:
            raise LastroError(f"HTTP at {target.address}: {error}", remedy=_remedy(target)) from None
    if answer.status >= 500:
        raise LastroError(f"HTTP at {target.address} answers {answer.status}", remedy=_remedy(target))
    return Reply()


def ask_tls(target: Target, *, now: t.Callable[[], float] = time.time) -> Reply:
    """A handshake that checks chain and name, and how long the certificate is still valid."""
    try:
        context = ssl.create_default_context(cafile=target.ca_cert or None)
    except (OSError, ssl.SSLError):
        remedy = Text(en=f"Correct ca_cert of the target {target.name}.", pt_BR=f"Corrija ca_cert do alvo {target.name}.")
        raise LastroError(f"the file {target.ca_cert} holds no certificate authority that can be read", remedy=remedy) from None
    with _connection(target) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=target.host) as secured:
                certificate = secured.getpeercert() or {}
                version = secured.version() or ""
        except ssl.SSLCertVerificationError as error:
            raise LastroError(f"the certificate of {target.address} is not accepted: {error.verify_message}", remedy=_certificate_remedy(target)) from None
        except ssl.SSLError as error:
            raise LastroError(
                f"TLS with {target.address} failed: {(error.reason or 'no reason given').replace('_', ' ').lower()}", remedy=_remedy(target)
            ) from None
        except OSError as error:
            raise _no_connection(target, error) from None
    days = math.floor((ssl.cert_time_to_seconds(str(certificate["notAfter"])) - now()) / 86400)
    if days < target.min_days:
        raise LastroError(f"the certificate of {target.address} ends in {days} days, expected at least {target.min_days}", remedy=_certificate_remedy(target))
    return Reply(version=version, days_left=days)


def _connection(target: Target) -> socket.socket:
    try:
        return socket.create_connection((target.host, target.port), timeout=target.timeout)
    except OSError as error:
        raise _no_connection(target, error) from None


def _no_connection(target: Target, error: OSError) -> LastroError:
    if isinstance(error, socket.gaierror):
        reason = "the host name does not resolve"
    elif isinstance(error, TimeoutError):
        reason = f"no answer within {target.timeout:g} s"
    else:
        reason = os.strerror(error.errno).lower() if error.errno else "the connection broke"
    return LastroError(f"{target.address} cannot be reached: {reason}", remedy=_remedy(target))


def _remedy(target: Target) -> Text:
    where = target.address if target.host else target.name
    return Text(
        en=f"Check that {where} is up, that address and credentials are right and that no firewall stands between.",
        pt_BR=f"Verifique se {where} está no ar, se o endereço e as credenciais estão certos e se não há firewall no caminho.",
    )


def _certificate_remedy(target: Target) -> Text:
    return Text(
        en=f"Renew the certificate of {target.host}, or name in ca_cert the authority that signed it.",
        pt_BR=f"Renove o certificado de {target.host}, ou indique em ca_cert a autoridade que o assinou.",
    )


ASK: dict[str, t.Callable[[Target], Reply]] = {
    "postgres": ask_postgres,
    "redis": ask_redis,
    "tcp": ask_tcp,
    "http": ask_http,
    "tls": ask_tls,
}

__all__ = ("ASK", "KINDS", "Reply", "Target", "ask_http", "ask_postgres", "ask_redis", "ask_tcp", "ask_tls", "redis_client", "resolve")
