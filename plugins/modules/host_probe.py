#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_probe
short_description: See whether a host can take a release
description:
  - Finds the interpreter that makes virtual environments, and looks whether the directories can be written and have room.
extends_documentation_fragment: [lastro.deploy.attributes.info]
author:
  - lastro.deploy contributors (@lastro)
options:
  python:
    description: The interpreter that makes the release's virtual environment.
    type: str
    default: python3
  directories:
    description: Directories that the deploy writes to; they need not exist yet.
    type: list
    elements: path
    default: []
  min_free_mb:
    description: Free space that each must have, in MB.
    type: int
    default: 200
"""

EXAMPLES = r"""
- name: Look at the host
  lastro.deploy.host_probe:
    directories: [/opt/calendar-api, /var/lib/lastro/calendar-api]
"""

RETURN = r"""
python_version:
  description: The interpreter's version, as major and minor.
  returned: always
  type: str
  sample: '3.11'
checked:
  description: How many things were looked at.
  returned: always
  type: int
findings:
  description: What is wrong, each with C(target), C(problem) and C(remedy).
  returned: always
  type: list
  elements: dict
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _host_probe
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec

SPEC = ArgumentSpec(
    {
        "python": {"type": "str", "default": "python3"},
        "directories": {"type": "list", "elements": "path", "default": []},
        "min_free_mb": {"type": "int", "default": 200},
    }
)


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    module.exit_json(changed=False, **_host_probe.probe(**module.params))


if __name__ == "__main__":
    main()
