# SPDX-License-Identifier: GPL-3.0-or-later
"""COPY's binary format: any rows, however the server cuts them into messages."""

from __future__ import annotations

import struct

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils._copy_rows import SIGNATURE, CopyRows, RawRow
from hypothesis import given
from hypothesis import strategies as st

HEADER = SIGNATURE + bytes(8)
TRAILER = b"\xff\xff"
ROWS = st.lists(st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=4), max_size=12)


def sent(rows: list[RawRow]) -> bytes:
    def field(value: bytes | None) -> bytes:
        return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value

    return HEADER + b"".join(struct.pack(">h", len(row)) + b"".join(map(field, row)) for row in rows) + TRAILER


@given(ROWS, st.integers(1, 60), st.integers(1, 7))
def test_rows_come_out_however_they_are_cut(rows: list[RawRow], message: int, size: int) -> None:
    data, seen = sent(rows), list[RawRow]()
    copy = CopyRows(size, seen.extend)
    for start in range(0, len(data), message):
        copy.write(data[start : start + message])
    copy.finish()
    assert seen == rows


@given(ROWS, st.data())
def test_what_is_cut_off_is_noticed(rows: list[RawRow], drawn: st.DataObject) -> None:
    data, seen = sent(rows), list[RawRow]()
    copy = CopyRows(3, seen.extend)
    copy.write(data[: drawn.draw(st.integers(0, len(data) - 1))])
    with pytest.raises(ValueError, match="trailer"):
        copy.finish()
    assert seen == rows[: len(seen)]


def test_another_format_is_refused() -> None:
    copy = CopyRows(1, lambda _rows: None)
    with pytest.raises(ValueError, match="signature"):
        copy.write(b"1\tclear text of COPY's other format\n")
