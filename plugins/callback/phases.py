# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a run's own lines and hides Ansible's, unless more is asked for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: phases
type: stdout
short_description: The lines of a deploy alone
description:
  - The phases print their own line. This callback hides Ansible's plays, tasks and results, so that these lines stand alone.
  - Failures that nothing handles, unreachable hosts and diffs are shown. With C(-v) everything is as with the default callback.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

import typing as t

from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.callback.default import CallbackModule as DefaultCallback

HIDDEN = (
    "v2_playbook_on_start",
    "v2_playbook_on_play_start",
    "v2_playbook_on_task_start",
    "v2_playbook_on_cleanup_task_start",
    "v2_playbook_on_handler_task_start",
    "v2_playbook_on_include",
    "v2_playbook_on_no_hosts_matched",
    "v2_playbook_on_stats",
    "v2_runner_on_start",
    "v2_runner_on_ok",
    "v2_runner_on_skipped",
    "v2_runner_on_async_poll",
    "v2_runner_retry",
    "v2_runner_item_on_ok",
    "v2_runner_item_on_failed",
    "v2_runner_item_on_skipped",
)


def _nothing(*_arguments: object, **_keywords: object) -> None:
    """What a hidden event does."""


class CallbackModule(DefaultCallback):
    """The default callback, silent about what goes well."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lastro.deploy.phases"

    def set_options(self, task_keys: t.Any = None, var_options: t.Any = None, direct: t.Any = None) -> None:  # noqa: ANN401 - Ansible's signature
        """Hide the events that only -v shows."""
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        if self._display.verbosity == 0:
            for name in HIDDEN:
                setattr(self, name, _nothing)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Show a failure that no rescue handles: the phase's own line tells of the others."""
        if self._display.verbosity > 0:
            super().v2_runner_on_failed(result, ignore_errors)
        elif not (ignore_errors or _handled(result.task)):
            host = result.host.get_name()
            subject = "" if host == "localhost" else f"{host}: "
            self._display.display(f"✖ {subject}{result.result.get('msg', 'failed')}", color="red")


def _handled(task: t.Any) -> bool:  # noqa: ANN401 - a task or a block
    parent = task._parent
    while parent is not None:
        if getattr(parent, "rescue", None):
            return True
        parent = parent._parent
    return False
