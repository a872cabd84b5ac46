#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: report
short_description: Write the report of a run from its journal
description:
  - Reads the journal of a run on the primary host and writes what it says as a self-contained HTML page, as Markdown and as JSON.
  - The report shows the outcome, every phase with what it proved, the decision to go back with its reason, the gates of the watch,
    and the checklist by item.
  - It knows nothing but the journal and its options, so there is no secret in it. It carries the SHA-256 of the journal that it was made from.
  - The same journal and the same options give the same bytes.
extends_documentation_fragment:
  - lastro.deploy.attributes
attributes:
  diff_mode:
    support: partial
    details: For the HTML page only its SHA-256 is compared; the Markdown file shows the same content.
options:
  state_dir:
    description: The state directory of the application on this host; the journals are in its directory C(runs).
    type: path
    required: true
  run_id:
    description: The run to report on.
    type: str
    required: true
  dest:
    description: Directory for the reports, made with mode 0700; the files C(<run_id>.html), C(<run_id>.md) and C(<run_id>.json) have mode 0600.
    type: path
    required: true
  language:
    description: The language of the report.
    type: str
    choices: [en, pt_BR]
    default: en
  formats:
    description: What to write.
    type: list
    elements: str
    choices: [html, md, json]
    default: [html, md, json]
  checklist:
    description:
      - The items of a checklist and what fulfils each.
      - An item with O(checklist[].phases) is executed when the last pass through each of them was ok.
      - An item with O(checklist[].signoff) is signed when preflight has found a sign-off of that name.
    type: list
    elements: dict
    suboptions:
      id:
        description: Id of the item.
        type: str
        required: true
      item:
        description: What the checklist says.
        type: str
        required: true
      phases:
        description: The phases that do it. This, O(checklist[].signoff), or both are required.
        type: list
        elements: str
      signoff:
        description: The sign-off that stands for it, or for the part of it that only a person can do.
        type: str
  figures:
    description: Further figures to show, for example the requests during the run and how many of them failed.
    type: dict
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Write the report of this run
  lastro.deploy.report:
    state_dir: /var/lib/lastro/calendar-api
    run_id: 20261121T221004-7c1f
    dest: /var/lib/lastro/calendar-api/reports
    language: pt_BR
    figures: {requests: 18000, failed: 0}
    checklist:
      - {id: calendar-api-001, item: Full backup of the database, phases: [backup]}
      - {id: calendar-api-017, item: Login with Google tried by hand, signoff: qa}
"""

RETURN = r"""
paths:
  description: The file of each format that was asked for.
  returned: success
  type: dict
  contains:
    html:
      description: Path of the HTML page.
      returned: if O(formats) has V(html)
      type: str
    md:
      description: Path of the Markdown file.
      returned: if O(formats) has V(md)
      type: str
    json:
      description: Path of the JSON file.
      returned: if O(formats) has V(json)
      type: str
outcome:
  description: The outcome of the run; empty where the journal has none.
  returned: success
  type: str
  sample: rolled_back
sha256:
  description: SHA-256 of the journal that the report was made from.
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
from ansible_collections.lastro.deploy.plugins.module_utils._report import FORMATS, plan_report, write
from ansible_collections.lastro.deploy.plugins.module_utils._texts_format import LANGUAGES


def argument_spec() -> ArgumentSpec:
    """The options of the module."""
    item = {
        "id": {"type": "str", "required": True},
        "item": {"type": "str", "required": True},
        "phases": {"type": "list", "elements": "str"},
        "signoff": {"type": "str"},
    }
    return ArgumentSpec(
        options={
            "state_dir": {"type": "path", "required": True},
            "run_id": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "language": {"type": "str", "choices": list(LANGUAGES), "default": "en"},
            "formats": {"type": "list", "elements": "str", "choices": list(FORMATS), "default": list(FORMATS)},
            "checklist": {
                "type": "list",
                "elements": "dict",
                "options": item,
                "required_one_of": [("phases", "signoff")],
            },
            "figures": {"type": "dict"},
        }
    )


def main() -> None:
    """Run the module."""
    module = argument_spec().create_module()
    try:
        plan = plan_report(module.params)
        if not module.check_mode:
            write(plan)
        module.exit_json(**plan.result())
    except LastroError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
