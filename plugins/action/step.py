# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module that may take long: asynchronously on the host, watched from here (design rule 5)."""

from __future__ import annotations

import json
import time
import typing as t

from ansible.utils.display import Display
from ansible_collections.lastro.deploy.plugins.plugin_utils._on_host import OnHost

display = Display()

SHOW_SECONDS = 5.0
WAIT_SECONDS = 4.0
"""How long one poll waits on the host for the end: less than the operator waits for a line."""
RENEW_SHARE = 6
GRACE_SECONDS = 15


class ActionModule(OnHost):
    """See plugins/modules/step.py for the documentation."""

    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Start the module, poll it until it ends, and return its result as this task's own."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _valid, options = self.validate_argument_spec(
            argument_spec={
                "module": {"type": "str", "required": True},
                "options": {"type": "dict", "required": True},
                "title": {"type": "str", "default": ""},
                "limit": {"type": "int", "default": 3600},
                "progress": {"type": "bool", "default": True},
                "lease": {"type": "dict", "default": {}},
                "secrets": {"type": "dict", "default": {}},
            }
        )
        if self._task.check_mode:
            arguments = {**options["options"], **options["secrets"]}
            outcome = self._execute_module(module_name=options["module"], module_args=arguments, task_vars=task_vars)
        else:
            outcome = self._watched(options, task_vars)
        return {**result, **outcome}

    def _watched(self, options: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        started = self._start_with_secrets(options, task_vars)
        if started.get("failed"):
            return started
        lease = options["lease"]
        began = shown = renewed = time.monotonic()
        while time.monotonic() - began <= options["limit"] + GRACE_SECONDS:
            due = bool(lease) and time.monotonic() - renewed >= lease["seconds"] / RENEW_SHARE
            if due:
                renewed = time.monotonic()
                self._renew_elsewhere(lease.get("others", ()), lease, task_vars or {})
            status = self._poll(started["results_file"], options, lease if due else {}, task_vars)
            now = time.monotonic()
            if status.get("failed"):
                return status
            if status["finished"]:
                outcome: dict[str, t.Any] = json.loads(status["outcome"])
                outcome.pop("exception", None)
                return outcome
            if now - shown + _wait(lease) >= SHOW_SECONDS:
                shown = now
                display.display(_progress_line(options["title"], status["progress"], now - began))
        return {"failed": True, "msg": f"{options['title'] or options['module']} did not end within {options['limit']} s and was stopped."}

    def _start_with_secrets(self, options: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        """As ``_start``; the options of an asynchronous module lie in a file meanwhile, so secrets come after them, each through a pipe."""
        pipes = {name: f"{options['lease']['state_dir']}/{name}.pipe" for name in options["secrets"]}
        for path in pipes.values():
            made = self._pipe({"path": path}, task_vars)
            if made.get("failed"):
                return made
        named = {f"{name}_pipe": path for name, path in pipes.items()}
        started = self._start({**options, "options": {**options["options"], **named}}, task_vars)
        for name, path in () if started.get("failed") else pipes.items():
            self._pipe({"path": path, "value": options["secrets"][name]}, task_vars)
        return started

    def _pipe(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        answer: dict[str, t.Any] = self._execute_module(module_name="lastro.deploy.secret_pipe", module_args=arguments, task_vars=task_vars)
        return answer

    def _start(self, options: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        arguments = {**options["options"], **_progress_option(options)}
        # A value left here would make the executor poll this very task.
        self._task.async_val = options["limit"]
        try:
            started: dict[str, t.Any] = self._execute_module(module_name=options["module"], module_args=arguments, task_vars=task_vars, wrap_async=True)
        finally:
            self._task.async_val = 0
        return started

    def _poll(self, results_file: str, options: dict[str, t.Any], lease: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        arguments: dict[str, t.Any] = {"results_file": results_file, "wait": _wait(options["lease"]), **_progress_option(options)}
        if lease:
            arguments |= {"state_dir": lease["state_dir"], "run_id": lease["run_id"], "lease_seconds": lease["seconds"]}
        status: dict[str, t.Any] = self._execute_module(module_name="lastro.deploy.step_status", module_args=arguments, task_vars=task_vars)
        return status


def _progress_option(options: dict[str, t.Any]) -> dict[str, str]:
    return {"progress_file": f"{options['lease']['state_dir']}/progress.json"} if options["progress"] and options["lease"] else {}


def _wait(lease: dict[str, t.Any]) -> float:
    return min(WAIT_SECONDS, lease["seconds"] / RENEW_SHARE) if lease else WAIT_SECONDS


def _progress_line(title: str, progress: dict[str, t.Any], seconds: float) -> str:
    """How far a step is. Figures that have stood for a while promise no end: the line says for how long; a server that builds an index tells none."""
    done, total, unit, age = (progress.get(name, default) for name, default in (("done", 0), ("total", 0), ("unit", ""), ("age", 0)))
    standing = f" for {age:.0f} s" if age >= SHOW_SECONDS else ""
    if not total:
        named = f"{f'{done:,} ' if done else ''}{unit}{standing}; " if unit else ""
        return f" … {title:<17} {named}{seconds:.0f} s"
    if unit == "steps":
        return f" … {title:<17} {done} of {total} steps, {seconds:.0f} s"
    if standing:
        return f" … {title:<17} {100 * done // total} % of {total:,} {unit}{standing}; {seconds:.0f} s"
    rate = done / max(progress.get("seconds", 0), 0.001)
    left = (total - done) / rate if rate else 0
    return f" … {title:<17} {100 * done // total} % of {total:,} {unit}, {rate:,.0f} {unit}/s, {left:.0f} s left"
