# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migrations of a release beside the database: what is pending, how it is cut, what it means. PRIVATE to the collection.

A picture is made on the host and returned; the action plugin C(alembic_info) makes it again from that to add what squawk finds.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._alembic_hazards import Finding, Kind


@dataclasses.dataclass(frozen=True)
class Pending:
    """One revision between where the database is and the target, with what its SQL means for running code."""

    revision: str
    message: str
    reversible: bool
    """It has a downgrade that can run."""
    sql: str
    findings: tuple[Finding, ...]
    neutral: bool
    """It changes nothing but the recorded number (a merge), so it may stand anywhere."""

    def rules_of(self, kind: Kind) -> list[str]:
        """Names of the rules of one kind that count: allowed ones do not, nor do waits on small tables."""
        counted = [one for one in self.findings if one.kind == kind and one.severity in ("block", "contract")]
        return list(dict.fromkeys(one.rule for one in counted))

    @property
    def unrenderable(self) -> bool:
        """Whether its SQL is not known as a whole."""
        return any(one.rule == "unrenderable" for one in self.findings)

    @property
    def returns(self) -> bool:
        """Whether its downgrade brings back what was there, the values as well."""
        return self.reversible and not any(one.rule == "values-lost" and not one.allowed for one in self.findings)

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
            "reversible": self.returns,
            "neutral": self.neutral,
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
    def findings(self) -> list[Finding]:
        """All findings, in the order of the revisions."""
        return [one for revision in self.pending for one in revision.findings]

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

    def with_findings(self, found: t.Iterable[Finding]) -> Picture:
        """The same with other findings, each at its revision."""
        by_revision: dict[str, list[Finding]] = {}
        for one in found:
            by_revision.setdefault(one.revision, []).append(one)
        return dataclasses.replace(self, pending=tuple(dataclasses.replace(one, findings=tuple(by_revision.get(one.revision, ()))) for one in self.pending))

    def plus(self, found: t.Iterable[Finding]) -> Picture:
        """The same with more findings."""
        return self.with_findings([*self.findings, *found])

    def without_way_back(self, revisions: t.Container[str]) -> Picture:
        """The same where these *revisions* cannot be taken back, whatever their downgrade says."""
        return dataclasses.replace(
            self, pending=tuple(dataclasses.replace(one, reversible=one.reversible and one.revision not in revisions) for one in self.pending)
        )

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

    def as_result(self) -> dict[str, t.Any]:
        """The return values that say what is pending and what it means."""
        reason, known = self.maintenance_reason(), not self.unknown
        return {
            "current": list(self.current),
            "heads": list(self.heads),
            "status": self.status,
            "unknown": list(self.unknown),
            "pending": [one.as_result() for one in self.pending],
            "sql": [{"revision": one.revision, "sql": one.sql} for one in self.pending],
            "findings": [one.as_result() for one in self.findings],
            "phases": {name: list(value) for name, value in dataclasses.asdict(self.phases()).items()},
            "compatible": known and not any(one.contracting for one in self.pending),
            "reversible": known and all(one.returns for one in self.pending),
            "needs_maintenance": bool(reason),
            "needs_maintenance_reason": reason,
            "version_table": ".".join(self.version_relation),
            "other_tables": self.other_tables,
        }

    @classmethod
    def from_result(cls, result: t.Mapping[str, t.Any]) -> Picture:
        """The picture that C(as_result) was made from."""
        sql = {one["revision"]: one["sql"] for one in result["sql"]}
        relation = tuple(result["version_table"].split("."))
        pending = [Pending(one["revision"], one["message"], one["reversible"], sql[one["revision"]], (), one["neutral"]) for one in result["pending"]]
        bare = cls(tuple(result["current"]), tuple(result["heads"]), tuple(result["unknown"]), tuple(pending), relation[-1], relation, result["other_tables"])
        return bare.with_findings(Finding(**one) for one in result["findings"])


__all__ = ("Pending", "Phases", "Picture")
