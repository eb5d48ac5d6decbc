"""A version's answers to checked rows, by the shortest way that gives the very bits of the pipeline."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from serving.bound import Bound, bind
from tasks.core.model.columns import category_text
from tasks.core.model.pipeline import Categories, Predictions, predict
from tasks.core.model.second_opinion import combine
from tasks.core.spec import ModelSpec

Row = Mapping[str, Any]  # Any: checked values
Answer = dict[str, Any]  # Any: JSON

_LIMITS = threading.local()
_ROWS = 64  # made up for each comparison at load; our choice, it takes a fraction of a second
_SINGLE = 6  # of them asked alone as well


class NoAnswer(Exception):
    """A row that the contract lets through and to which the model gives no finite number."""


class Scorer:
    """Answers rows as one version's pipeline does. Safe from several threads; keeps nothing of a request.

    `is_bound` says whether it goes without a frame; `is_rowwise` whether a row gets the same bits whatever
    rows are asked with it, so that requests may be scored together.
    """

    def __init__(self, model: Any, spec: ModelSpec, bound: Bound | None):  # Any: a fitted pipeline
        self._model = model
        self._spec = spec
        self._bound = bound
        self.is_bound = bound is not None
        self.is_rowwise = bound is not None and bound.is_rowwise

    def said(self, rows: Sequence[Row]) -> Predictions:
        """Return what the model says, as `tasks.core.model.pipeline.predict` gives it for a frame of them."""
        one_thread_here()
        with np.errstate(over="ignore", invalid="ignore"):  # whether a number came out is seen by itself
            if self._bound is not None and rows:
                return self._bound.said(self._bound.matrix(rows))
            return predict(self._model, frame_of(rows, self._spec))

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the prediction of each row, with the probability of every class where there are any.

        Raises:
            NoAnswer: when a number of the answer is not finite.
        """
        return as_answers(self.said(rows))


class PairScorer:
    """Answers rows by the mean of two versions, each with half the vote; safe from several threads.

    The partner is asked with the rows that were checked for the champion. It is rowwise where both are.
    """

    def __init__(self, champion: Scorer, partner: Scorer):
        self._champion = champion
        self._partner = partner
        self.is_bound = champion.is_bound and partner.is_bound
        self.is_rowwise = champion.is_rowwise and partner.is_rowwise

    def said(self, rows: Sequence[Row]) -> Predictions:
        """Return the mean of what both say, as `tasks.core.model.second_opinion.combine` makes it."""
        return combine(self._champion.said(rows), self._partner.said(rows))

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the mean answer to each row; see `Scorer.answers`.

        Raises:
            NoAnswer: when a number of the mean is not finite.
        """
        return as_answers(self.said(rows))


def as_answers(said: Predictions) -> list[Answer]:
    """Return predictions as callers get them, one per row.

    Raises:
        NoAnswer: when a number of the answer is not finite.
    """
    labels = said.prediction.tolist()
    if said.probabilities is None:
        if said.prediction.dtype.kind == "f" and not np.isfinite(said.prediction).all():
            raise NoAnswer("the model gives no finite number to a row")
        return [{"prediction": label} for label in labels]
    if not np.isfinite(said.probabilities).all():
        raise NoAnswer("the model gives no finite probabilities to a row")
    names = [str(label) for label in said.classes or ()]
    return [
        {"prediction": label, "probabilities": dict(zip(names, given, strict=True))}
        for label, given in zip(labels, said.probabilities.tolist(), strict=True)
    ]


def scorer_for(model: Any, spec: ModelSpec, golden: pd.DataFrame | None) -> Scorer:  # Any: a fitted pipeline
    """Return what answers for this model.

    The bound way is taken only if it gives the pipeline's own bits on the golden rows and on made-up ones:
    missing values, unseen categories, truth values, whole numbers, extremes. Parallel estimators are set to
    one thread: several add up in no fixed order, and cost a single row more than they save.
    """
    _one_thread(model)
    one_thread_here()
    try:
        bound = bind(model)
        if bound is not None and _agrees(bound, model, spec, golden):
            return Scorer(model, spec, bound)
    except Exception:  # whatever it is that this model has otherwise: the pipeline itself answers
        return Scorer(model, spec, None)
    return Scorer(model, spec, None)


def one_thread_here() -> None:
    """Let numerical libraries use one thread for what this thread asks, from now on.

    Set once per thread: setting it costs a millisecond, and a few rows are too little work to share.
    """
    if not hasattr(_LIMITS, "limits"):
        _LIMITS.limits = threadpool_limits(1)


def frame_of(rows: Sequence[Row], spec: ModelSpec) -> pd.DataFrame:
    """Return the rows as the pipeline takes them: `spec.features.all`, numbers as float64."""
    frame = pd.DataFrame({name: [row[name] for row in rows] for name in spec.features.all})
    return frame.astype(dict.fromkeys(spec.features.numeric, "float64"))


def rows_of(frame: pd.DataFrame, spec: ModelSpec) -> list[dict[str, Any]]:  # Any: checked values
    """Return a frame's features as checked rows hold them: None for what is missing, plain types."""
    found = frame[spec.features.all].astype(object)
    names = list(found.columns)
    return [
        {
            name: None if pd.isna(value) else value.item() if isinstance(value, np.generic) else value
            for name, value in zip(names, row, strict=True)
        }
        for row in found.itertuples(index=False, name=None)
    ]


