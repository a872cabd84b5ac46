# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of the intervention plans."""

import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Everything that is mapped."""


class Professional(Base):
    """Who makes plans."""

    __tablename__ = "professionals"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(200), unique=True)


class InterventionPlan(Base):
    """A plan, and when it was last reviewed."""

    __tablename__ = "intervention_plans"
    __table_args__ = (Index("ix_intervention_plans_status_needs_review", "status", "needs_review"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    status: Mapped[str] = mapped_column(String(20))
    needs_review: Mapped[bool]
    last_reviewed_at: Mapped[datetime.datetime | None] = mapped_column(index=True)
    review_frequency: Mapped[str] = mapped_column(String(20), index=True)
    created_by_id: Mapped[int] = mapped_column(ForeignKey("professionals.id"), index=True)
