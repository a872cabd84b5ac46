# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backend of the module C(pgbackrest): check, backup, restore point, proof. What a run has done is kept as annotations of its backup.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import time
import typing as t

from . import _pgbackrest_info, _pgbackrest_program
from ._argspec import ArgumentSpec
from ._backup_manifest import utc
from ._backup_snapshot import fetch_one, server_version, sql_errors
from ._errors import LastroError, Text
from ._pgbackrest_info import Backup, Plan, Stanza
from ._pgbackrest_program import Program
from ._postgres import ConnectionSettings, connect, connection_argument_spec
from ._progress import Progress, progress_argument_spec, silent

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

APPLICATION = "lastro.deploy pgbackrest"
POINT_PREFIX = "lastro-"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,44}\Z")
# pg_control_system and pg_stat_archiver are open to every role.
_SERVER = """
SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_setting('archive_mode'),
       pg_catalog.has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'execute'),
       coalesce(last_failed_wal, ''),
       coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false),
       pg_catalog.quote_ident(current_user)
  FROM pg_catalog.pg_stat_archiver
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of the module, checked."""

    stanza: str
    run_id: str
    config: str | None
    repo: int | None
    type: str
    verify: str
    archive_timeout: int
    lock_timeout: int
    process_max: int | None
    start_fast: bool
    user: str | None


@dataclasses.dataclass(frozen=True)
class Server:
    """The server as the connection sees it."""

    version: str
    system_id: str
    standby: bool
    archive_mode: str
    may_name_points: bool
    failed_segment: str
    archiver_fails: bool
    role: str


def argument_spec() -> ArgumentSpec:
    """The module's options."""
    own = ArgumentSpec(
        options={
            "stanza": {"type": "str", "required": True},
            "run_id": {"type": "str", "required": True},
            "config": {"type": "path"},
            "repo": {"type": "int"},
            "type": {"type": "str", "default": "auto", "choices": ["auto", "full", "diff", "incr"]},
            "verify": {"type": "str", "default": "read", "choices": ["read", "none"]},
            "archive_timeout": {"type": "int", "default": 60},
            "lock_timeout": {"type": "int", "default": 60},
            "process_max": {"type": "int"},
            "start_fast": {"type": "bool", "default": True},
            "user": {"type": "str"},
        },
    )
    return connection_argument_spec().merge(progress_argument_spec()).merge(own)


def options_from_params(params: t.Mapping[str, t.Any]) -> Options:
    """The options of ``argument_spec`` as one object. Raises LastroError for a value that cannot be meant."""
    options = Options(**{field.name: params[field.name] for field in dataclasses.fields(Options)})
    checks = (
        (
            not _RUN_ID.match(options.run_id),
            Text(
                f"run_id is {options.run_id!r}: letters, digits, dot, dash and underscore are allowed, at most 45 of them, the first a letter or digit.",
                f"run_id é {options.run_id!r}: use até 45 letras, dígitos, ponto, hífen e sublinhado, começando por letra ou dígito.",
            ),
        ),
        (
            not options.stanza or options.stanza.startswith("-"),
            Text(f"stanza is {options.stanza!r}: a name is expected.", f"stanza é {options.stanza!r}: informe um nome."),
        ),
        (
            options.archive_timeout < 1,
            Text(f"archive_timeout is {options.archive_timeout}: 1 or more seconds.", f"archive_timeout é {options.archive_timeout}: use 1 segundo ou mais."),
        ),
        (
            options.lock_timeout < 0,
            Text(f"lock_timeout is {options.lock_timeout}: 0 or more seconds.", f"lock_timeout é {options.lock_timeout}: use 0 segundo ou mais."),
        ),
        (
            options.process_max is not None and not 1 <= options.process_max <= 999,
            Text(f"process_max is {options.process_max}: 1 to 999 are allowed.", f"process_max é {options.process_max}: use de 1 a 999."),
        ),
        (options.repo is not None and options.repo < 1, Text(f"repo is {options.repo}: 1 or more.", f"repo é {options.repo}: use 1 ou mais.")),
    )
    for wrong, text in checks:
        if wrong:
            raise LastroError(text.en, remedy=Text(en="Correct the option.", pt_BR=f"Corrija a opção: {text.pt_BR}"))
    return options


