# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between rows and the cipher: what a row holds, and what is written to it. Pure but for the nonces. PRIVATE to the collection."""

from __future__ import annotations

import typing as t

from ._token_cipher import ColumnType, KeyRing, Sealed, Verdict, decode
from ._token_sql import Row


class Codec:
    """Seals and judges rows of one table."""

    def __init__(self, ring: KeyRing, column_type: ColumnType) -> None:
        self._ring = ring
        self._column_type = column_type

    def seal(self, texts: t.Sequence[str]) -> list[Sealed]:
        """Encrypt a batch with the first key."""
        return self._ring.encrypt(texts)

    def judge(self, row: Row) -> Verdict:
        """What the row holds."""
        if row.ciphertext is None or row.nonce is None:
            if row.source is not None:
                return Verdict("pending")
            return Verdict("none" if row.ciphertext is row.nonce else "corrupt")
        try:
            ciphertext, nonce = decode(self._column_type, row.ciphertext), decode(self._column_type, row.nonce)
        except ValueError:
            return Verdict("corrupt")
        return self._ring.judge(row.source, ciphertext, nonce)

    def nonce(self, row: Row) -> bytes | None:
        """The bytes of the row's nonce; None where it has none."""
        try:
            return None if row.nonce is None else decode(self._column_type, row.nonce)
        except ValueError:
            return None


__all__ = ("Codec",)
