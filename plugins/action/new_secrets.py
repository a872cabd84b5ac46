# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates the secrets of an environment and encrypts them with the vault password of this very ansible-playbook."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleError
from ansible.parsing import vault
from ansible.plugins.action import ActionBase
from ansible_collections.lastro.deploy.plugins.module_utils import _new_secrets
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError, Text


class ActionModule(ActionBase):
    """See plugins/modules/new_secrets.py for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Write both files; in check mode say which."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _checked, options = self.validate_argument_spec(
            argument_spec={
                "dest": {"type": "path", "required": True},
                "keys": {"type": "list", "elements": "str", "default": ["vault_secret_key", "vault_token_encryption_key"], "no_log": False},
            }
        )
        try:
            plan = _new_secrets.make_plan(Path(options["dest"]).absolute(), options["keys"])
            vault_id, secret = _encryption_secret()
            if not self._task.check_mode:
                secrets = _new_secrets.generate(plan.keys, os.urandom)
                encrypted: bytes = vault.VaultLib().encrypt(secrets.vault, secret=secret, vault_id=vault_id)
                _new_secrets.write(plan, encrypted, secrets.recipients)
        except LastroError as error:
            return {**result, "failed": True, **error.as_result()}
        if self._task.diff:
            result["diff"] = [{"before_header": path, "after_header": path, "before": "", "after": "(new file)\n"} for path in plan.files]
        return {**result, "changed": True, "files": plan.files, "variables": plan.variables}


def _encryption_secret() -> tuple[str, vault.VaultSecret]:
    """The vault id and secret that ``ansible-vault encrypt`` would take. Raises LastroError where there is none."""
    context = vault.VaultSecretsContext.current(optional=True)
    identity = constants.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY")
    try:
        found = vault.match_encrypt_secret(context.secrets if context else [], encrypt_vault_id=identity)
    except AnsibleError:
        found = None
    if not found:
        wanted = f" named {identity} (vault_encrypt_identity)" if identity else ""
        raise LastroError(
            f"ansible-playbook has no vault password{wanted} to encrypt the secrets with.",
            remedy=Text(
                en="Add --ask-vault-pass or --vault-password-file FILE to the command, and use the same password for deploys.",
                pt_BR="Acrescente --ask-vault-pass ou --vault-password-file ARQUIVO ao comando e use a mesma senha nos deploys.",
            ),
        )
    vault_id, secret = found
    return vault_id, secret
