# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""unique index on bookings.slot, built while the service keeps booking"""

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEX = "uq_bookings_slot"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        valid = _valid()
        if valid is False:
            # An earlier attempt was cut off: what it left is not an index yet.
            op.execute(f"DROP INDEX CONCURRENTLY {INDEX}")
        if not valid:
            op.create_index(INDEX, "bookings", ["slot"], unique=True, postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(INDEX, "bookings", if_exists=True, postgresql_concurrently=True)


def _valid() -> bool | None:
    """Whether the index is usable; None where it does not exist, or where SQL is only written down."""
    if context.is_offline_mode():
        return None
    return op.get_bind().scalar(sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": INDEX})