def run(
    settings: ConnectionSettings,
    options: Options,
    *,
    check_mode: bool,
    progress: Progress = silent,
    now: t.Callable[[], float] = time.time,
    sleep: t.Callable[[float], None] = time.sleep,
) -> dict[str, t.Any]:
    """Make the backup with its restore point, or in check mode look at everything that can be looked at. Return values of the module. Raises LastroError."""
    program = _pgbackrest_program.find(stanza=options.stanza, config=options.config, repo=options.repo, user=options.user)
    version = program.version()
    stanza = _look(program, options)
    program = dataclasses.replace(program, repo=stanza.repo)
    if not check_mode and _plan(stanza, options).steps:
        stanza = _when_free(stanza, lambda: _look(program, options), options.lock_timeout, sleep)
    with sql_errors(settings), connect(settings, application_name=APPLICATION, autocommit=True) as connection:
        server = _ask(connection)
        plan = _plan(stanza, options)
        check(stanza, server, plan)
        about = {"client_version": version, "server_version": server.version}
        if plan.backup and not plan.steps:
            return {**_result(program, stanza, plan.backup, changed=False), **about}
        if check_mode:
            _check_archiver(server)
            return {"changed": True, **_handles(stanza, plan.backup), **about, "pruned": [], "diff": _diff(stanza.backups, stanza.backups, options, plan)}
        seconds, warnings = _act(connection, program, options, plan, progress=progress, now=now)
    after = _look(program, options)
    return {
        **_result(program, after, _mine(after, options), changed=True),
        **about,
        "seconds": seconds,
        "pruned": sorted({one.label for one in stanza.backups} - {one.label for one in after.backups}),
        "warnings": warnings,
        "diff": _diff(stanza.backups, after.backups, options, plan),
    }


def _look(program: Program, options: Options) -> Stanza:
    return _pgbackrest_info.parse(program.run("pgBackRest does not say what there is", "info", "--output=json"), options.stanza, options.repo)


def _plan(stanza: Stanza, options: Options) -> Plan:
    return _pgbackrest_info.plan(stanza, run_id=options.run_id, kind=options.type, verify=options.verify == "read")


def _when_free(stanza: Stanza, look: t.Callable[[], Stanza], seconds: int, sleep: t.Callable[[float], None]) -> Stanza:
    """The stanza when nobody holds its lock, or after *seconds*. What a killed backup was copying is finished first by its orphan, which holds the lock."""
    while stanza.busy and seconds > 0:
        sleep(1)
        seconds -= 1
        stanza = look()
    return stanza


def _ask(connection: PostgresConnection) -> Server:
    with connection.cursor() as cursor:
        return Server(server_version(connection), *fetch_one(cursor, _SERVER))


def check(stanza: Stanza, server: Server, plan: Plan) -> None:
    """Raises LastroError where the backup or its restore point could not be made, or would be of another cluster."""
    if stanza.status not in (0, 2):
        raise LastroError(
            f"The stanza {stanza.name} is not usable in repository {stanza.repo}: {stanza.message}.",
            remedy=Text(
                en=f"Create it once with `pgbackrest --stanza={stanza.name} stanza-create`, as the account that runs PostgreSQL, or mend the repository.",
                pt_BR=f"Crie-a uma vez com `pgbackrest --stanza={stanza.name} stanza-create`, na conta que roda o PostgreSQL, ou corrija o repositório.",
            ),
        )
    if stanza.system_id != server.system_id:
        raise LastroError(
            f"The stanza {stanza.name} is of the cluster with system identifier {stanza.system_id or 'none'}, the database is in {server.system_id}: "
            "the backup would not hold it.",
            remedy=Text(
                en="Name the stanza of this database's cluster, or run `pgbackrest stanza-upgrade` where the cluster was made anew.",
                pt_BR="Indique a stanza do cluster deste banco, ou execute `pgbackrest stanza-upgrade` se o cluster foi recriado.",
            ),
        )
    if plan.steps:
        _check_server(server)
    if stanza.busy and plan.steps:
        raise LastroError(
            f"Another pgBackRest process holds the lock of stanza {stanza.name}.",
            remedy=_pgbackrest_program.REMEDY_WHEN_LOCKED,
            code="busy",
        )


