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

import atexit
import contextlib
import json
import os
import queue
import random
import signal
import sys
import threading
import time
import traceback
import typing as t

from ._alembic_shim_script import MISSING, Script, message_of, name_of
from ._alembic_shim_session import Session, ShimError, chain, literal, rows, sentence, sqlstate
from ._alembic_shim_trace import Trace

if not MISSING:
    from alembic.autogenerate.api import RevisionContext
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

if t.TYPE_CHECKING:
    from ._alembic_shim_session import Foreign

    Message = dict[str, t.Any]
    Send = t.Callable[[Message], None]

RETRYABLE = ("55P03", "40P01")
POLL_SECONDS = (0.1, 0.3)
LONGEST_DELAY = 30.0


def tail(error: BaseException) -> list[str]:
    """Where an error happened: the last frames and its first line, never parameters."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    lines = [f'File "{frame.filename}", line {frame.lineno}, in {frame.name}: {frame.line or ""}'.rstrip(" :") for frame in frames]
    return [*lines, f"{type(error).__name__}: {sentence(error)}"]


class Shim:
    """The operations: C(load), C(inspect), C(migrate), C(check)."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.session = Session()
        self.script = Script()
        self.step: str = ""
        self.step_commits = 0
        self.held: list[Message] = []
        self.answer: Message = {}
        self.locked = False

    def handle(self, request: Message) -> Message:
        """Answer one request."""
        operation: t.Callable[[Message], Message] = {"load": self.load, "inspect": self.inspect, "migrate": self.migrate, "check": self.check}[request["op"]]
        return operation(request)

    def load(self, request: Message) -> Message:
        """Read the configuration and the revision files, and hear every connection from now on."""
        heads = self.script.load(request)
        self.session.listen()
        return {"heads": heads}

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
        self.script.run_env(capture, dont_mutate=True)
        if not state:
            raise ShimError("env", "env.py never calls context.run_migrations().")
        state["heads"] = sorted(self.script.directory.get_heads())
        known = {script.revision for script in self.script.directory.walk_revisions()} if state["current"] else set()
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
        script, current = self.script, tuple(state["current"])
        direction, revision = request["direction"], request["revision"]
        start = current
        if request.get("start") is not None:
            start = tuple(one.revision for name in request["start"] for one in script.directory.get_revisions(name) if one)
        elif state["unknown"]:
            return []
        target = current if revision == "current" else revision
        if revision == "current" and (not current or state["unknown"]):
            return []
        # Rendered steps are changed by the rendering, so it gets its own.
        steps = script.steps(direction, target, start)
        wanted = steps and request["render"]
        sql, problems = script.render(script.steps(direction, target, start), start) if wanted else ({}, {"": "it was not asked for"})
        return [script.describe(step, sql, problems) for step in steps]

    def check(self, request: Message) -> Message:
        """How the database differs from the application's models, as C(alembic check) sees it: C(differences)."""
        self.session.settings = {**request["settings"], "default_transaction_read_only": "on"}
        self.session.concurrent = {}
        arguments = {"message": None, "autogenerate": True, "sql": False, "head": "head", "splice": False, "branch_label": None}
        arguments.update(version_path=None, rev_id=None, depends_on=None)
        comparison = RevisionContext(self.script.config, self.script.directory, arguments)

        def compare(heads: tuple[str, ...], context: Foreign) -> list[Foreign]:
            comparison.run_autogenerate(heads, context)
            return []

        try:
            self.script.run_env(compare, as_sql=False, template_args=comparison.template_args)
        except CommandError as error:
            raise ShimError("models", sentence(error)) from error
        found = [one for operations in comparison.generated_revisions[-1].upgrade_ops_list for one in operations.as_diffs()]
        return {"differences": [difference_text(one) for one in found]}

    def migrate(self, request: Message) -> Message:
        """Apply the allowed revisions; again after a lock or deadlock error as long as the revision committed nothing."""
        session = self.session
        session.settings = request["settings"]
        session.concurrent = request["concurrent"]
        session.repair = request["repair"]
        session.trace = Trace() if request.get("trace") else None
        self.answer = {"before": None}
        tries = 0
        while True:
            self.step, self.step_commits, self.held = "", session.commits, []
            try:
                self.script.run_env(self._work(request), guard=self._guard)
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
            for step in self.script.steps(request["direction"], request["revision"], heads)[: request.get("most")]:
                if name_of(step) not in allowed:
                    break
                self.step, self.step_commits = name_of(step), self.session.commits
                started, counted = time.monotonic(), self.session.statements
                self.send({"event": "revision", "revision": self.step})
                yield step
                message: Message = {"event": "applied", "revision": self.step, "message": message_of(step)}
                message.update(seconds=round(time.monotonic() - started, 3), statements=self.session.statements - counted)
                if self.session.trace:
                    message["trace"] = self.session.trace.take()
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


def difference_text(difference: Foreign) -> str:
    """One difference between the models and the database in a line: what would be done, and to what."""
    if isinstance(difference, list):
        return "; ".join(difference_text(one) for one in difference)
    operation, *rest = difference
    words = [str(one) if isinstance(one, str) else str(getattr(one, "name", "") or "") for one in rest if isinstance(one, str) or hasattr(one, "name")]
    return " ".join([str(operation), ".".join(word for word in words if word)])


def explain(error: BaseException, step: str) -> Message:
    """An error as the module needs it. Of a connection that broke, what cleaning up after it says is not told."""
    error = next((one for one in chain(error) if getattr(one, "connection_invalidated", False)), error)
    state = sqlstate(error)
    ours, driver = isinstance(error, ShimError), not MISSING and isinstance(error, DBAPIError)
    if isinstance(error, ShimError):
        code = error.code
    elif state or driver:
        code = "database" if state or step else "connect"
    elif not MISSING and isinstance(error, CommandError):
        code = "revision"
    else:
        code = "migration" if step else "flask_context" if "Working outside of application context" in str(error) else "env"
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
