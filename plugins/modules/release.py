#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: release
short_description: Stage a release on a host, or remove old ones
description:
  - Unpacks the artifact into its own directory and makes its virtual environment from wheels, without an index.
  - The release is not live afterwards. One that a crash left unfinished is made anew.
extends_documentation_fragment: [lastro.deploy.attributes, lastro.deploy.progress]
author:
  - lastro.deploy contributors (@lastro)
options:
  root:
    description: The application's directory; releases stand below C(releases/).
    type: path
    required: true
  release:
    description: The id of the release to stage.
    type: str
  archive:
    description: The artifact on this host, a C(.tar.gz).
    type: path
  sha256:
    description: The SHA-256 that the controller found.
    type: str
  wheels:
    description: The tar file of wheels on this host.
    type: path
  requirements:
    description: The requirements file in the artifact.
    type: str
    default: requirements.txt
  python:
    description: The interpreter that makes the virtual environment.
    type: str
    default: python3
  remove:
    description: Releases to remove, with their environment files.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Stage the release
  lastro.deploy.release:
    root: /opt/calendar-api
    release: r2-3f9c2e1
    archive: /opt/calendar-api/artifacts/source-3f9c2e1.tar.gz
    sha256: 3f9c2e1ad6c0c1f3a44d0b6c2f5b9d1f5cf6f0a1d2a4c8e0b7d9e6f1a2b3c4d5
    wheels: /opt/calendar-api/artifacts/wheels-0a1b2c3d.tar
"""

RETURN = r"""
directory:
  description: The release's directory.
  returned: when a release was named
  type: str
files:
  description: How many files the artifact has; 0 where it stood there already.
  returned: always
  type: int
wheels:
  description: How many wheels were offered to the installer; 0 where it stood there already.
  returned: always
  type: int
removed:
  description: Releases that were removed.
  returned: always
  type: list
  elements: str
"""

from ansible_collections.lastro.deploy.plugins.module_utils import _release
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._progress import file_progress, progress_argument_spec

SPEC = ArgumentSpec(
    options={
        "root": {"type": "path", "required": True},
        "release": {"type": "str"},
        "archive": {"type": "path"},
        "sha256": {"type": "str"},
        "wheels": {"type": "path"},
        "requirements": {"type": "str", "default": "requirements.txt"},
        "python": {"type": "str", "default": "python3"},
        "remove": {"type": "list", "elements": "str", "default": []},
    },
    required_together=(("release", "archive", "sha256", "wheels"),),
    required_one_of=(("release", "remove"),),
).merge(progress_argument_spec())


def main() -> None:
    """Run the module."""
    module = SPEC.create_module()
    try:
        result = _release.run(module.params, progress=file_progress(module.params["progress_file"]), write=not module.check_mode)
    except LastroError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
