# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of work on rows: which ones each reads, and what it writes to them. Nothing is written here. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import typing as t

from ._token_cipher import Sealed
from ._token_codec import Codec
from ._token_sql import Row, Statements
from ._token_undo import Entry
from ._token_walk import Pages

if t.TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

Write = t.Callable[["Cursor"], int]
"""Writes a batch and returns how many of its rows were still as they had been read."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a page of *read* rows comes to: *count* of them are written; *entries* go to the undo file before."""

    read: int
    count: int
    write: Write
    entries: t.Sequence[Entry] = ()


@dataclasses.dataclass(frozen=True)
class Job:
    """A pass over the table, as often as ``batches`` is called."""

    unit: str
    batches: t.Callable[[], t.Iterator[Batch]]


def encrypting(pages: Pages, statements: Statements, codec: Codec) -> Job:
    """Encrypt what waits for it. A row that lacks its HMAC alone keeps its ciphertext."""

    def plan(rows: list[Row]) -> Batch:
        kept = [
            (row, row.source or "", None) if row.ciphertext is None or row.nonce is None else (row, codec.judge(row).text, codec.sealed(row)) for row in rows
        ]
        return _sealing(statements, codec, len(rows), [(row, text, old) for row, text, old in kept if text is not None])

    return Job("rows encrypted", lambda: map(plan, pages.walk("pending")))


def rotating(pages: Pages, statements: Statements, codec: Codec) -> Job:
    """Encrypt with the first key what another key of the ring opens."""

    def plan(rows: list[Row]) -> Batch:
        verdicts = ((row, codec.judge(row)) for row in rows)
        due = [(row, one.text, None) for row, one in verdicts if one.kind == "verified" and one.text is not None and not codec.is_current(row, one)]
        return _sealing(statements, codec, len(rows), due)

    return Job("rows rotated", lambda: map(plan, pages.walk("sealed")))


def shadowing(pages: Pages, shadow: Statements, codec: Codec) -> Job:
    """Give the shadow columns, with the first key, the text that the ciphertext holds, wherever they do not hold it."""
    first = codec.first()

    def plan(rows: list[Row]) -> Batch:
        verdicts = ((row, codec.judge(row).text, first.judge_shadow(row).text) for row in rows)
        due = [(row, text, None) for row, text, shadowed in verdicts if text is not None and text != shadowed]
        return _sealing(shadow, codec, len(rows), due)

    return Job("rows rotated", lambda: map(plan, pages.walk("sealed")))


def _sealing(statements: Statements, codec: Codec, read: int, rows: t.Sequence[tuple[Row, str, Sealed | None]]) -> Batch:
    texts = [text for _row, text, _old in rows]
    sealed = [old or new for (_row, _text, old), new in zip(rows, codec.seal((row for row, *_unused in rows), texts), strict=True)]
    entries = [Entry(row.key, text, one.nonce) for (row, text, _old), one in zip(rows, sealed, strict=True)]
    lookups, written = codec.lookups(texts), [row for row, *_unused in rows]
    return Batch(read, len(rows), lambda cursor: statements.write_sealed(cursor, written, sealed, lookups=lookups, key_id=codec.key_id), entries)


def clearing(pages: Pages, statements: Statements, codec: Codec) -> Job:
    """Set clear text NULL where the ciphertext beside it has just been decrypted to the same text."""

    def plan(rows: list[Row]) -> Batch:
        verified = [(row, one) for row in rows if codec.judge(row).kind == "verified" and (one := codec.sealed(row))]
        entries = [Entry(row.key, row.source or "", one.nonce) for row, one in verified]
        return Batch(len(rows), len(verified), lambda cursor: statements.clear_source(cursor, [row for row, _one in verified]), entries)

    return Job("rows cleared", lambda: map(plan, pages.walk("clear")))


def undoing(pages: Pages, statements: Statements, codec: Codec) -> Job:
    """Write decrypted text back where the clear text is NULL or another one."""

    def plan(rows: list[Row]) -> Batch:
        verdicts = [codec.judge(row) for row in rows]
        return _writing(statements, len(rows), [(row, one.text) for row, one in zip(rows, verdicts, strict=True) if one.text not in (None, row.source)])

    return Job("rows decrypted", lambda: map(plan, pages.walk("sealed")))


def restoring(pages: Pages, statements: Statements, codec: Codec, entries: t.Callable[[], t.Iterator[list[Entry]]]) -> Job:
    """Write the undo file's text back where the clear text is NULL and the ciphertext is still the one that was made of that text."""

    def plan(entries: list[Entry]) -> Batch:
        wanted = {(entry.key, entry.nonce): entry.token for entry in entries}
        rows = pages.at(list({entry.key for entry in entries}))
        pairs = [(row, wanted.get((row.key, one.nonce))) for row in rows if row.source is None and (one := codec.sealed(row))]
        return _writing(statements, len(entries), pairs)

    return Job("rows restored", lambda: map(plan, entries()))


def _writing(statements: Statements, read: int, wanted: t.Iterable[tuple[Row, str | None]]) -> Batch:
    pairs = [(row, text) for row, text in wanted if text is not None]
    return Batch(read, len(pairs), lambda cursor: statements.write_source(cursor, [row for row, _text in pairs], [text for _row, text in pairs]))


__all__ = ("Batch", "Job", "clearing", "encrypting", "restoring", "rotating", "shadowing", "undoing")
