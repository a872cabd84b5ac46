#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: timers
short_description: Renew the dead-man timers of a run on a host
description:
  - Moves the deadline of each timer that the run has armed on this host. The strategy's module arms and disarms them.
  - On the primary host the journal and M(lastro.deploy.step) do this themselves; this is for hosts apart from it, such as those of the proxy.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  diff_mode:
    support: none
    details: Time passing is no difference.
author:
  - lastro.deploy contributors (@lastro)
options:
  state_dir:
    description: The application's state directory on this host.
    type: path
    required: true
  run_id:
    description: The run.
    type: str
    required: true
  seconds:
    description: How far from now the deadline is.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Keep what this run has armed from firing
  lastro.deploy.timers:
    state_dir: /var/lib/lastro/calendar-api
    run_id: 20261121T221004-7c1f
    seconds: 120
"""

RETURN = r"""
renewed:
  description: The names of the timers.
  returned: success
  type: list
  elements: str
  sample: [maintenance]
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _step
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run

SPEC = ArgumentSpec(
    {
        "state_dir": {"type": "path", "required": True},
        "run_id": {"type": "str", "required": True},
        "seconds": {"type": "int", "required": True},
    }
)


def main() -> None:
    """Run the module."""
    run(_step.answer_timers, SPEC)


if __name__ == "__main__":
    main()
