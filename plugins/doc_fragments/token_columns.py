# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Where tokens are and which keys open them; C(columns_argument_spec) in C(module_utils/_token_columns.py) is its other half."""

    DOCUMENTATION = r"""
options:
  schema:
    description: Schema of the table.
    type: str
    default: public
  table:
    description: Table whose rows hold the tokens.
    type: str
    required: true
  key_columns:
    description:
      - Columns that identify a row; they are C(NOT NULL) and have a unique index. Any comparable type works.
      - Without it, the primary key.
    type: list
    elements: str
  source:
    description: Column with the clear token, C(text) or C(varchar).
    type: str
    default: token
  ciphertext:
    description: Column of the ciphertext, with the 16 bytes of its tag at the end. A migration adds it; the module does not.
    type: str
    default: token_encrypted
  nonce:
    description: Column of the nonce, 12 bytes.
    type: str
    default: token_nonce
  column_type:
    description:
      - How O(ciphertext) and O(nonce) hold their bytes.
      - Columns of type C(bytea) need no value here. For text columns it says which encoding the application reads.
    type: str
    choices: [bytea, base64, base64url, hex]
  format:
    description:
      - V(compat) is what C(AESGCM(key).decrypt(nonce, ciphertext, None)) reads.
      - V(bound) also authenticates the table, the ciphertext's column and the row's key, so that a ciphertext that was moved to another row, column or table
        does not open. The application must give the same bytes; C(docs/token-format.md) says which. The table can then not be renamed.
      - With V(bound), M(lastro.deploy.token_encryption) reads what V(compat) wrote, too, and C(state=rotated) moves it; M(lastro.deploy.token_encryption_info)
        counts it as C(corrupt).
    type: str
    default: compat
    choices: [compat, bound]
  hash_column:
    description:
      - Column for HMAC-SHA256 of the token, by which the application finds a row once the clear column is empty; C(bytea), or text for hex.
      - It is written together with the ciphertext. The HMAC's key is C(HMAC-SHA256(key, "lastro.deploy lookup")) of the first key.
    type: str
  key_id_column:
    description:
      - Column for the name of the key that made the ciphertext, C(bytea), or text for hex.
      - The name is the first four bytes of C(SHA-256("lastro.deploy key id" || key)). It is a hint for the reader; this module trusts the tag alone.
    type: str
  encryption_keys:
    description:
      - Keys of 32 bytes in urlsafe or standard base64. The first one encrypts, all of them decrypt.
      - Without it, the keys come from O(key_variable) of O(environment_file), so that they never travel as an option.
    type: list
    elements: str
  key_variable:
    description: The variable of O(environment_file) that holds the key, or several of them separated by commas.
    type: str
    default: TOKEN_ENCRYPTION_KEY
  application_name:
    description: Name under which the connection shows in C(pg_stat_activity).
    type: str
    default: lastro.deploy tokens
requirements:
  - cryptography 38 or newer, in the interpreter that runs the module
"""
