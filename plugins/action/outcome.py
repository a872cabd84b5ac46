# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a run: shows the outcome, and makes the command exit non-zero unless it is one that was hoped for."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.lastro.deploy.plugins.module_utils import _texts

display = Display()


class ActionModule(ActionBase):
    """See plugins/modules/outcome.py for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Show the last line of the run."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _valid, options = self.validate_argument_spec(
            argument_spec={
                "outcome": {"type": "str", "required": True},
                "serves": {"type": "dict", "default": {}},
                "report": {"type": "str", "default": ""},
                "language": {"type": "str", "default": "en"},
                "expected": {"type": "list", "elements": "str", "required": True},
            }
        )
        line = _texts.outcome_line(options, options["language"])
        if options["outcome"] in options["expected"]:
            display.display(line, color="green")
            return {**result, "changed": False, "outcome": options["outcome"]}
        return {**result, "failed": True, "msg": line, "outcome": options["outcome"]}
