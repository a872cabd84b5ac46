# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """What the option C(upload) holds; a module says what it does with it. C(options) in C(module_utils/_backup_upload.py) is the other half."""

    DOCUMENTATION = r"""
options:
  upload:
    type: dict
    suboptions:
      remote:
        description: Name of the remote. Letters, digits and underscores.
        type: str
        required: true
      path:
        description: Directory at the remote, for S3 the bucket and a prefix, as in V(backups/calendar-api). Give each application its own.
        type: str
        required: true
      config:
        description:
          - Settings of the remote as in C(rclone.conf), with C(type). They reach rclone in its environment, and stand in no file and no command line.
          - Where it is empty the remote is one of the file C(rclone.conf) of the user on the host.
        type: dict
        default: {}
      rclone:
        description: Path of rclone. Without it the one beside the interpreter of the module is taken, else the one in E(PATH).
        type: path
      timeout:
        description: After so many seconds without a byte the store is given up.
        type: int
        default: 120
"""
