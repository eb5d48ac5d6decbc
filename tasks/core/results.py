"""What training and evaluation hand on: references to files, and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.model.bundle import ChampionRef
from tasks.core.policy.alerting import Look
from tasks.core.window import Window


@dataclass(frozen=True)
class AnchorRef:
    """The frozen trusted rows that count, in a local file of checked digest, and who has done best there.

    `keeper` is the version to be held against: the best on these rows that ever served, else the champion;
    None where nothing has served yet. `fixed_by_version` is the version whose unseen rows they were.
    `trouble` says why the rows or the keeper cannot be had; `path` or `keeper` is missing then, and the gate
    refuses.
    """

    path: str
    sha256: str
    rows: int
    revision: int
    fixed_at: datetime
    fixed_by_version: int
    keeper: ChampionRef | None = None
    keeper_version: int | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Refit:
    """What became of fitting a challenger that passed the gate on all rows.

    With `is_used` the refitted model is the version and `judged_…` describe the one that was evaluated, which
    had learnt `judged_rows` rows older than `judged_cut`; else the judged one is the version and `why` says
    what spoke against the other. `disagreement` is how far the two differ on the holdout: the share of rows
    with different labels, or the root mean square of the difference. `reserved_rows` of the holdout newer
    than `reserved_since` were left out to become the anchor.
    """

    is_used: bool
    judged_sha256: str
    judged_rows: int
    judged_cut: datetime
    judged_keys_sha256: str
    why: str = ""
    disagreement: float | None = None
    reserved_rows: int = 0
    reserved_since: datetime | None = None


@dataclass(frozen=True)
class Trained:
    """A fitted challenger on disk, and the rows kept unseen beside it.

    `cut` divides the two: every training row is older. `train_window` is all rows that may be learnt from,
    holdout included; `window_rows` counts its labelled rows in the last `window.training`.
    `params` are the estimator's arguments as used, JSON-able. `guess` is what a model without features would
    say, learnt from the training labels: each class with its share, or mean and median. `label_quantiles` are
    evenly spaced quantiles of a regression's training labels, lowest to highest. `anchored_rows` were left
    out because they stand in the anchor `anchor_sha256`. `linear_path` holds a linear model of the same rows;
    None where there is none to compare with.

    `rows_rule` is how the rows were chosen and `rows_note` why it is another rule than the spec's;
    `set_aside` says which classes of too few rows were left out so that the estimator could be fitted;
    `half_life_days` is that of fading weights, and `effective_rows` how many rows of equal weight inform as
    much. After the gate `refit` says whether this is the model that was judged: a refitted one has learnt the
    rows in `holdout_path` too, and its `cut` is the end of the window.
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
    anchored_rows: int = 0
    anchor_sha256: str = ""
    linear_path: str | None = None
    linear_sha256: str = ""
    label_quantiles: tuple[float, ...] = ()
    rows_rule: str = ""
    rows_note: str = ""
    set_aside: str = ""
    half_life_days: float | None = None
    effective_rows: float = 0.0
    window_rows: int = 0
    refit: Refit | None = None


@dataclass(frozen=True)
class Evaluated:
    """The gate's decision and the scores behind it, in the scorer convention (larger is better).

    `metrics` and `champion_metrics` stand on the compared rows (`decision.rows`): the unseen rows newer than
    what the champion learnt. `promise` and its interval stand on all `holdout_rows`, which the challenger
    never saw: it is what realised performance is later held against. `baseline` is the score of a guess.
    `anchor_score` is the challenger's score on the anchor `anchor_sha256`; None where there is none. `leak`
    names a feature that alone gives nearly the whole score; empty where there is none.
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
    anchor_score: float | None = None
    anchor_sha256: str = ""
    leak: str = ""

    def looks(self) -> tuple[Look, ...]:
        """Return what this says of the incident `leak`."""
        return (Look("leak", "info", bool(self.leak), self.leak),)
