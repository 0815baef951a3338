"""The clock of a job, and the plan of what it does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of jobs of before, the seconds of their workers are all that is known."""
    op.add_column("jobs", sa.Column("clock_seconds", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("clock_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("plan", sa.JSON(none_as_null=True), nullable=True))
    op.execute("UPDATE jobs SET clock_seconds = spent_seconds")
