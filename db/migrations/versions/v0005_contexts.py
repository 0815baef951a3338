"""In which contexts the values of a job are measured."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of jobs of before nothing is kept: their first measurements say it."""
    op.add_column("jobs", sa.Column("contexts", sa.JSON(none_as_null=True), nullable=True))
