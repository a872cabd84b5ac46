#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: outcome
short_description: End a run with its outcome
description:
  - Shows the outcome, what serves and where the report is. Fails unless the outcome is an expected one, so that the command exits non-zero.
extends_documentation_fragment: [lastro.deploy.attributes.info]
author:
  - lastro.deploy contributors (@lastro)
options:
  outcome:
    description: The outcome.
    type: str
    required: true
  serves:
    description: The release that serves now.
    type: dict
    default: {}
  report:
    description: Where the report is.
    type: str
    default: ''
  language:
    description: The language of the line.
    type: str
    default: en
  expected:
    description: Outcomes that are no failure.
    type: list
    elements: str
    required: true
notes:
  - This is an action plugin; it contacts no host.
"""

EXAMPLES = r"""
- name: End with the outcome
  lastro.deploy.outcome:
    outcome: deployed
    expected: [deployed, nothing_to_do]
"""

RETURN = r"""
outcome:
  description: The outcome.
  returned: always
  type: str
"""
