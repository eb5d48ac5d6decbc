"""What a margin of the spec is worth in a metric: an error has the unit of its label, a score has none."""

from __future__ import annotations

from tasks.core.evaluation.regression_scoring import REGRESSION


def is_error(metric: str) -> bool:
    """Return whether the metric is an error of a regression, which may be of any size.

    Log loss and the Brier score are errors of probabilities: they have no unit, and their margin is taken as
    it is.

    Example:
        >>> is_error("neg_mean_absolute_error"), is_error("r2"), is_error("neg_log_loss")
        (True, False, False)
    """
    return metric in REGRESSION and metric.startswith("neg_")


def margin_of(margin: float, metric: str, opponent: float) -> float:
    """Return the margin in the metric: of a regression's error, this share of the opponent's error.

    Example:
        >>> margin_of(0.01, "neg_mean_absolute_error", -250.0), margin_of(0.01, "r2", 0.8)
        (2.5, 0.01)
    """
    return margin * abs(opponent) if is_error(metric) else margin


def share_words(margin: float, metric: str, whose: str) -> str:
    """Return that the margin is a share, and of whose error; empty where it is none.

    Example:
        >>> share_words(0.01, "neg_mean_absolute_error", "the champion's")
        "1% of the champion's error"
    """
    return f"{100 * margin:.4g}% of {whose} error" if is_error(metric) else ""
