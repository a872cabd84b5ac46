# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backend of the module C(pg_dump): checks, a snapshot, its dump, its proof, its manifest, retention.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
import time
import typing as t
from pathlib import Path

from . import _backup_directory, _backup_manifest, _backup_snapshot, _backup_stream, _pg_dump_stream
from ._argspec import ArgumentSpec
from ._backup_directory import Forecast, Part
from ._backup_manifest import Manifest
from ._backup_programs import Client, find_client
from ._backup_snapshot import sql_errors
from ._errors import LastroError, Text
from ._pg_dump_stream import APPLICATION, Chain
from ._postgres import ConnectionSettings, connect, connection_argument_spec
from ._progress import Progress, progress_argument_spec, silent

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

HISTORY = 5
_TIMEOUT = re.compile(r"[1-9][0-9]*(?:ms|s|min)\Z")


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of the module, checked."""

    dest: Path
    name: str
    run_id: str
    compression: str
    compression_level: int
    encryption: str
    recipients: tuple[str, ...]
    identity: str | None = dataclasses.field(repr=False)
    verify: str
    hashes: str
    days: int
    keep_at_least: int
    keep: tuple[str, ...]
    lock_wait_timeout: str
    max_size_ratio: float
    bin_dir: str | None


@dataclasses.dataclass(frozen=True)
class Ready:
    """What the checks found: the client, room on the disk, and the earlier good backups, newest first."""

    client: Client
    server_version: str
    database_size: int
    forecast: Forecast
    history: tuple[Manifest, ...]


def argument_spec() -> ArgumentSpec:
    """The module's options."""
    own = ArgumentSpec(
        options={
            "dest": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "run_id": {"type": "str", "default": ""},
            "compression": {"type": "str", "default": "zstd", "choices": ["zstd", "none"]},
            "compression_level": {"type": "int", "default": 3},
            "encryption": {"type": "str", "default": "age", "choices": ["age", "none"]},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "identity": {"type": "str", "no_log": True},
            "verify": {"type": "str", "default": "decode", "choices": ["read", "decode"]},
            "hashes": {"type": "str", "default": "rows", "choices": ["rows", "counts"]},
            "retention": {
                "type": "dict",
                "apply_defaults": True,
                "options": {
                    "days": {"type": "int", "default": 30},
                    "keep_at_least": {"type": "int", "default": 5},
                    "keep": {"type": "list", "elements": "str", "default": []},
                },
            },
            "lock_wait_timeout": {"type": "str", "default": "10s"},
            "max_size_ratio": {"type": "float", "default": 4.0},
            "bin_dir": {"type": "path"},
        },
    )
    return connection_argument_spec().merge(progress_argument_spec()).merge(own)


def options_from_params(params: t.Mapping[str, t.Any]) -> Options:
    """The options of ``argument_spec`` as one object. Raises LastroError for a value that cannot be meant."""
    retention = params["retention"]
    options = Options(
        dest=Path(params["dest"]),
        days=retention["days"],
        keep_at_least=retention["keep_at_least"],
        keep=tuple(retention["keep"]),
        recipients=tuple(recipient.strip() for recipient in params["recipients"]),
        **{
            name: params[name]
            for name in (field.name for field in dataclasses.fields(Options))
            if name not in {"dest", "days", "keep_at_least", "keep", "recipients"}
        },
    )
    problem = _problem(options)
    if problem:
        raise LastroError(problem.en, remedy=Text(en="Correct the option.", pt_BR=f"Corrija a opção: {problem.pt_BR}"))
    return options


