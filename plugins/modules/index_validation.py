#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: index_validation
short_description: Check that the indexes of a contract are there and used
description:
  - Compares the indexes that an application relies on with those that the database has (columns, order, uniqueness, predicate, method, validity).
  - PostgreSQL itself says what an expected index means, on an empty temporary clone of its table that is rolled back. Where that is not possible (a
    standby, no right to make temporary tables) texts are compared, and the finding says so.
  - Asks the planner, in a read-only transaction and with C(EXPLAIN) alone, whether each index can be used.
  - Fails with all findings at once; they are return values too.
extends_documentation_fragment:
  - lastro.deploy.attributes.info
  - lastro.deploy.postgres
options:
  indexes:
    description: The expected indexes.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the index. Any name will do when left out.
        type: str
      schema:
        description: Schema of the table.
        type: str
        default: public
      table:
        description: The table.
        type: str
        required: true
      columns:
        description:
          - Columns or expressions in their order, as C(CREATE INDEX) takes them, such as V(status), V(created_at DESC) or V(lower(email)).
          - Names with capital letters need double quotes.
        type: list
        elements: str
        required: true
      unique:
        description: Whether the index is unique. Not compared with O(indexes[].match=prefix).
        type: bool
        default: false
      where:
        description: Predicate of a partial index.
        type: str
      method:
        description: Access method of the index.
        type: str
        default: btree
      match:
        description: With V(exact) the index has these columns and no others; with V(prefix) it begins with them.
        type: str
        default: exact
        choices: [exact, prefix]
  queries:
    description:
      - Queries and the index that must serve them. They are planned, not executed.
      - An index of O(indexes) that no query names is probed with an equality on its leading column.
    type: list
    elements: dict
    default: []
    suboptions:
      sql:
        description: The query, without parameters.
        type: str
        required: true
      index:
        description: The index that must be used. Exactly one of this and O(queries[].table) is needed.
        type: str
      table:
        description: The table that must be read through some index, as C(table) or C(schema.table).
        type: str
      verdict:
        description:
          - With V(usable) the planner must be able to use the index, whatever the size of the table.
          - With V(chosen) it must do so as things are; where the table is too small to decide, RV(plans[].verdict) says so and nothing fails.
        type: str
        default: usable
        choices: [usable, chosen]
  statement_timeout:
    description: How long one statement may take, as PostgreSQL's C(statement_timeout).
    type: str
    default: 30s
  lock_timeout:
    description: How long to wait for a lock, as PostgreSQL's C(lock_timeout).
    type: str
    default: 2s
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: The indexes of the review queue are there and used
  lastro.deploy.index_validation:
    environment_file: /opt/eduautismo/env/r2
    indexes:
      - {name: ix_intervention_plans_status_needs_review, table: intervention_plans, columns: [status, needs_review]}
      - {name: ix_intervention_plans_last_reviewed_at, table: intervention_plans, columns: [last_reviewed_at]}
      - {table: users, columns: ["lower(email)"], unique: true, where: deleted_at IS NULL}
    queries:
      - sql: SELECT * FROM intervention_plans WHERE status = 'active' AND needs_review
        index: ix_intervention_plans_status_needs_review
"""

RETURN = r"""
valid:
  description: How many of the expected indexes are there and as described.
  returned: when the server can be asked
  type: int
  sample: 4
total:
  description: How many indexes are expected.
  returned: when the server can be asked
  type: int
  sample: 4
used:
  description: How many of RV(plans) are V(usable) or V(chosen).
  returned: when the server can be asked
  type: int
  sample: 4
findings:
  description: What differs from the contract; empty where all is well.
  returned: when the server can be asked
  type: list
  elements: dict
  contains:
    index:
      description: The index, or what the contract says of it where it has no name; the table for queries that name one.
      returned: always
      type: str
      sample: ix_users_email
    expected:
      description: What the contract asks for.
      returned: always
      type: str
      sample: CREATE INDEX ix_users_email ON public.users USING btree (email)
    actual:
      description: What the database has; empty where it has nothing of the kind.
      returned: always
      type: str
      sample: CREATE INDEX ix_users_email ON public.users USING hash (email)
    difference:
      description: What is wrong, in words.
      returned: always
      type: str
      sample: "method: expected btree, found hash"
    remedy:
      description: SQL that mends it, or a comment where no statement does.
      returned: always
      type: str
      sample: CREATE INDEX CONCURRENTLY ix_users_email ON public.users USING btree (email);
plans:
  description: The planner's answers.
  returned: when the server can be asked
  type: list
  elements: dict
  contains:
    query:
      description: What the planner was asked.
      returned: always
      type: str
      sample: equality on status
    verdict:
      description: >-
        V(usable) or V(chosen) as asked; V(not_used) and V(not_explained) are findings; V(other_index) where another index serves the same condition;
        V(too_small) where the table is too small to decide; V(not_probed) where the index's method has no probe.
      returned: always
      type: str
      sample: usable
    index:
      description: The index or table that the answer is about.
      returned: always
      type: str
      sample: ix_users_email
    detail:
      description: What the plan does, or why there is no answer.
      returned: always
      type: str
      sample: Index Scan using ix_users_email
"""

from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._index_validation import argument_spec, run
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    try:
        register_secrets(module, settings_from_params(module.params))
        result = run(module.params, check_mode=module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
