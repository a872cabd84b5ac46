# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between rows and the cipher: what a row holds, and what is written to it. Pure but for the nonces. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import typing as t

from ._copy_rows import RawRow
from ._token_cipher import ColumnType, Format, KeyRing, Sealed, Verdict, binding, decode
from ._token_columns import Table
from ._token_sql import Row, Value, column_kind

with contextlib.suppress(ImportError):
    from cryptography.exceptions import InvalidTag


class Codec:
    """Seals and judges rows of one table."""

    def __init__(self, ring: KeyRing, table: Table, *, kind: Format = "compat", strict: bool = False) -> None:
        """In format *kind*. C(bound) reads what C(compat) wrote, too, as by another key than the first, unless *strict*."""
        self._ring = ring
        self._table = table
        self._kind: Format = kind
        self._strict = strict
        self._is_plain = table.column_type == "bytea" and table.lookup is None

    def first(self) -> Codec:
        """The same with the first key alone, and with its format alone."""
        return Codec(self._ring.first(), self._table, kind=self._kind, strict=True)

    def of(self, table: Table) -> Codec:
        """The same keys for another look of the table."""
        return Codec(self._ring, table, kind=self._kind, strict=self._strict)

    @property
    def key_id(self) -> bytes:
        """The name of the first key."""
        return self._ring.key_id

    def seal(self, rows: t.Iterable[Row], texts: t.Sequence[str]) -> list[Sealed]:
        """Encrypt the texts of rows with the first key."""
        return self._ring.encrypt(texts, [self._binding(row) for row in rows] if self._kind == "bound" else None)

    def lookups(self, texts: t.Iterable[str]) -> list[bytes]:
        """Their HMACs, where the table has a column for them."""
        return [self._ring.lookup(text) for text in texts] if self._table.lookup else []

    def unopened(self, rows: t.Sequence[RawRow], row: t.Callable[[RawRow], Row]) -> list[Row]:
        """The rows that are not verified beyond doubt, of which ``judge`` says what they hold. Quick; *row* makes a Row of one."""
        if not self._is_plain:
            return [row(one) for one in rows]
        decrypt, is_bound, others = self._ring.open, self._kind == "bound", []
        for one in rows:
            clear, ciphertext, nonce = one[0], one[1], one[2]
            if ciphertext is None or nonce is None:
                others.append(row(one))
                continue
            try:
                data = decrypt(nonce, ciphertext, self._binding(row(one)) if is_bound else None)
                verified = data == clear if clear is not None else "\0" not in data.decode()
            except (InvalidTag, ValueError):
                verified = False
            if not verified:
                others.append(row(one))
        return others

    def judge(self, row: Row) -> Verdict:
        """What the row holds."""
        verdict = self._judge(row, row.ciphertext, row.nonce)
        if self._table.lookup is None or verdict.kind != "verified":
            return verdict
        found = _bytes(column_kind(self._table.lookup), row.lookup)
        if found is None:
            return Verdict("pending", verdict.text, verdict.key)
        # A row whose key is an older one has that key's HMAC: rotation writes both anew.
        return verdict if verdict.key or found == self._ring.lookup(verdict.text or "") else Verdict("mismatch", verdict.text)

    def judge_shadow(self, row: Row) -> Verdict:
        """What the row's shadow holds, beside its clear text."""
        return self._judge(row, row.shadow, row.shadow_nonce)

    def is_current(self, row: Row, verdict: Verdict) -> bool:
        """Whether the first key made the row's ciphertext, and the row says so where it has a place for that."""
        return verdict.key == 0 and (self._table.key_id is None or _bytes(column_kind(self._table.key_id), row.key_id) == self._ring.key_id)

    def sealed(self, row: Row) -> Sealed | None:
        """The row's ciphertext and nonce as bytes; None where it lacks one or one is damaged."""
        ciphertext, nonce = _bytes(self._table.column_type, row.ciphertext), _bytes(self._table.column_type, row.nonce)
        return None if ciphertext is None or nonce is None else Sealed(ciphertext, nonce)

    def _binding(self, row: Row) -> bytes | None:
        return binding(str(self._table), self._table.ciphertext.name, row.key) if self._kind == "bound" else None

    def _bindings(self, row: Row) -> tuple[bytes | None, ...]:
        one = self._binding(row)
        return (one,) if one is None or self._strict else (one, None)

    def _judge(self, row: Row, ciphertext: Value, nonce: Value) -> Verdict:
        if ciphertext is None or nonce is None:
            if row.source is not None:
                return Verdict("pending")
            return Verdict("none" if ciphertext is nonce else "corrupt")
        try:
            kind = self._table.column_type
            return self._ring.judge(row.source, decode(kind, ciphertext), decode(kind, nonce), self._bindings(row))
        except ValueError:
            return Verdict("corrupt")


def _bytes(kind: ColumnType, value: Value) -> bytes | None:
    try:
        return None if value is None else decode(kind, value)
    except ValueError:
        return None


__all__ = ("Codec",)