def _problem(options: Options) -> Text | None:
    checks = (
        (
            not _backup_manifest.NAME.match(options.name),
            Text(
                f"name is {options.name!r}: letters, digits, dot, dash and underscore are allowed, at most 100 of them, the first a letter or digit.",
                f"name é {options.name!r}: use até 100 letras, dígitos, ponto, hífen e sublinhado, começando por letra ou dígito.",
            ),
        ),
        (
            not _TIMEOUT.match(options.lock_wait_timeout),
            Text(
                f"lock_wait_timeout is {options.lock_wait_timeout!r}: a number with ms, s or min is expected, for example 10s.",
                f"lock_wait_timeout é {options.lock_wait_timeout!r}: use um número com ms, s ou min, por exemplo 10s.",
            ),
        ),
        (
            not 1 <= options.compression_level <= 19,
            Text(f"compression_level is {options.compression_level}: 1 to 19 are allowed.", f"compression_level é {options.compression_level}: use de 1 a 19."),
        ),
        (
            options.days < 0 or options.keep_at_least < 1,
            Text(
                "retention needs days of 0 or more and keep_at_least of 1 or more: the last good backup is never removed.",
                "retention exige days de 0 ou mais e keep_at_least de 1 ou mais: o último backup bom nunca é removido.",
            ),
        ),
        (
            options.max_size_ratio != 0 and options.max_size_ratio <= 1,
            Text(f"max_size_ratio is {options.max_size_ratio}: more than 1 is expected, or 0 for no check.", "max_size_ratio deve ser maior que 1, ou 0."),
        ),
        (
            options.encryption == "age" and not options.recipients,
            Text(
                "encryption is age, but recipients is empty; a backup in clear text must be asked for with encryption: none.",
                "encryption é age, mas recipients está vazio; um backup sem criptografia precisa ser pedido com encryption: none.",
            ),
        ),
        (
            options.encryption == "none" and bool(options.recipients),
            Text("recipients are given, but encryption is none.", "há recipients, mas encryption é none."),
        ),
    )
    return next((text for wrong, text in checks if wrong), None)


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
        return _result(options, existing, changed=False)
    _backup_directory.check_writable(options.dest)
    with sql_errors(settings), connect(settings, application_name=APPLICATION, autocommit=True, **_backup_snapshot.SESSION) as connection:
        ready = _check(connection, settings, options)
        if not check_mode:
            return _make(connection, settings, options, chain, ready, progress=progress, now=now)
    pruned = [backup.name for backup in _prunable(options, ready.history, now())]
    return {
        "changed": True,
        "path": str(options.dest / _file(options)),
        "manifest": str(_backup_manifest.manifest_path(options.dest, options.name)),
        "encrypted": options.encryption == "age",
        "pruned": pruned,
        "forecast": ready.forecast._asdict(),
        "client_version": ready.client.version,
        "server_version": ready.server_version,
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


def _file(options: Options) -> str:
    return _backup_manifest.file_name(options.name, compression=options.compression, encryption=options.encryption)


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


def _check(connection: PostgresConnection, settings: ConnectionSettings, options: Options) -> Ready:
    """Everything that would fail later. Leaves the lock of backups held by *connection*. Raises LastroError."""
    version = _backup_snapshot.server_version(connection)
    client = find_client(version, options.bin_dir)
    history = tuple(_backup_manifest.good_ones(options.dest, settings.database))
    size = _backup_snapshot.database_size(connection)
    same_chain = _same_chain(history, options)
    room = _backup_directory.forecast(options.dest, last_size=same_chain[0].size if same_chain else None, database_size=size)
    _backup_directory.check_room(options.dest, room)
    _backup_snapshot.take_lock(connection)
    return Ready(client=client, server_version=version, database_size=size, forecast=room, history=history)


def _same_chain(history: t.Sequence[Manifest], options: Options) -> list[Manifest]:
    return [one for one in history if (one.compression, one.encryption) == (options.compression, options.encryption)]


def _make(
    connection: PostgresConnection,
    settings: ConnectionSettings,
    options: Options,
    chain: Chain,
    ready: Ready,
    *,
    progress: Progress,
    now: t.Callable[[], float],
) -> dict[str, t.Any]:
    created = now()
    _backup_directory.prepare(options.dest)
    with _backup_directory.part_file(options.dest / _file(options)) as part:
        manifest = _dump_into(part, connection, settings, options=options, chain=chain, ready=ready, created=created, progress=progress)
        warnings = check_size(manifest, _same_chain(ready.history, options), options.max_size_ratio)
        try:
            part.commit()
            _backup_manifest.write(options.dest, manifest)
        except OSError as error:
            raise _backup_stream.disk_error(part.final, error) from error
    pruned, troubles = _backup_directory.remove(options.dest, _prunable(options, ready.history, now()))
    return {
        **_result(options, manifest, changed=True),
        "pruned": pruned,
        "forecast": ready.forecast._asdict(),
        "warnings": warnings + troubles,
        "diff": _diff(ready.history, options.name, pruned),
    }


def _dump_into(
    part: Part,
    connection: PostgresConnection,
    settings: ConnectionSettings,
    *,
    options: Options,
    chain: Chain,
    ready: Ready,
    created: float,
    progress: Progress,
) -> Manifest:
    """Measure, dump and verify one snapshot; the file is still under its part name. Raises LastroError."""
    watch = Stopwatch()
    snapshot, lsn = _backup_snapshot.open_snapshot(connection, lock_timeout=options.lock_wait_timeout)
    tables = _backup_snapshot.measure(connection, hashes=options.hashes == "rows", progress=progress)
    locale = _backup_snapshot.database_locale(connection)
    watch.lap("measure")
    streamed = _pg_dump_stream.dump(
        settings,
        ready.client,
        part,
        chain,
        snapshot=snapshot,
        lock_wait_timeout=options.lock_wait_timeout,
        decoded=options.verify == "decode",
        expected_size=ready.history[0].raw_size if ready.history else ready.database_size,
        progress=progress,
    )
    watch.lap("dump")
    levels = _pg_dump_stream.verify(part.path, streamed, chain, decoded=options.verify == "decode", progress=progress)
    watch.lap("verify")
    return Manifest(
        name=options.name,
        run_id=options.run_id,
        created=_backup_manifest.utc(created),
        database=settings.database,
        server_version=ready.server_version,
        client_version=ready.client.version,
        snapshot_lsn=lsn,
        database_size=ready.database_size,
        locale=locale,
        tables=tables,
        hashes=options.hashes,
        file=part.final.name,
        size=streamed.size,
        sha256=streamed.sha256,
        raw_size=streamed.raw_size,
        compression=options.compression,
        encryption=options.encryption,
        recipients=options.recipients,
        verified=levels,
        seconds=watch.seconds(),
    )


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


def check_size(manifest: Manifest, history: t.Sequence[Manifest], max_ratio: float) -> list[str]:
    """Compare with the median of the last five good backups: a warning where it grew much, LastroError where it shrank much."""
    sizes = [one.size for one in history[:HISTORY]]
    if not sizes or not max_ratio:
        return []
    median = statistics.median(sizes)
    if manifest.size > median * max_ratio:
        return [f"The backup has {manifest.size} bytes, more than {max_ratio} times the median of the last {len(sizes)} good ones ({int(median)})."]
    if manifest.size * max_ratio >= median:
        return []
    shrunk = [
        f"{name} ({state.rows} -> {manifest.tables[name].rows if name in manifest.tables else 'gone'})"
        for name, state in sorted(history[0].tables.items())
        if name not in manifest.tables or manifest.tables[name].rows < state.rows
    ]
    raise LastroError(
        f"The backup has {manifest.size} bytes, less than the median of the last {len(sizes)} good ones ({int(median)}) divided by {max_ratio}. "
        f"Tables with fewer rows than in {history[0].name}: {', '.join(shrunk[:20]) or 'none'}. It was not kept.",
        remedy=Text(
            en="If the data really became fewer, run once with max_size_ratio: 0; otherwise find out who deleted them.",
            pt_BR="Se os dados diminuíram mesmo, execute uma vez com max_size_ratio: 0; senão, descubra quem os apagou.",
        ),
        shrunk=shrunk,
    )


def _prunable(options: Options, history: t.Sequence[Manifest], now: float) -> list[Manifest]:
    """What retention removes once the new backup, which counts as the newest good one, is there."""
    return _backup_manifest.prunable(history, now=now, days=options.days, keep_at_least=options.keep_at_least - 1, keep=(*options.keep, options.name))


def _diff(history: t.Sequence[Manifest], name: str, pruned: t.Sequence[str]) -> dict[str, str]:
    before = sorted(one.name for one in history)
    after = sorted({*before, name} - {*pruned})
    return {"before": "".join(f"{one}\n" for one in before), "after": "".join(f"{one}\n" for one in after)}


def _result(options: Options, manifest: Manifest, *, changed: bool) -> dict[str, t.Any]:
    return {
        "changed": changed,
        "path": str(options.dest / manifest.file),
        "manifest": str(_backup_manifest.manifest_path(options.dest, manifest.name)),
        "size": manifest.size,
        "raw_size": manifest.raw_size,
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
        "client_version": manifest.client_version,
        "server_version": manifest.server_version,
    }


__all__ = ("Options", "argument_spec", "check_size", "options_from_params", "run")