def _one_thread(model: Any) -> None:
    try:
        names = [name for name in model.get_params() if name.split("__")[-1] == "n_jobs"]
        model.set_params(**dict.fromkeys(names, 1))
    except (AttributeError, ValueError, TypeError):
        return  # no pipeline of ours: it stays as it came


def _agrees(bound: Bound, model: Any, spec: ModelSpec, golden: pd.DataFrame | None) -> bool:
    """Return whether both ways give the same bits, together and row by row."""
    given = rows_of(golden, spec) if golden is not None else []
    asked = [given] if given else []
    asked += made_up(model, spec, given, seed=spec.estimator.seed)
    for rows in asked:
        if not _same(bound, model, spec, rows):
            return False
        step = max(1, len(rows) // _SINGLE)
        if any(not _same(bound, model, spec, [row]) for row in rows[::step]):
            return False
        if bound.is_rowwise and not _is_rowwise(bound, rows):
            return False
    return True


def _same(bound: Bound, model: Any, spec: ModelSpec, rows: Sequence[Row]) -> bool:
    return _equal(bound.said(bound.matrix(rows)), predict(model, frame_of(rows, spec)))


def _is_rowwise(bound: Bound, rows: Sequence[Row]) -> bool:
    together = bound.said(bound.matrix(rows))
    alone = [bound.said(bound.matrix([row])) for row in rows]
    parts = [one.probabilities for one in alone if one.probabilities is not None]
    joined = Predictions(
        np.concatenate([one.prediction for one in alone]),
        np.concatenate(parts) if parts else None,
        together.classes,
    )
    return _equal(joined, together)


def _equal(one: Predictions, other: Predictions) -> bool:
    if one.classes != other.classes or (one.probabilities is None) != (other.probabilities is None):
        return False
    if one.prediction.dtype != other.prediction.dtype:
        return False
    is_number = one.prediction.dtype.kind == "f"
    if not np.array_equal(one.prediction, other.prediction, equal_nan=is_number):
        return False
    if one.probabilities is None or other.probabilities is None:
        return True
    return np.array_equal(one.probabilities, other.probabilities, equal_nan=True)


def made_up(
    model: Any, spec: ModelSpec, golden: Sequence[Row], *, seed: int, rows: int = _ROWS
) -> list[list[dict[str, Any]]]:  # Any: checked values
    """Return rows in groups; in a group a categorical column holds values of one type, beside None.

    (A column of mixed types is another matter for pandas: True and 1 are one value there.)
    """
    rng = np.random.default_rng(seed)
    known = _known_texts(model, spec)
    kinds: list[list[Any]] = [
        [],
        [True, False],
        [0, 1, 2, 3, -7, 10**6],
        [0.0, 1.0, 2.5, -3.0, 1e6],
    ]
    groups = []
    for kind in kinds:
        columns: dict[str, list[Any]] = {}
        for name in spec.features.numeric:
            columns[name] = _numbers(rng, [row[name] for row in golden], rows)
        for name in spec.features.categorical:
            texts = [*known.get(name, ()), *(str(row[name]) for row in golden if row[name] is not None)]
            pool = kind or [*texts, "no such level ∅", "true", "False", "1", "0", "", " x "]
            picked = [pool[index] for index in rng.integers(0, len(pool), rows)]
            columns[name] = [None if rng.random() < 0.1 else value for value in picked]
        groups.append(
            [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        )
    return groups


def _numbers(rng: np.random.Generator, given: Sequence[Any], rows: int) -> list[float | None]:
    seen = np.array([value for value in given if value is not None], dtype=float)
    seen = seen if len(seen) else np.array([0.0, 1.0])
    spread = float(seen.std()) or 1.0
    drawn = rng.choice(seen, rows) + spread * rng.normal(size=rows) * rng.integers(0, 3, rows)
    found: list[float | None] = drawn.tolist()
    for index, odd in enumerate((None, 0.0, -0.0, 1.0, -1e12, 1e12, 3.0, 1e-300)):
        for at in rng.integers(0, rows, 2):
            found[at] = odd if index else None
    return found


def _known_texts(model: Any, spec: ModelSpec) -> dict[str, list[str]]:
    step = dict(model.named_steps["columns"].named_transformers_).get("categorical")
    if step is None or type(step.steps[0][1]) is not Categories:
        return {}
    names = spec.features.categorical
    levels = step.steps[1][1].categories_
    return {
        name: [category_text(one) for one in found if isinstance(one, str)][:2000]
        for name, found in zip(names, levels, strict=True)
    }
