#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: token_encryption_info
short_description: Count and verify the encrypted tokens of a table
description:
  - Counts the rows of a table that are encrypted, wait for it, or hold no token, and decrypts none, some or all of them.
  - Changes nothing. A ciphertext that is not right is reported in RV(failures) and does not make the module fail.
options:
  verify:
    description:
      - V(none) counts only and needs no key.
      - V(sample) decrypts the first and last hundred rows and about a hundred at random.
      - V(all) decrypts every row and compares it with its clear text, where there is one.
    type: str
    default: none
    choices: [none, sample, all]
extends_documentation_fragment:
  - lastro.deploy.attributes.info
  - lastro.deploy.postgres
  - lastro.deploy.progress
  - lastro.deploy.token_columns
seealso:
  - module: lastro.deploy.token_encryption
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Look how far the encryption is
  lastro.deploy.token_encryption_info:
    environment_file: /opt/calendar-api/env/r2.env
    table: credentials

- name: Decrypt and compare every row
  lastro.deploy.token_encryption_info:
    environment_file: /opt/calendar-api/env/r2.env
    table: credentials
    verify: all
  register: tokens
  failed_when: tokens is failed or tokens.clear_left > 0
"""

RETURN = r"""
total:
  description: Rows of the table.
  returned: success
  type: int
  sample: 50000
null_rows:
  description: Rows that hold no token, neither in clear nor encrypted.
  returned: success
  type: int
  sample: 12
encrypted:
  description: Always 0, since nothing is written.
  returned: success
  type: int
  sample: 0
cleared:
  description: Always 0, since nothing is written.
  returned: success
  type: int
  sample: 0
decrypted:
  description: Always 0, since nothing is written.
  returned: success
  type: int
  sample: 0
rotated:
  description: Always 0, since nothing is written.
  returned: success
  type: int
  sample: 0
swapped:
  description: Always false, since nothing is written.
  returned: success
  type: bool
  sample: false
already:
  description: Rows whose ciphertext and nonce were both filled when the module began.
  returned: success
  type: int
  sample: 49988
conflicts:
  description: Always 0, since nothing is written.
  returned: success
  type: int
  sample: 0
verified:
  description: Rows whose ciphertext was decrypted, and is equal to the clear text where the row has one.
  returned: success
  type: int
  sample: 49988
failures:
  description: Rows whose ciphertext is not right, as far as they were read.
  returned: success
  type: dict
  contains:
    wrong_key:
      description: Rows that none of the keys opens.
      returned: always
      type: int
    corrupt:
      description: Rows whose ciphertext or nonce is damaged or missing.
      returned: always
      type: int
    mismatch:
      description: Rows whose ciphertext decrypts to another text than the clear column holds.
      returned: always
      type: int
    first_keys:
      description: For each of the three, the keys of the first ten such rows; the parts of a composite key are joined by commas.
      returned: always
      type: dict
      sample: {wrong_key: [], corrupt: ["17"], mismatch: []}
clear_left:
  description:
    - Rows that hold a token without a right ciphertext, those in RV(failures) and those that wait for encryption.
    - With O(verify=none) a ciphertext counts as right without a look, with O(verify=sample) one outside the sample does.
  returned: success
  type: int
  sample: 0
clear_values:
  description: Rows whose clear text is not NULL.
  returned: success
  type: int
  sample: 49988
passes:
  description: Always 0, since nothing is written.
  returned: success
  type: int
  sample: 0
rows_per_second:
  description: Rows verified a second.
  returned: success
  type: float
  sample: 61000.5
guard_trigger:
  description: Whether the guard trigger is in.
  returned: success
  type: bool
  sample: true
backup:
  description: Always empty; M(lastro.deploy.token_encryption) returns it.
  returned: success
  type: dict
  sample: {}
scrubbed:
  description: Always false, since nothing is written.
  returned: success
  type: bool
  sample: false
proposal:
  description: Always empty; M(lastro.deploy.token_encryption) returns it.
  returned: success
  type: str
  sample: ""
residual_risk:
  description: Always empty; M(lastro.deploy.token_encryption) returns it.
  returned: success
  type: list
  elements: dict
  sample: []
"""

from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params
from ansible_collections.lastro.deploy.plugins.module_utils._progress import file_progress
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import look
from ansible_collections.lastro.deploy.plugins.module_utils._token_options import Question, token_encryption_info_argument_spec


def main() -> None:
    """Run the module."""
    module = token_encryption_info_argument_spec().create_module()
    try:
        settings = settings_from_params(module.params)
        register_secrets(module, settings)
        result = look(settings, Question.from_params(module.params), progress=file_progress(module.params["progress_file"]))
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
