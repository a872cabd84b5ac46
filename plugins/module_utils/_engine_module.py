# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules behind :mod:`_engine` have in common. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

from ._argspec import ArgumentSpec
from ._engine import Answer
from ._errors import LastroError


def run(answer: Answer, spec: ArgumentSpec) -> None:
    """Be the module that *answer* makes."""
    module = spec.create_module()
    try:
        result = answer(module.params, write=not module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


__all__ = ("run",)
