#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: lock
short_description: Take, renew or give back the lease lock of an application
description:
  - One run at a time changes an application. The lock is a lease on the primary host, pushed on while the run lives.
  - A lease that has run out is taken over without force. On the controller that the holder ran on, a dead holder is recognised at once.
extends_documentation_fragment: [lastro.deploy.attributes]
author:
  - lastro.deploy contributors (@lastro)
options:
  state_dir:
    description: The application's state directory on the primary host.
    type: path
    required: true
  run_id:
    description: The run that wants, has or gives back the lock.
    type: str
    required: true
  state:
    description: Whether the run shall hold the lock.
    type: str
    default: present
    choices: [present, absent]
  lease_seconds:
    description: How long the lock stays when nobody renews it.
    type: int
    default: 120
  actor:
    description: Who started the run.
    type: str
    default: ''
  reason:
    description: Why the run was started.
    type: str
    default: ''
  controller:
    description: The controller's process, as the plan names it.
    type: dict
    default: {}
  dead_run_id:
    description: A holder that is known to have died; its lock is taken over. The action plugin finds it out.
    type: str
    default: ''
  force_run_id:
    description: A holder whose lock a human gives up; taken over only while that very run holds it.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Take the lock
  lastro.deploy.lock:
    state_dir: /var/lib/lastro/calendar-api
    run_id: 20261121T221004-7c1f
    actor: ana

- name: Give it back
  lastro.deploy.lock:
    state_dir: /var/lib/lastro/calendar-api
    run_id: 20261121T221004-7c1f
    state: absent
"""

RETURN = r"""
holder:
  description: Who holds the lock now; empty when nobody does.
  returned: always
  type: dict
  sample: {run_id: 20261121T221004-7c1f, actor: ana, since: '2026-11-21T22:10:04.000000Z', expires_at: '2026-11-21T22:12:04.000000Z'}
taken_over:
  description: The run that the lock was taken over from; empty when it was free or one's own.
  returned: always
  type: dict
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _lock
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run

SPEC = ArgumentSpec(
    {
        "state_dir": {"type": "path", "required": True},
        "run_id": {"type": "str", "required": True},
        "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
        "lease_seconds": {"type": "int", "default": 120},
        "actor": {"type": "str", "default": ""},
        "reason": {"type": "str", "default": ""},
        "controller": {"type": "dict", "default": {}},
        "dead_run_id": {"type": "str", "default": ""},
        "force_run_id": {"type": "str", "default": ""},
    }
)


def main() -> None:
    """Run the module."""
    run(_lock.answer, SPEC)


if __name__ == "__main__":
    main()
