# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain between pg_dump, the disk and pg_restore: zstd and age as streams, nothing in clear on the disk.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import errno
import hashlib
import os
import typing as t
import zlib

from ._errors import LastroError, Text

try:
    import zstandard

    HAS_ZSTANDARD = True
except ImportError:
    HAS_ZSTANDARD = False

try:
    import pyrage
    from pyrage import x25519

    HAS_PYRAGE = True
except ImportError:
    HAS_PYRAGE = False

CHUNK = 1 << 20
THREADS = min(4, os.cpu_count() or 1)
GZIP = 16 + zlib.MAX_WBITS
"""What zlib calls its gzip format."""
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_IDENTITY_PREFIX = "AGE-SECRET-KEY-1"

IDENTITY_REMEDY = Text(
    en="Give in identity the AGE-SECRET-KEY-1... that belongs to one of the backup's recipients (age-keygen printed both).",
    pt_BR="Informe em identity a AGE-SECRET-KEY-1... que pertence a um dos destinatários do backup (age-keygen mostrou as duas).",
)


class Reader(t.Protocol):
    """What a chain reads from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes; empty at the end."""


class Writer(t.Protocol):
    """What a chain writes to."""

    def write(self, data: bytes, /) -> int:
        """Take all of *data*."""

    def flush(self) -> None:
        """Nothing is held back."""


class ChainError(Exception):
    """The stream could not be coded or decoded; the message names the link and holds no data."""


def require(*, compression: str, encryption: str) -> None:
    """Raises LastroError where the Python that runs the module lacks a library of the chain."""
    missing = [
        name for name, has, needed in (("zstandard", HAS_ZSTANDARD, compression == "zstd"), ("pyrage", HAS_PYRAGE, encryption == "age")) if needed and not has
    ]
    if missing:
        names = " and ".join(missing)
        raise LastroError(
            f"This Python has no {names}.",
            remedy=Text(
                en=f"Install {names} in the interpreter that ansible_python_interpreter names for the primary host.",
                pt_BR=f"Instale {names} no interpretador que ansible_python_interpreter indica para o host primário.",
            ),
        )


def parse_recipients(recipients: t.Sequence[str]) -> list[t.Any]:
    """age recipients. Raises LastroError that names the wrong one (they are public)."""
    parsed = []
    for recipient in recipients:
        try:
            parsed.append(x25519.Recipient.from_str(recipient.strip()))
        except pyrage.RecipientError as error:
            raise LastroError(
                f"The recipient {recipient[:80]!r} is not an age public key: {error}.",
                remedy=Text(
                    en="Give recipients the age1... lines that age-keygen prints.",
                    pt_BR="Informe em recipients as linhas age1... que age-keygen mostra.",
                ),
            ) from None
    return parsed


