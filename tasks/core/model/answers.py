"""What a model said of labelled rows, ready to be scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.evaluation.scoring import Scored
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import predict
from tasks.core.spec import ModelSpec


def answers_to(spec: ModelSpec, model: Any, rows: pd.DataFrame) -> Scored:  # Any: a fitted pipeline
    """Return the model's answers beside the labels of the rows, in their order; no rows give empty arrays.

    Raises:
        TrainingError: when a row has no label.
    """
    said = predict(model, rows)
    return Scored(labels_of(rows, spec), said.prediction, said.probabilities, said.classes)


def only(scored: Scored, chosen: NDArray[np.bool_]) -> Scored:
    """Return the answers to the chosen rows."""
    probabilities = None if scored.probabilities is None else scored.probabilities[chosen]
    return Scored(scored.y_true[chosen], scored.prediction[chosen], probabilities, scored.classes)
