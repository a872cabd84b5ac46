#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: restore_copy
short_description: Remove the copies that killed restores left behind, and open the database that one has closed
description:
  - M(lastro.deploy.pg_restore) makes such copies beside the live database and closes that for the moment of the exchange. It puts both right itself,
    unless it is killed.
  - A restore of these runs that still goes on loses its copy. Only the holder of the application's lock may call this module.
extends_documentation_fragment:
  - lastro.deploy.attributes
  - lastro.deploy.postgres
author:
  - lastro.deploy contributors (@lastro)
options:
  admin_url:
    description: As in M(lastro.deploy.pg_restore).
    type: str
  run_ids:
    description: The runs that have died.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Put right what a killed restore left
  lastro.deploy.restore_copy:
    database_url: "{{ database_url }}"
    admin_url: "{{ admin_url }}"
    run_ids: [20261121T221004-7c1f]
"""

RETURN = r"""
removed:
  description: The databases that were dropped, or would be.
  returned: success
  type: list
  elements: str
  sample: [calendar_restored_20261121T221004-7c1f]
opened:
  description: Whether the live database was closed and is open again, or would be.
  returned: success
  type: bool
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _backup_swap
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._backup_snapshot import sql_errors
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._pg_restore import admin_settings
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import connect, connection_argument_spec, register_secrets, settings_from_params

SPEC = connection_argument_spec().merge(
    ArgumentSpec({"admin_url": {"type": "str", "no_log": True}, "run_ids": {"type": "list", "elements": "str", "required": True}})
)


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    try:
        settings = settings_from_params(module.params)
        register_secrets(module, settings)
        admin = admin_settings(settings, module.params["admin_url"])
        register_secrets(module, admin)
        with sql_errors(settings, admin), connect(admin, application_name=_backup_swap.APPLICATION, autocommit=True) as connection:
            removed, opened = _backup_swap.left_over(connection, settings.database, module.params["run_ids"], write=not module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    diff = {"before": {"copies": removed, "closed": opened}, "after": {"copies": [], "closed": False}}
    module.exit_json(changed=bool(removed) or opened, removed=removed, opened=opened, diff=diff)


if __name__ == "__main__":
    main()
