"""Rows of thirty features of awkward kinds, drifted or not: what every detector in this folder is given.

All randomness comes from the `rng` handed in, so two detectors see the very same rows. The columns are
independent of each other but for the first two, which hang together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from tasks.core.spec import ModelSpec, parse_spec

Draw = Callable[[int, np.random.Generator], Any]
Change = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]

LEVELS = 500
_CODES = np.array([f"k{place:03d}" for place in range(LEVELS)], dtype=object)
_ZIPF = 1 / np.arange(1, LEVELS + 1)
_ZIPF /= _ZIPF.sum()


def _levels(share: np.ndarray | None) -> Draw:
    return lambda rows, rng: _CODES[rng.choice(LEVELS, rows, p=share)]


def _zeros(share: float, shape: float) -> Draw:
    return lambda rows, rng: np.where(rng.random(rows) < share, 0.0, rng.gamma(shape, 3.0, rows))


def _binary(share: float) -> Draw:
    return lambda rows, rng: (rng.random(rows) < share).astype(np.float64)


def _gaps(draw: Draw, share: float = 0.1) -> Draw:
    def drawn(rows: int, rng: np.random.Generator) -> Any:
        values = draw(rows, rng)
        lost = rng.random(rows) < share
        return np.where(lost, None if values.dtype == object else np.nan, values)

    return drawn


def _named(names: str, share: Sequence[float]) -> Draw:
    values = np.array(list(names), dtype=object)
    return lambda rows, rng: values[rng.choice(len(values), rows, p=share)]


# Each kind's features by name, in the order of the columns.
KINDS: dict[str, dict[str, Draw]] = {
    "continuous": {
        "normal_a": lambda rows, rng: rng.normal(size=rows),
        "normal_b": lambda rows, rng: rng.normal(size=rows),  # made to hang together with normal_a
        "normal_c": lambda rows, rng: rng.normal(100, 15, rows),
        "normal_d": lambda rows, rng: rng.normal(-3, 0.1, rows),
        "uniform": lambda rows, rng: rng.random(rows),
        "gamma": lambda rows, rng: rng.gamma(2, 2, rows),
        "beta": lambda rows, rng: rng.beta(2, 5, rows),
        "two_humps": lambda rows, rng: rng.normal(np.where(rng.random(rows) < 0.4, -2, 2), 1),
    },
    "heavy_tailed": {
        "lognormal": lambda rows, rng: rng.lognormal(0, 1.5, rows),
        "cauchy": lambda rows, rng: rng.standard_cauchy(rows),
        "student": lambda rows, rng: rng.standard_t(2, rows),
        "pareto": lambda rows, rng: rng.pareto(1.5, rows),
    },
    "zero_inflated": {
        "mostly_zero": _zeros(0.9, 2),
        "often_zero": _zeros(0.7, 2),
        "half_zero": _zeros(0.5, 0.5),
        "counts": lambda rows, rng: rng.poisson(0.7, rows).astype(np.float64),
    },
    "binary": {
        "rare_flag": _binary(0.02),
        "flag": _binary(0.1),
        "coin": _binary(0.5),
    },
    "missing": {
        "normal_gaps": _gaps(lambda rows, rng: rng.normal(size=rows)),
        "lognormal_gaps": _gaps(lambda rows, rng: rng.lognormal(0, 1, rows)),
        "rounded_gaps": _gaps(lambda rows, rng: np.round(rng.normal(50, 20, rows))),
        "plan_gaps": _gaps(_named("abc", (0.6, 0.3, 0.1))),
    },
    "categorical": {
        "plan": _named("abc", (0.6, 0.3, 0.1)),
        "region": _named("nsew", (0.25, 0.25, 0.25, 0.25)),
        "device": _named("pqrstu", (0.45, 0.25, 0.15, 0.1, 0.04, 0.01)),
    },
    "many_levels": {
        "city_even": _levels(None),
        "city_zipf": _levels(_ZIPF),
        "shop_zipf": _levels(_ZIPF),
        "item_zipf": _levels(_ZIPF**0.8 / (_ZIPF**0.8).sum()),
    },
}
NAMES = tuple(name for kind in KINDS.values() for name in kind)
CATEGORICAL = ("plan_gaps", *KINDS["categorical"], *KINDS["many_levels"])
NUMERIC = tuple(name for name in NAMES if name not in CATEGORICAL)
TOGETHER = 0.7  # correlation of the first two columns


def spec_of(**drift: Any) -> ModelSpec:
    """Return a spec of the thirty features; keyword arguments are settings of `drift`."""
    return spec_for(NUMERIC, CATEGORICAL, **drift)


def spec_for(numeric: Sequence[str], categorical: Sequence[str] = (), **drift: Any) -> ModelSpec:
    """Return a spec of these features."""
    features = {"numeric": list(numeric), "categorical": list(categorical)}
    return parse_spec(
        {
            "name": "draws",
            "task": "classification",
            "source": {"url": "sqlite:///x.db", "table": "t", "key": "id", "timestamp": "at"},
            "label": {"column": "label", "maturity": "1d"},
            "features": {name: columns for name, columns in features.items() if columns},
            "estimator": {"class": "sklearn.linear_model.LogisticRegression"},
            "window": {"training": "90d", "check": "1d"},
            "metric": "roc_auc",
            "drift": drift,
        }
    )


def mixed_frame(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return rows of the thirty features: a reference, or a window that did not drift."""
    frame = pd.DataFrame({name: draw(rows, rng) for kind in KINDS.values() for name, draw in kind.items()})
    rest = np.sqrt(1 - TOGETHER**2)
    frame["normal_b"] = TOGETHER * frame["normal_a"] + rest * frame["normal_b"]
    return frame


