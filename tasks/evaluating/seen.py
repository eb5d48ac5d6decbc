"""Which rows of a holdout, or of an anchor, the champion may have learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from tasks.core.errors import WorkflowError
from tasks.core.model.bundle import ChampionRef
from tasks.core.model.split import as_texts
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store.passing import answering_not, may_pass
from tasks.store.s3 import filesystem


@dataclass(frozen=True)
class Unseen:
    """`chosen` are the holdout rows that the champion cannot have learnt from, one flag per row.

    `known` counts rows that are new by their time and left out all the same, because the champion was
    trained on a row with their key: its time has been corrected since, perhaps. `kin` counts those left out
    because it was trained on other rows of their entity (`source.group`).
    """

    chosen: NDArray[np.bool_]
    known: int = 0
    kin: int = 0


@dataclass(frozen=True)
class _Learnt:
    """Of the keys and entities asked about, those of rows that the champion was trained on."""

    keys: set[str]
    groups: set[str]


def unseen(
    spec: ModelSpec,
    holdout: pd.DataFrame,
    champion: ChampionRef | None,
    snapshot: Mapping[str, Any] | None,  # Any: the snapshot's record in the champion's manifest
    settings: Settings,
) -> Unseen:
    """Return the rows that are new to the champion: not older than its cut, their keys and entities unknown.

    Without the entities a champion would be judged on customers whom it knows and the challenger does not.
    Its snapshot holds the rows of its last training; rows that an anchor kept out of it count as learnt. What
    it learnt before that, in mode partial_fit, only the time tells; so does everything where the snapshot
    cannot be read.
    """
    if champion is None:
        return Unseen(np.ones(len(holdout), dtype=bool))
    newer = (holdout[spec.source.timestamp] >= utc(champion.train_end)).to_numpy(dtype=bool)
    rows, group = holdout[newer], spec.source.group
    if rows.empty:
        return Unseen(newer)
    try:
        learnt = _learnt(spec, rows, champion, snapshot, settings)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, WorkflowError) as err:
        if may_pass(err):
            raise answering_not("the rows of the champion", err, spec.name) from err
        task_logger(__name__).info(
            "%s: rows of version %d cannot be read (%s): only their time tells what it has learnt from",
            spec.name,
            champion.version,
            type(err).__name__,
        )
        return Unseen(newer)
    known, kin = np.zeros_like(newer), np.zeros_like(newer)
    known[newer] = as_texts(rows[spec.source.key]).isin(learnt.keys)
    if group:
        kin[newer] = as_texts(rows[group]).isin(learnt.groups)
    return Unseen(newer & ~known & ~kin, int(known.sum()), int((kin & ~known).sum()))


def learnt_rows(
    spec: ModelSpec,
    rows: pd.DataFrame,
    champion: ChampionRef,
    snapshot: Mapping[str, Any] | None,  # Any: the snapshot's record in the champion's manifest
    settings: Settings,
) -> int:
    """Return how many of these rows have keys that the champion was trained on, as its snapshot tells.

    Raises:
        OSError: when there is no snapshot, or it cannot be read; ValueError and others for one that is odd.
    """
    learnt = _learnt(spec, rows, champion, snapshot, settings)
    return int(as_texts(rows[spec.source.key]).isin(learnt.keys).sum())


def _learnt(
    spec: ModelSpec,
    rows: pd.DataFrame,
    champion: ChampionRef,
    snapshot: Mapping[str, Any] | None,  # Any: as above
    settings: Settings,
) -> _Learnt:
    """Return what of these rows stands among the champion's training rows; read batch by batch.

    Those are the labelled rows before its cut, without entities of its own holdout: as `split_rows` has them.
    """
    path = str((snapshot or {}).get("path") or "")
    if not path:
        raise FileNotFoundError("no snapshot on record")
    source, end = spec.source, utc(champion.train_end)
    files, place = filesystem(path, settings) if path.startswith("s3://") else (None, path)
    stored = ds.dataset(place, filesystem=files, format="parquet")
    label, group = (
        name if name in stored.schema.names else None for name in (spec.label.column, source.group)
    )
    wanted = _texts_in(rows[source.key])
    entities = _texts_in(rows[group]) if group else set()
    keys: set[str] = set()
    groups: set[str] = set()
    own: set[str] = set()  # of its holdout
    columns = [name for name in (source.key, source.timestamp, label, group) if name]
    for part in stored.to_batches(columns=list(dict.fromkeys(columns))):
        batch = part
        if label:
            batch = part.filter(pc.invert(pc.is_null(part.column(label), nan_is_null=True)))
        times = batch.column(source.timestamp)
        is_older = pc.less(times, pa.scalar(end).cast(times.type))
        older = batch.filter(is_older)
        keys |= wanted & _texts_in(older.column(source.key).to_pandas())
        if group:
            groups |= entities & _texts_in(older.column(group).to_pandas())
            own |= entities & _texts_in(batch.filter(pc.invert(is_older)).column(group).to_pandas())
    return _Learnt(keys, groups - own)


def _texts_in(column: pd.Series) -> set[str]:
    return set(as_texts(column).dropna())
