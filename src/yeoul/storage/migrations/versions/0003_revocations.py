"""Users whose tokens were taken back, and when."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "revocations",
        sa.Column("user", sa.Text, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
    )
