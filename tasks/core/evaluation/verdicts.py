"""What the gate concludes, part by part; NaN stands for what could not be told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Outcome = Literal["promote", "ask", "keep", "undecided", "refuse"]
Verdict = Literal["ok", "worse", "undecided"]

NAN = float("nan")
SIMPLER = "a simpler model is better"
"""How a reason begins that names a baseline which is shown to be better; boards look for it."""

ALONE = "one feature alone gives nearly the whole score"
"""How a note on a likely leak begins; boards look for it."""


@dataclass(frozen=True)
class SliceResult:
    """One slice: `ok`, `worse` (shown, and by more than the margin) or `undecided` (cannot be told there)."""

    column: str
    value: str
    rows: int
    difference: float
    low: float
    high: float
    outcome: Verdict


@dataclass(frozen=True)
class BaselineResult:
    """The challenger beside a model that costs nothing: `difference` is challenger - baseline.

    `outcome` is `ok` where the challenger is shown to be better, `worse` where its score is no better, and
    `undecided` between.
    """

    name: Literal["dummy", "linear"]
    score: float
    difference: float
    low: float
    high: float
    outcome: Verdict


@dataclass(frozen=True)
class AnchorResult:
    """The challenger on the frozen trusted rows, beside the version that has been best there.

    `worse` is a loss that is shown and exceeds the tolerance, `undecided` where no score can be told.
    """

    outcome: Verdict
    rows: int
    score: float
    keeper_score: float
    keeper_version: int | None
    difference: float
    low: float
    high: float
    tolerance: float
    fixed_at: datetime | None = None
    sha256: str = ""


@dataclass(frozen=True)
class GuardResult:
    """A limit that speaks against a challenger however good its score: `worse` where it is exceeded."""

    name: Literal["disagreement", "label shift", "fairness", "value"]
    outcome: Verdict
    value: float
    limit: float
    detail: str = ""


@dataclass(frozen=True)
class CalibrationResult:
    """Whether probabilities mean what they say, of both models.

    `error` is the expected calibration error over equally filled bins, `slope` that of a logistic
    recalibration (1 is right, below 1 overconfident). NaN for models without probabilities.
    """

    error: float
    slope: float
    champion_error: float = NAN
    champion_slope: float = NAN


@dataclass(frozen=True)
class ValueResult:
    """What the models' answers are worth per row, and the difference with its interval."""

    currency: str
    per_row: float
    champion_per_row: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """Rows that only one of the two models gets right, and the exact two-sided p-value of their split."""

    only_challenger: int
    only_champion: int
    p_value: float


@dataclass(frozen=True)
class GateDecision:
    """What the gate concluded and the numbers it rests on; NaN where something could not be told.

    `promote`: the challenger becomes champion. `ask`: the rule `rule` would let it, and something else
    speaks against it: a person decides. `keep`: it was judged, and is not good enough. `undecided`: there is
    not enough evidence either way; `needed_rows` is how many it would take. `refuse`: the evidence allows no
    judgement. In all but the first the champion stays. Scores follow the scorer convention; `low` and `high`
    bound the difference challenger - champion (- dummy, when there is no champion). `doubts` are what speaks
    against it besides the score, whatever the outcome. `simpler` names the baselines that are shown to be
    better than the challenger. The interval takes `clusters` of rows into account, None: rows are taken as
    independent; `design_effect` rows then tell as much as one independent row.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    challenger_score: float
    champion_score: float
    difference: float
    low: float
    high: float
    rows: int
    slices: tuple[SliceResult, ...] = ()
    metric: str = ""
    confidence: float = NAN
    baseline_score: float = NAN
    challenger_low: float = NAN
    challenger_high: float = NAN
    method: str = ""
    p_better: float = NAN
    needed_rows: int | None = None
    mcnemar: McNemar | None = None
    baselines: tuple[BaselineResult, ...] = ()
    anchor: AnchorResult | None = None
    guards: tuple[GuardResult, ...] = ()
    calibration: CalibrationResult | None = None
    value: ValueResult | None = None
    doubts: tuple[str, ...] = ()
    rule: str = ""
    design_effect: float = 1.0
    clusters: int | None = None
    simpler: tuple[str, ...] = ()

    def sentence(self) -> str:
        """The outcome and its reasons in one line."""
        words = {
            "promote": "promote",
            "ask": "a person decides",
            "keep": "keep the champion",
            "undecided": "not enough evidence",
            "refuse": "no judgement possible",
        }
        return f"{words[self.outcome]}: {'; '.join(self.reasons)}"


def simpler_words(base: BaselineResult) -> str:
    """Return that a model which costs nothing is better, beginning with words that others look for.

    Example:
        >>> words = simpler_words(BaselineResult("linear", 0.83, -0.03, -0.05, -0.01, "worse"))
        >>> words
        'a simpler model is better: linear scores 0.83, difference -0.03 (-0.05 to -0.01)'
        >>> words.startswith(SIMPLER)
        True
    """
    gap = f"{base.difference:.4g} ({base.low:.4g} to {base.high:.4g})"
    return f"{SIMPLER}: {base.name} scores {base.score:.4g}, difference {gap}"
