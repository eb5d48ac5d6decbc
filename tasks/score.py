"""Scoring of rows by the champion, each prediction on record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from tasks.core.dataset import Dataset
from tasks.core.model.pipeline import predict
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import predictions
from tasks.store.engine import open_store
from tasks.store.models import load_model, own_types


@dataclass(frozen=True)
class ScoredWindow:
    """How many rows were scored, by which version, and where they lie; `why` tells when none were."""

    rows: int
    version: int
    dataset: Dataset | None = None
    why: str = ""

    def state(self) -> State[Any]:
        """Return a completed state whose name says what happened."""
        if self.dataset is None:
            return Completed(name="Blocked", message=self.why[:400], data=self)
        message = f"{self.rows} rows of {self.dataset.window} by version {self.version}"
        return Completed(name="Scored", message=message, data=self)


@task(retries=0, timeout_seconds=60, cache_policy=NO_CACHE)
def refuse_window(spec: ModelSpec, why: str, version: int) -> ScoredWindow:
    """Return the record of a window that broke the contract as a whole and so was not scored."""
    task_logger(__name__).warning("%s: nothing scored: %s", spec.name, why)
    return ScoredWindow(0, version, why=why)


@task(retries=1, retry_delay_seconds=5, timeout_seconds=3600, cache_policy=NO_CACHE)
def score_window(
    spec: ModelSpec,
    dataset: Dataset,
    model_path: str,
    version: int,
    *,
    served_at: datetime,
    settings: Settings | None = None,
) -> ScoredWindow:
    """Return how many rows were scored; each is logged once under its row key, however often this runs."""
    started = time.monotonic()
    frame = pd.read_parquet(dataset.path)
    said = predict(load_model(model_path, also=own_types(spec)), frame)
    keys = frame[spec.source.key].astype(str)
    rows = pd.DataFrame(
        {
            "prediction_id": [
                f"{spec.name}/{key}/{moment:%Y%m%dT%H%M%S%f}"
                for key, moment in zip(keys, frame[spec.source.timestamp], strict=True)
            ],
            "row_key": keys.to_numpy(),
            "event_time": frame[spec.source.timestamp].to_numpy(),
            "prediction": pd.Series(np.asarray(said.prediction).tolist(), dtype=object),
            "score": pd.Series([None] * len(frame), dtype=object)
            if said.probabilities is None
            else pd.Series(said.probabilities.tolist(), dtype=object),
        }
    )
    predictions.log(open_store(settings), rows, model=spec.name, version=version, served_at=served_at)
    task_logger(__name__).info(
        "%s: version %d scored %d rows of %s in %.1f s",
        spec.name, version, len(rows), dataset.window, time.monotonic() - started,
    )  # fmt: skip
    return ScoredWindow(len(rows), version, dataset)
