# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with a table of tokens, in words. No token and no key is in any of them. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import typing as t

from ._errors import LastroError, Text
from ._token_columns import Names, Table
from ._token_walk import Tally

with contextlib.suppress(ImportError):
    import psycopg2


@contextlib.contextmanager
def refusals(names: Names) -> t.Iterator[None]:
    """Turn what the server refuses into a LastroError. Its details may show a row, so only its primary message is told."""
    try:
        yield
    except psycopg2.Error as error:
        raise refused(names, error) from None


def refused(names: Names, error: psycopg2.Error) -> LastroError:
    """The error for a statement that the server refused, or for a connection that ended under it."""
    if error.pgcode and not error.pgcode.startswith(("08", "57P")):
        reason = f"{error.diag.message_primary} (SQLSTATE {error.pgcode})"
        return LastroError(
            f"PostgreSQL refused the work on {names.schema}.{names.table}: {reason}.",
            remedy=Text(
                en="Cure that, for example the role's rights on table and schema, and run again: the work goes on where it stopped.",
                pt_BR="Corrija isso, por exemplo as permissões do usuário na tabela e no schema, e execute novamente: o trabalho continua de onde parou.",
            ),
        )
    return LastroError(
        f"The connection to PostgreSQL ended during the work on {names.schema}.{names.table}.",
        remedy=Text(
            en="Check that the server runs, and run again: the work goes on where it stopped.",
            pt_BR="Verifique se o servidor está no ar e execute novamente: o trabalho continua de onde parou.",
        ),
    )


def no_key() -> LastroError:
    """Nothing says what to encrypt or decrypt with."""
    return LastroError(
        "No key is given.",
        remedy=Text(
            en="Give environment_file, whose variable key_variable holds the key, or give encryption_keys.",
            pt_BR="Informe environment_file, cuja variável key_variable contém a chave, ou informe encryption_keys.",
        ),
    )


def wrong_key(table: Table, sample: Tally) -> LastroError:
    """Some of what is already encrypted does not open."""
    count = sample.failures.counts["wrong_key"]
    looked = sample.verified + sample.failures.total
    return LastroError(
        f"Wrong key: {count} of {looked} ciphertexts in a sample of {table} open with none of the keys given. Nothing was written.",
        remedy=Text(
            en="Give the key that the application has used so far, too: the first key encrypts, all of them decrypt.",
            pt_BR="Informe também a chave que a aplicação usou até agora: a primeira chave cifra, todas decifram.",
        ),
        failures=sample.failures.as_result(),
    )


def looks_encrypted(table: Table, count: int, keys: list[str]) -> LastroError:
    """Clear text that is none."""
    return LastroError(
        f"{count} values in {table}.{table.source.name} look encrypted already, in rows {'; '.join(keys)}. Nothing was written.",
        remedy=Text(
            en="Decrypt them first; or, if these are the tokens themselves, set accept_encrypted_looking: true.",
            pt_BR="Decifre-os antes; ou, se os tokens são mesmo assim, defina accept_encrypted_looking: true.",
        ),
    )


def not_nullable(table: Table) -> LastroError:
    """The clear column cannot be emptied."""
    return LastroError(
        f"{table}.{table.source.name} is NOT NULL: its clear text cannot be set NULL.",
        remedy=Text(
            en="Run a migration that drops NOT NULL from the column, then clear it.",
            pt_BR="Execute uma migração que retire o NOT NULL da coluna e então limpe-a.",
        ),
    )


def still_clear(table: Table, count: int) -> LastroError:
    """Clearing was asked for before everything was encrypted."""
    return LastroError(
        f"{count} rows of {table} have clear text and no ciphertext. Nothing was cleared.",
        remedy=Text(
            en="Run state encrypted first, and make sure that no release that writes only the clear column still runs.",
            pt_BR="Execute antes state encrypted e garanta que nenhuma versão que grava só a coluna em claro ainda esteja rodando.",
        ),
        clear_left=count,
    )


def still_written(table: Table, count: int, facts: dict[str, t.Any]) -> LastroError:
    """The trigger cannot go yet."""
    return LastroError(
        f"{count} rows of {table} were written in clear text during the run, so the guard trigger stays in.",
        remedy=Text(
            en="Stop the last process of the release that writes only the clear column, then run again.",
            pt_BR="Encerre o último processo da versão que grava só a coluna em claro e execute novamente.",
        ),
        **facts,
    )


def stuck(table: Table, count: int, seconds: float) -> LastroError:
    """Other sessions hold the rows that are left."""
    return LastroError(
        f"{count} rows of {table} could not be written: other sessions hold them for longer than lock_timeout ({seconds:g} s), again and again.",
        remedy=Text(
            en="End the long transactions on this table (pg_stat_activity shows them) and run again: the work goes on where it stopped.",
            pt_BR="Encerre as transações longas nesta tabela (veja pg_stat_activity) e execute novamente: o trabalho continua de onde parou.",
        ),
    )


