"""What training and evaluation hand on: references to files, and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.window import Window


@dataclass(frozen=True)
class Trained:
    """A fitted challenger on disk, and the rows kept unseen beside it.

    `cut` divides the two: every training row is older. `train_window` is the whole window, holdout included.
    `params` are the estimator's arguments as used, JSON-able. `guess` is what a model without features would
    say, learnt from the training labels: each class with its share, or mean and median.
    """

    model_path: str
    train_rows: int
    holdout_path: str
    holdout_rows: int
    cut: datetime
    train_window: Window
    params: Mapping[str, Any]  # Any: whatever the estimator takes
    seconds: float
    train_keys_sha256: str
    guess: tuple[tuple[Any, float], ...]  # Any: labels may be of any type
    model_sha256: str = ""
    unlabelled_rows: int = 0
    dropped_for_group: int = 0


@dataclass(frozen=True)
class Evaluated:
    """The gate's decision and the scores behind it, in the scorer convention (larger is better).

    `metrics` and `champion_metrics` stand on the compared rows (`decision.rows`): the unseen rows newer than
    what the champion learnt. `promise` and its interval stand on all `holdout_rows`, which the challenger
    never saw: it is what realised performance is later held against. `baseline` is the score of a guess.
    """

    decision: GateDecision
    metrics: Mapping[str, float]
    champion_metrics: Mapping[str, float]
    baseline: float
    holdout_rows: int
    promise: float
    promise_low: float
    promise_high: float
    champion_version: int | None = None
