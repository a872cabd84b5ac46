# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backend of the module C(pg_restore): a backup into a new database, compared, and where asked put in the live one's place.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t
from pathlib import Path

from . import _backup_manifest, _backup_snapshot, _backup_stream, _backup_swap, _secret_pipe
from ._argspec import ArgumentSpec
from ._backup_manifest import SUFFIX, Difference, Manifest, StoredFile
from ._backup_programs import Client, find_client, major, running
from ._backup_snapshot import sql_errors
from ._backup_swap import APPLICATION, LOADING, READY, SWAPPING, Database, Names
from ._errors import LastroError, Text
from ._postgres import ConnectionSettings, connect, connection_argument_spec, libpq_environment, parse_url, redact
from ._progress import BUILDING_INDEXES, Progress, progress_argument_spec, silent

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

HEAD = 64 << 20
"""Bytes that the table of contents of any real database fits in."""
_RESTORE_REMEDY = Text(
    en="Remove the cause that is named and run again; the live database was not touched.",
    pt_BR="Elimine a causa indicada e execute de novo; o banco em uso não foi alterado.",
)


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of the module."""

    manifest: str | None
    dest: str | None
    name: str | None
    into: str | None
    swap: bool
    run_id: str
    compare: bool
    identity: str | None = dataclasses.field(repr=False)
    accept_loss: bool
    bin_dir: str | None
    jobs: int = 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done, in this order: reopen, drop, load, compare, swap."""

    steps: tuple[str, ...]
    swapped_before: bool = False

    @property
    def changes(self) -> bool:
        """Whether anything but comparing is in it."""
        return bool({*self.steps} - {"compare"})


@dataclasses.dataclass(frozen=True)
class Source:
    """A backup that was found whole, with what opens it."""

    dest: Path
    manifest: Manifest
    identities: tuple[t.Any, ...] = dataclasses.field(repr=False)


def argument_spec() -> ArgumentSpec:
    """The module's options."""
    own = ArgumentSpec(
        options={
            "admin_url": {"type": "str", "no_log": True},
            "manifest": {"type": "path"},
            "dest": {"type": "path"},
            "name": {"type": "str"},
            "into": {"type": "str"},
            "swap": {"type": "bool", "default": False},
            "run_id": {"type": "str", "default": ""},
            "compare": {"type": "bool", "default": True},
            "jobs": {"type": "int", "default": 1},
            "identity": {"type": "str", "no_log": True},
            "identity_pipe": {"type": "path"},
            "accept_loss": {"type": "bool", "default": False},
            "bin_dir": {"type": "path"},
        },
        required_one_of=(("manifest", "dest"),),
        mutually_exclusive=(("manifest", "dest"), ("manifest", "name"), ("identity", "identity_pipe")),
        required_if=(("swap", True, ("run_id",)),),
    )
    return connection_argument_spec().merge(progress_argument_spec()).merge(own)


def options_from_params(params: t.Mapping[str, t.Any]) -> Options:
    """The options of ``argument_spec`` as one object. Raises LastroError for combinations that cannot be meant."""
    options = Options(**{field.name: params[field.name] for field in dataclasses.fields(Options)})
    if params["identity_pipe"]:
        options = dataclasses.replace(options, identity=_secret_pipe.take(Path(params["identity_pipe"])))
    if options.swap and not options.compare:
        raise LastroError(
            "swap is asked for with compare: false.",
            remedy=Text(
                en="Only a compared copy is put in the live database's place: leave compare out.",
                pt_BR="Só uma cópia comparada entra no lugar do banco em uso: retire compare.",
            ),
        )
    if options.swap and not options.run_id:
        raise LastroError(
            "swap is asked for without a run_id.",
            remedy=Text(en="Give run_id: the replaced database is kept under it.", pt_BR="Informe run_id: o banco trocado é guardado com ele."),
        )
    if options.jobs < 1:
        raise LastroError(f"jobs is {options.jobs}: 1 or more is expected.", remedy=Text(en="Correct the option.", pt_BR="Corrija a opção."))
    if options.into is not None and not 1 <= len(options.into.encode()) <= 63:
        raise LastroError("The name in into has no or more than 63 bytes.", remedy=Text(en="Give it a shorter name.", pt_BR="Use um nome mais curto."))
    return options


def admin_settings(settings: ConnectionSettings, admin_url: str | None) -> ConnectionSettings:
    """Who creates and renames databases: *admin_url*, else the same role in the database postgres. Raises LastroError."""
    return parse_url(admin_url) if admin_url else settings.with_database("postgres")


