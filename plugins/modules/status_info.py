#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: status_info
short_description: What serves, who holds the lock, what the last runs did
description:
  - Reads lock, ledger, journals and dead-man timers in the state directory of an application on a host. It writes nothing.
  - A directory that does not exist yet is one in which nothing has happened.
extends_documentation_fragment: [lastro.deploy.attributes.info]
author:
  - lastro.deploy contributors (@lastro)
options:
  state_dir:
    description: The application's state directory. Lock, ledger and journals are on the primary host, timers on each host.
    type: path
    required: true
  limit:
    description: How many of the last runs are told.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: See what serves
  lastro.deploy.status_info:
    state_dir: /var/lib/lastro/calendar-api
  register: status
"""

RETURN = r"""
holder:
  description: Who holds the lock; empty where nobody does.
  returned: success
  type: dict
  contains:
    run_id:
      description: The run.
      returned: where somebody does
      type: str
    actor:
      description: Who started it.
      returned: where somebody does
      type: str
    reason:
      description: Why.
      returned: where somebody does
      type: str
    since:
      description: When it took the lock.
      returned: where somebody does
      type: str
    expires_at:
      description: When its lease runs out unless it renews it.
      returned: where somebody does
      type: str
    expired:
      description: Whether the lease has run out, so that the next run takes over.
      returned: where somebody does
      type: bool
ledger:
  description: The releases.
  returned: success
  type: dict
  contains:
    live:
      description: The id of the release that serves; empty when none does.
      returned: always
      type: str
    releases:
      description: All releases, oldest first, each C({id, version, state, run_id, revisions, verified}).
      returned: always
      type: list
      elements: dict
runs:
  description: The last runs, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    run_id:
      description: The run.
      returned: always
      type: str
    app:
      description: The application.
      returned: always
      type: str
    release:
      description: What it deployed, as C({id, version, sha256}); empty for a rollback.
      returned: always
      type: dict
    actor:
      description: Who started it.
      returned: always
      type: str
    started:
      description: When.
      returned: always
      type: str
    outcome:
      description: How it ended; V(unfinished) where the journal has no outcome.
      returned: always
      type: str
    running:
      description: Whether it holds the lock now.
      returned: always
      type: bool
    reached:
      description: The phases that it entered.
      returned: always
      type: list
      elements: str
    failed_phase:
      description: The phase that failed first; empty where none did.
      returned: always
      type: str
left_over:
  description: Runs that ended without an outcome since the last one that has one, newest first. The next deploy takes over what they left.
  returned: success
  type: list
  elements: str
timers:
  description: Dead-man timers of this host.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The timer.
      returned: always
      type: str
    run_id:
      description: The run that armed it.
      returned: always
      type: str
    state:
      description: V(armed), V(firing), or V(fired) where it has put its change back and nobody has confirmed that yet.
      returned: always
      type: str
    seconds_left:
      description: Seconds until it fires.
      returned: always
      type: float
text:
  description: All of it as a short table, in C(en) and C(pt_BR).
  returned: success
  type: dict
"""

from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils import _status
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

SPEC = ArgumentSpec({"state_dir": {"type": "path", "required": True}, "limit": {"type": "int", "default": 10}})


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    try:
        found = _status.read(Path(module.params["state_dir"]), limit=module.params["limit"])
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
