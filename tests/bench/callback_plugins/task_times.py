# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes each task of a run as a JSON line into the file that LASTRO_TASK_TIMES names."""

from __future__ import annotations

import json
import os
import time
import typing as t
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_times
type: aggregate
short_description: Seconds of each task
description: For the benchmark of the engine.
"""

CONTROLLER_ALONE = ("include_role", "include_tasks", "set_fact", "validate_argument_spec", "meta", "fail", "set_stats", "plan", "findings", "say", "outcome")


class CallbackModule(CallbackBase):
    """One line for each task: {action, module (whether it ran one on a host), seconds, phase (of the journal's record that it wrote)}."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_times"

    def __init__(self) -> None:
        super().__init__()
        self._path = Path(os.environ["LASTRO_TASK_TIMES"])
        self._began = 0.0
        self._task: dict[str, t.Any] = {}

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:  # noqa: ANN401 - Ansible gives these no types
        self._end()
        self._began = time.monotonic()
        self._task = {"action": task.action.rpartition(".")[2], "name": task.get_name(), "module": False, "phase": ""}

    def v2_playbook_on_handler_task_start(self, task: t.Any) -> None:  # noqa: ANN401 - Ansible gives these no types
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def v2_runner_on_ok(self, result: t.Any) -> None:  # noqa: ANN401 - Ansible gives these no types
        self._task["module"] = self._task["action"] not in CONTROLLER_ALONE
        record = result._result.get("record") or {}
        if record.get("kind") in ("result", "verdict"):
            self._task["phase"] = record["phase"]

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:  # noqa: ANN401 - Ansible gives these no types
        self.v2_runner_on_ok(result)

    def v2_playbook_on_stats(self, stats: t.Any) -> None:  # noqa: ANN401 - Ansible gives these no types
        self._end()

    def _end(self) -> None:
        if not self._task:
            return
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**self._task, "seconds": time.monotonic() - self._began}) + "\n")
        self._task = {}
