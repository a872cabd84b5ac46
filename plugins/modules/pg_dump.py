#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: pg_dump
short_description: Make a verified, encrypted backup of a PostgreSQL database
description:
  - Dumps one database in the very snapshot in which the rows of every table are counted or hashed, so that a restored copy can be compared exactly
    although the application kept writing.
  - The dump passes through C(zstd) and C(age) as a stream. No clear text touches the disk, and a file gets its final name only after it was
    written, read back and proved. The manifest that is written last is the mark of a finished backup.
  - In check mode every check that needs no writing is made for real. They are the server and the version of its client programs, the keys,
    the directory, the room on its disk, and a dump or migration that runs already.
  - The role's timeouts do not hold for the backup. A server that was upgraded and not restarted, an extension whose files are gone and a C(pg_dump) of
    somebody else are warnings.
  - The tables whose rows the dump holds are compared with the catalog.
  - A backup of the same name, database and O(run_id) that already exists is read again and returned with RV(ignore:changed=false).
extends_documentation_fragment:
  - lastro.deploy.attributes
  - lastro.deploy.postgres
  - lastro.deploy.progress
  - lastro.deploy.upload
options:
  dest:
    description:
      - Directory of the backups, as an absolute path. It is created with mode 0700 where it is missing.
    type: path
    required: true
  name:
    description:
      - Base name of the backup's files, unique for each run. Letters, digits, dot, dash and underscore.
    type: str
    required: true
  run_id:
    description:
      - Run that makes the backup. It is kept in the manifest, and a backup of another run under the same O(name) is an error.
    type: str
    default: ''
  format:
    description:
      - V(stream) is one C(pg_dump) into one file.
      - V(directory) is O(jobs) of them at once in the same snapshot. The rows of the largest tables go into files of their own, C(NAME.data1.dump...) and so
        on, coded as the first one. It is not the directory format of C(pg_dump) itself, which would put clear text on the disk.
      - M(lastro.deploy.pg_restore) puts both together again. O(verify=restore) of V(directory) needs what opens the files.
    type: str
    default: stream
    choices: [stream, directory]
  jobs:
    description: How many C(pg_dump) run at once with O(format=directory), 1 to 64.
    type: int
    default: 2
  compression:
    description: How the dump is compressed. V(zstd) is the fastest and uses all processors; V(gzip) is read everywhere. Both have a checksum.
    type: str
    default: zstd
    choices: [zstd, gzip, none]
  compression_level:
    description: Level of the compression, 1 to 19 and V(3) where it is left out with V(zstd), 1 to 9 and V(6) with V(gzip).
    type: int
  encryption:
    description:
      - How the dump is encrypted. V(age) demands O(recipients).
      - V(none) stores the data in clear text, and so has to be asked for.
    type: str
    default: age
    choices: [age, none]
  recipients:
    description: Public keys (C(age1...)) whose owners can open the backup.
    type: list
    elements: str
    default: []
  identity:
    description:
      - Secret key (C(AGE-SECRET-KEY-1...)) of one of the O(recipients). It stays in memory.
      - With it O(verify=decode) also decrypts the stored file.
    type: str
  identity_pipe:
    description: A named pipe that gives O(identity), made and written by M(lastro.deploy.step). So the key is in no file on the host.
    type: path
  globals:
    description:
      - Whether roles and tablespaces of the server, which no dump of a database holds, are kept beside it as SQL in the same coding.
      - Only a superuser reads the hashes of passwords that V(with_passwords) adds, and they are not stored with O(encryption=none).
    type: str
    default: none
    choices: [none, without_passwords, with_passwords]
  verify:
    description:
      - V(read) reads the stored file again and compares its SHA-256.
      - V(decode) does that, has C(pg_restore) read the whole dump while it is made, and decodes the stored file where this host can.
      - V(restore) restores into a throw-away cluster below O(rehearsal_cluster) instead, and compares every table with what was counted or hashed in
        the dump's snapshot. It takes the stored file where O(identity) or O(encryption=none) opens it, else the clear stream while the dump is made.
    type: str
    default: decode
    choices: [read, decode, restore]
  rehearsal_cluster:
    description:
      - Directory below which O(verify=restore) makes its cluster, mode 0700, with the rows of the database in clear. It is removed at the end, and dies
        with the module. The server's programs have to be on this host. Where the module runs as root, the account C(postgres) or C(nobody) runs them.
    type: path
    default: /var/tmp
  keep_copy:
    description:
      - Leaves the cluster of O(verify=restore), stopped, for the rehearsal of M(lastro.deploy.alembic_info). M(lastro.deploy.rehearsal_copy) removes
        one that nobody took.
    type: bool
    default: false
  hashes:
    description:
      - V(rows) keeps the number of rows and a hash of the content of each table, V(counts) the number of rows alone.
      - Without hashes a later restore cannot see that rows were changed in place.
    type: str
    default: rows
    choices: [rows, counts]
  upload:
    description:
      - Where a copy of the backup goes, by C(rclone), which reaches S3 and what speaks like it, Google Cloud Storage, Azure, SFTP and others.
      - The copy counts only when it was read back with the size and the SHA-256 of the file here. Its manifest is uploaded last.
      - Where that fails the module fails, and the backup on this host stays. The next call with the same O(name) and O(run_id) uploads what is
        missing. Retention at the store is that of O(retention).
  upload_config:
    description: What O(upload) has as C(config), as JSON.
    type: str
  upload_config_pipe:
    description: A named pipe that gives O(upload_config), made and written by M(lastro.deploy.step). So it is in no file on the host.
    type: path
  retention:
    description: Which earlier good backups of this database are removed after the new one was verified.
    type: dict
    suboptions:
      days:
        description: Backups older than this many days are removed.
        type: int
        default: 30
      keep_at_least:
        description: So many good backups stay, however old; the new one counts.
        type: int
        default: 5
      keep:
        description: Names of backups that are never removed, or ids of runs whose backups are not.
        type: list
        elements: str
        default: []
      state_dir:
        description: State directory of the application. Backups of runs that did not end well, as their journals there say, are never removed.
        type: path
  lock_wait_timeout:
    description: How long a locked table is waited for, for example V(500ms), V(10s) or V(1min).
    type: str
    default: 10s
  max_size_ratio:
    description:
      - A backup smaller than the median size of the last five good ones divided by this is an error that names the tables which shrank.
        One larger than the median times this is a warning.
      - V(0) switches the comparison off.
    type: float
    default: 4.0
  bin_dir:
    description:
      - Directory of C(pg_dump) and C(pg_restore). Their major version is at least the server's.
      - Without it the best fitting ones below C(/usr/lib/postgresql), C(/usr/pgsql-*) and in E(PATH) are taken.
    type: path
