# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables."""

import datetime

import sqlalchemy as sa
from sqlalchemy import orm


class Base(orm.DeclarativeBase):
    """What the migrations compare the database with."""


class User(Base):
    """Somebody who can log in and book."""

    __tablename__ = "users"
    __table_args__ = (sa.UniqueConstraint("email", name="uq_users_email"),)

    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    email: orm.Mapped[str] = orm.mapped_column(sa.Text)


class Credential(Base):
    """A user's access to the calendar at the provider. The token is there as ciphertext alone."""

    __tablename__ = "credentials"
    __table_args__ = (sa.Index("ix_credentials_user_id", "user_id", unique=True),)

    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    user_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("users.id", name="fk_credentials_user_id", ondelete="CASCADE"))
    expires_at: orm.Mapped[datetime.datetime] = orm.mapped_column(sa.DateTime(timezone=True))
    token_encrypted: orm.Mapped[bytes | None] = orm.mapped_column(sa.LargeBinary)
    token_nonce: orm.Mapped[bytes | None] = orm.mapped_column(sa.LargeBinary)


class Booking(Base):
    """One slot, taken by one user. A slot is any text; those that start with a day stand in that day's schedule."""

    __tablename__ = "bookings"
    __table_args__ = (sa.Index("ix_bookings_user_id", "user_id"), sa.UniqueConstraint("slot", name="uq_bookings_slot"))

    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    user_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("users.id", name="fk_bookings_user_id", ondelete="CASCADE"))
    slot: orm.Mapped[str] = orm.mapped_column(sa.Text(collation="C"))
    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(sa.DateTime(timezone=True), server_default=sa.func.now())
