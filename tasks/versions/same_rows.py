"""Two versions scored on the same rows, new to both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from tasks.core.dataset import Dataset
from tasks.core.errors import WorkflowError
from tasks.core.evaluation.comparison import row_clusters, shown_better
from tasks.core.evaluation.metrics import score
from tasks.core.evaluation.scoring import Scored
from tasks.core.model.bundle import MODEL
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import Predictions, predict
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.agreed import served_digest
from tasks.store.models import own_types, shared_model
from tasks.store.passing import may_pass


@dataclass(frozen=True)
class SameRows:
    """How two versions did on the same rows, in the model's metric, larger is better.

    `scores` are those of the earlier and the later version; None: cannot tell, because there are too few
    labelled rows or they hold one class. `is_shown` says whether the earlier one is better beyond chance.
    `unfit` says why the earlier version cannot be scored on these rows at all, however many there are; empty
    where it can, or where there is no row to try it on.
    """

    scores: tuple[float, float] | None = None
    is_shown: bool = False
    unfit: str = ""


def scores_on_same_rows(
    spec: ModelSpec, versions: tuple[int, int], rows: Dataset | None, since: datetime, place: Settings
) -> SameRows:
    """Return how both versions do on these rows, or why that cannot be told.

    Args:
        spec: the model.
        versions: two versions that have served, the earlier first.
        rows: features, timestamp and label; rows without a label do not count, but the earlier version has
            to answer them too.
        since: leave out earlier rows, from which one of them may have learnt.
        place: this place.
    """
    read = _read(spec, rows, since)
    if read is None:
        return SameRows()
    frame, known, truth = read
    earlier, later = versions
    is_enough = len(known) >= spec.gate.min_rows
    try:
        said = _answers(spec, earlier, known if is_enough else frame.head(spec.gate.min_rows), place)
        before = _score(spec, truth, said) if is_enough else math.nan
    except Exception as err:  # a pipeline may hold anybody's code, which may raise anything
        if may_pass(err):
            raise
        _note(spec, f"version {earlier} cannot be scored", err)
        return _unfit(earlier, err.found if isinstance(err, WorkflowError) else type(err).__name__)
    if not is_enough:
        return SameRows()
    is_shown = False
    try:
        answers = _answers(spec, later, known, place)
        now = _score(spec, truth, answers)
        pair = [Scored(truth, each.prediction, each.probabilities, each.classes) for each in (said, answers)]
        is_shown = shown_better(pair[0], pair[1], spec, row_clusters(known, spec))
    except Exception as err:  # as above; that what serves cannot answer is no reason to keep it
        if may_pass(err):
            raise
        _note(spec, f"version {later} cannot be scored", err)
        now = before = math.nan
    if math.isnan(before) and not math.isnan(now):
        return _unfit(earlier, "its answers hold no number")
    return SameRows() if math.isnan(before) or math.isnan(now) else SameRows((before, now), is_shown)


def _read(
    spec: ModelSpec, rows: Dataset | None, since: datetime
) -> tuple[pd.DataFrame, pd.DataFrame, Any] | None:  # Any: labels may be of any type
    """Return the rows, those that count and their labels; None where there are none that can be read."""
    if rows is None or not rows.rows:
        return None
    try:
        frame = pd.read_parquet(rows.path)
        known = frame[frame[spec.label.column].notna() & (frame[spec.source.timestamp] >= utc(since))]
        return frame, known, labels_of(known, spec)
    except (WorkflowError, ValueError, KeyError, TypeError, OSError) as err:
        if may_pass(err):
            raise
        _note(spec, "the rows cannot be read", err)
        return None


def _answers(spec: ModelSpec, number: int, frame: pd.DataFrame, place: Settings) -> Predictions:
    model, features = _load(spec, number, place)
    return predict(model, frame[features])


def _score(spec: ModelSpec, truth: Any, said: Predictions) -> float:  # Any: labels may be of any type
    return score(truth, said.prediction, said.probabilities, said.classes, spec.metric, spec.label.positive)


def _load(spec: ModelSpec, number: int, place: Settings) -> tuple[Any, list[str]]:  # Any: a fitted pipeline
    """Return the model of this version and the columns it asks for."""
    version = registry.find_version(spec.name, number, settings=place)
    digest = served_digest(spec.name, number, place)
    kept = registry.local_copy(version, settings=place, also=own_types(spec), vouched=digest)
    ours = own_types(kept.spec) if digest == version.digest else ()
    model = shared_model(kept.model_path, sha256=kept.manifest.files[MODEL], also={*own_types(spec), *ours})
    return model, kept.spec.features.all


def _unfit(number: int, why: str) -> SameRows:
    return SameRows(unfit=f"version {number} cannot be scored on these rows ({why})")


def _note(spec: ModelSpec, what: str, err: Exception) -> None:
    task_logger(__name__).warning("%s: %s: %s", spec.name, what, type(err).__name__)