def run(settings: ConnectionSettings, admin: ConnectionSettings, options: Options, *, check_mode: bool, progress: Progress = silent) -> dict[str, t.Any]:
    """Restore, or in check mode find out what a restore would do. Return values of the module. Raises LastroError."""
    started = time.monotonic()
    source = _open_source(settings, options, progress)
    backup = source.manifest
    names = Names.of(settings.database, into=options.into, run_id=options.run_id, backup=backup.name)
    if admin.database in {names.live, names.into}:
        raise LastroError(
            f"The administrative connection goes to {admin.database}, which is itself to be restored or exchanged.",
            remedy=Text(en="Let admin_url name another database, for example postgres.", pt_BR="Use em admin_url outro banco, por exemplo postgres."),
        )
    with sql_errors(settings, admin), connect(admin, application_name=APPLICATION, autocommit=True) as connection:
        client = find_client(_backup_snapshot.server_version(connection), options.bin_dir, at_least=major(backup.client_version))
        there = _backup_swap.look(connection, [names.live, names.into, names.kept])
        plan = decide(there, names, backup, swap=options.swap, compare=options.compare)
        if plan.changes:
            _backup_swap.check_may_create(connection)
        lost = _lost(settings, there.get(names.live), names=names, backup=backup, options=options, plan=plan, progress=progress)
        result = _Result(names, source, plan, options, lost, started, live_exists=names.live in there)
        if check_mode or not plan.steps:
            return result.values()
        return _act(connection, settings, admin, client=client, result=result, progress=progress)


def _open_source(settings: ConnectionSettings, options: Options, progress: Progress) -> Source:
    """Find the backup and make sure that it is whole and opens. Raises LastroError."""
    dest, manifest = _find(settings, options)
    _backup_stream.require(compression=manifest.compression, encryption=manifest.encryption)
    _backup_manifest.check_file(dest, manifest, progress=progress)
    if manifest.encryption == "none":
        return Source(dest, manifest, ())
    identities = _backup_stream.parse_identity(options.identity)
    if not identities:
        raise LastroError(f"The backup {manifest.name} is encrypted and no identity is given.", remedy=_backup_stream.IDENTITY_REMEDY)
    with (dest / manifest.file).open("rb") as stream:
        problem = _backup_stream.opening_problem(stream, identities)
    if problem:
        raise LastroError(
            f"The backup {manifest.name}, made for {', '.join(manifest.recipients)}, cannot be decoded: {problem}.", remedy=_backup_stream.IDENTITY_REMEDY
        )
    return Source(dest, manifest, tuple(identities))


def _find(settings: ConnectionSettings, options: Options) -> tuple[Path, Manifest]:
    if options.manifest:
        path = Path(options.manifest)
        return path.parent, _backup_manifest.read(path)
    dest = Path(options.dest or "")
    if options.name:
        return dest, _backup_manifest.read(_backup_manifest.manifest_path(dest, options.name))
    good = _backup_manifest.good_ones(dest, settings.database)
    if not good:
        raise LastroError(
            f"There is no good backup of {settings.database} in {dest} (no *{SUFFIX} of that database whose file is whole).",
            remedy=Text(
                en="Check dest and the database's name, or make a backup with pg_dump.",
                pt_BR="Verifique dest e o nome do banco, ou faça um backup com pg_dump.",
            ),
        )
    return dest, good[0]


def decide(there: t.Mapping[str, Database], names: Names, backup: Manifest, *, swap: bool, compare: bool = True) -> Plan:
    """What to do, from which databases exist and how an earlier run marked them. Raises LastroError where a name is taken."""
    live, into, kept = there.get(names.live), there.get(names.into), there.get(names.kept)
    if swap and kept is not None:
        if kept.comment.startswith("lastro.deploy: replaced by ") and live is not None:
            return Plan((), swapped_before=True)
        raise _taken(names.kept)
    state, sha256 = into.mark if into else ("", "")
    if into is not None and sha256 != backup.sha256:
        raise _taken(names.into)
    steps = ["load"] if into is None else []
    if state == LOADING:
        steps = ["drop", "load"]
    closed = swap and live is not None and not live.allows_connections
    if closed and state != SWAPPING:
        raise LastroError(
            f"{names.live} takes no connections, and it was not this module that closed it.",
            remedy=Text(
                en=f"Find out who closed it, then ALTER DATABASE {names.live} ALLOW_CONNECTIONS true.",
                pt_BR=f"Descubra quem o fechou e depois execute ALTER DATABASE {names.live} ALLOW_CONNECTIONS true.",
            ),
        )
    return Plan((*(["reopen"] if closed else []), *steps, *(["compare"] if compare else []), *(["swap"] if swap else [])))


