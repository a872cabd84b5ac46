#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: watch
short_description: Judge a release by thresholds over time
description:
  - Takes a sample at a fixed interval, from probes of its own, from the application's Prometheus counters and from PostgreSQL, and judges gates over them.
  - A gate passes, fails or is inconclusive. A gate without data never passes, unless it says so.
  - More than three evaluations in a row without a value count as no data.
  - A breach that is running at the end, but not yet for as long as the gate's C(for), is watched on until it ends or has lasted that long.
  - A breach is a result, not a failure of the module; RV(action) says what it asks for. Unusable options fail before anything starts.
extends_documentation_fragment:
  - lastro.deploy.attributes.info
  - lastro.deploy.postgres
  - lastro.deploy.progress
attributes:
  check_mode:
    support: partial
    details: It validates the options and takes one sample, which it does not write to O(samples_file).
notes:
  - The options of the connection are needed only where a gate speaks of a C(db_) metric.
  - Metrics and their units, all of them over the last O(window) except the last two. C(error_rate) and C(success_rate), shares of the requests,
    from the increase of O(request_counter) (5xx is an error) and from probes (another status than expected, or no answer, is an error).
    C(requests), how many these were. C(latency_p95) and C(latency_p99), milliseconds, of probes that were answered or ran into O(timeout).
    C(probe_failures), how many probes failed. C(db_connection_use), the connections to the server as a share of C(max_connections).
    C(db_deadlocks_delta), deadlocks in the database since the first sample.
  - A share of requests is unknown, not zero, where there was no request. Probes make sure that there is traffic.
  - A counter that went back belongs to a process that started again, all of its new value counts. The first scrape gives no increase.
options:
  duration:
    description: How long to watch, for example V(5m), V(2m30s), V(90s).
    type: str
    default: 5m
  interval:
    description: Time between two samples.
    type: str
    default: 5s
  window:
    description: The time over which shares, counts of requests and latencies are taken.
    type: str
    default: 60s
  timeout:
    description: The longest that a probe or a scrape may take.
    type: str
    default: 5s
  gates:
    description: What the release must keep, at least one gate.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the gate, by default its metric with the limit.
        type: str
      metric:
        description: What to compare; one of the metrics in the notes.
        type: str
        required: true
      op:
        description: How a good value compares with the limit.
        type: str
        choices: ['<', <=, '>', '>=', ==, '!=']
        required: true
      value:
        description: The limit, for example V(10%) or V(0.1) for a share, V(2000ms) or V(2s) for a time, V(0) for a count.
        type: raw
        required: true
      for:
        description: How long a breach must hold, at every evaluation, before the gate fails; without it one evaluation is enough.
        type: str
      min_samples:
        description: So many evaluations with a value are needed before the gate says anything.
        type: int
        default: 1
      on_breach:
        description: What a failed gate asks for.
        type: str
        choices: [rollback, consider, warn]
        default: rollback
      on_no_data:
        description: The verdict where there is not enough data.
        type: str
        choices: [inconclusive, fail, pass]
        default: inconclusive
  probes:
    description: Requests to send at every sample, in parallel, each over a new connection, without following redirects.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: What to ask, without credentials.
        type: str
        required: true
      method:
        description: How to ask.
        type: str
        choices: [GET, HEAD, OPTIONS]
        default: GET
      expect_status:
        description: The status of a good answer.
        type: int
        default: 200
      header_files:
        description: Names of headers, each with the path of a file on the host that holds its value, so that no secret is an option.
        type: dict
  metrics_urls:
    description: Where processes of the application show their counters in the Prometheus text format; they are added up.
    type: list
    elements: str
    default: []
  request_counter:
    description: The counter of answered requests.
    type: str
    default: http_requests_total
  status_label:
    description: The label of O(request_counter) with the HTTP status, as V(500) or V(5xx).
    type: str
    default: status
  http_ca_cert:
    description: File with the certificate authority that the certificates of O(probes) and O(metrics_urls) are checked against, instead of the system's.
    type: path
  samples_file:
    description: File to append each sample to as a line of JSON, on disk before the next one is taken; made with mode 0600. Its directory must exist.
    type: path
author:
  - lastro.deploy contributors (@lastro)
requirements:
  - requests, in the interpreter that runs the module
"""

EXAMPLES = r"""
- name: Watch the new release for five minutes
  lastro.deploy.watch:
    duration: 5m
    probes:
      - url: http://127.0.0.1:8080/health
    metrics_urls:
      - http://127.0.0.1:8001/metrics
    environment_file: /opt/calendar-api/env/r3-3f9c2e1
    samples_file: /var/lib/lastro/calendar-api/runs/20261121T221004-7c1f.samples.jsonl
    gates:
      - {metric: error_rate, op: <=, value: 10%, for: 2m, on_breach: rollback}
      - {metric: latency_p95, op: <, value: 2000ms, min_samples: 10, on_breach: consider}
      - {metric: db_deadlocks_delta, op: ==, value: 0, on_breach: warn}
  register: watched

