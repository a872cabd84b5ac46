# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes to the journal on the primary and shows the operator the line of a phase that has ended."""

from __future__ import annotations

import typing as t

from ansible.utils.display import Display
from ansible_collections.lastro.deploy.plugins.module_utils import _texts
from ansible_collections.lastro.deploy.plugins.plugin_utils._on_host import OnHost

display = Display()

COLOURS = {"ok": "green", "failed": "red", "skipped": "cyan"}


class ActionModule(OnHost):
    """See plugins/modules/journal.py for the documentation."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module, then show what a result or verdict means."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        outcome = self._execute_module(task_vars=task_vars)
        language = self._templar.template((task_vars or {}).get("deploy_language", "en"))
        if "unreached" in outcome:
            display.display(_texts.lost_primary(outcome["problem"], language), color="red")
        elif not outcome.get("failed"):
            self._show(outcome.get("record") or {}, outcome["seconds"], language)
            self._renew(outcome["run"]["phases"], task_vars or {})
        return {**result, **outcome}

    def _renew(self, phases: dict[str, str], task_vars: dict[str, t.Any]) -> None:
        """While a maintenance of this run is on, its timers on the proxy's hosts need to know that the run lives."""
        options = self._task.args
        if phases.get("maintenance_enter") == "ok" and "maintenance_leave" not in phases and options.get("lease_seconds"):
            lease = {"state_dir": options["state_dir"], "run_id": options["run_id"], "seconds": options["lease_seconds"]}
            self._renew_elsewhere(options.get("renew_on") or (), lease, task_vars)

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
