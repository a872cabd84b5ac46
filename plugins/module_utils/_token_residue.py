# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What still holds clear tokens once the clear column is empty. PRIVATE to the collection."""

from __future__ import annotations

from ._errors import Text

RESIDUAL_RISK = (
    Text(
        en="The table's files hold old row versions with clear tokens until VACUUM FULL or pg_repack rewrites the table; NULL and VACUUM do not remove them.",
        pt_BR="Os arquivos da tabela guardam versões antigas com tokens em claro até que VACUUM FULL ou pg_repack a reescreva; NULL e VACUUM não as removem.",
    ),
    Text(
        en="Write-ahead log, its archive, and replicas hold the clear tokens until they are recycled.",
        pt_BR="O write-ahead log, seu arquivo e as réplicas guardam os tokens em claro até serem reciclados.",
    ),
    Text(
        en="Backups made before this run hold the clear tokens until retention deletes them.",
        pt_BR="Os backups feitos antes desta execução guardam os tokens em claro até que a retenção os apague.",
    ),
    Text(
        en="Only revoking or renewing the tokens at their provider really ends the clear ones.",
        pt_BR="Somente revogar ou renovar os tokens no provedor encerra de fato os que estiveram em claro.",
    ),
)

__all__ = ("RESIDUAL_RISK",)
