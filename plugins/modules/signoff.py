#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: signoff
short_description: Record a person's sign-off for a release, or see which are missing
description:
  - A sign-off says who approved which release, when, and for what. They stand in an append-only file on the primary host.
extends_documentation_fragment: [lastro.deploy.attributes]
author:
  - lastro.deploy contributors (@lastro)
options:
  state_dir:
    description: The application's state directory on the primary host.
    type: path
    required: true
  release:
    description: The id of the release.
    type: str
    required: true
  name:
    description: The sign-off to record, for example V(tech_lead). Without it nothing is recorded.
    type: str
  by:
    description: Who signs. Must be given with O(name).
    type: str
    default: ''
  comment:
    description: What the person wants to say with it.
    type: str
    default: ''
  required:
    description: The sign-offs that the environment demands.
    type: list
    elements: str
    default: []
  report_only:
    description: Return missing ones as findings instead of failing.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Record a sign-off
  lastro.deploy.signoff:
    state_dir: /var/lib/lastro/calendar-api
    release: r2-3f9c2e1
    name: tech_lead
    by: ana
"""

RETURN = r"""
signoffs:
  description: The sign-offs of the release.
  returned: always
  type: list
  elements: dict
missing:
  description: Those that are required and were not given.
  returned: always
  type: list
  elements: str
checked:
  description: How many are required.
  returned: always
  type: int
findings:
  description: One for each that is missing.
  returned: always
  type: list
  elements: dict
"""

from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils import _signoff
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

SPEC = ArgumentSpec(
    {
        "state_dir": {"type": "path", "required": True},
        "release": {"type": "str", "required": True},
        "name": {"type": "str"},
        "by": {"type": "str", "default": ""},
        "comment": {"type": "str", "default": ""},
        "required": {"type": "list", "elements": "str", "default": []},
        "report_only": {"type": "bool", "default": False},
    }
)


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    options = dict(module.params)
    state_dir, report_only = Path(options.pop("state_dir")), options.pop("report_only")
    try:
        result = _signoff.run(state_dir, write=not module.check_mode, **options)
        if result["missing"] and not report_only:
            raise _signoff.missing_error(result["missing"], options["release"])
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
