# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Table, salt and sink of API keys; C(table_argument_spec) in C(module_utils/_api_key.py) is their other half."""

    DOCUMENTATION = r"""
options:
  schema:
    description: Schema of the table.
    type: str
    default: public
  table:
    description: The table of keys. A migration of the application makes it.
    type: str
    default: api_keys
  columns:
    description: What the columns are called, where it is not as here.
    type: dict
    suboptions:
      name:
        description: The key's name, a text.
        type: str
        default: name
      generation:
        description: Its generation, an integer that begins with 1.
        type: str
        default: generation
      key_hash:
        description: HMAC-SHA256 of the key, 32 bytes.
        type: str
        default: key_hash
      salt_id:
        description: Which salt the hash was made with, a text.
        type: str
        default: salt_id
      created_at:
        description: When it was made; a column without a time zone counts as UTC.
        type: str
        default: created_at
      revoke_after:
        description: Until when it stays valid, NULL for no end.
        type: str
        default: revoke_after
      revoked_at:
        description: When it was revoked, NULL if it was not.
        type: str
        default: revoked_at
  hash_format:
    description: How a hash looks in a text column. A bytea column needs none.
    type: str
    choices: [bytea, hex, base64, base64url]
  salt:
    description: The key of HMAC-SHA256, which the application knows too. It is never sent to the server.
    type: str
  salt_variable:
    description: The variable of O(environment_file) that holds the salt, where O(salt) is not given.
    type: str
    default: API_KEY_SALT
  salt_format:
    description: How the application reads the salt. V(text) takes its characters as they are.
    type: str
    default: text
    choices: [text, hex, base64]
  sink:
    description: The file on this host that holds the newest key, without a newline.
    type: dict
    suboptions:
      file:
        description: The file. Its directory must exist. While a key waits to be delivered, it is beside it in C(.NAME.pending).
        type: path
        required: true
      mode:
        description: Mode of the file, as a text in quotes.
        type: str
        default: '0600'
        choices: ['0600', '0400', '0640', '0440']
      owner:
        description: User that the file belongs to; whoever runs the module where it is left out.
        type: str
      group:
        description: Group that the file belongs to.
        type: str
"""
