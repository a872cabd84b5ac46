#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: wheelhouse
short_description: Collect the wheels that a release or a tool environment needs, on the controller
description:
  - Downloads every wheel of the requirements for the hosts' interpreter once, and packs them into one file.
  - Hosts install from that file without an index. A requirement without a fitting wheel is named.
extends_documentation_fragment: [lastro.deploy.attributes]
attributes:
  diff_mode:
    support: none
    details: The file is a cache on the controller.
author:
  - lastro.deploy contributors (@lastro)
options:
  archive:
    description: The artifact on the controller, which holds the requirements. Without it O(requirements) is a file on the controller.
    type: path
  build_dir:
    description: The directory on the controller that keeps what was built.
    type: path
    required: true
  requirements:
    description: The requirements file, in the artifact where there is one.
    type: str
    default: requirements.txt
  further:
    description: More requirements files on the controller, beside O(requirements).
    type: list
    elements: path
    default: []
  constraints:
    description: A file on the controller with the versions of what the requirements bring along.
    type: path
  python_version:
    description: The hosts' Python, for example V(3.11).
    type: str
    required: true
  platforms:
    description: Platform tags of wheels, best first. Empty means this machine's where the Python is the same, else common Linux ones.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Collect the wheels
  lastro.deploy.wheelhouse:
    archive: .lastro/build/calendar-api/source-3f9c2e1.tar.gz
    build_dir: .lastro/build/calendar-api
    python_version: '3.11'
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The tar file of wheels.
  returned: success
  type: str
sha256:
  description: Its SHA-256.
  returned: success
  type: str
"""

from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils import _artifact
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

SPEC = ArgumentSpec(
    {
        "archive": {"type": "path"},
        "build_dir": {"type": "path", "required": True},
        "requirements": {"type": "str", "default": "requirements.txt"},
        "further": {"type": "list", "elements": "path", "default": []},
        "constraints": {"type": "path"},
        "python_version": {"type": "str", "required": True},
        "platforms": {"type": "list", "elements": "str", "default": []},
    },
    mutually_exclusive=(("archive", "constraints"),),
)


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    options = module.params
    target = _artifact.Target(options["python_version"], tuple(options["platforms"]))
    build_dir = Path(options["build_dir"])
    try:
        before = set(build_dir.glob("wheels-*.tar"))
        if options["archive"]:
            path = _artifact.build_wheels(Path(options["archive"]), options["requirements"], target, build_dir)
        else:
            wanted = b"".join(_artifact.read_list(file) for file in (options["requirements"], *options["further"]))
            path = _artifact.collect_wheels(wanted, target, build_dir, _artifact.read_list(options["constraints"]))
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=path not in before, path=str(path), sha256=_artifact.digest(path))


if __name__ == "__main__":
    main()
