"""Jobs that only ask what they would meet, and what was wrong with those that failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs of before are no dry runs, and nothing is known beyond their reason."""
    op.add_column("jobs", sa.Column("dry_run", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("violations", sa.JSON(none_as_null=True), nullable=True))
