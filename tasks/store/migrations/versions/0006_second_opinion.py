"""A second version may answer beside the champion: the ledger and each prediction name it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("promotions", "predictions"):
        op.add_column(table, sa.Column("partner", sa.Integer(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("history is not thrown away by a downgrade: restore a backup instead")
