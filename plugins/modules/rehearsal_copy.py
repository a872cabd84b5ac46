#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: rehearsal_copy
short_description: Remove the copies of databases that killed rehearsals left behind
description:
  - M(lastro.deploy.alembic_info) makes such copies and removes them itself, unless it is killed. They hold rows.
  - One that is in use stays.
extends_documentation_fragment: [lastro.deploy.attributes]
author:
  - lastro.deploy contributors (@lastro)
options:
  rehearsal_url:
    description: Drop the databases of this role on this server whose name begins with C(lastro_rehearsal_).
    type: str
  rehearsal_cluster:
    description: Remove the clusters below this directory whose name begins with C(lastro-rehearsal-).
    type: path
"""

EXAMPLES = r"""
- name: Remove what a killed rehearsal left
  lastro.deploy.rehearsal_copy:
    rehearsal_cluster: /var/tmp
"""

RETURN = r"""
removed:
  description: The databases and directories that were removed, or would be.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_copy, _scratch_cluster
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url, register_secrets

PLACES = ("rehearsal_url", "rehearsal_cluster")
SPEC = ArgumentSpec({"rehearsal_url": {"type": "str", "no_log": True}, "rehearsal_cluster": {"type": "path"}}, required_one_of=(PLACES,))


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    url, cluster = (module.params[name] for name in PLACES)
    removed: list[str] = []
    try:
        if url:
            settings = parse_url(url)
            register_secrets(module, settings)
            removed += _alembic_copy.left_over(settings, drop=not module.check_mode)
        if cluster:
            removed += _scratch_cluster.left_over(Path(cluster), drop=not module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=bool(removed), removed=removed, diff={"before": {"copies": removed}, "after": {"copies": []}})


if __name__ == "__main__":
    main()
