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
  - Compares the indexes that an application relies on with those that the database has (columns, order, uniqueness, predicate, method, constraint,
    validity). Any number of them takes one catalog query.
  - What does not match as it stands in the catalog is made by PostgreSQL itself on an empty temporary clone of its table that is rolled back, and
    compared then. Where that is not possible (a standby, no right to make temporary tables) texts are compared, and the answer says so.
  - Asks the planner, in a read-only transaction and with C(EXPLAIN) alone, whether each index can be used. It runs no query and no C(ANALYZE).
  - Reports on all indexes of the database where O(report) asks for it.
  - Fails with all findings at once; they are return values too. A wrong entry is named, the others are still validated.
extends_documentation_fragment:
  - lastro.deploy.attributes
  - lastro.deploy.postgres
  - lastro.deploy.progress
attributes:
  diff_mode:
    support: none
    details: What O(repair) runs is in RV(repairs).
options:
  indexes:
    description:
      - The expected indexes. M(lastro.deploy.index_contract_info) makes such a list from the application's models or from a good database.
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
          - Columns or expressions in their order, as C(CREATE INDEX) takes them, such as V(status), V(created_at DESC NULLS LAST),
            V(email text_pattern_ops) or V(lower(email\)). Names with capital letters need double quotes.
          - Or each as a dictionary with C(column) or C(expression), and C(collation), C(opclass), C(direction) (V(asc), V(desc)), C(nulls) (V(first), V(last)).
        type: list
        elements: raw
        required: true
      unique:
        description: Whether the index is unique. Not compared with O(indexes[].match=prefix).
        type: bool
        default: false
      nulls_not_distinct:
        description: Whether two NULLs violate a unique index (PostgreSQL 15 and newer).
        type: bool
        default: false
      include:
        description: Columns that the index holds without being ordered by them. Not compared with O(indexes[].match=prefix).
        type: list
        elements: str
        default: []
      where:
        description: Predicate of a partial index. The order of what C(AND) joins means nothing.
        type: str
      method:
        description: Access method of the index.
        type: str
        default: btree
      constraint:
        description: The kind of constraint that the index must back, V(none) for an index alone; V(any) does not look at it.
        type: str
        default: any
        choices: [any, none, primary_key, unique, exclusion]
      match:
        description: With V(exact) the index has these columns and no others; with V(prefix) it begins with them.
        type: str
        default: exact
        choices: [exact, prefix]
  queries:
    description:
      - Queries and the index that must serve them. They are planned, not executed.
      - An index of O(indexes) that no query names is probed with an equality on its leading columns.
    type: list
    elements: dict
    default: []
    suboptions:
      sql:
        description: The query. Parameters are written as C($1), C($2).
        type: str
        required: true
      index:
        description: The index that must be used. Exactly one of this and O(queries[].table) is needed.
        type: str
      table:
        description: The table that must be read through some index, as C(table) or C(schema.table).
        type: str
      parameters:
        description: Values of the parameters, as an application would give them; no secrets. They are needed for V(chosen).
        type: list
        elements: raw
        default: []
      verdict:
        description:
          - With V(usable) the planner must be able to use the index, whatever the size of the table.
          - With V(chosen) it must do so as things are.
          - With V(chosen_generic) it must do so without knowing the parameters' values, as for a prepared statement.
          - Where the table is too small for a choice to say anything, RV(plans[].verdict) says so and nothing fails.
        type: str
        default: usable
        choices: [usable, chosen, chosen_generic]
      max_rows_scanned:
        description: The highest number of rows that the plan may read in all, by the planner's own estimate.
        type: int
      must_not:
        description: What the plan must not do.
        type: dict
        default: {}
        suboptions:
          seq_scan_on:
            description: Tables that must not be read as a whole, unless they are too small to decide.
            type: list
            elements: str
            default: []
  report:
    description:
      - V(invalid), unfinished and invalid indexes, leftovers of C(REINDEX CONCURRENTLY) among them.
      - V(duplicates), indexes that another one makes needless. V(unused), with the age of the statistics and the counters of O(standbys).
      - V(missing_fk), foreign keys without an index. V(bloat), measured with pgstattuple where that is installed, else estimated.
      - V(slow), from pg_stat_statements, with what their generic plans read as a whole.
    type: list
    elements: str
    default: []
    choices: [invalid, duplicates, unused, missing_fk, bloat, slow]
  thresholds:
    description: From where on reports speak.
    type: dict
    default: {}
    suboptions:
      unused_days:
        description: How old the statistics must be, in days, before an index is called unused.
        type: float
        default: 7.0
      bloat_percent:
        description: The share of an index that may be empty, beyond its fill factor.
        type: float
        default: 50.0
      bloat_min_bytes:
        description: Smaller indexes are not looked at.
        type: int
        default: 10485760
      slow_mean_ms:
        description: From which mean duration on a statement is slow, in milliseconds.
        type: float
        default: 100.0
      limit:
        description: How many of the largest indexes (bloat), or of the costliest statements (slow), are looked at.
        type: int
        default: 20
  standbys:
    description:
      - Addresses of the standbys that serve queries too, as C(host) or C(host:port), for O(report=unused).
      - They are reached with the role, password and database of the primary. Where one cannot be asked, no index is called unused.
    type: list
    elements: str
    default: []
  fail_on:
    description: What makes the module fail. A report that is named here is made too.
    type: list
    elements: str
    default: [contract, queries]
    choices: [contract, queries, invalid, duplicates, unused, missing_fk, bloat, slow]
  before:
    description:
      - RV(findings) of an earlier call, to tell what is new. A finding of a report that stood before fails nothing; one of the contract or of a query does.
    type: list
    elements: dict
  report_only:
    description: Return the findings instead of failing.
    type: bool
    default: false
  repair:
    description:
      - V(reindex_concurrently) builds invalid indexes of O(indexes) anew, concurrently, and drops what an interrupted C(REINDEX CONCURRENTLY) of them left.
      - Indexes that are being built and those that are not part of the contract stay as they are. In check mode it only says what it would run.
    type: str
    default: none
    choices: [none, reindex_concurrently]
  repair_timeout:
    description: How long each of them may take, waiting for older transactions included, as PostgreSQL's C(statement_timeout).
    type: str
    default: 1h
  statement_timeout:
    description: How long one round trip (all entries of the contract together, or one query) may take, as PostgreSQL's C(statement_timeout).
    type: str
    default: 30s
  lock_timeout:
    description: How long to wait for a lock, as PostgreSQL's C(lock_timeout).
    type: str
    default: 2s
