# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check found wrong, as one list for the user. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import dataclasses
import typing as t

from ._errors import LastroError, Text


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with *subject* (a variable, a target, a check) and what to do; holds no secret."""

    subject: str
    problem: str
    remedy: Text

    def as_result(self, key: str) -> dict[str, t.Any]:
        """The finding as a return value: ``{key: subject, problem, remedy: {en, pt_BR}}``."""
        return {key: self.subject, "problem": self.problem, "remedy": self.remedy._asdict()}


def from_error(subject: str, error: LastroError) -> Finding:
    """The finding that says of *subject* what *error* says."""
    return Finding(subject=subject, problem=error.message.rstrip("."), remedy=error.remedy)


def findings_error(heading: str, findings: t.Sequence[Finding], /, **facts: object) -> LastroError:
    """One error that lists all *findings*, each with its remedy; *facts* become return values."""
    problems = "".join(f"\n- {finding.subject}: {finding.problem}" for finding in findings)
    english = dict.fromkeys(f"{finding.subject}: {finding.remedy.en}" for finding in findings)
    portuguese = dict.fromkeys(f"{finding.subject}: {finding.remedy.pt_BR}" for finding in findings)
    remedy = Text(en="What to do:\n- " + "\n- ".join(english), pt_BR="O que fazer:\n- " + "\n- ".join(portuguese))
    return LastroError(f"{heading}:{problems}", remedy=remedy, **facts)


__all__ = ("Finding", "findings_error", "from_error")
