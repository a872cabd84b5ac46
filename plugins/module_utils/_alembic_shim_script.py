# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application's migrations under its own interpreter: its configuration, its env.py, its revision files and their SQL.

Runs there as C(_alembic_shim) does. PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import inspect
import io
import os
import re
import textwrap
import traceback
import typing as t

from ._alembic_shim_session import ShimError, sentence

MISSING = ""
try:
    import alembic
    import sqlalchemy
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
except ImportError as _error:
    MISSING = str(_error)

if t.TYPE_CHECKING:
    from ._alembic_shim_session import Foreign

    Message = dict[str, t.Any]
    Guard = t.Callable[[Foreign], t.ContextManager[None]]


def prepare(environment: Foreign, guard: Guard | None, named: t.Mapping[str, str]) -> None:
    """Have *environment* use one transaction per revision and run inside *guard*, whatever env.py asks for; *named* goes before what it names.

    Alembic's module ``context`` calls the methods of the instance, so they are replaced there and the library stays as it is.
    """
    configure, run = environment.configure, environment.run_migrations

    def configure_per_revision(*args: Foreign, **kw: Foreign) -> None:
        bound = inspect.signature(configure).bind(*args, **kw)
        bound.arguments["transaction_per_migration"] = True
        configure(*bound.args, **{**bound.kwargs, **named})

    def run_guarded(**kw: Foreign) -> None:
        with guard(environment.get_context()) if guard else contextlib.nullcontext():
            run(**kw)

    environment.configure, environment.run_migrations = configure_per_revision, run_guarded


def _does_nothing(function: Foreign) -> bool:
    """Whether a function's body is empty, passes, returns nothing or begins by raising."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    body = getattr(tree.body[0], "body", [])
    work = [
        one
        for one in body
        if not isinstance(one, ast.Pass)
        and not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
        and not (isinstance(one, ast.Return) and (one.value is None or isinstance(one.value, ast.Constant)))
    ]
    return not work or isinstance(work[0], ast.Raise)


def reversible(module: Foreign) -> bool:
    """Whether a revision's downgrade() undoes something, or its upgrade() did nothing. What cannot be read counts as no."""
    try:
        return _does_nothing(module.upgrade) or not _does_nothing(module.downgrade)
    except (AttributeError, OSError, SyntaxError, TypeError):
        return False


def version(text: str) -> tuple[int, ...]:
    """Major and minor number of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def with_driver(url: str, configured: str) -> str:
    """*url* with a driver of SQLAlchemy: its own, else that of alembic.ini, else the default one if it is there."""
    scheme, separator, rest = url.partition("://")
    if scheme == "postgres":
        scheme = "postgresql"
    if "+" not in scheme and configured.partition("://")[0].startswith("postgresql+"):
        scheme = configured.partition("://")[0]
    if "+" not in scheme:
        default = "psycopg" if version(sqlalchemy.__version__) >= (2, 1) else "psycopg2"
        if importlib.util.find_spec(default) is None:
            found = [name for name in ("psycopg2", "psycopg", "pg8000") if importlib.util.find_spec(name)]
            scheme = f"{scheme}+{found[0]}" if found else scheme
    return scheme + separator + rest


def name_of(step: Foreign) -> str:
    """The revision of a step; of a stamp what it leads to."""
    script = getattr(step, "revision", None)
    return script.revision if script is not None else ", ".join(step.to_revisions) or "base"


def message_of(step: Foreign) -> str:
    """First line of the revision's message."""
    doc = (step.doc or "").strip().splitlines()
    return doc[0] if doc else ""


def enter_flask(name: str) -> None:
    """Push the context of the application that *name* says, as C(flask --app) would find it."""
    try:
        from flask.cli import ScriptInfo  # noqa: PLC0415 - only this kind of application has it

        ScriptInfo(app_import_path=name).load_app().app_context().push()
    except Exception as error:
        raise ShimError("flask_app", f"{type(error).__name__}: {sentence(error)}") from error


def configuration(request: Message) -> Foreign:
    """Alembic's configuration with the database's URL and the C(-x) arguments; C(script_location) is where the file is, unless it says so."""
    file = request["config"]
    if file.endswith(".toml"):
        if version(alembic.__version__) < (1, 16):
            raise ShimError("alembic_old", f"Alembic {alembic.__version__} is there, and reads {os.path.basename(file)} from 1.16 on.")  # noqa: PTH119
        config = Config(toml_file=file)
    else:
        config = Config(file)
        if request["flask_app"] and not config.get_main_option("script_location"):
            config.set_main_option("script_location", os.path.dirname(os.path.abspath(file)).replace("%", "%%"))  # noqa: PTH100, PTH120
    configured = ""
    with contextlib.suppress(Exception):
        configured = config.get_main_option("sqlalchemy.url") or ""
    config.cmd_opts = argparse.Namespace(x=request["x_args"] or None)
    config.set_main_option("sqlalchemy.url", with_driver(request["url"], configured).replace("%", "%%"))
    return config