def _check_server(server: Server) -> None:
    if server.standby:
        raise LastroError(
            "The database is a standby: a restore point can be named on the primary server alone.",
            remedy=Text(en="Connect to the primary server.", pt_BR="Conecte-se ao servidor primário."),
        )
    if server.archive_mode == "off":
        raise LastroError(
            "archive_mode is off: without archived WAL there is no way back to a moment.",
            remedy=Text(
                en="Set archive_mode=on and archive_command to pgbackrest's archive-push, and restart PostgreSQL.",
                pt_BR="Defina archive_mode=on e archive_command com o archive-push do pgbackrest, e reinicie o PostgreSQL.",
            ),
        )
    if not server.may_name_points:
        grant = f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO {server.role}"
        raise LastroError(
            f"The role {server.role} may not call pg_create_restore_point.",
            remedy=Text(
                en=f"As a superuser, in this database: {grant}; or give deploy_database an admin_url of a role that may.",
                pt_BR=f"Como superusuário, neste banco: {grant}; ou informe em deploy_database um admin_url de um usuário que possa.",
            ),
        )


def _check_archiver(server: Server) -> None:
    """In check mode nothing is archived to try it, so the server's own record has to do."""
    if server.archiver_fails:
        raise LastroError(
            f"PostgreSQL's last attempt to archive WAL failed, at segment {server.failed_segment}.",
            remedy=_pgbackrest_program.REMEDY_OF_ARCHIVE,
        )


def _act(
    connection: PostgresConnection, program: Program, options: Options, plan: Plan, *, progress: Progress, now: t.Callable[[], float]
) -> tuple[float, list[str]]:
    """Do the plan's steps; the seconds that it took, and warnings. Raises LastroError."""
    started = time.monotonic()
    warnings: list[str] = []
    timeout = f"--archive-timeout={options.archive_timeout}"
    if "backup" in plan.steps:
        _run_check(program, timeout, f"The archive of stanza {options.stanza} does not work, and no backup was begun")
        _back_up(program, options, plan.kind, progress)
    backup = _mine(_look(program, options), options)
    if backup.damaged:
        raise LastroError(
            f"pgBackRest found pages with wrong checksums in the cluster while it made {backup.label}: the live database is damaged.",
            remedy=Text(
                en="Do not deploy. Read pgBackRest's log for the files, and restore them from an earlier backup or a replica.",
                pt_BR="Não faça deploy. Veja os arquivos no log do pgBackRest e restaure-os de um backup anterior ou de uma réplica.",
            ),
            label=backup.label,
        )
    if "restore_point" in plan.steps:
        point = f"{POINT_PREFIX}{options.run_id}-{int(now())}"
        with connection.cursor() as cursor:
            lsn = fetch_one(cursor, "SELECT pg_catalog.pg_create_restore_point(%s)::text", (point,))[0]
        # Only an archived segment can be restored from; check ends the segment and waits for the archive to have it.
        _run_check(program, timeout, f"The restore point {point} did not reach the archive of stanza {options.stanza}")
        _annotate(program, backup, {_pgbackrest_info.RESTORE_POINT: point, _pgbackrest_info.RESTORE_LSN: lsn})
    if "verify" in plan.steps:
        warnings = _verify(program, backup)
        _annotate(program, backup, {_pgbackrest_info.VERIFIED: "read"})
    return round(time.monotonic() - started, 3), warnings


def _run_check(program: Program, timeout: str, doing: str) -> None:
    # It looks at every repository of the stanza, and knows no --repo.
    dataclasses.replace(program, repo=None).run(doing, "check", timeout)


def _back_up(program: Program, options: Options, kind: str, progress: Progress) -> None:
    done = 0

    def each(line: str) -> None:
        nonlocal done
        found = _pgbackrest_info.file_done(line)
        if found:
            size, percent = found
            done += size
            progress(done, max(done, int(done * 100 / percent)) if percent else 0, "bytes")

    arguments = [f"--type={kind}", f"--archive-timeout={options.archive_timeout}", f"--annotation={_pgbackrest_info.RUN_ID}={options.run_id}"]
    arguments += ["--start-fast"] if options.start_fast else []
    arguments += [f"--process-max={options.process_max}"] if options.process_max else []
    program.run(f"The backup of stanza {options.stanza} failed", "backup", "--log-level-console=detail", *arguments, each=each)


