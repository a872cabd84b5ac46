# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""room for encrypted tokens beside the clear ones"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("credentials", sa.Column("token_encrypted", sa.LargeBinary))
    op.add_column("credentials", sa.Column("token_nonce", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("credentials", "token_nonce")
    op.drop_column("credentials", "token_encrypted")
