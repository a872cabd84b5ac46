#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: backup_info
short_description: List the backups of a host, and fail when the last good one is too old
description:
  - Reads the manifests of M(lastro.deploy.pg_dump) in a directory and, where O(upload) is given, at the store. It writes nothing.
  - With O(max_age) it is the alert of a schedule, since it fails where the last good backup of a database is older, on the host or at the store.
extends_documentation_fragment:
  - lastro.deploy.attributes.info
  - lastro.deploy.progress
  - lastro.deploy.upload
options:
  dest:
    description: Directory of the backups.
    type: path
    required: true
  database:
    description: Name of the database whose backups count. Without it those of each database do.
    type: str
    default: ''
  max_age:
    description: The last good backup must not be older, for example V(26h).
    type: str
  verify:
    description: V(size) looks whether the file has its size. V(read) reads each file and compares its SHA-256.
    type: str
    default: size
    choices: [size, read]
  upload:
    description:
      - The store to which backups are copied, as in M(lastro.deploy.pg_dump). There a backup counts when its manifest is there and its file has its size.
      - Each copy was read back when it was made, and is not again.
requirements:
  - rclone, for O(upload)
seealso:
  - module: lastro.deploy.pg_dump
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Alert when nobody has backed up since yesterday
  lastro.deploy.backup_info:
    dest: /var/backups/calendar-api
    max_age: 26h
"""

RETURN = r"""
backups:
  description: The backups whose manifest can be read, newest first.
  returned: success, and where the last good one is too old
  type: list
  elements: dict
  contains:
    name:
      description: The backup.
      returned: always
      type: str
    run_id:
      description: The run that made it; empty where none did.
      returned: always
      type: str
    created:
      description: When it was made, in UTC.
      returned: always
      type: str
    age:
      description: Seconds since then.
      returned: always
      type: int
    database:
      description: The database.
      returned: always
      type: str
    size:
      description: Bytes of the file.
      returned: always
      type: int
    rows:
      description: Rows of all tables.
      returned: always
      type: int
    verified:
      description: What was proved when it was made, as in M(lastro.deploy.pg_dump).
      returned: always
      type: list
      elements: str
    encrypted:
      description: Whether it is encrypted.
      returned: always
      type: bool
    good:
      description: Whether the file on this host can be used, as far as O(verify) looks.
      returned: always
      type: bool
    problem:
      description: Why it is not good; empty where it is.
      returned: always
      type: str
    off_site:
      description: Whether the store has it; null where no store was asked.
      returned: always
      type: bool
newest_good:
  description: The last good backup on this host; empty where there is none.
  returned: success, and where the last good one is too old
  type: str
text:
  description: All of it as a short table, in C(en) and C(pt_BR).
  returned: success, and where the last good one is too old
  type: dict
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _backup_info
from ansible_collections.lastro.deploy.plugins.module_utils._backup_upload import ordinary_values
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._progress import file_progress


def main() -> None:
    """Run the module."""
    module = _backup_info.argument_spec().create_module()
    module.no_log_values.difference_update(ordinary_values(module.params["upload"]))
    try:
        result = _backup_info.run(module.params, progress=file_progress(module.params["progress_file"]))
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
