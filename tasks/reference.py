"""The reference of a freshly trained version: what every later window of its rows is compared with."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.drift.profile import SCORE, Reference, build_reference
from tasks.core.drift.scoring import score_rows
from tasks.core.errors import DriftError
from tasks.log import task_logger
from tasks.settings import Settings

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from tasks.core.drift.matters.insight import Insight
    from tasks.core.spec import ModelSpec

_PREFECT: dict[str, Any] = {"retries": 0, "timeout_seconds": 3600, "cache_policy": NO_CACHE}


class Fitted(Protocol):
    """The part of a training's result that a reference is made from."""

    @property
    def model_path(self) -> str:
        """The fitted model."""

    @property
    def holdout_path(self) -> str:
        """Parquet of the rows it was not fitted on."""


@task(name="profile reference", **_PREFECT)
def profile_reference(
    spec: ModelSpec,
    trained: Fitted,
    *,
    rows_path: str | None = None,
    since: datetime | None = None,
    settings: Settings | None = None,
) -> str:
    """Return the path of the reference.json just written beside the model.

    The features' reference is made of the rows in `rows_path` from `since` on, by default the holdout, in the
    order of their time: its history, calibration and sample rest on that. Fading rows have the mean age and
    the effective number of the training window's rows, so `since` is where that window begins. The scores'
    reference is always made of the holdout and of a model that has not learnt it, because a model scores rows
    it was fitted on differently from all others: after a refit, of the model that was judged.

    Raises:
        DriftError: when the rows cannot be profiled.
    """
    from tasks.store.models import own_types, shared_model

    began = time.perf_counter()
    holdout = _read(trained.holdout_path, spec)
    rows = holdout if rows_path is None else _since(_read(rows_path, spec), spec, since)
    model, key = shared_model(trained.model_path, also=own_types(spec)), _mask_key(spec, settings)
    scores = score_rows(model, holdout, spec)
    reference = build_reference(rows, spec, scores=scores, key=key, times=_times(rows, spec), deep=True)
    reference = replace(reference, insight=_insight(model, holdout, reference, spec, key))
    path = Path(trained.model_path).with_name("reference.json")
    _write(path, reference.to_json())
    learnt = reference.calibration
    task_logger(__name__).info(
        "reference of %d features from %d rows, scores from %d, level %.3g of %.3g, in %.1f s",
        len(spec.features.all),
        len(rows),
        len(holdout),
        spec.drift.false_alarms if learnt is None else min(learnt.levels),
        spec.drift.false_alarms,
        time.perf_counter() - began,
    )
    return str(path)


def _insight(
    model: Any,  # Any: a fitted pipeline
    holdout: pd.DataFrame,
    reference: Reference,
    spec: ModelSpec,
    key: bytes | None,
) -> Insight | None:
    """Return what the holdout tells of the model; None where its labels are not among its columns."""
    from tasks.core.drift.counting.sample import sample_codes
    from tasks.core.drift.matters.insight import build_insight

    if spec.label.column not in holdout:
        return None
    inputs = [cell for cell in reference.bins if not cell.name.startswith(SCORE)]
    codes = sample_codes(holdout, inputs, key=key)
    return build_insight(model, holdout, spec, seed=spec.estimator.seed, sample=codes)


def _mask_key(spec: ModelSpec, settings: Settings | None) -> bytes | None:
    if not set(spec.features.sensitive) & set(spec.features.categorical):
        return None
    return (settings or Settings()).masking_key()


def _read(path: str, spec: ModelSpec) -> pd.DataFrame:
    """Return features, time and label of every row, oldest first; rows without a time come first of all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            wanted = dict.fromkeys([*spec.features.all, spec.source.timestamp, spec.label.column])
            names = [name for name in wanted if name in file.schema_arrow.names]
            frame: pd.DataFrame = file.read(columns=names).to_pandas()
    except (OSError, pa.ArrowException) as err:
        raise DriftError(
            f"no readable Parquet file {Path(path).name} ({type(err).__name__})",
            "the rows of the training",
            "train again",
            model=spec.name,
        ) from err
    if spec.source.timestamp in frame:
        frame = frame.sort_values(spec.source.timestamp, kind="stable", na_position="first")
    return frame.reset_index(drop=True)


def _since(rows: pd.DataFrame, spec: ModelSpec, since: datetime | None) -> pd.DataFrame:
    """Return the rows from this moment on, and those of which no moment is known."""
    times = _times(rows, spec)
    if since is None or times is None:
        return rows
    return rows[~(times < since)].reset_index(drop=True)


def _times(rows: pd.DataFrame, spec: ModelSpec) -> pd.Series[Any] | None:  # Any: timestamps of any unit
    """Return the time of every row; None where the rows have none, or none that says its zone."""
    if spec.source.timestamp not in rows:
        return None
    column = rows[spec.source.timestamp]
    return column if getattr(column.dtype, "tz", None) is not None else None


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
