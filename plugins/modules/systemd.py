#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: systemd
short_description: Run the processes of releases, and dead-man timers, under systemd
description:
  - Starts a process of a release in one of its slots and waits until it runs, or stops it gracefully and forgets it.
  - Each slot has a unit of its own. It starts at boot for as long as the slot is meant to run, and it is hardened, see the role's README.
  - Sets and takes back dead-man timers, which put our own change back on this host when nobody confirms or renews in time, also after a reboot.
  - A process gets the variables of its release's environment file when it starts. They stand neither in a unit nor in a command line.
extends_documentation_fragment: [lastro.deploy.attributes, lastro.deploy.process]
attributes:
  idempotent:
    support: partial
    details: O(state=armed) moves the deadline each time. The other states change nothing in a second call.
author:
  - lastro.deploy contributors (@lastro)
options:
  app:
    description: The application, the first part of each unit's name.
    type: str
    required: true
  state:
    description:
      - V(prepared) has the dead-man timer in C(bin) of O(state_dir), with the directory of timers.
      - V(started) has the release running in the slot. Where it does not run, it is stopped, and the error shows the end of its journal without
        the values of its variables.
      - V(stopped) sends SIGTERM, and SIGKILL after the stop seconds that it was started with, and removes its unit.
      - V(armed) sets a timer, or moves its deadline; it fails for a timer of another run that has not run out.
      - V(disarmed) takes a timer back; a timer of another run is left alone.
    type: str
    required: true
    choices: [prepared, started, stopped, armed, disarmed]
  state_dir:
    description: The application's state directory on this host; needed except for V(stopped).
    type: path
  user:
    description: Who the process runs as; root where it is empty.
    type: str
  limits:
    description: What the process, with all that it starts, may use.
    type: dict
    suboptions:
      memory_max:
        description: Memory, in bytes or with K, M, G or T; beyond it the kernel ends a process of the unit.
        type: str
      cpu_quota:
        description: Time of the processors, V(100%) being all of one.
        type: str
      tasks_max:
        description: Processes and threads.
        type: str
  writable:
    description: Directories that the process may write to, besides its own C(/tmp) and C(/var/tmp). Everything else is read-only for it.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Start the release in the green slot
  lastro.deploy.systemd:
    state: started
    app: calendar-api
    state_dir: /var/lib/lastro/calendar-api
    root: /opt/calendar-api
    process: web
    slot: green
    release: r2-3f9c2e1
    port: 8002
    command: "gunicorn --bind {bind} calendar_api:app"
    user: calendar
    limits: {memory_max: 512M, cpu_quota: 150%, tasks_max: 512}
    writable: [/srv/calendar-uploads]

- name: Stop what runs in the blue slot
  lastro.deploy.systemd:
    state: stopped
    app: calendar-api
    process: web
    slot: blue

- name: Have maintenance end by itself
  lastro.deploy.systemd:
    state: armed
    app: calendar-api
    state_dir: /var/lib/lastro/calendar-api
    timer: maintenance
    run_id: 20261121T221004-7c1f
    seconds: 120
    revert:
      - {kind: remove_flag, path: /var/lib/lastro/calendar-api/proxy/maintenance.flag, run_id: 20261121T221004-7c1f}
"""

RETURN = r"""
program:
  description: The unit's name, without its C(.service).
  returned: success, except for V(prepared)
  type: str
  sample: calendar-api-web-green
timer:
  description: What became of the timer.
  returned: success, for V(disarmed)
  type: dict
  contains:
    disarmed:
      description: Whether it was this run's, or no timer at all.
      returned: always
      type: bool
    run_id:
      description: The run that asked; the run that the timer belongs to where that is another one.
      returned: always
      type: str
    fired:
      description: What it did, where it came first, as C({name, run_id, when, what}); else null.
      returned: always
      type: dict
    changed:
      description: Whether there was a timer.
      returned: always
      type: bool
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _systemd
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run


def main() -> None:
    """Run the module."""
    run(_systemd.answer, _systemd.argument_spec())


if __name__ == "__main__":
    main()
