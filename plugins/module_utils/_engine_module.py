# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules behind :mod:`_engine` have in common. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

from . import _engine
from ._argspec import ArgumentSpec


def run(answer: _engine.Answer, spec: ArgumentSpec) -> None:
    """Be the module that *answer* makes."""
    module = spec.create_module()
    result = _engine.outcome(answer, module.params, write=not module.check_mode)
    if result.get("failed"):
        module.fail_json(**{key: value for key, value in result.items() if key != "failed"})
    module.exit_json(**result)


__all__ = ("run",)
