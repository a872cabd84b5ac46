# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pg_dump from its pipe to a verified file: every exit status counts, the first cause is what is reported.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import typing as t
from pathlib import Path

from ._backup_copy import Copy
from ._backup_directory import Part
from ._backup_manifest import sha256_of
from ._backup_programs import Client, Program, running
from ._backup_stream import ChainError, Measured, Tee, decode, disk_error, encode
from ._errors import LastroError, Text
from ._postgres import ConnectionSettings, libpq_environment, redact
from ._progress import BUILDING_INDEXES, Progress

APPLICATION = "lastro.deploy pg_dump"


@dataclasses.dataclass(frozen=True)
class Chain:
    """How the stream is coded; *recipients* and *identities* are age's own objects."""

    compression: str
    level: int
    recipients: tuple[t.Any, ...]
    identities: tuple[t.Any, ...] = dataclasses.field(repr=False, default=())

    @property
    def can_decode(self) -> bool:
        """Whether this host can read back what it stores."""
        return not self.recipients or bool(self.identities)


class Snapshot(t.NamedTuple):
    """The exported *name* of a snapshot, and how long pg_dump waits for a locked table in it."""

    name: str
    lock_wait_timeout: str


@dataclasses.dataclass(frozen=True)
class Streamed:
    """What went into the part file: bytes of the dump, bytes on the disk and their SHA-256.

    *contents* is what ``pg_restore --list`` says of it, in the encoding of the database.
    """

    raw_size: int
    size: int
    sha256: str
    contents: bytes = b""


def dump(
    settings: ConnectionSettings,
    client: Client,
    part: Part,
    chain: Chain,
    snapshot: Snapshot,
    *,
    options: t.Sequence[str] = (),
    along: contextlib.AbstractContextManager[Program] | None,
    expected_size: int = 0,
    progress: Progress,
) -> Streamed:
    """Stream the *snapshot* of the database into *part*, with more *options* of pg_dump; the pg_restore *along* gets the clear stream meanwhile.

    Raises LastroError.
    """
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(libpq_environment(settings, application_name=APPLICATION))
        reader = stack.enter_context(along) if along else None
        listing = stack.enter_context(tempfile.TemporaryFile())
        lister = stack.enter_context(running("pg_restore --list", [client.program("pg_restore"), "--list"], _bare_environment(), reads=True, output=listing))
        writer = stack.enter_context(running("pg_dump", _command(client, snapshot, options), environment, writes=True))

        def report(done: int) -> None:
            progress(done, max(expected_size, done + 1), "bytes")

        tee = Tee(writer.source, [one.sink for one in (lister, reader) if one], report)
        streamed = carry(tee, part, chain, writer=writer, settings=settings)
        progress(0, 0, "waiting for pg_restore")
        for child in (lister, reader):
            if child is not None and child.wait() != 0:
                raise _failed("pg_restore, which read the dump along to prove it,", child.complaint())
        listing.seek(0)
        contents = listing.read()
    progress(streamed.raw_size, streamed.raw_size, "bytes")
    return dataclasses.replace(streamed, contents=contents)


def _command(client: Client, snapshot: Snapshot, options: t.Sequence[str]) -> list[str]:
    return [
        client.program("pg_dump"),
        "--format=custom",
        "--compress=0",
        f"--snapshot={snapshot.name}",
        f"--lock-wait-timeout={snapshot.lock_wait_timeout}",
        "--no-password",
        *options,
    ]


def carry(tee: Tee, part: Part, chain: Chain, *, writer: Program, settings: ConnectionSettings) -> Streamed:
    """What *writer* says through *tee*, coded, into *part* and onto the disk. Raises LastroError with the first cause."""
    target = Measured(part.stream)
    failure: Exception | None = None
    try:
        encode(tee, target, compression=chain.compression, level=chain.level, recipients=chain.recipients)
        part.sync()
    except (OSError, ChainError) as error:
        failure = error
    # First causes first: our own disk, then the program at the head of the pipe.
    if target.error is not None or isinstance(failure, OSError):
        raise disk_error(part.final, target.error or t.cast("OSError", failure)) from failure
    if failure is not None:
        raise _failed("the stream", str(failure)) from failure
    if writer.wait() != 0:
        raise _failed(writer.name, redact(writer.complaint(), settings))
    if tee.size == 0:
        raise _failed(writer.name, "it wrote nothing")
    return Streamed(raw_size=tee.size, size=target.size, sha256=target.sha256())


