"""What the drift checks of earlier windows said, of the model and of every feature."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.records.drift_rows import FeatureCheck, FeatureRow, PastVerdict
from tasks.core.window import Window, utc
from tasks.store.engine import reading
from tasks.store.schema import checks
from tasks.store.schema_drift import feature_checks

_AT_ONCE = 500  # names in one query: databases bound how many they take


def verdict_history(engine: Engine, model: str, *, windows: int, before: datetime) -> list[PastVerdict]:
    """Return what the last `windows` drift checks that ended by `before` concluded, newest last.

    Of a window that was checked again the newest conclusion stands. The summaries, which may be large, are
    not read: the database takes out reason and names.
    """
    summary = checks.c.summary
    query = _newest(model, windows, before).add_columns(
        checks.c.version,
        checks.c.outcome,
        summary["reason"].as_string().label("reason"),
        summary["drifted"].label("drifted"),
    )
    with reading(engine) as connection:
        found = connection.execute(query).all()[::-1]
    return [
        PastVerdict(
            Window(row.window_start, row.window_end),
            row.version,
            row.outcome,
            row.reason or "",
            tuple(row.drifted or ()),
        )
        for row in found
    ]


def feature_history(
    engine: Engine,
    model: str,
    *,
    windows: int,
    before: datetime,
    features: Sequence[str] | None = None,
) -> list[FeatureCheck]:
    """Return every feature's row of the last `windows` drift checks that ended by `before`, oldest first.

    `features` asks for some of them, where a model has more than anyone looks at. A check that judged no
    feature is one of the windows and gives no row.
    """
    if features is not None and not features:
        return []
    checked = _newest(model, windows, before).subquery()
    same = [feature_checks.c[name] == checked.c[name] for name in ("window_start", "window_end", "revision")]
    query = (
        sa.select(feature_checks)
        .join(checked, sa.and_(*same))
        .where(feature_checks.c.model == model)
        .order_by(feature_checks.c.window_end, feature_checks.c.window_start, feature_checks.c.feature)
    )
    parts = [query] if features is None else [
        query.where(feature_checks.c.feature.in_(features[at : at + _AT_ONCE]))
        for at in range(0, len(features), _AT_ONCE)
    ]  # fmt: skip
    with reading(engine) as connection:
        found = [_check(row) for part in parts for row in connection.execute(part).mappings()]
    return found if len(parts) == 1 else sorted(found, key=_order)


def _newest(model: str, windows: int, before: datetime) -> sa.Select[tuple[datetime, datetime, int]]:
    """Return a query for the newest revision of the last windows, newest first."""
    later = checks.alias()
    same = (later.c[name] == checks.c[name] for name in ("model", "kind", "window_start", "window_end"))
    superseded = sa.exists().where(*same, later.c.revision > checks.c.revision)
    return (
        sa.select(checks.c.window_start, checks.c.window_end, checks.c.revision)
        .where(checks.c.model == model, checks.c.kind == "drift", checks.c.window_end <= utc(before))
        .where(~superseded)
        .order_by(checks.c.window_end.desc(), checks.c.window_start.desc())
        .limit(windows)
    )


def _check(row: sa.RowMapping) -> FeatureCheck:
    said = FeatureRow(**{field: row[field] for field in FeatureRow.__dataclass_fields__})
    return FeatureCheck(Window(row["window_start"], row["window_end"]), row["version"], said)


def _order(check: FeatureCheck) -> tuple[datetime, datetime, str]:
    return check.window.end, check.window.start, check.row.feature
