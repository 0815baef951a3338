"""Where the shared weights of a job come from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs of before do not say it."""
    op.add_column("jobs", sa.Column("supernet", sa.JSON(none_as_null=True), nullable=True))