def decoding(client: Client) -> contextlib.AbstractContextManager[Program]:
    """A pg_restore that reads a whole dump and restores nothing."""
    return running("pg_restore", [client.program("pg_restore"), "--file=/dev/null"], _bare_environment(), reads=True)


def _bare_environment() -> dict[str, str]:
    """For a program that asks no server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _failed(what: str, reason: str) -> LastroError:
    return LastroError(
        f"The dump failed and nothing of it was kept: {what} said: {reason}",
        remedy=Text(
            en="Remove the cause that is named and run again; no earlier backup was touched.",
            pt_BR="Elimine a causa indicada e execute de novo; nenhum backup anterior foi alterado.",
        ),
    )


def verify(stored: t.Sequence[tuple[Part, Streamed]], chain: Chain, *, level: str, copy: Copy | None, progress: Progress) -> tuple[str, ...]:
    """Prove the stored files, the dump first, and return what holds: read, decode (done while dumping), decrypt, restore. Raises LastroError.

    Where this host can open the files, *copy* is filled from them; else it was filled while dumping.
    """
    for part, streamed in stored:
        digest, size = sha256_of(part.path, progress=progress)
        if (digest, size) != (streamed.sha256, streamed.size):
            raise _unproved(f"{size} bytes with SHA-256 {digest[:12]}... came back from the disk, {streamed.size} with {streamed.sha256[:12]}... were written")
    if level == "read":
        return ("read",)
    opened = ("decrypt",) if chain.can_decode else ()
    if copy is not None and chain.can_decode:
        _restore_stored(stored, chain, copy, progress)
    elif chain.can_decode:
        for part, streamed in stored:
            _decode_stored(part.path, streamed, chain, len, progress)
    return ("read", "decode", *opened, *(("restore",) if copy else ()))


def _restore_stored(stored: t.Sequence[tuple[Part, Streamed]], chain: Chain, copy: Copy, progress: Progress) -> None:
    """Fill *copy*: the parts' rows come before the indexes and constraints of the dump."""
    (first, streamed), parts = stored[0], stored[1:]
    early = ("--section=pre-data", "--section=data") if parts else ()
    _restore_one(first, streamed, chain, copy, *early, progress=progress)
    for part, has in parts:
        _restore_one(part, has, chain, copy, progress=progress)
    if parts:
        _restore_one(first, streamed, chain, copy, "--section=post-data", progress=progress)


def _restore_one(part: Part, streamed: Streamed, chain: Chain, copy: Copy, *options: str, progress: Progress) -> None:
    with copy.restoring(*options) as child:
        with contextlib.suppress(BrokenPipeError):  # pg_restore went away: its exit status says why
            _decode_stored(part.path, streamed, chain, child.sink.write, progress)
        progress(0, 0, BUILDING_INDEXES)
        if child.wait() != 0:
            raise _unproved(f"pg_restore said: {child.complaint()}")


def _decode_stored(path: Path, streamed: Streamed, chain: Chain, write: t.Callable[[bytes], object], progress: Progress) -> None:
    done = 0

    def carry(data: bytes) -> None:
        nonlocal done
        write(data)
        done += len(data)
        progress(done, max(streamed.raw_size, done), "bytes")

    try:
        with path.open("rb") as stored:
            size = decode(stored, carry, compression=chain.compression, identities=chain.identities)
    except ChainError as error:
        raise _unproved(str(error)) from error
    if size != streamed.raw_size:
        raise _unproved(f"{size} bytes came out of it, {streamed.raw_size} went in")


def _unproved(reason: str) -> LastroError:
    return LastroError(
        f"The stored backup could not be verified and was not kept: {reason}.",
        remedy=Text(en="Look at the disk and memory of this host, then run again.", pt_BR="Examine o disco e a memória deste host e execute de novo."),
    )


__all__ = ("APPLICATION", "Chain", "Snapshot", "Streamed", "decoding", "dump", "verify")
