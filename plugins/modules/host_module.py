#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_module
short_description: How the modules of this collection meet a host that cannot be reached
description:
  - Ansible takes a host that cannot be reached out of the run, and neither C(rescue) nor C(always) see it.
  - The modules of this collection that work on a host fail instead, so that a phase records what happened and the run goes back.
  - Never named in a task. C(meta/runtime.yml) lists the modules that run this way.
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
options: {}
notes:
  - This is an action plugin; it has no module of its own on the host.
"""

EXAMPLES = r"""
- name: A host that is gone is a failure like any other
  block:
    - name: Have the process running
      lastro.deploy.systemd:
        state: prepared
        app: calendar-api
        state_dir: /var/lib/lastro/calendar-api
  rescue:
    - name: Say so
      ansible.builtin.debug:
        msg: "{{ ansible_failed_result.problem }}"
"""

RETURN = r"""
unreached:
  description: The host that could not be reached. All other return values are those of the module.
  returned: when it could not be reached
  type: str
"""
