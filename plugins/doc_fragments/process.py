# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """What the module of every strategy is told; C(argument_spec) in C(module_utils/_process.py) is its other half."""

    DOCUMENTATION = r"""
options:
  root:
    description: The application's directory, with C(releases/ID) and C(env/ID.env); needed for V(started).
    type: path
  process:
    description: The process; needed for V(started) and V(stopped).
    type: str
  slot:
    description: The slot; needed for V(started) and V(stopped).
    type: str
    choices: [blue, green]
  release:
    description: The id of the release; needed for V(started).
    type: str
  port:
    description: The port of the slot, V(0) for a process that does not listen.
    type: int
    default: 0
  command:
    description:
      - The command, a text that is split as a shell would, or a list of arguments; needed for V(started).
      - C({bind}), C({port}), C({release}) and C({release_dir}) are replaced.
    type: raw
  bind_address:
    description: The address that C({bind}) stands for.
    type: str
    default: 127.0.0.1
  stop:
    description: V(drain) lets the process end the work at hand, it gets 300 seconds instead of 30.
    type: str
  stop_seconds:
    description: Seconds between SIGTERM and SIGKILL.
    type: int
  timer:
    description: The timer's name on this host; needed for V(armed) and V(disarmed).
    type: str
  run_id:
    description: The run that the timer belongs to; needed for V(armed) and V(disarmed).
    type: str
  seconds:
    description: Seconds from now, by the host's clock; needed for V(armed).
    type: int
  revert:
    description:
      - What the timer puts back; needed for V(armed).
      - C({kind=slot, directory, host, slot, probe_url}) points the proxy to a slot, if that one answers 200.
      - C({kind=remove_flag, path, run_id}) removes a flag file that holds this run id.
    type: list
    elements: dict
  dead_runs:
    description: Runs that are known to have died, whose pending timer is taken over or taken back.
    type: list
    elements: str
    default: []
"""
