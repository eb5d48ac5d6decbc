"""Two versions scored on the same rows, new to both."""

from __future__ import annotations

import math
from datetime import datetime

import pandas as pd

from tasks.core.dataset import Dataset
from tasks.core.errors import WorkflowError
from tasks.core.evaluation.metrics import score
from tasks.core.model.bundle import MODEL
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import predict
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.models import load_model, own_types
from tasks.versions.probe import served_digest


def scores_on_same_rows(
    spec: ModelSpec, versions: tuple[int, int], rows: Dataset | None, since: datetime, place: Settings
) -> tuple[float, float] | None:
    """Return the scores of both versions in the model's metric, larger is better; None: cannot tell.

    Args:
        spec: the model.
        versions: two versions that have served.
        rows: features, timestamp and label; rows without a label do not count.
        since: leave out earlier rows, from which one of them may have learnt.
        place: this place.
    """
    if rows is None or not rows.rows:
        return None
    try:
        frame = pd.read_parquet(rows.path)
        frame = frame[frame[spec.label.column].notna() & (frame[spec.source.timestamp] >= utc(since))]
        if len(frame) < spec.gate.min_rows:
            return None
        one, other = (_score(spec, number, frame, place) for number in versions)
    except (WorkflowError, ValueError, KeyError, OSError) as err:
        task_logger(__name__).warning(
            "%s: versions %d and %d cannot be compared: %s", spec.name, *versions, type(err).__name__
        )
        return None
    return None if math.isnan(one) or math.isnan(other) else (one, other)


def _score(spec: ModelSpec, number: int, frame: pd.DataFrame, place: Settings) -> float:
    version = registry.find_version(spec.name, number, settings=place)
    digest = served_digest(spec.name, number, place)
    kept = registry.local_copy(version, settings=place, also=own_types(spec), vouched=digest)
    ours = own_types(kept.spec) if digest == version.digest else ()
    model = load_model(kept.model_path, sha256=kept.manifest.files[MODEL], also={*own_types(spec), *ours})
    said = predict(model, frame[kept.spec.features.all])
    truth = labels_of(frame, spec)
    return score(truth, said.prediction, said.probabilities, said.classes, spec.metric, spec.label.positive)
