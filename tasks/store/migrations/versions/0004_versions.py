"""What is known of versions, their stages, who may move them, their anchors; keys of the serving app."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(), nullable=nullable)


def _moment(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _number(name: str) -> sa.Column:
    return sa.Column(name, sa.Float(), nullable=True)


def _whole(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=nullable, autoincrement=False)


def _json(name: str) -> sa.Column:
    return sa.Column(name, sa.JSON(), nullable=False)


def _id() -> sa.Column:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "versions",
        *(_text("model"), _whole("number"), _text("digest"), _text("run_id"), _text("attempt")),
        *(_text("decision_id"), _text("cause"), _moment("created"), _moment("registered_at")),
        *(_text("git_commit", nullable=True), sa.Column("dirty", sa.Boolean(), nullable=True)),
        *(_text("lock_sha256", nullable=True), _text("image", nullable=True), _json("snapshot")),
        *(_moment("window_start"), _moment("window_end"), _moment("cut"), _text("metric")),
        *(_number("promise"), _number("promise_low"), _number("promise_high"), _json("gate")),
        *(_whole("champion_version", nullable=True), _text("anchor_sha256", nullable=True)),
        *(_number("anchor_score"), _json("params")),
        sa.PrimaryKeyConstraint("model", "number", name="pk_versions"),
    )
    op.create_index("ix_versions_model_created", "versions", ["model", "created"])
    op.create_table(
        "lifecycle",
        *(_id(), _text("model"), _whole("seq"), _whole("version"), _text("from_stage", nullable=True)),
        *(_text("to_stage"), _text("actor"), _text("reason"), _text("decision_id"), _moment("at")),
        sa.PrimaryKeyConstraint("id", name="pk_lifecycle"),
        sa.UniqueConstraint("model", "seq", name="uq_lifecycle_model_seq"),
    )
    op.create_index("ix_lifecycle_model_version_seq", "lifecycle", ["model", "version", "seq"])
    op.create_table(
        "leases",
        *(_text("name"), _text("owner"), sa.Column("token", sa.BigInteger(), nullable=False)),
        *(_moment("taken_at"), _moment("expires_at")),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "intents",
        *(_id(), _text("model"), _text("decision_id"), _whole("to_version"), _json("content")),
        *(sa.Column("token", sa.BigInteger(), nullable=False), _moment("written_at"), _text("state")),
        sa.PrimaryKeyConstraint("id", name="pk_intents"),
    )
    op.create_index("ix_intents_model_state", "intents", ["model", "state"])
    is_open = sa.text("state = 'open'")
    op.create_index(
        "uq_intents_open",
        "intents",
        ["model"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_table(
        "anchors",
        *(_id(), _text("model"), _whole("revision"), _text("sha256"), _text("path"), _whole("rows")),
        *(_moment("window_start"), _moment("window_end"), _whole("version"), _text("actor")),
        *(_text("reason"), _moment("at")),
        sa.PrimaryKeyConstraint("id", name="pk_anchors"),
        sa.UniqueConstraint("model", "revision", name="uq_anchors_model_revision"),
    )
    op.create_table(
        "api_keys",
        *(_text("name"), _text("role"), _text("digest"), _moment("made_at")),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    op.create_table(
        "bundles",
        *(_id(), _text("model"), _text("attempt"), _text("digest"), _moment("at")),
        sa.PrimaryKeyConstraint("id", name="pk_bundles"),
        sa.UniqueConstraint("model", "attempt", "digest", name="uq_bundles_model_attempt_digest"),
    )


def downgrade() -> None:
    raise NotImplementedError("history is not thrown away by a downgrade: restore a backup instead")
