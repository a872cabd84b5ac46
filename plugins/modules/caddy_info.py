#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: caddy_info
short_description: Which slot serves, and whether maintenance is on
description:
  - Reads the files below C(proxy/) in O(state_dir), for whose presence Caddy looks at each request. It writes nothing and asks nobody.
extends_documentation_fragment: [lastro.deploy.attributes.info]
author:
  - lastro.deploy contributors (@lastro)
options:
  state_dir:
    description: The application's state directory on this host.
    type: path
    required: true
  hosts:
    description: The app hosts whose slots are told.
    type: list
    elements: str
    default: []
seealso:
  - module: lastro.deploy.caddy
"""

EXAMPLES = r"""
- name: See where the proxy points
  lastro.deploy.caddy_info:
    state_dir: /var/lib/lastro/calendar-api
    hosts: [app1, app2]
  register: proxy
"""

RETURN = r"""
maintenance:
  description: Empty, or the maintenance that is on. What its flag does not say is left out; a human may have made it of anything.
  returned: success
  type: dict
  sample: {}
  contains:
    "on":
      description: Always true.
      returned: while maintenance is on
      type: bool
    run_id:
      description: The run that switched it on; empty for a human.
      returned: where the flag says so
      type: str
    by:
      description: Who.
      returned: where the flag says so
      type: str
    since:
      description: When.
      returned: where the flag says so
      type: str
    message:
      description: The reason that users read.
      returned: where the flag says so
      type: str
    until:
      description: When the service is expected back, as users read it.
      returned: where the flag says so
      type: str
slots:
  description: The slot that serves, for each of O(hosts).
  returned: success
  type: dict
  sample: {"app1": "green", "app2": "blue"}
"""


from ansible_collections.lastro.deploy.plugins.module_utils import _proxy_flags
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run

SPEC = ArgumentSpec({"state_dir": {"type": "path", "required": True}, "hosts": {"type": "list", "elements": "str", "default": []}})


def main() -> None:
    """Run the module."""
    run(_proxy_flags.answer, SPEC)


if __name__ == "__main__":
    main()
