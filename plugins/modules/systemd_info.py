#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: systemd_info
short_description: Tell which releases run under systemd
description:
  - Reads what systemd says of an application's units and what M(lastro.deploy.systemd) wrote into their files. It writes nothing.
extends_documentation_fragment: [lastro.deploy.attributes.info, lastro.deploy.log_errors]
author:
  - lastro.deploy contributors (@lastro)
options:
  app:
    description: The application, the first part of each unit's name.
    type: str
    required: true
  processes:
    description: The names of the application's processes.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: See what runs here
  lastro.deploy.systemd_info:
    app: calendar-api
    processes: [web, worker]
  register: found
"""

RETURN = r"""
programs:
  description:
    - What runs here, by process and slot, each C({state, release, port}).
    - The state is C(RUNNING), C(STARTING), C(STOPPING), C(BACKOFF) (it ended and starts again), C(STOPPED) or C(FATAL) (it failed).
    - A unit that systemd still has without a file, since a stop was cut short, has an empty release.
  returned: success
  type: dict
  sample: {web-blue: {state: RUNNING, release: r2-3f9c2e1, port: 8001}}
log_positions:
  description: Up to where the logs are old now; for O(errors_after) of a later call.
  returned: success
  type: dict
log_errors:
  description: With O(errors_after), the new lines that tell of an error.
  returned: success
  type: int
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _log_errors, _systemd
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._process import this_machine

OWN = ArgumentSpec({"app": {"type": "str", "required": True}, "processes": {"type": "list", "elements": "str", "default": []}})
SPEC = OWN.merge(_log_errors.argument_spec())


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    try:
        result = _systemd.info(module.params, this_machine())
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