def _taken(name: str) -> LastroError:
    return LastroError(
        f"A database {name} exists and is not this restore's.",
        remedy=Text(
            en="Name another one in into (or give another run_id), or drop it if nobody needs it.",
            pt_BR="Indique outro em into (ou outro run_id), ou apague-o se ninguém precisa dele.",
        ),
    )


def _lost(
    settings: ConnectionSettings, live: Database | None, *, names: Names, backup: Manifest, options: Options, plan: Plan, progress: Progress
) -> list[Difference]:
    """What an exchange would lose, before any work is done. Raises LastroError unless that is accepted."""
    if "swap" not in plan.steps or live is None or not live.allows_connections:
        return []
    lost = _backup_swap.find_lost(settings, backup, progress)
    if lost and not options.accept_loss:
        raise _backup_swap.loss_error(names, backup, lost)
    return lost


@dataclasses.dataclass
class _Result:
    """What the module returns, as far as it is known."""

    names: Names
    source: Source
    plan: Plan
    options: Options
    lost: list[Difference]
    started: float
    compared: dict[str, t.Any] | None = None
    live_exists: bool = True

    def values(self) -> dict[str, t.Any]:
        """Return values; before the work is done they say what it would be."""
        swap = self.options.swap
        database = self.names.live if swap else self.names.into
        swapped = self.plan.swapped_before or "swap" in self.plan.steps
        return {
            "changed": self.plan.changes,
            "database": database,
            "backup": self.source.manifest.name,
            "compared": self.compared or {"tables": 0, "equal": 0, "different": []},
            "seconds": round(time.monotonic() - self.started, 3),
            "swapped": swapped,
            "kept_as": self.names.kept if swapped and self.live_exists else "",
            "lost": [dataclasses.asdict(one) for one in self.lost],
            "steps": list(self.plan.steps),
            "diff": {"before": "", "after": "".join(f"{step}: {database}\n" for step in self.plan.steps if step != "compare")},
        }


def _act(
    connection: PostgresConnection, settings: ConnectionSettings, admin: ConnectionSettings, *, client: Client, result: _Result, progress: Progress
) -> dict[str, t.Any]:
    names, source, steps = result.names, result.source, result.plan.steps
    if "reopen" in steps:
        _backup_swap.allow_connections(connection, names.live, True)
    if "drop" in steps:
        _backup_swap.drop(connection, names.into)
    if "load" in steps:
        _load(connection, admin.with_database(names.into), names=names, source=source, client=client, jobs=result.options.jobs, progress=progress)
    if result.options.compare:
        result.compared = _compare(admin.with_database(names.into), source.manifest, fresh="load" in steps, progress=progress)
    if "load" in steps:
        _backup_swap.mark(connection, names.into, READY, source.manifest.sha256)
    if "swap" in steps:
        result.lost = _backup_swap.exchange(
            connection, settings, names, source.manifest, run_id=result.options.run_id, accept_loss=result.options.accept_loss, progress=progress
        )
    return result.values()


def _load(connection: PostgresConnection, target: ConnectionSettings, *, names: Names, source: Source, client: Client, jobs: int, progress: Progress) -> None:
    """Create the database and fill it; it is dropped again where that fails. Raises LastroError."""
    live = _backup_swap.look(connection, [names.live]).get(names.live)
    manifest = source.manifest
    _backup_swap.create(connection, names.into, owner=live.owner if live else None, locale=manifest.locale, sha256=manifest.sha256)
    try:
        # Indexes and constraints come after every row, and side by side where jobs says so.
        head = Head(HEAD if jobs > 1 or manifest.parts else 0)
        for file in (manifest.files[0], *manifest.parts):
            _stream(target, source, client, file=file, head=head, progress=progress)
        if head.limit:
            progress(0, 0, BUILDING_INDEXES)
            _finish(target, client, head, jobs)
        progress(0, 0, "analyzing")
        with connect(target, application_name=APPLICATION, autocommit=True) as session:
            _backup_swap.execute(session, "ANALYZE")
    except BaseException:
        _backup_swap.drop(connection, names.into)
        raise


