"""Tables of drift checks: what each said of every feature, and the counts of earlier windows."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.store.schema import METADATA, Json, UtcDateTime, needed, row_id

# What a drift check said of every feature: one row each, under the revision of the check that said it.
feature_checks = sa.Table(
    "feature_checks",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("window_end", UtcDateTime, primary_key=True),
    sa.Column("window_start", UtcDateTime, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("feature", sa.String, primary_key=True),
    sa.Column("version", sa.Integer),
    needed("outcome", sa.String),
    sa.Column("measure", sa.String),
    sa.Column("value", sa.Float),
    sa.Column("threshold", sa.Float),
    sa.Column("p_value", sa.Float),
    sa.Column("n", sa.BigInteger),
    needed("reason", sa.String),
    sa.Column("at", UtcDateTime),
)
# Counts of earlier windows, which a rolling reference is the sum of; made anew from the rows at any time.
profiles = sa.Table(
    "profiles",
    METADATA,
    row_id(),
    needed("model", sa.String),
    sa.Column("version", sa.Integer),
    needed("reference_id", sa.String),
    needed("window_start", UtcDateTime),
    needed("window_end", UtcDateTime),
    needed("profile", Json),
    sa.UniqueConstraint("model", "reference_id", "window_start", "window_end"),
    sa.Index(None, "model", "window_end"),
)
