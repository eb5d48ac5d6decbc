"""Why a metric has no value on some rows, in words that name the cause and how many rows show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from tasks.core.evaluation.metrics import needs_probabilities
from tasks.core.evaluation.regression_scoring import REGRESSION
from tasks.core.evaluation.scoring import Scored

_LOGARITHMIC = ("neg_mean_squared_log_error", "neg_root_mean_squared_log_error")
_OF_SPREAD = ("r2", "explained_variance", "d2_absolute_error_score")
# Of a deviance: whether a label of 0 is allowed. A prediction of 0 never is.
_DEVIANCES = {"neg_mean_poisson_deviance": True, "neg_mean_gamma_deviance": False}


def why_undefined(metric: str, scored: Mapping[str, Scored]) -> str:
    """Return why the metric has no value for one of these, by whose answers they are; empty: not known.

    Example:
        >>> fitted = Scored(np.array([1.0, 2.0]), np.array([-1.5, 2.0]))
        >>> why_undefined("neg_mean_squared_log_error", {"challenger": fitted})
        '1 of 2 predictions of the challenger is negative (-1 or less), where a logarithm has no value'
    """
    causes = [cause for who, one in scored.items() for cause in _causes(metric, who, one)]
    return "; ".join(dict.fromkeys(causes))


def _causes(metric: str, who: str, scored: Scored) -> Iterator[str]:
    rows = len(scored.y_true)
    if metric in REGRESSION:
        real, said = (np.asarray(values, dtype=np.float64) for values in (scored.y_true, scored.prediction))
        yield from _of_numbers(metric, real, "labels", rows)
        yield from _of_numbers(metric, said, f"predictions of the {who}", rows)
        if metric in _OF_SPREAD and rows and np.ptp(real) == 0:
            yield f"all {rows} labels are the same number, so there is no spread to explain"
        return
    classes = pd.unique(pd.Series(scored.y_true))
    if len(classes) == 1:
        yield f"all {rows} rows are of one class"
    chances = scored.probabilities
    if needs_probabilities(metric) and chances is not None and not np.isfinite(chances).all():
        yield f"{int((~np.isfinite(chances)).any(axis=1).sum())} rows have no probability from the {who}"


def _of_numbers(
    metric: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], what: str, rows: int
) -> Iterator[str]:
    wrong, cause = ~np.isfinite(values), "no finite number"
    if not wrong.any() and metric in _LOGARITHMIC:
        wrong, cause = values <= -1, "negative (-1 or less), where a logarithm has no value"
    elif not wrong.any() and metric in _DEVIANCES:
        may_be_zero = _DEVIANCES[metric] and what == "labels"
        wrong = values < 0 if may_be_zero else values <= 0
        cause = "negative" if may_be_zero else "zero or negative"
        cause = f"{cause}, where this deviance has no value"
    if count := int(wrong.sum()):
        yield f"{count} of {rows} {what} {'is' if count == 1 else 'are'} {cause}"
