# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a host's part in a phase with one message that holds all findings."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """See plugins/modules/findings.py for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Fail with every finding: what is wrong, and the remedies in both languages."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _valid, options = self.validate_argument_spec(
            argument_spec={"host": {"type": "str", "required": True}, "findings": {"type": "list", "elements": "dict", "required": True}}
        )
        found = options["findings"]
        problems = [_subject(finding) + finding["problem"] for finding in found]
        remedy = {language: " ".join(dict.fromkeys(finding.get("remedy", {}).get(language, "") for finding in found)) for language in ("en", "pt_BR")}
        problem = f"{options['host']}: " + "; ".join(problems) if len(found) == 1 else f"{len(found)} findings on {options['host']}: " + "; ".join(problems)
        return {**result, "failed": True, "msg": f"{problem} {remedy['en']}", "problem": problem, "remedy": remedy, "findings": found}


def _subject(finding: dict[str, t.Any]) -> str:
    subject = finding.get("variable") or finding.get("target") or ""
    return f"{subject}: " if subject else ""
