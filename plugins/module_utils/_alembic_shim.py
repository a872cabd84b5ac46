# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that runs Alembic under the application's own interpreter. Nothing is installed there and env.py stays as it is.

C(_alembic_child) sends this source through a pipe; it is never imported by a module. It uses the standard library,
Alembic 1.10 or newer and SQLAlchemy 1.4 or newer. Requests come in and events go out as JSON lines on two pipes, since
standard output belongs to env.py. When the requests end without C(end), the module has died and this process kills itself.
PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import importlib.util
import inspect
import io
import json
import os
import queue
import random
import re
import signal
import sys
import textwrap
import threading
import time
import traceback
import typing as t

from ._alembic_shim_session import Session, ShimError, literal, rows, sentence, sqlstate

MISSING = ""
try:
    import alembic
    import sqlalchemy
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError
except ImportError as _error:
    MISSING = str(_error)

if t.TYPE_CHECKING:
    from ._alembic_shim_session import Foreign

    Message = dict[str, t.Any]
    Send = t.Callable[[Message], None]
    Guard = t.Callable[[Foreign], t.ContextManager[None]]

RETRYABLE = ("55P03", "40P01")
POLL_SECONDS = (0.1, 0.3)
LONGEST_DELAY = 30.0


def prepare(environment: Foreign, guard: Guard | None) -> None:
    """Have *environment* use one transaction per revision and run inside *guard*, whatever env.py asks for.

    Alembic's module ``context`` calls the methods of the instance, so they are replaced there and the library stays as it is.
    """
    configure, run = environment.configure, environment.run_migrations

    def configure_per_revision(*args: Foreign, **kw: Foreign) -> None:
        bound = inspect.signature(configure).bind(*args, **kw)
        bound.arguments["transaction_per_migration"] = True
        configure(*bound.args, **bound.kwargs)

    def run_guarded(**kw: Foreign) -> None:
        with guard(environment.get_context()) if guard else contextlib.nullcontext():
            run(**kw)

    environment.configure, environment.run_migrations = configure_per_revision, run_guarded


