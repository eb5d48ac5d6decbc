"""What has to leave a process: retrainings asked for, and messages to people and services."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _id() -> sa.Column:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True)


def _moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "outbox",
        _id(),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("decision_id", sa.String(), nullable=False),
        _moment("written_at"),
        _moment("sent_at", nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("model", "decision_id", name="uq_outbox_model_decision_id"),
    )
    op.create_table(
        "deliveries",
        _id(),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        _moment("written_at"),
        _moment("next_at"),
        sa.Column("tries", sa.Integer(), nullable=False),
        _moment("done_at", nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("topic", "channel", name="uq_deliveries_topic_channel"),
    )
    op.create_index("ix_deliveries_model_done_at", "deliveries", ["model", "done_at"])
