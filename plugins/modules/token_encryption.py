#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: token_encryption
short_description: Encrypt the tokens of a table while the application keeps writing
description:
  - Fills the ciphertext and nonce columns of a table from its clear column with AES-256-GCM, in the form that
    C(AESGCM(key).decrypt(nonce, ciphertext, None)) reads. An empty text is encrypted, NULL stays NULL.
  - Works in small batches in the order of the key. A row is written only if nobody changed it since it was read, and passes
    repeat until none is left, so nothing that the application writes meanwhile is lost.
  - Needs no state file. A run that was killed is finished by the next one, and a second run changes nothing.
  - Clear tokens are never part of a statement, so no server log shows them.
  - Afterwards every row is decrypted and compared; one that is not right makes the module fail and name it.
options:
  state:
    description:
      - V(prepared) checks the table and its columns, and puts the guard trigger in, or takes it out where O(guard_trigger=false). No row is written
        and no key is needed.
      - V(encrypted) encrypts what has clear text and no ciphertext. The clear text stays.
      - V(rotated) moves the ciphertexts to the first key of O(encryption_keys), in place or by O(shadow) columns, and verifies all with that key alone.
      - V(cleared) sets the clear text NULL, row by row, where the ciphertext has just been decrypted to the same text.
      - V(decrypted) is the undo. It writes the decrypted text to rows whose clear text is NULL or differs. The ciphertext stays.
        With O(backup) it first writes what the undo file holds, which needs no key of O(encryption_keys).
    type: str
    default: encrypted
    choices: [prepared, encrypted, rotated, cleared, decrypted]
  guard_trigger:
    description:
      - A trigger that empties ciphertext and nonce when a statement changes the clear text alone, so that the row counts as not
        encrypted. It covers a release that knows only the clear column.
      - V(true) makes sure that it is in for the states V(prepared), V(encrypted) and V(decrypted).
      - V(false) takes it out for V(prepared), and for V(encrypted) once every row is verified. Take it out before a migration drops these columns.
    type: bool
    default: true
  shadow:
    description:
      - How O(state=rotated) works.
      - V(none) encrypts in place, for an application that reads with several keys.
      - V(filled) gives an application that knows a single key a second pair of columns, C(CIPHERTEXT__shadow) and C(NONCE__shadow), under the first key,
        and a trigger that empties them where the application writes. The application reads and writes on as before.
      - V(swapped) does the same and exchanges the two pairs by renaming, in one transaction, while no process with the old key writes. The way back is
        the same call with the keys in the other order; only what was written since is encrypted again.
      - V(dropped) removes the second pair, once the first key opens every row.
      - What hangs on the columns (a constraint, an index, a view, NOT NULL, privileges on a column) would stay with the old pair, so it stops the module.
    type: str
    default: none
    choices: [none, filled, swapped, dropped]
  scrub:
    description:
      - V(vacuum_full) rewrites the table after O(state=cleared), so that its files hold no old row version with a clear token. It takes the table's exclusive
        lock for that long, needs the table's owner, and does so each time it is asked for.
    type: str
    default: none
    choices: [none, vacuum_full]
  accept_dependents:
    description:
      - Names of unique indexes, views and generated columns on the clear column that may stay for V(encrypted) and V(cleared). Others stop the module, since
        they break, or hold a copy, once the clear text is gone. A unique index is accepted where O(hash_column) takes its place.
    type: list
    elements: str
    default: []
  backup:
    description:
      - An encrypted file with the clear tokens of the rows that V(encrypted) encrypts, V(rotated) rotates and V(cleared) clears.
        A batch is in it, on the disk, before its rows are committed. The file ends with a record that shows whether it was cut off; a later run adds to it.
      - V(decrypted) reads it, writes a token only where the clear text is NULL and the ciphertext is still the one that was made of it, and refuses a
        damaged file before it writes.
    type: dict
    suboptions:
      path:
        description: The file, mode 0600. Its directory is made with mode 0700 where it is missing. One for each table.
        type: path
        required: true
      recipients:
        description: Who can read it, as age public keys, C(age1...). Needed for writing.
        type: list
        elements: str
        default: []
      identity:
        description: The age secret key of one of the recipients, C(AGE-SECRET-KEY-1...). Needed for reading; the host need not have it for writing.
        type: str
  accept_loss:
    description: For V(decrypted), use an undo file that lacks its end.
    type: bool
    default: false
  workers:
    description: Sessions that write batches side by side. One more session reads.
    type: int
    default: 1
  max_replica_lag:
    description: Seconds that the slowest replica may be behind before the module waits for it; V(0) never waits. The role needs C(pg_monitor) to see replicas.
    type: float
    default: 0.0
  batch_size:
    description: Rows of a batch, which is one transaction. Batches of large values are smaller.
    type: int
    default: 1000
  pause:
    description: Seconds to wait after each batch.
    type: float
    default: 0.0
  lock_timeout:
    description: Seconds that a statement waits for a lock. A batch is tried again in the next pass, the trigger eight times.
    type: float
    default: 2.0
  accept_encrypted_looking:
    description: Encrypt values that look encrypted already, for example Fernet tokens or values that begin with C(v1:). Otherwise they stop the module.
    type: bool
    default: false
