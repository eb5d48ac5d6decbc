"""Which rows are a model's frozen trusted set, since when and by whom, and which version is best on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.policy.served import SERVING
from tasks.core.window import Window, utc
from tasks.store.engine import reading, writing
from tasks.store.schema import promotions
from tasks.store.schema_versions import anchors, versions


@dataclass(frozen=True)
class AnchorRow:
    """One revision of a model's anchor: `path` is where its rows lie, `version` the one it was fixed with."""

    model: str
    revision: int
    sha256: str
    path: str
    rows: int
    window: Window
    version: int
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Keeper:
    """The version that has been best on an anchor: its number, the digest of its manifest, its score."""

    number: int
    digest: str
    score: float


def current(engine: Engine, model: str) -> AnchorRow | None:
    """Return the anchor that counts, which is the newest; None before the first one was fixed."""
    with reading(engine) as connection:
        return next(iter(_history(connection, model)), None)


def history(engine: Engine, model: str) -> list[AnchorRow]:
    """Return every anchor the model ever had, oldest first."""
    with reading(engine) as connection:
        return _history(connection, model)[::-1]


def fix(
    engine: Engine,
    model: str,
    *,
    sha256: str,
    path: str,
    rows: int,
    window: Window,
    version: int,
    actor: str,
    reason: str,
    at: datetime,
    renew: bool = False,
) -> AnchorRow:
    """Return the anchor that stands after this call; of any number that ask at once, one fixes it.

    Without `renew` what stands is never replaced. Asked for once more, what stands is no second revision;
    what stood before it and comes back is a new one, with who asked for it and why.
    """
    with writing(engine, lock=f"anchor:{model}") as connection:
        known = _history(connection, model)
        if known and (not renew or (known[0].sha256, known[0].version) == (sha256, version)):
            return known[0]
        row = {
            "model": model,
            "revision": known[0].revision + 1 if known else 1,
            "sha256": sha256,
            "path": path,
            "rows": rows,
            "window_start": window.start,
            "window_end": window.end,
            "version": version,
            "actor": actor,
            "reason": reason,
            "at": utc(at),
        }
        connection.execute(anchors.insert(), row)
        return _history(connection, model)[0]


def best_keeper(engine: Engine, model: str, sha256: str, metric: str) -> Keeper | None:
    """Return the version with the best score on this anchor among those that ever served; None without any.

    Only scores of this metric count: others cannot be compared. Of equal ones the oldest version is kept.
    """
    served = (
        sa.select(promotions.c.to_version)
        .where(promotions.c.model == model, promotions.c.action.in_(SERVING))
        .where(promotions.c.to_version.is_not(None))
    )
    query = (
        sa.select(versions.c.number, versions.c.digest, versions.c.anchor_score)
        .where(versions.c.model == model, versions.c.metric == metric, versions.c.number.in_(served))
        .where(versions.c.anchor_sha256 == sha256, versions.c.anchor_score.is_not(None))
        .order_by(versions.c.number)
    )
    with reading(engine) as connection:
        found = [Keeper(*row) for row in connection.execute(query)]
    # Filtered here: Postgres keeps NaN and holds it larger than every number.
    return max((one for one in found if math.isfinite(one.score)), key=lambda one: one.score, default=None)


def note_score(engine: Engine, model: str, number: int, *, sha256: str, score: float) -> bool:
    """Note what a version scores on the anchor that was fixed after it; False when it is not on record."""
    row = (versions.c.model == model, versions.c.number == number)
    with writing(engine) as connection:
        values = {"anchor_sha256": sha256, "anchor_score": score}
        return connection.execute(versions.update().where(*row).values(**values)).rowcount > 0


def _history(connection: Connection, model: str) -> list[AnchorRow]:
    """Return the model's anchors, newest first."""
    query = sa.select(anchors).where(anchors.c.model == model).order_by(anchors.c.revision.desc())
    kept = ("model", "revision", "sha256", "path", "rows", "version", "actor", "reason", "at")
    return [
        AnchorRow(**{name: row[name] for name in kept}, window=Window(row["window_start"], row["window_end"]))
        for row in connection.execute(query).mappings()
    ]
