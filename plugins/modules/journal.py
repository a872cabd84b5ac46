#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: journal
short_description: Write to and read the journal of a run
description:
  - The journal is an append-only file of JSON lines on the primary host, written before and after each phase.
  - Report, rollback, status and the next run read what happened from it, also after the controller was killed.
  - A phase is entered, with a record of kind intent, only while the run is sound; rollback and close may be entered by a failed one too.
  - Once preflight has found that there is nothing to do, close is the only phase that is entered.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  idempotent:
    support: none
    details: A record is an event; writing it again is another event.
author:
  - lastro.deploy contributors (@lastro)
options:
  state_dir:
    description: The application's state directory on the primary host.
    type: path
    required: true
  run_id:
    description: The run. Empty means the newest one, which can only be read.
    type: str
    default: ''
  record:
    description:
      - The record to write, without its time. Its C(kind) is one of opened, result, acknowledged, verdict, request, decision, outcome.
      - Without O(record) and O(enter) the journal is only read.
    type: dict
  enter:
    description: The phase that begins now, or right after O(record). Empty where none does.
    type: str
    default: ''
  gate:
    description: Instead of a phase to enter, the phase of which every one of O(hosts) must have reported ok before the next batch begins.
    type: str
    default: ''
  hosts:
    description: For a record of kind verdict, and for O(gate), the hosts that must have reported ok.
    type: list
    elements: str
    default: []
  lease_seconds:
    description: Renew the run's lease lock, and its timers on this host, by this many seconds in the same call. 0 leaves them alone.
    type: int
    default: 0
  renew_on:
    description: Other hosts on which the run's timers are renewed too, while the maintenance of this run is on.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Enter a phase
  lastro.deploy.journal:
    state_dir: /var/lib/lastro/calendar-api
    run_id: 20261121T221004-7c1f
    enter: backup
  register: entered

- name: End it and enter the next one
  lastro.deploy.journal:
    state_dir: /var/lib/lastro/calendar-api
    run_id: 20261121T221004-7c1f
    record: {kind: result, phase: backup, status: ok, host: db1}
    enter: migrate
  register: entered
"""

RETURN = r"""
wanted:
  description:
    - Whether the phase to enter is to be done. False where none is named, once the run has failed, and once preflight has found nothing to do.
    - With O(gate), whether the next batch may begin.
  returned: always
  type: bool
record:
  description: O(record), or the intent of O(enter) alone, as it was written; empty where none was.
  returned: always
  type: dict
seconds:
  description: Time since the phase was entered.
  returned: always
  type: float
run:
  description: What the records say together.
  returned: always
  type: dict
  contains:
    run_id:
      description: The run.
      type: str
    phases:
      description: The last status of each phase.
      type: dict
    evidence:
      description: What each phase proved.
      type: dict
    failed_phase:
      description: The phase that failed first.
      type: str
    problem:
      description: What was wrong.
      type: str
    remedy:
      description: What to do about it, in both languages.
      type: dict
    sound:
      description: Whether the run may go on.
      type: bool
    outcome:
      description: How the run ended; empty while it has not.
      type: str
left_over:
  description: Earlier runs that never came to an outcome, or to one that settles nothing (V(rollback_incomplete), V(needs_human)), newest first.
  returned: always
  type: list
  elements: str
earlier:
  description: The opening records of those runs.
  returned: always
  type: list
  elements: dict
second_backup:
  description:
    - The newest backup that this run or one of those took behind the closed door of its maintenance; empty where none did.
    - C(manifest), C(name), C(run_id), C(since) (by proxy host, when its door was shut) and C(left) (whether a run has begun to open it).
  returned: always
  type: dict
reached:
  description: The phases that this run or one of those entered.
  returned: always
  type: list
  elements: str
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _journal_call
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run

SPEC = ArgumentSpec(
    {
        "state_dir": {"type": "path", "required": True},
        "run_id": {"type": "str", "default": ""},
        "record": {"type": "dict"},
        "enter": {"type": "str", "default": ""},
        "gate": {"type": "str", "default": ""},
        "hosts": {"type": "list", "elements": "str", "default": []},
        "lease_seconds": {"type": "int", "default": 0},
        "renew_on": {"type": "list", "elements": "str", "default": []},
    }
)


def main() -> None:
    """Run the module."""
    run(_journal_call.answer, SPEC)


if __name__ == "__main__":
    main()
