# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of api_key and the look of api_key_info. PRIVATE to the collection.

A rotation is: lock, read, decide, write the pending file, one transaction, rename. A kill before the commit leaves the table
and the file as they were; one after it leaves a pending file whose key the table knows, which the next run delivers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ._api_key_make import Random, Style, hash_of, make, prefix_problem, salt_from_params
from ._api_key_notify import Channels, channels_from_params, notify
from ._api_key_plan import Held, Plan, Seen, State, Wish, decide
from ._api_key_sink import MODES, Sink, sink_from_params
from ._api_key_table import COLUMNS, Row, Statements, lock_number, read_table
from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._gates import parse_duration
from ._postgres import ConnectionSettings, connect, connection_argument_spec, require_psycopg2

with contextlib.suppress(ImportError):
    import psycopg2
    from psycopg2 import errors

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection
    from psycopg2.extensions import cursor as Cursor

LOCK_SECONDS = 30
APPLICATION_NAME = "lastro.deploy api key"
Censor = t.Callable[[str], object]
"""Told each secret that the module comes to hold, so that no output shows it."""

Params = t.Mapping[str, t.Any]


def table_argument_spec() -> ArgumentSpec:
    """The options that go with the doc fragment C(api_key_table)."""
    sink = {
        "file": {"type": "path", "required": True},
        "mode": {"type": "str", "default": MODES[0], "choices": list(MODES)},
        "owner": {"type": "str"},
        "group": {"type": "str"},
    }
    return ArgumentSpec(
        options={
            "schema": {"type": "str", "default": "public"},
            "table": {"type": "str", "default": "api_keys"},
            "columns": {"type": "dict", "options": {purpose: {"type": "str", "default": name, "no_log": False} for purpose, name in COLUMNS.items()}},
            "hash_format": {"type": "str", "choices": ["bytea", "hex", "base64", "base64url"]},
            "salt": {"type": "str", "no_log": True},
            "salt_variable": {"type": "str", "default": "API_KEY_SALT", "no_log": False},
            "salt_format": {"type": "str", "default": "text", "choices": ["text", "hex", "base64"]},
            "sink": {"type": "dict", "options": sink},
        }
    )


def api_key_argument_spec() -> ArgumentSpec:
    """The options of the module api_key."""
    notified = {"webhook": {"type": "str", "no_log": True}, "redis_url": {"type": "str", "no_log": True}, "channel": {"type": "str"}}
    own = ArgumentSpec(
        options={
            "state": {"type": "str", "default": "present", "choices": ["present", "rotated", "revoked"]},
            "name": {"type": "str", "required": True},
            "generation": {"type": "int"},
            "rotate_if_older_than": {"type": "str"},
            "grace": {"type": "str", "default": "7d"},
            "salt_id": {"type": "str", "default": "1"},
            "style": {"type": "str", "default": "plain", "choices": ["plain", "prefixed"]},
            "prefix": {"type": "str", "default": ""},
            "column_values": {"type": "dict", "default": {}},
            "return_secret": {"type": "bool", "default": False},
            "notify": {"type": "dict", "options": notified, "required_together": [("redis_url", "channel")]},
        },
        required_if=(("state", "rotated", ("generation", "rotate_if_older_than"), True),),
        mutually_exclusive=(("generation", "rotate_if_older_than"),),
    )
    return connection_argument_spec().merge(table_argument_spec()).merge(own)


def api_key_info_argument_spec() -> ArgumentSpec:
    """The options of the module api_key_info."""
    return connection_argument_spec().merge(table_argument_spec()).merge(ArgumentSpec({"name": {"type": "str"}}))


