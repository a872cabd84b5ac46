# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backend of the module C(pg_dump): checks, a snapshot, its dump, its proof, its manifest, retention.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t
from pathlib import Path

from . import (
    _backup_copy,
    _backup_directory,
    _backup_globals,
    _backup_manifest,
    _backup_preflight,
    _backup_retention,
    _backup_snapshot,
    _backup_stream,
    _backup_upload,
    _pg_dump_parts,
    _pg_dump_stream,
    _rclone,
    _scratch_cluster,
)
from ._backup_copy import Copy
from ._backup_directory import Part
from ._backup_manifest import DatabaseLocale, Manifest, StoredFile, TableState
from ._backup_preflight import Ready, same_chain
from ._backup_programs import Program
from ._backup_sanity import check_contents, check_size
from ._backup_snapshot import Table, sql_errors
from ._errors import LastroError, Text
from ._pg_dump_options import Options, argument_spec, options_from_params
from ._pg_dump_stream import APPLICATION, Chain, Snapshot, Streamed
from ._postgres import ConnectionSettings, connect
from ._progress import Progress, silent

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection


@dataclasses.dataclass(frozen=True)
class Job:
    """What a backup is made of and with."""

    connection: PostgresConnection
    settings: ConnectionSettings
    options: Options
    chain: Chain
    ready: Ready
    progress: Progress


def run(
    settings: ConnectionSettings,
    options: Options,
    *,
    check_mode: bool,
    progress: Progress = silent,
    now: t.Callable[[], float] = time.time,
) -> dict[str, t.Any]:
    """Make the backup, or in check mode run every check that needs no writing. Return values of the module. Raises LastroError."""
    chain = _chain(options)
    existing = _existing(settings, options)
    if existing is not None:
        return _existing_result(options, existing, check_mode=check_mode, progress=progress, now=now)
    _backup_directory.check_writable(options.dest)
    with sql_errors(settings), connect(settings, application_name=APPLICATION, autocommit=True, **_backup_snapshot.SESSION) as connection:
        ready = _backup_preflight.check(connection, settings, options)
        made = None if check_mode else _make(Job(connection, settings, options, chain, ready, progress), now)
    # Without the connection: an upload may take long, and an open snapshot keeps the server from cleaning up.
    if made:
        return _finish(options, made, ready.history, progress=progress, now=now)
    if options.store:
        _rclone.check(options.store)
    pruned = [backup.name for backup in _prunable(options, ready.history, now())]
    return {
        "changed": True,
        "path": str(options.dest / _file(options)),
        "manifest": str(_backup_manifest.manifest_path(options.dest, options.name)),
        "encrypted": options.encryption == "age",
        "pruned": pruned,
        **ready.as_result(),
        "warnings": list(ready.warnings),
        "diff": _diff(ready.history, options.name, pruned),
    }


def _chain(options: Options) -> Chain:
    """The chain with its keys read. Raises LastroError for a missing library or a wrong key."""
    _backup_stream.require(compression=options.compression, encryption=options.encryption)
    if options.encryption == "none":
        return Chain(options.compression, options.compression_level, ())
    recipients = _backup_stream.parse_recipients(options.recipients)
    identities = _backup_stream.parse_identity(options.identity)
    if identities and not {str(one.to_public()) for one in identities} & {str(one) for one in recipients}:
        raise LastroError("The identity belongs to none of the recipients: it could not open the backup.", remedy=_backup_stream.IDENTITY_REMEDY)
    return Chain(options.compression, options.compression_level, tuple(recipients), tuple(identities))


def _file(options: Options, kind: str = "dump") -> str:
    return _backup_manifest.file_name(options.name, compression=options.compression, encryption=options.encryption, kind=kind)


def _existing(settings: ConnectionSettings, options: Options) -> Manifest | None:
    """The verified backup that an earlier call of this run made; its file is read again. Raises LastroError where the name belongs to another."""
    path = _backup_manifest.manifest_path(options.dest, options.name)
    if not path.exists():
        return None
    manifest = _backup_manifest.read(path)
    if (manifest.database, manifest.run_id) != (settings.database, options.run_id):
        raise LastroError(
            f"The name {options.name} is taken in {options.dest}: database {manifest.database}, run {manifest.run_id or 'without an id'}, {manifest.created}.",
            remedy=Text(en="Give each run's backup a name of its own.", pt_BR="Dê a cada execução um nome de backup próprio."),
        )
    _backup_manifest.check_file(options.dest, manifest)
    return manifest


class Made(t.NamedTuple):
    """A good backup on this host, the result so far, and what the store lacks of it where that was looked for."""

    manifest: Manifest
    result: dict[str, t.Any]
    lacking: list[StoredFile] | None = None