notes:
  - CHECK constraints and lengths of columns are tried on an image of the rows before the first write, since the server would log a row that it refuses.
  - In check mode rows are counted, and a sample of what is encrypted is decrypted; the numbers are those that the run would reach.
  - The trigger and its function are named C(lastro_guard_TABLE_HASH), fixed by table and columns.
  - One run for a table at a time; a PostgreSQL advisory lock sees to it. Connect to the server, not to a pooler.
extends_documentation_fragment:
  - lastro.deploy.attributes
  - lastro.deploy.postgres
  - lastro.deploy.progress
  - lastro.deploy.token_columns
requirements:
  - pyrage 1.2 or newer, where O(backup) is used
seealso:
  - module: lastro.deploy.token_encryption_info
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Encrypt the tokens, and cover the release that still writes clear text
  lastro.deploy.token_encryption:
    environment_file: /opt/calendar-api/env/r2.env
    table: credentials

- name: When its last process has stopped, encrypt the rest and take the trigger out
  lastro.deploy.token_encryption:
    environment_file: /opt/calendar-api/env/r2.env
    table: credentials
    guard_trigger: false

- name: Rotate the key of an application that reads with the old one and the new one (TOKEN_ENCRYPTION_KEYS=new,old)
  lastro.deploy.token_encryption:
    environment_file: /opt/calendar-api/env/r3.env
    key_variable: TOKEN_ENCRYPTION_KEYS
    table: credentials
    state: rotated

- name: Rotate the key of one that knows a single key, in maintenance and before it starts with the new one
  lastro.deploy.token_encryption:
    database_url: "{{ deploy_database.url }}"
    encryption_keys: ["{{ new_key }}", "{{ old_key }}"]
    table: credentials
    state: rotated
    shadow: swapped

- name: Set the clear text NULL
  lastro.deploy.token_encryption:
    environment_file: /opt/calendar-api/env/r2.env
    table: credentials
    state: cleared

- name: The same with an undo file that the host itself cannot read
  lastro.deploy.token_encryption:
    environment_file: /opt/calendar-api/env/r2.env
    table: credentials
    state: cleared
    backup:
      path: /var/backups/calendar-api/undo/credentials.jsonl
      recipients: ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]

- name: Write the tokens back from that file, though the key is lost
  lastro.deploy.token_encryption:
    database_url: "{{ deploy_database.url }}"
    table: credentials
    state: decrypted
    backup:
      path: /var/backups/calendar-api/undo/credentials.jsonl
      identity: "{{ lookup('ansible.builtin.env', 'UNDO_IDENTITY') }}"

