"""Features that alone give a model (nearly) its whole score: often the answer in another form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.evaluation.metrics import greater_is_better
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.verdicts import ALONE
from tasks.core.model.answers import answers_to, only
from tasks.core.model.guess import score_of
from tasks.core.spec import ModelSpec

NEARLY_ALL = 0.95
"""Share of the gain over a guess that one feature gives by itself; our choice."""
STRONG = 0.8
"""Share of the way from a guess to a perfect score that it must give; our choice, an AUC of 0.9: one honest
feature may well be all that a weak model has."""
_CELLS = 200_000
_FEWEST_ROWS, _MOST_ROWS = 200, 2_000


@dataclass(frozen=True)
class Alone:
    """A feature, and the share of the model's gain over a guess that it gives by itself."""

    feature: str
    share: float

    def sentence(self) -> str:
        """Return the finding with what to do, beginning with words that boards look for.

        Example:
            >>> Alone("refund", 0.984).sentence()[:70]
            "one feature alone gives nearly the whole score: 'refund' gives 98 % of"
        """
        return (
            f"{ALONE}: {self.feature!r} gives {self.share:.0%}".replace("%", " %")
            + " of the gain over a guess; if it is known only after the outcome, take it out of features"
        )


def alone_in(
    spec: ModelSpec,
    model: Any,  # Any: a fitted pipeline
    rows: pd.DataFrame,
    whole: Scored,
    baseline: float,
) -> Alone | None:
    """Return the feature that alone gives nearly the whole score; None where there is none, or one feature.

    The model answers the rows again with all other features taken from other rows, the same one for all of
    them, so that nothing but the feature itself says anything about the label. Two features that each hold
    the answer hide each other.

    Args:
        spec: The model.
        model: The challenger.
        rows: Rows it has not learnt from.
        whole: Its answers to them.
        baseline: The score of a guess without features.
    """
    names = spec.features.all
    if len(names) < 2 or len(rows) < _FEWEST_ROWS:
        return None
    rng = np.random.default_rng(spec.estimator.seed)
    most = min(_MOST_ROWS, max(_FEWEST_ROWS, _CELLS // len(names)))
    chosen = np.sort(rng.permutation(len(rows))[:most])
    mask = np.zeros(len(rows), dtype=bool)
    mask[chosen] = True
    some, gain = rows[mask].reset_index(drop=True), score_of(spec, only(whole, mask)) - baseline
    if not (np.isfinite(gain) and gain > 0):
        return None
    scrambled = some.iloc[rng.permutation(len(some))].reset_index(drop=True)
    scrambled[spec.label.column] = some[spec.label.column]
    perfect = 1.0 if greater_is_better(spec.metric) else 0.0
    if not gain >= STRONG * (perfect - baseline):
        return None
    found = []
    for name in names:
        score = score_of(spec, answers_to(spec, model, scrambled.assign(**{name: some[name]})))
        found.append(Alone(name, float((score - baseline) / gain)))
    best = max(found, key=lambda one: one.share if np.isfinite(one.share) else -np.inf)
    is_strong = best.share * gain >= STRONG * (perfect - baseline)
    return best if best.share >= NEARLY_ALL and is_strong else None
