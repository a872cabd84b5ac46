# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of token_encryption and the look of token_encryption_info. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import gc
import time
import typing as t

from ._postgres import ConnectionSettings, connect, require_psycopg2
from ._progress import Clock, Progress
from ._token_checks import broken_constraints, dependents
from ._token_cipher import KeyRing
from ._token_clearing import proposal, residual_risk, scrub
from ._token_codec import Codec
from ._token_columns import read_table
from ._token_errors import (
    depended_on,
    failing,
    looks_encrypted,
    no_key,
    not_nullable,
    not_restored,
    refusals,
    still_clear,
    still_written,
    stuck,
    would_break,
    wrong_key,
)
from ._token_guard import SESSION_SWITCH, Sleep, put_in, read_guard, take_out
from ._token_jobs import Job, clearing, encrypting, restoring, undoing
from ._token_lag import Replicas
from ._token_lock import take_lock
from ._token_options import Options, Question, State
from ._token_rotation import Rotated, Rotation
from ._token_sql import Counts, Statements, read_bytes
from ._token_undo import UndoReader, UndoWriter
from ._token_walk import NAMED_KEYS, Pages, Tally, sample, shown_key, tally_of, verify
from ._token_writers import Outcome, Pace, Session, Writers

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

ROUNDS = 2
LOOK_PAGE = 1000
GARBAGE_THRESHOLD = 100_000
"""A page is thousands of tuples without a cycle: a search for cycles after each 700 of them takes a quarter of the time."""

_SESSION = {
    "default_transaction_isolation": "read committed",
    "row_security": "off",
    # A page or a batch is a walk along the key's index. Where statistics are old the planner would rather read the whole table each time.
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "bytea_output": "hex",
}


def converge(
    settings: ConnectionSettings, options: Options, *, progress: Progress, clock: Clock = time.monotonic, sleep: Sleep = time.sleep
) -> dict[str, t.Any]:
    """Bring the table into ``options.state``; the module's return values. Raises LastroError, with the figures once rows were read."""
    require_psycopg2()
    given = {**_SESSION, "lock_timeout": f"{round(options.lock_timeout * 1000)}ms", "default_transaction_read_only": "off", SESSION_SWITCH: "off"}
    session = functools.partial(_connected, settings, options.application_name, given)
    with refusals(options.names), _seldom_collected(), session() as connection:
        run = functools.partial(_Run, connection, session, options, progress=progress, clock=clock, sleep=sleep)
        if options.check_mode:
            return run().predict()
        take_lock(connection, options.names, clock, sleep)
        return run().act()


def look(settings: ConnectionSettings, question: Question, *, progress: Progress, clock: Clock = time.monotonic) -> dict[str, t.Any]:
    """Count the table's rows and verify none, some or all of their ciphertexts; the module's return values. Raises LastroError."""
    require_psycopg2()
    given = {**_SESSION, "default_transaction_read_only": "on"}
    with refusals(question.names), _seldom_collected(), _connected(settings, question.application_name, given) as connection:
        with connection.cursor() as cursor:
            table = read_table(cursor, question.names)
            statements = Statements(table)
            counts = statements.count(cursor)
            guard = read_guard(cursor, table) == "in"
        connection.commit()
        tally, started = tally_of(counts), clock()
        if question.verify != "none":
            pages, codec = Pages(connection, statements, LOOK_PAGE), Codec(KeyRing(question.keys), table, kind=question.names.format, strict=True)
            pages.expect(counts.largest)
            if question.verify == "all":
                tally = verify(pages, codec, counts.total, progress)
            else:
                seen = sample(pages.sample(counts.total), codec)
                tally.verified, tally.failures = seen.verified, seen.failures
        return result(counts, tally, Outcome(), guard=guard, rows_per_second=_rate(tally.verified, clock() - started))


