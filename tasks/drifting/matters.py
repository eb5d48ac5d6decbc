"""Whether drift matters: what the champion's score should come to on the window, and which features weigh."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasks.core.drift.profile import SCORE

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.drift.profile import Reference
    from tasks.core.drift.verdict import DriftVerdict
    from tasks.core.spec import ModelSpec

MOST_ROWS = 20_000  # of a window that an estimate is made of; more rows would not move it beyond its interval
_PUT_BACK = 10  # features whose effect on the answers is measured: the ones that weigh most


def with_consequences(
    verdict: DriftVerdict,
    reference: Reference,
    spec: ModelSpec,
    *,
    model: Any,  # Any: a fitted pipeline
    rows: pd.DataFrame,
    key: bytes | None = None,
) -> DriftVerdict:
    """Return the verdict with the estimated harm and the features ranked by what they do to the model.

    A reference of an earlier release, or one whose holdout was too small, leaves the harm unknown, with the
    reason in it; rows that lack a column of the model leave it out, since no answer of the model is known.

    Args:
        verdict: On the window.
        reference: The champion's, with its insight.
        spec: The model.
        model: The champion.
        rows: Some rows of the window, with all features.
        key: Under which sensitive categories are hashed.
    """
    from tasks.core.drift.counting.sample import sample_codes
    from tasks.core.drift.matters.effect import effects_of
    from tasks.core.drift.matters.estimate import estimate_performance
    from tasks.core.drift.matters.harm import judge_harm, rank_impacts
    from tasks.core.model.pipeline import predict

    insight, seed = reference.insight, spec.estimator.seed
    if not set(spec.features.all) <= set(rows.columns):
        return replace(verdict, impacts=rank_impacts(verdict.features, insight))
    inputs = [cell for cell in reference.bins if not cell.name.startswith(SCORE)]
    codes = sample_codes(rows, inputs, key=key)
    estimate = estimate_performance(predict(model, rows), insight, spec, sample=codes, seed=seed)
    moved = [one.feature for one in rank_impacts(verdict.features, insight)][:_PUT_BACK]
    effects = effects_of(model, rows, reference, moved, spec, key=key) if moved else {}
    return replace(
        verdict,
        harm=judge_harm(estimate, insight, spec),
        impacts=rank_impacts(verdict.features, insight, effects=effects),
    )