requirements:
  - zstandard, unless O(compression=none)
  - pyrage, unless O(encryption=none)
  - client programs of PostgreSQL, at least as new as the server
  - rclone, for O(upload)
seealso:
  - module: lastro.deploy.pg_restore
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: A verified backup before the migration
  lastro.deploy.pg_dump:
    environment_file: /opt/calendar-api/env/r2
    dest: /var/backups/calendar-api
    name: 20261121T221004-7c1f
    run_id: 20261121T221004-7c1f
    recipients:
      - age1l080q8uhpkngrv0nwjac3la0hpcft3lcu5730hcuqq0y462jyv7qsrdltq
    retention:
      days: 30
      keep_at_least: 5
    upload:
      remote: offsite
      path: backups/calendar-api
      config: "{{ offsite_config }}" # type: s3, provider, endpoint, access_key_id, secret_access_key

- name: A quick copy in clear text, with row counts alone
  lastro.deploy.pg_dump:
    database_url: "{{ database_url }}"
    dest: /var/tmp/scratch
    name: before-experiment
    encryption: none
    hashes: counts
"""

RETURN = r"""
path:
  description: The backup's file.
  returned: success
  type: str
  sample: /var/backups/calendar-api/20261121T221004-7c1f.dump.zst.age
manifest:
  description: The manifest, a JSON file that says what the backup holds and how it was proved.
  returned: success
  type: str
  sample: /var/backups/calendar-api/20261121T221004-7c1f.manifest.json
size:
  description: Bytes of the file RV(path).
  returned: when the backup exists
  type: int
  sample: 214748364
raw_size:
  description: Bytes of the whole dump before compression and encryption.
  returned: when the backup exists
  type: int
  sample: 1288490188
