"""The first schema: everything the loop remembers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# History that no statement may rewrite, whoever issues it.
APPEND_ONLY = ("decisions", "promotions", "labels")


def _moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(), nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.JSON(), nullable=nullable)


def _whole(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _id() -> sa.Column:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True)


def _table(name: str, *parts, unique: tuple[str, ...] = (), key: tuple[str, ...] = ("id",)) -> None:
    extra = [sa.PrimaryKeyConstraint(*key, name=f"pk_{name}")]
    if unique:
        extra.append(sa.UniqueConstraint(*unique, name=f"uq_{name}_{'_'.join(unique)}"))
    op.create_table(name, *([_id()] if key == ("id",) else []), *parts, *extra)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def upgrade() -> None:
    _table(
        "predictions",
        *(_text("model"), _text("prediction_id"), _whole("version"), _text("row_key")),
        *(_moment("event_time"), _moment("served_at")),
        *(_json("prediction", nullable=True), _json("score", nullable=True), _json("inputs", nullable=True)),
        sa.Column("latency_ms", sa.Float(), nullable=True),
        key=("model", "prediction_id"),
    )
    _index("predictions", "model", "event_time")
    _table("labels", _text("model"), _text("row_key"), _json("label"), _moment("known_at"))
    _index("labels", "model", "row_key", "known_at")
    _table(
        "checks",
        *(_text("model"), _text("kind"), _moment("window_start"), _moment("window_end"), _whole("revision")),
        *(_whole("version", nullable=True), _text("outcome"), _json("summary")),
        *(_text("run_id", nullable=True), _moment("at", nullable=True)),
        unique=("model", "kind", "window_start", "window_end", "revision"),
    )
    _index("checks", "model", "kind", "window_end")
    _table(
        "decisions",
        *(_text("model"), _text("decision_id"), _whole("revision"), _text("kind"), _text("cause")),
        *(_json("reasons"), sa.Column("escalate", sa.Boolean(), nullable=False), _json("evidence")),
        *(_moment("at"), _text("run_id", nullable=True)),
        unique=("model", "decision_id", "revision"),
    )
    _table(
        "promotions",
        *(_text("model"), _text("decision_id"), _text("action")),
        *(_whole("from_version", nullable=True), _whole("to_version", nullable=True)),
        *(_text("actor"), _text("reason"), _json("evidence"), _moment("at")),
        unique=("model", "decision_id"),
    )
    _index("promotions", "model", "at")
    _table(
        "watermarks",
        *(_text("model"), _text("attempt"), _moment("moment"), _json("increments")),
        unique=("model", "attempt"),
    )
    _table(
        "quarantine",
        *(_text("model"), _text("attempt"), _moment("window_start"), _moment("window_end")),
        *(_whole("rows"), _json("reasons"), _text("path"), _text("digest")),
        unique=("model", "attempt", "window_start", "window_end", "digest"),
    )
    _claims_and_alerts()
    for table in APPEND_ONLY:
        _guard(table)


def _claims_and_alerts() -> None:
    _table(
        "claims",
        *(_text("model"), _text("decision_id"), _text("owner"), _text("state")),
        *(_text("outcome", nullable=True), _moment("claimed_at"), _moment("lease_until"), _whole("takeovers")),
        key=("model", "decision_id"),
    )
    _partial("uq_claims_running", "claims", ["model"], "state = 'running'")
    _table(
        "alerts",
        *(_text("model"), _text("cause"), _text("tier"), _text("message")),
        *(_moment("opened_at"), _moment("resolved_at", nullable=True)),
    )
    _partial("uq_alerts_open", "alerts", ["model", "cause"], "resolved_at IS NULL")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    clause = sa.text(where)
    op.create_index(name, table, columns, unique=True, sqlite_where=clause, postgresql_where=clause)


def _guard(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_append_only()"
    )


def downgrade() -> None:
    raise NotImplementedError("history is not thrown away by a downgrade: restore a backup instead")
