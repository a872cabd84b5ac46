#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: index_contract_info
short_description: Make an index contract from an application's models or from a good database
description:
  - Lists indexes in the form that M(lastro.deploy.index_validation) and C(deploy_indexes) of the profile take, so that a contract need not be written by hand.
  - With O(models) they come from the SQLAlchemy models of a release, read by the application's own interpreter. No database is asked.
  - Without it they come from the database, as the catalog writes them. Indexes that are not valid, and those of partitions, are left out.
extends_documentation_fragment:
  - lastro.deploy.attributes.info
  - lastro.deploy.postgres
options:
  models:
    description: Where the models are. The variables of O(environment_file) are there too.
    type: dict
    suboptions:
      python:
        description: The application's own interpreter, with SQLAlchemy 1.4 or newer. Nothing is installed there.
        type: path
        required: true
      chdir:
        description: The release's directory; modules are imported from there.
        type: path
        required: true
      metadata:
        description: The models' MetaData or declarative base, as C(package.module:object).
        type: str
        required: true
      timeout:
        description: Seconds that the import may take.
        type: int
        default: 60
  schemas:
    description: Schemas of the database to look at.
    type: list
    elements: str
    default: [public]
  tables:
    description: Names of the tables to look at; all where it is empty.
    type: list
    elements: str
    default: []
seealso:
  - module: lastro.deploy.index_validation
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: What the models of a release declare
  lastro.deploy.index_contract_info:
    models:
      python: /opt/eduautismo/releases/r2/venv/bin/python
      chdir: /opt/eduautismo/releases/r2
      metadata: app.models:Base
    environment_file: /opt/eduautismo/env/r2.env

- name: What staging has
  lastro.deploy.index_contract_info:
    environment_file: /opt/eduautismo/env/r2.env
    tables: [intervention_plans]
  register: contract
"""

RETURN = r"""
indexes:
  description: The entries, each with what differs from the defaults of O(lastro.deploy.index_validation#module:indexes).
  returned: success
  type: list
  elements: dict
  sample: [{"name": "ix_users_email", "table": "users", "columns": ["lower((email)::text)"], "unique": true}]
yaml:
  description: The same as C(deploy_indexes) of a profile.
  returned: success
  type: str
left_out:
  description: What is not in the contract, and why.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._index_contract import argument_spec, run
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    try:
        if not module.params["models"]:
            register_secrets(module, settings_from_params(module.params))
        result = run(module.params)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
