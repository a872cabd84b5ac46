# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets of one environment, generated on the controller. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import base64
import dataclasses
import re
import typing as t
from pathlib import Path

from ._errors import LastroError, Text
from ._files import write_atomic

try:
    from pyrage import x25519
except ImportError:  # pragma: no cover
    x25519 = None

KEY_BYTES = 32
IDENTITY = "vault_backup_identity"
VAULT_FILE = "vault.yml"
RECIPIENTS_FILE = "recipients.yml"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclasses.dataclass(frozen=True)
class Secrets:
    """The text of the file to encrypt, and of the one in clear."""

    vault: str = dataclasses.field(repr=False)
    recipients: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where the two files go, and the variables that get a key each."""

    vault_file: Path
    recipients_file: Path
    keys: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        """Both paths."""
        return [str(self.vault_file), str(self.recipients_file)]

    @property
    def variables(self) -> list[str]:
        """The names that the encrypted file defines."""
        return [IDENTITY, *self.keys]


def make_plan(dest: Path, keys: t.Sequence[str]) -> Plan:
    """Raises LastroError for a name that is no variable's, and where one of the files is there: none is ever overwritten."""
    wrong = [key for key in keys if not _VARIABLE.match(key)]
    if wrong or len(set(keys)) != len(keys) or IDENTITY in keys:
        named = ", ".join(repr(key) for key in wrong) or f"two of the same name, or {IDENTITY}"
        raise LastroError(
            f"keys holds {named}.",
            remedy=Text(
                en="Give it names of variables, each once: letters, digits and underscores.",
                pt_BR="Use nomes de variáveis, cada um uma vez: letras, dígitos e sublinhados.",
            ),
        )
    plan = Plan(dest / VAULT_FILE, dest / RECIPIENTS_FILE, tuple(keys))
    present = [path for path in plan.files if Path(path).is_symlink() or Path(path).exists()]
    if present:
        raise LastroError(
            f"{' and '.join(present)} {'is' if len(present) == 1 else 'are'} there already: secrets are never overwritten.",
            remedy=Text(
                en="Keep them, or move them away first; what they encrypt cannot be read without them.",
                pt_BR="Mantenha-os ou mova-os antes; sem eles não se lê o que foi cifrado com eles.",
            ),
        )
    return plan


def generate(keys: t.Sequence[str], random_bytes: t.Callable[[int], bytes]) -> Secrets:
    """A fresh key of 32 bytes for each of *keys*, and an age identity. Raises LastroError without pyrage."""
    if x25519 is None:
        raise LastroError(
            "The Python library pyrage, which makes the identity for backups, is not installed for ansible-playbook.",
            remedy=Text(en="Install it: pip install pyrage", pt_BR="Instale-a: pip install pyrage"),
        )
    identity = x25519.Identity.generate()
    values = {IDENTITY: str(identity), **{key: base64.urlsafe_b64encode(random_bytes(KEY_BYTES)).decode() for key in keys}}
    lines = [f'{name}: "{value}"\n' for name, value in values.items()]
    recipients = (
        "---\n"
        f"# Backups are encrypted for these. Who holds the identity ({IDENTITY} in {VAULT_FILE}) reads them.\n"
        "backup_recipients:\n"
        f"  - {identity.to_public()}\n"
    )
    return Secrets(vault="---\n" + "".join(lines), recipients=recipients)


def write(plan: Plan, encrypted: bytes, recipients: str) -> None:
    """Both files, whole or not at all each. Raises LastroError where the directory cannot be written."""
    try:
        plan.vault_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(plan.vault_file, encrypted, mode=0o600)
        write_atomic(plan.recipients_file, recipients.encode(), mode=0o644)
    except OSError as error:
        raise LastroError(
            f"{plan.vault_file.parent} cannot be written: {error.strerror}.",
            remedy=Text(en="Name a directory that you may write in dest.", pt_BR="Indique em dest um diretório em que você possa escrever."),
        ) from error


__all__ = ("IDENTITY", "RECIPIENTS_FILE", "VAULT_FILE", "Plan", "Secrets", "generate", "make_plan", "write")
