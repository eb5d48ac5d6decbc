"""Which estimators a model block may name, checked when it is read and without importing any of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tasks.core.spec_problems import IMPORT_PATTERN

STORABLE = (
    "scikit-learn's estimators (also Pipeline, VotingClassifier, StackingClassifier, CalibratedClassifierCV, "
    "BaggingClassifier, TransformedTargetRegressor around others) and estimators of your own module whose "
    "fitted attributes are arrays and plain values"
)
# Their fitted models are buffers of a native library, which only a pickle or their own format holds.
_FOREIGN = (
    *("xgboost", "lightgbm", "catboost", "tensorflow", "keras", "torch", "skorch", "ngboost", "autogluon"),
    *("pytorch_tabnet", "statsmodels", "h2o", "flaml", "tabpfn", "scikeras", "interpret"),
)
# They hold scorers, generators or searches, which are not on the list of what a stored model may be made of.
_UNFIT = {
    "TunedThresholdClassifierCV": "FixedThresholdClassifier",
    "GridSearchCV": "estimator.search",
    "RandomizedSearchCV": "estimator.search",
    "HalvingGridSearchCV": "estimator.search",
    "HalvingRandomSearchCV": "estimator.search",
}
_FUNCTIONS = ("numpy.", "sklearn.feature_selection.")


def check_estimator(path: str, params: dict[str, Any]) -> None:  # Any: YAML
    """Raise a ValueError where a fitted estimator of this class, or one inside it, could not be stored.

    Inside `params` an estimator is written as `{class: path, params: {...}}` and a function, for example
    that of TransformedTargetRegressor, as `{function: numpy.log1p}`.

    Example:
        >>> check_estimator("sklearn.ensemble.BaggingClassifier", {"estimator": {"class": "own.Net"}})
        Traceback (most recent call last):
        ValueError: own.Net inside params: only scikit-learn's estimators may stand inside others
    """
    _check_class(path)
    for key, inner in _inside(params):
        if not isinstance(inner, str) or not re.match(IMPORT_PATTERN, inner):
            raise ValueError(f"{key} {str(inner)[:60]!r} inside params is no import path, like package.Name")
        if key == "class":
            _check_class(inner)
            if not inner.startswith("sklearn."):
                raise ValueError(
                    f"{inner} inside params: only scikit-learn's estimators may stand inside others"
                )
        elif not inner.startswith(_FUNCTIONS):
            raise ValueError(
                f"function {inner} inside params: numpy's, such as numpy.log1p, and those of "
                "sklearn.feature_selection can be stored"
            )


def is_part(value: object) -> bool:
    """Return whether a value in `params` stands for an estimator or a function."""
    if not isinstance(value, dict):
        return False
    return ("class" in value and set(value) <= {"class", "params"}) or set(value) == {"function"}


def _check_class(path: str) -> None:
    root, name = re.split(r"[.:]", path)[0], re.split(r"[.:]", path)[-1]
    if root in _FOREIGN:
        raise ValueError(
            f"{path} cannot be stored without a pickle, which nothing here loads; supported are {STORABLE}; "
            "the nearest is sklearn.ensemble.HistGradientBoostingClassifier or …Regressor"
        )
    if root == "sklearn" and name in _UNFIT:
        raise ValueError(f"{path} cannot be stored as it is; use {_UNFIT[name]}")


def _inside(value: object) -> Iterator[tuple[str, object]]:
    """Yield every class and function named inside params, with its kind."""
    if isinstance(value, dict):
        if is_part(value):
            kind = "function" if "function" in value else "class"
            yield kind, value[kind]
            yield from _inside(value.get("params"))
        else:
            for item in value.values():
                yield from _inside(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _inside(item)
