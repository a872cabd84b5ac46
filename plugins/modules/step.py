#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: step
short_description: Run a module that may take long, with progress and a lease
description:
  - Starts the module asynchronously on the host, polls it, shows how far it is, and renews the run's lease lock meanwhile.
  - When the controller dies the polling stops; the module ends with its limit, the lease runs out, and the next run takes over.
  - The result is that of the module. In check mode the module runs without this machinery.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  check_mode:
    support: full
    details: As far as the module that it runs supports it.
  diff_mode:
    support: full
    details: As far as the module that it runs supports it.
  idempotent:
    support: full
    details: As far as the module that it runs is.
author:
  - lastro.deploy contributors (@lastro)
options:
  module:
    description: The module to run.
    type: str
    required: true
  options:
    description: Its options.
    type: dict
    required: true
  title:
    description: What the progress line calls it.
    type: str
    default: ''
  limit:
    description: Seconds after which the module is stopped.
    type: int
    default: 3600
  progress:
    description: Whether the module has the option C(progress_file).
    type: bool
    default: true
  lease:
    description:
      - The lease to renew, as C({state_dir, run_id, seconds}), with the run's timers on this host.
      - C(others) in it names more hosts whose timers are renewed.
    type: dict
    default: {}
  secrets:
    description:
      - Secrets by the name of the module's option, for options that have a twin whose name ends in C(_pipe). They reach the module through that pipe, in
        the state directory of O(lease), and no file. Needs O(lease), and C(pipelining).
    type: dict
    default: {}
notes:
  - This is an action plugin; it has no module of its own on the host.
"""

EXAMPLES = r"""
- name: Back up the database
  lastro.deploy.step:
    module: lastro.deploy.pg_dump
    title: backup
    options:
      environment_file: /opt/calendar-api/env/r2-3f9c2e1.env
      dest: /var/backups/calendar-api
      name: 20261121T221004-7c1f
    lease: {state_dir: /var/lib/lastro/calendar-api, run_id: 20261121T221004-7c1f, seconds: 120}
"""

RETURN = r"""
msg:
  description: What went wrong. All other return values are those of the module.
  returned: failure
  type: str
"""