@contextlib.contextmanager
def _seldom_collected() -> t.Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(GARBAGE_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def _connected(settings: ConnectionSettings, application_name: str, session: t.Mapping[str, str]) -> t.Iterator[PostgresConnection]:
    with connect(settings, application_name=application_name, autocommit=False, **session) as connection:
        connection.set_client_encoding("UTF8")
        read_bytes(connection)
        yield connection


class _Run:
    """One run of token_encryption."""

    def __init__(self, connection: PostgresConnection, session: Session, options: Options, *, progress: Progress, clock: Clock, sleep: Sleep) -> None:
        self._connection = connection
        self._session = session
        self._options = options
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        with connection.cursor() as cursor:
            self.table = read_table(cursor, options.names)
            self._guard = read_guard(cursor, self.table)
        connection.commit()
        # Shadow columns come and go during a rotation, which reads them itself.
        self._statements = Statements(dataclasses.replace(self.table, shadow=None))
        self._codec = Codec(KeyRing(options.keys), self.table, kind=options.names.format) if options.keys else None
        self._pages = Pages(connection, self._statements, options.batch_size)
        self._undo = UndoWriter(options.backup, self.table, created=_now()) if options.backup and options.writes_backup else None
        self._reader = UndoReader(options.backup, self.table) if options.backup and options.state == "decrypted" else None

    def predict(self) -> dict[str, t.Any]:
        """What ``act`` would do, from counts alone; nothing is written, no lock is taken."""
        counts = self._check()
        if self._options.state == "rotated":
            return self._rotated(counts, tally_of(counts), self._rotation().predict())
        due = {"prepared": 0, "encrypted": counts.pending, "cleared": counts.clear_values, "decrypted": counts.undoable}[self._options.state]
        facts = self._result(counts, tally_of(counts), Outcome(written=due))
        after = facts["diff"]["after"]
        after["rows_to_encrypt"] -= facts["encrypted"]
        after["clear_values"] += facts["decrypted"] - facts["cleared"]
        return {**facts, **(self._clear_up() if self._options.state == "cleared" else {})}

    def act(self) -> dict[str, t.Any]:
        """Do it, verify it, and say what was done."""
        counts = self._check()
        change = self._guard_change()
        if change == "in":
            put_in(self._connection, self.table, sleep=self._sleep)
        outcome, tally = Outcome(), tally_of(counts)
        if self._options.state == "rotated":
            return self._rotate(counts)
        if self._options.state != "prepared":
            with self._writers() as writers:
                outcome, tally = self._work(writers, counts)
        facts = self._result(counts, tally, outcome)
        self._judge(tally, {**facts, "guard_trigger": change == "in" or self._guard == "in"})
        if change == "out":
            take_out(self._connection, self.table, sleep=self._sleep)
        return {**facts, **(self._clear_up() if self._options.state == "cleared" else {})}

    def _guard_change(self) -> t.Literal["in", "out", "none"]:
        """C(cleared) and C(rotated) leave the trigger as it is, and C(decrypted) does not take it out."""
        state, wanted = self._options.state, self._options.guard_trigger
        if wanted and state in ("prepared", "encrypted", "decrypted") and self._guard != "in":
            return "in"
        if not wanted and state in ("prepared", "encrypted") and self._guard != "absent":
            return "out"
        return "none"

    @contextlib.contextmanager
    def _writers(self) -> t.Iterator[Writers]:
        """The writing sessions, with an undo file that is whole at the end, also where an error is."""
        options = self._options
        replicas = Replicas(self._connection, options.max_replica_lag, clock=self._clock, sleep=self._sleep)
        pace = Pace(options.workers, options.pause, replicas.throttle)
        try:
            with Writers(self._session, self._undo, pace, progress=self._progress, clock=self._clock, sleep=self._sleep) as writers:
                yield writers
        finally:
            if self._undo:
                self._undo.finish()
                self._undo.close()

    def _rotation(self) -> Rotation:
        if self._codec is None:
            raise no_key()
        return Rotation(self._connection, self.table, self._codec, self._options, sleep=self._sleep)

    def _rotate(self, counts: Counts) -> dict[str, t.Any]:
        rotation = self._rotation()
        with self._writers() as writers:
            done = rotation.act(writers)
        # What is filled waits beside ciphertexts of the old key; after all else the first key alone must open every row.
        codec = rotation.codec if self._options.shadow == "filled" else rotation.codec.first()
        tally = verify(self._pages, codec, counts.total, self._progress)
        facts = self._rotated(counts, tally, done)
        self._judge(tally, facts)
        return facts

    def _rotated(self, counts: Counts, tally: Tally, done: Rotated) -> dict[str, t.Any]:
        facts = self._result(counts, tally, done.outcome)
        facts["diff"]["after"]["rows_rotated"] = done.outcome.written
        facts["diff"]["before"]["rows_rotated"] = 0
        return {**facts, "changed": facts["changed"] or done.altered, "swapped": done.swapped}

    def _work(self, writers: Writers, counts: Counts) -> tuple[Outcome, Tally]:
        restored = self._restore(writers, counts)
        if self._codec is None:
            return restored, tally_of(self._count())
        outcome, tally = self._write(writers, self._codec, counts)
        return restored.and_then(outcome), tally

    def _restore(self, writers: Writers, counts: Counts) -> Outcome:
        """Write back what the undo file holds. Raises LastroError where that is not enough and no key is given."""
        if self._reader is None:
            return Outcome()
        # No ciphertext is opened here, so that a key that is lost, or wrong, is in nobody's way.
        outcome = self._repeat(writers, restoring(self._pages, self._statements, Codec(KeyRing(()), self.table), self._reader.batches), counts.total)
        if self._codec is None and (left := self._count().undoable):
            raise not_restored(self.table, left, outcome.written)
        return outcome

    def _write(self, writers: Writers, codec: Codec, counts: Counts) -> tuple[Outcome, Tally]:
        kinds = {"encrypted": (encrypting, counts.pending), "cleared": (clearing, counts.clear_values), "decrypted": (undoing, counts.sealed)}
        kind, total = kinds[self._options.state]
        job = kind(self._pages, self._statements, codec)
        done = Outcome()
        for _round in range(ROUNDS):
            done = done.and_then(self._repeat(writers, job, total))
            tally = verify(self._pages, codec, counts.total, self._progress)
            # What was written since the look began is not verified.
            since = max(0, self._count().pending - tally.pending)
            tally.pending, tally.verified = tally.pending + since, tally.verified - since
            if tally.failures.total or not tally.pending or self._options.state != "encrypted":
                break
        else:
            # A writer of clear text alone is at work and stays ahead of the verification; leave as little as possible behind.
            done = done.and_then(self._repeat(writers, job, total))
        return done, tally

    def _repeat(self, writers: Writers, job: Job, total: int) -> Outcome:
        outcome = writers.repeat(job, total)
        if outcome.stuck:
            raise stuck(self.table, outcome.left, self._options.lock_timeout)
        return outcome

    def _count(self) -> Counts:
        with self._connection.cursor() as cursor:
            counts = self._statements.count(cursor)
        self._connection.commit()
        self._pages.expect(counts.largest)
        return counts

    def _check(self) -> Counts:
        """Everything that must hold before the first write. Raises LastroError."""
        options, counts = self._options, self._count()
        if options.state == "encrypted" and counts.suspicious and not options.accept_encrypted_looking:
            with self._connection.cursor() as cursor:
                suspects = self._statements.suspicious_keys(cursor, NAMED_KEYS)
            self._connection.commit()
            raise looks_encrypted(self.table, counts.suspicious, [shown_key(key) for key in suspects])
        if self._reader:
            self._reader.check(accept_loss=options.accept_loss)
        elif options.state != "prepared" and self._codec is None:
            raise no_key()
        if self._codec and counts.sealed:
            seen = sample(self._pages.sample(counts.total), self._codec)
            if seen.failures.counts["wrong_key"]:
                raise wrong_key(self.table, seen)
        self._check_table()
        if options.state == "cleared":
            if self.table.source.not_null:
                raise not_nullable(self.table)
            if counts.pending:
                raise still_clear(self.table, counts.pending)
        return counts

    def _check_table(self) -> None:
        """Who depends on the clear column, and what would refuse the new rows. Raises LastroError."""
        state = self._options.state
        with self._connection.cursor() as cursor:
            found = dependents(cursor, self.table, self._options.accept_dependents) if state in ("encrypted", "cleared") else []
            broken = broken_constraints(cursor, self.table, self._statements, state)
        self._connection.commit()
        if found:
            raise depended_on(self.table, self.table.source.name, found)
        if broken:
            raise would_break(self.table, broken)

    def _clear_up(self) -> dict[str, t.Any]:
        """After C(cleared): the rewrite, where asked for, and the truth about what is left."""
        options = self._options
        scrubs = options.scrub == "vacuum_full"
        if scrubs and not options.check_mode:
            scrub(self._connection, self.table, sleep=self._sleep)
        with self._connection.cursor() as cursor:
            risks = residual_risk(cursor, self.table, scrubbed=scrubs, undo_file=str(options.backup.path) if options.backup else "")
            text = proposal(cursor, self.table)
        self._connection.commit()
        return {"residual_risk": [risk._asdict() for risk in risks], "scrubbed": scrubs, "proposal": text, **({"changed": True} if scrubs else {})}

    def _judge(self, tally: Tally, facts: dict[str, t.Any]) -> None:
        if tally.failures.total:
            raise failing(self.table, tally, facts)
        if self._options.state == "encrypted" and not self._options.guard_trigger and tally.pending:
            raise still_written(self.table, tally.pending, facts)

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
            "backup": {"path": str(self._options.backup.path), "rows": self._undo.rows if self._undo else 0} if self._options.backup else {},
        }


def result(counts: Counts, tally: Tally, outcome: Outcome, *, guard: bool, rows_per_second: float, state: State | None = None) -> dict[str, t.Any]:
    """The return values that both modules share."""
    return {
        "total": tally.total,
        "null_rows": tally.null_rows,
        "encrypted": outcome.written if state == "encrypted" else 0,
        "cleared": outcome.written if state == "cleared" else 0,
        "decrypted": outcome.written if state == "decrypted" else 0,
        "rotated": outcome.written if state == "rotated" else 0,
        "swapped": False,
        "already": counts.sealed,
        "conflicts": outcome.conflicts,
        "verified": tally.verified,
        "failures": tally.failures.as_result(),
        "clear_left": tally.pending + tally.failures.total,
        "clear_values": tally.clear_values,
        "passes": outcome.passes,
        "rows_per_second": rows_per_second,
        "guard_trigger": guard,
        "backup": {},
        "residual_risk": [],
        "scrubbed": False,
        "proposal": "",
    }


def _rate(rows: int, seconds: float) -> float:
    return round(rows / seconds, 1) if rows and seconds > 0 else 0.0


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")


__all__ = ("converge", "look")
