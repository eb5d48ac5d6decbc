"""Metrics by their scikit-learn scorer names: direction, fit to the task, value on rows."""

from __future__ import annotations

from functools import cache

_NEEDS_SINGLE_LABEL_TARGETS = ("samples",)


@cache
def _scorer_names() -> frozenset[str]:
    from sklearn.metrics import get_scorer_names

    return frozenset(get_scorer_names())


def check_metric(metric: str, task: str) -> str:
    return metric
