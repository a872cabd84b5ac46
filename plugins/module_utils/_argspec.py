# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and the constraints between them, as one object that modules merge and share.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t
from pathlib import Path

from ._errors import LastroError, Text

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

Options = dict[str, dict[str, t.Any]]


@dataclasses.dataclass(frozen=True)
class ArgumentSpec:
    """Options of a module with their constraints; ``merge`` joins two without losing either's."""

    options: Options = dataclasses.field(default_factory=dict)
    required_if: tuple[t.Sequence[t.Any], ...] = ()
    required_one_of: tuple[t.Sequence[str], ...] = ()
    required_together: tuple[t.Sequence[str], ...] = ()
    mutually_exclusive: tuple[t.Sequence[str], ...] = ()

    def merge(self, other: ArgumentSpec) -> ArgumentSpec:
        """A new spec with the options and constraints of both."""
        return ArgumentSpec(
            options={**self.options, **other.options},
            required_if=self.required_if + other.required_if,
            required_one_of=self.required_one_of + other.required_one_of,
            required_together=self.required_together + other.required_together,
            mutually_exclusive=self.mutually_exclusive + other.mutually_exclusive,
        )

    def checked(self, name: str, options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """*options*, which the profile gives as *name*, with the defaults and types of this spec. Raises LastroError."""
        from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator  # noqa: PLC0415 - the engine's program runs without Ansible

        constraints = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "options"}
        found = ModuleArgumentSpecValidator(self.options, **constraints).validate(dict(options))
        if found.error_messages:
            raise LastroError(
                f"{name}: {'; '.join(found.error_messages)}.",
                remedy=Text(en=f"Correct {name} in the profile.", pt_BR=f"Corrija {name} no perfil."),
            )
        return dict(found.validated_parameters)

    def create_module(self) -> AnsibleModule:
        """The module for this spec. Every module of the collection supports check mode, and ends with the limit of its step."""
        from ansible.module_utils.basic import AnsibleModule  # noqa: PLC0415 - the engine's program runs without Ansible

        join_the_group_of_async_wrapper()
        return AnsibleModule(
            argument_spec=self.options,
            required_if=self.required_if,
            required_one_of=self.required_one_of,
            required_together=self.required_together,
            mutually_exclusive=self.mutually_exclusive,
            supports_check_mode=True,
        )


def join_the_group_of_async_wrapper(patience: float = 5.0) -> bool:
    """Make sure that the limit of an asynchronous run ends this process too; False where it is no such run.

    Ansible's async_wrapper stops a module by the process group of the module's parent, which it makes after that parent was
    started. On a busy machine the module can be there before: outside of the group, it would go on for ever.
    """
    parent = os.getppid()
    try:
        if b"async_wrapper" not in Path(f"/proc/{parent}/cmdline").read_bytes():
            return False
    except OSError:
        return False
    until = time.monotonic() + patience
    while os.getpgrp() != parent and os.getppid() == parent and time.monotonic() < until:
        with contextlib.suppress(OSError):  # there is no such group yet
            os.setpgid(0, parent)
            break
        time.sleep(0.02)
    return os.getpgrp() == parent


__all__ = ("ArgumentSpec", "Options", "join_the_group_of_async_wrapper")
