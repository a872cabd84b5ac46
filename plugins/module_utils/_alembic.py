# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application's migrations are, where the database stands and what a migration would do. PRIVATE to the collection.

C(inspect) asks the shim and returns a C(Picture); C(information) is what C(alembic_info) returns; C(_alembic_migrate) acts.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
from pathlib import Path

from . import _alembic_catalog, _alembic_copy, _alembic_lint, _alembic_prechecks, _alembic_rehearsal, _postgres, _scratch_cluster
from ._alembic_child import Child, Project
from ._alembic_errors import bad_option, deadline_passed
from ._alembic_hazards import Finding, finding
from ._alembic_lint import Lint
from ._alembic_picture import Pending, Picture
from ._alembic_rules import lost_for_good, own_statements
from ._alembic_watch import Watch, session_of_our_own
from ._argspec import ArgumentSpec

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

    from ._alembic_child import Message

Direction = t.Literal["upgrade", "downgrade", "stamp"]
APPLICATION_NAME = "lastro.deploy alembic"
READING = {"lock_timeout": "2s", "statement_timeout": "60s"}
OLD_TRANSACTION = 60.0
"""Seconds after which an open transaction is said to be in the way of a migration."""


def project_argument_spec() -> ArgumentSpec:
    """The connection options and those that go with the doc fragment C(alembic)."""
    return _postgres.connection_argument_spec().merge(
        ArgumentSpec(
            options={
                "chdir": {"type": "path", "required": True},
                "config": {"type": "str", "default": "alembic.ini"},
                "python": {"type": "path", "required": True},
                "flask_app": {"type": "str", "default": ""},
                "revision": {"type": "str", "default": "heads"},
                "environment": {"type": "dict", "default": {}},
                "x_args": {"type": "list", "elements": "str", "default": []},
                "version_table": {"type": "str", "default": ""},
                "version_table_schema": {"type": "str", "default": ""},
                "lint": {"type": "dict", "default": {}, "options": _alembic_lint.OPTIONS},
                "check_models": {"type": "bool", "default": False},
            },
        ),
    )


def info_argument_spec() -> ArgumentSpec:
    """The options of C(alembic_info)."""
    own = ArgumentSpec(
        options={
            "from_revision": {"type": "list", "elements": "str"},
            "prechecks": {"type": "bool", "default": True},
            "rehearsal_url": {"type": "str", "no_log": True},
            "rehearsal_cluster": {"type": "path"},
            "rehearsal_copy": {"type": "path"},
            "bin_dir": {"type": "path"},
            "deadline": {"type": "float", "default": 120.0},
        },
        mutually_exclusive=(("rehearsal_url", "rehearsal_cluster", "rehearsal_copy"),),
    )
    return project_argument_spec().merge(own)


def _pending(message: Message, version_table: str, *, direction: Direction, lint: Lint) -> Pending:
    revision, sql = message["revision"], message["sql"]
    found = []
    if message["unrenderable"]:
        found.append(finding(revision, "unrenderable", message["unrenderable"]))
    if direction == "upgrade" and not message["reversible"]:
        found.append(finding(revision, "empty-downgrade", "def downgrade()"))
    neutral = not message["unrenderable"] and not own_statements(sql, version_table)
    return Pending(revision, message["message"], message["reversible"], sql, tuple(found if lint.on else ()), neutral)


def checked_revision(revision: str) -> str:
    """*revision*, unless it is relative: that would mean something else at each run. Raises LastroError."""
    if not revision or revision[0] in "+-" or "+" in revision or ":" in revision:
        raise bad_option("revision", f"{revision!r} is relative or a range; a second run would do something else")
    return revision


def inspect(
    child: Child,
    *,
    revision: str,
    until: float,
    lint: Lint,
    direction: Direction = "upgrade",
    start: t.Sequence[str] | None = None,
    application_name: str = APPLICATION_NAME,
) -> Picture:
    """What lies between the database (or *start*) and *revision*, read but not yet judged. Writes nothing. Raises LastroError, TimeoutError at *until*."""
    project = child.project
    child.ask({"op": "load", **project.request()}, until=until)
    request = {
        "op": "inspect",
        "direction": direction,
        "revision": checked_revision(revision),
        "start": None if start is None else list(start),
        "render": lint.on,
        "settings": {"application_name": application_name, **READING},
    }
    answer = child.ask(request, until=until)
    table = answer["version_table"]
    read = ({**one, "sql": project.redact(one["sql"])} for one in answer["pending"])
    picture = Picture(
        current=tuple(answer["current"]),
        heads=tuple(answer["heads"]),
        unknown=tuple(answer["unknown"]),
        pending=tuple(_pending(one, table, direction=direction, lint=lint) for one in read),
        version_table=table,
        version_relation=tuple(answer["version_relation"]),
        other_tables=answer["other_tables"],
    )
    return picture.plus(_values_lost(picture)) if direction == "upgrade" else picture


def _values_lost(picture: Picture) -> list[Finding]:
    """What comes back empty with a downgrade; a revision without one says so itself."""
    chain = [(one.revision, one.sql) for one in picture.pending]
    lost = lost_for_good(chain, version_table=picture.version_table)
    stuck = {one.revision for one in picture.pending if not one.reversible}
    return [finding(one.revision, "values-lost", one.what, one.table) for one in lost if one.revision not in stuck]


