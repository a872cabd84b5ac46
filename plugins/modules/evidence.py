#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: evidence
short_description: Prove to the next environment what a run has shown of an artifact
description:
  - Staging's run writes a signed file on the controller, production's preflight demands it for the same artifact.
  - The file names the artifact by its SHA-256 and carries the outcome and the gates of the watch; an HMAC shows a change.
extends_documentation_fragment: [lastro.deploy.attributes]
author:
  - lastro.deploy contributors (@lastro)
options:
  state:
    description: V(present) writes evidence, V(demanded) looks for it.
    type: str
    choices: [present, demanded]
    required: true
  dir:
    description: Directory on the controller that the environments share.
    type: path
    required: true
  key:
    description: What signs, 32 characters or more; the same in both environments.
    type: str
    required: true
  app:
    description: The application.
    type: str
    required: true
  environment:
    description: The environment that proves.
    type: str
    required: true
  version:
    description: The version, for messages.
    type: str
    required: true
  sha256:
    description: SHA-256 of the artifact.
    type: str
    required: true
  release:
    description: The id of the release, for V(present).
    type: str
    default: ''
  run_id:
    description: The run, for V(present).
    type: str
    default: ''
  outcome:
    description: How it ended, for V(present).
    type: str
    default: ''
  gates:
    description: What the watch has seen of each gate, for V(present).
    type: list
    elements: dict
    default: []
  max_age:
    description: How old the evidence may be, for V(demanded).
    type: str
    default: 7d
  report_only:
    description: Return what is missing as a finding instead of failing.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Has staging shown this artifact?
  lastro.deploy.evidence:
    state: demanded
    dir: /srv/deploys/evidence
    key: "{{ vault_evidence_key }}"
    app: calendar-api
    environment: staging
    version: r2
    sha256: 3f9c2e1b8f0d6c3a7b5e9d1c4a2f8e6b0d3c5a7f9e1b3d5c7a9f0e2b4d6c8a1f
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
checked:
  description: How many things were looked at.
  returned: always
  type: int
findings:
  description: What is missing, with C(target), C(problem) and C(remedy).
  returned: always
  type: list
  elements: dict
"""


from ansible_collections.lastro.deploy.plugins.module_utils import _evidence
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

SPEC = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["present", "demanded"], "required": True},
        "dir": {"type": "path", "required": True},
        "key": {"type": "str", "required": True, "no_log": True},
        "app": {"type": "str", "required": True},
        "environment": {"type": "str", "required": True},
        "version": {"type": "str", "required": True},
        "sha256": {"type": "str", "required": True},
        "release": {"type": "str", "default": ""},
        "run_id": {"type": "str", "default": ""},
        "outcome": {"type": "str", "default": ""},
        "gates": {"type": "list", "elements": "dict", "default": []},
        "max_age": {"type": "str", "default": "7d"},
        "report_only": {"type": "bool", "default": False},
    }
)


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    try:
        result = _evidence.run(module.params, write_it=not module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
