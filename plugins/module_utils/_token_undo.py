# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The undo file: the clear tokens as JSON lines, encrypted for age recipients, on disk before the rows they belong to are committed.

``docs/token-format.md`` holds the format's definition. PRIVATE to the collection.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import typing as t
from pathlib import Path

from . import _backup_stream
from ._errors import LastroError, Text
from ._files import fsync_directory, make_directory
from ._token_columns import Table

with contextlib.suppress(ImportError):
    import pyrage
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = "lastro-token-undo/1"
_BEGINNING = f'{{"format":"{FORMAT}"'.encode()
KEY_BYTES = 32
CHUNK = 1024 * 1024
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Entry(t.NamedTuple):
    """What the file keeps of a row: its key, the clear token, and the nonce of the ciphertext that was made of it."""

    key: tuple[str, ...]
    token: str
    nonce: bytes


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the undo file is, who can read it, and for reading it the identity (an age secret key)."""

    path: Path
    recipients: tuple[str, ...]
    identity: str = dataclasses.field(default="", repr=False)

    @classmethod
    def from_params(cls, given: t.Mapping[str, t.Any] | None, *, reads: bool) -> Place | None:
        """The option C(backup). Raises LastroError where what reading (or writing) it needs is missing or is no key of age."""
        if not given:
            return None
        place = cls(Path(given["path"]), tuple(given.get("recipients") or ()), given.get("identity") or "")
        _backup_stream.require(compression="none", encryption="age")
        recipients = {str(one) for one in _backup_stream.parse_recipients(place.recipients)}
        identities = _backup_stream.parse_identity(place.identity)
        missing = "identity" if reads and not identities else "recipients" if not reads and not recipients else ""
        if missing:
            raise LastroError(f"backup has no {missing}, without which the undo file cannot be {'read' if reads else 'written'}.", remedy=_KEYS_REMEDY)
        if not reads and identities and not recipients & {str(one.to_public()) for one in identities}:
            raise LastroError("backup.identity belongs to none of backup.recipients: it could not open the undo file.", remedy=_KEYS_REMEDY)
        return place


_KEYS_REMEDY = Text(
    en="Give in backup.recipients the age1... lines, and in backup.identity the AGE-SECRET-KEY-1... of one of them (age-keygen prints both).",
    pt_BR="Informe em backup.recipients as linhas age1... e em backup.identity a AGE-SECRET-KEY-1... de uma delas (age-keygen mostra as duas).",
)


class UndoWriter:
    """Appends to the file. Each run writes a segment of its own, with a key of its own that only the recipients can unwrap.

    Nothing is created before the first entry. ``append`` and ``finish`` belong to one thread; ``sync`` may be called by any.
    """

    def __init__(self, place: Place, table: Table, *, created: str, random: t.Callable[[int], bytes] = os.urandom) -> None:
        self._place = place
        self._table = table
        self._created = created
        self._random = random
        self._descriptor: int | None = None
        self._digest = hashlib.sha256()
        self._segment: _Segment | None = None
        self._broken = False
        self.rows = 0

    def append(self, entries: t.Sequence[Entry]) -> None:
        """Write the entries of a batch; ``sync`` makes them last. Raises LastroError."""
        with self._errors():
            segment = self._segment or self._begin()
            body = _encode([[*entry.key, entry.token, entry.nonce.hex()] for entry in entries]).encode()
            self._write(segment.line("rows", body))
            self.rows += len(entries)

    def sync(self) -> None:
        """What was appended is on the disk. Raises LastroError."""
        if self._descriptor is not None:
            with self._errors():
                os.fdatasync(self._descriptor)

    def finish(self) -> None:
        """End the file with the record without which it counts as cut off. A file that has one and got nothing new stays as it is. Raises LastroError."""
        if self._broken:
            return
        with self._errors():
            if self._segment is None and _is_complete(self._place.path):
                return
            segment = self._segment or self._begin()
            body = {"rows": self.rows, "sha256": self._digest.hexdigest()}
            self._write(segment.line("end", json.dumps(body).encode()))
            os.fsync(self._descriptor or 0)
            self._segment = None

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _begin(self) -> _Segment:
        path = self._place.path
        if self._descriptor is None:
            new = not path.exists()
            if not path.parent.exists():
                make_directory(path.parent, 0o700)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            os.fchmod(self._descriptor, 0o600)
            self._take_up()
            if new:
                fsync_directory(path.parent)
        key = self._random(KEY_BYTES)
        header = {**_identity_of(self._table), "created": self._created, "recipients": list(self._place.recipients), "file_key": _wrap(key, self._place)}
        line = json.dumps(header, separators=(",", ":")).encode()
        self._write(line + b"\n")
        self._segment = _Segment(key, line)
        return self._segment

    def _take_up(self) -> None:
        """Hash what is there, and end a line that a kill or a full disk left torn."""
        descriptor, size, last = self._descriptor or 0, 0, b"\n"
        while data := os.pread(descriptor, CHUNK, size):
            if not size and b"\n" not in data and _BEGINNING.startswith(data[: len(_BEGINNING)]):
                os.ftruncate(descriptor, 0)  # killed while it wrote the very first line
                return
            if not size:
                _check_header(self._place.path, data.partition(b"\n")[0], self._table)
            self._digest.update(data)
            size += len(data)
            last = data[-1:]
        if last != b"\n":
            self._write(b"\n")

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        while data:
            data = data[os.write(self._descriptor or 0, data) :]

    @contextlib.contextmanager
    def _errors(self) -> t.Iterator[None]:
        try:
            yield
        except LastroError:
            self._broken = True
            raise
        except OSError as error:
            self._broken = True
            full = error.errno in _backup_stream.FULL_DISK
            raise LastroError(
                f"{'The disk is full: t' if full else 'T'}he undo file {self._place.path} could not be written: {error.strerror}."
                " No row was written whose token is not in it.",
                remedy=Text(
                    en="Free space there, or check the directory's permissions, and run again: the work goes on where it stopped.",
                    pt_BR="Libere espaço, ou verifique as permissões do diretório, e execute novamente: o trabalho continua de onde parou.",
                ),
            ) from error


class _Segment:
    """The lines of one run: AES-256-GCM with the run's key; the number of the line is its nonce, header and kind are authenticated."""

    def __init__(self, key: bytes, header: bytes) -> None:
        self._cipher = AESGCM(key)
        self._header = hashlib.sha256(header).digest()
        self._number = 0

    def line(self, kind: str, body: bytes) -> bytes:
        """The next line."""
        sealed = self._cipher.encrypt(self._nonce(), body, self._header + kind.encode())
        return b'{"%s":"%s"}\n' % (kind.encode(), base64.b64encode(sealed))

    def open(self, kind: str, sealed: str) -> bytes:
        """The JSON of the next line. Raises InvalidTag, ValueError."""
        return self._cipher.decrypt(self._nonce(), base64.b64decode(sealed, validate=True), self._header + kind.encode())

    def _nonce(self) -> bytes:
        self._number += 1
        return self._number.to_bytes(12, "big")