- name: Stop where the watch asks for a rollback
  ansible.builtin.fail:
    msg: "{{ watched.reason.en }}"
  when: watched.action == 'rollback'
"""

RETURN = r"""
verdict:
  description: The worst verdict of the gates (V(pass), V(inconclusive), V(fail)).
  returned: success
  type: str
  sample: fail
action:
  description: The strongest action that the gates ask for (V(none), V(warn), V(consider), V(rollback)); an inconclusive gate asks to consider, or only warns.
  returned: success
  type: str
  sample: rollback
reason:
  description: Why, in each language.
  returned: success
  type: dict
  contains:
    en:
      description: In English.
      returned: always
      type: str
    pt_BR:
      description: In Brazilian Portuguese.
      returned: always
      type: str
gates:
  description: Each gate with what was seen.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the gate.
      returned: always
      type: str
    metric:
      description: The metric.
      returned: always
      type: str
    verdict:
      description: V(pass), V(inconclusive) or V(fail).
      returned: always
      type: str
    cause:
      description: Why - V(held), V(breach), V(pending) (a breach at the end that has not lasted long enough) or V(no_data).
      returned: always
      type: str
    limit:
      description: The operator and the limit as given.
      returned: always
      type: str
    worst:
      description: The worst value, a ratio, milliseconds or a count; none without a value.
      returned: always
      type: float
    samples:
      description: How many evaluations had a value.
      returned: always
      type: int
    breached_from:
      description: When the breach that failed the gate began, ISO 8601 in UTC; none for other verdicts.
      returned: always
      type: str
    on_breach:
      description: What a failure of this gate asks for.
      returned: always
      type: str
samples:
  description: How many samples were taken.
  returned: success
  type: int
seconds:
  description: How long the watch took.
  returned: success
  type: float
samples_file:
  description: The file with the samples; empty where none was written.
  returned: success
  type: str
problem:
  description: What is wrong, without what to do about it.
  returned: failure
  type: str
remedy:
  description: What to do about it, in each language.
  returned: failure
  type: dict
  contains:
    en:
      description: In English.
      returned: always
      type: str
    pt_BR:
      description: In Brazilian Portuguese.
      returned: always
      type: str
"""

from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._gates import ON_BREACH, ON_NO_DATA, OPERATORS
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import connection_argument_spec, register_secrets
from ansible_collections.lastro.deploy.plugins.module_utils._progress import file_progress, progress_argument_spec
from ansible_collections.lastro.deploy.plugins.module_utils._watch import options_from_params, real_world, watch


def argument_spec() -> ArgumentSpec:
    """The options of the module; those of the connection are optional here."""
    gate = {
        "name": {"type": "str"},
        "metric": {"type": "str", "required": True},
        "op": {"type": "str", "required": True, "choices": list(OPERATORS)},
        "value": {"type": "raw", "required": True},
        "for": {"type": "str"},
        "min_samples": {"type": "int", "default": 1},
        "on_breach": {"type": "str", "choices": list(ON_BREACH), "default": "rollback"},
        "on_no_data": {"type": "str", "choices": list(ON_NO_DATA), "default": "inconclusive"},
    }
    probe = {
        "url": {"type": "str", "required": True},
        "method": {"type": "str", "choices": ["GET", "HEAD", "OPTIONS"], "default": "GET"},
        "expect_status": {"type": "int", "default": 200},
        "header_files": {"type": "dict"},
    }
    connection = connection_argument_spec()
    own = ArgumentSpec(
        options={
            **connection.options,
            "duration": {"type": "str", "default": "5m"},
            "interval": {"type": "str", "default": "5s"},
            "window": {"type": "str", "default": "60s"},
            "timeout": {"type": "str", "default": "5s"},
            "gates": {"type": "list", "elements": "dict", "required": True, "options": gate},
            "probes": {"type": "list", "elements": "dict", "default": [], "options": probe},
            "metrics_urls": {"type": "list", "elements": "str", "default": []},
            "request_counter": {"type": "str", "default": "http_requests_total"},
            "status_label": {"type": "str", "default": "status"},
            "http_ca_cert": {"type": "path"},
            "samples_file": {"type": "path"},
        },
        mutually_exclusive=connection.mutually_exclusive,
    )
    return own.merge(progress_argument_spec())


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    try:
        options = options_from_params(module.params)
        if options.database:
            register_secrets(module, options.database)
        progress = file_progress(module.params["progress_file"])
        module.exit_json(changed=False, **watch(options, real_world(options), progress=progress, once=module.check_mode))
    except LastroError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
