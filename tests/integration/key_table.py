# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of API keys, the application that checks a key against it, and the module as a process, for the tests of api_key."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psycopg2
from ansible_collections.lastro.deploy.plugins.module_utils import _api_key, _api_key_sink
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url, settings_from_params
from demo.postgres import Postgres

SALT = secrets.token_hex(32)
TABLE = """
CREATE TABLE api_keys (
  id bigserial PRIMARY KEY, name text NOT NULL, generation integer NOT NULL, key_hash bytea NOT NULL, salt_id text NOT NULL, role text DEFAULT 'client',
  created_at timestamptz NOT NULL, revoke_after timestamptz, revoked_at timestamptz)"""

Kill = collections.abc.Callable[[], None]


def hashed(key: str, salt: str = SALT) -> bytes:
    """What an application stores of a key."""
    return hmac.new(salt.encode(), key.encode(), hashlib.sha256).digest()


@dataclasses.dataclass(frozen=True)
class Keys:
    """The table in a database, and the file of one key."""

    url: str
    file: Path

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def accepts(self, key: str) -> bool:
        """What the application answers to a request with this key: one row, by the server's clock."""
        statement = "SELECT count(*) FROM api_keys WHERE key_hash = %s AND revoked_at IS NULL AND (revoke_after IS NULL OR now() < revoke_after)"
        return self.sql(statement, hashed(key)) == [(1,)]

    def rows(self) -> list[tuple[Any, ...]]:
        return self.sql("SELECT name, generation, key_hash, revoke_after, revoked_at FROM api_keys ORDER BY name, generation")

    def generations(self, name: str = "auditor") -> list[int]:
        return [row[0] for row in self.sql("SELECT generation FROM api_keys WHERE name = %s ORDER BY 1", name)]

    def delivered(self) -> int:
        """The generation whose key the file holds; 0 where it holds none of the table."""
        found = self.sql("SELECT generation FROM api_keys WHERE key_hash = %s", hashed(self.file.read_text())) if self.file.exists() else []
        assert len(found) <= 1
        return int(found[0][0]) if found else 0

    def beside(self) -> list[str]:
        """What else is in the file's directory."""
        return sorted(path.name for path in self.file.parent.iterdir() if path != self.file)

    def params(self, **options: object) -> dict[str, Any]:
        """The module's parameters with all defaults."""
        given = {"database_url": self.url, "name": "auditor", "salt": SALT, "sink": {"file": str(self.file)}, **options}
        return dict(_api_key.api_key_argument_spec().checked("options", {name: value for name, value in given.items() if value is not None}))

    def converge(self, *, check: bool = False, **options: object) -> dict[str, Any]:
        params = self.params(**options)
        return _api_key.converge(settings_from_params(params), params, _api_key.Options.from_params(params, check_mode=check), censor=lambda _text: None)

    def look(self, **options: object) -> dict[str, Any]:
        given = {"database_url": self.url, "salt": SALT, **options}
        params = _api_key.api_key_info_argument_spec().checked("options", given)
        return _api_key.look(parse_url(self.url), params, censor=lambda _text: None)

    def child(self, start: float = 0.0, prepare: Kill = lambda: None, **options: object) -> int:
        """Fork a process that converges at the moment *start* (of time.monotonic) and ends with 0, or 1 for a LastroError; its id."""
        pid = os.fork()
        if pid:
            return pid
        status = 2
        try:
            prepare()
            while time.monotonic() < start:
                pass
            self.converge(check=False, **options)
            status = 0
        except LastroError as error:
            sys.stderr.write(f"{error}\n")
            status = 1
        finally:
            os._exit(status)


@contextlib.contextmanager
def fresh_database(postgres: Postgres) -> collections.abc.Iterator[str]:
    """URL of a database for the tests of a file; dropped afterwards."""
    name = f"keys_{secrets.token_hex(6)}"
    connection = psycopg2.connect(postgres.url())
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            yield postgres.url(name)
        finally:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def empty_table(url: str, directory: Path) -> Keys:
    """A new table in the database at *url*, and an empty directory for the file."""
    (directory / "sink").mkdir()
    found = Keys(url, directory / "sink" / "auditor.key")
    found.sql(f"DROP TABLE IF EXISTS api_keys; DROP SCHEMA IF EXISTS access CASCADE; {TABLE}")
    return found


def status_of(pid: int) -> int:
    """How a child ended: its status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def around(owner: Any, name: str, *, after: bool) -> Kill:  # noqa: ANN401 - classes and modules alike
    """Makes the process die just before, or just after, its first call of ``owner.name``."""

    def prepare() -> None:
        original = getattr(owner, name)

        def dying(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever the piece takes
            if after:
                original(*arguments, **keywords)
            kill_self()

        setattr(owner, name, dying)

    return prepare


MOMENTS: dict[str, Kill] = {
    f"{'after' if after else 'before'} {what}": around(owner, name, after=after)
    for what, owner, name in (
        ("the lock", _api_key, "_lock"),
        ("the pending file", _api_key_sink, "write_atomic"),
        ("the pending file's owner", _api_key_sink.Sink, "_dress"),
        ("the statements", _api_key._Run, "_write"),
        ("the rename", _api_key_sink.Sink, "deliver"),
    )
    for after in (False, True)
}


def dumped(results: object) -> str:
    return json.dumps(results, default=str)
