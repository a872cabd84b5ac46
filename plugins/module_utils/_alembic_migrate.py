# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a database to a revision, up or down, with bounded locks. PRIVATE to the collection: may change at any time.

C(plan) decides which revisions run; check mode stops there. C(migrate) has the shim run exactly those.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import typing as t

from . import _alembic_errors as errors
from . import _alembic_rules as rules
from . import _progress
from ._alembic import OLD_TRANSACTION, Direction, inspect, judge, models, project_argument_spec
from ._alembic_child import Child, Project
from ._alembic_hazards import finding
from ._alembic_lint import Lint, refuse_denied
from ._alembic_picture import Pending, Picture
from ._alembic_watch import APPLICATION_NAME, Watch, refuse_unfit, session_of_our_own
from ._argspec import ArgumentSpec
from ._errors import LastroError

if t.TYPE_CHECKING:
    from ._alembic_child import Message

DURATION = re.compile(r"\d+(us|ms|s|min|h|d)?\Z")
CHECK_INTERVAL = "1s"
POLL = 0.2
DIRECTIONS: dict[str, Direction] = {"upgraded": "upgrade", "downgraded": "downgrade", "stamped": "stamp"}
BLOCKERS: dict[str, t.Any] = {
    "max_transaction_age": {"type": "float", "default": OLD_TRANSACTION},
    "action": {"type": "str", "default": "report", "choices": ["report", "wait", "fail"]},
}


