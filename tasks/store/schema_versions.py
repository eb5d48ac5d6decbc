"""Tables about versions: what each is made of, how it was moved, who may move it, what it is anchored to."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.store.schema import METADATA, Json, UtcDateTime, needed, row_id

# What is known of every registered version, so that history is answered without asking the registry.
versions = sa.Table(
    "versions",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    needed("digest", sa.String),
    needed("run_id", sa.String),
    needed("attempt", sa.String),
    needed("decision_id", sa.String),
    needed("cause", sa.String),
    needed("created", UtcDateTime),
    needed("registered_at", UtcDateTime),
    sa.Column("git_commit", sa.String),
    sa.Column("dirty", sa.Boolean),
    sa.Column("lock_sha256", sa.String),
    sa.Column("image", sa.String),
    needed("snapshot", Json),  # path, sha256, rows, keys
    needed("window_start", UtcDateTime),
    needed("window_end", UtcDateTime),
    needed("cut", UtcDateTime),
    needed("metric", sa.String),
    sa.Column("promise", sa.Float),
    sa.Column("promise_low", sa.Float),
    sa.Column("promise_high", sa.Float),
    needed("gate", Json),
    sa.Column("champion_version", sa.Integer),
    sa.Column("anchor_sha256", sa.String),
    sa.Column("anchor_score", sa.Float),
    needed("params", Json),
    sa.Index(None, "model", "created"),
)
# The stages of every version, one row per move; `seq` numbers the moves of a model without gap.
lifecycle = sa.Table(
    "lifecycle",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("seq", sa.Integer),
    needed("version", sa.Integer),
    sa.Column("from_stage", sa.String),
    needed("to_stage", sa.String),
    needed("actor", sa.String),
    needed("reason", sa.String),
    needed("decision_id", sa.String),
    needed("at", UtcDateTime),
    sa.UniqueConstraint("model", "seq"),
    sa.Index(None, "model", "version", "seq"),
)
# Who may move a model's champion right now; the token rises with every holder, so a late one is told apart.
leases = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    needed("owner", sa.String),
    needed("token", sa.BigInteger),
    needed("taken_at", UtcDateTime),
    needed("expires_at", UtcDateTime),
)
# Moves of a champion, noted with the nomination before the alias moves, and what became of each.
intents = sa.Table(
    "intents",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("decision_id", sa.String),
    needed("to_version", sa.Integer),  # 0: no version
    needed("content", Json),
    needed("token", sa.BigInteger),  # of the lease under which it was noted
    needed("written_at", UtcDateTime),
    needed("state", sa.String),
    sa.Index(None, "model", "state"),
    # One move at a time, whatever the code above it believes.
    sa.Index(
        "uq_intents_open",
        "model",
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    ),
)
# The frozen trusted rows of a model; the newest revision counts.
anchors = sa.Table(
    "anchors",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("revision", sa.Integer),
    needed("sha256", sa.String),
    needed("path", sa.String),
    needed("rows", sa.Integer),
    needed("window_start", UtcDateTime),
    needed("window_end", UtcDateTime),
    needed("version", sa.Integer),
    needed("actor", sa.String),
    needed("reason", sa.String),
    needed("at", UtcDateTime),
    sa.UniqueConstraint("model", "revision"),
)
# Who may ask the serving app; only the hash of a key is kept, which leads back to no key.
api_keys = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    needed("role", sa.String),
    needed("digest", sa.String),
    needed("made_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
    sa.UniqueConstraint("digest"),
)
# Which files were made here, written before a version of them exists: a registry's own word is no proof.
bundles = sa.Table(
    "bundles",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("attempt", sa.String),
    needed("digest", sa.String),
    needed("at", UtcDateTime),
    sa.UniqueConstraint("model", "attempt", "digest"),
)