def parse_identity(identity: str | None) -> list[t.Any]:
    """The identities in *identity*: the key itself or a whole age key file. Raises LastroError without showing it."""
    lines = [line.strip() for line in (identity or "").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    parsed = []
    for key in keys:
        try:
            parsed.append(x25519.Identity.from_str(key))
        except pyrage.IdentityError:
            shape = f"starts with {_IDENTITY_PREFIX}" if key.startswith(_IDENTITY_PREFIX) else f"does not start with {_IDENTITY_PREFIX}"
            raise LastroError(f"The identity is not an age secret key: it has {len(key)} characters and {shape}.", remedy=IDENTITY_REMEDY) from None
    return parsed


class Tee:
    """Reads *source*, counts what passes and hands it to *copies* too; one that ends early gets no more, and its exit status says what that means."""

    def __init__(self, source: Reader, copies: t.Iterable[t.IO[bytes]], report: t.Callable[[int], None]) -> None:
        self._source = source
        self._copies = list(copies)
        self._report = report
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """Next bytes of the source."""
        data = self._source.read(size)
        self.size += len(data)
        for copy in list(self._copies) if data else ():
            try:
                copy.write(data)
            except BrokenPipeError:
                self._copies.remove(copy)
        self._report(self.size)
        return data


class Measured:
    """Writes to *stream*, taking size and SHA-256 on the way; keeps the first OSError, which pyrage would hide."""

    def __init__(self, stream: t.IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: bytes, /) -> int:
        """Take all of *data*."""
        try:
            self._stream.write(data)
        except OSError as error:
            self.error = self.error or error
            raise
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Hand everything to the system."""
        try:
            self._stream.flush()
        except OSError as error:
            self.error = self.error or error
            raise

    def sha256(self) -> str:
        """Of all that was written, as hex."""
        return self._digest.hexdigest()


def encode(source: Reader, target: Writer, *, compression: str, level: int, recipients: t.Sequence[t.Any]) -> None:
    """Carry *source* through zstd (with checksum) or gzip, and age, into *target*. Raises OSError, ChainError."""
    reader: Reader = source
    if compression == "gzip":
        reader = _Gzip(source, level)
    if compression == "zstd":
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, threads=THREADS)
        reader = t.cast("Reader", compressor.stream_reader(t.cast("t.IO[bytes]", source), read_size=CHUNK))
    if recipients:
        try:
            pyrage.encrypt_io(reader, target, list(recipients))
        except pyrage.EncryptError as error:
            raise ChainError(f"age: {error}") from error
    else:
        while data := reader.read(CHUNK):
            target.write(data)
    target.flush()


class _Gzip:
    """Reads *source* compressed (RFC 1952)."""

    def __init__(self, source: Reader, level: int) -> None:
        self._source = source
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, GZIP)
        self._ready = b""
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        """Next bytes, at most *size*; empty at the end."""
        while not self._ready and not self._ended:
            data = self._source.read(CHUNK)
            self._ended = not data
            self._ready = self._compressor.compress(data) if data else self._compressor.flush()
        most = len(self._ready) if size < 0 else size
        data, self._ready = self._ready[:most], self._ready[most:]
        return data


class _Gunzip:
    """Writes to *target* what a gzip stream holds."""

    def __init__(self, target: Writer) -> None:
        self._target = target
        self._decompressor = zlib.decompressobj(GZIP)

    def write(self, data: bytes, /) -> int:
        """Take all of *data*. Raises zlib.error, ChainError."""
        rest = data
        while rest and not self._decompressor.eof:
            self._target.write(self._decompressor.decompress(rest, CHUNK))
            rest = self._decompressor.unconsumed_tail
        if rest or self._decompressor.unused_data:
            raise ChainError("there is more after the end of the gzip stream")
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """The stream ends here. Raises zlib.error, and ChainError where its end is missing."""
        self._target.write(self._decompressor.flush())
        if not self._decompressor.eof:
            raise ChainError("the gzip stream is cut off")


class _Plain:
    """Counts what reaches *target*; keeps the OSError of a reader that went away."""

    def __init__(self, write: t.Callable[[bytes], object]) -> None:
        self._write = write
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: bytes, /) -> int:
        try:
            self._write(data)
        except OSError as error:
            self.error = self.error or error
            raise
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""


def decode(source: Reader, write: t.Callable[[bytes], object], *, compression: str, identities: t.Sequence[t.Any]) -> int:
    """Carry a stored file back in clear to *write*; bytes written. Raises ChainError (damage, wrong identity), or the OSError of *write*."""
    plain = _Plain(write)
    gunzip = _Gunzip(plain) if compression == "gzip" else None
    target: Writer = gunzip or plain
    if compression == "zstd":
        target = t.cast("Writer", zstandard.ZstdDecompressor().stream_writer(t.cast("t.IO[bytes]", plain), closefd=False))
    try:
        if identities:
            pyrage.decrypt_io(source, target, list(identities))
        else:
            while data := source.read(CHUNK):
                target.write(data)
        if gunzip:
            gunzip.close()
    except ChainError:
        raise
    except Exception as error:
        if plain.error is not None:
            raise plain.error from error
        raise ChainError(_decode_problem(error)) from error
    return plain.size


def _decode_problem(error: Exception) -> str:
    if HAS_PYRAGE and isinstance(error, pyrage.DecryptError) and "matching key" in str(error):
        return "the identity does not belong to any recipient of this backup"
    if isinstance(error, OSError) and error.errno:
        return f"the file cannot be read ({error.strerror})"
    return f"the stream is damaged ({error})"


class _EnoughError(Exception):
    """The header was opened: no more is asked."""


def opening_problem(source: Reader, identities: t.Sequence[t.Any]) -> str:
    """Why none of *identities* opens the age file *source*, or an empty string; reads its beginning alone."""

    class First:
        reached = False

        def write(self, data: bytes, /) -> int:
            self.reached = True
            raise _EnoughError

        def flush(self) -> None:
            """Nothing is held back."""

    first = First()
    try:
        pyrage.decrypt_io(source, first, list(identities))
    except Exception as error:  # noqa: BLE001 - pyrage turns our own into one of its kinds; `reached` tells them apart
        return "" if first.reached else _decode_problem(error)
    return ""


def disk_error(path: object, error: OSError) -> LastroError:
    """The error for a backup that could not be written; a full disk is named."""
    if error.errno in FULL_DISK:
        return LastroError(
            f"The disk is full: {path} could not be written ({error.strerror}). Nothing of it was kept.",
            remedy=Text(
                en="Free space below dest, or shorten retention.days, and run again.",
                pt_BR="Libere espaço em dest, ou reduza retention.days, e execute de novo.",
            ),
        )
    return LastroError(
        f"{path} could not be written: {error.strerror}. Nothing of it was kept.",
        remedy=Text(en="Check the file system that holds dest and its permissions.", pt_BR="Verifique o sistema de arquivos de dest e suas permissões."),
    )


__all__ = (
    "HAS_PYRAGE",
    "HAS_ZSTANDARD",
    "IDENTITY_REMEDY",
    "ChainError",
    "Measured",
    "Tee",
    "decode",
    "disk_error",
    "encode",
    "opening_problem",
    "parse_identity",
    "parse_recipients",
    "require",
)
