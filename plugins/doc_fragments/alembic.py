# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The options that say whose migrations are meant; C(project_argument_spec) in C(module_utils/_alembic.py) is their other half."""

    DOCUMENTATION = r"""
options:
  chdir:
    description: The release's directory, as if C(alembic) were called there.
    type: path
    required: true
  config:
    description: Alembic's configuration file, seen from O(chdir); a V(pyproject.toml) needs Alembic 1.16 or newer.
    type: str
    default: alembic.ini
  python:
    description: The application's own interpreter, with Alembic 1.10 or newer and SQLAlchemy 1.4 or newer. Nothing is installed there.
    type: path
    required: true
  flask_app:
    description:
      - The Flask application whose context env.py needs (Flask-Migrate), as C(flask --app) takes it.
      - Where O(config) does not say C(script_location), it is the directory that O(config) is in.
    type: str
    default: ''
  x_args:
    description: Arguments for env.py, as C(alembic -x) takes them. No secrets.
    type: list
    elements: str
    default: []
  version_table:
    description: Name of the version table, where it is another than env.py says.
    type: str
    default: ''
  version_table_schema:
    description: Schema of the version table, where it is another than env.py says.
    type: str
    default: ''
  lint:
    description: What is looked for in the SQL of each revision, and what is refused.
    type: dict
    default: {}
    suboptions:
      profile:
        description:
          - V(default) looks for what makes running code fail or wait, V(strict) for matters of taste as well.
          - V(off) renders and reads nothing; then no revision counts as contracting.
        type: str
        default: default
        choices: [default, strict, 'off']
      deny:
        description: Severities (V(block), V(contract), V(warn), V(note)) and rules that make the module fail.
        type: list
        elements: str
        default: []
      allow:
        description: Rules that somebody has looked at, as C(rule) or better as C(revision:rule). They stay in the findings as notes and count for nothing.
        type: list
        elements: str
        default: []
      unrenderable:
        description:
          - What it means where a revision cannot be rendered without a database, for example since its code reads rows.
          - V(contract) counts it as breaking, V(deny) fails, V(warn) only says so.
        type: str
        default: contract
        choices: [contract, deny, warn]
  check_models:
    description:
      - Compare the database with the application's models, as C(alembic check) does, and return the differences.
      - Needs C(target_metadata) in env.py, and a database that is at the newest revision.
    type: bool
    default: false
  environment:
    description:
      - Variables for env.py, without secrets. All variables of O(environment_file) are there too.
      - The URL of the database reaches env.py as the variable that O(url_variable) names and as Alembic's C(sqlalchemy.url); percent signs survive.
    type: dict
    default: {}
notes:
  - Alembic runs under the application's own interpreter and with its own env.py, which stays as it is.
  - No secret is in an argument list; the request goes through a pipe.
"""
