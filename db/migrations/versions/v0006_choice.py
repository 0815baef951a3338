"""What a job puts first, and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column for it."""
    op.add_column("jobs", sa.Column("choice", sa.JSON(), nullable=True))
