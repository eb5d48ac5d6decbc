"""The few words of a review that are not everyday, and what each score means."""

from __future__ import annotations

_METRICS = {
    "roc_auc": "of two cases, one of each kind, how often the right one got the higher score; "
    "0.5 is guessing, 1 is always",
    "average_precision": "how many of the cases put first were the right ones; 1 is all of them",
    "accuracy": "the share of cases it got right",
    "balanced_accuracy": "the share it got right of each class, averaged over the classes",
    "f1": "how well it both finds the cases looked for and raises no false alarms; 1 is perfect",
    "neg_log_loss": "how surprised one would be by the truth after reading its probabilities; 0 is never",
    "neg_brier_score": "how far its probabilities lie from the truth; 0 is not at all",
    "neg_mean_absolute_error": "by how much it is wrong on average, written with a minus; 0 is never wrong",
    "neg_root_mean_squared_error": "by how much it is wrong, large errors counting more, written with a "
    "minus; 0 is never wrong",
    "neg_mean_squared_error": "its squared errors on average, written with a minus; 0 is never wrong",
    "neg_median_absolute_error": "by how much it is wrong in the middle case, written with a minus",
    "r2": "the share of the differences between cases that it explains; 1 is all, 0 none",
}


def metric_words(metric: str) -> str:
    """Return what the score means, in a sentence.

    Example:
        >>> metric_words("accuracy")
        'How good it is is told by accuracy: the share of cases it got right. Larger is better.'
    """
    meaning = _METRICS.get(
        metric.removesuffix("_weighted").removesuffix("_macro"), "a score that is widely used"
    )
    return f"How good it is is told by {metric}: {meaning}. Larger is better."


def glossary() -> tuple[tuple[str, str], ...]:
    """Return the words of a review with their meaning."""
    return (
        (
            "Promise",
            "the score a version reached on cases it had never seen, before it was allowed to serve.",
        ),
        ("Window", "the stretch of time that one check looks at."),
        ("Beyond chance", "so far off that luck alone would hardly ever do it."),
        ("Label", "the truth about a case, once it is known."),
        ("Drift", "what comes in differs from what the model was trained on; it may or may not do harm."),
        ("Version", "one trained state of the model; exactly one serves at a time."),
        ("Error budget", "the share of windows that may miss the promise before somebody has to act."),
    )