def _make(job: Job, now: t.Callable[[], float]) -> Made:
    """Make the backup; with a copy that is to stay, the cluster is stopped when everything else is done."""
    options, ready = job.options, job.ready
    created = now()
    _backup_directory.prepare(options.dest)
    with contextlib.ExitStack() as stack:
        copy = stack.enter_context(_empty_copy(job)) if options.verify == "restore" else None
        parts: list[Part] = []

        def part(kind: str) -> Part:
            parts.append(stack.enter_context(_backup_directory.part_file(options.dest / _file(options, kind))))
            return parts[-1]

        manifest = _dump_into(part, job, copy, created)
        warnings = check_size(manifest, same_chain(ready.history, options), options.max_size_ratio)
        if options.globals != "none":
            manifest = dataclasses.replace(manifest, more=(*manifest.more, _globals_into(part(_backup_manifest.GLOBALS), job)))
        if copy and options.keep_copy:
            manifest = dataclasses.replace(manifest, copy=str(copy.keep()))
        _backup_directory.commit(parts, manifest)
    return Made(manifest, {**_result(options, manifest, changed=True), **ready.as_result(), "warnings": [*ready.warnings, *warnings]})


def _finish(options: Options, made: Made, history: t.Sequence[Manifest], *, progress: Progress, now: t.Callable[[], float]) -> dict[str, t.Any]:
    """What follows a good backup: its copy off-site, and only then retention there and here."""
    uploaded: dict[str, t.Any] = {}
    troubles: list[str] = []
    if options.store:
        copy, troubles = _backup_upload.finish(options.store, options.dest, made.manifest, options.retention, missing=made.lacking, progress=progress, now=now)
        uploaded = {"uploaded": copy}
    pruned, more = _backup_directory.remove(options.dest, _prunable(options, history, now()))
    result = {**made.result, **uploaded, "pruned": pruned, "diff": _diff(history, options.name, pruned)}
    return {**result, "warnings": [*made.result.get("warnings", []), *troubles, *more]}


def _existing_result(options: Options, manifest: Manifest, *, check_mode: bool, progress: Progress, now: t.Callable[[], float]) -> dict[str, t.Any]:
    """The backup that is there already; an upload that failed after it was made is made good, and the retention that waited for it."""
    result = _result(options, manifest, changed=False)
    if not options.store:
        return result
    lacking = _backup_upload.lacking(options.store, options.dest, manifest, progress=progress)
    if lacking and not check_mode:
        history = [one for one in _backup_manifest.good_ones(options.dest, manifest.database) if one.name != manifest.name]
        return _finish(options, Made(manifest, {**result, "changed": True}, lacking), history, progress=progress, now=now)
    return {**result, "changed": bool(lacking), "uploaded": _backup_upload.as_result(options.store, manifest, lacking)}


def _globals_into(part: Part, job: Job) -> StoredFile:
    options = job.options
    return _backup_globals.dump(job.settings, job.ready.client, part, job.chain, which=options.globals, level=options.verify, progress=job.progress)


def _empty_copy(job: Job) -> contextlib.AbstractContextManager[Copy]:
    """Before the snapshot, which is not to be held while a cluster is made."""
    job.progress(0, 0, "making a throw-away cluster")
    source = _backup_copy.Source.of(job.connection, job.ready.extensions)
    return _backup_copy.empty(job.options.rehearsal_cluster, source, job.ready.client, bin_dir=job.options.bin_dir)


class Seen(t.NamedTuple):
    """What the snapshot of a dump holds."""

    snapshot: Snapshot
    lsn: str
    tables: dict[str, TableState]
    catalog: list[Table]
    locale: DatabaseLocale


def _look(job: Job) -> Seen:
    """Open the snapshot and measure in it. Raises LastroError."""
    options = job.options
    name, lsn = _backup_snapshot.open_snapshot(job.connection, lock_timeout=options.lock_wait_timeout)
    tables = _backup_snapshot.measure(job.connection, hashes=options.hashes == "rows", progress=job.progress)
    catalog = _backup_snapshot.tables(job.connection)
    return Seen(Snapshot(name, options.lock_wait_timeout), lsn, tables, catalog, _backup_snapshot.database_locale(job.connection))


def _dump_into(part: t.Callable[[str], Part], job: Job, copy: Copy | None, created: float) -> Manifest:
    """Measure, dump and verify one snapshot; the files, which *part* makes by their kinds, have their part names still. Raises LastroError."""
    options, progress = job.options, job.progress
    watch = Stopwatch()
    seen = _look(job)
    watch.lap("measure")
    streams = _pg_dump_parts.divide(seen.catalog, options.jobs) if options.format == "directory" else ()
    parts = [part("dump"), *(part(_backup_manifest.PART.format(number)) for number in range(1, len(streams) + 1))]
    stored = list(zip(parts, _dump(job, copy, seen.snapshot, parts, streams), strict=True))
    # A proof may take long, and neither the server's cleaning nor anybody's ALTER TABLE is to wait for it.
    _backup_snapshot.close_snapshot(job.connection)
    contents = b"\n".join(streamed.contents for _part, streamed in stored)
    check_contents(_backup_snapshot.decoded(contents, seen.locale.encoding), seen.catalog)
    watch.lap("dump")
    levels = _pg_dump_stream.verify(stored, job.chain, level=options.verify, copy=copy, progress=progress)
    if copy:
        copy.compare(seen.tables, progress)
    watch.lap("verify")
    return dataclasses.replace(_manifest(job, seen, stored, created), verified=levels, seconds=watch.seconds())