def argument_spec() -> ArgumentSpec:
    """The options of C(alembic)."""
    own = ArgumentSpec(
        options={
            "state": {"type": "str", "default": "upgraded", "choices": list(DIRECTIONS)},
            "contracting": {"type": "list", "elements": "str", "default": []},
            "phase": {"type": "str", "default": "any", "choices": ["any", "expand", "contract"]},
            "lock_timeout": {"type": "str", "default": "2s"},
            "statement_timeout": {"type": "str", "default": "15min"},
            "concurrent_lock_timeout": {"type": "str", "default": "10min"},
            "deadline": {"type": "float", "default": 3600.0},
            "retries": {"type": "int", "default": 10},
            "retry_delay": {"type": "float", "default": 1.0},
            "repair": {"type": "str", "default": "drop", "choices": ["none", "reindex", "drop"]},
            "blockers": {"type": "dict", "default": {}, "options": BLOCKERS},
            "accept_loss": {"type": "bool", "default": False},
            "application_name": {"type": "str", "default": "lastro.deploy migrate"},
        },
    )
    return project_argument_spec().merge(own).merge(_progress.progress_argument_spec())


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long anything may take; server durations as PostgreSQL writes them, *deadline* and *retry_delay* in seconds."""

    lock_timeout: str
    statement_timeout: str
    concurrent_lock_timeout: str
    deadline: float
    retries: int
    retry_delay: float

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Limits:
        """From the options. Raises LastroError for a value that makes no sense."""
        limits = cls(**{field.name: params[field.name] for field in dataclasses.fields(cls)})
        for name in ("lock_timeout", "statement_timeout", "concurrent_lock_timeout"):
            if not DURATION.match(getattr(limits, name)):
                raise errors.bad_option(name, f"{getattr(limits, name)!r} is not a duration like 500ms, 2s or 15min")
        if limits.deadline <= 0 or limits.retries < 0 or limits.retry_delay < 0:
            raise errors.bad_option("deadline, retries, retry_delay", "none of them may be negative, and the deadline not zero")
        return limits


def plan(picture: Picture, *, direction: Direction, revision: str, phase: str) -> tuple[Pending, ...]:
    """The revisions that a run applies, in order. Raises LastroError where the release and the database do not allow it."""
    if picture.unknown:
        raise errors.database_ahead(picture.unknown)
    if direction == "stamp":
        return picture.pending
    if direction == "downgrade":
        stuck = [one.revision for one in picture.pending if not one.reversible]
        if stuck:
            raise errors.irreversible(stuck)
        return picture.pending
    if len(picture.heads) > 1 and revision in ("head", "heads"):
        raise errors.several_heads(picture.heads)
    if phase == "any":
        return picture.pending
    phases = picture.phases()
    if phases.misplaced:
        raise errors.misplaced(phases.misplaced, phases.contract[0])
    if phase == "contract" and any(not one.neutral for one in picture.pending[: len(phases.expand)]):
        raise errors.expand_first(phases.expand)
    wanted = {"expand": phases.expand, "contract": phases.expand + phases.contract}[phase]
    return tuple(one for one in picture.pending if one.revision in wanted)


def losses(steps: t.Sequence[Pending], watch: Watch, *, version_table: str) -> list[dict[str, str]]:
    """What a downgrade would remove that holds rows: {revision, what}."""
    found = []
    renamed = any(rules.renames(one.sql) for one in steps)
    for one in steps:
        if one.unrenderable:
            found.append({"revision": one.revision, "what": "its downgrade cannot be rendered as SQL"})
        for loss in rules.losses(one.revision, one.sql, version_table=version_table):
            holds = watch.holds_rows(loss)
            if holds or (holds is None and renamed):
                found.append({"revision": one.revision, "what": loss.what})
    return found


class Run:
    """One migration: what the shim tells on the way, and the facts for success and failure alike."""

    def __init__(self, steps: t.Sequence[Pending], picture: Picture, watch: Watch, progress: _progress.Progress) -> None:
        self.steps = steps
        self.picture = picture
        self.watch = watch
        self.progress = progress
        self.before = list(picture.current)
        self.settings: dict[str, str] = {}
        self.applied: list[dict[str, t.Any]] = []
        self.tries: dict[str, int] = {}
        self.repaired: list[str] = []
        self.waiting = False
        self.revision = ""

    def hear(self, message: Message) -> None:
        """Take in one event of the shim."""
        self.watch.hear(message)
        kind = message["event"]
        if kind == "session":
            self.settings = message["settings"]
        elif kind == "before":
            self.before = message["heads"]
        elif kind == "revision":
            self.revision = message["revision"]
        elif kind == "retry":
            self.tries[message["revision"]] = self.tries.get(message["revision"], 0) + 1
        elif kind == "applied":
            named = {name: message[name] for name in ("revision", "message", "seconds", "statements")}
            self.applied.append({**named, "retried": self.tries.get(message["revision"], 0)})
        self.waiting = kind == "waiting" or (self.waiting and kind not in ("locked", "session"))
        self.show()

    def show(self) -> None:
        """Report how far it is."""
        self.progress(len(self.applied), len(self.steps), "revisions")

    def tick(self) -> None:
        """What happens several times a second."""
        self.watch.tick()
        self.show()

    def facts(self, after: t.Sequence[str] | None) -> dict[str, t.Any]:
        """Return values that success and failure share; *after* is None where the server does not say it any more."""
        if after is None:
            after = [self.applied[-1]["revision"]] if self.applied else self.before
        return {
            "changed": bool(self.applied),
            "before": self.before,
            "after": list(after),
            "applied": self.applied,
            "settings": self.settings,
            "blockers": self.watch.blockers,
            "invalid_indexes": self.watch.invalid_indexes(),
            "repaired_indexes": self.repaired,
            "retried": sum(self.tries.values()),
        }


def migrate(child: Child, run: Run, request: Message, *, until: float, deadline: float) -> dict[str, t.Any]:
    """Run it and verify it in the database. Raises LastroError with the facts of what was done and who was in the way."""
    relation: t.Sequence[str] = run.picture.version_relation
    try:
        answer = child.ask(request, until=until, on_event=run.hear, tick=run.tick)
    except TimeoutError:
        child.kill()
        what = "another migration held the lock" if run.waiting else f"revision {run.revision or '-'} ran"
        raise _stopped(errors.deadline_passed(deadline, what), run, relation) from None
    except LastroError as error:
        raise _stopped(error, run, relation) from error
    run.repaired += answer["repaired"]
    relation = answer["relation"]
    after = run.watch.heads(relation)
    if after != answer["expected"]:
        raise _stopped(errors.not_there(answer["expected"], after or []), run, relation)
    return run.facts(after)


def _stopped(error: LastroError, run: Run, relation: t.Sequence[str]) -> LastroError:
    """*error* with the facts, when nothing of the migration runs any more; a lock error names who held it."""
    run.watch.end_session()
    found = run.watch.found()
    blamed = found and (error.facts.get("sqlstate") in ("55P03", "40P01") or error.facts.get("code") == "deadline")
    message = error.message + (" In the way: " + "; ".join(str(one) for one in found[:3]) + "." if blamed else "")
    after = run.watch.heads(relation)
    return LastroError(message, remedy=error.remedy, **{**error.facts, **run.facts(after)})


def _diff(steps: t.Sequence[Pending], direction: Direction) -> list[dict[str, str]]:
    """The SQL of each revision, as what a diff adds."""
    shown = []
    for one in steps:
        text = one.sql or "-- this revision cannot be rendered as SQL\n"
        header = f"{direction} {one.revision} {one.message}".rstrip()
        shown.append({"before": "", "after": text, "before_header": header, "after_header": header})
    return shown


def _request(params: t.Mapping[str, t.Any], limits: Limits, steps: t.Sequence[Pending]) -> Message:
    return {
        "op": "migrate",
        "direction": DIRECTIONS[params["state"]],
        "revision": params["revision"],
        "allowed": [one.revision for one in steps],
        "retries": limits.retries,
        "retry_delay": limits.retry_delay,
        "repair": params["repair"] != "none",
        "settings": {
            "application_name": params["application_name"],
            "lock_timeout": limits.lock_timeout,
            "statement_timeout": limits.statement_timeout,
            "idle_in_transaction_session_timeout": "0",
            "client_connection_check_interval": CHECK_INTERVAL,
        },
        "concurrent": {"lock_timeout": limits.concurrent_lock_timeout, "statement_timeout": "0"},
    }


def wait_for_others(run: Run, age: float, action: str, *, until: float, deadline: float) -> None:
    """Say which transactions are older than *age*, wait until there is none, or stop. Raises LastroError; nothing was changed then."""
    while True:
        old = run.watch.look_for_old(age)
        if not old or action == "report":
            return
        if action == "fail" or time.monotonic() > until:
            error = errors.old_transactions([str(one) for one in old], age, waited=deadline if action == "wait" else 0)
            raise LastroError(error.message, remedy=error.remedy, **{**error.facts, **run.facts(None)})
        run.show()
        time.sleep(POLL)


def _act(child: Child, run: Run, params: t.Mapping[str, t.Any], limits: Limits, *, until: float) -> dict[str, t.Any]:
    """Apply the steps, if there are any, and put right what the database shows afterwards. Raises LastroError."""
    result: dict[str, t.Any] = {}
    if run.steps:
        wait_for_others(run, params["blockers"]["max_transaction_age"], params["blockers"]["action"], until=until, deadline=limits.deadline)
        result = migrate(child, run, _request(params, limits, run.steps), until=until, deadline=limits.deadline)
    if params["repair"] == "reindex":
        run.repaired += run.watch.reindex(limits.concurrent_lock_timeout, seconds=until - time.monotonic())
    return {**run.facts(result.get("after")), "changed": bool(run.steps or run.repaired)} if run.repaired or not result else result


def run_module(params: t.Mapping[str, t.Any], *, check_mode: bool) -> dict[str, t.Any]:
    """What C(alembic) does and returns. Raises LastroError."""
    limits, lint = Limits.from_params(params), Lint.from_params(params["lint"])
    direction = DIRECTIONS[params["state"]]
    _check_combination(params, lint)
    project = Project.from_params(params)
    until = time.monotonic() + limits.deadline
    with contextlib.ExitStack() as stack:
        # It imports the application's libraries while we connect.
        child = stack.enter_context(Child.start(project))
        session = stack.enter_context(
            session_of_our_own(project.settings, application_name=APPLICATION_NAME, autocommit=True, statement_timeout="10s", lock_timeout="2s")
        )
        refuse_unfit(session, project.settings)
        watch = Watch(session)
        name = params["application_name"]
        try:
            picture = inspect(child, revision=params["revision"], until=until, lint=lint, direction=direction, application_name=name)
        except TimeoutError:
            raise errors.deadline_passed(limits.deadline, "the migrations were read") from None
        picture = picture.plus(finding(one, "named-contracting", one) for one in params["contracting"])
        picture, _facts = judge(session, picture, lint, upgrade=direction == "upgrade")
        steps = plan(picture, direction=direction, revision=params["revision"], phase=params["phase"])
        lost = losses(steps, watch, version_table=picture.version_table) if direction == "downgrade" else []
        if lost and not params["accept_loss"]:
            raise errors.data_loss(lost)
        run = Run(steps, picture, watch, _progress.file_progress(params.get("progress_file")))
        common = {
            "planned": [one.as_result() for one in steps],
            "findings": [each.as_result() for one in steps for each in one.findings],
            "losses": lost,
            "diff": _diff(steps, direction),
            "model_differences": [],
        }
        if direction == "upgrade":
            refuse_denied(picture, lint, {"findings": common["findings"]})
        if check_mode:
            return {**run.facts(None), "changed": bool(steps), **common}
        result = {**common, **_act(child, run, params, limits, until=until)}
        return {**result, "model_differences": models(child, until=until)} if params["check_models"] else result


def _check_combination(params: t.Mapping[str, t.Any], lint: Lint) -> None:
    """Raises LastroError where options contradict each other."""
    if params["state"] == "downgraded" and params["revision"] in ("head", "heads", "current"):
        raise errors.bad_option("revision", "state downgraded needs the revision to go back to (base for none)")
    if params["phase"] != "any" and (not lint.on or params["state"] != "upgraded"):
        raise errors.bad_option("phase", "expand and contract need state upgraded, and a lint profile that tells one from the other")
    if params["state"] == "downgraded" and not lint.on and not params["accept_loss"]:
        raise errors.bad_option("lint", "with profile off nothing can be said of what a downgrade loses; say accept_loss: true if that is meant")


__all__ = ("Limits", "Run", "argument_spec", "losses", "migrate", "plan", "run_module", "wait_for_others")
