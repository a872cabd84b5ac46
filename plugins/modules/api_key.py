#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: api_key
short_description: Make, rotate and revoke an API key, exactly once
description:
  - Makes a key of 256 random bits, stores its HMAC-SHA256 in the application's table and hands the key itself over in a file.
  - A rotation adds a generation and lets the older ones end after O(grace), all in one transaction. The application takes a key whose
    C(revoked_at) is NULL and whose C(revoke_after) is NULL or not yet reached.
  - The key in the file is always one whose hash is in the table. It waits in a pending file until the transaction is committed; a run that
    was killed in between is finished by the next one, and one that was killed before has changed nothing.
  - Two runs at the same moment make one generation.
  - Adds the constraint UNIQUE (name, generation) where no unique index does it; a table with duplicates is refused, and they are named.
extends_documentation_fragment:
  - lastro.deploy.attributes
  - lastro.deploy.postgres
  - lastro.deploy.api_key_table
options:
  state:
    description:
      - V(present) makes a key where no valid one is there, and checks that O(sink) holds the newest one.
      - A file that holds another key is replaced only where O(generation) asks for the next one.
      - V(rotated) makes a new generation where O(generation) or O(rotate_if_older_than) asks for one.
      - V(revoked) ends O(generation) at once, or all generations. The file stays; its key is of no use any more.
      - V(present) and V(rotated) also mark generations whose grace has passed as revoked.
    type: str
    default: present
    choices: [present, rotated, revoked]
  name:
    description: Name of the key, for example the consumer that uses it.
    type: str
    required: true
  generation:
    description:
      - For V(rotated), the generation that there must be, the newest one or the next. A second run with the same number changes nothing.
      - For V(revoked), the one to revoke.
    type: int
  rotate_if_older_than:
    description: Rotate a key that is older than this, as V(90d) or V(12h), by the server's clock.
    type: str
  grace:
    description: How long older generations stay valid after a rotation. V(0s) ends them with it, for a key that has leaked.
    type: str
    default: 7d
  salt_id:
    description: Name of the salt, kept beside each hash.
    type: str
    default: '1'
  style:
    description: V(plain) is 43 characters of urlsafe base64. V(prefixed) is C(PREFIX_SECRET_CHECKSUM), which scanners for leaked secrets recognize.
    type: str
    default: plain
    choices: [plain, prefixed]
  prefix:
    description: What a key of style V(prefixed) begins with, as V(equivalence_prod).
    type: str
    default: ''
  column_values:
    description: Values of other columns in a new row, for example C(tenant_id) or C(role). They stand in a statement, so no secrets.
    type: dict
    default: {}
  return_secret:
    description:
      - Return a new key as RV(secret), for a task with C(no_log). Without it no key is in any output.
      - Without O(sink) a run that dies after its commit loses the key; rotate again then.
    type: bool
    default: false
  notify:
    description:
      - Who is told that a key changed, after it is in the file. The message is a JSON object with C(event) (V(api_key.rotated) or V(api_key.revoked)),
        C(name), C(generation), C(revoked) and C(grace_seconds); the key is never part of it.
      - One message at most. A channel that does not answer within 5 s makes a warning and no failure, since the key has changed by then.
    type: dict
    suboptions:
      webhook:
        description: URL that gets the message by POST.
        type: str
      redis_url:
        description: Redis or Valkey, as C(redis://:password@host:6379/0).
        type: str
      channel:
        description: Channel that the message is published in.
        type: str
notes:
  - One run for a key at a time; a PostgreSQL advisory lock sees to it. Connect to the server, not to a pooler.
  - Ages and ends are the server's time.
  - A key whose file is lost cannot be found again. Rotate to the next O(generation).
seealso:
  - module: lastro.deploy.api_key_info
  - module: lastro.deploy.env_contract
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: A key for the auditor
  lastro.deploy.api_key:
    environment_file: /opt/equivalence/env/r2.env
    name: auditor
    column_values: {role: auditor}
    sink: {file: /etc/equivalence/keys/auditor, owner: equivalence}

- name: Rotate it every 90 days; the old one stays valid for a week
  lastro.deploy.api_key:
    environment_file: /opt/equivalence/env/r2.env
    name: auditor
    state: rotated
    rotate_if_older_than: 90d
    grace: 7d
    column_values: {role: auditor}
    sink: {file: /etc/equivalence/keys/auditor, owner: equivalence}
    notify: {redis_url: "{{ redis_url }}", channel: api-keys}

- name: It has leaked
  lastro.deploy.api_key:
    environment_file: /opt/equivalence/env/r2.env
    name: auditor
    state: rotated
    generation: 3
    grace: 0s
    column_values: {role: auditor}
    sink: {file: /etc/equivalence/keys/auditor, owner: equivalence}

- name: The consumer is gone
  lastro.deploy.api_key:
    environment_file: /opt/equivalence/env/r2.env
    name: auditor
    state: revoked
"""

RETURN = r"""
name:
  description: Name of the key.
  returned: success
  type: str
  sample: auditor
generation:
  description: Its newest generation, in check mode the one that would be; 0 where there is none.
  returned: success
  type: int
  sample: 2
created:
  description: Whether this run made it; in check mode, would make it.
  returned: success
  type: bool
  sample: true
delivered:
  description: Whether this run put a key into the file, its own or one that an interrupted run had left.
  returned: success
  type: bool
  sample: true
revoked:
  description: Generations that this run marked as revoked.
  returned: success
  type: list
  elements: int
  sample: []
constraint_added:
  description: Whether this run added UNIQUE (name, generation).
  returned: success
  type: bool
  sample: false
generations:
  description: Every generation of the name, oldest first, as it is now.
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
      description: Seconds since it was made.
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
notified:
  description: Channels that took the message, of C(webhook) and C(redis).
  returned: success
  type: list
  elements: str
  sample: [redis]
notify_problems:
  description: What went wrong with the others.
  returned: success
  type: list
  elements: str
  sample: []
secret:
  description: The new key, only with O(return_secret=true), and only if this run made it.
  returned: when asked for
  type: str
duplicates:
  description: Generations and hashes that stand several times in the table.
  returned: on failures because of them
  type: dict
"""

from ansible_collections.lastro.deploy.plugins.module_utils._api_key import Options, api_key_argument_spec, converge
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params


def main() -> None:
    """Run the module."""
    module = api_key_argument_spec().create_module()
    try:
        settings = settings_from_params(module.params)
        register_secrets(module, settings)
        options = Options.from_params(module.params, check_mode=module.check_mode)
        result = converge(settings, module.params, options, censor=module.no_log_values.add)
    except LastroError as error:
        module.fail_json(**error.as_result())
    for problem in result["notify_problems"]:
        module.warn(f"The key {result['name']} has changed, but {problem}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
