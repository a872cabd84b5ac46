#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: alembic_info
short_description: Say where a database stands in its Alembic migrations and what is pending
description:
  - Reads the revision of the database and the revision files of a release, renders what is pending as SQL, and says of each revision whether
    running code survives it, whether it makes users wait, and whether it can be taken back.
  - Works where the database is ahead of the release, empty, or has no version table. It writes nothing and creates nothing, neither in the
    database (its session is read-only) nor in the release's directory.
  - The rules are those of squawk, where it is installed on the controller, and our own. A wait weighs what its table's size makes of it, and a change of
    type that PostgreSQL makes without touching a row is none. What cannot be read (a DO block, a revision that needs a database to be rendered)
    counts as breaking.
  - Asks the database, read-only and with a timeout, whether the rows that are there let the pending revisions succeed.
  - A pooler in transaction mode is refused before anything is set in its sessions, since it would stay set for other clients.
extends_documentation_fragment:
  - lastro.deploy.attributes.info
  - lastro.deploy.postgres
  - lastro.deploy.alembic
options:
  revision:
    description:
      - The revision up to which migrations are read, as V(heads), V(branch@head) or an identifier. Relative ones (V(+1)) are refused.
      - V(current) means where the database stands, which makes sense together with O(from_revision).
    type: str
    default: heads
  from_revision:
    description:
      - Read what lies between these revisions and O(revision), instead of between the database and O(revision).
      - With the revisions that an older release was made for this says whether the older release's code can run on the newer schema.
    type: list
    elements: str
  prechecks:
    description:
      - Count what would make a pending revision fail. NULLs before SET NOT NULL, duplicates before a unique index, orphans before a foreign key, rows that
        violate a CHECK, values that would not cast.
      - Each in a read-only transaction, each statement at most 20 seconds, and none past O(deadline). Not done with O(from_revision).
    type: bool
    default: true
  rehearsal_url:
    description:
      - Run the pending revisions on a throw-away copy, which is made on this server, up and as far as there is a way down again.
      - Any database of the server will do. The copy is a database of its own, whose name begins with C(lastro_rehearsal_). It is dropped at the end, or by
        the next rehearsal where this one is killed.
      - The role needs CREATEDB. C(pg_dump) and C(pg_restore) at least as new as both servers must be on this host. Up to 5 GB the copy has all rows, above only
        the schema. Name the server of production only where that may carry the load.
      - Shows what reading cannot, for example what a DO block does. Not done with O(from_revision).
    type: str
  rehearsal_cluster:
    description:
      - A directory on this host, for the same in a throw-away cluster. It is made below that directory, listens on the loopback address alone, and is removed
        at the end. It dies with the module; files that a killed one left are removed by the next rehearsal.
      - Needs the programs of a server at least as new as that of the database (no cluster of it has to run), and room for the database. Where this runs as
        root, the cluster runs as C(postgres), else as C(nobody), which must be able to enter the directory.
    type: path
  rehearsal_copy:
    description:
      - The directory that M(lastro.deploy.pg_dump) returned in RV(lastro.deploy.pg_dump#module:kept_copy), for the same in the copy by which it has proved
        its backup. It is removed at the end.
    type: path
  bin_dir:
    description:
      - The directory of C(pg_dump) and C(pg_restore), and of C(initdb) and C(postgres) for O(rehearsal_cluster).
      - Without it they are looked for where packages put them, then in PATH.
    type: path
  deadline:
    description: Seconds after which the reading, with the rehearsal, is given up.
    type: float
    default: 120.0
notes:
  - An action plugin of the same name runs squawk on the controller, one file for each revision. Called by C(step), our own rules stand alone.
seealso:
  - module: lastro.deploy.alembic
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: What would this release do to the database
  lastro.deploy.alembic_info:
    environment_file: /opt/calendar-api/env/r2
    chdir: /opt/calendar-api/releases/r2
    python: /opt/calendar-api/releases/r2/.venv/bin/python
  register: migrations

- name: Can the older release's code run on what the newer one has made of the schema
  lastro.deploy.alembic_info:
    environment_file: /opt/calendar-api/env/r2
    chdir: /opt/calendar-api/releases/r2
    python: /opt/calendar-api/releases/r2/.venv/bin/python
    from_revision: [a1b2c3d4]
    revision: current
  register: back
  failed_when: not back.compatible
"""

RETURN = r"""
current:
  description: The revisions recorded in the database; empty where there is none.
  returned: success
  type: list
  elements: str
  sample: [a1b2c3d4]
heads:
  description: The heads of the release.
  returned: success
  type: list
  elements: str
  sample: [c3d4e5f6]
status:
  description:
    - V(database_ahead) (the database has a revision that the release does not know), V(multiple_heads), V(unstamped) (tables, but no recorded
      revision), V(pending) or V(up_to_date). The first that is true.
  returned: success
  type: str
  sample: pending
unknown:
  description: Revisions in the database that the release does not know.
  returned: success
  type: list
  elements: str
pending:
  description: The revisions that are pending, in their order.
  returned: success
  type: list
  elements: dict
  contains:
    revision:
      description: Identifier of the revision.
      returned: always
      type: str
      sample: c3d4e5f6
    message:
      description: First line of its message.
      returned: always
      type: str
    kind:
      description: V(contract) where it breaks running code, V(expand) where running code survives it.
      returned: always
      type: str
      sample: expand
    reversible:
      description:
        - Whether its downgrade is more than empty, pass or raise, and its upgrade drops no table or column, which would come back empty
          (rule C(values-lost)).
      returned: always
      type: bool
    neutral:
      description: Whether it changes nothing but the recorded revision.
      returned: always
      type: bool
    breaking_findings:
      description: Names of the rules why running code breaks.
      returned: always
      type: list
      elements: str
    blocking_findings:
      description: Names of the rules why readers or writers wait.
      returned: always
      type: list
      elements: str
sql:
  description: The SQL of each pending revision, as Alembic renders it.
  returned: success
  type: list
  elements: dict
  contains:
    revision:
      description: Identifier of the revision.
      returned: always
      type: str
    sql:
      description: Its statements; may be incomplete where a finding says V(unrenderable).
      returned: always
      type: str
findings:
  description: What the rules found in the pending revisions.
  returned: success
  type: list
  elements: dict
  contains:
    revision:
      description: Identifier of the revision.
      returned: always
      type: str
    rule:
      description: Name of the rule.
      returned: always
      type: str
      sample: index-not-concurrent
    kind:
      description:
        - V(contract) (breaks running code), V(wait) (blocks readers or writers), V(fails) (the upgrade would end there), V(irreversible) or V(notice).
      returned: always
      type: str
    severity:
      description:
        - V(block), V(contract), V(warn) or V(note).
        - A wait is a V(note) on a table below 16 MiB and a V(warn) below 128 MiB. Where the size is not known it is a V(block).
      returned: always
      type: str
    table:
      description: The table, or an empty text.
      returned: always
      type: str
    statement:
      description: The statement in one line, shortened.
      returned: always
      type: str
    why:
      description: What happens.
      returned: always
      type: str
    safe_way:
      description: How to do it without that.
      returned: always
      type: str
    engine:
      description: V(lastro), V(squawk), V(data) for a precheck, or V(rehearsal).
      returned: always
      type: str
    allowed:
      description: Whether O(lint.allow) names it.
      returned: always
      type: bool
cleared:
  description: What a linter would find and the database's catalog, or an earlier statement, shows to be harmless.
  returned: success
  type: list
  elements: dict
  contains:
    revision:
      description: Identifier of the revision.
      returned: always
      type: str
    rules:
      description: The rules that do not count here.
      returned: always
      type: list
      elements: str
    statement:
      description: The statement in one line, shortened.
      returned: always
      type: str
    why:
      description: Why it is harmless.
      returned: always
      type: str
prechecks:
  description: What was counted before the pending revisions.
  returned: success
  type: list
  elements: dict
  contains:
    revision:
      description: Identifier of the revision.
      returned: always
      type: str
    check:
      description: V(nulls), V(duplicates), V(orphans), V(violations) or V(casts).
      returned: always
      type: str
    table:
      description: The table.
      returned: always
      type: str
    columns:
      description: The columns or expressions.
      returned: always
      type: list
      elements: str
    count:
      description: Rows that are in the way; -1 where the time was over.
      returned: always
      type: int
    primary_keys:
      description: The primary keys of up to ten of them (their place in the table where it has none).
      returned: always
      type: list
      elements: str
    complete:
      description: Whether it was counted to the end.
      returned: always
      type: bool
    certain:
      description: Whether no earlier pending statement may change these rows.
      returned: always
      type: bool
tables:
  description: The tables that pending revisions name, the largest first.
  returned: success
  type: list
  elements: dict
  contains:
    table:
      description: Schema and name.
      returned: always
      type: str
    bytes:
      description: Size with partitions and TOAST, without indexes. Of a table that somebody has locked what the statistics say, or -1.
      returned: always
      type: int
    rows:
      description: Rows, as the statistics say.
      returned: always
      type: int
lint:
  description: Which engine has looked.
  returned: success
  type: dict
  sample: {engine: lastro+squawk, profile: default, server: 18}
blockers:
  description: Sessions with a transaction older than a minute, as RV(lastro.deploy.alembic#module:blockers).
  returned: success
  type: list
  elements: dict
invalid_indexes:
  description: Indexes that no query can use and that nobody builds now, as RV(lastro.deploy.alembic#module:invalid_indexes).
  returned: success
  type: list
  elements: dict
model_differences:
  description: What O(check_models) has found, as operation and object; empty where revisions are pending.
  returned: success
  type: list
  elements: str
rehearsal:
  description: What O(rehearsal_url), O(rehearsal_cluster) or O(rehearsal_copy) has shown; empty where none was asked for or nothing is pending.
  returned: success
  type: dict
  contains:
    rows:
      description: Whether the copy had the rows, not only the schema; without them durations say nothing.
      returned: where it ran
      type: bool
    seconds:
      description: How long the way up took.
      returned: where it ran
      type: float
    revisions:
      description:
        - Each revision that was applied, with its C(seconds) and its C(statements) (C(statement), C(seconds)).
        - Its C(locks) are those that readers or writers wait for (C(table), C(mode), C(seconds)), its C(rewrites) the tables that were rewritten (C(table),
          C(statement)); C(removed) names the columns, relations and functions that were there before it.
      returned: where it ran
      type: list
      elements: dict
    long_locks:
      description: The locks among them that were held for longer than a second, with their C(revision).
      returned: where it ran
      type: list
      elements: dict
    rewrites:
      description: The tables among them that were rewritten, with their C(revision).
      returned: where it ran
      type: list
      elements: dict
    reverted:
      description: The revisions that were taken back, in that order, up to the first without a way back; none where the database has two heads.
      returned: where it ran
      type: list
      elements: str
    not_reverted:
      description: What was different after that from before, as C(revision) and C(what).
      returned: where it ran
      type: list
      elements: dict
    irreversible:
      description: The revisions in RV(rehearsal.not_reverted). They count as not reversible.
      returned: where it ran
      type: list
      elements: str
    failed_revision:
      description: The revision that failed, or an empty text.
      returned: where it ran
      type: str
    problem:
      description: How it failed, or an empty text.
      returned: where it ran
      type: str
phases:
  description: The pending chain cut at its first contracting revision.
  returned: success
  type: dict
  contains:
    expand:
      description: Revisions before the first contracting one.
      returned: always
      type: list
      elements: str
    contract:
      description: The first contracting revision and all behind it.
      returned: always
      type: list
      elements: str
    misplaced:
      description: Those of RV(phases.contract) that are expanding and change something.
      returned: always
      type: list
      elements: str
compatible:
  description: Whether code that runs now survives everything pending; false where the database is ahead.
  returned: success
  type: bool
reversible:
  description: Whether everything pending can be taken back by downgrades; false where the database is ahead.
  returned: success
  type: bool
needs_maintenance:
  description: Whether users would notice, since a statement makes them wait or an expanding revision stands behind a contracting one.
  returned: success
  type: bool
needs_maintenance_reason:
  description: Revisions and rules behind RV(needs_maintenance), or an empty text.
  returned: success
  type: str
  sample: "c3d4e5f6: index-not-concurrent"
other_tables:
  description: How many tables the database has beside the version table.
  returned: success
  type: int
version_table:
  description: The version table, with its schema where it is known.
  returned: success
  type: str
  sample: public.alembic_version
code:
  description: A word for what went wrong, for example V(env), V(revision), V(revision_files), V(alembic_missing), V(denied).
  returned: failure
  type: str
traceback_tail:
  description: The last lines of the traceback under the application's interpreter, without secrets.
  returned: failure in the application's code, with C(-vvv)
  type: list
  elements: str
"""

from ansible_collections.lastro.deploy.plugins.module_utils._alembic import info_argument_spec, information
from ansible_collections.lastro.deploy.plugins.module_utils._alembic_errors import as_result
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params


def main() -> None:
    """Run the module."""
    module = info_argument_spec().create_module()
    try:
        register_secrets(module, settings_from_params(module.params))
        result = information(module.params)
    except LastroError as error:
        module.fail_json(**as_result(error, module._verbosity))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
