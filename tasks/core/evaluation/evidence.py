"""What the gate looks at: two models' answers to the same rows, and what is known about those rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from numpy.typing import NDArray

from tasks.core.evaluation.bootstrap import RESAMPLES
from tasks.core.evaluation.scoring import Scored

TrainLabels = NDArray[Any] | Mapping[Any, float]  # Any: labels may be of any type


@dataclass(frozen=True)
class PairedScores:
    """One model's answers on the compared rows, with the keys that prove which rows they were."""

    keys: NDArray[Any]  # Any: keys may be of any type
    scored: Scored
    model_id: str = ""


@dataclass(frozen=True)
class AnchorEvidence:
    """The answers to the frozen trusted rows.

    `challenger` is None only with `trouble`: why the rows could not be read or scored, which refuses.
    `keeper` is the version that has been best there, None when there is none yet. `rows_shared` counts rows
    that the challenger has learnt from; more than none refuses.
    """

    challenger: Scored | None = None
    keeper: Scored | None = None
    keeper_version: int | None = None
    fixed_at: datetime | None = None
    sha256: str = ""
    trouble: str = ""
    rows_shared: int = 0
    weights: NDArray[Any] | None = None


@dataclass(frozen=True)
class Worth:
    """What each compared row's answer is worth, by model; `champion` is None where there is no champion.

    Shape: one number per compared row, in the unit of `gate.value.currency`; larger is better.
    """

    challenger: NDArray[Any]
    champion: NDArray[Any] | None = None


@dataclass(frozen=True)
class GateEvidence:
    """Everything the gate looks at; every array has one entry per compared row, in the order of the keys.

    `champion` is None only when the registry said that there is none; `baseline` is a guess that knows the
    training labels and no feature, `linear` a linear model of the same features. `first_row` is the oldest
    moment of the compared rows, `champion_train_end` the moment up to which the champion has learnt,
    `overlap` the number of compared rows whose key it was trained on. `slices` gives, by column, each row's
    group, and `groups` the same for fairness. `train_labels` are the labels the challenger has learnt from:
    values, or the share of each class. `clusters` are the rows' clusters (`clusters.cluster_codes`); None
    takes the rows as independent. `notes` are facts to be told beside the reasons, which decide nothing.
    `trouble` says what went wrong before, such as a champion that cannot
    score the rows; it refuses.
    """

    metric: str
    challenger: PairedScores
    champion: PairedScores | None
    baseline: Scored | None = None
    positive: Any = None  # Any: labels may be of any type
    first_row: datetime | None = None
    champion_train_end: datetime | None = None
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    seed: int = 0
    resamples: int = RESAMPLES
    weights: NDArray[Any] | None = None
    linear: Scored | None = None
    anchor: AnchorEvidence | None = None
    train_labels: TrainLabels | None = None
    groups: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    worth: Worth | None = None
    overlap: int = 0
    trouble: str = ""
    clusters: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()
