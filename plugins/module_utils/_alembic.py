# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application's migrations are, where the database stands and what a migration would do. PRIVATE to the collection.

C(inspect) asks the shim and returns a C(Picture); C(information) is what C(alembic_info) returns; C(_alembic_migrate) acts.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from . import _alembic_rules as rules
from . import _postgres
from ._alembic_child import Child, Project
from ._alembic_errors import bad_option, deadline_passed
from ._argspec import ArgumentSpec

if t.TYPE_CHECKING:
    from ._alembic_child import Message

Direction = t.Literal["upgrade", "downgrade"]
APPLICATION_NAME = "lastro.deploy alembic"


def project_argument_spec() -> ArgumentSpec:
    """The connection options and those that go with the doc fragment C(alembic)."""
    return _postgres.connection_argument_spec().merge(
        ArgumentSpec(
            options={
                "chdir": {"type": "path", "required": True},
                "config": {"type": "str", "default": "alembic.ini"},
                "python": {"type": "path", "required": True},
                "revision": {"type": "str", "default": "heads"},
                "environment": {"type": "dict", "default": {}},
            },
        ),
    )


def info_argument_spec() -> ArgumentSpec:
    """The options of C(alembic_info)."""
    own = ArgumentSpec(options={"from_revision": {"type": "list", "elements": "str"}, "deadline": {"type": "float", "default": 120.0}})
    return project_argument_spec().merge(own)


@dataclasses.dataclass(frozen=True)
class Pending:
    """One revision between where the database is and the target, with what its SQL means for running code."""

    revision: str
    message: str
    reversible: bool
    sql: str
    findings: tuple[rules.Finding, ...]
    neutral: bool
    """It changes nothing but the recorded number (a merge), so it may stand anywhere."""

    def rules_of(self, kind: rules.Kind) -> list[str]:
        """Names of the rules of one kind that it meets."""
        return list(dict.fromkeys(finding.rule.name for finding in self.findings if finding.rule.kind == kind))

    @property
    def contracting(self) -> bool:
        """Whether running code does not survive it."""
        return bool(self.rules_of("contract"))

    def as_result(self) -> dict[str, t.Any]:
        """The revision as a return value."""
        return {
            "revision": self.revision,
            "message": self.message,
            "kind": "contract" if self.contracting else "expand",
            "reversible": self.reversible,
            "breaking_findings": self.rules_of("contract"),
            "blocking_findings": self.rules_of("wait"),
        }


@dataclasses.dataclass(frozen=True)
class Phases:
    """The pending chain cut at its first contracting revision. *misplaced*: expanding revisions behind it."""

    expand: tuple[str, ...]
    contract: tuple[str, ...]
    misplaced: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Picture:
    """The migrations of a release beside the database."""

    current: tuple[str, ...]
    heads: tuple[str, ...]
    unknown: tuple[str, ...]
    pending: tuple[Pending, ...]
    version_table: str
    version_relation: tuple[str, ...]
    other_tables: int

    @property
    def findings(self) -> list[rules.Finding]:
        """All findings, in the order of the revisions."""
        return [finding for one in self.pending for finding in one.findings]

    @property
    def status(self) -> str:
        """One word for it: database_ahead, multiple_heads, unstamped, pending or up_to_date."""
        if self.unknown:
            return "database_ahead"
        if len(self.heads) > 1:
            return "multiple_heads"
        if not self.current and self.other_tables:
            return "unstamped"
        return "pending" if self.pending else "up_to_date"

    def phases(self) -> Phases:
        """Where the chain is cut. A revision that changes nothing is never misplaced."""
        first = next((place for place, one in enumerate(self.pending) if one.contracting), len(self.pending))
        behind = self.pending[first:]
        return Phases(
            expand=tuple(one.revision for one in self.pending[:first]),
            contract=tuple(one.revision for one in behind),
            misplaced=tuple(one.revision for one in behind if not one.contracting and not one.neutral),
        )

    def maintenance_reason(self) -> str:
        """Why users would notice the migration, or an empty text."""
        waiting = [f"{one.revision}: {', '.join(one.rules_of('wait'))}" for one in self.pending if one.rules_of("wait")]
        misplaced = [f"{revision}: expanding behind a contracting revision" for revision in self.phases().misplaced]
        return "; ".join(waiting + misplaced)


def _pending(message: Message, version_table: str, *, upgrade: bool) -> Pending:
    revision, sql = message["revision"], message["sql"]
    found = rules.findings(revision, sql, version_table=version_table)
    if message["unrenderable"]:
        found.append(rules.special(revision, "unrenderable", message["unrenderable"]))
    if upgrade and not message["reversible"]:
        found.append(rules.special(revision, "empty-downgrade", "def downgrade()"))
    neutral = not message["unrenderable"] and not rules.own_statements(sql, version_table)
    return Pending(revision, message["message"], message["reversible"], sql, tuple(found), neutral)


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
    direction: Direction = "upgrade",
    start: t.Sequence[str] | None = None,
    application_name: str = APPLICATION_NAME,
) -> Picture:
    """What lies between the database (or *start*) and *revision*. Writes nothing. Raises LastroError, TimeoutError at *until*."""
    project = child.project
    child.ask({"op": "load", "config": project.config, "url": project.url}, until=until)
    request = {
        "op": "inspect",
        "direction": direction,
        "revision": checked_revision(revision),
        "start": None if start is None else list(start),
        "settings": {"application_name": application_name, "lock_timeout": "5s", "statement_timeout": "60s"},
    }
    answer = child.ask(request, until=until)
    table = answer["version_table"]
    pending = tuple(_pending({**one, "sql": project.redact(one["sql"])}, table, upgrade=direction == "upgrade") for one in answer["pending"])
    return Picture(
        current=tuple(answer["current"]),
        heads=tuple(answer["heads"]),
        unknown=tuple(answer["unknown"]),
        pending=pending,
        version_table=table,
        version_relation=tuple(answer["version_relation"]),
        other_tables=answer["other_tables"],
    )


def information(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What C(alembic_info) returns. Raises LastroError."""
    project = Project.from_params(params)
    until = time.monotonic() + params["deadline"]
    with _postgres.connect(project.settings, application_name=APPLICATION_NAME):
        pass  # a wrong password or a server that is away is said here, in words of the shared kind
    try:
        with Child.start(project) as child:
            picture = inspect(child, revision=params["revision"], until=until, start=params["from_revision"])
    except TimeoutError:
        raise deadline_passed(params["deadline"], "the migrations were read") from None
    return as_result(picture)


def as_result(picture: Picture) -> dict[str, t.Any]:
    """A picture as return values."""
    phases = picture.phases()
    reason = picture.maintenance_reason()
    known = not picture.unknown
    return {
        "current": list(picture.current),
        "heads": list(picture.heads),
        "status": picture.status,
        "unknown": list(picture.unknown),
        "pending": [one.as_result() for one in picture.pending],
        "sql": [{"revision": one.revision, "sql": one.sql} for one in picture.pending],
        "findings": [finding.as_result() for finding in picture.findings],
        "phases": {name: list(value) for name, value in dataclasses.asdict(phases).items()},
        "compatible": known and not any(one.contracting for one in picture.pending),
        "reversible": known and all(one.reversible for one in picture.pending),
        "needs_maintenance": bool(reason),
        "needs_maintenance_reason": reason,
        "version_table": ".".join(picture.version_relation),
    }


__all__ = (
    "APPLICATION_NAME",
    "Direction",
    "Pending",
    "Phases",
    "Picture",
    "as_result",
    "info_argument_spec",
    "information",
    "inspect",
    "project_argument_spec",
)
