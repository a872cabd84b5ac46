# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""the unique index on bookings.slot becomes a constraint: a lock for a moment, no scan"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAME = "uq_bookings_slot"
REPLACEMENT = "uq_bookings_slot_index"


def upgrade() -> None:
    op.execute(f"ALTER TABLE bookings ADD CONSTRAINT {NAME} UNIQUE USING INDEX {NAME}")


def downgrade() -> None:
    # The constraint takes its index along. Another one is ready before, so no slot is free for two at any moment.
    with op.get_context().autocommit_block():
        op.drop_index(REPLACEMENT, "bookings", if_exists=True, postgresql_concurrently=True)
        op.create_index(REPLACEMENT, "bookings", ["slot"], unique=True, postgresql_concurrently=True)
    op.drop_constraint(NAME, "bookings", type_="unique")
    op.execute(f"ALTER INDEX {REPLACEMENT} RENAME TO {NAME}")