def _mine(stanza: Stanza, options: Options) -> Backup:
    backup = stanza.of_run(options.run_id)
    if backup is None:
        raise LastroError(
            f"pgBackRest ended well, but the stanza {stanza.name} has no backup with the annotation run_id={options.run_id}.",
            remedy=Text(en="Look at `pgbackrest info`, and run again.", pt_BR="Veja `pgbackrest info` e execute de novo."),
        )
    return backup


def _annotate(program: Program, backup: Backup, annotations: t.Mapping[str, str]) -> None:
    values = [f"--annotation={name}={value}" for name, value in annotations.items()]
    program.run(f"{backup.label} could not be annotated", "annotate", f"--set={backup.label}", *values)


def _verify(program: Program, backup: Backup) -> list[str]:
    """Have every file of the repository read and its checksum compared; troubles of other backups, as warnings. Raises LastroError."""
    said = program.run("The repository could not be verified", "verify", "--output=text", "--verbose")
    own, others = _pgbackrest_info.verify_problems(said, backup)
    if own:
        raise LastroError(
            f"The backup {backup.label} does not verify: {'; '.join(own)}.",
            remedy=Text(
                en="The repository's disk lies, is full, or somebody changed a file. Find out why before you deploy; then make a full backup (type: full).",
                pt_BR="O disco do repositório falha, encheu, ou alguém alterou um arquivo. Descubra antes do deploy; depois faça um backup full (type: full).",
            ),
            label=backup.label,
        )
    return [f"In the repository, {trouble}: it cannot be relied on." for trouble in others]


def _handles(stanza: Stanza, backup: Backup | None) -> dict[str, t.Any]:
    """What is known of the backup before it is there."""
    return {"stanza": stanza.name, "repo": stanza.repo, "path": f"{stanza.name}/{backup.label if backup else ''}", "encrypted": stanza.encrypted}


def _result(program: Program, stanza: Stanza, backup: Backup, *, changed: bool) -> dict[str, t.Any]:
    point = backup.annotations.get(_pgbackrest_info.RESTORE_POINT, "")
    verified = backup.annotations.get(_pgbackrest_info.VERIFIED, "")
    return {
        "changed": changed,
        **_handles(stanza, backup),
        "label": backup.label,
        "backup_type": backup.kind,
        "size": backup.size,
        "raw_size": backup.raw_size,
        "snapshot_lsn": backup.annotations.get(_pgbackrest_info.RESTORE_LSN, ""),
        "restore_point": point,
        "restore_command": restore_command(program, backup.label, point),
        "created": utc(backup.stopped),
        "seconds": float(backup.stopped - backup.started),
        "verified": [verified] if verified else [],
        "pruned": [],
    }


def restore_command(program: Program, label: str, point: str) -> str:
    """The command that brings the cluster of the restore point back into an empty directory, for a human to run.

    The copy does not archive: its WAL would come between the live cluster's. Its tablespaces lie beside it: where the live ones are, pgBackRest would
    stop with the advice to use --delta, which overwrites them.
    """
    target = (f"--set={label}", "--type=name", f"--target={point}", "--target-action=promote", "--archive-mode=off")
    where = ("--tablespace-map-all=NEW_DIRECTORY.tablespaces", "--pg1-path=NEW_DIRECTORY")
    return shlex.join(dataclasses.replace(program, path=_pgbackrest_program.PROGRAM).command("restore", *target, *where))


def _diff(before: t.Sequence[Backup], after: t.Sequence[Backup], options: Options, plan: Plan) -> dict[str, str]:
    """The backups before and after; in check mode the one to come has no label yet."""
    coming = [f"{plan.kind} backup of run {options.run_id}"] if plan.kind and before == after else []
    steps = [f"{step} of run {options.run_id}" for step in plan.steps if step != "backup"]
    return {
        "before": "".join(f"{one.label}\n" for one in before),
        "after": "".join(f"{line}\n" for line in [*(one.label for one in after), *coming, *steps]),
    }


__all__ = ("Options", "Server", "argument_spec", "check", "options_from_params", "restore_command", "run")