def judge(
    connection: PostgresConnection, picture: Picture, lint: Lint, *, count_until: float | None = None, upgrade: bool = True
) -> tuple[Picture, dict[str, t.Any]]:
    """*picture* with its findings, weighed by what the database knows, and the facts behind them; with a *count_until*, rows are counted as well.

    Raises psycopg2.Error.
    """
    if not lint.on:
        return picture, {"tables": [], "cleared": [], "prechecks": [], "lint": {"engine": "none", "profile": lint.profile}}
    catalog = _alembic_catalog.read(connection, [one.sql for one in picture.pending])
    connection.rollback()
    width = Watch(connection).version_width(picture.version_relation) if upgrade else None
    connection.rollback()
    judged, cleared = _alembic_lint.read_chain(picture.plus(_alembic_lint.too_narrow(picture, width)), lint, catalog)
    counted = [] if count_until is None else _alembic_prechecks.run(connection, _alembic_prechecks.derive(judged, catalog), catalog, until=count_until)
    found = [one for one in (each.as_finding() for each in counted) if one]
    facts = {
        "tables": catalog.as_result(),
        "cleared": [one.as_result() for one in cleared],
        "prechecks": [one.as_result() for one in counted],
        "lint": {"engine": "lastro", "profile": lint.profile, "server": connection.server_version // 10000},
    }
    return judged.plus(_alembic_lint.weighed(found, lint, catalog)), facts


def models(child: Child, *, until: float) -> list[str]:
    """How the database differs from the application's models, as C(alembic check) sees it."""
    answer = child.ask({"op": "check", "settings": {"application_name": APPLICATION_NAME, **READING}}, until=until)
    found: list[str] = answer["differences"]
    return found


@contextlib.contextmanager
def _copy(connection: PostgresConnection, project: Project, picture: Picture, params: t.Mapping[str, t.Any], *, until: float) -> t.Iterator[_alembic_copy.Copy]:
    """What the rehearsal runs on: a copy that is there, or one that is made now. Raises LastroError, TimeoutError."""
    with contextlib.ExitStack() as stack:
        if params["rehearsal_copy"]:
            yield stack.enter_context(_alembic_copy.kept(Path(params["rehearsal_copy"])))
            return
        bin_dir, url = params["bin_dir"], params["rehearsal_url"]
        if not url:
            at_least = connection.server_version // 10000
            url = stack.enter_context(_scratch_cluster.throw_away(Path(params["rehearsal_cluster"]), bin_dir=bin_dir, at_least=at_least)).url
        server = _postgres.parse_url(url)
        yield stack.enter_context(_alembic_copy.throw_away(connection, project.settings, server, picture.version_relation, until=until, bin_dir=bin_dir))


def _rehearsed(
    connection: PostgresConnection, project: Project, picture: Picture, params: t.Mapping[str, t.Any], *, until: float
) -> tuple[Picture, dict[str, t.Any]]:
    """*picture* with what a rehearsal has shown, and the rehearsal; an empty one where none was asked for or nothing is pending."""
    asked = params["rehearsal_url"] or params["rehearsal_cluster"] or params["rehearsal_copy"]
    if not asked or params["from_revision"] is not None or not picture.pending:
        return picture, {}
    try:
        with _copy(connection, project, picture, params, until=until) as copy:
            result = _alembic_rehearsal.rehearse(project, picture, copy, revision=params["revision"], until=until)
    except TimeoutError:
        raise deadline_passed(params["deadline"], "the rehearsal ran") from None
    finally:
        connection.rollback()
    lint = Lint.from_params(params["lint"])
    found = _alembic_lint.weighed(result.findings(picture.findings), lint, None)
    return picture.plus(found).without_way_back([one["revision"] for one in result.not_reverted]), result.as_result()


def information(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What C(alembic_info) returns. Raises LastroError."""
    lint = Lint.from_params(params["lint"])
    project = Project.from_params(params)
    until = time.monotonic() + params["deadline"]
    with contextlib.ExitStack() as stack:
        # It imports the application's libraries while we connect.
        child = stack.enter_context(Child.start(project))
        # A wrong password or a server that is away is said here, in words of the shared kind.
        connection = stack.enter_context(
            session_of_our_own(
                project.settings,
                application_name=APPLICATION_NAME,
                autocommit=False,
                lock_timeout=READING["lock_timeout"],
                statement_timeout=READING["statement_timeout"],
            )
        )
        try:
            picture = inspect(child, revision=params["revision"], until=until, lint=lint, start=params["from_revision"])
            differences = models(child, until=until) if params["check_models"] and picture.status == "up_to_date" else []
        except TimeoutError:
            raise deadline_passed(params["deadline"], "the migrations were read") from None
        # What lies between two releases is compared, not applied.
        counts = params["prechecks"] and params["from_revision"] is None
        picture, facts = judge(connection, picture, lint, count_until=until if counts else None)
        picture, rehearsal = _rehearsed(connection, project, picture, params, until=until)
        watch = Watch(connection)
        watch.look_for_old(OLD_TRANSACTION)
        result = {
            **picture.as_result(),
            **facts,
            "blockers": watch.blockers,
            "invalid_indexes": watch.invalid_indexes(),
            "model_differences": differences,
            "rehearsal": rehearsal,
        }
    _alembic_lint.refuse_denied(picture, lint, result)
    return result


__all__ = (
    "APPLICATION_NAME",
    "Direction",
    "Finding",
    "info_argument_spec",
    "information",
    "inspect",
    "judge",
    "models",
    "project_argument_spec",
)
