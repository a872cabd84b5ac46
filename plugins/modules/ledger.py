#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: ledger
short_description: Keep the list of an application's releases
description:
  - The ledger on the primary host says of each release whether it is unfinished, good or bad, and which one serves.
  - Only good (verified) releases are rollback targets and count for retention; the last good one is pinned.
extends_documentation_fragment: [lastro.deploy.attributes]
author:
  - lastro.deploy contributors (@lastro)
options:
  state_dir:
    description: The application's state directory on the primary host.
    type: path
    required: true
  release:
    description: The id of a release to record. Without it the ledger is only read.
    type: str
  version:
    description: The version that the release was made from.
    type: str
    default: ''
  sha256:
    description: The SHA-256 of its artifact.
    type: str
    default: ''
  run_id:
    description: The run that records it.
    type: str
    default: ''
  revisions:
    description: The database's Alembic heads while the release was verified.
    type: list
    elements: str
    default: []
  state:
    description: The release's state. A good one stays good when a later run only stages it again.
    type: str
    default: unfinished
    choices: [unfinished, good, bad]
  live:
    description: Whether the release serves now. Left out, that stays as it is.
    type: bool
  forget:
    description: Releases to take out of the ledger, since they were removed from the hosts.
    type: list
    elements: str
    default: []
  keep:
    description: How many good releases stay, for the return value RV(prunable).
    type: int
    default: 5
"""

EXAMPLES = r"""
- name: The release has been verified
  lastro.deploy.ledger:
    state_dir: /var/lib/lastro/calendar-api
    release: r2-3f9c2e1
    version: r2
    state: good
    live: true
"""

RETURN = r"""
releases:
  description: All releases, oldest first.
  returned: always
  type: list
  elements: dict
live:
  description: The id of the release that serves; empty when none does.
  returned: always
  type: str
last_good:
  description: The release to go back to (besides O(release)); empty when there is none.
  returned: always
  type: dict
prunable:
  description: Releases that retention would remove.
  returned: always
  type: list
  elements: str
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _ledger
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run

SPEC = ArgumentSpec(
    {
        "state_dir": {"type": "path", "required": True},
        "release": {"type": "str"},
        "version": {"type": "str", "default": ""},
        "sha256": {"type": "str", "default": ""},
        "run_id": {"type": "str", "default": ""},
        "revisions": {"type": "list", "elements": "str", "default": []},
        "state": {"type": "str", "default": "unfinished", "choices": list(_ledger.STATES)},
        "live": {"type": "bool"},
        "forget": {"type": "list", "elements": "str", "default": []},
        "keep": {"type": "int", "default": 5},
    }
)


def main() -> None:
    """Run the module."""
    run(_ledger.answer, SPEC)


if __name__ == "__main__":
    main()
