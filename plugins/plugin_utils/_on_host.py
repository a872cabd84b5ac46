# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection's action plugins that work on a host share. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import copy
import os
import typing as t

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import become_loader, connection_loader
from ansible.template import Templar
from ansible.utils.display import Display
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError, Text
from ansible_collections.lastro.deploy.plugins.plugin_utils import _engine_call

display = Display()

Variables = t.Mapping[str, t.Any]
Result = dict[str, t.Any]


class OnHost(ActionBase):
    """An action that works on a host. One that cannot be reached is a failure, not an absence, so that ``rescue`` runs (design rule 3)."""

    TRANSFERS_FILES = False

    def _execute_module(self, *arguments: t.Any, **options: t.Any) -> Result:  # noqa: ANN401 - Ansible's signature
        """The module's result; a failure with ``unreached`` (the host's name) where the connection breaks."""
        try:
            asked = self._ask_engine(options)
            return asked or super()._execute_module(*arguments, **options)
        except AnsibleConnectionFailure as error:
            host = str(self._task.delegate_to or (options.get("task_vars") or {}).get("inventory_hostname", ""))
            return {"failed": True, "unreached": host, **_unreached(host, error).as_result()}

    def _ask_engine(self, options: Variables) -> Result:
        """The answer of the engine's program on the host; {} where the module itself has to run."""
        name = str(options.get("module_name") or self._task.action).rpartition(".")[2]
        write = not self._task.check_mode
        call = _engine_call.plan(name, options.get("module_args") or self._task.args, write=write)
        if call is None or not self._is_pipelining_enabled("new"):
            return {}
        answered = self._send(call)
        if answered["rc"] in _engine_call.NOT_THERE and write and self._install(call.program, options):
            answered = self._send(call)
        return {} if answered["rc"] in _engine_call.NOT_THERE else _engine_call.read(name, answered)

    def _send(self, call: _engine_call.Call) -> Result:
        answered: Result = self._low_level_execute_command(call.command, in_data=call.request)  # type: ignore[no-untyped-call]  # Ansible types it not
        return answered

    def _install(self, program: str, options: Variables) -> bool:
        installed = super()._execute_module(module_name="lastro.deploy.engine_program", module_args={"path": program}, task_vars=options.get("task_vars"))
        return bool(installed.get("installed"))

    def _execute_elsewhere(self, host: str, module_name: str, module_args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> Result:
        """As ``_execute_module``, on another host of the inventory than the task's own."""
        # Not templated as a whole: what this host's variables look up is nobody's business here.
        variables = task_vars["hostvars"].raw_get(host)
        there = copy.copy(self)
        there._task = self._task.copy()
        there._task.delegate_to = None
        there._templar = Templar(loader=self._loader, variables=variables)
        there._play_context = self._play_context.copy()
        there._play_context.remote_addr = there._templar.template(variables.get("ansible_host", host))
        there._connection = there._own_connection(variables)
        return there._execute_module(module_name=module_name, module_args=module_args, task_vars=variables)

    def _renew_elsewhere(self, hosts: t.Iterable[str], lease: Variables, task_vars: dict[str, t.Any]) -> None:
        """Renew the run's timers on hosts apart from the primary. One that cannot be reached puts our change back by itself: that is what they are for."""
        arguments = {name: lease[name] for name in ("state_dir", "run_id", "seconds")}
        for host in hosts:
            renewed = self._execute_elsewhere(host, "lastro.deploy.timers", arguments, task_vars)
            if renewed.get("failed"):
                display.warning(f"The timers on {host} were not renewed: {renewed.get('problem', renewed.get('msg', ''))}")

    def _own_connection(self, variables: Variables) -> t.Any:  # noqa: ANN401 - a connection of any plugin
        """A connection with the options that *variables* give, as Ansible's executor makes one for a task."""
        # Not the task's: from ansible-core 2.21 on that is what its own host has. Known by its short name, or its options are not found.
        name = str(self._variable(variables, "ansible_connection", constants.config.get_config_value("DEFAULT_TRANSPORT"))).removeprefix("ansible.builtin.")
        connection = connection_loader.get(name, self._play_context, task_uuid=self._task._uuid, ansible_playbook_pid=str(os.getppid()))
        # A task's own timeout and retries are not those of a connection.
        keys = {**self._task.dump_attrs(), "timeout": self._play_context.timeout}
        del keys["retries"]
        connection.set_options(task_keys=keys, var_options=self._options("connection", name, variables))
        connection._shell.set_options(task_keys=keys, var_options=self._options("shell", connection._shell._load_name, variables))
        if boolean(self._variable(variables, "ansible_become", self._task.become), strict=False):
            method = self._variable(variables, "ansible_become_method", self._task.become_method or constants.config.get_config_value("DEFAULT_BECOME_METHOD"))
            become = become_loader.get(method)
            become.set_options(task_keys=keys, var_options=self._options("become", method, variables))
            connection.set_become_plugin(become)
        return connection

    def _options(self, kind: str, name: str, variables: Variables) -> dict[str, t.Any]:
        return {known: self._templar.template(variables[known]) for known in constants.config.get_plugin_vars(kind, name) if known in variables}

    def _variable(self, variables: Variables, name: str, otherwise: t.Any) -> t.Any:  # noqa: ANN401 - a variable has any type
        return self._templar.template(variables[name]) if name in variables else otherwise


def _unreached(host: str, error: Exception) -> LastroError:
    reason = str(getattr(error, "message", error)).strip().splitlines()
    return LastroError(
        f"{host} cannot be reached: {reason[-1] if reason else 'the connection broke'}",
        remedy=Text(
            en=f"See that {host} runs and lets you in by SSH (ansible {host} -m ping), then deploy again.",
            pt_BR=f"Veja se {host} está no ar e aceita SSH (ansible {host} -m ping), e faça o deploy de novo.",
        ),
    )


__all__ = ("OnHost", "Result")
