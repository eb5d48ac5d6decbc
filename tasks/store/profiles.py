"""Profiles of earlier windows, which a rolling reference is the sum of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.window import Window, utc
from tasks.store.engine import reading, writing
from tasks.store.schema import plain
from tasks.store.schema_drift import profiles

KEPT = 1000  # newest profiles of a model; our choice: a month and a half of hours, three years of days


def save_profile(
    engine: Engine,
    *,
    model: str,
    version: int | None,
    reference_id: str,
    window: Window,
    profile: Mapping[str, Any],  # Any: JSON, as Profile.to_plain gives it
) -> bool:
    """Return whether anything was written: one row per window and reference, replaced when it differs.

    Only the newest 1,000 profiles of the model are kept.
    """
    key = {
        "model": model,
        "reference_id": reference_id,
        "window_start": window.start,
        "window_end": window.end,
    }
    content = {"version": version, "profile": plain(dict(profile))}
    here = [profiles.c[name] == value for name, value in key.items()]
    with writing(engine, lock=f"profile:{model}") as connection:
        stands = connection.execute(sa.select(profiles.c.version, profiles.c.profile).where(*here)).first()
        if stands and dict(stands._mapping) == content:
            return False
        if stands:
            connection.execute(profiles.update().where(*here), content)
        else:
            connection.execute(profiles.insert(), {**key, **content})
            _forget(connection, model)
    return True


def recent_profiles(
    engine: Engine, model: str, reference_id: str, n: int, before: datetime
) -> list[dict[str, Any]]:  # Any: JSON, for Profile.from_plain
    """Return the profiles of the last `n` windows that ended by `before`, newest last.

    Only windows that do not overlap, the newest first chosen, so that no row counts twice in their sum.
    """
    query = (
        sa.select(profiles.c.id, profiles.c.window_start, profiles.c.window_end)
        .where(profiles.c.model == model, profiles.c.reference_id == reference_id)
        .where(profiles.c.window_end <= utc(before))
        .order_by(profiles.c.window_end.desc(), profiles.c.window_start.desc())
    )
    chosen: list[int] = []
    edge = utc(before)
    with reading(engine) as connection:
        for row in connection.execute(query):
            if len(chosen) < n and row.window_end <= edge:
                chosen.append(row.id)
                edge = row.window_start
        full = sa.select(profiles.c.profile).where(profiles.c.id.in_(chosen))
        return list(connection.execute(full.order_by(profiles.c.window_end)).scalars())


def _forget(connection: Connection, model: str) -> None:
    mine = profiles.c.model == model
    newest = [profiles.c.window_end.desc(), profiles.c.window_start.desc(), profiles.c.id.desc()]
    old = sa.select(profiles.c.id).where(mine).order_by(*newest).offset(KEPT)
    rows = connection.execute(old).scalars().all()
    if rows:
        connection.execute(profiles.delete().where(profiles.c.id.in_(rows)))
