# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How findings are weighed: by the size of their table, by what was allowed, and what is refused. PRIVATE to the collection.

Pure functions, used on the host for our own rules and on the controller for those of squawk as well.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._alembic_errors import bad_option, denied
from ._alembic_hazards import SEVERITY, Finding, finding
from ._alembic_rules import Cleared, Reader

if t.TYPE_CHECKING:
    from ._alembic_catalog import Catalog
    from ._alembic_picture import Picture

SMALL, LARGE = 16 << 20, 128 << 20
"""Bytes: an index on SMALL is built, and SMALL is rewritten, in about 0.2 s; LARGE takes one to several seconds."""
PROFILES = ("default", "strict", "off")
UNRENDERABLE = ("contract", "deny", "warn")
OPTIONS: dict[str, t.Any] = {
    "profile": {"type": "str", "default": "default", "choices": list(PROFILES)},
    "deny": {"type": "list", "elements": "str", "default": []},
    "allow": {"type": "list", "elements": "str", "default": []},
    "unrenderable": {"type": "str", "default": "contract", "choices": list(UNRENDERABLE)},
}


@dataclasses.dataclass(frozen=True)
class Lint:
    """What is looked for and what is refused. *allow*: C(rule) or C(revision:rule); *deny*: severities or rules."""

    profile: str = "default"
    deny: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    unrenderable: str = "contract"

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any] | None) -> Lint:
        """From the option C(lint). Raises LastroError where everything would be allowed."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        named: dict[str, t.Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        lint = cls(**named)
        empty = [one for one in (*lint.allow, *lint.deny) if not one.strip(": *")]
        if empty:
            raise bad_option("lint", f"{empty[0]!r} names no rule")
        return lint

    @property
    def on(self) -> bool:
        """Whether anything is read at all."""
        return self.profile != "off"

    def allows(self, one: Finding) -> bool:
        """Whether somebody has looked at it and said that it is fine here."""
        return one.rule in self.allow or f"{one.revision}:{one.rule}" in self.allow

    def refuses(self, one: Finding) -> bool:
        """Whether the module fails because of it."""
        wanted = one.severity in self.deny or one.rule in self.deny or (one.rule == "unrenderable" and self.unrenderable == "deny")
        return wanted and not one.allowed


def scaled(one: Finding, catalog: Catalog | None) -> Finding:
    """*one* with the severity that the size of its table gives: a wait of milliseconds is a note. Unknown counts as large."""
    if one.kind != "wait" or catalog is None:
        return one
    size = catalog.size_of(one.table)
    if size is None or size >= LARGE:
        return one
    return dataclasses.replace(one, severity="note" if size < SMALL else "warn")


def weighed(found: t.Iterable[Finding], lint: Lint, catalog: Catalog | None) -> list[Finding]:
    """The findings with their final severities."""
    weighed_ones = []
    for one in found:
        judged = scaled(one, catalog)
        if one.rule == "unrenderable" and lint.unrenderable == "warn":
            judged = dataclasses.replace(judged, severity="warn")
        if lint.allows(one):
            judged = dataclasses.replace(judged, severity="note", allowed=True)
        weighed_ones.append(judged)
    return weighed_ones


def read_chain(picture: Picture, lint: Lint, catalog: Catalog | None) -> tuple[Picture, list[Cleared]]:
    """*picture* with what our own rules find beside what it has, and what they would have found without the catalog."""
    if not lint.on:
        return picture, []
    reader = Reader(picture.version_table, catalog)
    found = []
    for one in picture.pending:
        found += reader.read(one.revision, one.sql)
        found += one.findings
    return picture.with_findings(weighed(found, lint, catalog)), reader.cleared


def too_narrow(picture: Picture, width: int | None) -> list[Finding]:
    """Revisions whose identifier does not fit into a version table of *width* characters; None is no limit."""
    return [finding(one.revision, "version-table-too-narrow", one.revision) for one in picture.pending if width is not None and len(one.revision) > width]


def refuse_denied(picture: Picture, lint: Lint, facts: t.Mapping[str, t.Any]) -> None:
    """Raises LastroError, with *facts*, where a finding is one that was denied."""
    refused = [one for one in picture.findings if lint.refuses(one)]
    if refused:
        raise denied([f"{one.revision}: {one.rule}{f' on {one.table}' if one.table else ''}" for one in refused], facts)


__all__ = ("OPTIONS", "SEVERITY", "Lint", "read_chain", "refuse_denied", "scaled", "too_narrow", "weighed")