def _manifest(job: Job, seen: Seen, stored: t.Sequence[tuple[Part, Streamed]], created: float) -> Manifest:
    """All but what was proved and how long it took."""
    options, ready = job.options, job.ready
    dump, *more = [StoredFile(part.final.name, streamed.size, streamed.sha256, streamed.raw_size) for part, streamed in stored]
    return Manifest(
        name=options.name,
        run_id=options.run_id,
        created=_backup_manifest.utc(created),
        database=job.settings.database,
        server_version=ready.server_version,
        client_version=ready.client.version,
        snapshot_lsn=seen.lsn,
        database_size=ready.database_size,
        locale=seen.locale,
        tables=seen.tables,
        hashes=options.hashes,
        file=dump.name,
        size=dump.size,
        sha256=dump.sha256,
        raw_size=dump.raw_size,
        compression=options.compression,
        encryption=options.encryption,
        recipients=options.recipients,
        verified=(),
        seconds={},
        more=tuple(more),
        extensions=ready.extensions,
    )


def _dump(job: Job, copy: Copy | None, snapshot: Snapshot, parts: t.Sequence[Part], streams: t.Sequence[t.Sequence[Table]]) -> list[Streamed]:
    expected = job.ready.history[0].dump_raw_size if job.ready.history else job.ready.database_size
    settings, client, chain = job.settings, job.ready.client, job.chain
    if not streams:
        along = _along(job, copy)
        return [_pg_dump_stream.dump(settings, client, parts[0], chain, snapshot, along=along, expected_size=expected, progress=job.progress)]
    work = _pg_dump_parts.Work(settings, client, chain, snapshot, decoded=job.options.verify == "decode")
    return _pg_dump_parts.dump_all(work, parts, streams, expected_size=expected, progress=job.progress)


def _along(job: Job, copy: Copy | None) -> contextlib.AbstractContextManager[Program] | None:
    """Who reads the clear stream while the dump runs: the copy's pg_restore only where the stored file cannot be opened here."""
    if copy and not job.chain.can_decode:
        return copy.restoring()
    return _pg_dump_stream.decoding(job.ready.client) if job.options.verify == "decode" else None


class Stopwatch:
    """Seconds of each lap and of all."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """What ended now was *name*."""
        now = time.monotonic()
        self._laps[name] = round(now - self._last, 3)
        self._last = now

    def seconds(self) -> dict[str, float]:
        """By lap, and ``total``."""
        return {**self._laps, "total": round(self._last - self._started, 3)}


def _prunable(options: Options, history: t.Sequence[Manifest], now: float) -> list[Manifest]:
    """What retention removes once the new backup, which counts as the newest good one, is there."""
    return _backup_retention.plan(history, options.retention, now=now, coming=options.name)


def _diff(history: t.Sequence[Manifest], name: str, pruned: t.Sequence[str]) -> dict[str, str]:
    before = sorted(one.name for one in history)
    after = sorted({*before, name} - {*pruned})
    return {"before": "".join(f"{one}\n" for one in before), "after": "".join(f"{one}\n" for one in after)}


def _result(options: Options, manifest: Manifest, *, changed: bool) -> dict[str, t.Any]:
    return {
        "changed": changed,
        "path": str(options.dest / manifest.file),
        "manifest": str(_backup_manifest.manifest_path(options.dest, manifest.name)),
        "size": manifest.size,  # of path: exit_json says so anyway
        "raw_size": manifest.dump_raw_size,
        "sha256": manifest.sha256,
        "snapshot_lsn": manifest.snapshot_lsn,
        "created": manifest.created,
        "tables": len(manifest.tables),
        "rows": manifest.rows,
        "hashes": manifest.hashes,
        "seconds": manifest.seconds["total"],
        "verified": list(manifest.verified),
        "encrypted": manifest.encryption == "age",
        "pruned": [],
        "parts": [{"path": str(options.dest / one.name), "size": one.size, "sha256": one.sha256} for one in manifest.parts],
        "globals": next((str(options.dest / one.name) for one in manifest.more if one not in manifest.parts), ""),
        "kept_copy": manifest.copy if changed or Path(manifest.copy, _scratch_cluster.KEPT).exists() else "",
        "client_version": manifest.client_version,
        "server_version": manifest.server_version,
    }


__all__ = ("Options", "argument_spec", "options_from_params", "run")
