"""Which rows of a holdout the champion may have learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from tasks.core.errors import WorkflowError
from tasks.core.model.bundle import ChampionRef
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store.s3 import filesystem


@dataclass(frozen=True)
class Unseen:
    """`chosen` are the holdout rows that the champion cannot have learnt from, one flag per row.

    `known` counts rows that are new by their time and left out all the same, because the champion was
    trained on a row with their key: its time has been corrected since, perhaps.
    """

    chosen: NDArray[np.bool_]
    known: int = 0


def unseen(
    spec: ModelSpec,
    holdout: pd.DataFrame,
    champion: ChampionRef | None,
    snapshot: Mapping[str, Any] | None,  # Any: the snapshot's record in the champion's manifest
    settings: Settings,
) -> Unseen:
    """Return the rows that are new to the champion: not older than its cut, and with keys it never saw.

    Its snapshot holds the rows of its last training. What it learnt before that, in mode partial_fit, only
    the time tells; so does everything where the snapshot cannot be read.
    """
    if champion is None:
        return Unseen(np.ones(len(holdout), dtype=bool))
    newer = (holdout[spec.source.timestamp] >= utc(champion.train_end)).to_numpy(dtype=bool)
    keys = holdout[spec.source.key][newer]
    if keys.empty:
        return Unseen(newer)
    path = str((snapshot or {}).get("path") or "")
    try:
        if not path:
            raise FileNotFoundError("no snapshot on record")
        learnt = _learnt(spec, path, utc(champion.train_end), keys, settings)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, WorkflowError) as err:
        task_logger(__name__).info(
            "%s: rows of version %d cannot be read (%s): only their time tells what it has learnt from",
            spec.name,
            champion.version,
            type(err).__name__,
        )
        return Unseen(newer)
    known = newer.copy()
    known[newer] = _as_text(keys).isin(learnt).to_numpy()
    return Unseen(newer & ~known, int(known.sum()))


def _learnt(spec: ModelSpec, path: str, end: datetime, keys: pd.Series, settings: Settings) -> set[str]:
    """Return which of the keys stand in the snapshot with a time before `end`; read batch by batch."""
    source = spec.source
    files, place = filesystem(path, settings) if path.startswith("s3://") else (None, path)
    stored = ds.dataset(place, filesystem=files, format="parquet")
    wanted = set(_as_text(keys))
    found: set[str] = set()
    for batch in stored.to_batches(columns=[source.key, source.timestamp]):
        times = batch.column(source.timestamp)
        older = batch.filter(pc.less(times, pa.scalar(end).cast(times.type)))
        found |= wanted.intersection(_as_text(older.column(source.key).to_pandas()))
    return found


def _as_text(keys: pd.Series) -> pd.Series:
    """Return keys as text, alike for 7 and "7": a source may change its types."""
    return keys.astype(str)
