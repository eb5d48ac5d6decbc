"""The one scikit-learn pipeline from a spec: columns by name in, predictions out."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

from tasks.core.errors import SpecError
from tasks.core.importing import load_object
from tasks.core.model.columns import column_words, number_column, text_column
from tasks.core.model.nested import parts_made
from tasks.core.spec import ModelSpec

NATIVE_LEVELS = 255  # what the histograms of HistGradientBoosting can tell apart; rarer ones are pooled
ONE_HOT_LEVELS = 50  # our choice: wide enough for real codes, narrow enough for dense columns
_NATIVE = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_TREES = ("sklearn.ensemble.", "sklearn.tree.", "sklearn.dummy.")


@dataclass(frozen=True)
class Predictions:
    """What a model says of some rows; `probabilities` are rows by `classes`, None where it gives none."""

    prediction: NDArray[Any]  # Any: labels may be of any type
    probabilities: NDArray[np.float64] | None
    classes: tuple[Any, ...] | None


def build_pipeline(spec: ModelSpec, *, threads: int = 1) -> Pipeline:
    """Return the unfitted pipeline of this spec: `columns` (preprocessing), then `estimator`.

    It takes frames and looks at `spec.features.all` by name, in any order, beside any other columns.
    HistGradientBoosting gets numbers with their gaps and its own categorical splits; any other estimator gets
    imputed numbers with a flag for gaps (scaled, unless it is made of trees) and one-hot categories.
    Categories unseen in training count as missing or as the pooled rare ones. With `estimator.preprocess`
    the user's transformer stands in place of all that.

    Raises:
        SpecError: when a class or function cannot be imported, is of the wrong kind, or refuses a parameter.
    """
    kind = _estimator_class(spec)
    is_native = issubclass(kind, _NATIVE) and spec.estimator.preprocess is None
    extra: dict[str, Any] = {"random_state": spec.estimator.seed}
    if kind.__module__.startswith("sklearn.ensemble.") and threads > 1:
        extra["n_jobs"] = threads  # elsewhere in scikit-learn it does nothing, or warns that it does nothing
    if is_native and spec.features.categorical:
        first = len(spec.features.numeric)
        extra["categorical_features"] = list(range(first, first + len(spec.features.categorical)))
    return Pipeline(
        [("columns", _columns(spec, kind, is_native)), ("estimator", _estimator(spec, kind, extra))]
    )


def predict(model: Any, frame: pd.DataFrame) -> Predictions:  # Any: a fitted pipeline, ours or one read back
    """Return what the model says of every row of the frame; empty arrays for a frame without rows."""
    classes = tuple(model.classes_.tolist()) if hasattr(model, "classes_") else None
    if frame.empty:
        none = None if not hasattr(model, "predict_proba") else np.empty((0, len(classes or ())))
        kind = model.classes_.dtype if classes is not None else np.float64
        return Predictions(np.empty(0, dtype=kind), none, classes)
    if classes is None or not hasattr(model, "predict_proba"):
        return Predictions(np.asarray(model.predict(frame)), None, classes)
    if type(model) is Pipeline and len(model.steps) > 1:  # both answers from one preparation of the rows
        for _, step in model.steps[:-1]:
            frame = frame if step in (None, "passthrough") else step.transform(frame)
        model = model[-1]
    return Predictions(
        model.predict(frame), np.asarray(model.predict_proba(frame), dtype=np.float64), classes
    )


def _estimator_class(spec: ModelSpec) -> type[Any]:
    path = spec.estimator.class_path
    kind = load_object(path, field="estimator.class")
    if not isinstance(kind, type) or not hasattr(kind, "fit") or not hasattr(kind, "get_params"):
        raise SpecError(f"estimator.class {path!r}", "a scikit-learn estimator class", model=spec.name)
    return kind


def _estimator(spec: ModelSpec, kind: type[Any], extra: dict[str, Any]) -> Any:  # Any: an estimator
    accepted = _accepted(kind)
    unknown = sorted({*spec.estimator.params, *spec.estimator.search} - accepted)
    if unknown:
        known = ", ".join(sorted(accepted))[:200]
        raise SpecError(
            f"estimator.params {unknown} for {kind.__name__}", f"some of {known}", model=spec.name
        )
    own = {name: value for name, value in extra.items() if name in accepted}
    try:
        made = kind(**{**own, **parts_made(spec.estimator.params, seed=spec.estimator.seed)})
    except TypeError as err:
        raise SpecError(
            f"estimator.params that {kind.__name__} refuses ({str(err)[:150]})",
            "arguments it takes",
            model=spec.name,
        ) from err
    fits = is_classifier(made) if spec.task == "classification" else is_regressor(made)
    if not fits:
        raise SpecError(
            f"task {spec.task} with {kind.__name__}", f"an estimator for {spec.task}", model=spec.name
        )
    return made


def _accepted(kind: type[Any]) -> set[str]:
    """Return the names of the parameters; those hidden behind **kwargs are known to `get_params`."""
    signature = inspect.signature(kind).parameters
    if any(one.kind is one.VAR_KEYWORD for one in signature.values()):
        return {*signature, *kind().get_params(deep=False)} - {"kwargs"}
    return set(signature)


def _columns(spec: ModelSpec, kind: type[Any], is_native: bool) -> Any:  # Any: a transformer
    if spec.estimator.preprocess is not None:
        return Pipeline([("select", Select(spec.features.all)), ("custom", _custom(spec))])
    numbers, categories = (_native_steps if is_native else _plain_steps)(kind)
    parts = [
        ("numeric", numbers, spec.features.numeric),
        ("categorical", categories, spec.features.categorical),
    ]
    return ColumnTransformer([part for part in parts if part[2]], verbose_feature_names_out=False)


def _custom(spec: ModelSpec) -> Any:  # Any: the user's transformer
    path = spec.estimator.preprocess or ""
    build = load_object(path, field="estimator.preprocess")
    made = build() if callable(build) else build
    if not hasattr(made, "fit") or not hasattr(made, "transform"):
        raise SpecError(
            f"estimator.preprocess {path!r} gave a {type(made).__name__}",
            "a function that returns an unfitted transformer",
            model=spec.name,
        )
    return made


def _native_steps(kind: type[Any]) -> tuple[Any, Any]:  # Any: transformers
    del kind
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=NATIVE_LEVELS,
    )
    return Numbers(), Pipeline([("text", Categories()), ("codes", codes)])


def _plain_steps(kind: type[Any]) -> tuple[Any, Any]:  # Any: transformers
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    steps: list[tuple[str, Any]] = [("numbers", Numbers()), ("impute", impute)]
    if not kind.__module__.startswith(_TREES):
        steps.append(("scale", StandardScaler()))
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=ONE_HOT_LEVELS, sparse_output=False
    )
    return Pipeline(steps), Pipeline([("text", Categories()), ("one_hot", one_hot)])


# Our own transformers stand here and nowhere else: the allow-list of stored models names this module.


class Select(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """The named columns of a frame, in the named order; any other column never reaches the model."""

    def __init__(self, columns: list[str]):
        self.columns = columns

    def fit(self, frame: pd.DataFrame, y: Any = None) -> Self:  # Any: scikit-learn's own signature
        """Return self, after checking that the columns are there."""
        del y
        self.n_features_in_ = frame[self.columns].shape[1]
        return self

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the columns."""
        return frame[self.columns]

    def get_feature_names_out(self, names: Any = None) -> NDArray[Any]:  # Any: scikit-learn's own signature
        """Return the column names."""
        del names
        return np.asarray(self.columns, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")


class Numbers(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Columns of any number type, nullable ones and booleans too, as float64 with NaN for what is missing.

    A column that never had a value when fitted stays, as zeros: it can say nothing, and
    HistGradientBoosting cannot be fitted on it.
    """

    def fit(self, frame: pd.DataFrame, y: Any = None) -> Self:  # Any: scikit-learn's own signature
        """Return self, knowing which columns are empty."""
        del y
        self.feature_names_in_ = np.asarray(frame.columns, dtype=object)
        self.n_features_in_ = frame.shape[1]
        self.empty_ = [bool(frame[name].isna().all()) for name in frame.columns]
        return self

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the numbers, rows by columns."""
        check_is_fitted(self)
        pairs = zip(frame.columns, self.empty_, strict=True)
        return np.column_stack(
            [np.zeros(len(frame)) if empty else number_column(frame[name]) for name, empty in pairs]
        )


class Categories(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Columns of categories as text: 3, 3.0 and "3" are one category, and True, "True" and "true" another.

    A column fitted on 0 and 1 understands True and False, and the other way round, because a database gives
    the one and JSON the other; one fitted on numbers alone understands "2.0" as 2.
    """

    def fit(self, frame: pd.DataFrame, y: Any = None) -> Self:  # Any: scikit-learn's own signature
        """Return self, knowing for each column whether its texts are numbers or truth values."""
        del y
        self.feature_names_in_ = np.asarray(frame.columns, dtype=object)
        self.n_features_in_ = frame.shape[1]
        self.words_ = [column_words(frame[name]) for name in frame.columns]
        return self

    def transform(self, frame: pd.DataFrame) -> NDArray[Any]:
        """Return the texts as an object array, rows by columns; NaN for what is missing."""
        check_is_fitted(self)
        pairs = zip(frame.columns, self.words_, strict=True)
        columns = [text_column(frame[name], words) for name, words in pairs]
        return np.column_stack(columns) if columns else np.empty((len(frame), 0), dtype=object)
