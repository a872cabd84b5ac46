#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: rehearsal_copy
short_description: Drop the copies of databases that killed rehearsals left behind
description:
  - Drops the databases of the role whose name begins with C(lastro_rehearsal_) and in which there is no session.
  - M(lastro.deploy.alembic_info) makes them for O(lastro.deploy.alembic_info#module:rehearsal_url) and drops them itself, unless it is killed. They hold rows.
extends_documentation_fragment: [lastro.deploy.attributes, lastro.deploy.postgres]
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Drop what a killed rehearsal left
  lastro.deploy.rehearsal_copy:
    database_url: "{{ deploy_migrations.rehearsal_url }}"
"""

RETURN = r"""
dropped:
  description: The databases that were dropped, or would be.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_copy
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import connection_argument_spec, register_secrets, settings_from_params


def main() -> None:
    """Run the module."""
    module = connection_argument_spec().create_module()
    try:
        settings = settings_from_params(module.params)
        register_secrets(module, settings)
        dropped = _alembic_copy.left_over(settings, drop=not module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=bool(dropped), dropped=dropped, diff={"before": {"copies": dropped}, "after": {"copies": []}})


if __name__ == "__main__":
    main()
