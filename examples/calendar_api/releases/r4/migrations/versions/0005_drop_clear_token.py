# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""clear tokens go; only their ciphertext stays"""

import logging

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("credentials", "token")


def downgrade() -> None:
    """The column comes back empty: what stood in it is gone. Decrypt it from token_encrypted, or restore a backup."""
    op.add_column("credentials", sa.Column("token", sa.Text))
    logging.getLogger("alembic.runtime.migration").warning("credentials.token is back without its values: decrypt them from token_encrypted")
