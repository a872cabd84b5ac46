#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: alembic
short_description: Bring a database to a revision of its Alembic migrations, with bounded locks
description:
  - Upgrades or downgrades under the application's own interpreter, one transaction per revision, with lock and statement timeouts that are read back
    in the migration's own session.
  - Exactly one process migrates. An advisory lock is polled on the migration's own connection, and the database's revision is read again behind it.
  - A revision that got no lock, or met a deadlock, is tried again as long as it committed nothing. Who was in the way is said, in success and failure.
  - Concurrent index builds get limits of their own. An invalid index that an interrupted build left is dropped before its revision builds it again.
  - A standby, a read-only database and a pooler in transaction mode are refused before anything runs.
  - The process that runs Alembic dies with the module, and its database session with it.
  - Afterwards the revision is read from the database, and indexes that are invalid are listed.
extends_documentation_fragment:
  - lastro.deploy.attributes
  - lastro.deploy.postgres
  - lastro.deploy.alembic
  - lastro.deploy.progress
options:
  state:
    description:
      - V(upgraded) applies what is missing up to O(revision); a database that is there or beyond stays as it is.
      - V(downgraded) goes back to O(revision); run it with the files of the release that added what is taken back.
      - V(stamped) writes O(revision) into the version table and runs nothing.
    type: str
    default: upgraded
    choices: [upgraded, downgraded, stamped]
  revision:
    description:
      - The revision to bring the database to, as V(heads), V(branch@head), an identifier, or V(base) for a downgrade of everything.
      - Relative ones (V(-1)) are refused, since a second run would do something else.
    type: str
    default: heads
  phase:
    description:
      - V(expand) applies what stands before the first revision that running code does not survive, V(contract) that one and the rest, V(any) everything.
      - An expanding revision behind a contracting one is an error in V(expand) and V(contract).
    type: str
    default: any
    choices: [any, expand, contract]
  contracting:
    description: Revisions that count as contracting whatever the rules here say, for example those that squawk has found on the controller.
    type: list
    elements: str
    default: []
  lock_timeout:
    description: How long a statement may wait for a lock, as PostgreSQL writes durations.
    type: str
    default: 2s
  statement_timeout:
    description: How long a statement may take; V(0) is no limit.
    type: str
    default: 15min
  concurrent_lock_timeout:
    description:
      - How long a concurrent index build may wait for older transactions. It waits for all of them by nature; cut off, it leaves an invalid index.
      - O(statement_timeout) does not hold for these statements, O(deadline) does.
    type: str
    default: 10min
  deadline:
    description: Seconds for everything, waiting for the advisory lock included. Then the process and its database session are ended.
    type: float
    default: 3600.0
  retries:
    description: How often a revision that got no lock, or met a deadlock, is tried again.
    type: int
    default: 10
  retry_delay:
    description: Seconds before the first of them; doubled each time up to 30, with jitter.
    type: float
    default: 1.0
  repair:
    description:
      - V(drop) drops an invalid index that an interrupted concurrent build left, just before a revision builds it concurrently again; V(none) leaves it.
      - It touches an index of that name on that table alone, and none that is being built.
      - V(reindex) does that too, and afterwards builds every invalid index of the database again, concurrently (leftovers of a REINDEX are dropped).
    type: str
    default: drop
    choices: [none, reindex, drop]
  blockers:
    description: What to do before anything runs about transactions that have been open for long, since a migration would wait for them.
    type: dict
    default: {}
    suboptions:
      max_transaction_age:
        description: Seconds after which a transaction of this database counts.
        type: float
        default: 60.0
      action:
        description: V(report) names them in RV(blockers), V(wait) waits for them until O(deadline), V(fail) stops.
        type: str
        default: report
        choices: [report, wait, fail]
  accept_loss:
    description: Let O(state=downgraded) drop tables and columns that hold rows, and run statements whose loss cannot be told.
    type: bool
    default: false
  application_name:
    description: The name of the migration's database sessions.
    type: str
    default: lastro.deploy migrate
seealso:
  - module: lastro.deploy.alembic_info
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Everything that the running release survives
  lastro.deploy.alembic:
    environment_file: /opt/calendar-api/env/r2
    chdir: /opt/calendar-api/releases/r2
    python: /opt/calendar-api/releases/r2/.venv/bin/python
    phase: expand

