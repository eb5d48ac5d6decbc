"""A model's scores of rows, as references and windows are compared by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.errors import DriftError, WorkflowError

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.drift.profile import Scores
    from tasks.core.spec import ModelSpec


def score_rows(model: Any, frame: pd.DataFrame, spec: ModelSpec) -> Scores:  # Any: a fitted pipeline
    """Return what the model says of every row: a number, or one per class.

    Raises:
        DriftError: when it cannot score them.
    """
    from tasks.core.model.pipeline import predict

    try:
        said = predict(model, frame)
    except WorkflowError:
        raise
    except (ValueError, TypeError) as err:
        raise DriftError(
            f"rows the champion cannot score ({type(err).__name__})",
            "rows that keep to the contract",
            "validate the window before checking it",
            model=spec.name,
        ) from err
    return np.asarray(said.prediction if said.probabilities is None else said.probabilities)
