#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: slot
short_description: Choose the slot and port in which a release starts
description:
  - Each process of an application has two slots on a host, the live one and the other. This module says which is which.
  - Where the profile names no ports, free ones are chosen once and kept.
extends_documentation_fragment: [lastro.deploy.attributes]
author:
  - lastro.deploy contributors (@lastro)
options:
  state_dir:
    description: The application's state directory on this host.
    type: path
    required: true
  processes:
    description: The processes of the profile.
    type: dict
    required: true
  release:
    description: The release that shall run.
    type: str
    default: ''
  serving:
    description: The slot that the proxy points to for this host.
    type: str
    default: blue
    choices: [blue, green]
  programs:
    description: What the strategy says of the programs, C({web-blue) -> C({state, release, port}}).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Plan the switch of this host
  lastro.deploy.slot:
    state_dir: /var/lib/lastro/calendar-api
    processes: "{{ deploy_processes }}"
    release: r2-3f9c2e1
    serving: blue
    programs: "{{ strategy_status }}"
  register: plan
"""

RETURN = r"""
processes:
  description: The plan for each process.
  returned: always
  type: list
  elements: dict
  sample: [{process: web, live_slot: blue, live_port: 8001, live_release: r1-aaaaaaa, next_slot: green, next_port: 8002, needed: true, leftover: false}]
ports:
  description: The two ports (blue, green) of each process that listens.
  returned: always
  type: dict
needed:
  description: Whether any process has to change.
  returned: always
  type: bool
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _slots
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run

SPEC = ArgumentSpec(
    {
        "state_dir": {"type": "path", "required": True},
        "processes": {"type": "dict", "required": True},
        "release": {"type": "str", "default": ""},
        "serving": {"type": "str", "default": "blue", "choices": list(_slots.SLOTS)},
        "programs": {"type": "dict", "default": {}},
    }
)


def main() -> None:
    """Run the module."""
    run(_slots.answer, SPEC)


if __name__ == "__main__":
    main()
