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
  - Where they are given, it looks at the environment's contract, the services, what a backup needs, and the sign-offs too, so that one call
    gives all findings of a host. Each part is what its own module does when it only reports.
extends_documentation_fragment: [lastro.deploy.attributes.info, lastro.deploy.upload]
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
  environment_file:
    description: The environment file of the release on the host, which O(contract), O(services) and O(backup) read.
    type: path
  contract:
    description: What must stand in it, as the option O(lastro.deploy.env_contract#module:contract).
    type: dict
    default: {}
  services:
    description: What must answer, as the option O(lastro.deploy.service_probe#module:targets).
    type: list
    elements: dict
    default: []
  backup:
    description: Options of the module that O(backup_provider) names, whose checks are made as in check mode.
    type: dict
    default: {}
  backup_provider:
    description: The module that makes backups, M(lastro.deploy.pg_dump) or M(lastro.deploy.pgbackrest).
    type: str
    default: pg_dump
    choices: [pg_dump, pgbackrest]
  upload:
    description: The store to which the backup will be copied, as the option O(lastro.deploy.pg_dump#module:upload). It has to let us in.
  signoffs:
    description: Whose sign-off is needed, as C({state_dir, release, required}).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Look at the host
  lastro.deploy.host_probe:
    directories: [/opt/calendar-api, /var/lib/lastro/calendar-api]
    environment_file: /opt/calendar-api/env/r2-3f9c2e1.env
    contract:
      TOKEN_ENCRYPTION_KEY: {type: key, bytes: 32}
    services:
      - {name: sessions, kind: redis, url_variable: REDIS_URL}
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
  description: What is wrong, each with C(target) or C(variable), C(problem) and C(remedy).
  returned: always
  type: list
  elements: dict
signoffs:
  description: The sign-offs that were given for the release.
  returned: always
  type: list
  elements: dict
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _host_probe
from ansible_collections.lastro.deploy.plugins.module_utils._backup_upload import ordinary_values
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError


def main() -> None:
    """Run the module."""
    module = _host_probe.argument_spec().create_module()
    try:
        look = _host_probe.look_from(module.params)
        module.no_log_values.update(look.secrets())
        module.no_log_values.difference_update(ordinary_values(module.params["upload"]))
        result = _host_probe.run(look)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
