"""Scoring of rows by the champion, each prediction on record, however many rows there are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from tasks.core.data.masking import masked_inputs
from tasks.core.dataset import Dataset
from tasks.core.model.pipeline import Predictions
from tasks.core.policy.partners import pair_text
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.run_state import completed
from tasks.scoring.answering import answering
from tasks.scoring.output import output_of
from tasks.settings import Settings
from tasks.store import predictions
from tasks.store.dataset_parts import check_part, parts_of
from tasks.store.engine import open_store
from tasks.store.version import PartnerInfo

_TELL_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class ScoredWindow:
    """How many rows of the window stand scored, how many of them since this run, and by which version.

    `partner` had half the vote; `partner_trouble` says why it had not, or not for all rows, although the
    ledger names it. `dataset` holds the rows as they were fetched, `left_out` of them broke the contract and
    were not scored, `into` is where the answers were written besides the prediction log, `why` tells when
    nothing was scored, and `note` what else to know, such as a changed model block.
    """

    rows: int
    version: int
    dataset: Dataset | None = None
    new: int = 0
    left_out: int = 0
    into: str = ""
    why: str = ""
    partner: int | None = None
    partner_trouble: str = ""
    note: str = ""

    def state(self) -> State[Any]:
        """Return a completed state that says what happened."""
        if self.dataset is None:
            return completed("Blocked", self.why, self)
        by = pair_text(self.version, self.partner)
        message = f"{self.rows} rows of {self.dataset.window} by {by}, {self.new} of them new"
        message += f", {self.left_out} left out: they break the contract" if self.left_out else ""
        message += f"; written to {self.into}" if self.into else ""
        message = "; ".join(filter(None, (message, self.partner_trouble, self.note)))
        return completed("Scored", message, self)


@task(retries=0, timeout_seconds=60, cache_policy=NO_CACHE)
def refuse_window(spec: ModelSpec, why: str, version: int) -> ScoredWindow:
    """Return the record of a window that broke the contract as a whole and so was not scored."""
    task_logger(__name__).warning("%s: nothing scored: %s", spec.name, why)
    return ScoredWindow(0, version, why=why)


@task(retries=1, retry_delay_seconds=5, timeout_seconds=4 * 3600, cache_policy=NO_CACHE)
def score_window(
    spec: ModelSpec,
    dataset: Dataset,
    model_path: str,
    version: int,
    *,
    served_at: datetime,
    partner: PartnerInfo | None = None,
    partner_trouble: str = "",
    note: str = "",
    settings: Settings | None = None,
) -> ScoredWindow:
    """Return how many rows were scored; each is logged once under its row key, however often this runs.

    With a `partner` the answer is the mean of both versions; where that one fails the champion answers alone,
    the log says so row by row, and `partner_trouble` why (given: why there is no partner to begin with).
    `note` is said with the result and changes nothing.

    `scoring.batch_rows` rows are in memory at once. Rows that break the contract are left out. A row that was
    scored before keeps its first answer, in the log and in what `scoring.into` names. Inputs are kept, the
    sensitive ones masked, where drift is looked for in the log or the score is told by slices.
    """
    started, place = time.monotonic(), settings or Settings()
    engine, logger = open_store(place), task_logger(__name__)
    answers = answering(spec, model_path, version, partner)
    output = output_of(spec, dataset.window, place)
    key = place.masking_key() if _needs_inputs(spec) else None
    rows = new = left_out = 0
    told = started
    with output:
        for frame in parts_of(dataset, spec):
            checked = check_part(frame, dataset, spec)
            left_out += len(checked.bad)
            for part in _batches(checked.good, spec.scoring.batch_rows):
                said, beside = answers.answer(part)
                answered = _rows(spec, said, part)
                new += predictions.log(
                    engine, answered, model=spec.name, version=version, served_at=served_at, route="batch",
                    inputs=_inputs(spec, part, key), partner=beside,
                )  # fmt: skip
                rows += len(answered)
                output.add(engine, answered)
            if time.monotonic() - told > _TELL_EVERY_SECONDS:
                told = time.monotonic()
                logger.info("%s: %d of %d rows scored", spec.name, rows, dataset.rows)
    logger.info(
        "%s: %s scored %d rows of %s (%d new, %d left out) in %.1f s",
        spec.name, answers, rows, dataset.window, new, left_out, time.monotonic() - started,
    )  # fmt: skip
    return ScoredWindow(
        rows, version, dataset, new, left_out, output.where,
        partner=answers.partner.version if answers.partner else None,
        partner_trouble=answers.trouble or partner_trouble,
        note=note,
    )  # fmt: skip


def _needs_inputs(spec: ModelSpec) -> bool:
    # They make the log several times as large, so they are kept where something reads them.
    return spec.drift.rows == "log" or bool(spec.gate.slices)


def _inputs(spec: ModelSpec, frame: pd.DataFrame, key: bytes | None) -> list[dict[str, Any]] | None:
    if key is None:
        return None
    names = spec.features.all
    plain = frame[names].astype(object).where(frame[names].notna(), None)
    rows = zip(*(plain[name].tolist() for name in names), strict=True)
    return [masked_inputs(spec.features, dict(zip(names, row, strict=True)), key) for row in rows]


def _batches(frame: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    for start in range(0, len(frame), size):
        yield frame.iloc[start : start + size]


def _rows(spec: ModelSpec, said: Predictions, frame: pd.DataFrame) -> pd.DataFrame:
    keys, moments = frame[spec.source.key].astype(str), frame[spec.source.timestamp]
    return pd.DataFrame(
        {
            "prediction_id": [
                f"{spec.name}/{key}/{moment:%Y%m%dT%H%M%S%f}"
                for key, moment in zip(keys, moments, strict=True)
            ],
            "row_key": keys.to_numpy(),
            "event_time": moments.to_numpy(),
            "prediction": pd.Series(np.asarray(said.prediction).tolist(), dtype=object),
            "score": pd.Series([None] * len(frame), dtype=object)
            if said.probabilities is None
            else pd.Series(said.probabilities.tolist(), dtype=object),
        }
    )
