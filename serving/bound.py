"""A fitted pipeline of ours, bound to plain rows: numbers and codes straight to the estimator, no frame.

It reads what scikit-learn learnt, some of it from private attributes, so nobody may trust it unseen:
`serving.scoring` compares it with the pipeline itself before it answers anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.ensemble._hist_gradient_boosting.predictor import _predict_from_raw_data
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tasks.core.model.columns import category_text, in_words
from tasks.core.model.pipeline import Categories, Numbers, Predictions

Row = Mapping[str, Any]  # Any: checked values
Matrix = NDArray[np.float64]
MOST_LEVELS = 50_000
"""Categories of one column that are worth a table; our choice, it is built in a second or two."""

_FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
_BY_THE_ROW = (
    *(DecisionTreeClassifier, DecisionTreeRegressor, DummyClassifier, DummyRegressor),
    *_FORESTS,
    *(GradientBoostingClassifier, GradientBoostingRegressor),
    *(HistGradientBoostingClassifier, HistGradientBoostingRegressor),
)
"""What gives a row the same bits in any company; a matrix product does not: BLAS adds in blocks of rows."""
_BY_ARGMAX = (
    *(DecisionTreeClassifier, RandomForestClassifier, ExtraTreesClassifier),
    *(HistGradientBoostingClassifier, LogisticRegression),
)
"""Whose `predict` is the class of the highest probability, but perhaps where two are equally high."""


@dataclass(frozen=True)
class Bound:
    """What stands for a pipeline: rows to a matrix, and the matrix to what the model says."""

    matrix: Callable[[Sequence[Row]], Matrix]
    said: Callable[[Matrix], Predictions]
    is_rowwise: bool


def bind(model: Any) -> Bound | None:  # Any: a fitted pipeline
    """Return the pipeline bound to rows, or None for one that is not built as ours are."""
    if type(model) is not Pipeline or [name for name, _ in model.steps] != ["columns", "estimator"]:
        return None
    columns, estimator = model.named_steps["columns"], model.named_steps["estimator"]
    if type(columns) is not ColumnTransformer:
        return None
    parts = {name: (step, list(names)) for name, step, names in columns.transformers_ if step != "drop"}
    if not parts or not set(parts) <= {"numeric", "categorical"}:
        return None
    numeric, categorical = parts.get("numeric"), parts.get("categorical")
    numbers = _numbers(*numeric) if numeric else _Numbers((), (), None)
    levels = _levels(*categorical) if categorical else ()
    if numbers is None or levels is None:
        return None
    is_rowwise = type(estimator) in _BY_THE_ROW
    if type(estimator) in (HistGradientBoostingClassifier, HistGradientBoostingRegressor):
        found = _native(estimator, numbers, levels)
        if found is not None:
            return Bound(*found, is_rowwise)
    asked = _forest(estimator) if type(estimator) in _FORESTS else _public(estimator)
    return Bound(_joined(numbers, levels), asked, is_rowwise)


@dataclass(frozen=True)
class _Numbers:
    """Numeric columns: their names, which never had a value, and what is done to them afterwards."""

    names: tuple[str, ...]
    empty: tuple[int, ...]
    after: Callable[[Matrix], Matrix] | None

    def of(self, rows: Sequence[Row]) -> Matrix:
        """Return the numbers as the pipeline's steps make them."""
        found = np.array([[row[name] for name in self.names] for row in rows], dtype=np.float64)
        for index in self.empty:
            found[:, index] = 0.0
        return self.after(found) if self.after else found


@dataclass(frozen=True)
class _Levels:
    """One categorical column: each text's numbers, those of a missing value and those of an unseen one."""

    name: str
    words: str
    table: Mapping[str, Any]  # Any: a number, or an array of them; as the two below
    missing: Any
    unseen: Any

    def of(self, value: Any) -> Any:  # Any: a checked value
        """Return the numbers of a value."""
        if type(value) is str:
            found = self.table.get(value)
            if found is not None:
                return found
        elif value is None or value != value:  # noqa: PLR0124 - NaN differs from itself
            return self.missing
        text = category_text(value)
        return self.table.get(in_words(text, self.words), self.unseen)