class UndoReader:
    """Reads the file with an identity."""

    def __init__(self, place: Place, table: Table) -> None:
        self._path = place.path
        self._table = table
        self._identities = _backup_stream.parse_identity(place.identity)

    def check(self, *, accept_loss: bool) -> int:
        """Read the whole file; the number of its entries. Raises LastroError where a line is damaged or the end is missing (unless *accept_loss*)."""
        whole = self._read()
        rows, complete = 0, False
        while True:
            try:
                rows += len(next(whole))
            except StopIteration as end:
                complete = end.value
                break
        if not complete and not accept_loss:
            raise self._damaged("does not end with its closing record: it was cut off, or the run that wrote it was killed")
        return rows

    def batches(self) -> t.Iterator[list[Entry]]:
        """The entries, in the order in which they were written."""
        yield from self._read()

    def _read(self) -> t.Generator[list[Entry], None, bool]:
        digest, segment, complete, torn = hashlib.sha256(), None, False, False
        for number, line in enumerate(self._lines(), 1):
            record = _parsed(line)
            if "format" in record:
                _check_header(self._path, line.rstrip(b"\n"), self._table)
                segment, complete, torn = self._open(record, line.rstrip(b"\n")), False, False
            elif torn or segment is None:
                raise self._damaged(f"is damaged in line {number}")
            elif not record:
                torn = True
            else:
                ((kind, sealed),) = record.items()
                body = json.loads(self._body(segment, kind, sealed, number))
                complete = kind == "end" and body["sha256"] == digest.hexdigest()
                if kind == "end" and not complete:
                    raise self._damaged(f"is damaged before line {number}")
                if kind == "rows":
                    yield [Entry(tuple(one[:-2]), one[-2], bytes.fromhex(one[-1])) for one in body]
            digest.update(line)
        return complete and not torn

    def _lines(self) -> t.Iterator[bytes]:
        try:
            with self._path.open("rb") as stream:
                yield from stream
        except OSError as error:
            raise LastroError(f"The undo file {self._path} cannot be read: {error.strerror}.", remedy=_READ_REMEDY) from error

    def _open(self, header: dict[str, t.Any], line: bytes) -> _Segment:
        try:
            return _Segment(pyrage.decrypt(base64.b64decode(header["file_key"]), self._identities), line)
        except (pyrage.DecryptError, ValueError):
            raise LastroError(
                f"backup.identity does not open the undo file {self._path}, which was written for {', '.join(header.get('recipients', []))}.",
                remedy=_KEYS_REMEDY,
            ) from None

    def _body(self, segment: _Segment, kind: str, sealed: str, number: int) -> bytes:
        try:
            return segment.open(kind, sealed)
        except (InvalidTag, ValueError, TypeError):
            raise self._damaged(f"is damaged in line {number}") from None

    def _damaged(self, what: str) -> LastroError:
        return LastroError(f"The undo file {self._path} {what}. Nothing was written.", remedy=_READ_REMEDY)


