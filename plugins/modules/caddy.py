#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: caddy
short_description: Let Caddy serve an application, choose its slot, shut its door
description:
  - Writes the site of an application once, and reloads Caddy only where the site changed.
  - What a deploy changes are files below C(proxy/) in O(state_dir), for whose presence Caddy looks at each request; no request is lost by them.
  - A site that Caddy refuses is replaced by the one before it.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  check_mode:
    support: full
    details: A new site is not checked by Caddy in C(check_mode), and requests in flight are counted but not waited for.
  idempotent:
    support: partial
    details: Reloads each time with O(state=reloaded).
author:
  - lastro.deploy contributors (@lastro)
options:
  state:
    description:
      - V(configured) has directories, usual pages, testers and the site, and Caddy serving it.
      - V(reloaded) reloads Caddy, which closes connections that clients keep.
      - V(switched) points the proxy at O(slot) of O(host).
      - V(drained) waits until O(address) has no request in flight.
      - V(maintenance_on) answers 503 to users, then waits for the requests in flight of O(upstreams).
      - V(maintenance_off) lets users in again, unless the maintenance is somebody else's.
    type: str
    required: true
    choices: [configured, reloaded, switched, drained, maintenance_on, maintenance_off]
  state_dir:
    description: The application's state directory on this host. Caddy's user must be able to pass it (0711 or 0755).
    type: path
  app:
    description: The application, and name of its site's file.
    type: str
  caddy:
    description: Where Caddy is.
    type: dict
    suboptions:
      config_dir:
        description: Directory whose C(*.caddy) files the main Caddyfile imports.
        type: path
        default: /etc/caddy/sites
      validate:
        description: Command that checks a file, which is appended, as an argument list.
        type: list
        elements: str
        default: [caddy, validate, --adapter, caddyfile, --config]
      reload:
        description: Command that loads the main Caddyfile again, as an argument list.
        type: list
        elements: str
        default: [caddy, reload, --adapter, caddyfile, --config, /etc/caddy/Caddyfile]
      admin:
        description: The admin API, an address or C(unix//path/of/socket).
        type: str
        default: http://127.0.0.1:2019
  site:
    description: The site, as a Caddyfile.
    type: str
  pages:
    description: What users read during maintenance; the usual pages for O(state=configured), those of this one for O(state=maintenance_on).
    type: dict
    suboptions:
      html:
        description: For browsers.
        type: str
        required: true
      json:
        description: For clients that accept JSON.
        type: str
        required: true
  tester_token_file:
    description:
      - File on this host, 0600, with the token (32 to 128 letters, digits, - or _) that passes during maintenance. Every other token is shut out.
      - Left out or empty, tokens stay as they are.
    type: path
  upstreams:
    description: The app hosts.
    type: list
    elements: dict
    suboptions:
      host:
        description: Name of the host.
        type: str
        required: true
      address:
        description: Where this proxy reaches it.
        type: str
        required: true
      ports:
        description: The port of each slot.
        type: dict
        required: true
        suboptions:
          blue:
            description: Port of the blue slot.
            type: int
            required: true
          green:
            description: Port of the green slot.
            type: int
            required: true
      loopback_port:
        description: Port of the host's own site on 127.0.0.1.
        type: int
        required: true
  host:
    description: The app host whose slot is chosen.
    type: str
  slot:
    description: The slot that serves from now on.
    type: str
    choices: [blue, green]
  address:
    description: Address and port whose requests are waited for, such as V(127.0.0.1:8001).
    type: str
  seconds:
    description: How long requests in flight are waited for at most.
    type: float
    default: 30.0
  run_id:
    description: The run that switches maintenance on, and alone may switch it off without force. Empty for a human.
    type: str
    default: ''
  by:
    description: Who switches maintenance on.
    type: str
  reason:
    description: What users read on the pages, for the flag's C(message).
    type: str
    default: ''
  until:
    description: When the service is expected back, as users read it.
    type: str
    default: ''
  force:
    description: Replaces or removes a maintenance, whoever switched it on.
    type: bool
    default: false
seealso:
  - module: lastro.deploy.caddy_info
"""

EXAMPLES = r"""
- name: Point the proxy at the green slot of app1
  lastro.deploy.caddy:
    state: switched
    state_dir: /var/lib/lastro/calendar-api
    host: app1
    slot: green

- name: Wait until the blue slot has no request in flight
  lastro.deploy.caddy:
    state: drained
    address: 10.0.0.11:8001
    seconds: 60
    caddy:
      admin: unix//run/caddy/admin.sock
  register: drained

- name: Let users in again
  lastro.deploy.caddy:
    state: maintenance_off
    state_dir: /var/lib/lastro/calendar-api
    run_id: 20261121T221004-7c1f
"""

RETURN = r"""
in_flight:
  description: Requests that were still in flight when the time was over.
  returned: with O(state=drained) and O(state=maintenance_on)
  type: int
  sample: 0
maintenance:
  description: The maintenance that stays, C(on) with what its flag says; empty where users are in again.
  returned: with O(state=maintenance_off)
  type: dict
  sample: {"on": true, "by": "ana"}
reloaded:
  description: Whether Caddy was reloaded, or would be.
  returned: with O(state=configured) and O(state=reloaded)
  type: bool
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _caddy
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec, Options
from ansible_collections.lastro.deploy.plugins.module_utils._engine_module import run

CADDY: Options = {
    "config_dir": {"type": "path", "default": "/etc/caddy/sites"},
    "validate": {"type": "list", "elements": "str", "default": ["caddy", "validate", "--adapter", "caddyfile", "--config"]},
    "reload": {"type": "list", "elements": "str", "default": ["caddy", "reload", "--adapter", "caddyfile", "--config", "/etc/caddy/Caddyfile"]},
    "admin": {"type": "str", "default": "http://127.0.0.1:2019"},
}
PORTS: Options = {"blue": {"type": "int", "required": True}, "green": {"type": "int", "required": True}}
UPSTREAM: Options = {
    "host": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "ports": {"type": "dict", "required": True, "options": PORTS},
    "loopback_port": {"type": "int", "required": True},
}
SPEC = ArgumentSpec(
    options={
        "state": {
            "type": "str",
            "required": True,
            "choices": ["configured", "reloaded", "switched", "drained", "maintenance_on", "maintenance_off"],
        },
        "state_dir": {"type": "path"},
        "app": {"type": "str"},
        "caddy": {"type": "dict", "options": CADDY, "apply_defaults": True},
        "site": {"type": "str"},
        "pages": {"type": "dict", "options": {"html": {"type": "str", "required": True}, "json": {"type": "str", "required": True}}},
        "tester_token_file": {"type": "path", "no_log": False},
        "upstreams": {"type": "list", "elements": "dict", "options": UPSTREAM},
        "host": {"type": "str"},
        "slot": {"type": "str", "choices": ["blue", "green"]},
        "address": {"type": "str"},
        "seconds": {"type": "float", "default": 30.0},
        "run_id": {"type": "str", "default": ""},
        "by": {"type": "str"},
        "reason": {"type": "str", "default": ""},
        "until": {"type": "str", "default": ""},
        "force": {"type": "bool", "default": False},
    },
    required_if=(
        ("state", "configured", ["state_dir", "app", "site", "pages", "upstreams"]),
        ("state", "switched", ["state_dir", "host", "slot"]),
        ("state", "drained", ["address"]),
        ("state", "maintenance_on", ["state_dir", "pages", "upstreams", "by"]),
        ("state", "maintenance_off", ["state_dir"]),
    ),
)


def main() -> None:
    """Run the module."""
    run(_caddy.answer, SPEC)


if __name__ == "__main__":
    main()