sha256:
  description: SHA-256 of the file RV(path).
  returned: when the backup exists
  type: str
  sample: 8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4
snapshot_lsn:
  description: Position in the server's write-ahead log at the snapshot.
  returned: when the backup exists
  type: str
  sample: 0/1A2B3C40
created:
  description: When the backup was made, in UTC.
  returned: when the backup exists
  type: str
  sample: '2026-11-21T22:10:07+00:00'
tables:
  description: Tables that were counted.
  returned: when the backup exists
  type: int
  sample: 18
rows:
  description: Rows of all tables.
  returned: when the backup exists
  type: int
  sample: 7500000
hashes:
  description: Whether the manifest has hashes of the rows (V(rows)) or V(counts) alone.
  returned: when the backup exists
  type: str
  sample: rows
seconds:
  description: How long it took to make and prove the backup.
  returned: when the backup exists
  type: float
  sample: 6.3
verified:
  description:
    - What was proved. V(read), the file came back from the disk as it was written. V(decode), C(pg_restore) read the whole dump. V(decrypt),
      the stored file was decoded again. V(restore), the dump was restored and every table compared equal.
  returned: when the backup exists
  type: list
  elements: str
  sample: [read, decode]
parts:
  description: The files with the rows of the largest tables, with O(format=directory).
  returned: when the backup exists
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      returned: always
      type: str
    size:
      description: Its bytes.
      returned: always
      type: int
    sha256:
      description: Its SHA-256.
      returned: always
      type: str
globals:
  description: The file with roles and tablespaces, empty where O(globals=none).
  returned: when the backup exists
  type: str
  sample: /var/backups/calendar-api/20261121T221004-7c1f.globals.sql.zst.age
timeouts:
  description: The role's timeouts other than 0, which were switched off for the backup.
  returned: when a backup was made or would be
  type: dict
  sample: {statement_timeout: 30000ms}
extensions:
  description: Versions of the database's extensions.
  returned: when a backup was made or would be
  type: dict
  sample: {plpgsql: '1.0'}
kept_copy:
  description: Directory of the stopped cluster that O(keep_copy=true) left, empty where there is none (any more).
  returned: when the backup exists
  type: str
  sample: /var/tmp/lastro-rehearsal-0f1e2d3c4b5a
encrypted:
  description: Whether the file is encrypted.
  returned: success
  type: bool
uploaded:
  description: The copy at the store, which was read back and compared.
  returned: when O(upload) is given and the backup exists
  type: dict
  contains:
    to:
      description: Where it is.
      returned: always
      type: str
      sample: offsite:backups/calendar-api/20261121T221004-7c1f.dump.zst.age
    sent:
      description: Names of the files that this call sent, or would send. What was there already was read back too.
      returned: always
      type: list
      elements: str
    pruned:
      description: Names of the copies that retention removed from the store.
      returned: always
      type: list
      elements: str
    seconds:
      description: How long that took.
      returned: always
      type: float
pruned:
  description: Names of the earlier backups that retention removed, or would remove.
  returned: success
  type: list
  elements: str
forecast:
  description: Room on the disk of O(dest) before the backup.
  returned: when a backup was made or would be, and when the disk is too full
  type: dict
  contains:
    needed:
      description: Bytes that the backup was expected to need at most.
      returned: always
      type: int
    free:
      description: Bytes that were free.
      returned: always
      type: int
client_version:
  description: Version of C(pg_dump).
  returned: success
  type: str
  sample: '18.6'
server_version:
  description: Version of the server.
  returned: success
  type: str
  sample: '18.6'
"""

from ansible_collections.lastro.deploy.plugins.module_utils._backup_upload import ordinary_values
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._pg_dump import argument_spec, options_from_params, run
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params
from ansible_collections.lastro.deploy.plugins.module_utils._progress import file_progress


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    try:
        settings = settings_from_params(module.params)
        register_secrets(module, settings)
        module.no_log_values.difference_update(ordinary_values(module.params["upload"]))
        options = options_from_params(module.params)
        module.no_log_values.update(options.store.secrets() if options.store else ())
        result = run(settings, options, check_mode=module.check_mode, progress=file_progress(module.params["progress_file"]))
    except LastroError as error:
        module.fail_json(**error.as_result())
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
