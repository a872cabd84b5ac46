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
import tempfile
import typing as t
from pathlib import Path
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
    parameters: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.user}@{self.host or 'local socket'}:{self.port}/{self.database}"

    def with_database(self, database: str) -> ConnectionSettings:
        """The same server and role, another database."""
        return dataclasses.replace(self, database=database)

    def keywords(self) -> dict[str, t.Any]:
        """libpq parameters for ``psycopg2.connect``."""
        keywords: dict[str, t.Any] = {"port": self.port, "sslmode": self.ssl_mode, **self.parameters}
        for name, value in (("host", self.host), ("user", self.user), ("password", self.password), ("dbname", self.database), ("sslrootcert", self.ca_cert)):
            if value:
                keywords[name] = value
        return keywords

    def url(self) -> str:
        """A ``postgresql://`` URL of these settings, password included: only for a child's environment, never for output."""
        credentials = quote(self.user, safe="") + (":" + quote(self.password, safe="") if self.password else "")
        query = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in self._query().items())
        host = self.host if not self.host.startswith("/") else ""
        return f"postgresql://{credentials}@{host}:{self.port}/{quote(self.database, safe='')}" + (f"?{query}" if query else "")

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
    """Settings from a postgres://, postgresql:// or postgresql+driver:// URL. Raises LastroError; the URL is not in it."""
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        raise LastroError("The database URL has a port that is not a number.", remedy=_URL_REMEDY) from None
    if parts.scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise LastroError(f"The database URL starts with {parts.scheme or 'no scheme'}, not with postgresql.", remedy=_URL_REMEDY)
    database = unquote(parts.path.lstrip("/"))
    if not database:
        raise LastroError("The database URL names no database.", remedy=_URL_REMEDY)
    query = dict(parse_qsl(parts.query))
    return ConnectionSettings(
        host=unquote(parts.hostname or query.pop("host", "")),
        port=port,
        user=unquote(parts.username or query.pop("user", "")),
        password=unquote(parts.password or query.pop("password", "")),
        database=database,
        ssl_mode=query.pop("sslmode", "prefer"),
        ca_cert=query.pop("sslrootcert", ""),
        parameters=query,
    )


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
    """Have Ansible censor the password wherever it would show it."""
    if settings.password:
        module.no_log_values.add(settings.password)


def redact(text: str, *settings: ConnectionSettings) -> str:
    """*text* without the passwords of *settings*, in clear or percent-encoded."""
    for one in settings:
        for secret in {one.password, quote(one.password, safe=""), quote(one.password)}:
            if secret:
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

    *session* holds server settings, for example ``lock_timeout="2s"``; role defaults for the statement and idle
    timeouts are switched off unless given, since they would end our long snapshots. Raises LastroError when the
    server cannot be reached.
    """
    require_psycopg2()
    values = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", **session}
    try:
        connection = psycopg2.connect(application_name=application_name, **{"connect_timeout": CONNECT_TIMEOUT, **settings.keywords()})
    except psycopg2.OperationalError as error:
        raise unreachable(settings, error) from None
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for name, value in values.items():
                cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.autocommit = autocommit
        yield connection
    finally:
        connection.close()


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

    The password is in a PGPASSFILE, 0600 in a 0700 directory, that is removed at the end.
    """
    with tempfile.TemporaryDirectory(prefix="lastro-") as directory:
        passfile = Path(directory) / "pgpass"
        escaped = settings.password.replace("\\", "\\\\").replace(":", "\\:")
        descriptor = os.open(passfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(f"*:*:*:*:{escaped}\n")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        named = {
            "PGHOST": settings.host,
            "PGPORT": str(settings.port),
            "PGUSER": settings.user,
            "PGDATABASE": settings.database,
            "PGSSLMODE": settings.ssl_mode,
            "PGSSLROOTCERT": settings.ca_cert,
            "PGPASSFILE": str(passfile),
            "PGAPPNAME": application_name,
            "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT),
            "PGOPTIONS": "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0",
        }
        yield {**environment, **{name: value for name, value in named.items() if value}}


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
