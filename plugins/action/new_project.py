# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a project of the user's own on the controller."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible_collections.lastro.deploy.plugins.module_utils import _new_project
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError


class ActionModule(ActionBase):
    """See plugins/modules/new_project.py for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Write the files that are missing; in check mode say which."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _checked, options = self.validate_argument_spec(argument_spec={"src": {"type": "path", "required": True}, "dest": {"type": "path", "required": True}})
        dest = Path(options["dest"]).absolute()
        try:
            plan = _new_project.make_plan(Path(options["src"]), dest)
            if not self._task.check_mode:
                _new_project.write(plan, dest)
        except LastroError as error:
            return {**result, "failed": True, **error.as_result()}
        if self._task.diff:
            result["diff"] = [_difference(dest / file.name, file.content) for file in plan]
        return {**result, "changed": bool(plan), "dest": str(dest), "files": [file.name for file in plan]}


def _difference(path: Path, content: bytes) -> dict[str, str]:
    return {"before_header": str(path), "after_header": str(path), "before": "", "after": content.decode(errors="replace")}
