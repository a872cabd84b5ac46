#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: step_status
short_description: Look after a module that runs asynchronously
description:
  - One call for each poll of M(lastro.deploy.step). It tells whether the job has ended and how far it is, and renews the lease and the dead-man timers.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  diff_mode:
    support: none
    details: Time passing is no difference.
author:
  - lastro.deploy contributors (@lastro)
options:
  results_file:
    description: The job's results file. It is removed once the job has ended.
    type: path
    required: true
  wait:
    description: Seconds to wait for its end. A call costs more than looking again, so the waiting is done on the host.
    type: float
    default: 0
  progress_file:
    description: The file in which the module keeps how far it is.
    type: path
  state_dir:
    description: The application's state directory; with it the lease is renewed, and so are the deadlines of the run's timers.
    type: path
  run_id:
    description: The run that holds the lock.
    type: str
    default: ''
  lease_seconds:
    description: The new length of the lease.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Look after a job
  lastro.deploy.step_status:
    results_file: /var/lib/deployer/.ansible_async/j1.2
"""

RETURN = r"""
finished:
  description: Whether the job has ended.
  returned: always
  type: bool
outcome:
  description: The module's result as JSON text, once it has ended.
  returned: always
  type: str
progress:
  description: How far it is.
  returned: always
  type: dict
  sample: {done: 12000, total: 50000, unit: rows, seconds: 0.4}
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _step
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run

SPEC = ArgumentSpec(
    {
        "results_file": {"type": "path", "required": True},
        "wait": {"type": "float", "default": 0},
        "progress_file": {"type": "path"},
        "state_dir": {"type": "path"},
        "run_id": {"type": "str", "default": ""},
        "lease_seconds": {"type": "int", "default": 120},
    }
)


def main() -> None:
    """Run the module."""
    run(_step.answer, SPEC)


if __name__ == "__main__":
    main()