def _numbers(step: Any, names: list[str]) -> _Numbers | None:  # Any: a fitted transformer
    steps = [one for _, one in step.steps] if type(step) is Pipeline else [step]
    if type(steps[0]) is not Numbers or len(steps) > 3:
        return None
    empty = tuple(index for index, none in enumerate(steps[0].empty_) if none)
    kinds = [type(one).__name__ for one in steps[1:]]
    if kinds not in ([], ["SimpleImputer"], ["SimpleImputer", "StandardScaler"]):
        return None
    return _Numbers(tuple(names), empty, _imputed(*steps[1:]) if kinds else None)


def _imputed(impute: Any, scale: Any = None) -> Callable[[Matrix], Matrix]:  # Any: fitted transformers
    fill = impute.statistics_
    flags = impute.indicator_.features_ if impute.indicator_ is not None else np.empty(0, dtype=int)

    def after(found: Matrix) -> Matrix:
        gaps = np.isnan(found)
        filled = np.concatenate([np.where(gaps, fill, found), gaps[:, flags]], axis=1)
        if scale is not None:
            filled -= scale.mean_
            filled /= scale.scale_
        return filled

    return after


def _levels(step: Any, names: list[str]) -> tuple[_Levels, ...] | None:  # Any: a fitted transformer
    kinds = [type(one).__name__ for _, one in step.steps] if type(step) is Pipeline else []
    if kinds not in (["Categories", "OrdinalEncoder"], ["Categories", "OneHotEncoder"]):
        return None
    text, encoder = (one for _, one in step.steps)
    if type(text) is not Categories or any(len(known) > MOST_LEVELS for known in encoder.categories_):
        return None
    widths = getattr(encoder, "_n_features_outs", None) or [1] * len(names)
    edges = np.concatenate([[0], np.cumsum(widths)])
    is_number = kinds[1] == "OrdinalEncoder"
    return tuple(
        _table(encoder, index, names[index], text.words_[index], slice(*edges[index : index + 2]), is_number)
        for index in range(len(names))
    )


def _table(encoder: Any, index: int, name: str, words: str, place: slice, is_number: bool) -> _Levels:
    known = [one for one in encoder.categories_[index] if isinstance(one, str)]
    unseen = "\0unseen"
    asked = np.empty((len(known) + 2, len(encoder.categories_)), dtype=object)
    asked[:] = np.nan
    asked[:, index] = [*known, np.nan, unseen]
    given = np.asarray(encoder.transform(asked), dtype=np.float64)[:, place]
    numbers = given[:, 0].tolist() if is_number else list(given)
    return _Levels(name, words, dict(zip(known, numbers, strict=False)), numbers[-2], numbers[-1])


def _joined(numbers: _Numbers, levels: Sequence[_Levels]) -> Callable[[Sequence[Row]], Matrix]:
    """Return what gives the matrix that the estimator gets in the pipeline."""

    def matrix(rows: Sequence[Row]) -> Matrix:
        parts = [numbers.of(rows)] if numbers.names else []
        for one in levels:
            found = np.array([one.of(row[one.name]) for row in rows], dtype=np.float64)
            parts.append(found.reshape(len(rows), -1))
        return np.concatenate(parts, axis=1)

    return matrix


_Found = tuple[Callable[[Sequence[Row]], Matrix], Callable[[Matrix], Predictions]]


def _native(estimator: Any, numbers: _Numbers, levels: Sequence[_Levels]) -> _Found | None:
    """Return the histograms' own way: their codes first, their trees without the checks before each call."""
    first = len(numbers.names)
    wanted = [False] * first + [True] * len(levels)
    given = estimator.is_categorical_
    is_plain = estimator._preprocessor is None
    if numbers.after or any(isinstance(one.missing, np.ndarray) for one in levels):
        return None
    if (list(given) if given is not None else [False] * len(wanted)) != wanted or is_plain != (not levels):
        return None
    coded = tuple(_recoded(estimator, one, first + at, at, len(wanted)) for at, one in enumerate(levels))

    def matrix(rows: Sequence[Row]) -> Matrix:
        names, empty = numbers.names, numbers.empty
        found = np.array(
            [[*(one.of(row[one.name]) for one in coded), *(row[name] for name in names)] for row in rows],
            dtype=np.float64,
        )
        for index in empty:
            found[:, len(coded) + index] = 0.0
        return found

    return matrix, _trees(estimator)