def shifted(deviations: float, name: str = "normal_c") -> Change:
    """Return a change of one feature's mean by so many standard deviations."""
    return lambda frame, rng: frame.assign(**{name: frame[name] + deviations * 15})


def _wider(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(normal_c=100 + np.sqrt(1.5) * (frame["normal_c"] - 100))


def _swapped(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(plan=frame["plan"].map({"a": "b", "b": "a", "c": "c"}))


def _new(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(plan=frame["plan"].mask(rng.random(len(frame)) < 0.02, "new"))


def _lost(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(gamma=frame["gamma"].mask(rng.random(len(frame)) < 0.05))


def _uncorrelated(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return frame.assign(normal_b=rng.permutation(frame["normal_b"].to_numpy()))


# `missing 1 % -> 5 %`: start from `with_one_percent_missing` frames on both sides.
CHANGES: dict[str, Change] = {
    "shift 0.1 sd": shifted(0.1),
    "shift 0.2 sd": shifted(0.2),
    "shift 0.3 sd": shifted(0.3),
    "shift 0.5 sd": shifted(0.5),
    "shift 1 sd": shifted(1.0),
    "variance x 1.5": _wider,
    "categories swapped": _swapped,
    "new category 2 %": _new,
    "missing 1 % to 5 %": _lost,
    "correlation only": _uncorrelated,
}


def reference_frame(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return undrifted rows in which one in a hundred of `gamma` is missing."""
    frame = mixed_frame(rows, rng)
    return frame.assign(gamma=frame["gamma"].mask(rng.random(rows) < 0.01))


def window_frame(rows: int, rng: np.random.Generator, *, change: str | None = None) -> pd.DataFrame:
    """Return a window drawn like the reference, with one of CHANGES made to it, or none."""
    frame = reference_frame(rows, rng)
    return frame if change is None else CHANGES[change](frame, rng)


def series_frame(
    rows: int, rng: np.random.Generator, *, features: int = 30, rho: float = 0.9
) -> pd.DataFrame:
    """Return independent AR(1) columns in the order of time; each value has variance 1."""
    noise = rng.normal(size=(rows, features)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    values = lfilter([1.0], [1.0, -rho], noise, axis=0)
    return pd.DataFrame(values, columns=[f"x{place}" for place in range(features)])


def clustered_frame(
    entities: int, each: int, rng: np.random.Generator, *, features: int = 30, within: float = 0.5
) -> pd.DataFrame:
    """Return `each` rows of every entity, one entity after the other; rows of one share part of their value.

    Two thirds of the columns are numbers, of which an entity explains the share `within`; the others are
    categories that an entity never changes.
    """
    numbers = features * 2 // 3
    rows = entities * each
    own = np.repeat(rng.normal(size=(entities, numbers)), each, axis=0)
    values = np.sqrt(within) * own + np.sqrt(1 - within) * rng.normal(size=(rows, numbers))
    letters = np.array(list("abcdef"), dtype=object)
    picked = np.repeat(rng.integers(0, 6, (entities, features - numbers)), each, axis=0)
    columns = {f"x{place}": values[:, place] for place in range(numbers)}
    return pd.DataFrame(
        {**columns, **{f"c{place}": letters[picked[:, place]] for place in range(features - numbers)}}
    )


def weekend_frame(
    days: Sequence[int], per_day: int, rng: np.random.Generator, *, features: int = 30, effect: float = 0.5
) -> pd.DataFrame:
    """Return `per_day` rows of each day (0 is a Monday); a third of the columns is higher at weekends.

    `effect` is by how many standard deviations.
    """
    weekend = np.repeat(np.asarray(days) % 7 >= 5, per_day)
    values = rng.normal(size=(len(weekend), features))
    values[:, : features // 3] += effect * weekend[:, None]
    return pd.DataFrame(values, columns=[f"x{place}" for place in range(features)])
