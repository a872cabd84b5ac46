#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: new_project
short_description: Write the files of a project, and overwrite none
description:
  - Runs on the controller. It copies a tree of files to a directory, where they are missing.
  - Files that are there and differ are never overwritten. All of them are named in one message and nothing is written.
  - A file C(gitignore) of the tree becomes C(.gitignore).
extends_documentation_fragment:
  - lastro.deploy.attributes
options:
  src:
    description: The tree of files.
    type: path
    required: true
  dest:
    description: The directory of the project, made if it is not there. Relative to where ansible-playbook was started.
    type: path
    required: true
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Write a project of one's own
  lastro.deploy.new_project:
    src: "{{ role_path }}/files/project"
    dest: my-deploys
"""

RETURN = r"""
dest:
  description: The absolute path of the project's directory.
  returned: success
  type: str
files:
  description: The files that were written, or would be in check mode, relative to RV(dest).
  returned: success
  type: list
  elements: str
  sample: [deploy.yml, prod/hosts]
differing:
  description: The files that are there and differ.
  returned: when there are such files
  type: list
  elements: str
  sample: [prod/hosts]
"""