- name: Back to where the older release was, with the newer release's files
  lastro.deploy.alembic:
    environment_file: /opt/calendar-api/env/r2
    chdir: /opt/calendar-api/releases/r2
    python: /opt/calendar-api/releases/r2/.venv/bin/python
    state: downgraded
    revision: a1b2c3d4
"""

RETURN = r"""
before:
  description: The database's revisions, read behind the advisory lock.
  returned: success, and failure while migrating
  type: list
  elements: str
  sample: [a1b2c3d4]
after:
  description: The database's revisions at the end, read from another session.
  returned: success, and failure while migrating
  type: list
  elements: str
  sample: [c3d4e5f6]
planned:
  description: The revisions that this call applies, as RV(lastro.deploy.alembic_info#module:pending). Another process may apply some of them first.
  returned: success
  type: list
  elements: dict
applied:
  description: The revisions that this call applied; empty in check mode.
  returned: success, and failure while migrating
  type: list
  elements: dict
  contains:
    revision:
      description: Identifier of the revision.
      returned: always
      type: str
    message:
      description: First line of its message.
      returned: always
      type: str
    seconds:
      description: How long it took, its commit included.
      returned: always
      type: float
    statements:
      description: How many statements it ran.
      returned: always
      type: int
    retried:
      description: How often it was tried again.
      returned: always
      type: int
settings:
  description: C(lock_timeout), C(statement_timeout) and C(client_connection_check_interval) as the migration's session had them.
  returned: success, and failure while migrating
  type: dict
  sample: {lock_timeout: 2s, statement_timeout: 15min, client_connection_check_interval: 1s}
blockers:
  description: Sessions that the migration waited for, the longest transaction first.
  returned: success, and failure while migrating
  type: list
  elements: dict
  contains:
    pid:
      description: Process on the server.
      returned: always
      type: int
    application:
      description: Its application name, or the kind of process.
      returned: always
      type: str
    user:
      description: Its role.
      returned: always
      type: str
    state:
      description: What it does, as in pg_stat_activity.
      returned: always
      type: str
      sample: idle in transaction
    transaction_age:
      description: Seconds since its transaction began.
      returned: always
      type: float
    query:
      description: Its newest statement, without literals.
      returned: always
      type: str
findings:
  description: What the rules say of the planned revisions, as RV(lastro.deploy.alembic_info#module:findings).
  returned: success
  type: list
  elements: dict
invalid_indexes:
  description: Indexes that no query can use and that nobody builds now.
  returned: success, and failure while migrating
  type: list
  elements: dict
  contains:
    index:
      description: Schema and name.
      returned: always
      type: str
    table:
      description: Its table.
      returned: always
      type: str
repaired_indexes:
  description: Invalid indexes that were dropped before their revision built them again, or built again at the end.
  returned: success, and failure while migrating
  type: list
  elements: str
retried:
  description: How often a revision was tried again.
  returned: success, and failure while migrating
  type: int
model_differences:
  description: What O(check_models) has found, as operation and object.
  returned: success
  type: list
  elements: str
losses:
  description: What a downgrade removes that holds rows.
  returned: success, and failure for want of O(accept_loss)
  type: list
  elements: dict
  contains:
    revision:
      description: The revision whose downgrade removes it.
      returned: always
      type: str
    what:
      description: The table or column, or the statement whose loss cannot be told.
      returned: always
      type: str
      sample: column credentials.token_encrypted
code:
  description: A word for what went wrong, for example V(database), V(deadline), V(misplaced), V(multiple_heads), V(database_ahead), V(blockers),
    V(standby), V(pooler).
  returned: failure
  type: str
sqlstate:
  description: PostgreSQL's code of the error, or an empty text.
  returned: failure in the application's code
  type: str
revision:
  description: The revision that failed, or an empty text.
  returned: failure in the application's code
  type: str
traceback_tail:
  description: The last lines of the traceback under the application's interpreter, without secrets.
  returned: failure in the application's code, with C(-vvv)
  type: list
  elements: str
"""

from ansible_collections.lastro.deploy.plugins.module_utils._alembic_errors import as_result
from ansible_collections.lastro.deploy.plugins.module_utils._alembic_migrate import argument_spec, run_module
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    try:
        register_secrets(module, settings_from_params(module.params))
        result = run_module(module.params, check_mode=module.check_mode)
    except LastroError as error:
        module.fail_json(**as_result(error, module._verbosity))
    for index in result["invalid_indexes"]:
        module.warn(f"The index {index['index']} on {index['table']} is invalid: no query uses it.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
