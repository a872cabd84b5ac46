#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: supervisor_info
short_description: Tell which releases run under supervisor
description:
  - Reads what supervisor says of an application's programs and what M(lastro.deploy.supervisor) wrote into their files. It writes nothing.
extends_documentation_fragment: [lastro.deploy.attributes.info, lastro.deploy.log_errors, lastro.deploy.supervisor]
author:
  - lastro.deploy contributors (@lastro)
options:
  processes:
    description: The names of the application's processes.
    type: list
    elements: str
    default: []
  state_dir:
    description: The application's state directory, below which the logs are where O(server) names no directory for them.
    type: path
"""

EXAMPLES = r"""
- name: See what runs here
  lastro.deploy.supervisor_info:
    app: calendar-api
    processes: [web, worker]
  register: found
"""

RETURN = r"""
programs:
  description:
    - What runs here, by process and slot, each C({state, release, port}), with the state as supervisor names it.
    - A program that supervisor still has without a file, since a stop was cut short, has an empty release.
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

from ansible_collections.lastro.deploy.plugins.module_utils import _log_errors, _supervisor
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run

OWN = ArgumentSpec({"processes": {"type": "list", "elements": "str", "default": []}, "state_dir": {"type": "path"}})
SPEC = OWN.merge(_supervisor.server_argument_spec()).merge(_log_errors.argument_spec())


def main() -> None:
    """Run the module."""
    run(_supervisor.answer_info, SPEC)


if __name__ == "__main__":
    main()
