#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: plan
short_description: Check an inventory and plan a run, before any host is contacted
description:
  - Reads the profile (all C(deploy_*) variables of the primary host), and stops with one list of everything that is wrong or not filled in.
  - Builds the artifact on the controller and gives the run and the release their ids.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  diff_mode:
    support: none
    details: The plan is what the other phases show the difference of.
  idempotent:
    support: partial
    details: The artifact and its id are the same again; each run has a new id.
author:
  - lastro.deploy contributors (@lastro)
options:
  environment:
    description: The environment that the playbook is for; another inventory is refused.
    type: str
    choices: [staging, prod]
  artifact:
    description: Whether to build the artifact. A playbook that lands no release needs none.
    type: bool
    default: true
  title:
    description: Whether to show the run's first line.
    type: bool
    default: true
notes:
  - This is an action plugin; it contacts no host.
"""

EXAMPLES = r"""
- name: Plan the run
  lastro.deploy.plan:
  register: deploy_plan
"""

RETURN = r"""
run_id:
  description: The run, made once on the controller (in AWX with the job's id).
  returned: success
  type: str
release:
  description: The release with its C(id), C(version) and C(sha256).
  returned: when O(artifact) is true
  type: dict
archive:
  description: The artifact on the controller.
  returned: when O(artifact) is true
  type: str
problems:
  description: What has to be corrected, as C({option, problem, remedy}).
  returned: failure
  type: list
  elements: dict
"""