_READ_REMEDY = Text(
    en="Take a whole copy of it; or, where there is none, use what it holds with accept_loss: true, and look at the rows that are left.",
    pt_BR="Use uma cópia inteira; ou, se não houver, aproveite o que ele contém com accept_loss: true e verifique as linhas que sobrarem.",
)


def _identity_of(table: Table) -> dict[str, t.Any]:
    return {"format": FORMAT, "table": str(table), "source": table.source.name, "keys": [column.name for column in table.keys]}


def _check_header(path: Path, line: bytes, table: Table) -> None:
    record = _parsed(line)
    for name, wanted in _identity_of(table).items():
        if record.get(name) != wanted:
            found = f"{name} {record[name]!r}" if name in record else "another kind of file"
            raise LastroError(
                f"{path} is no undo file of {table}: it has {found}.",
                remedy=Text(en="Give each table an undo file of its own in backup.path.", pt_BR="Dê a cada tabela o seu próprio arquivo em backup.path."),
            )


def _parsed(line: bytes) -> dict[str, t.Any]:
    """The record of a line; empty where it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) and ("format" in record or len(record) == 1) else {}


def _wrap(key: bytes, place: Place) -> str:
    return base64.b64encode(pyrage.encrypt(key, _backup_stream.parse_recipients(place.recipients))).decode()


def _is_complete(path: Path) -> bool:
    """Whether nothing is left to end: no file, or one whose last line is an end record."""
    if not path.exists():
        return True
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 1024))
        tail = stream.read()
    return tail.endswith(b"\n") and "end" in _parsed(tail.rstrip(b"\n").rpartition(b"\n")[2])


__all__ = ("Entry", "Place", "UndoReader", "UndoWriter")
