"""What every check concluded, window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.records.drift_rows import FeatureRow
from tasks.core.window import Window, utc
from tasks.store.engine import reading, writing
from tasks.store.schema import checks, plain
from tasks.store.schema_drift import feature_checks

Kind = Literal[
    "drift",
    "performance",
    "data",
    "labels",
    "service",
    "predictions",
    "slices",
    "budget",
    "freshness",
    "champions",
]


@dataclass(frozen=True)
class Check:
    """One conclusion; `revision` counts from 1 how often a re-run of the window concluded otherwise."""

    model: str
    kind: str
    window: Window
    version: int | None
    outcome: str
    summary: dict[str, Any]  # Any: JSON
    run_id: str | None
    revision: int
    at: datetime | None


def record(
    engine: Engine,
    *,
    model: str,
    kind: Kind,
    window: Window,
    version: int | None,
    outcome: str,
    summary: Mapping[str, Any],
    run_id: str | None = None,
    at: datetime | None = None,
    features: Sequence[FeatureRow] = (),
) -> Check:
    """Return the check as it stands: one row per window, and one more each time a re-run concludes otherwise.

    A re-run that concludes the same (version, outcome, summary, features) writes nothing. The rows of a
    drift check's `features` are kept in the same transaction, under the revision of the check.

    Raises:
        ValueError: when features are given for another kind of check, or one of them twice.
    """
    _refuse_unfit(kind, features)
    content = {"version": version, "outcome": outcome, "summary": plain(dict(summary))}
    with writing(engine, lock=f"check:{model}") as connection:
        newest = _newest(connection, model, kind, window)
        same = newest and all(getattr(newest, name) == value for name, value in content.items())
        if newest and same and _holds(connection, newest, features):
            return newest
        row = {
            "model": model,
            "kind": kind,
            "window_start": window.start,
            "window_end": window.end,
            "revision": newest.revision + 1 if newest else 1,
            "run_id": run_id,
            "at": at,
            **content,
        }
        connection.execute(checks.insert(), row)
        _write_features(connection, _check(row), features)
    return _check(row)


def recent(engine: Engine, model: str, kind: Kind, n: int, before: datetime) -> list[Check]:
    """Return the newest conclusion of each of the last `n` windows that ended by `before`, newest last.

    A window that ends exactly at `before` is among them. Fewer checks than `n` give a shorter list.
    """
    later = checks.alias()
    same_window = sa.and_(*(later.c[name] == checks.c[name] for name in _WINDOW))
    superseded = sa.exists().where(same_window, later.c.revision > checks.c.revision)
    query = (
        sa.select(checks)
        .where(checks.c.model == model, checks.c.kind == kind, checks.c.window_end <= utc(before))
        .where(~superseded)
        .order_by(checks.c.window_end.desc(), checks.c.window_start.desc())
        .limit(n)
    )
    with reading(engine) as connection:
        return [_check(row) for row in connection.execute(query).mappings()][::-1]


_WINDOW = ("model", "kind", "window_start", "window_end")


def _refuse_unfit(kind: Kind, features: Sequence[FeatureRow]) -> None:
    if features and kind != "drift":
        raise ValueError(f"features of a {kind} check: only a drift check judges features")
    if len({row.feature for row in features}) != len(features):
        raise ValueError("one feature twice in a check")


def _holds(connection: Connection, check: Check, features: Sequence[FeatureRow]) -> bool:
    """Return whether the check said the same of these features; one that kept none gets them, and does."""
    stands = _features(connection, check) if features else {}
    if not stands:
        _write_features(connection, check, features)
        return True
    return stands == {row.feature: asdict(row) for row in features}


def _write_features(connection: Connection, check: Check, features: Sequence[FeatureRow]) -> None:
    if not features:
        return
    same = {**_key(check), "version": check.version, "at": check.at}
    connection.execute(feature_checks.insert(), [{**same, **asdict(row)} for row in features])


def _features(connection: Connection, check: Check) -> dict[str, dict[str, Any]]:
    table = feature_checks.c
    query = sa.select(*(table[field] for field in FeatureRow.__dataclass_fields__)).where(
        *(table[name] == value for name, value in _key(check).items())
    )
    return {row["feature"]: dict(row) for row in connection.execute(query).mappings()}


def _key(check: Check) -> dict[str, Any]:
    return {
        "model": check.model,
        "window_start": check.window.start,
        "window_end": check.window.end,
        "revision": check.revision,
    }


def _newest(connection: Connection, model: str, kind: str, window: Window) -> Check | None:
    query = (
        sa.select(checks)
        .where(checks.c.model == model, checks.c.kind == kind)
        .where(checks.c.window_start == window.start, checks.c.window_end == window.end)
        .order_by(checks.c.revision.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return _check(row) if row else None


def _check(row: Mapping[str, Any] | sa.RowMapping) -> Check:
    return Check(
        model=row["model"],
        kind=row["kind"],
        window=Window(row["window_start"], row["window_end"]),
        version=row["version"],
        outcome=row["outcome"],
        summary=row["summary"],
        run_id=row["run_id"],
        revision=row["revision"],
        at=row["at"],
    )