@dataclasses.dataclass
class Head:
    """The first *limit* bytes of the clear stream, in memory: an archive of the custom format begins with its table of contents."""

    limit: int
    data: bytearray = dataclasses.field(default_factory=bytearray, repr=False)

    def take(self, data: bytes) -> None:
        """Keep what fits."""
        self.data += data[: self.limit - len(self.data)]


def _command(target: ConnectionSettings, client: Client, *options: str) -> list[str]:
    name = target.database.replace("\\", "\\\\").replace("'", "\\'")
    return [client.program("pg_restore"), "--exit-on-error", "--no-password", f"--dbname=dbname='{name}'", *options]


def _finish(target: ConnectionSettings, client: Client, head: Head, jobs: int) -> None:
    """Indexes, constraints and triggers, *jobs* at once: pg_restore wants a file it can seek in, and gets one that lies in memory. Raises LastroError."""
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(libpq_environment(target, application_name=APPLICATION))
        memory = stack.enter_context(os.fdopen(os.memfd_create("lastro-restore", os.MFD_CLOEXEC), "wb"))
        memory.write(head.data)
        memory.flush()
        command = _command(target, client, "--section=post-data", f"--jobs={jobs}", f"/proc/{os.getpid()}/fd/{memory.fileno()}")
        child = stack.enter_context(running("pg_restore", command, environment))
        if child.wait() != 0:
            raise LastroError(f"pg_restore failed: {redact(child.complaint(), target)}", remedy=_RESTORE_REMEDY)


def _stream(target: ConnectionSettings, source: Source, client: Client, *, file: StoredFile, head: Head, progress: Progress) -> None:
    """Decode one stored file into pg_restore; nothing in clear touches the disk. Raises LastroError with the first cause."""
    command = _command(target, client, *(["--section=pre-data", "--section=data"] if head.limit else []))
    manifest, path = source.manifest, source.dest / file.name
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(libpq_environment(target, application_name=APPLICATION))
        child = stack.enter_context(running("pg_restore", command, environment, reads=True))
        done = 0

        def write(data: bytes) -> None:
            nonlocal done
            if file.name == manifest.file:
                head.take(data)
            child.sink.write(data)
            done += len(data)
            progress(done, max(file.raw_size, done + 1), "bytes")

        try:
            with path.open("rb") as stored:
                _backup_stream.decode(stored, write, compression=manifest.compression, identities=source.identities)
            whole = done == file.raw_size
        except BrokenPipeError:
            whole = True  # pg_restore went away: its exit status says why
        except _backup_stream.ChainError as error:
            raise LastroError(f"The backup file {path} cannot be decoded: {error}.", remedy=_RESTORE_REMEDY) from error
        if not whole:
            raise LastroError(f"The backup file {path} decodes to {done} bytes, its manifest says {file.raw_size}.", remedy=_RESTORE_REMEDY)
        progress(done, done, "bytes")
        if not head.limit:
            progress(0, 0, BUILDING_INDEXES)
        if child.wait() != 0:
            raise LastroError(f"pg_restore failed: {redact(child.complaint(), target)}", remedy=_RESTORE_REMEDY)


def _compare(target: ConnectionSettings, manifest: Manifest, *, fresh: bool, progress: Progress) -> dict[str, t.Any]:
    """Compare the restored database with the manifest, table by table. Raises LastroError where they differ."""
    with connect(target, application_name=APPLICATION, autocommit=True, **_backup_snapshot.SESSION) as session:
        different = _backup_snapshot.differences(session, manifest.tables, progress=progress)
    compared = {
        "tables": len(manifest.tables),
        "equal": len(manifest.tables) - sum(1 for one in different if one.table in manifest.tables),
        "different": [dataclasses.asdict(one) for one in different],
    }
    if different:
        tables = ", ".join(f"{one.table} ({one.reason})" for one in different[:20])
        why = "the restored copy is not what was dumped" if fresh else "it was changed after it was restored"
        raise LastroError(
            f"{target.database} differs from the backup {manifest.name}: {why}. Tables: {tables}.",
            remedy=Text(
                en="Do not use this copy. Drop it or name another database in into, and restore again or from another backup.",
                pt_BR="Não use esta cópia. Apague-a ou indique outro banco em into, e restaure de novo ou a partir de outro backup.",
            ),
            compared=compared,
        )
    return compared


__all__ = ("Options", "Plan", "admin_settings", "argument_spec", "decide", "options_from_params", "run")
