#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: session
short_description: End database sessions that a dead run left behind
description:
  - Ends every session of the role on the database whose C(application_name) starts with the given text, except the module's own.
  - Only the holder of the application's lock may call it.
extends_documentation_fragment: [lastro.deploy.attributes, lastro.deploy.postgres]
author:
  - lastro.deploy contributors (@lastro)
options:
  application_name:
    description: The beginning of the sessions' application name.
    type: str
    default: lastro.deploy
  timeout:
    description: Seconds to wait until they are gone.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: End what a dead run left
  lastro.deploy.session:
    database_url: "{{ deploy_database.url }}"
"""

RETURN = r"""
ended:
  description: How many sessions were ended, or would be.
  returned: always
  type: int
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _session
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import connection_argument_spec, register_secrets, settings_from_params

SPEC = connection_argument_spec().merge(
    ArgumentSpec({"application_name": {"type": "str", "default": "lastro.deploy"}, "timeout": {"type": "int", "default": 30}})
)


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    options = module.params
    try:
        settings = settings_from_params(options)
        register_secrets(module, settings)
        ended = _session.end(settings, options["application_name"], timeout=options["timeout"], write=not module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=ended > 0, ended=ended, diff={"before": {"sessions": ended}, "after": {"sessions": 0}})


if __name__ == "__main__":
    main()
