# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Where supervisor is; C(server_argument_spec) in C(module_utils/_supervisor.py) is its other half."""

    DOCUMENTATION = r"""
options:
  app:
    description: The application, the first part of each program's name.
    type: str
    required: true
  server:
    description: Where supervisor is, as C(deploy_supervisor) of the profile.
    type: dict
    suboptions:
      config_dir:
        description: The directory whose files supervisor includes.
        type: path
        default: /etc/supervisor/conf.d
      ctl:
        description: supervisorctl as an argument list.
        type: list
        elements: str
        default: [supervisorctl]
      log_dir:
        description: The directory of the processes' logs, C(log) in the state directory where it is not given.
        type: path
      python:
        description: The interpreter of our own programs, as it stands behind C(#!).
        type: str
        default: /usr/bin/env python3
      path:
        description: PATH of the processes, behind the release's own programs.
        type: str
        default: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
