# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of work on rows: which ones each reads, and what it writes to them. Nothing is written here. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import typing as t

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
    """Encrypt what waits for it."""

    def plan(rows: list[Row]) -> Batch:
        texts = [row.source or "" for row in rows]
        sealed = codec.seal(texts)
        entries = [Entry(row.key, text, one.nonce) for row, text, one in zip(rows, texts, sealed, strict=True)]
        return Batch(len(rows), len(rows), lambda cursor: statements.write_sealed(cursor, rows, sealed), entries)

    return Job("rows encrypted", lambda: map(plan, pages.walk("pending")))


def clearing(pages: Pages, statements: Statements, codec: Codec) -> Job:
    """Set clear text NULL where the ciphertext beside it has just been decrypted to the same text."""

    def plan(rows: list[Row]) -> Batch:
        verified = [row for row in rows if codec.judge(row).kind == "verified"]
        entries = [Entry(row.key, row.source or "", codec.nonce(row) or b"") for row in verified]
        return Batch(len(rows), len(verified), lambda cursor: statements.clear_source(cursor, verified), entries)

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
        return _writing(statements, len(entries), [(row, wanted.get((row.key, codec.nonce(row) or b""))) for row in rows if row.source is None])

    return Job("rows restored", lambda: map(plan, entries()))


def _writing(statements: Statements, read: int, wanted: t.Iterable[tuple[Row, str | None]]) -> Batch:
    pairs = [(row, text) for row, text in wanted if text is not None]
    return Batch(read, len(pairs), lambda cursor: statements.write_source(cursor, [row for row, _text in pairs], [text for _row, text in pairs]))


__all__ = ("Batch", "Job", "clearing", "encrypting", "restoring", "undoing")
