#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: pg_restore
short_description: Restore a verified backup into a new database, compare it, and put it in the live one's place
description:
  - Restores a backup of M(lastro.deploy.pg_dump) as a stream into a new database that is made from C(template0), and compares every table with the
    manifest. Nothing in the live database is ever cleaned or overwritten.
  - With O(swap=true) the live database is closed to new connections, its sessions are ended, and both databases are renamed in one transaction. The
    replaced one is kept. Owner, grants, connection limit and settings of the database are carried over. On any failure the live one is open again.
  - A database that changed since the backup is exchanged only with O(accept_loss=true).
  - A restore that was killed is taken up by the next call with the same options.
extends_documentation_fragment:
  - lastro.deploy.attributes
  - lastro.deploy.postgres
  - lastro.deploy.progress
options:
  admin_url:
    description:
      - Database URL of a role that may create and rename databases, in a database that is not itself restored.
      - Without it the role of the connection is used in the database C(postgres).
    type: str
  manifest:
    description: Path of the backup's manifest.
    type: path
  dest:
    description: Directory of the backups; the newest good one of the connection's database is taken unless O(name) is given.
    type: path
  name:
    description: Name of the backup in O(dest).
    type: str
  into:
    description:
      - Name of the new database.
      - Without it, the live database's name with C(_restored_) and O(run_id), or the backup's name, after it.
    type: str
  swap:
    description: Whether the restored database takes the live one's place. It needs O(run_id).
    type: bool
    default: false
  run_id:
    description: Run that restores. With O(swap=true) the replaced database is called by its old name, C(_failed_) and this.
    type: str
    default: ''
  compare:
    description: Whether the restored tables are compared with the manifest. O(swap=true) demands it.
    type: bool
    default: true
  jobs:
    description: How many indexes, constraints and triggers are made at once. The rows come as one stream.
    type: int
    default: 1
  identity:
    description: Secret key (C(AGE-SECRET-KEY-1...)) that opens the backup. It stays in memory.
    type: str
  identity_pipe:
    description: A named pipe from which O(identity) is read, once, where the module's options would lie in a file (M(lastro.deploy.step)).
    type: path
  accept_loss:
    description: Whether an exchange may lose what was written since the backup. RV(lost) says in which tables.
    type: bool
    default: false
  bin_dir:
    description:
      - Directory of C(pg_dump) and C(pg_restore). Their major version is at least the server's and that of the C(pg_dump) that made the backup.
      - Without it the best fitting ones below C(/usr/lib/postgresql), C(/usr/pgsql-*) and in E(PATH) are taken.
    type: path
requirements:
  - zstandard, where the backup is compressed
  - pyrage, where the backup is encrypted
  - PostgreSQL 13 or newer, and its client programs
seealso:
  - module: lastro.deploy.pg_dump
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Restore the newest good backup beside the live database
  lastro.deploy.pg_restore:
    environment_file: /opt/calendar-api/env/r2
    dest: /var/backups/calendar-api
    into: calendar_copy
    identity: "{{ backup_identity }}"

- name: Go back to the backup of this run, keep the failed database
  lastro.deploy.pg_restore:
    database_url: "{{ database_url }}"
    admin_url: "{{ admin_url }}"
    manifest: /var/backups/calendar-api/20261121T221004-7c1f.manifest.json
    run_id: 20261121T221004-7c1f
    swap: true
    identity: "{{ backup_identity }}"
"""

RETURN = r"""
database:
  description: Database that holds the restored data; with O(swap=true) the live one.
  returned: success
  type: str
  sample: calendar_copy
backup:
  description: Name of the backup.
  returned: success
  type: str
  sample: 20261121T221004-7c1f
compared:
  description: How the restored tables compare with the manifest. All zero where nothing was compared.
  returned: success, and when they differ
  type: dict
  contains:
    tables:
      description: Tables in the manifest.
      returned: always
      type: int
    equal:
      description: Tables with the same rows.
      returned: always
      type: int
    different:
      description: Tables that are not the same, with RV(lost)'s keys.
      returned: always
      type: list
      elements: dict
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 20.9
swapped:
  description: Whether the restored database has taken the live one's place, or would.
  returned: success
  type: bool
kept_as:
  description: Name under which the replaced database is kept; empty where none was replaced.
  returned: success
  type: str
  sample: calendar_failed_20261121T221004-7c1f
lost:
  description: Tables of the live database that changed since the backup; what an exchange loses.
  returned: success with O(swap=true), and when the exchange is refused
  type: list
  elements: dict
  contains:
    table:
      description: Schema and name of the table.
      returned: always
      type: str
      sample: public.bookings
    reason:
      description: V(rows), V(content), V(columns), V(missing) or V(unexpected).
      returned: always
      type: str
      sample: rows
    expected_rows:
      description: Rows in the backup.
      returned: always
      type: int
    found_rows:
      description: Rows in the database.
      returned: always
      type: int
steps:
  description: What was done, or would be, of V(reopen), V(drop), V(load), V(compare) and V(swap).
  returned: success
  type: list
  elements: str
  sample: [load, compare, swap]
"""

from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._pg_restore import admin_settings, argument_spec, options_from_params, run
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params
from ansible_collections.lastro.deploy.plugins.module_utils._progress import file_progress


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    try:
        settings = settings_from_params(module.params)
        register_secrets(module, settings)
        admin = admin_settings(settings, module.params["admin_url"])
        register_secrets(module, admin)
        options = options_from_params(module.params)
        result = run(settings, admin, options, check_mode=module.check_mode, progress=file_progress(module.params["progress_file"]))
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
