#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: api_key_info
short_description: List API keys, and compare a file with the table
description:
  - Lists names, generations, ages and validity of the keys in a table, and what stands there several times. Neither keys nor hashes are returned.
  - With O(sink), says whether the file on this host holds the newest key of O(name).
  - Changes nothing.
extends_documentation_fragment:
  - lastro.deploy.attributes.info
  - lastro.deploy.postgres
  - lastro.deploy.api_key_table
options:
  name:
    description: List this key alone.
    type: str
seealso:
  - module: lastro.deploy.api_key
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: All keys
  lastro.deploy.api_key_info:
    environment_file: /opt/equivalence/env/r2.env

- name: The file holds the newest key of the auditor
  lastro.deploy.api_key_info:
    environment_file: /opt/equivalence/env/r2.env
    name: auditor
    sink: {file: /etc/equivalence/keys/auditor}
  register: auditor
  failed_when: auditor is failed or auditor.sink.state != 'current'
"""

RETURN = r"""
generations:
  description: The keys by name, each name's oldest generation first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the key.
      returned: always
      type: str
    generation:
      description: Its generation.
      returned: always
      type: int
    salt_id:
      description: The salt that its hash was made with.
      returned: always
      type: str
    age_seconds:
      description: Seconds since it was made, by the server's clock.
      returned: always
      type: float
    created_at:
      description: When it was made, UTC.
      returned: always
      type: str
      sample: '2026-11-26T07:30:00.000000Z'
    revoke_after:
      description: Until when it stays valid, empty (null) for no end.
      returned: always
      type: str
    revoked_at:
      description: When it was revoked, empty (null) if it was not.
      returned: always
      type: str
    valid:
      description: Whether the application takes it.
      returned: always
      type: bool
unique:
  description: Whether a unique index keeps (name, generation) apart.
  returned: success
  type: bool
  sample: true
duplicates:
  description: What stands several times in the whole table, the first ten of each kind.
  returned: success
  type: dict
  contains:
    generations:
      description: The same C(name) and C(generation), and in how many C(rows).
      returned: always
      type: list
      elements: dict
    hashes:
      description: The C(keys) (name and generation) that share one hash, and in how many C(rows).
      returned: always
      type: list
      elements: dict
salt_ids:
  description: The salts that valid keys were made with. A salt may go when none of them needs it.
  returned: success
  type: list
  elements: str
  sample: ['1']
sink:
  description: What the file holds; empty without O(sink).
  returned: success
  type: dict
  contains:
    state:
      description: V(current), the newest key; V(older), one of another generation; V(unknown), none that the table knows; V(absent), no file.
      returned: with O(sink)
      type: str
    generation:
      description: The generation of its key, 0 where the table knows it not.
      returned: with O(sink)
      type: int
    pending:
      description: Whether an interrupted run has left a pending file. The next run of M(lastro.deploy.api_key) ends it.
      returned: with O(sink)
      type: bool
"""

from ansible_collections.lastro.deploy.plugins.module_utils._api_key import api_key_info_argument_spec, look
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params


def main() -> None:
    """Run the module."""
    module = api_key_info_argument_spec().create_module()
    try:
        settings = settings_from_params(module.params)
        register_secrets(module, settings)
        result = look(settings, module.params, censor=module.no_log_values.add)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
