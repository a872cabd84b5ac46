#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: env_contract
short_description: Check an environment file against its contract
description:
  - Checks that every variable that an application needs is in the environment file on the host, in the right format, and none is a
    placeholder, weak, or used twice.
  - Says all findings at once. A value is never shown, only its shape (length, decoded bytes, scheme).
  - A file whose mode is wider than 0600 is a finding too.
extends_documentation_fragment:
  - lastro.deploy.attributes.info
options:
  environment_file:
    description: The environment file on the host, C(NAME="value") lines.
    type: path
    required: true
  contract:
    description:
      - What is asked of each variable, by its name.
      - Each value is a mapping of V(type) (V(key), V(url), V(postgres_url), V(redis_url), V(string), V(int), V(bool) or V(choice);
        V(string) when left out), V(bytes) (of a key after decoding, 32 when left out, several keys may stand behind one another with
        commas), V(min_length), V(choices), V(pattern) (a regular expression that is searched for), V(required) (true when left out)
        and V(secret) (weak values and values used twice are findings; a key is always secret).
      - Weak are placeholders, one byte repeated, bytes that count up or down, and keys that stand in public documentation; hexadecimal
        and base64 are seen through, also where one key serves two purposes.
    type: dict
    required: true
  report_only:
    description: Return the findings instead of failing, for a caller that collects the findings of several checks.
    type: bool
    default: false
seealso:
  - module: lastro.deploy.service_probe
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Every variable is there and well-formed
  lastro.deploy.env_contract:
    environment_file: /opt/calendar-api/env/r2
    contract:
      DATABASE_URL: {type: postgres_url}
      REDIS_URL: {type: redis_url}
      TOKEN_ENCRYPTION_KEY: {type: key, bytes: 32}
      SECRET_KEY: {type: string, min_length: 32, secret: true}
      LOG_LEVEL: {type: choice, choices: [debug, info, warning], required: false}
"""

RETURN = r"""
checked:
  description: How many variables were checked; 0 where the file cannot be read.
  returned: always
  type: int
  sample: 5
findings:
  description: What is wrong; empty where all is well.
  returned: always
  type: list
  elements: dict
  contains:
    variable:
      description: The variable, or the file's path where the finding is about the file.
      returned: always
      type: str
      sample: TOKEN_ENCRYPTION_KEY
    problem:
      description: What is wrong, without the value.
      returned: always
      type: str
      sample: has 31 bytes after decoding, expected 32
    remedy:
      description: What to do, as C(en) and C(pt_BR).
      returned: always
      type: dict
"""

from ansible_collections.lastro.deploy.plugins.module_utils._env_contract import argument_spec, run
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    try:
        result = run(module.params)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
