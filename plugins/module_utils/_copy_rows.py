# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of C(COPY ... TO STDOUT (FORMAT binary)), while the server sends on. PRIVATE to the collection.

Format: PostgreSQL's documentation, COPY, "Binary Format".
"""

from __future__ import annotations

import struct
import typing as t

RawRow: t.TypeAlias = "list[bytes | None]"
"""A row's fields: text in the client's encoding, bytea as it is."""

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES = len(SIGNATURE) + 8
_fields = struct.Struct(">h").unpack_from
_size = struct.Struct(">i").unpack_from


class CopyRows:
    """What C(copy_expert) writes to: hands on rows, those of *size* messages at a time, to *take*. C(finish) hands on the last ones."""

    def __init__(self, size: int, take: t.Callable[[list[RawRow]], None]) -> None:
        self._limit = size
        self._take = take
        self._messages: list[bytes] = []
        self._begun = False
        self._ended = False

    def write(self, data: bytes) -> None:
        """Take a message of the server, which holds a row as a rule."""
        self._messages.append(data)
        if len(self._messages) >= self._limit:
            self._hand_on()

    def finish(self) -> None:
        """The server has sent everything. Raises ValueError where it has not."""
        self._hand_on()
        if not self._ended:
            raise ValueError("COPY ended without its trailer")

    def _hand_on(self) -> None:
        data, start = b"".join(self._messages), 0
        if not self._begun and len(data) >= _HEADER_BYTES:
            if not data.startswith(SIGNATURE):
                raise ValueError("COPY did not begin with its signature")
            self._begun, start = True, _HEADER_BYTES
        rows, end = self._rows(data, start) if self._begun else ([], 0)
        self._messages = [data[end:]] if end < len(data) else []
        if rows:
            self._take(rows)

    def _rows(self, data: bytes, at: int) -> tuple[list[RawRow], int]:
        """The whole rows from *at* on, and where they end."""
        rows: list[RawRow] = []
        length = len(data)
        begin = at
        try:
            while at < length:
                begin = at
                (count,) = _fields(data, at)
                at += 2
                if count < 0:
                    self._ended = True
                    return rows, at
                row: RawRow = []
                while count:
                    (size,) = _size(data, at)
                    begins = at + 4
                    at = begins + size if size > 0 else begins
                    row.append(data[begins:at] if size >= 0 else None)
                    count -= 1
                if at > length:
                    return rows, begin
                rows.append(row)
        except struct.error:
            return rows, begin
        return rows, at


__all__ = ("CopyRows", "RawRow")