def _recoded(estimator: Any, one: _Levels, column: int, place: int, width: int) -> _Levels:
    """Return the column with the codes that the trees split on; they stand before the numbers there."""
    asked = np.full((len(one.table) + 2, width), np.nan)
    asked[:, column] = [*one.table.values(), one.missing, one.unseen]
    codes = np.asarray(estimator._preprocess_X(asked, reset=False), dtype=np.float64)[:, place].tolist()
    table = dict(zip(one.table, codes, strict=False))
    return _Levels(one.name, one.words, table, codes[-2], codes[-1])


def _trees(estimator: Any) -> Callable[[Matrix], Predictions]:
    bitsets, places = estimator._bin_mapper.make_known_categories_bitsets()
    trees = [
        [(tree.nodes, tree.raw_left_cat_bitsets) for tree in together] for together in estimator._predictors
    ]
    base, loss, wide = estimator._baseline_prediction, estimator._loss, estimator.n_trees_per_iteration_
    classes = estimator.classes_ if isinstance(estimator, HistGradientBoostingClassifier) else None
    names = None if classes is None else tuple(classes.tolist())

    def said(matrix: Matrix) -> Predictions:
        raw = np.zeros((len(matrix), wide), dtype=base.dtype, order="F")
        raw += base
        columns = [raw[:, index] for index in range(wide)]
        out = np.empty(len(matrix), dtype=np.float64)
        for together in trees:
            for column, (nodes, splits) in zip(columns, together, strict=True):
                _predict_from_raw_data(nodes, matrix, splits, bitsets, places, 1, out)
                np.add(column, out, out=column)
        if classes is None:
            return Predictions(np.asarray(loss.link.inverse(raw.ravel())), None, None)
        chosen = (raw.ravel() > 0).astype(int) if wide == 1 else raw.argmax(axis=1)
        return Predictions(classes[chosen], np.asarray(loss.predict_proba(raw), dtype=np.float64), names)

    return said


def _forest(estimator: Any) -> Callable[[Matrix], Predictions]:
    """Return the forest's own sum over its trees, without a scheduler between them."""
    trees, public = [one.tree_ for one in estimator.estimators_], _public(estimator)
    classes = getattr(estimator, "classes_", None)
    wide = 1 if classes is None else len(classes)
    names = None if classes is None else tuple(classes.tolist())
    if estimator.n_outputs_ != 1:
        return public

    def said(matrix: Matrix) -> Predictions:
        with np.errstate(over="ignore"):
            narrow = matrix.astype(np.float32)
        if not np.isfinite(narrow).all():  # the forest's own words about it
            return public(matrix)
        total = np.zeros((len(matrix), wide), dtype=np.float64)
        for tree in trees:
            total += tree.predict(narrow)[:, :wide]
        total /= len(trees)
        if classes is None:
            return Predictions(total[:, 0], None, None)
        return Predictions(classes[total.argmax(axis=1)], total, names)

    return said


def _public(estimator: Any) -> Callable[[Matrix], Predictions]:
    """Return what asks any estimator by its public methods, once where once is enough."""
    if not hasattr(estimator, "predict_proba") or not hasattr(estimator, "classes_"):
        names = tuple(estimator.classes_.tolist()) if hasattr(estimator, "classes_") else None
        return lambda matrix: Predictions(np.asarray(estimator.predict(matrix)), None, names)
    classes, is_argmax = estimator.classes_, type(estimator) in _BY_ARGMAX

    def said(matrix: Matrix) -> Predictions:
        given = np.asarray(estimator.predict_proba(matrix), dtype=np.float64)
        chosen = given.argmax(axis=1) if is_argmax else None
        is_tied = chosen is None or (given == given.max(axis=1, keepdims=True)).sum() > len(given)
        prediction = estimator.predict(matrix) if is_tied or chosen is None else classes[chosen]
        return Predictions(prediction, given, tuple(classes.tolist()))

    return said