- name: Write it back for the release that knows only clear text
  lastro.deploy.token_encryption:
    environment_file: /opt/calendar-api/env/r2.env
    table: credentials
    state: decrypted
"""

RETURN = r"""
total:
  description: Rows of the table.
  returned: success, and on failures of the verification
  type: int
  sample: 50000
null_rows:
  description: Rows that hold no token, neither in clear nor encrypted.
  returned: success, and on failures of the verification
  type: int
  sample: 12
encrypted:
  description: Rows that this run encrypted; in check mode, would encrypt.
  returned: success, and on failures of the verification
  type: int
  sample: 49988
cleared:
  description: Rows whose clear text this run set NULL; in check mode, would set NULL.
  returned: success, and on failures of the verification
  type: int
  sample: 0
decrypted:
  description: Rows whose clear text this run wrote; in check mode, would write.
  returned: success, and on failures of the verification
  type: int
  sample: 0
rotated:
  description: Rows that this run encrypted with the first key; in check mode, would encrypt.
  returned: success, and on failures of the verification
  type: int
  sample: 0
swapped:
  description: Whether this run exchanged the columns with their shadow; in check mode, would exchange.
  returned: success, and on failures of the verification
  type: bool
  sample: false
already:
  description: Rows whose ciphertext and nonce were both filled when the module began.
  returned: success, and on failures of the verification
  type: int
  sample: 0
conflicts:
  description: Rows that another session had changed or locked when a batch came to write them. They were read again.
  returned: success, and on failures of the verification
  type: int
  sample: 0
verified:
  description: Rows whose ciphertext was decrypted, and is equal to the clear text where the row has one.
  returned: success, and on failures of the verification
  type: int
  sample: 49988
failures:
  description: Rows whose ciphertext is not right, as far as they were read.
  returned: success, and on failures of the verification
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
    - It counts rows written by the application until the verification; with O(state=prepared) and in check mode no row is verified.
  returned: success, and on failures of the verification
  type: int
  sample: 0
clear_values:
  description: Rows whose clear text is not NULL.
  returned: success, and on failures of the verification
  type: int
  sample: 49988
passes:
  description: Passes that found rows to write.
  returned: success, and on failures of the verification
  type: int
  sample: 1
rows_per_second:
  description: Rows written a second.
  returned: success, and on failures of the verification
  type: float
  sample: 61000.5
guard_trigger:
  description: Whether the guard trigger is in now; in check mode, would be.
  returned: success, and on failures of the verification
  type: bool
  sample: true
backup:
  description: The undo file and how many tokens this run wrote to it; empty without O(backup).
  returned: success, and on failures of the verification
  type: dict
  sample: {path: /var/backups/calendar-api/undo/credentials.jsonl, rows: 49988}
scrubbed:
  description: Whether the table was rewritten; in check mode, would be.
  returned: success, and on failures of the verification
  type: bool
  sample: false
proposal:
  description: For O(state=cleared), an Alembic revision that drops the clear column, to be read and put into the project.
  returned: success, and on failures of the verification
  type: str
  sample: ""
residual_risk:
  description: For O(state=cleared), what may still hold clear tokens as far as the server tells, each as a text in C(en) and C(pt_BR).
  returned: success, and on failures of the verification
  type: list
  elements: dict
  sample: []
"""

from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import register_secrets, settings_from_params
from ansible_collections.lastro.deploy.plugins.module_utils._progress import file_progress
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import converge
from ansible_collections.lastro.deploy.plugins.module_utils._token_options import Options, token_encryption_argument_spec


def main() -> None:
    """Run the module."""
    module = token_encryption_argument_spec().create_module()
    try:
        settings = settings_from_params(module.params)
        register_secrets(module, settings)
        options = Options.from_params(module.params, check_mode=module.check_mode)
        result = converge(settings, options, progress=file_progress(module.params["progress_file"]))
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
