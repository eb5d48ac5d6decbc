"""Estimators inside estimators, from the way a model block writes them."""

from __future__ import annotations

import inspect
from typing import Any

from tasks.core.importing import load_object
from tasks.core.spec_estimator import is_part

_NAMED = ("estimators", "steps", "transformers", "transformer_list")  # lists of (name, estimator)


def parts_made(params: dict[str, Any], *, seed: int) -> dict[str, Any]:  # Any: whatever an estimator takes
    """Return the parameters with every `{class: ..., params: ...}` in them as an unfitted estimator.

    A mapping under `estimators` or `steps` becomes the list of pairs that scikit-learn wants. Estimators
    inside get the seed where they take one and name none.

    Example:
        >>> ridge = {"class": "sklearn.linear_model.Ridge", "params": {"alpha": 2.0}}
        >>> parts_made({"estimators": {"a": ridge}}, seed=0)
        {'estimators': [('a', Ridge(alpha=2.0, random_state=0))]}
    """
    return {name: _made(value, seed, is_named=name in _NAMED) for name, value in params.items()}


def _made(value: Any, seed: int, *, is_named: bool = False) -> Any:  # Any: YAML, and estimators
    if is_part(value):
        return _part(value, seed)
    if isinstance(value, dict):
        made = {name: _made(item, seed) for name, item in value.items()}
        return list(made.items()) if is_named else made
    if isinstance(value, list):
        items = [_made(item, seed) for item in value]
        return [tuple(item) if is_named and isinstance(item, list) else item for item in items]
    return value


def _part(value: dict[str, Any], seed: int) -> Any:  # Any: an estimator or a function
    if "function" in value:
        return load_object(value["function"], field="estimator.params")
    kind = load_object(value["class"], field="estimator.params")
    params = parts_made(value.get("params") or {}, seed=seed)
    takes_seed = "random_state" in inspect.signature(kind).parameters
    return kind(**{**({"random_state": seed} if takes_seed else {}), **params})
