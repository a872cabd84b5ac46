#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: service_probe
short_description: Check that the services of an application can be reached
description:
  - Asks PostgreSQL, Redis, TCP, HTTP and TLS services, all at the same time, and says all findings at once.
  - PostgreSQL must answer a query and be no standby; Redis must answer C(PING); HTTP must answer with a status below 500;
    TLS must show a certificate whose chain and name are right and that is valid for some days more.
  - No password is in any text that it returns.
extends_documentation_fragment:
  - lastro.deploy.attributes.info
requirements:
  - psycopg2 2.9 or newer for targets of kind V(postgres)
  - redis 5 or newer for targets of kind V(redis)
  - requests 2.32 or newer with urllib3 2 for targets of kind V(http)
options:
  targets:
    description: Whom to ask. Each target needs one of O(targets[].url), O(targets[].url_variable) and O(targets[].host).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the target is called in messages; its variable or address when left out.
        type: str
      kind:
        description: What is asked.
        type: str
        required: true
        choices: [postgres, redis, tcp, http, tls]
      url:
        description: Where the service is. With a password in it, O(targets[].url_variable) is the better place.
        type: str
      url_variable:
        description: The variable of O(environment_file) that holds the URL.
        type: str
      host:
        description: Host name or address, for kinds V(tcp), V(tls) and V(redis).
        type: str
      port:
        description: Port, with O(targets[].host).
        type: int
      timeout:
        description: Seconds that this target may take; O(timeout) when left out.
        type: float
      min_days:
        description: How many days the certificate must still be valid, for kind V(tls).
        type: int
        default: 14
      ca_cert:
        description: File with the certificate authority that signed the server's certificate. The system's authorities when left out.
        type: path
  environment_file:
    description: An environment file on the host (C(NAME="value") lines) that holds URLs.
    type: path
  timeout:
    description: Seconds that each target may take.
    type: float
    default: 5.0
  report_only:
    description: Return the findings instead of failing, for a caller that collects the findings of several checks.
    type: bool
    default: false
seealso:
  - module: lastro.deploy.env_contract
  - module: lastro.deploy.http_check
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Everything that the application needs answers
  lastro.deploy.service_probe:
    environment_file: /opt/calendar-api/env/r2
    targets:
      - {name: database, kind: postgres, url_variable: DATABASE_URL}
      - {name: sessions, kind: redis, url_variable: REDIS_URL}
      - {name: site, kind: tls, host: calendar.example.com, port: 443, min_days: 21}
      - {name: login provider, kind: http, url: "https://login.example.com/.well-known/openid-configuration"}
"""

RETURN = r"""
targets:
  description: The targets in their order.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: What the target is called.
      returned: always
      type: str
      sample: database
    kind:
      description: What was asked.
      returned: always
      type: str
      sample: postgres
    ok:
      description: Whether it answered as it should.
      returned: always
      type: bool
      sample: true
    seconds:
      description: How long it took.
      returned: always
      type: float
      sample: 0.01
    version:
      description: The server's version, for kind V(tls) that of the protocol; empty where it is not told.
      returned: always
      type: str
      sample: "18.1"
    days_left:
      description: How many days the certificate is still valid; null for other kinds than V(tls).
      returned: always
      type: int
      sample: 60
    problem:
      description: What is wrong; empty where all is well.
      returned: always
      type: str
      sample: Redis at 10.0.0.5:6379 does not answer PING, connection refused
checked:
  description: How many targets were asked.
  returned: always
  type: int
  sample: 4
findings:
  description: What is wrong; empty where all is well.
  returned: always
  type: list
  elements: dict
  contains:
    target:
      description: What the target is called.
      returned: always
      type: str
      sample: sessions
    problem:
      description: What is wrong.
      returned: always
      type: str
      sample: Redis at 10.0.0.5:6379 does not answer PING, connection refused
    remedy:
      description: What to do, as C(en) and C(pt_BR).
      returned: always
      type: dict
seconds:
  description: How long all of it took.
  returned: always
  type: float
  sample: 0.1
"""

from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._service_probe import argument_spec, run, secrets_in


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    module.no_log_values.update(secrets_in(module.params))
    try:
        result = run(module.params)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
