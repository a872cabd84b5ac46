#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: secret_pipe
short_description: Hand a secret to a module that runs asynchronously
description:
  - The options of such a module lie in a file on the host while it runs. M(lastro.deploy.step) makes a named pipe instead, starts the module, and writes
    the secret into the pipe once the module reads from it. With C(pipelining) this module's own options come through its input and touch no disk.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  diff_mode:
    support: none
    details: A secret has no diff.
author:
  - lastro.deploy contributors (@lastro)
options:
  path:
    description: The pipe.
    type: path
    required: true
  value:
    description: The secret. Without it the pipe is made, with it the pipe is filled and removed.
    type: str
  timeout:
    description: Seconds to wait for the reader.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Make the pipe
  lastro.deploy.secret_pipe:
    path: /var/lib/lastro/calendar-api/identity.pipe
"""

RETURN = r"""
taken:
  description: Whether somebody has read the secret.
  returned: success
  type: bool
"""

from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils import _secret_pipe
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

SPEC = ArgumentSpec({"path": {"type": "path", "required": True}, "value": {"type": "str", "no_log": True}, "timeout": {"type": "float", "default": 60}})


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    path, value = Path(module.params["path"]), module.params["value"]
    taken = False
    try:
        if not module.check_mode and value is None:
            _secret_pipe.make(path)
        elif not module.check_mode:
            taken = _secret_pipe.give(path, value, timeout=module.params["timeout"])
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, taken=taken)


if __name__ == "__main__":
    main()
