# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Counting new errors in logs; C(argument_spec) in C(module_utils/_log_errors.py) is its other half."""

    DOCUMENTATION = r"""
options:
  errors_after:
    description: Count the lines that tell of an error and are newer than this, the C(log_positions) of an earlier call.
    type: dict
  errors_of:
    description: The release whose lines are counted.
    type: str
    default: ''
  error_pattern:
    description: A regular expression for a line that tells of an error.
    type: str
    default: \b(ERROR|CRITICAL|FATAL)\b
"""
