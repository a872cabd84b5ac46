# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The option of long-running modules; C(progress_argument_spec) in C(module_utils/_progress.py) is its other half."""

    DOCUMENTATION = r"""
options:
  progress_file:
    description:
      - A file on the host in which the module keeps how far it is, as one JSON object C({done, total, unit, seconds}).
      - The action plugin C(lastro.deploy.step) sets it and shows what it reads there.
    type: path
"""
