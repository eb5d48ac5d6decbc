"""How strong a check's evidence of drift is, as one number that adds up over windows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tasks.core.drift.chance.benjamini_hochberg import adjusted
from tasks.core.drift.measures.domain_auc import DOMAIN_AUC
from tasks.core.drift.measures.registry import MEASURES
from tasks.core.drift.readings import ASPECTS
from tasks.core.drift.results import JOINT, FeatureVerdict, MeasureResult

_WARN = {measure.name: measure.warn for measure in (*MEASURES, DOMAIN_AUC)}
MOST = 100.0  # a p-value that is 0 in floating point is not infinitely strong


def strength_of(features: Sequence[FeatureVerdict], level: float, budget: float) -> float | None:
    """Return the evidence of drift that matters, where 1 is just enough for `drift`; None without any test.

    Of each aspect of each feature it is the smaller of two ratios to what `drift` takes: the logarithm of its
    smallest p-value to that of the budget, and its largest effect to that effect's limit. The p-value is
    Benjamini and Hochberg's, in proportion to the level at which the check keeps its budget, so that it is at
    most the budget where a test rejects. The check has the strength of its strongest aspect.

    Args:
        features: As judged.
        level: At which the whole check alarms within its budget.
        budget: Share of undrifted checks that may alarm.
    """
    results = [result for feature in features for result in feature.measures]
    tests = [result for result in results if result.p_value is not None and not math.isnan(result.p_value)]
    if not tests:
        return None
    p_values = adjusted(np.array([[test.p_value for test in tests]], dtype=np.float64))[0]
    smallest: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for test, p_value in zip(tests, p_values, strict=True):
        smallest[_aspect(test)] = min(smallest[_aspect(test)], float(p_value) * budget / level)
    return max(
        min(_rarity(smallest[_aspect(result)], budget), _size(result))
        for result in results
        if _aspect(result) in smallest
    )


def _aspect(result: MeasureResult) -> tuple[str, str]:
    return result.feature, "joint" if result.feature == JOINT else ASPECTS[result.measure]


def _rarity(p_value: float, budget: float) -> float:
    return min(math.log(max(p_value, 1e-300)) / math.log(budget), MOST) if p_value < 1 else 0.0


def _size(result: MeasureResult) -> float:
    """Return the effect over its limit, 0 where it is too small to matter even as a warning.

    An area under the curve counts from that of chance, a half.
    """
    least = 0.5 if result.measure == DOMAIN_AUC.name else 0.0
    if result.value is None or result.value < _WARN[result.measure]:
        return 0.0
    return min(max((result.value - least) / (result.threshold - least), 0.0), MOST)
