# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of token_encryption and the look of token_encryption_info. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import typing as t

from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._postgres import ConnectionSettings, connect, connection_argument_spec, require_psycopg2
from ._progress import Clock, Progress, progress_argument_spec
from ._token_cipher import KeyRing
from ._token_columns import Names, columns_argument_spec, names_from_params, read_table
from ._token_errors import failing, looks_encrypted, no_key, not_nullable, other_run, refusals, still_clear, still_written, stuck, wrong_key
from ._token_guard import SESSION_SWITCH, Sleep, put_in, read_guard, take_out
from ._token_keys import keys_from_params
from ._token_sql import Counts, Statements
from ._token_walk import NAMED_KEYS, Job, Outcome, Tally, Walker, clearing, encrypting, shown_key, tally_of, undoing

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

State = t.Literal["prepared", "encrypted", "cleared", "decrypted"]
Verify = t.Literal["none", "sample", "all"]

ROUNDS = 2
LOCK_SECONDS = 5.0
LOOK_PAGE = 1000

_SESSION = {
    "default_transaction_isolation": "read committed",
    "row_security": "off",
    # A page or a batch is a walk along the key's index. Where statistics are old the planner would rather read the whole table each time.
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

RESIDUAL_RISK = (
    Text(
        en="The table's files hold old row versions with clear tokens until VACUUM FULL or pg_repack rewrites the table; NULL and VACUUM do not remove them.",
        pt_BR="Os arquivos da tabela guardam versões antigas com tokens em claro até que VACUUM FULL ou pg_repack a reescreva; NULL e VACUUM não as removem.",
    ),
    Text(
        en="Write-ahead log, its archive, and replicas hold the clear tokens until they are recycled.",
        pt_BR="O write-ahead log, seu arquivo e as réplicas guardam os tokens em claro até serem reciclados.",
    ),
    Text(
        en="Backups made before this run hold the clear tokens until retention deletes them.",
        pt_BR="Os backups feitos antes desta execução guardam os tokens em claro até que a retenção os apague.",
    ),
    Text(
        en="Only revoking or renewing the tokens at their provider really ends the clear ones.",
        pt_BR="Somente revogar ou renovar os tokens no provedor encerra de fato os que estiveram em claro.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What token_encryption was asked for. Seconds in *pause* and *lock_timeout*."""

    names: Names
    keys: tuple[bytes, ...] = dataclasses.field(repr=False)
    state: State
    guard_trigger: bool
    batch_size: int
    pause: float
    lock_timeout: float
    accept_encrypted_looking: bool
    application_name: str
    check_mode: bool

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any], *, check_mode: bool) -> Options:
        """The options of ``token_encryption_argument_spec``. Raises LastroError for keys and numbers that will not do."""
        for option, least in (("batch_size", 1), ("pause", 0), ("lock_timeout", 0.001)):
            if params[option] < least:
                raise LastroError(
                    f"{option} is {params[option]}; it must be at least {least}.",
                    remedy=Text(en="Leave the option out to get its default.", pt_BR="Omita a opção para usar o valor padrão."),
                )
        return cls(
            names=names_from_params(params),
            # The trigger goes in and out without a key: a rollback needs that when the key is what was wrong.
            keys=() if params["state"] == "prepared" else keys_from_params(params),
            check_mode=check_mode,
            **{name: params[name] for name in _OWN_OPTIONS},
            application_name=params["application_name"],
        )


_OWN_OPTIONS = ("state", "guard_trigger", "batch_size", "pause", "lock_timeout", "accept_encrypted_looking")


def token_encryption_argument_spec() -> ArgumentSpec:
    """The options of the module token_encryption."""
    own = ArgumentSpec(
        {
            "state": {"type": "str", "default": "encrypted", "choices": ["prepared", "encrypted", "cleared", "decrypted"]},
            "guard_trigger": {"type": "bool", "default": True},
            "batch_size": {"type": "int", "default": 1000},
            "pause": {"type": "float", "default": 0.0},
            "lock_timeout": {"type": "float", "default": 2.0},
            "accept_encrypted_looking": {"type": "bool", "default": False},
        }
    )
    return connection_argument_spec().merge(columns_argument_spec()).merge(progress_argument_spec()).merge(own)


def token_encryption_info_argument_spec() -> ArgumentSpec:
    """The options of the module token_encryption_info."""
    own = ArgumentSpec({"verify": {"type": "str", "default": "none", "choices": ["none", "sample", "all"]}})
    return connection_argument_spec().merge(columns_argument_spec()).merge(progress_argument_spec()).merge(own)


def converge(
    settings: ConnectionSettings, options: Options, *, progress: Progress, clock: Clock = time.monotonic, sleep: Sleep = time.sleep
) -> dict[str, t.Any]:
    """Bring the table into ``options.state``; the module's return values. Raises LastroError, with the figures once rows were read."""
    require_psycopg2()
    session = {**_SESSION, "lock_timeout": f"{round(options.lock_timeout * 1000)}ms", "default_transaction_read_only": "off", SESSION_SWITCH: "off"}
    with refusals(options.names), connect(settings, application_name=options.application_name, autocommit=False, **session) as connection:
        connection.set_client_encoding("UTF8")
        if options.check_mode:
            return _Run(connection, options, progress=progress, clock=clock, sleep=sleep).predict()
        _lock(connection, options.names, clock, sleep)
        return _Run(connection, options, progress=progress, clock=clock, sleep=sleep).act()


@dataclasses.dataclass(frozen=True)
class Question:
    """What token_encryption_info was asked for."""

    names: Names
    keys: tuple[bytes, ...] = dataclasses.field(repr=False)
    verify: Verify
    application_name: str

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Question:
        """The options of ``token_encryption_info_argument_spec``. Raises LastroError for keys that are missing or will not do."""
        keys = () if params["verify"] == "none" else keys_from_params(params)
        if params["verify"] != "none" and not keys:
            raise no_key()
        return cls(names=names_from_params(params), keys=keys, verify=params["verify"], application_name=params["application_name"])


def look(settings: ConnectionSettings, question: Question, *, progress: Progress, clock: Clock = time.monotonic) -> dict[str, t.Any]:
    """Count the table's rows and verify none, some or all of their ciphertexts; the module's return values. Raises LastroError."""
    require_psycopg2()
    session = {**_SESSION, "default_transaction_read_only": "on"}
    with refusals(question.names), connect(settings, application_name=question.application_name, autocommit=False, **session) as connection:
        connection.set_client_encoding("UTF8")
        with connection.cursor() as cursor:
            table = read_table(cursor, question.names)
            statements = Statements(table)
            counts = statements.count(cursor)
            guard = read_guard(cursor, table) == "in"
        connection.commit()
        tally, started = tally_of(counts), clock()
        if question.verify != "none":
            walker = Walker(connection, statements, batch_size=LOOK_PAGE, progress=progress, clock=clock, sleep=time.sleep)
            walk = walker.verify if question.verify == "all" else walker.sample
            seen = walk(KeyRing(question.keys), table.column_type, counts.total)
            tally = seen if question.verify == "all" else dataclasses.replace(tally, verified=seen.verified, failures=seen.failures)
        return result(counts, tally, Outcome(), guard=guard, rows_per_second=_rate(tally.verified, clock() - started))


class _Run:
    """One run of token_encryption over one connection."""

    def __init__(self, connection: PostgresConnection, options: Options, *, progress: Progress, clock: Clock, sleep: Sleep) -> None:
        self._connection = connection
        self._options = options
        self._sleep = sleep
        with connection.cursor() as cursor:
            self.table = read_table(cursor, options.names)
            self._guard = read_guard(cursor, self.table)
        connection.commit()
        self._statements = Statements(self.table)
        self._ring = KeyRing(options.keys) if options.keys else None
        self._walker = Walker(connection, self._statements, batch_size=options.batch_size, progress=progress, clock=clock, sleep=sleep, pause=options.pause)

    def predict(self) -> dict[str, t.Any]:
        """What ``act`` would do, from counts alone; nothing is written, no lock is taken."""
        counts = self._check()
        due = {"prepared": 0, "encrypted": counts.pending, "cleared": counts.clear_values, "decrypted": counts.undoable}[self._options.state]
        facts = self._result(counts, tally_of(counts), Outcome(written=due))
        after = facts["diff"]["after"]
        after["rows_to_encrypt"] -= facts["encrypted"]
        after["clear_values"] += facts["decrypted"] - facts["cleared"]
        return facts

    def act(self) -> dict[str, t.Any]:
        """Do it, verify it, and say what was done."""
        counts = self._check()
        change = self._guard_change()
        if change == "in":
            put_in(self._connection, self.table, sleep=self._sleep)
        outcome, tally = Outcome(), tally_of(counts)
        if self._options.state != "prepared":
            outcome, tally = self._work(self._required_ring(), counts)
        facts = self._result(counts, tally, outcome)
        self._judge(tally, {**facts, "guard_trigger": change == "in" or self._guard == "in"})
        if change == "out":
            take_out(self._connection, self.table, sleep=self._sleep)
        return facts

    def _guard_change(self) -> t.Literal["in", "out", "none"]:
        """C(cleared) leaves the trigger as it is, and C(decrypted) does not take it out."""
        state, wanted = self._options.state, self._options.guard_trigger
        if wanted and state != "cleared" and self._guard != "in":
            return "in"
        if not wanted and state in ("prepared", "encrypted") and self._guard != "absent":
            return "out"
        return "none"

    def _work(self, ring: KeyRing, counts: Counts) -> tuple[Outcome, Tally]:
        kind = self.table.column_type
        job, total = {
            "encrypted": (encrypting(self._statements, ring), counts.pending),
            "cleared": (clearing(self._statements, ring, kind), counts.clear_values),
            "decrypted": (undoing(self._statements, ring, kind), counts.sealed),
        }[self._options.state]
        done = Outcome()
        for _round in range(ROUNDS):
            done = _add(done, self._repeat(job, total))
            tally = self._walker.verify(ring, kind, counts.total)
            if tally.failures.total or not tally.pending or self._options.state != "encrypted":
                break
        else:
            # A writer of clear text alone is at work and stays ahead of the verification; leave as little as possible behind.
            done = _add(done, self._repeat(job, total))
        return done, tally

    def _repeat(self, job: Job, total: int) -> Outcome:
        outcome = self._walker.repeat(job, total)
        if outcome.stuck:
            raise stuck(self.table, outcome.left, self._options.lock_timeout)
        return outcome

    def _check(self) -> Counts:
        """Everything that must hold before the first write. Raises LastroError."""
        options = self._options
        with self._connection.cursor() as cursor:
            counts = self._statements.count(cursor)
            suspects = self._statements.suspicious_keys(cursor, NAMED_KEYS) if counts.suspicious else []
        self._connection.commit()
        if options.state == "encrypted" and suspects and not options.accept_encrypted_looking:
            raise looks_encrypted(self.table, counts.suspicious, [shown_key(key) for key in suspects])
        if options.state != "prepared":
            self._required_ring()
        if self._ring and counts.sealed:
            sample = self._walker.sample(self._ring, self.table.column_type, counts.total)
            if sample.failures.counts["wrong_key"]:
                raise wrong_key(self.table, sample)
        if options.state == "cleared":
            if self.table.source.not_null:
                raise not_nullable(self.table)
            if counts.pending:
                raise still_clear(self.table, counts.pending)
        return counts

    def _judge(self, tally: Tally, facts: dict[str, t.Any]) -> None:
        if tally.failures.total:
            raise failing(self.table, tally, facts)
        if self._options.state == "encrypted" and not self._options.guard_trigger and tally.pending:
            raise still_written(self.table, tally.pending, facts)

    def _required_ring(self) -> KeyRing:
        if self._ring is None:
            raise no_key()
        return self._ring

    def _result(self, counts: Counts, tally: Tally, outcome: Outcome) -> dict[str, t.Any]:
        state, change, was_in = self._options.state, self._guard_change(), self._guard == "in"
        guard = was_in if change == "none" else change == "in"
        facts = result(counts, tally, outcome, guard=guard, rows_per_second=_rate(outcome.written, outcome.seconds), state=state)
        before = {"rows_to_encrypt": counts.pending, "clear_values": counts.clear_values, "guard_trigger": was_in}
        after = {"rows_to_encrypt": tally.pending, "clear_values": tally.clear_values, "guard_trigger": guard}
        return {
            **facts,
            "changed": change != "none" or outcome.written > 0,
            "diff": {"before": before, "after": after},
            "residual_risk": [text._asdict() for text in RESIDUAL_RISK] if state == "cleared" else [],
        }


def result(counts: Counts, tally: Tally, outcome: Outcome, *, guard: bool, rows_per_second: float, state: State | None = None) -> dict[str, t.Any]:
    """The return values that both modules share."""
    return {
        "total": tally.total,
        "null_rows": tally.null_rows,
        "encrypted": outcome.written if state == "encrypted" else 0,
        "cleared": outcome.written if state == "cleared" else 0,
        "decrypted": outcome.written if state == "decrypted" else 0,
        "already": counts.sealed,
        "conflicts": outcome.conflicts,
        "verified": tally.verified,
        "failures": tally.failures.as_result(),
        "clear_left": tally.pending + tally.failures.total,
        "clear_values": tally.clear_values,
        "passes": outcome.passes,
        "rows_per_second": rows_per_second,
        "guard_trigger": guard,
        "residual_risk": [],
    }


def _add(one: Outcome, other: Outcome) -> Outcome:
    return other._replace(
        written=one.written + other.written,
        conflicts=one.conflicts + other.conflicts,
        passes=one.passes + other.passes,
        seconds=one.seconds + other.seconds,
    )


def _rate(rows: int, seconds: float) -> float:
    return round(rows / seconds, 1) if rows and seconds > 0 else 0.0


def _lock(connection: PostgresConnection, names: Names, clock: Clock, sleep: Sleep) -> None:
    """Take the table's advisory lock, for the session. A run that was killed a moment ago may still hold it: wait that long for it."""
    table = f"{names.schema}.{names.table}"
    number = int.from_bytes(hashlib.sha256(f"lastro.deploy tokens {table}".encode()).digest()[:8], "big", signed=True)
    until = clock() + LOCK_SECONDS
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (number,))
            taken = cursor.fetchall() == [(True,)]
        connection.commit()
        if taken:
            return
        if clock() >= until:
            raise other_run(table, _holder(connection, number))
        sleep(0.1)


def _holder(connection: PostgresConnection, number: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.pid, a.application_name, a.backend_start::timestamp(0)::text"
            "  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
            "   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
            "   AND (l.classid::bigint << 32 | l.objid::bigint) = %s",
            (number,),
        )
        row = cursor.fetchone()
    connection.rollback()
    return f" by process {row[0]} ({row[1]}), connected since {row[2]}" if row else ""


__all__ = (
    "Options",
    "Question",
    "converge",
    "look",
    "token_encryption_argument_spec",
    "token_encryption_info_argument_spec",
)
