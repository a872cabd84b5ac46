#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgbackrest
short_description: Back up a whole PostgreSQL cluster with pgBackRest, and name the moment to go back to
description:
  - For databases too large for M(lastro.deploy.pg_dump). Drives a pgBackRest that is set up already. It has a configuration, a stanza that was created,
    and PostgreSQL archives its WAL with it.
  - Proves with C(pgbackrest check) that the archive works, before anything else. Then makes the backup, names a restore point in PostgreSQL, waits until the
    archive has it, and has C(pgbackrest verify) read every file of the repository again.
  - What was done is kept as annotations of the backup. A call with the same O(run_id) does what is missing, and returns with RV(ignore:changed=false)
    where nothing is.
  - A backup is of the whole cluster, with all its databases. It is restored into a new directory, by RV(restore_command); no run does that by itself.
  - Old backups are removed by pgBackRest's own retention (C(repo-retention-*)), and reported.
  - In check mode the stanza, the server, its archiver's last attempt, and the rights of the role are looked at; nothing is archived.
extends_documentation_fragment:
  - lastro.deploy.attributes
  - lastro.deploy.postgres
  - lastro.deploy.progress
options:
  stanza:
    description: The stanza of the cluster that the connection options lead to. Another cluster's is refused, by its system identifier.
    type: str
    required: true
  run_id:
    description: Run that makes the backup. It becomes an annotation of the backup and part of the restore point's name. At most 45 characters.
    type: str
    required: true
  config:
    description: pgBackRest's configuration file, where it is not at its usual place.
    type: path
  repo:
    description: Number of the repository; the first one where it is left out.
    type: int
  type:
    description:
      - V(full) copies everything, V(diff) what has changed since the last full backup, V(incr) what has changed since the last backup of any type.
      - V(auto) is V(incr), and V(full) where there is no full one yet.
    type: str
    default: auto
    choices: [auto, full, diff, incr]
  verify:
    description:
      - V(read) has every file of the repository read and its checksum compared. A fault in this backup, in those that it builds on, or in the archive is an
        error; one in another backup is a warning.
      - V(none) leaves that to somebody else. For a repository of terabytes it takes hours.
    type: str
    default: read
    choices: [read, none]
  archive_timeout:
    description: Seconds that a WAL segment may take until the archive has it.
    type: int
    default: 60
  lock_timeout:
    description:
      - Seconds to wait for another pgBackRest process of the stanza to end. After a C(kill -9) of a backup, its orphan holds the lock until it has copied the
        file that it was at.
    type: int
    default: 60
  process_max:
    description: Processes that compress and copy at once; as pgBackRest's configuration says where it is left out.
    type: int
  start_fast:
    description: Whether the backup begins with a checkpoint of its own instead of waiting for the next one, which may take minutes.
    type: bool
    default: true
  user:
    description:
      - Account that runs C(pgbackrest), which is the one that runs PostgreSQL, or the owner of the repository. Files of root there would stop the archive.
      - Where this module runs as root, V(postgres) by default. Otherwise it cannot be another one than the module's own.
    type: str
requirements:
  - pgBackRest 2.41 or newer, in E(PATH)
  - setpriv (util-linux)
seealso:
  - module: lastro.deploy.pg_dump
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: An incremental backup and a restore point before the migration
  lastro.deploy.pgbackrest:
    database_url: "{{ admin_url }}"
    stanza: calendar
    run_id: 20261121T221004-7c1f

- name: A full one with four processes, verified by a job of its own
  lastro.deploy.pgbackrest:
    login_host: /run/postgresql
    login_user: postgres
    login_db: postgres
    stanza: calendar
    run_id: weekly-2026-47
    type: full
    process_max: 4
    verify: none
"""

RETURN = r"""
label:
  description: pgBackRest's name of the backup.
  returned: when the backup exists
  type: str
  sample: 20261121-221007F_20261122-030002I
path:
  description: The stanza and the label, as one word.
  returned: success
  type: str
  sample: calendar/20261121-221007F_20261122-030002I
stanza:
  description: The stanza.
  returned: success
  type: str
  sample: calendar
repo:
  description: The repository that has the backup.
  returned: success
  type: int
  sample: 1
backup_type:
  description: V(full), V(diff) or V(incr).
  returned: when the backup exists
  type: str
  sample: incr
restore_point:
  description: Name of the moment in PostgreSQL's WAL to which a restore goes.
  returned: when the backup exists
  type: str
  sample: lastro-20261121T221004-7c1f-1795678256
snapshot_lsn:
  description: Position of the restore point in the server's write-ahead log.
  returned: when the backup exists
  type: str
  sample: 0/1A2B3C40
restore_command:
  description: The command that restores the cluster of that moment into an empty directory, as the account that runs PostgreSQL.
  returned: when the backup exists
  type: str
  sample: >-
    pgbackrest --stanza=calendar --repo=1 --set=20261121-221007F --type=name --target=lastro-20261121T221004-7c1f-1795678256
    --target-action=promote --archive-mode=off --tablespace-map-all=NEW_DIRECTORY.tablespaces --pg1-path=NEW_DIRECTORY restore
size:
  description: Bytes that this backup takes in the repository.
  returned: when the backup exists
  type: int
  sample: 214748364
raw_size:
  description: Bytes of the cluster.
  returned: when the backup exists
  type: int
  sample: 1288490188
created:
  description: When the backup ended, in UTC.
  returned: when the backup exists
  type: str
  sample: '2026-11-21T22:10:07.000000+00:00'
seconds:
  description: How long it took to make and prove the backup; where it was there already, how long pgBackRest made it.
  returned: when the backup exists
  type: float
  sample: 96.3
verified:
  description: What was proved. V(read), every file of the backup came back from the repository as it was written.
  returned: when the backup exists
  type: list
  elements: str
  sample: [read]
encrypted:
  description: Whether the repository is encrypted.
  returned: success
  type: bool
pruned:
  description: Labels of the backups that pgBackRest's retention removed meanwhile.
  returned: success
  type: list
  elements: str
client_version:
  description: Version of pgBackRest.
  returned: success
  type: str
  sample: '2.45'
server_version:
  description: Version of the server.
  returned: success
  type: str
  sample: '15.18'
"""

from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._pgbackrest import argument_spec, options_from_params, run
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params
from ansible_collections.lastro.deploy.plugins.module_utils._progress import file_progress


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    try:
        settings = settings_from_params(module.params)
        register_secrets(module, settings)
        options = options_from_params(module.params)
        result = run(settings, options, check_mode=module.check_mode, progress=file_progress(module.params["progress_file"]))
    except LastroError as error:
        module.fail_json(**error.as_result())
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
