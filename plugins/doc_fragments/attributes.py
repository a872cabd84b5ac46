# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """What every module says of check mode, diff and idempotence."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what it would do, without changing anything.
    support: full
  diff_mode:
    description: Says what changed, or would change, in C(diff_mode). Secrets are never part of it.
    support: full
  idempotent:
    description: A second call with the same options changes nothing.
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode); it changes nothing in either mode.
    support: full
  diff_mode:
    description: Says what changed in C(diff_mode).
    support: N/A
    details: It changes nothing.
  idempotent:
    description: A second call with the same options changes nothing.
    support: N/A
    details: It changes nothing.
"""
