# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every database module reaches PostgreSQL: one spec, one settings object, one ``connect``.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from . import _environment_file
from ._argspec import ArgumentSpec
from ._errors import LastroError, Text

try:
    import psycopg2
    import psycopg2.extensions

    HAS_PSYCOPG2 = True
except ImportError:
    HAS_PSYCOPG2 = False

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from psycopg2.extensions import connection as PostgresConnection

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
CONNECT_TIMEOUT = 10
SECRET_PARAMETERS = ("password", "sslpassword")
SESSION_OPTIONS = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"

LIBPQ_VARIABLES = {
    "hostaddr": "PGHOSTADDR",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "gssdelegation": "PGGSSDELEGATION",
    "gssencmode": "PGGSSENCMODE",
    "gsslib": "PGGSSLIB",
    "krbsrvname": "PGKRBSRVNAME",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "require_auth": "PGREQUIREAUTH",
    "requirepeer": "PGREQUIREPEER",
    "service": "PGSERVICE",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "sslcert": "PGSSLCERT",
    "sslcertmode": "PGSSLCERTMODE",
    "sslcompression": "PGSSLCOMPRESSION",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslkey": "PGSSLKEY",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslsni": "PGSSLSNI",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
"""URL parameters that libpq programs take from the environment. (PGCLIENTENCODING is left out: it would change a dump.)"""

LIBPQ_ONLY = frozenset(
    {
        "client_encoding",
        "fallback_application_name",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "options",
        "passfile",
        "replication",
        "sslpassword",
        "tcp_user_timeout",
    }
)
"""Parameters that only a connection string can hold."""


@dataclasses.dataclass(frozen=True)
class ConnectionSettings:
    """Where a database is and who asks. ``repr`` and ``str`` never show the password."""

    host: str = ""
    port: int = 5432
    user: str = ""
    password: str = dataclasses.field(default="", repr=False)
    database: str = ""
    ssl_mode: str = "prefer"
    ca_cert: str = ""
    parameters: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.user}@{self.host or 'local socket'}:{self.port}/{self.database}"

    def with_database(self, database: str) -> ConnectionSettings:
        """The same server and role, another database."""
        return dataclasses.replace(self, database=database)

    def keywords(self) -> dict[str, t.Any]:
        """libpq parameters for ``psycopg2.connect``; what only another driver knows (``prepared_statement_cache_size``) is left out."""
        known = {name: value for name, value in self.parameters.items() if name in LIBPQ_VARIABLES or name in LIBPQ_ONLY}
        keywords: dict[str, t.Any] = {**known, "port": self.port, "sslmode": self.ssl_mode}
        for name, value in (("host", self.host), ("user", self.user), ("password", self.password), ("dbname", self.database), ("sslrootcert", self.ca_cert)):
            if value:
                keywords[name] = value
        return keywords

    def url(self) -> str:
        """A ``postgresql://`` URL of these settings, password included: only for a child's environment, never for output."""
        credentials = quote(self.user, safe="") + (":" + quote(self.password, safe="") if self.password else "")
        query = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in self._query().items())
        host = "" if self.host.startswith("/") else f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        return f"postgresql://{credentials}@{host}:{self.port}/{quote(self.database, safe='')}" + (f"?{query}" if query else "")

    def secrets(self) -> list[str]:
        """What must be shown nowhere: the password, and that of the client certificate's key."""
        return [secret for secret in (self.password, *(self.parameters.get(name, "") for name in SECRET_PARAMETERS)) if secret]

    def _query(self) -> dict[str, str]:
        query = dict(self.parameters)
        if self.host.startswith("/"):
            query["host"] = self.host
        if self.ssl_mode != "prefer":
            query["sslmode"] = self.ssl_mode
        if self.ca_cert:
            query["sslrootcert"] = self.ca_cert
        return query


def connection_argument_spec() -> ArgumentSpec:
    """The options that go with the doc fragment C(postgres)."""
    return ArgumentSpec(
        options={
            "database_url": {"type": "str", "no_log": True},
            "environment_file": {"type": "path"},
            "url_variable": {"type": "str", "default": "DATABASE_URL"},
            "login_host": {"type": "str", "default": ""},
            "login_port": {"type": "int", "default": 5432},
            "login_user": {"type": "str"},
            "login_password": {"type": "str", "no_log": True},
            "login_db": {"type": "str"},
            "ssl_mode": {"type": "str", "default": "prefer", "choices": list(SSL_MODES)},
            "ca_cert": {"type": "path"},
        },
        required_one_of=(("database_url", "environment_file", "login_db"),),
        mutually_exclusive=(("database_url", "environment_file", "login_db"),),
    )


