#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: findings
short_description: Stop with all findings in one message
description:
  - Ends a host's part in a phase with one message that holds every finding and what to do about it.
extends_documentation_fragment: [lastro.deploy.attributes.info]
author:
  - lastro.deploy contributors (@lastro)
options:
  host:
    description: The host that the findings are about.
    type: str
    required: true
  findings:
    description: The findings, each C({variable or target, problem, remedy {en, pt_BR}}).
    type: list
    elements: dict
    required: true
notes:
  - This is an action plugin; it contacts no host.
"""

EXAMPLES = r"""
- name: Stop where anything has to be corrected first
  lastro.deploy.findings:
    host: app1
    findings: "{{ preflight_evidence.findings }}"
  when: preflight_evidence.findings | length > 0
"""

RETURN = r"""
problem:
  description: All findings as one text.
  returned: failure
  type: str
remedy:
  description: What to do, in both languages.
  returned: failure
  type: dict
"""
