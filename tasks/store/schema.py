"""Tables of the store, and the types that keep times in UTC and JSON free of NaN."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

REVISION = "0006"  # head of migrations/versions; a store at this revision is opened without loading Alembic


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite drops zones, so there it is written and compared as naive UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return what the driver writes; a naive datetime is refused."""
        if value is None or value != value:  # noqa: PLR0124 - NaT is a datetime that differs from itself
            return None
        if value.tzinfo is None:
            raise ValueError("the store takes aware datetimes only: add a zone, e.g. UTC")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the moment in UTC, aware."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def dump_json(value: object) -> str:
    """Return canonical JSON: sorted keys, times in ISO form, and null for every number that is not finite.

    Postgres refuses NaN in JSON and SQLite keeps it as text no other reader understands, so neither gets it.

    Example:
        >>> dump_json({"b": float("nan"), "a": (1, 2)})
        '{"a":[1,2],"b":null}'
    """
    try:
        return _encode(value)
    except (TypeError, ValueError):  # something that json does not know, or not finite: the slower way
        return _encode(plain(value))


def plain(value: Any) -> Any:  # Any: a tree of whatever a task wants to keep
    """Return the value as JSON gives it back: dicts with text keys, lists, text, finite numbers, booleans."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    elif hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _leaf(value)


def _leaf(value: object) -> str | int | float | None:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return None if text in {"<NA>", "NaT"} else text  # what pandas calls missing


def _encode(value: object) -> str:
    return json.dumps(value, allow_nan=False, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


Json = sa.JSON(none_as_null=True)
METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
# Row ids; SQLite numbers rows by itself only for INTEGER.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def row_id() -> sa.Column[int]:
    """Return the column that numbers rows."""
    return sa.Column("id", _ID, primary_key=True, autoincrement=True)


def needed(name: str, kind: Any) -> sa.Column[Any]:  # Any: a SQLAlchemy type, class or instance
    """Return a column that must have a value."""
    return sa.Column(name, kind, nullable=False)


predictions = sa.Table(
    "predictions",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("prediction_id", sa.String, primary_key=True),
    needed("version", sa.Integer),
    needed("row_key", sa.String),
    needed("event_time", UtcDateTime),
    needed("served_at", UtcDateTime),
    sa.Column("prediction", Json),
    sa.Column("score", Json),
    sa.Column("inputs", Json),
    sa.Column("latency_ms", sa.Float),
    sa.Column("request_id", sa.String),
    sa.Column("route", sa.String),  # champion, canary or batch; null before the column was
    sa.Column("status", sa.Integer),  # of the answer; null where no request was answered
    sa.Column(
        "partner", sa.Integer
    ),  # version that had half the vote; null where the champion answered alone
    sa.Index(None, "model", "event_time"),
    sa.Index(None, "model", "served_at"),
    sa.Index(None, "model", "row_key"),
)
labels = sa.Table(
    "labels",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("row_key", sa.String),
    needed("label", Json),
    needed("known_at", UtcDateTime),
    sa.Column("prediction_id", sa.String),  # of the one prediction it is for; null: for every one of its key
    sa.Column("event_time", UtcDateTime),  # of the event it is for; null: for every one of its key
    sa.Column("source", sa.String),  # fetch or api
    sa.Column("heard_at", UtcDateTime),  # by the clock, when it reached us
    sa.Index(None, "model", "row_key", "known_at"),
)
checks = sa.Table(
    "checks",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("kind", sa.String),
    needed("window_start", UtcDateTime),
    needed("window_end", UtcDateTime),
    needed("revision", sa.Integer),
    sa.Column("version", sa.Integer),
    needed("outcome", sa.String),
    needed("summary", Json),
    sa.Column("run_id", sa.String),
    sa.Column("at", UtcDateTime),
    sa.UniqueConstraint("model", "kind", "window_start", "window_end", "revision"),
    sa.Index(None, "model", "kind", "window_end"),
)
decisions = sa.Table(
    "decisions",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("decision_id", sa.String),
    needed("revision", sa.Integer),
    needed("kind", sa.String),
    needed("cause", sa.String),
    needed("reasons", Json),
    needed("escalate", sa.Boolean),
    needed("evidence", Json),
    needed("at", UtcDateTime),
    sa.Column("run_id", sa.String),
    sa.UniqueConstraint("model", "decision_id", "revision"),
)
promotions = sa.Table(
    "promotions",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("decision_id", sa.String),
    needed("action", sa.String),
    sa.Column("from_version", sa.Integer),
    sa.Column("to_version", sa.Integer),
    sa.Column("partner", sa.Integer),  # version that answers beside to_version from here on; null: none
    needed("actor", sa.String),
    needed("reason", sa.String),
    needed("evidence", Json),
    needed("at", UtcDateTime),
    sa.UniqueConstraint("model", "decision_id"),
    sa.Index(None, "model", "at"),
)
watermarks = sa.Table(
    "watermarks",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("attempt", sa.String),
    needed("moment", UtcDateTime),
    needed("increments", Json),
    sa.UniqueConstraint("model", "attempt"),
)
quarantine = sa.Table(
    "quarantine",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("attempt", sa.String),
    needed("window_start", UtcDateTime),
    needed("window_end", UtcDateTime),
    needed("rows", sa.Integer),
    needed("reasons", Json),
    needed("path", sa.String),
    needed("digest", sa.String),
    sa.UniqueConstraint("model", "attempt", "window_start", "window_end", "digest"),
)
claims = sa.Table(
    "claims",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("decision_id", sa.String, primary_key=True),
    needed("owner", sa.String),
    needed("state", sa.String),
    sa.Column("outcome", sa.String),
    needed("claimed_at", UtcDateTime),
    needed("lease_until", UtcDateTime),
    needed("takeovers", sa.Integer),
    # One running retraining per model, whatever the code above it believes.
    sa.Index(
        "uq_claims_running",
        "model",
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    ),
)
alerts = sa.Table(
    "alerts",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("cause", sa.String),
    needed("tier", sa.String),
    needed("message", sa.String),
    needed("opened_at", UtcDateTime),
    sa.Column("resolved_at", UtcDateTime),
    sa.Index(
        "uq_alerts_open",
        "model",
        "cause",
        unique=True,
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
    ),
)
# What was decided and has to leave this process: written with the decision, in one transaction.
outbox = sa.Table(
    "outbox",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("decision_id", sa.String),
    needed("written_at", UtcDateTime),  # by the clock, not as_of: how long ago something was asked for
    sa.Column("sent_at", UtcDateTime),
    needed("tries", sa.Integer),
    sa.UniqueConstraint("model", "decision_id"),
)
# What a channel has to be told, until it was: `topic` names what about, so that it is told once.
deliveries = sa.Table(
    "deliveries",
    METADATA,
    row_id(),
    needed("model", sa.String),
    needed("topic", sa.String),
    needed("channel", sa.String),
    needed("content", Json),
    needed("written_at", UtcDateTime),
    needed("next_at", UtcDateTime),
    needed("tries", sa.Integer),
    sa.Column("done_at", UtcDateTime),
    sa.Column("error", sa.String),
    sa.UniqueConstraint("topic", "channel"),
    sa.Index(None, "model", "done_at"),
)