_URL_REMEDY = Text(
    en="Give it the form postgresql://user:password@host:5432/database, with special characters in the password percent-encoded.",
    pt_BR="Use a forma postgresql://usuario:senha@host:5432/banco, com os caracteres especiais da senha em percent-encoding.",
)


def parse_url(url: str) -> ConnectionSettings:
    """Settings from a postgres://, postgresql:// or postgresql+driver:// URL. Raises LastroError; the URL is not in it.

    What is missing before the question mark may stand after it, as in ``postgresql:///database?host=/run/postgresql&port=5433``.
    """
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        asked = query.pop("port", "")
        port = parts.port or int(asked or 5432)
    except ValueError:
        raise LastroError("The database URL has a port that is not a number.", remedy=_URL_REMEDY) from None
    if parts.scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise LastroError(f"The database URL starts with {parts.scheme or 'no scheme'}, not with postgresql.", remedy=_URL_REMEDY)
    found = {"host": _host(parts.netloc), "user": unquote(parts.username or ""), "password": unquote(parts.password or "")}
    found["database"] = unquote(parts.path.lstrip("/"))
    for name, parameter in (("host", "host"), ("user", "user"), ("password", "password"), ("database", "dbname")):
        other = query.pop(parameter, "")
        found[name] = found[name] or other
    if not found["database"]:
        raise LastroError("The database URL names no database.", remedy=_URL_REMEDY)
    return ConnectionSettings(
        **found,
        port=port,
        ssl_mode=query.pop("sslmode", "prefer"),
        ca_cert=query.pop("sslrootcert", ""),
        parameters=query,
    )


def _host(netloc: str) -> str:
    """The host in its own case: a socket's directory (``%2Ftmp%2FMine``) is no domain name."""
    host = netloc.rpartition("@")[2]
    return unquote(host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0])


def settings_from_params(params: t.Mapping[str, t.Any]) -> ConnectionSettings:
    """Settings from the options of ``connection_argument_spec``. Raises LastroError."""
    if params.get("database_url"):
        return parse_url(params["database_url"])
    if params.get("environment_file"):
        return parse_url(_url_from_file(params["environment_file"], params["url_variable"]))
    return ConnectionSettings(
        host=params.get("login_host") or "",
        port=params.get("login_port") or 5432,
        user=params.get("login_user") or "",
        password=params.get("login_password") or "",
        database=params.get("login_db") or "",
        ssl_mode=params.get("ssl_mode") or "prefer",
        ca_cert=params.get("ca_cert") or "",
    )


def _url_from_file(path: str, variable: str) -> str:
    remedy = Text(
        en=f"Set {variable} in deploy_env, or name the right variable in url_variable.",
        pt_BR=f"Defina {variable} em deploy_env, ou indique a variável certa em url_variable.",
    )
    try:
        variables = _environment_file.read(path)
    except OSError as error:
        raise LastroError(f"The environment file {path} cannot be read: {error.strerror}.", remedy=remedy) from error
    if not variables.get(variable):
        raise LastroError(f"The environment file {path} has no {variable}.", remedy=remedy)
    return variables[variable]


def register_secrets(module: AnsibleModule, settings: ConnectionSettings) -> None:
    """Have Ansible censor the passwords wherever it would show them."""
    module.no_log_values.update(settings.secrets())


def redact(text: str, *settings: ConnectionSettings) -> str:
    """*text* without the passwords of *settings*, in clear or percent-encoded."""
    secrets = {form for one in settings for secret in one.secrets() for form in (secret, quote(secret, safe=""), quote(secret))}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "********")
    return text


def require_psycopg2() -> None:
    """Raises LastroError where psycopg2 is missing in the interpreter that runs the module."""
    if not HAS_PSYCOPG2:
        raise LastroError(
            "This Python has no psycopg2.",
            remedy=Text(
                en="Install psycopg2-binary in the interpreter that ansible_python_interpreter names for the primary host.",
                pt_BR="Instale psycopg2-binary no interpretador que ansible_python_interpreter indica para o host primário.",
            ),
        )