@dataclasses.dataclass(frozen=True)
class Options:
    """What api_key was asked for. *salt* and *sink* are None for state revoked."""

    wish: Wish
    salt: bytes | None = dataclasses.field(repr=False)
    style: Style
    prefix: str
    sink: Sink | None
    column_values: Params
    return_secret: bool
    channels: Channels
    check_mode: bool

    @classmethod
    def from_params(cls, params: Params, *, check_mode: bool) -> Options:
        """The options of ``api_key_argument_spec``. Raises LastroError for those that will not do."""
        state: State = params["state"]
        older_than = params.get("rotate_if_older_than")
        options = cls(
            wish=Wish(
                name=params["name"],
                state=state,
                generation=params.get("generation"),
                older_than=None if older_than is None else parse_duration(older_than, "rotate_if_older_than"),
                salt_id=params["salt_id"],
                grace=parse_duration(params["grace"], "grace"),
            ),
            salt=None if state == "revoked" else salt_from_params(params),
            style=params["style"],
            prefix=params["prefix"],
            sink=None if state == "revoked" else sink_from_params(params.get("sink")),
            column_values=params["column_values"],
            return_secret=params["return_secret"],
            channels=channels_from_params(params.get("notify")),
            check_mode=check_mode,
        )
        problem = _problem(options)
        if problem:
            remedy = Text(en="See the options in the module's documentation.", pt_BR="Veja as opções na documentação do módulo.")
            raise LastroError(f"{problem}.", remedy=remedy)
        return options


def _problem(options: Options) -> str:
    """Options that contradict each other, in words."""
    wish = options.wish
    if not wish.name:
        return "name is empty"
    if wish.state == "present" and wish.generation is not None:
        return "generation is for the states rotated and revoked"
    if wish.state != "rotated" and wish.older_than is not None:
        return "rotate_if_older_than is for state rotated"
    prefix = prefix_problem(options.style, options.prefix)
    if wish.state == "revoked" or prefix:
        return f"prefix {prefix}" if prefix else ""
    if options.salt is None:
        return "No salt is given: environment_file with salt_variable, or salt"
    return "" if options.sink or options.return_secret else "A new key would go nowhere: give sink, or return_secret"


def converge(settings: ConnectionSettings, params: Params, options: Options, *, censor: Censor, random: Random = os.urandom) -> dict[str, t.Any]:
    """Bring the key into the state asked for; the module's return values. Raises LastroError."""
    if options.sink:
        options.sink.check()
    with _connected(settings, params, read_only=options.check_mode) as connection, connection.cursor() as cursor:
        if not options.check_mode:
            _lock(connection, cursor, params)
        written = None if options.wish.state == "revoked" else options.column_values
        return _Run(connection, cursor, Statements(read_table(cursor, params, written=written)), options, censor=censor, random=random).go()


