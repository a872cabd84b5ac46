#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: engine_program
short_description: Have the engine's program on a host
description:
  - The engine asks its hosts some fifty times in a run, in a few words each time. This program answers in a third of the time that a module takes.
  - The collection's action plugins install it by themselves, for M(lastro.deploy.caddy), M(lastro.deploy.caddy_info), M(lastro.deploy.journal),
    M(lastro.deploy.ledger), M(lastro.deploy.lock), M(lastro.deploy.slot), M(lastro.deploy.step_status), M(lastro.deploy.supervisor),
    M(lastro.deploy.supervisor_info), M(lastro.deploy.systemd) and M(lastro.deploy.timers). Where it is missing or may not run, and without
    pipelining, these run as modules.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  diff_mode:
    support: none
    details: The program is made of the collection's own sources.
author:
  - lastro.deploy contributors (@lastro)
options:
  path:
    description: Where it stands, in the directory C(bin) of the application's state directory. Its name tells the version; others are removed.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Have the program
  lastro.deploy.engine_program:
    path: /var/lib/lastro/calendar-api/bin/engine-b50b62bcd64fbd2a.pyz
"""

RETURN = r"""
installed:
  description: Whether it is there. False in check mode, and where the path of the host's Python is too long for the first line of a program.
  returned: success
  type: bool
"""

import sys
from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils import _engine_program
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

SPEC = ArgumentSpec({"path": {"type": "path", "required": True}})


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    try:
        installed = not module.check_mode and _engine_program.install(Path(module.params["path"]), sys.executable)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, installed=installed)


if __name__ == "__main__":
    main()