def not_restored(table: Table, count: int, restored: int) -> LastroError:
    """The undo file does not hold everything."""
    return LastroError(
        f"{restored} rows of {table} got their clear text back, {count} did not: the undo file does not hold the text of their ciphertext, which is newer.",
        remedy=Text(
            en="Give encryption_keys or environment_file, too: what the file does not hold is then decrypted.",
            pt_BR="Informe também encryption_keys ou environment_file: o que o arquivo não contém é então decifrado.",
        ),
        decrypted=restored,
    )


def depended_on(table: Table, columns: str, found: list[str]) -> LastroError:
    """Something hangs on a column that would go, or change its name."""
    return LastroError(
        f"What hangs on {columns} of {table} would break: {'; '.join(found)}. Nothing was written.",
        remedy=Text(
            en="Drop it in a migration or make it anew on the right column. A lookup by token can go by the HMAC in hash_column;"
            " what nobody needs any more can be named in accept_dependents.",
            pt_BR="Remova-o numa migração ou recrie-o na coluna certa. Uma busca pelo token pode usar o HMAC de hash_column;"
            " o que ninguém mais usa pode ser indicado em accept_dependents.",
        ),
        dependents=found,
    )


def would_break(table: Table, found: dict[str, int]) -> LastroError:
    """Rows that a constraint would refuse."""
    parts = "; ".join(f"{name} ({count} rows)" for name, count in found.items())
    return LastroError(
        f"Rows of {table} would break a constraint: {parts}. Nothing was written, since the server would log the rows that it refuses.",
        remedy=Text(
            en="Let a migration change the constraint or the column's length, or correct these rows.",
            pt_BR="Altere a restrição ou o tamanho da coluna numa migração, ou corrija essas linhas.",
        ),
        constraints=found,
    )


def not_swapped(table: Table) -> LastroError:
    """Writers stay ahead of the shadow columns."""
    return LastroError(
        f"The columns of {table} were not swapped: each time some rows had been written meanwhile and lacked a shadow. All else is done.",
        remedy=Text(
            en="Switch maintenance on, so that nobody writes tokens, and run again.",
            pt_BR="Ative a manutenção, para que ninguém grave tokens, e execute novamente.",
        ),
    )


def still_needed(table: Table, count: int) -> LastroError:
    """The shadow columns hold what the others do not."""
    return LastroError(
        f"{count} ciphertexts of {table} are not under the first key, so its shadow columns were not dropped.",
        remedy=Text(
            en="Swap them first (shadow: swapped), or give the key that the application uses now as the first one.",
            pt_BR="Troque-as antes (shadow: swapped), ou informe como primeira a chave que a aplicação usa agora.",
        ),
    )


def failing(table: Table, tally: Tally, facts: dict[str, t.Any]) -> LastroError:
    """The verification found ciphertexts that are not right."""
    counts, keys = tally.failures.counts, tally.failures.keys
    words = {"wrong_key": "that no key opens", "corrupt": "damaged", "mismatch": "that decrypt to another text than the clear column's"}
    parts = [f"{counts[kind]} {words[kind]} (rows {'; '.join(keys[kind])})" for kind in counts if counts[kind]]
    return LastroError(
        f"{tally.failures.total} of {tally.total} rows of {table} have a ciphertext that is not right: {', '.join(parts)}.",
        remedy=Text(
            en="Add a key that is missing to encryption_keys; where the clear text is right, set both ciphertext columns NULL in these rows. Then run again.",
            pt_BR="Acrescente a encryption_keys a chave que falta; onde o texto em claro estiver certo, ponha NULL nas duas colunas cifradas. Execute de novo.",
        ),
        **facts,
    )


def other_run(table: str, holder: str) -> LastroError:
    """The table's advisory lock is taken."""
    return LastroError(
        f"Another run works on the tokens of {table}: the lock is held{holder}.",
        remedy=Text(
            en="Wait until it has ended, or end that session with pg_terminate_backend if it belongs to nobody.",
            pt_BR="Aguarde o término dela, ou encerre essa sessão com pg_terminate_backend se ela não for de ninguém.",
        ),
    )


__all__ = (
    "depended_on",
    "failing",
    "looks_encrypted",
    "no_key",
    "not_nullable",
    "not_restored",
    "not_swapped",
    "other_run",
    "refusals",
    "refused",
    "still_clear",
    "still_needed",
    "still_written",
    "stuck",
    "would_break",
    "wrong_key",
)