def tail(error: BaseException) -> list[str]:
    """Where an error happened: the last frames and its first line, never parameters."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    lines = [f'File "{frame.filename}", line {frame.lineno}, in {frame.name}: {frame.line or ""}'.rstrip(" :") for frame in frames]
    return [*lines, f"{type(error).__name__}: {sentence(error)}"]


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


class Shim:
    """The operations: C(load), C(inspect), C(migrate)."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.session = Session()
        self.config: Foreign = None
        self.script: Foreign = None
        self.step: str = ""
        self.step_commits = 0
        self.held: list[Message] = []
        self.answer: Message = {}
        self.locked = False

    def handle(self, request: Message) -> Message:
        """Answer one request."""
        operation: t.Callable[[Message], Message] = {"load": self.load, "inspect": self.inspect, "migrate": self.migrate}[request["op"]]
        return operation(request)

    def load(self, request: Message) -> Message:
        """Read alembic.ini and the revision files."""
        if MISSING:
            raise ShimError("alembic_missing", MISSING)
        if version(alembic.__version__) < (1, 10):
            raise ShimError("alembic_old", f"Alembic {alembic.__version__} is there.")
        try:
            self.config = Config(request["config"])
            configured = ""
            with contextlib.suppress(Exception):
                configured = self.config.get_main_option("sqlalchemy.url") or ""
            self.config.set_main_option("sqlalchemy.url", with_driver(request["url"], configured).replace("%", "%%"))
            self.script = ScriptDirectory.from_config(self.config)
        except Exception as error:
            raise ShimError("config", sentence(error)) from error
        try:
            heads = sorted(self.script.get_heads())
        except Exception as error:
            raise ShimError("revision_files", f"{self._culprit(error)}{type(error).__name__}: {sentence(error)}") from error
        self.session.listen()
        return {"heads": heads, "alembic": alembic.__version__, "sqlalchemy": sqlalchemy.__version__}

    def _culprit(self, error: BaseException) -> str:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        files.append(getattr(error, "filename", None) or "")
        folders = [str(folder) for folder in self.script._version_locations]
        inside = [name for name in files if any(os.path.abspath(name).startswith(os.path.abspath(folder)) for folder in folders)]  # noqa: PTH100
        return f"{os.path.basename(inside[-1])}: " if inside else ""  # noqa: PTH119

    def run_env(self, work: t.Callable[..., t.Iterable[Foreign]], guard: Guard | None = None, **options: Foreign) -> None:
        """Run env.py with *work* as what ``context.run_migrations()`` does."""
        environment = EnvironmentContext(self.config, self.script, fn=work, **options)
        prepare(environment, guard)
        with environment:
            self.script.run_env()

    def steps(self, direction: str, revision: str | tuple[str, ...], start: tuple[str, ...]) -> list[Foreign]:
        """Alembic's own order of what lies between *start* and *revision*."""
        if direction == "upgrade":
            return list(self.script._upgrade_revs(revision, start))
        if not start or set(start) == {one.revision for one in self.script.get_revisions(revision) if one}:
            return []
        try:
            return list(self.script._downgrade_revs(revision, start))
        except CommandError:
            if self.script._upgrade_revs(revision, start):
                return []
            raise

    def inspect(self, request: Message) -> Message:
        """Where the database is, what is pending and its SQL; in a session that cannot write."""
        state: Message = {}

        def capture(heads: tuple[str, ...], context: Foreign) -> list[Foreign]:
            if context.dialect.name != "postgresql":
                raise ShimError("dialect", f"env.py connects to {context.dialect.name}.")
            state.update(current=sorted(heads), other_tables=self._other_tables(context))
            state.update(version_table=context.version_table, version_relation=self._version_relation(context))
            return []

        self.session.settings = {**request["settings"], "default_transaction_read_only": "on"}
        self.run_env(capture, dont_mutate=True)
        if not state:
            raise ShimError("env", "env.py never calls context.run_migrations().")
        state["heads"] = sorted(self.script.get_heads())
        known = {script.revision for script in self.script.walk_revisions()} if state["current"] else set()
        state["unknown"] = [one for one in state["current"] if one not in known]
        state["pending"] = self._pending(request, state)
        return state

    @staticmethod
    def _version_relation(context: Foreign) -> list[str]:
        """Schema and name of the version table; the schema is left out where the table is not there and env.py names none."""
        named = [one for one in (context.version_table_schema, context.version_table) if one]
        quoted = ".".join('"' + one.replace('"', '""') + '"' for one in named)
        found = rows(
            context.connection,
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"  # noqa: S608
            f" WHERE c.oid = to_regclass({literal(quoted)})",
            commit=not getattr(context, "_in_external_transaction", False),
        )
        return list(found[0]) if found else named

    @staticmethod
    def _other_tables(context: Foreign) -> int:
        """How many tables the database has beside the version table and the system's."""
        ((count,),) = rows(
            context.connection,
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"  # noqa: S608
            " AND n.nspname <> 'information_schema' AND NOT starts_with(n.nspname::text, 'pg_')"
            f" AND c.relname <> {literal(context.version_table)}",
        )
        return int(count)

    def _pending(self, request: Message, state: Message) -> list[Message]:
        current = tuple(state["current"])
        direction, revision = request["direction"], request["revision"]
        start = current
        if request.get("start") is not None:
            start = tuple(one.revision for name in request["start"] for one in self.script.get_revisions(name) if one)
        elif state["unknown"]:
            return []
        target = current if revision == "current" else revision
        if revision == "current" and (not current or state["unknown"]):
            return []
        # Rendered steps are changed by the rendering, so it gets its own.
        steps = self.steps(direction, target, start)
        sql, problems = self._render(self.steps(direction, target, start), start) if steps else ({}, {})
        return [self._describe(step, sql, problems) for step in steps]

    @staticmethod
    def _describe(step: Foreign, sql: dict[str, str], problems: dict[str, str]) -> Message:
        script = step.revision
        problem = problems.get(script.revision, "" if script.revision in sql else problems.get("", "env.py cannot run offline"))
        doc = (script.doc or "").strip().splitlines()
        return {
            "revision": script.revision,
            "message": doc[0] if doc else "",
            "reversible": reversible(script.module),
            "sql": sql.get(script.revision, ""),
            "unrenderable": problem,
        }

    def _render(self, steps: list[Foreign], start: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
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
                    problems[step.revision.revision] = f"{type(error).__name__}: {sentence(error)}"

            return run

        def work(_heads: tuple[str, ...], _context: Foreign) -> t.Iterator[Foreign]:
            for step in steps:
                step.migration_fn = tolerant(step)
                begin = buffer.tell()
                yield step
                places[step.revision.revision] = (begin, buffer.tell())

        self.config.output_buffer = buffer
        try:
            self.run_env(work, as_sql=True, starting_rev=start or None)
        except Exception as error:  # noqa: BLE001 - env.py's own code
            problems[""] = f"{type(error).__name__}: {sentence(error)}"
        text = buffer.getvalue()
        return {name: text[begin:end].strip() + "\n" for name, (begin, end) in places.items()}, problems

    def migrate(self, request: Message) -> Message:
        """Apply the allowed revisions; again after a lock or deadlock error as long as the revision committed nothing."""
        session = self.session
        session.settings = request["settings"]
        session.concurrent = request["concurrent"]
        session.repair = request["repair"]
        self.answer = {"before": None}
        tries = 0
        while True:
            self.step, self.step_commits, self.held = "", session.commits, []
            try:
                self.run_env(self._work(request), guard=self._guard)
            except Exception as error:
                if sqlstate(error) not in RETRYABLE or session.commits != self.step_commits or tries >= request["retries"]:
                    raise
                tries += 1
                delay = min(request["retry_delay"] * 2 ** (tries - 1), LONGEST_DELAY)
                self.send({"event": "retry", "revision": self.step, "sqlstate": sqlstate(error)})
                time.sleep(random.uniform(delay / 2, delay))  # noqa: S311 - jitter
                continue
            for message in self.held:
                self.send(message)
            if not self.locked:
                raise ShimError("env", "env.py never calls context.run_migrations().")
            return {**self.answer, "repaired": session.repaired}

    def _work(self, request: Message) -> t.Callable[..., t.Iterator[Foreign]]:
        allowed = set(request["allowed"])

        def work(heads: tuple[str, ...], context: Foreign) -> t.Iterator[Foreign]:
            if self.answer["before"] is None:
                self.answer["before"] = sorted(heads)
                self.send({"event": "before", "heads": sorted(heads)})
            for step in self.steps(request["direction"], request["revision"], heads):
                if step.revision.revision not in allowed:
                    break
                self.step, self.step_commits = step.revision.revision, self.session.commits
                started, counted = time.monotonic(), self.session.statements
                self.send({"event": "revision", "revision": self.step})
                yield step
                message = {"event": "applied", "revision": self.step, "message": (step.doc or "").strip().partition("\n")[0]}
                message.update(seconds=round(time.monotonic() - started, 3), statements=self.session.statements - counted)
                if getattr(context, "_in_external_transaction", False):
                    self.held.append(message)  # env.py opened one transaction around all: nothing is kept before its end
                else:
                    self.send(message)
                self.step, self.step_commits = "", self.session.commits
            self.answer.update(expected=sorted(context.get_current_heads()), relation=self._version_relation(context))

        return work

    @contextlib.contextmanager
    def _guard(self, context: Foreign) -> t.Iterator[None]:
        """The session's advisory lock, polled: one that waits inside the server would deadlock with a concurrent index build."""
        connection = context.connection
        commit = not getattr(context, "_in_external_transaction", False)
        self.session.version_table = context.version_table
        ((pid, begun),) = rows(
            connection, "SELECT pid, extract(epoch FROM backend_start)::text FROM pg_stat_activity WHERE pid = pg_backend_pid()", commit=commit
        )
        settings = self.session.read_back(connection, commit=commit)
        self.send({"event": "session", "pid": pid, "backend_start": begun, "settings": settings})
        key = f"hashtext('alembic'), hashtext({literal(context.version_table)})"
        waited = False
        while not rows(connection, f"SELECT pg_try_advisory_lock({key})", commit=commit)[0][0]:
            if not waited:
                self.send({"event": "waiting", "version_table": context.version_table})
            waited = True
            time.sleep(random.uniform(*POLL_SECONDS))  # noqa: S311
        self.send({"event": "locked"})
        self.locked = True
        self.step_commits = self.session.commits
        try:
            yield
        finally:
            try:
                rows(connection, f"SELECT pg_advisory_unlock({key})", commit=commit)
            except Exception:  # noqa: BLE001 - the connection is broken: ending it releases the lock
                connection.invalidate()


def explain(error: BaseException, step: str) -> Message:
    """An error as the module needs it."""
    state = sqlstate(error)
    ours, driver = isinstance(error, ShimError), not MISSING and isinstance(error, DBAPIError)
    if isinstance(error, ShimError):
        code = error.code
    elif state or driver:
        code = "database" if state or step else "connect"
    elif not MISSING and isinstance(error, CommandError):
        code = "revision"
    else:
        code = "migration" if step else "env"
    kind = "" if ours or driver else f"{type(error).__name__}: "
    cause = error.__cause__ if ours and error.__cause__ is not None else error
    return {"code": code, "message": kind + sentence(error), "sqlstate": state, "revision": step, "traceback_tail": tail(cause)}


def listen(requests: t.BinaryIO, inbox: queue.SimpleQueue[Message]) -> None:
    """Hand requests on; when they end without C(end), the module is dead and so must we be."""
    for line in requests:
        message = json.loads(line)
        inbox.put(message)
        if message["op"] == "end":
            return
    os.kill(os.getpid(), signal.SIGKILL)


def serve(requests: t.BinaryIO, results: t.BinaryIO) -> None:
    """Answer requests until C(end)."""
    sys.argv[:] = ["alembic"]
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(requests, inbox), daemon=True).start()

    def send(message: Message) -> None:
        results.write(json.dumps(message).encode() + b"\n")
        results.flush()

    shim = Shim(send)
    while True:
        request = inbox.get()
        if request["op"] == "end":
            atexit._run_exitfuncs()
            os._exit(0)  # taking a large application's modules apart takes longer than reading its migrations
        try:
            send({"event": "answer", "answer": shim.handle(request)})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - env.py and revisions are the application's code
            send({"event": "error", **explain(error, shim.step)})
