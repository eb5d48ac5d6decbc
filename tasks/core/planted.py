"""Made rows of a model's shape, and how much of them a planted model knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.spec import ModelSpec
from tasks.core.spec_gate import Anchor, Fairness, Value
from tasks.core.spec_parts import Estimator

CUT = datetime(2026, 1, 1, tzinfo=UTC)  # every compared row is newer, by less than a day
_PAIRS = 4  # pairs of levels; the first three are what some model has wrong, the last nobody has
_LEVELS = 2 * _PAIRS
_TAUGHT = 400  # training rows of each level
_FEWEST, _MOST = 2000, 5000  # compared rows: enough to show what is planted, few enough for seconds
_DAY_MS = 86_400_000
_LEAST_SHARE, _PART = 0.02, 0.2


@dataclass(frozen=True)
class Knowledge:
    """What a planted model has wrong: pairs of levels of a classifier; how far off a regressor is.

    `off` is in units of one level; its sign says which way. `guesses`: it knows the labels and no feature.
    """

    pairs: tuple[int, ...] = ()
    off: float = 0.0
    guesses: bool = False


@dataclass(frozen=True)
class Truth:
    """How noisy made labels are: the share of flipped classes, or a share of a level; and how large."""

    noise: float
    scale: float


# From ordinary rows to rows that even a very high floor can be reached on.
TRUTHS = (Truth(0.02, 1.0), Truth(0.002, 0.1), Truth(0.0, 0.001))


def planted_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec with a plain tree for an estimator, and without guards that need rows of real life.

    Those are the anchor, groups and worth. Limits stay, except where chance alone reaches them on made rows.
    """
    gate, kind = spec.gate, "Classifier" if spec.task == "classification" else "Regressor"
    most, shift = gate.max_disagreement, gate.max_label_shift
    changed = {
        "anchor": Anchor(rows=0),
        "fairness": Fairness(),
        "value": Value(),
        "min_rows": min(gate.min_rows, _MOST),
        "max_disagreement": None if most is None or most < _LEAST_SHARE else most,
        "max_label_shift": None if shift is None else max(shift, 0.1),
    }
    params = {"max_leaf_nodes": _LEVELS, "min_samples_leaf": _TAUGHT // 2}
    tree = Estimator.model_validate(
        {"class": f"sklearn.tree.DecisionTree{kind}", "params": params, "seed": spec.estimator.seed}
    )
    return spec.model_copy(update={"gate": gate.model_copy(update=changed), "estimator": tree})


def compared_rows(spec: ModelSpec, truth: Truth, rng: np.random.Generator) -> pd.DataFrame:
    """Return unseen rows, with every column the spec reads: at least 2,000 and more than `gate.min_rows`.

    Planted classifiers differ in at most a fifth of them, less where `gate.max_disagreement` asks for it.
    """
    gate = spec.gate
    rows = max(_FEWEST, math.ceil(1.25 * gate.min_rows))
    part = _PART if gate.max_disagreement is None else min(_PART, gate.max_disagreement / 2)
    shares = [*[part] * (_PAIRS - 1), 1 - part * (_PAIRS - 1)]
    counts = [math.ceil(rows * share / 2) for share in shares]
    levels = rng.permutation(np.repeat(np.arange(_LEVELS), [*counts, *counts]))
    is_flipped = rng.random(len(levels)) < truth.noise
    return _frame(spec, levels, _labels(spec, levels, is_flipped, truth, rng), rng)


def taught_rows(
    spec: ModelSpec, truth: Truth, known: Knowledge, rng: np.random.Generator
) -> tuple[pd.DataFrame, NDArray[Any]]:  # Any: labels may be of any type
    """Return training rows with true labels, and the labels that make a model know just so much of them."""
    levels = np.repeat(np.arange(_LEVELS), _TAUGHT)
    # As many flipped rows in each level, so that what models say differs by what they know alone.
    position = np.tile(np.arange(_TAUGHT), _LEVELS)
    is_flipped = position < round(truth.noise * _TAUGHT)
    rows = _frame(spec, levels, _labels(spec, levels, is_flipped, truth, rng), rng)
    if not known.guesses:
        return rows, _labels(spec, levels, is_flipped, truth, rng, known)
    if spec.task == "regression":
        return rows, np.full(len(levels), float(rows[spec.label.column].mean()))
    return rows, np.array(_classes(spec))[position % 2]


def _labels(
    spec: ModelSpec,
    levels: NDArray[Any],
    is_flipped: NDArray[np.bool_],
    truth: Truth,
    rng: np.random.Generator,
    known: Knowledge | None = None,
) -> NDArray[Any]:  # Any: labels may be of any type
    """Return the labels of these levels, or what a model is taught instead."""
    wrong = known or Knowledge()
    if spec.task == "regression":
        way = np.where(levels % 2 == 0, 1.0, -1.0)
        numbers = 10.0 + levels + wrong.off * way + rng.normal(0, truth.noise, len(levels))
        return np.asarray(truth.scale * numbers, dtype=np.float64)
    is_positive = (levels >= _PAIRS) ^ np.isin(levels % _PAIRS, wrong.pairs) ^ is_flipped
    labels: NDArray[Any] = np.array(_classes(spec))[is_positive.astype(int)]
    return labels


def _frame(
    spec: ModelSpec, levels: NDArray[Any], labels: NDArray[Any], rng: np.random.Generator
) -> pd.DataFrame:
    """Return the rows: one feature tells the level, slices are drawn, every other column says nothing."""
    rows, numbers, carrier = len(levels), {*spec.features.numeric}, _carrier(spec)
    at = pd.Timestamp(CUT) + pd.to_timedelta(np.arange(rows) * (_DAY_MS // rows), unit="ms")
    made: dict[str, Any] = {  # Any: one dtype per column
        spec.source.key: [f"made-{index}" for index in range(rows)],
        spec.source.timestamp: at,
        spec.label.column: labels,
        carrier: levels + 1.0 if carrier in numbers else [f"level {level}" for level in levels],
    }
    if spec.source.updated:
        made.setdefault(spec.source.updated, at)
    if spec.gate.weight:
        made.setdefault(spec.gate.weight, np.full(rows, 2.0))
    for name in spec.columns:
        filler = rng.integers(0, 2, rows) if name in spec.gate.slices else np.zeros(rows, dtype=int)
        made.setdefault(name, filler.astype(float) if name in numbers else filler.astype(str))
    return pd.DataFrame({name: made[name] for name in spec.columns})


def _carrier(spec: ModelSpec) -> str:
    """Return the feature that tells everything: the first that is neither a slice nor the weight."""
    other = {*spec.gate.slices, spec.gate.weight}
    return min(spec.features.all, key=lambda name: name in other)


def _classes(spec: ModelSpec) -> tuple[Any, Any]:  # Any: labels may be of any type
    positive = spec.label.positive
    if positive is None:
        return 0, 1
    if isinstance(positive, bool):
        return not positive, positive
    return (f"not {positive}", positive) if isinstance(positive, str) else (positive - 1, positive)
