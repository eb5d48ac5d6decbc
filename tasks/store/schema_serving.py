"""Tables about service: traffic, shadow answers, exposures, signals, runs of flows, moved-out history."""

from __future__ import annotations

import sqlalchemy as sa

from tasks.store.schema import METADATA, Json, UtcDateTime, needed, row_id

# Requests by the minute, as each process of the app counted them; what was refused stands only here.
traffic = sa.Table(
    "traffic",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("minute", UtcDateTime, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),  # 0: no version answered
    sa.Column("status", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("instance", sa.String, primary_key=True),
    needed("requests", sa.BigInteger),
    needed("rows", sa.BigInteger),
    needed("lost", sa.BigInteger),  # rows that were answered and not kept (log: fast)
    needed("latency", Json),  # upper edge of a bucket in ms, as text, to requests
)
# What a challenger says of rows that the champion answered; nobody was given these answers.
shadows = sa.Table(
    "shadows",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("prediction_id", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    needed("at", UtcDateTime),
    sa.Column("prediction", Json),
    sa.Column("score", Json),
    sa.Column("latency_ms", sa.Float),
    sa.Column("error", sa.String),
    sa.Index(None, "model", "at"),
)
# When a challenger began to see live rows, and when and why it ceased to.
exposures = sa.Table(
    "exposures",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("version", sa.Integer),
    needed("mode", sa.String),  # shadow or canary
    needed("share", sa.Float),
    needed("event", sa.String),  # began, returned or ended
    needed("reason", sa.String),
    needed("actor", sa.String),
    needed("at", UtcDateTime),
    sa.Index(None, "model", "version", "id"),
)
# What each look found about each cause: an incident opens and closes on several of them, never on one.
signals = sa.Table(
    "signals",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("cause", sa.String),
    needed("look", sa.String),  # the window or run that looked: looking again is no second look
    needed("is_bad", sa.Boolean),
    needed("tier", sa.String),
    needed("message", sa.String),
    needed("at", UtcDateTime),
    sa.UniqueConstraint("model", "cause", "look"),
    sa.Index(None, "model", "cause", "at"),
)
# One row per run of a flow that came to an end: what did not run is missing here, and what ran had a price.
flow_runs = sa.Table(
    "flow_runs",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("flow", sa.String),
    needed("run_id", sa.String),
    needed("as_of", UtcDateTime),
    needed("started_at", UtcDateTime),  # by the clock
    needed("seconds", sa.Float),
    needed("outcome", sa.String),
    sa.UniqueConstraint("model", "flow", "run_id"),
    sa.Index(None, "model", "flow", "as_of"),
)
# Parts of the prediction log that moved out of the database into Parquet files.
partitions = sa.Table(
    "partitions",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("window_start", UtcDateTime),
    needed("window_end", UtcDateTime),
    needed("part", sa.Integer),
    needed("path", sa.String),
    needed("sha256", sa.String),
    needed("rows", sa.BigInteger),
    needed("state", sa.String),  # written (rows still in the database too), moved or dropped
    needed("at", UtcDateTime),
    sa.UniqueConstraint("model", "window_start", "window_end", "part"),
)