class Script:
    """The application's configuration and revision files."""

    def __init__(self) -> None:
        self.config: Foreign = None
        self.directory: Foreign = None
        self.named: dict[str, str] = {}
        """What was asked for in place of what env.py says: C(version_table), C(version_table_schema)."""

    def load(self, request: Message) -> list[str]:
        """Read alembic.ini (or pyproject.toml) and the revision files; the heads."""
        if MISSING:
            raise ShimError("alembic_missing", MISSING)
        if version(alembic.__version__) < (1, 10):
            raise ShimError("alembic_old", f"Alembic {alembic.__version__} is there.")
        self.named = {name: request[name] for name in ("version_table", "version_table_schema") if request[name]}
        if request["flask_app"]:
            enter_flask(request["flask_app"])
        try:
            self.config = configuration(request)
            self.directory = ScriptDirectory.from_config(self.config)
        except ShimError:
            raise
        except Exception as error:
            raise ShimError("config", sentence(error)) from error
        try:
            return sorted(self.directory.get_heads())
        except Exception as error:
            raise ShimError("revision_files", f"{self._culprit(error)}{type(error).__name__}: {sentence(error)}") from error

    def _culprit(self, error: BaseException) -> str:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        files.append(getattr(error, "filename", None) or "")
        folders = [str(folder) for folder in self.directory._version_locations]
        inside = [name for name in files if any(os.path.abspath(name).startswith(os.path.abspath(folder)) for folder in folders)]  # noqa: PTH100
        return f"{os.path.basename(inside[-1])}: " if inside else ""  # noqa: PTH119

    def run_env(self, work: t.Callable[..., t.Iterable[Foreign]], guard: Guard | None = None, **options: Foreign) -> None:
        """Run env.py with *work* as what ``context.run_migrations()`` does."""
        environment = EnvironmentContext(self.config, self.directory, fn=work, **options)
        prepare(environment, guard, self.named)
        with environment:
            self.directory.run_env()

    def steps(self, direction: str, revision: str | tuple[str, ...], start: tuple[str, ...]) -> list[Foreign]:
        """Alembic's own order of what lies between *start* and *revision*."""
        if direction == "stamp":
            return list(self.directory._stamp_revs(revision, start))
        if direction == "upgrade":
            return list(self.directory._upgrade_revs(revision, start))
        if not start or set(start) == {one.revision for one in self.directory.get_revisions(revision) if one}:
            return []
        try:
            return list(self.directory._downgrade_revs(revision, start))
        except CommandError:
            if self.directory._upgrade_revs(revision, start):
                return []
            raise

    @staticmethod
    def describe(step: Foreign, sql: dict[str, str], problems: dict[str, str]) -> Message:
        """One step for the module: its names, whether it can be taken back, its SQL or why there is none."""
        name = name_of(step)
        return {
            "revision": name,
            "message": message_of(step),
            "reversible": not hasattr(step, "revision") or reversible(step.revision.module),
            "sql": sql.get(name, ""),
            "unrenderable": problems.get(name, "" if name in sql else problems.get("", "env.py cannot run offline")),
        }

    def render(self, steps: list[Foreign], start: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
        """SQL of each step as ``--sql`` prints it; a step that cannot be rendered does not stop those after it."""
        buffer = io.StringIO()
        places: dict[str, tuple[int, int]] = {}
        problems: dict[str, str] = {}

        def tolerant(step: Foreign) -> t.Callable[..., None]:
            original = step.migration_fn

            def run(**kw: Foreign) -> None:
                try:
                    original(**kw)
                except Exception as error:  # noqa: BLE001 - the revision's own code
                    problems[name_of(step)] = f"{type(error).__name__}: {sentence(error)}"

            return run

        def work(_heads: tuple[str, ...], _context: Foreign) -> t.Iterator[Foreign]:
            for step in steps:
                step.migration_fn = tolerant(step)
                begin = buffer.tell()
                yield step
                places[name_of(step)] = (begin, buffer.tell())

        self.config.output_buffer = buffer
        try:
            self.run_env(work, as_sql=True, starting_rev=start or None)
        except Exception as error:  # noqa: BLE001 - env.py's own code
            problems[""] = f"{type(error).__name__}: {sentence(error)}"
        text = buffer.getvalue()
        return {name: text[begin:end].strip() + "\n" for name, (begin, end) in places.items()}, problems
