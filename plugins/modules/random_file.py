#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: random_file
short_description: A file with a random value that is made once
description:
  - Makes a file (0600) with 32 random bytes as urlsafe base64 where there is none. The value leaves the host in no way.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  diff_mode:
    support: none
    details: The value is a secret.
author:
  - lastro.deploy contributors (@lastro)
options:
  path:
    description: The file.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Make the token that lets testers through a maintenance
  lastro.deploy.random_file:
    path: /var/lib/lastro/calendar-api/tester_token
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
"""

import secrets
from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._files import write_atomic, writing


def main() -> None:
    """Run the module."""
    module = ArgumentSpec({"path": {"type": "path", "required": True}}).create_module()
    path = Path(module.params["path"])
    missing = not path.exists()
    try:
        if missing and not module.check_mode:
            with writing(path):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_atomic(path, secrets.token_urlsafe(32).encode())
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=missing, path=str(path))


if __name__ == "__main__":
    main()
