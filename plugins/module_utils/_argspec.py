# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and the constraints between them, as one object that modules merge and share.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import typing as t

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

    def create_module(self) -> AnsibleModule:
        """The module for this spec. Every module of the collection supports check mode."""
        return AnsibleModule(
            argument_spec=self.options,
            required_if=self.required_if,
            required_one_of=self.required_one_of,
            required_together=self.required_together,
            mutually_exclusive=self.mutually_exclusive,
            supports_check_mode=True,
        )


__all__ = ("ArgumentSpec", "Options")
