#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: say
short_description: Show the operator a text in the language of the profile
description:
  - Shows a text also where the collection's callback hides the results of tasks.
extends_documentation_fragment: [lastro.deploy.attributes.info]
author:
  - lastro.deploy contributors (@lastro)
options:
  en:
    description: The text in English.
    type: str
    required: true
  pt_BR:
    description: The text in Brazilian Portuguese.
    type: str
    required: true
  language:
    description: Which of the two is shown. By default that of the variable C(deploy_language) where the task sees it, else V(en).
    type: str
    choices: [en, pt_BR]
notes:
  - This is an action plugin; it contacts no host.
"""

EXAMPLES = r"""
- name: Say how it ended
  lastro.deploy.say:
    en: The backup is done.
    pt_BR: O backup está pronto.
"""

RETURN = r"""
text:
  description: What was shown.
  returned: success
  type: str
  sample: The backup is done.
"""
