# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The connection options; C(connection_argument_spec) in C(module_utils/_postgres.py) is their other half."""

    DOCUMENTATION = r"""
options:
  database_url:
    description:
      - The database as C(postgres://), C(postgresql://) or SQLAlchemy's C(postgresql+driver://) URL.
      - Special characters in the password are percent-encoded.
    type: str
  environment_file:
    description:
      - An environment file on the host (C(NAME="value") lines, mode 0600) that holds the URL.
      - The module reads it there, so that the URL never travels as an option.
    type: path
  url_variable:
    description: The variable of O(environment_file) that holds the URL.
    type: str
    default: DATABASE_URL
  login_host:
    description: Host name, address or socket directory, where no URL is given.
    type: str
    default: ''
  login_port:
    description: Port of the server.
    type: int
    default: 5432
  login_user:
    description: Role that connects.
    type: str
  login_password:
    description: Password of the role.
    type: str
  login_db:
    description: Database to connect to.
    type: str
  ssl_mode:
    description: How TLS is demanded of the server, as libpq's C(sslmode).
    type: str
    default: prefer
    choices: [disable, allow, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File with the certificate authority that signed the server's certificate.
    type: path
requirements:
  - psycopg2 2.9 or newer, in the interpreter that runs the module
"""
