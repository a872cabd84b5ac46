#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: tool_environment
short_description: Have an interpreter with the libraries that the modules import on a host
description:
  - Makes a virtual environment from wheels, without an index, and points a link to it. The same wheels and interpreter make the same one.
  - The environment before stays beside it, for what still runs; older ones are removed.
extends_documentation_fragment: [lastro.deploy.attributes]
author:
  - lastro.deploy contributors (@lastro)
options:
  path:
    description: The link. The environments lie in C(venvs/) beside it.
    type: path
    required: true
  wheels:
    description: The tar file of wheels on this host, all of which are installed.
    type: path
    required: true
  python:
    description: The interpreter that makes the environment.
    type: str
    default: python3
"""

EXAMPLES = r"""
- name: Have the tool environment
  lastro.deploy.tool_environment:
    path: /opt/lastro/tools
    wheels: /opt/lastro/wheels-0a1b2c3d.tar
"""

RETURN = r"""
interpreter:
  description: What C(ansible_python_interpreter) of this host is to name.
  returned: success
  type: str
wheels:
  description: How many wheels were offered to the installer; 0 where the environment stood there already.
  returned: success
  type: int
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _tool_environment
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

SPEC = ArgumentSpec(
    {
        "path": {"type": "path", "required": True},
        "wheels": {"type": "path", "required": True},
        "python": {"type": "str", "default": "python3"},
    }
)


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    try:
        result = _tool_environment.run(module.params, write=not module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
