"""What drift checks leave behind: a row per feature and window, and the profiles of earlier windows."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _number(name: str) -> sa.Column:
    return sa.Column(name, sa.Float(), nullable=True)


def upgrade() -> None:
    op.create_table(
        "feature_checks",
        *(_text("model"), _moment("window_end"), _moment("window_start")),
        *(sa.Column("revision", sa.Integer(), nullable=False, autoincrement=False), _text("feature")),
        *(sa.Column("version", sa.Integer(), nullable=True), _text("outcome")),
        *(_text("measure", nullable=True), _number("value"), _number("threshold"), _number("p_value")),
        *(sa.Column("n", sa.BigInteger(), nullable=True), _text("reason"), _moment("at", nullable=True)),
        sa.PrimaryKeyConstraint(
            "model", "window_end", "window_start", "revision", "feature", name="pk_feature_checks"
        ),
    )
    op.create_table(
        "profiles",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True
        ),
        *(_text("model"), sa.Column("version", sa.Integer(), nullable=True), _text("reference_id")),
        *(_moment("window_start"), _moment("window_end"), sa.Column("profile", sa.JSON(), nullable=False)),
        sa.PrimaryKeyConstraint("id", name="pk_profiles"),
        sa.UniqueConstraint(
            *("model", "reference_id", "window_start", "window_end"),
            name="uq_profiles_model_reference_id_window_start_window_end",
        ),
    )
    op.create_index("ix_profiles_model_window_end", "profiles", ["model", "window_end"])


def downgrade() -> None:
    raise NotImplementedError("history is not thrown away by a downgrade: restore a backup instead")