class _Run:
    """One run of api_key over one connection, with the key's lock held unless it is a check."""

    def __init__(self, connection: PostgresConnection, cursor: Cursor, statements: Statements, options: Options, *, censor: Censor, random: Random) -> None:
        self._connection = connection
        self._cursor = cursor
        self._statements = statements
        self._options = options
        self._censor = censor
        self._random = random

    def go(self) -> dict[str, t.Any]:
        """Look, decide, act."""
        options = self._options
        rows = self._statements.rows(self._cursor, options.wish.name, lock=not options.check_mode)
        seen = Seen(tuple(rows), self._statements.is_unique(self._cursor), *held(options.sink, options.salt, rows, self._censor))
        self._refuse_duplicates(seen)
        plan = decide(options.wish, seen)
        dress = bool(options.sink and seen.file and seen.file.there and plan.create is None and not plan.deliver and options.sink.drifted())
        secret = ""
        if not options.check_mode and (plan.changes or dress):
            secret = self._act(plan, dress=dress)
            rows = self._statements.rows(self._cursor, options.wish.name)
        told, problems = ([], []) if options.check_mode else self._notify(plan, seen)
        result = {
            "changed": plan.changes or dress,
            "name": options.wish.name,
            "generation": plan.create or (seen.current.generation if seen.current else 0),
            "created": plan.create is not None,
            "delivered": bool(options.sink) and (plan.create is not None or plan.deliver),
            "revoked": sorted(plan.revoke),
            "constraint_added": plan.constrain,
            "generations": [row.as_result() for row in rows],
            "notified": told,
            "notify_problems": problems,
            "diff": {"before": _picture(seen, Plan()), "after": _picture(seen, plan)},
        }
        return {**result, "secret": secret} if secret and options.return_secret else result

    def _refuse_duplicates(self, seen: Seen) -> None:
        """Before a constraint is added, and before the newest generation is taken for one row."""
        if seen.unique or self._options.wish.state == "revoked":
            return
        found = self._statements.duplicates(self._cursor)
        if found["generations"]:
            named = "; ".join(f"{one['name']} generation {one['generation']}: {one['rows']} rows" for one in found["generations"])
            raise LastroError(
                f"The table has the same key several times ({named}), so (name, generation) cannot be made unique. Nothing was changed.",
                remedy=Text(
                    en="Decide which row of each is the right one, delete the others or give them a generation of their own, and run again.",
                    pt_BR="Decida qual linha de cada uma é a certa, apague as outras ou dê a elas outra geração e execute novamente.",
                ),
                duplicates=found,
            )

    def _act(self, plan: Plan, *, dress: bool) -> str:
        """Write pending file, table and file, in this order; the new key, or nothing."""
        sink = self._options.sink
        if sink and plan.deliver:
            sink.deliver()
        key = self._new_key() if plan.create is not None else ""
        if sink and key:
            sink.prepare(key)
        try:
            self._write(plan, key)
        except BaseException:
            # Nothing is committed, whatever became of the connection.
            with contextlib.suppress(psycopg2.Error):
                self._connection.rollback()
            if sink and key:
                sink.withdraw()
            raise
        # From here on the table may know the key: the pending file stays until it is delivered.
        self._connection.commit()
        if sink and key:
            sink.deliver()
        elif sink and plan.withdraw:
            sink.withdraw()
        if sink and dress:
            sink.dress()
        return key

    def _write(self, plan: Plan, key: str) -> None:
        name, cursor = self._options.wish.name, self._cursor
        if plan.constrain:
            self._statements.make_unique(cursor)
        if plan.revoke:
            self._statements.revoke(cursor, name, plan.revoke)
        if plan.create is not None:
            self._statements.retire(cursor, name, self._options.wish.grace)
            key_hash = hash_of(self._options.salt or b"", key)
            self._statements.insert(cursor, name, plan.create, key_hash=key_hash, salt_id=self._options.wish.salt_id, values=self._options.column_values)

    def _new_key(self) -> str:
        key = make(self._options.style, self._options.prefix, self._random)
        if not self._options.return_secret:
            self._censor(key)
        return key

    def _notify(self, plan: Plan, seen: Seen) -> tuple[list[str], list[str]]:
        """Tell of a key that consumers have to take or to give up; not of a mark on one whose grace has passed anyway."""
        made = plan.create is not None or plan.deliver
        if not made and not (plan.revoke and self._options.wish.state == "revoked"):
            return [], []
        event = {
            "event": "api_key.rotated" if made else "api_key.revoked",
            "name": self._options.wish.name,
            "generation": plan.create or (seen.current.generation if seen.current else 0),
            "revoked": sorted(plan.revoke),
            "grace_seconds": self._options.wish.grace if made else 0,
        }
        return notify(self._options.channels, event)


def held(sink: Sink | None, salt: bytes | None, rows: t.Sequence[Row], censor: Censor) -> tuple[Held | None, Held]:
    """What file and pending file hold, told by the hashes of *rows*; (None, nothing) where there is no sink. Raises LastroError."""
    if sink is None or salt is None:
        return None, Held()

    def one(key: str | None) -> Held:
        if key is None:
            return Held()
        if key:
            censor(key)
        wanted = hash_of(salt, key)
        return Held(there=True, generation=next((row.generation for row in reversed(rows) if row.key_hash == wanted), None))

    return one(sink.read()), one(sink.read_pending())


def _picture(seen: Seen, plan: Plan) -> dict[str, t.Any]:
    """A side of the diff: generations, not keys."""
    over = {row.generation for row in seen.rows if not row.valid} | set(plan.revoke)
    valid = [row.generation for row in seen.rows if row.generation not in over]
    current = seen.current.generation if seen.current else 0
    return {
        "generation": plan.create or current,
        "valid": [*valid, plan.create] if plan.create is not None else valid,
        "unique": seen.unique or plan.constrain,
        "pending": seen.pending.there and not (plan.deliver or plan.withdraw or plan.create is not None),
    }


