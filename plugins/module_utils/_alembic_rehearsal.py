# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the pending revisions on a throw-away copy, up and down again, and says what they did. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

from . import _postgres
from ._alembic_child import Child, Project
from ._alembic_copy import APPLICATION_NAME, Copy
from ._alembic_hazards import Finding, finding
from ._errors import LastroError

if t.TYPE_CHECKING:
    from ._alembic_child import Message
    from ._alembic_picture import Picture

LONG = 1.0
"""Seconds for which a lock may be held before it counts."""
SETTINGS = {"application_name": APPLICATION_NAME, "lock_timeout": "10s", "statement_timeout": "0", "client_connection_check_interval": "1s"}
_UNREAD = ("opaque-block", "unrenderable")


@dataclasses.dataclass
class Rehearsal:
    """What came out. *revisions*: {revision, seconds, statements, locks, rewrites, removed}; *not_reverted*: {revision, what}."""

    rows: bool
    seconds: float = 0.0
    revisions: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    reverted: list[str] = dataclasses.field(default_factory=list)
    not_reverted: list[dict[str, str]] = dataclasses.field(default_factory=list)
    failed_revision: str = ""
    problem: str = ""

    def as_result(self) -> dict[str, t.Any]:
        """The rehearsal as a return value."""
        every = [(one["revision"], one) for one in self.revisions]
        return {
            **dataclasses.asdict(self),
            "long_locks": [{"revision": name, **lock} for name, one in every for lock in one["locks"] if lock["seconds"] > LONG],
            "rewrites": [{"revision": name, **rewrite} for name, one in every for rewrite in one["rewrites"]],
            "irreversible": list(dict.fromkeys(one["revision"] for one in self.not_reverted)),
        }

    def findings(self, read: t.Sequence[Finding]) -> list[Finding]:
        """What reading the SQL (*read*) has not found already."""
        known = {(one.revision, one.table, one.kind) for one in read if one.rule not in _UNREAD}
        found = []
        for one in self.revisions:
            name = one["revision"]
            found += [finding(name, "rehearsal-rewrite", each["statement"], each["table"]) for each in one["rewrites"]]
            found += [
                finding(name, "rehearsal-lock", f"{each['mode']} for {each['seconds']:.1f} s", each["table"]) for each in one["locks"] if each["seconds"] > LONG
            ]
            found += [finding(name, "rehearsal-removal", each, _table(each)) for each in one["removed"]]
        found += [finding(each["revision"], "rehearsal-not-reverted", each["what"]) for each in self.not_reverted]
        if self.problem:
            found.append(finding(self.failed_revision, "rehearsal-failed", self.problem))
        return [dataclasses.replace(one, engine="rehearsal") for one in found if (one.revision, one.table, one.kind) not in known]


def _table(line: str) -> str:
    """The table of a line of the schema."""
    _kind, _space, rest = line.partition(" ")
    name = rest.split(" ")[0]
    return name.rpartition(".")[0] if line.startswith("column ") else name


def _removed(before: frozenset[str], after: frozenset[str]) -> list[str]:
    """Columns, relations and functions whose names were there and are not any more."""

    def names(lines: frozenset[str]) -> set[str]:
        return {" ".join(line.split(" ")[:2]) for line in lines if line.startswith(("column ", "relation ", "function "))}

    return sorted(names(before) - names(after))


class _Stage:
    """Listens to the shim and compares the copy's schema after each revision."""

    def __init__(self, copy: Copy, picture: Picture) -> None:
        self.copy = copy
        self.picture = picture
        self.result = Rehearsal(copy.rows)
        self.schemas = [copy.schema(picture.version_table)]

    def up(self, message: Message) -> None:
        """One revision was applied."""
        self._note(message)
        if message["event"] == "applied":
            self.schemas.append(self.copy.schema(self.picture.version_table))
            removed = _removed(*self.schemas[-2:])
            self.result.revisions.append({"revision": message["revision"], "seconds": message["seconds"], **message["trace"], "removed": removed})

    def down(self, message: Message) -> None:
        """One revision was taken back: the schema must be what it was before it."""
        self._note(message)
        if message["event"] == "applied":
            self.schemas.pop()
            was, now = self.schemas[-1], self.copy.schema(self.picture.version_table)
            different = [f"missing: {one}" for one in sorted(was - now)] + [f"left over: {one}" for one in sorted(now - was)]
            said = [one["what"] for one in self.result.not_reverted]
            self.result.not_reverted += [{"revision": message["revision"], "what": one} for one in different if one not in said]
            self.result.reverted.append(message["revision"])

    def _note(self, message: Message) -> None:
        if message["event"] == "revision":
            self.result.failed_revision = message["revision"]


def _request(direction: str, revision: str, allowed: t.Sequence[str]) -> Message:
    """One revision only: what comes next must not change the schema while it is read."""
    limits = {"retries": 0, "retry_delay": 0.0, "repair": False, "concurrent": {"lock_timeout": "0"}, "settings": SETTINGS}
    return {"op": "migrate", "direction": direction, "revision": revision, "allowed": list(allowed), "most": 1, "trace": True, **limits}


def _play(child: Child, stage: _Stage, revision: str, *, until: float) -> None:
    """Up, and down again as far as there is a way. Raises LastroError, TimeoutError."""
    picture = stage.picture
    names = [one.revision for one in picture.pending]
    for _each in names:
        child.ask(_request("upgrade", revision, names), until=until, on_event=stage.up)
    stage.result.seconds = round(sum(one["seconds"] for one in stage.result.revisions), 3)
    # The way down from several heads to several others has no name in Alembic.
    if len(picture.current) <= 1:
        back = [one.revision for one in itertools.takewhile(lambda one: one.reversible, reversed(picture.pending))]
        target = picture.current[0] if picture.current else "base"
        for _again in back:
            child.ask(_request("downgrade", target, back), until=until, on_event=stage.down)
    stage.result.failed_revision = ""


def rehearse(project: Project, picture: Picture, copy: Copy, *, revision: str, until: float) -> Rehearsal:
    """Run what is pending on *copy*. Raises TimeoutError at *until*; what fails on the copy is in the result."""
    there = project.with_url(copy.settings.url())
    stage = _Stage(copy, picture)
    try:
        with Child.start(there) as child:
            child.ask({"op": "load", **there.request()}, until=until)
            _play(child, stage, revision, until=until)
    except LastroError as error:
        stage.result.problem = _postgres.redact(error.message, copy.settings, project.settings)
    return stage.result


__all__ = ("Rehearsal", "rehearse")
