#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: supervisor
short_description: Run the processes of releases, and dead-man timers, under supervisor
description:
  - Starts a process of a release in one of its slots and waits until it runs, or stops it gracefully and forgets it.
  - Sets and takes back dead-man timers, which put our own change back on this host when nobody confirms or renews in time.
  - A process gets the variables of its release's environment file when it starts. They stand neither in supervisor's files nor in a command line.
extends_documentation_fragment: [lastro.deploy.attributes, lastro.deploy.supervisor, lastro.deploy.process]
attributes:
  idempotent:
    support: partial
    details: O(state=armed) moves the deadline each time. The other states change nothing in a second call.
author:
  - lastro.deploy contributors (@lastro)
options:
  state:
    description:
      - V(prepared) has the launcher, the dead-man timer and the log reader in C(bin) of O(state_dir), with the directories of timers and logs.
      - V(started) has the release running in the slot. Where it does not run, the error shows the end of its log without the values of its variables.
      - V(stopped) sends SIGTERM, and SIGKILL after the stop seconds that it was started with, and removes its program.
      - V(armed) sets a timer, or moves its deadline; it fails for a timer of another run that has not run out.
      - V(disarmed) takes a timer back; a timer of another run is left alone.
    type: str
    required: true
    choices: [prepared, started, stopped, armed, disarmed]
  state_dir:
    description: The application's state directory on this host; needed except for V(stopped). Others must be able to pass it (0711 or 0755).
    type: path
  user:
    description: Who the process runs as; supervisord must run as root, or as this user. Its own user where it is empty.
    type: str
"""

EXAMPLES = r"""
- name: Start the release in the green slot
  lastro.deploy.supervisor:
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

- name: Stop what runs in the blue slot
  lastro.deploy.supervisor:
    state: stopped
    app: calendar-api
    process: web
    slot: blue

- name: Have maintenance end by itself
  lastro.deploy.supervisor:
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
  description: The program's name in supervisor.
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

from ansible_collections.lastro.deploy.plugins.module_utils import _supervisor
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run


def main() -> None:
    """Run the module."""
    run(_supervisor.answer, _supervisor.argument_spec())


if __name__ == "__main__":
    main()
