#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: environment_file
short_description: Write the environment file of a release
description:
  - Writes the variables of a release for systemd, the strategy's launcher and the modules that read them on the host. The file has mode 0600,
    its directory 0700.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  diff_mode:
    support: none
    details: The values are secrets.
author:
  - lastro.deploy contributors (@lastro)
options:
  path:
    description: The file.
    type: path
    required: true
  content:
    description: The whole text, as the filter C(lastro.deploy.environment_file) renders it. It is never shown.
    type: str
    required: true
  owner:
    description: The user that the file belongs to. Empty means the user who writes it.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Write the environment file
  lastro.deploy.environment_file:
    path: /opt/calendar-api/env/r2-3f9c2e1.env
    content: "{{ deploy_env | lastro.deploy.environment_file }}"
    owner: calendar
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
"""

from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils import _files
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

SPEC = ArgumentSpec(
    {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True, "no_log": True},
        "owner": {"type": "str", "default": ""},
    }
)


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    path = Path(module.params["path"])
    try:
        changed = _files.put_private(path, module.params["content"], module.params["owner"], write=not module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=changed, path=str(path))


if __name__ == "__main__":
    main()
