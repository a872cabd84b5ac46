#!/usr/bin/python
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: new_secrets
short_description: Generate the secrets of an environment and encrypt them with Ansible Vault
description:
  - Runs on the controller. It generates keys and an age identity and writes them to C(vault.yml), encrypted with the vault password of this run, mode 0600.
  - Writes the age recipient, which is no secret, to C(recipients.yml) as the list C(backup_recipients).
  - Shows no secret and overwrites no file.
extends_documentation_fragment:
  - lastro.deploy.attributes
attributes:
  idempotent:
    support: none
    details: A second call fails, because the files are there.
requirements:
  - pyrage 1.2 or newer, where ansible-playbook runs
options:
  dest:
    description: The directory for both files, made if it is not there. Relative to where ansible-playbook was started.
    type: path
    required: true
  keys:
    description:
      - Variables of C(vault.yml) that get a fresh key each, 32 random bytes in urlsafe base64.
      - The age identity always is C(vault_backup_identity).
    type: list
    elements: str
    default: [vault_secret_key, vault_token_encryption_key]
author:
  - lastro.deploy contributors (@lastro)
"""

EXAMPLES = r"""
- name: Generate the secrets of production
  lastro.deploy.new_secrets:
    dest: prod/group_vars/all

- name: Generate another key as well
  lastro.deploy.new_secrets:
    dest: staging/group_vars/all
    keys: [vault_secret_key, vault_token_encryption_key, vault_api_key_pepper]
"""

RETURN = r"""
files:
  description: The files that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/srv/deploys/prod/group_vars/all/vault.yml, /srv/deploys/prod/group_vars/all/recipients.yml]
variables:
  description: The names that C(vault.yml) defines.
  returned: success
  type: list
  elements: str
  sample: [vault_backup_identity, vault_secret_key, vault_token_encryption_key]
"""
