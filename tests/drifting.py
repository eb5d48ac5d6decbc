"""Specs, frames and verdicts for the tests of drift."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from tasks.core.drift.counting.bins import Counts
from tasks.core.drift.profile import Profile, Reference, build_reference, profile_frame
from tasks.core.drift.verdict import DriftVerdict, judge
from tests.make import make_spec

NUMERIC, CATEGORICAL = 20, 10


def mixed_spec(**drift):
    features = {
        "numeric": [f"n{i}" for i in range(NUMERIC)],
        "categorical": [f"c{i}" for i in range(CATEGORICAL)],
    }
    return make_spec(features=features, contract={}, drift=drift)


def mixed_frame(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return thirty features of awkward kinds: heavy tails, zeros, counts, gaps, rare and many levels."""
    numeric = [
        lambda: rng.normal(size=rows),
        lambda: rng.lognormal(0, 1.5, rows),
        lambda: rng.poisson(3, rows).astype(float),
        lambda: np.where(rng.random(rows) < 0.7, 0, rng.gamma(2, 3, rows)),
        lambda: (rng.random(rows) < 0.1).astype(float),
        lambda: rng.standard_cauchy(rows),
        lambda: np.where(rng.random(rows) < 0.15, np.nan, np.round(rng.normal(50, 20, rows))),
    ]
    categorical = [
        lambda: rng.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1]),
        lambda: rng.zipf(1.5, rows) % 5000,
        lambda: rng.integers(0, 2000, rows),
        lambda: rng.random(rows) < 0.02,
        lambda: np.where(rng.random(rows) < 0.3, None, rng.integers(0, 30, rows).astype(str)),
    ]
    columns = {f"n{i}": numeric[i % 7]() for i in range(NUMERIC)}
    return pd.DataFrame({**columns, **{f"c{i}": categorical[i % 5]() for i in range(CATEGORICAL)}})


@cache
def mixed_reference() -> Reference:
    """Return a reference of 5,000 mixed rows; the same one for every test, because it takes a second."""
    return build_reference(mixed_frame(5000, np.random.default_rng(0)), mixed_spec())


def one_feature(kind="numeric", **drift):
    features = {"numeric": ["x"]} if kind == "numeric" else {"categorical": ["x"]}
    return make_spec(features=features, contract={}, drift=drift)


def check(reference, current, kind="numeric", **drift) -> DriftVerdict:
    spec = one_feature(kind, **drift)
    column = pd.Series(reference).sample(frac=1, random_state=0, ignore_index=True)  # rows in no order
    made = build_reference(pd.DataFrame({"x": column}), spec)
    return judge(made, profile_frame(pd.DataFrame({"x": pd.Series(current)}), made), spec)


def counted(reference, cells) -> Profile:
    """Return the profile of a window whose category k held `cells[k]` rows."""
    order = [int(label) for label in reference.bins[0].categories]
    counts = (*(int(cells[k]) for k in order), 0)
    return Profile(reference.id, sum(counts), {"x": Counts(sum(counts), 0, 0, 0, 0, counts)})


def outcome_of(verdict: DriftVerdict, measure: str) -> str:
    return next(m.outcome for f in verdict.features for m in f.measures if m.measure == measure)