seealso:
  - module: lastro.deploy.index_contract_info
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
      - sql: SELECT * FROM intervention_plans WHERE status = $1 AND needs_review
        parameters: [active]
        index: ix_intervention_plans_status_needs_review
        verdict: chosen
        max_rows_scanned: 1000

- name: Nothing broken and nothing needless in the whole database
  lastro.deploy.index_validation:
    environment_file: /opt/eduautismo/env/r2
    report: [invalid, duplicates, unused, missing_fk]
    standbys: [10.0.0.12]
    fail_on: [contract, invalid]
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
  description: How many of RV(plans) have the verdict that was asked for.
  returned: when the server can be asked
  type: int
  sample: 4
findings:
  description: What differs from the contract, and what reports named in O(fail_on) found; empty where all is well.
  returned: when the server can be asked
  type: list
  elements: dict
  contains:
    about:
      description: C(contract), C(queries) or the report.
      returned: always
      type: str
      sample: contract
    kind:
      description: >-
        One word for it, such as C(missing), C(other_name), C(name_taken), C(different), C(constraint), C(invalid), C(not_ready), C(not_live), C(building),
        C(half_attached), C(leftover), C(no_table), C(no_schema), C(cannot_exist), C(bad_entry), C(not_used), C(over_limit), C(not_explained).
      returned: always
      type: str
      sample: different
    index:
      description: The index, or what the contract says of it where it has no name; the table for queries that name one.
      returned: always
      type: str
      sample: ix_users_email
    table:
      description: Its table, with the schema.
      returned: always
      type: str
      sample: public.users
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
    words:
      description: The same in both languages, as C({en, pt_BR}).
      returned: always
      type: dict
    remedy:
      description: SQL that mends it, or a comment where no statement does.
      returned: always
      type: str
      sample: CREATE INDEX CONCURRENTLY ix_users_email ON public.users USING btree (email);
    new:
      description: Whether O(before) did not have it.
      returned: always
      type: bool
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
        V(usable), V(chosen) or V(chosen_generic) as asked; V(not_used) and V(not_explained) are findings; V(other_index) where another index serves the
        same condition; V(too_small) where the table is too small to decide; V(not_probed) where the index's method has no probe.
      returned: always
      type: str
      sample: usable
    usable:
      description: V(yes), V(no) or V(unknown).
      returned: always
      type: str
    chosen:
      description: V(yes), V(no), V(too_small) or V(unknown).
      returned: always
      type: str
    chosen_generic:
      description: V(yes), V(no), V(too_small) or V(unknown).
      returned: always
      type: str
    rows:
      description: How many rows the plan reads by the planner's estimate; V(-1) where it was not asked.
      returned: always
      type: int
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
reports:
  description: >-
    What O(report) asked for, by name. Each has C(found), a list with C(schema), C(table), C(index) and the report's own figures, and C(note), which says
    in both languages how it was found or why it was not.
  returned: when the server can be asked
  type: dict
repairs:
  description: What O(repair) ran or, in check mode, would run.
  returned: when the server can be asked
  type: list
  elements: dict
  contains:
    index:
      description: The index.
      returned: always
      type: str
    statement:
      description: The statement.
      returned: always
      type: str
      sample: REINDEX INDEX CONCURRENTLY public.ix_users_email
    problem:
      description: PostgreSQL's error; empty where it ran.
      returned: always
      type: str
compared_as_text:
  description: Why entries could be compared as text alone; empty where PostgreSQL could be asked what they mean.
  returned: when the server can be asked
  type: str
  sample: the server is a standby
text:
  description: All of it for a person to read, as C({en, pt_BR}).
  returned: when the server can be asked
  type: dict
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
