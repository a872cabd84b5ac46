# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the task's own module; a host that cannot be reached is a failure that ``rescue`` sees."""

from __future__ import annotations

import typing as t

from ansible_collections.lastro.deploy.plugins.plugin_utils._on_host import OnHost


class ActionModule(OnHost):
    """See plugins/modules/host_module.py for the documentation; meta/runtime.yml names the modules that it runs."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        return {**result, **self._execute_module(task_vars=task_vars)}
