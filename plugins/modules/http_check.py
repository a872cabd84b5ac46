#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: http_check
short_description: Check what an application answers over HTTP
description:
  - Sends requests to an application and compares status, headers, JSON and time with what is expected.
  - All input is checked before the first request goes out.
  - Asks directly. It uses no proxy and no netrc of its environment.
  - Messages never hold the body of an answer or the value of a header.
extends_documentation_fragment:
  - lastro.deploy.attributes.info
attributes:
  check_mode:
    support: partial
    details: Requests with other methods than C(GET), C(HEAD) and C(OPTIONS) are not sent in C(check_mode); such a check has RV(checks[].sent) false.
requirements:
  - requests 2.32 or newer with urllib3 2, in the interpreter that runs the module
  - jmespath 1.0 or newer where O(checks[].expect.json) is used
options:
  base_url:
    description: Where the application is, such as V(http://127.0.0.1:8001); the paths of O(checks) are put behind it.
    type: str
    required: true
  checks:
    description: The checks, made one after the other in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the check is called in RV(checks); method and path when left out.
        type: str
      path:
        description: Path of the request, beginning with C(/). C({release}) in it is replaced by O(release).
        type: str
        required: true
      method:
        description: Method of the request.
        type: str
        default: GET
        choices: [GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS]
      headers:
        description: Headers of this request, beside O(headers). For secrets there is O(header_files).
        type: dict
      body:
        description: Body of the request, sent as JSON.
        type: dict
      expect:
        description: What the answer must be.
        type: dict
        suboptions:
          status:
            description: The status, or a list of those that are right; 200 when left out.
            type: list
            elements: int
          json:
            description:
              - A JMESPath expression that must be fulfilled by the JSON body. False, null, 0 and what is empty do not fulfil it.
              - C({release}) in it is replaced by O(release).
            type: str
          max_seconds:
            description: How long each request may take, its body included.
            type: float
          header:
            description: Headers that the answer must have, by name. C({release}) in a value is replaced by O(release).
            type: dict
      requests:
        description: How many times the request is sent; each answer must be right.
        type: int
        default: 1
      parallel:
        description: How many of O(checks[].requests) are sent at once.
        type: int
        default: 1
  release:
    description: The release id that takes the place of C({release}).
    type: str
  headers:
    description: Headers of every request.
    type: dict
  header_files:
    description:
      - Headers of every request whose values are secret, as header name and path of a file on the host that holds the value.
      - The file's mode must be 0600 or stricter.
    type: dict
  ca_cert:
    description: File with the certificate authority that signed the server's certificate. The system's authorities when left out.
    type: path
  timeout:
    description: Seconds that a request may take.
    type: float
    default: 5.0
  tries:
    description: How often a failing check is tried before it counts as failed. Not used with O(wait).
    type: int
    default: 3
  delay:
    description: Seconds between two tries.
    type: float
    default: 1.0
  wait:
    description:
      - Keep asking the whole list, every 0.2 seconds, until all checks pass or this many seconds are over.
      - For an application that has just been started.
    type: float
    default: 0.0
  follow_redirects:
    description: Follow redirects instead of judging them.
    type: bool
    default: false
  report_only:
    description: Return the findings instead of failing, for a caller that collects the findings of several checks.
    type: bool
    default: false
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: The new slot answers with its release within 30 seconds
  lastro.deploy.http_check:
    base_url: http://127.0.0.1:8002
    release: r2
    wait: 30
    checks:
      - path: /health
        expect:
          json: release == '{release}'

- name: The application does its work
  lastro.deploy.http_check:
    base_url: https://calendar.example.com
    header_files:
      Authorization: /etc/calendar-api/smoke.header
    checks:
      - path: /api/schedule
        requests: 40
        parallel: 4
        expect:
          status: 200
          json: length(items) > `0`
          max_seconds: 2
      - path: /api/schedule
        method: POST
        body: {slot: "2026-11-21T10:00:00Z"}
        expect:
          status: [201, 409]
"""

RETURN = r"""
checks:
  description: The checks in their order.
  returned: when the input is right
  type: list
  elements: dict
  contains:
    name:
      description: What the check is called.
      returned: always
      type: str
      sample: GET /health
    url:
      description: What was asked, without user, password and query.
      returned: always
      type: str
      sample: http://127.0.0.1:8002/health
    method:
      description: Method of the request.
      returned: always
      type: str
      sample: GET
    ok:
      description: Whether every answer was right.
      returned: always
      type: bool
      sample: true
    status:
      description: Status of the failing or slowest answer of the last try; null where no answer came.
      returned: always
      type: int
      sample: 200
    seconds:
      description: How long that request took.
      returned: always
      type: float
      sample: 0.012
    tries:
      description: How many tries it took.
      returned: always
      type: int
      sample: 1
    sent:
      description: Whether requests were sent; false in check mode for methods that may change something.
      returned: always
      type: bool
      sample: true
    problem:
      description: What was wrong; empty where all is well.
      returned: always
      type: str
      sample: 500, expected 200 (3 of 3 tries)
passed:
  description: How many checks passed.
  returned: when the input is right
  type: int
  sample: 2
total:
  description: How many checks there are.
  returned: when the input is right
  type: int
  sample: 2
seconds:
  description: How long all of it took.
  returned: when the input is right
  type: float
  sample: 0.2
findings:
  description: What is wrong; empty where all is well.
  returned: when the input is right
  type: list
  elements: dict
  contains:
    check:
      description: Method and path of the check.
      returned: always
      type: str
      sample: GET /api/schedule
    problem:
      description: What is wrong.
      returned: always
      type: str
      sample: 500, expected 200 (3 of 3 tries)
    remedy:
      description: What to do, as C(en) and C(pt_BR).
      returned: always
      type: dict
"""

from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._http import url_secrets
from ansible_collections.lastro.deploy.plugins.module_utils._http_check import argument_spec, run


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    module.no_log_values.update(url_secrets(module.params["base_url"]))
    try:
        result = run(module.params, check_mode=module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
