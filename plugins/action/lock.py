# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the lock, also from a holder whose controller process on this machine has died."""

from __future__ import annotations

import typing as t

from ansible_collections.lastro.deploy.plugins.module_utils._controller import has_died
from ansible_collections.lastro.deploy.plugins.plugin_utils._on_host import OnHost


class ActionModule(OnHost):
    """See plugins/modules/lock.py for the documentation."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module; once more where the holder that refused us is known to be dead."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        outcome = self._execute_module(task_vars=task_vars)
        holder = outcome.get("holder") or {}
        if outcome.get("failed") and holder and has_died(holder.get("controller", {})):
            arguments = {**self._task.args, "dead_run_id": holder["run_id"]}
            outcome = self._execute_module(module_args=arguments, task_vars=task_vars)
        return {**result, **outcome}
