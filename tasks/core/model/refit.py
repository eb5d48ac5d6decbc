"""Whether a model fitted on all rows may stand in for the one that was judged on rows it had not learnt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.evaluation.scoring import Scored, all_labels, encode
from tasks.core.model.guess import score_of
from tasks.core.spec import ModelSpec

SLACK = (
    0.05  # our choice: of the rows, or of the labels' standard deviation, for a judged model without errors
)


@dataclass(frozen=True)
class RefitCheck:
    """How far the two models differ on the holdout, and what speaks against the refitted one ("": nothing).

    `disagreement` is the share of rows with different labels, or for numbers the root mean square of the
    difference; None where an answer is not finite.
    """

    disagreement: float | None
    objection: str = ""


def check_refit(spec: ModelSpec, judged: Scored, refitted: Scored, promise_low: float) -> RefitCheck:
    """Return what the holdout says of the refitted model, which has learnt these rows.

    A model that is no worse on rows it has learnt than the judged one is on rows it has not, cannot differ
    from it by more than twice the judged one's error: both errors add up at most, for shares of rows as for
    root mean squares (the triangle inequality). It must also score at least the low end of the promise.

    Args:
        spec: Task and metric.
        judged: Answers of the model that was evaluated, to the holdout it had not learnt.
        refitted: Answers of the other to the same rows in the same order.
        promise_low: Low end of the judged model's score there; NaN where it is not known.
    """
    if not _is_finite(refitted):
        return RefitCheck(None, "its answers are not finite")
    disagreement, error, slack = _distances(spec, judged, refitted)
    bound = 2 * error + slack
    if disagreement > bound:
        return RefitCheck(
            disagreement, f"it differs by {disagreement:.3g} from the judged model, bound {bound:.3g}"
        )
    score = score_of(spec, refitted)
    if np.isfinite(promise_low) and not score >= promise_low:
        why = f"its {spec.metric} is {score:.4g} on rows it has learnt, below the promised {promise_low:.4g}"
        return RefitCheck(disagreement, why)
    return RefitCheck(disagreement)


def _is_finite(scored: Scored) -> bool:
    parts = [scored.prediction, *([scored.probabilities] if scored.probabilities is not None else [])]
    return all(np.isfinite(part).all() for part in parts if np.issubdtype(part.dtype, np.number))


def _distances(spec: ModelSpec, judged: Scored, refitted: Scored) -> tuple[float, float, float]:
    """Return how far the models are apart, how far the judged one is from the truth, and the slack."""
    if spec.task == "regression":
        truth = np.asarray(judged.y_true, dtype=np.float64)
        one, other = (np.asarray(scored.prediction, dtype=np.float64) for scored in (judged, refitted))
        return _rms(one - other), _rms(one - truth), SLACK * float(np.std(truth))
    labels = all_labels([judged, refitted])
    first, second = encode(judged.prediction, labels), encode(refitted.prediction, labels)
    error = float(np.mean(first != encode(judged.y_true, labels)))
    return float(np.mean(first != second)), error, SLACK


def _rms(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
