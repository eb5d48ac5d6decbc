"""Traffic, shadow answers, exposures, signals, runs and moved-out history; more is known of a prediction."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _whole(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=nullable, autoincrement=False)


def _count(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _number(name: str, *, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.Float(), nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.JSON(), nullable=nullable)


def _id() -> sa.Column:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True)


def upgrade() -> None:
    for column in (_text("request_id", nullable=True), _text("route", nullable=True), _whole("status", nullable=True)):
        op.add_column("predictions", column)
    op.create_index("ix_predictions_model_served_at", "predictions", ["model", "served_at"])
    op.create_index("ix_predictions_model_row_key", "predictions", ["model", "row_key"])
    for column in (
        *(_text("prediction_id", nullable=True), _moment("event_time", nullable=True)),
        *(_text("source", nullable=True), _moment("heard_at", nullable=True)),
    ):
        op.add_column("labels", column)
    op.create_table(
        "traffic",
        *(_text("model"), _moment("minute"), _whole("version"), _whole("status"), _text("instance")),
        *(_count("requests"), _count("rows"), _count("lost"), _json("latency")),
        sa.PrimaryKeyConstraint("model", "minute", "version", "status", "instance", name="pk_traffic"),
    )
    op.create_table(
        "shadows",
        *(_text("model"), _text("prediction_id"), _whole("version"), _moment("at")),
        *(_json("prediction", nullable=True), _json("score", nullable=True), _number("latency_ms")),
        _text("error", nullable=True),
        sa.PrimaryKeyConstraint("model", "prediction_id", "version", name="pk_shadows"),
    )
    op.create_index("ix_shadows_model_at", "shadows", ["model", "at"])
    op.create_table(
        "exposures",
        *(_id(), _text("model"), _whole("version"), _text("mode"), _number("share", nullable=False)),
        *(_text("event"), _text("reason"), _text("actor"), _moment("at")),
        sa.PrimaryKeyConstraint("id", name="pk_exposures"),
    )
    op.create_index("ix_exposures_model_version_id", "exposures", ["model", "version", "id"])
    op.create_table(
        "signals",
        *(_id(), _text("model"), _text("cause"), _text("look")),
        *(sa.Column("is_bad", sa.Boolean(), nullable=False), _text("tier"), _text("message"), _moment("at")),
        sa.PrimaryKeyConstraint("id", name="pk_signals"),
        sa.UniqueConstraint("model", "cause", "look", name="uq_signals_model_cause_look"),
    )
    op.create_index("ix_signals_model_cause_at", "signals", ["model", "cause", "at"])
    op.create_table(
        "flow_runs",
        *(_id(), _text("model"), _text("flow"), _text("run_id"), _moment("as_of"), _moment("started_at")),
        *(_number("seconds", nullable=False), _text("outcome")),
        sa.PrimaryKeyConstraint("id", name="pk_flow_runs"),
        sa.UniqueConstraint("model", "flow", "run_id", name="uq_flow_runs_model_flow_run_id"),
    )
    op.create_index("ix_flow_runs_model_flow_as_of", "flow_runs", ["model", "flow", "as_of"])
    op.create_table(
        "partitions",
        *(_id(), _text("model"), _moment("window_start"), _moment("window_end"), _whole("part")),
        *(_text("path"), _text("sha256"), _count("rows"), _text("state"), _moment("at")),
        sa.PrimaryKeyConstraint("id", name="pk_partitions"),
        sa.UniqueConstraint(
            *("model", "window_start", "window_end", "part"),
            name="uq_partitions_model_window_start_window_end_part",
        ),
    )


def downgrade() -> None:
    raise NotImplementedError("history is not thrown away by a downgrade: restore a backup instead")
