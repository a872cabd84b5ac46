# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds what squawk, on the controller, finds in the revisions that the module has rendered on the host."""

from __future__ import annotations

import typing as t

from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_squawk
from ansible_collections.lastro.deploy.plugins.module_utils._alembic_lint import Lint, refuse_denied
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.plugin_utils._on_host import OnHost


class ActionModule(OnHost):
    """See plugins/modules/alembic_info.py for the documentation."""

    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module with nothing denied, lint its SQL here, and judge what both have found."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        given = self._task.args.get("lint") or {}
        arguments = {**self._task.args, "lint": {**given, "deny": [], "unrenderable": given.get("unrenderable", "contract").replace("deny", "contract")}}
        outcome: dict[str, t.Any] = self._execute_module(module_name="lastro.deploy.alembic_info", module_args=arguments, task_vars=task_vars)
        if outcome.get("failed"):
            return {**result, **outcome}
        try:
            lint = Lint.from_params(given)
            outcome.update(_alembic_squawk.with_squawk(outcome, lint, _alembic_squawk.program()))
            refuse_denied(_alembic_squawk.Picture.from_result(outcome), lint, {})
        except LastroError as error:
            outcome.update(failed=True, **error.as_result())
        return {**result, **outcome}
