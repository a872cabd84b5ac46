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
    description: Alembic's configuration file, seen from O(chdir).
    type: str
    default: alembic.ini
  python:
    description: The application's own interpreter, with Alembic 1.10 or newer and SQLAlchemy 1.4 or newer. Nothing is installed there.
    type: path
    required: true
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
