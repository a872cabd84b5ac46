# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Once the clear column is empty: what still holds clear tokens, the rewrite of the table, and the proposal of the revision that drops the column.

PRIVATE to the collection.
"""

from __future__ import annotations

import contextlib
import hashlib
import typing as t

from ._errors import Text
from ._token_columns import Table
from ._token_guard import ATTEMPTS, Sleep, cannot_lock, guard_name

with contextlib.suppress(ImportError):
    from psycopg2 import errors, sql

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection
    from psycopg2.extensions import cursor as Cursor

_FACTS = """
SELECT pg_catalog.pg_size_pretty(pg_catalog.pg_table_size(%s::oid)), current_setting('archive_mode'),
       (SELECT count(*) FROM pg_catalog.pg_stat_replication), (SELECT count(*) FROM pg_catalog.pg_replication_slots),
       current_setting('log_statement'), current_setting('log_min_duration_statement')"""

_REVISION = '''"""Drop {table}.{column}: its tokens are encrypted and cleared.

A PROPOSAL of lastro.deploy. Read it, put it beside the other revisions, and deploy it once no release that you may go back to reads the column.

Revises: {revises}
"""

from alembic import context, op
import sqlalchemy as sa

revision = {revision!r}
down_revision = {down_revision!r}
branch_labels = None
depends_on = None


def upgrade():
    if not context.is_offline_mode():
        left = op.get_bind().scalar(sa.text({count!r}))
        if left:
            raise RuntimeError(f"{{left}} rows still have a clear token")
    op.execute({drop_trigger!r})
    op.execute({drop_function!r})
    op.drop_column({name!r}, {column!r}, schema={schema!r})


def downgrade():
    # Empty. The module lastro.deploy.token_encryption with state: decrypted fills it from the ciphertext.
    op.add_column({name!r}, sa.Column({column!r}, sa.Text(), nullable=True), schema={schema!r})
'''


def scrub(connection: PostgresConnection, table: Table, *, sleep: Sleep) -> None:
    """Rewrite the table with VACUUM FULL, under its exclusive lock. Raises LastroError where the lock does not come."""
    statement = sql.SQL("VACUUM (FULL, ANALYZE) {}").format(table.identifier)
    connection.rollback()
    connection.autocommit = True
    try:
        for attempt in range(ATTEMPTS):
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
            except errors.LockNotAvailable:
                sleep(min(0.1 * 2**attempt, 2.0))
            else:
                return
    finally:
        connection.autocommit = False
    raise cannot_lock(connection, table)


def residual_risk(cursor: Cursor, table: Table, *, scrubbed: bool, undo_file: str) -> list[Text]:
    """What may hold clear tokens now, as far as this server tells."""
    cursor.execute(_FACTS, (table.oid,))
    size, archive, replicas, slots, log_statement, log_duration = cursor.fetchall()[0]
    logged = log_statement in ("mod", "all") or log_duration != "-1"
    risks = [] if scrubbed else [_heap(size)]
    risks += [_wal(archive, replicas, slots), _BACKUPS, _log(logged, log_statement, log_duration)]
    if undo_file:
        risks.append(
            Text(
                en=f"The undo file {undo_file} holds them, for whoever has the identity of one of its recipients.",
                pt_BR=f"O arquivo {undo_file} os contém, para quem tiver a identidade de um dos destinatários.",
            )
        )
    return [*risks, _PROVIDER]


def _heap(size: str) -> Text:
    return Text(
        en=f"The table's files ({size}) hold old row versions with clear tokens until VACUUM FULL (scrub: vacuum_full) or pg_repack rewrites the table;"
        " NULL and VACUUM do not remove them.",
        pt_BR=f"Os arquivos da tabela ({size}) guardam versões antigas com tokens em claro até que VACUUM FULL (scrub: vacuum_full) ou pg_repack a reescreva;"
        " NULL e VACUUM não as removem.",
    )


def _wal(archive: str, replicas: int, slots: int) -> Text:
    return Text(
        en=f"Write-ahead log (archive_mode {archive}, {replicas} replicas connected, {slots} replication slots), its archive, replicas and whoever follows"
        " a slot hold them until they are recycled or deleted.",
        pt_BR=f"O write-ahead log (archive_mode {archive}, {replicas} réplicas conectadas, {slots} slots de replicação), seu arquivo, as réplicas e quem segue"
        " um slot os guardam até serem reciclados ou apagados.",
    )


def _log(logged: bool, statement: str, duration: str) -> Text:
    settings = f"log_statement {statement}, log_min_duration_statement {duration}"
    return Text(
        en=f"The server's log {'holds' if logged else 'may hold'} what the application wrote in clear text ({settings}).",
        pt_BR=f"O log do servidor {'contém' if logged else 'pode conter'} o que a aplicação gravou em texto claro ({settings}).",
    )


_BACKUPS = Text(
    en="Backups made before this run, physical ones and dumps, hold them until retention deletes them.",
    pt_BR="Os backups feitos antes desta execução, físicos e dumps, os guardam até que a retenção os apague.",
)
_PROVIDER = Text(
    en="Only revoking or renewing the tokens at their provider really ends the clear ones.",
    pt_BR="Somente revogar ou renovar os tokens no provedor encerra de fato os que estiveram em claro.",
)


def proposal(cursor: Cursor, table: Table) -> str:
    """The Alembic revision that drops the clear column, behind the heads that the database has now."""
    cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
    heads: list[str] = []
    if cursor.fetchall() == [(True,)]:
        cursor.execute("SELECT version_num::text FROM alembic_version ORDER BY 1")
        heads = [row[0] for row in cursor.fetchall()]
    names = {
        "table": table.identifier,
        "column": sql.Identifier(table.source.name),
        "trigger": sql.Identifier(guard_name(table)),
        "function": sql.Identifier(table.schema, guard_name(table)),
    }

    def statement(text: str) -> str:
        return sql.SQL(text).format(**names).as_string(cursor)

    return _REVISION.format(
        table=table,
        name=table.name,
        column=table.source.name,
        schema=None if table.schema == "public" else table.schema,
        revises=", ".join(heads) or "nothing",
        revision=hashlib.sha256(f"{table} {table.source.name} {heads}".encode()).hexdigest()[:12],
        down_revision=heads[0] if len(heads) == 1 else tuple(heads) or None,
        count=statement("SELECT count({column}) FROM {table}"),
        drop_trigger=statement("DROP TRIGGER IF EXISTS {trigger} ON {table}"),
        drop_function=statement("DROP FUNCTION IF EXISTS {function}()"),
    )


__all__ = ("proposal", "residual_risk", "scrub")
