"""The records of a verdict on drift: what each measure, each feature and the whole check came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tasks.core.drift.matters.harm import Harm, Impact
from tasks.core.drift.profile import SCORE
from tasks.core.drift.shape import Shape

Outcome = Literal["ok", "warn", "drift", "undecided"]
JOINT = "__rows__"  # stands for whole rows where other results name a feature
RANK = {"ok": 0, "undecided": 1, "warn": 2, "drift": 3}


@dataclass(frozen=True)
class MeasureResult:
    """What one measure says about one feature.

    Attributes:
        measure: Name in the registry.
        feature: Column, `__score__`, or `__rows__` for whole rows.
        value: Effect size in the measure's own unit; None when it cannot be told.
        direction: Which values mean drift.
        threshold: Effect size from which a significant difference is drift.
        p_value: Of the measures that are tests.
        alpha: Level the p-value was held against: the budget's share after Benjamini and Hochberg.
        statistic: The test's own, uncorrected.
        n_reference: Rows behind the reference side.
        n_current: Rows behind the current side.
        outcome: ok, warn, drift or undecided.
        reason: One clause on how the outcome came about.
        dispersion: By how much more such differences vary than between independent rows.
    """

    measure: str
    feature: str
    value: float | None
    direction: Literal["higher"]
    threshold: float
    p_value: float | None
    alpha: float | None
    statistic: float | None
    n_reference: int
    n_current: int
    outcome: Outcome
    reason: str
    dispersion: float = 1.0


@dataclass(frozen=True)
class FeatureVerdict:
    """What all measures together say about one feature.

    Attributes:
        feature: Column, `__score__`, or `__rows__` for whole rows.
        outcome: ok, warn, drift or undecided.
        reason: One clause.
        measures: Each measure's result.
        needed: Values of a window from which a change that matters is found in 8 of 10 cases; None where no
            number of them would do, or nothing could be judged.
        detectable: The smallest change, in units of PSI, that is found in 8 of 10 windows like this one.
        resolvable: Whether the history there is can tell from chance a complete change, and one as large as
            was found if that matters.
        needed_blocks: Windows of history from which it could; None where it can, or no history would do.
    """

    feature: str
    outcome: Outcome
    reason: str
    measures: tuple[MeasureResult, ...]
    needed: int | None = None
    detectable: float | None = None
    resolvable: bool = True
    needed_blocks: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Our p-value of one feature beside that of another library; they agree when both reject or neither."""

    feature: str
    measure: str
    ours: float | None
    theirs: float | None
    agree: bool


@dataclass(frozen=True)
class DriftVerdict:
    """Whether a window drifted from the champion's reference.

    `drifted` names features only; the model's own scores are told apart in `score_drifted`, and
    `score_outcome` says whether they could be judged at all. `features` holds both, and whole rows where they
    were looked at; `shapes` what moved most.

    Attributes:
        level: Of Benjamini and Hochberg's procedure, at which the whole check alarms within its budget.
        needed: Most values that any feature needed to be judged.
        against: What the window was compared with, in plain words.
        against_kind: champion, calendar or rolling.
        calibration: How the level came about, in one sentence.
        harm: What the drift is likely to cost.
        impacts: Features that moved, by how much they may matter.
        compared: Our tests beside another library's.
        strength: Evidence of drift that matters, where 1 is just enough for `drift` (`strength_of`); None
            where no test could be made.
        inputs_moved: Whether any input drifted or changed: False only where all that can be judged stayed;
            None where that cannot be told.
        scores_moved: The same of the model's scores.
    """

    outcome: Outcome
    reason: str
    features: tuple[FeatureVerdict, ...]
    drifted: tuple[str, ...]
    score_drifted: bool
    rows: int
    false_alarms: float
    reference_rows: int = 0
    detector: str = "tabular"
    shapes: tuple[Shape, ...] = ()
    level: float | None = None
    needed: int | None = None
    against: str = "the champion's reference rows"
    against_kind: str = "champion"
    calibration: str = ""
    harm: Harm | None = None
    impacts: tuple[Impact, ...] = ()
    compared: tuple[Comparison, ...] = ()
    strength: float | None = None
    inputs_moved: bool | None = None
    scores_moved: bool | None = None

    @property
    def score_outcome(self) -> Outcome:
        """The verdict on the scores alone; undecided when the window was not scored."""
        return worst([f.outcome for f in self.features if f.feature.startswith(SCORE)])

    def to_dict(self) -> dict[str, Any]:  # Any: JSON values
        """Return the verdict as values that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True)
class OuterTest:
    """A test of one feature that was made elsewhere and replaces our own of that name."""

    measure: str
    statistic: float
    p_value: float


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the loudest of the outcomes; undecided where there are none."""
    return max(outcomes, key=lambda outcome: RANK[outcome], default="undecided")