@contextlib.contextmanager
def connect(settings: ConnectionSettings, *, application_name: str, autocommit: bool = False, **session: str) -> t.Iterator[PostgresConnection]:
    """An open connection, closed (and rolled back, unless committed) at the end.

    *application_name* goes before one in the URL, since sessions of dead runs are found by it. *session* holds server
    settings, for example ``lock_timeout="2s"``; role defaults for the statement and idle timeouts are switched off unless
    given, since they would end our long snapshots. Raises LastroError when the server cannot be reached.
    """
    with untouched(settings, application_name=application_name) as connection:
        give(connection, autocommit=autocommit, **session)
        yield connection


@contextlib.contextmanager
def untouched(settings: ConnectionSettings, *, application_name: str) -> t.Iterator[PostgresConnection]:
    """An open connection in autocommit, in whose session nothing was set yet; as C(connect) otherwise."""
    require_psycopg2()
    try:
        connection = psycopg2.connect(**{"connect_timeout": CONNECT_TIMEOUT, **settings.keywords(), "application_name": application_name})
    except (psycopg2.OperationalError, psycopg2.ProgrammingError) as error:
        raise unreachable(settings, error) from None
    try:
        connection.autocommit = True
        yield connection
    finally:
        connection.close()


def give(connection: PostgresConnection, *, autocommit: bool, **session: str) -> None:
    """Set in the session of C(untouched) what C(connect) sets."""
    encoding = session.pop("client_encoding", "")
    if encoding:  # the driver does not notice the setting itself
        connection.set_client_encoding(encoding)
    values = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", **session}
    with connection.cursor() as cursor:
        each = ", ".join(["set_config(%s, %s, false)"] * len(values))
        cursor.execute(f"SELECT {each}", [part for pair in values.items() for part in pair])
    connection.autocommit = autocommit


def unreachable(settings: ConnectionSettings, error: Exception) -> LastroError:
    """The error for a connection that could not be made."""
    reason = redact(" ".join(str(error).split()), settings)
    return LastroError(
        f"PostgreSQL at {settings} cannot be reached: {reason}",
        remedy=Text(
            en="Check that the server runs, that the address, role and password in the database URL are right and that pg_hba.conf lets this host in.",
            pt_BR="Verifique se o servidor está no ar, se o endereço, o usuário e a senha da URL do banco estão certos e se o pg_hba.conf aceita este host.",
        ),
    )


@contextlib.contextmanager
def libpq_environment(settings: ConnectionSettings, *, application_name: str) -> t.Iterator[dict[str, str]]:
    """Environment for a libpq program (pg_dump, pg_restore, psql) that needs no password in argv or environment.

    The password is in a PGPASSFILE, 0600, that exists in this process's memory alone: a kill -9 leaves nothing on a disk.
    Parameters of the URL reach the program where libpq has a variable for them.
    """
    descriptor = os.memfd_create("pgpass")
    try:
        os.fchmod(descriptor, 0o600)
        escaped = settings.password.replace("\\", "\\\\").replace(":", "\\:")
        os.write(descriptor, f"*:*:*:*:{escaped}\n".encode())
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        named = {
            "PGHOST": settings.host,
            "PGPORT": str(settings.port),
            "PGUSER": settings.user,
            "PGDATABASE": settings.database,
            "PGSSLMODE": settings.ssl_mode,
            "PGSSLROOTCERT": settings.ca_cert,
            "PGPASSFILE": f"/proc/{os.getpid()}/fd/{descriptor}",
            "PGAPPNAME": application_name,
            "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT),
            **{variable: settings.parameters.get(name, "") for name, variable in LIBPQ_VARIABLES.items() if name in settings.parameters},
            "PGOPTIONS": f"{settings.parameters.get('options', '')} {SESSION_OPTIONS}".strip(),
        }
        yield {**environment, **{name: value for name, value in named.items() if value}}
    finally:
        os.close(descriptor)


__all__ = (
    "ConnectionSettings",
    "connect",
    "connection_argument_spec",
    "libpq_environment",
    "parse_url",
    "redact",
    "register_secrets",
    "require_psycopg2",
    "settings_from_params",
    "unreachable",
)