def look(settings: ConnectionSettings, params: Params, *, censor: Censor) -> dict[str, t.Any]:
    """The keys of the table, and whether the sink holds the newest one of a name; the return values of api_key_info. Raises LastroError."""
    sink, name = sink_from_params(params.get("sink")), params.get("name")
    salt = salt_from_params(params) if sink else None
    if sink and not (name and salt):
        raise LastroError(
            "sink is given without name and salt, so there is nothing to compare its key with.",
            remedy=Text(en="Give name, and salt or environment_file.", pt_BR="Informe name, e salt ou environment_file."),
        )
    with _connected(settings, params, read_only=True) as connection, connection.cursor() as cursor:
        statements = Statements(read_table(cursor, params))
        rows = statements.rows(cursor, name)
        found = {"unique": statements.is_unique(cursor), "duplicates": statements.duplicates(cursor)}
    file, pending = held(sink, salt, rows, censor)
    return {
        **found,
        "generations": [row.as_result() for row in rows],
        "salt_ids": sorted({row.salt_id for row in rows if row.valid}),
        "sink": _sink_result(file, pending, rows[-1].generation if rows else None) if file else {},
    }


def _sink_result(file: Held, pending: Held, current: int | None) -> dict[str, t.Any]:
    state = "absent" if not file.there else "unknown" if file.generation is None else "current" if file.generation == current else "older"
    return {"state": state, "generation": file.generation or 0, "pending": pending.there}


@contextlib.contextmanager
def _connected(settings: ConnectionSettings, params: Params, *, read_only: bool) -> t.Iterator[PostgresConnection]:
    """A session in UTC, so that columns without a time zone are read and written in it; what the server refuses becomes a LastroError."""
    require_psycopg2()
    session = {
        "timezone": "UTC",
        "lock_timeout": f"{LOCK_SECONDS}s",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "on" if read_only else "off",
    }
    try:
        with connect(settings, application_name=APPLICATION_NAME, autocommit=False, **session) as connection:
            connection.set_client_encoding("UTF8")
            yield connection
    except psycopg2.Error as error:
        raise _refused(f"{params['schema']}.{params['table']}", error) from None


def _lock(connection: PostgresConnection, cursor: Cursor, params: Params) -> None:
    """Take the key's advisory lock for the session, so that it is held until the key is delivered. Raises LastroError."""
    number = lock_number(f"{params['schema']}.{params['table']}", params["name"])
    try:
        cursor.execute("SELECT pg_advisory_lock(%s)", (number,))
    except errors.LockNotAvailable:
        raise LastroError(
            f"Another run has been working on the key {params['name']} for {LOCK_SECONDS} s.",
            remedy=Text(
                en=f"Wait until it has ended; pg_stat_activity shows it as {APPLICATION_NAME}.",
                pt_BR=f"Aguarde o término dela; pg_stat_activity a mostra como {APPLICATION_NAME}.",
            ),
        ) from None
    # What is read next must not be older than the lock.
    connection.commit()


def _refused(table: str, error: psycopg2.Error) -> LastroError:
    """Details of the server's message may show a row, so only its primary message is told."""
    if error.pgcode and not error.pgcode.startswith(("08", "57P")):
        return LastroError(
            f"PostgreSQL refused the work on {table}: {error.diag.message_primary} (SQLSTATE {error.pgcode}). Nothing was changed.",
            remedy=Text(
                en="Cure that, for example the role's rights on the table, and run again. Only the table's owner may add the constraint.",
                pt_BR="Corrija isso, por exemplo as permissões do usuário na tabela, e execute novamente. Só o dono da tabela pode criar a restrição.",
            ),
        )
    return LastroError(
        f"The connection to PostgreSQL ended during the work on {table}.",
        remedy=Text(
            en="Check that the server runs, and run again: a key that is in the table is delivered then, and any other is forgotten.",
            pt_BR="Verifique se o servidor está no ar e execute novamente: uma chave que está na tabela é então entregue, e qualquer outra é esquecida.",
        ),
    )


__all__ = ("Options", "api_key_argument_spec", "api_key_info_argument_spec", "converge", "look", "table_argument_spec")
