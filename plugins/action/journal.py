# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes to the journal on the primary and shows the operator the line of a phase that has ended."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.lastro.deploy.plugins.module_utils import _texts

display = Display()

COLOURS = {"ok": "green", "failed": "red", "skipped": "cyan"}


class ActionModule(ActionBase):
    """See plugins/modules/journal.py for the documentation."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module, then show what a result or verdict means."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        outcome = self._execute_module(task_vars=task_vars)
        record = outcome.get("record") or {}
        if not outcome.get("failed"):
            language = self._templar.template((task_vars or {}).get("deploy_language", "en"))
            self._show(record, outcome["seconds"], language)
        return {**result, **outcome}

    @staticmethod
    def _show(record: dict[str, t.Any], seconds: float, language: str) -> None:
        if record.get("kind") not in ("result", "verdict"):
            return
        status = record["status"]
        evidence = {**record.get("evidence", {}), "problem": record.get("problem", "")}
        summary = _texts.phase_summary(record["phase"], status, evidence, language)
        display.display(_texts.line(record["phase"], status, summary, seconds, language), color=COLOURS.get(status, "yellow"))
        remedy = record.get("remedy") or {}
        if status == "failed":
            said = dict.fromkeys([*record.get("problem", "").splitlines(), *remedy.get(language, "").splitlines()])
            for text in said:
                if text not in ("", summary):
                    display.display(f"   {text}", color="red")
