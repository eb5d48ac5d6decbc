"""Seven labelled streams whose truth is known: what changes, when, and the best score anybody could hold.

The features never drift (six standard normal numbers and a region, all independent); what changes is the
concept, the rule from features to labels, or what happens to labels afterwards. With one seed all streams
share their features and their luck, so that two streams differ by nothing but what their names say.

A concept is a unit vector w over the z-scored features z. Classification: P(label 1) = sigmoid(3 w·z).
Regression: label = 2 w·z + standard normal noise. Two concepts at an angle a disagree about the better class
of a row with normal features in a share a/π of the rows (Sheppard 1899).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from tasks.core.errors import SpecError

StreamName = Literal["none", "slow", "gradual", "sudden", "recurring", "poison", "moving noise"]
STREAMS: tuple[StreamName, ...] = get_args(StreamName)
REGRESSIONS: tuple[StreamName, ...] = ("none", "slow", "sudden", "recurring")

START, WEEK = datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=7)
TRAINING_WINDOWS = 8  # the first model learns from them; no stream jumps before they are over
KEY, TIME, LABEL = "row_id", "observed_at", "label"
NUMERIC = ("x1", "x2", "x3", "x4", "x5", "x6")
REGIONS = ("north", "south", "east", "west")
STEEPNESS, SLOPE, SPREAD = 3.0, 2.0, 1.0  # of the log-odds; of a regression's mean and its noise (sd)

# Contrasts of four equally likely regions, each of mean 0 and variance 1 and uncorrelated (Helmert, scaled).
_HELMERT = np.array([[1, -1, 0, 0], [1, 1, -2, 0], [1, 1, 1, -3]], dtype=np.float64)
_CONTRASTS = (_HELMERT / np.sqrt((_HELMERT**2).mean(axis=1, keepdims=True))).T

# Our choices, so that a stream changes on the scale of its training window, and not in step with a calendar.
_SLOW_TURN = np.pi / 60  # angle per window: a quarter turn in 30 windows
_REGIME = {"gradual": (14, 18), "sudden": (8, 16), "recurring": (6, 10), "poison": (7, 12)}  # windows
_TRANSITION = 8  # windows in which a gradual change is under way
_POISONED, _LOST = 2, 0.7  # windows in a row with wrong labels; share of their 1s that are recorded as 0
_NOISE, _NOISE_PERIOD = 0.25, 20  # most labels turned over by chance, and the period in windows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StreamTruth:
    """What is true of a stream: per window, and per row in the order of the frame.

    Attributes:
        bayes: Per window, the expected score of the best possible predictions against clean labels: accuracy,
            or minus the mean absolute error.
        hindsight: Per window, the score that these predictions really got on the rows that were drawn.
        concept: Per window, the number of the concept in force; during a gradual change the one of most rows.
        concepts: One unit vector per concept, over the z-scored features.
        poisoned: Per window, whether labels were recorded wrongly.
        noise: Per window, the share of labels turned over by chance (classification).
        best: Per row, the best possible prediction.
        clean: Per row, the label before anything was recorded wrongly.
    """

    bayes: tuple[float, ...]
    hindsight: tuple[float, ...]
    concept: tuple[int, ...]
    concepts: Floats
    poisoned: tuple[bool, ...]
    noise: tuple[float, ...]
    best: NDArray[Any]
    clean: NDArray[Any]


@dataclass(frozen=True)
class Stream:
    """A labelled history by time (key, time, features, label), its model block and its truth."""

    name: StreamName
    frame: pd.DataFrame
    spec: dict[str, Any]  # Any: a YAML tree
    truth: StreamTruth

    def clean_frame(self) -> pd.DataFrame:
        """Return the same rows with every label as it should have been recorded."""
        return self.frame.assign(**{LABEL: self.truth.clean})


@dataclass(frozen=True)
class _Course:
    """Per window: the concept, the one it changes to and in which share of rows, noise, and lost labels."""

    concepts: Floats
    now: NDArray[np.int64]
    following: NDArray[np.int64]
    share: Floats
    noise: Floats
    poisoned: NDArray[np.bool_]


def make_stream(
    name: StreamName,
    *,
    rows: int = 1000,
    windows: int = 60,
    seed: int = 0,
    task: Literal["classification", "regression"] = "classification",
) -> Stream:
    """Return a stream of `windows` weeks with `rows` rows each; the same arguments give the same stream.

    Args:
        name: none (independent rows of one distribution), slow (the concept turns a little every week),
            gradual (more and more rows follow the next concept), sudden (another concept from one week to
            the next), recurring (two concepts in turn), poison (one concept, wrong labels in some weeks) or
            moving noise (one concept, and a share of labels turned over that comes and goes).
        rows: Rows per window.
        windows: Windows in all; the first eight train the first model.
        seed: Seed of the rows, the concepts and the moments of change.
        task: Regression is made of those streams whose best prediction is known: see `REGRESSIONS`.

    Raises:
        SpecError: for an unknown stream, no rows, too few windows, or a stream without a regression.
    """
    known = STREAMS if task == "classification" else REGRESSIONS
    if name not in known:
        raise SpecError(f"stream {name!r} as a {task}", f"one of {', '.join(known)}")
    if rows < 1 or windows <= TRAINING_WINDOWS:
        raise SpecError(
            f"a stream of {windows} windows of {rows} rows",
            f"at least one row and more than {TRAINING_WINDOWS} windows",
        )
    course = _course(name, windows, np.random.default_rng([seed, 0]))
    drawn = [_draw(course, w, rows, np.random.default_rng([seed, 1, w]), task) for w in range(windows)]
    frame, best, clean = (pd.concat(part, ignore_index=True) for part in list(zip(*drawn, strict=True))[:3])
    frame.insert(0, KEY, np.arange(len(frame)))
    frame.insert(1, TIME, pd.Timestamp(START) + _even_times(len(frame), rows))
    truth = StreamTruth(
        bayes=tuple(part[3] for part in drawn),
        hindsight=tuple(_realised(part[1], part[2], task) for part in drawn),
        concept=tuple(np.where(course.share > 0.5, course.following, course.now).tolist()),
        concepts=course.concepts,
        poisoned=tuple(course.poisoned.tolist()),
        noise=tuple(course.noise.tolist()),
        best=best.to_numpy(),
        clean=clean.to_numpy(),
    )
    return Stream(name, frame, stream_spec(name, task), truth)


def stream_spec(
    name: str, task: Literal["classification", "regression"] = "classification"
) -> dict[str, Any]:  # Any: a YAML tree
    """Return the model block of a stream: weekly checks, eight weeks of training, everything else default."""
    linear = {"classification": "LogisticRegression", "regression": "Ridge"}[task]
    return {
        "name": f"stream-{name.replace(' ', '-')}",
        "task": task,
        "source": {"url": "stream.parquet", "key": KEY, "timestamp": TIME},
        "label": {"column": LABEL},
        "features": {"numeric": list(NUMERIC), "categorical": ["region"]},
        "estimator": {"class": f"sklearn.linear_model.{linear}"},
        "window": {"training": "8w", "check": "1w"},
        "metric": "accuracy" if task == "classification" else "neg_mean_absolute_error",
    }


def concept_distance(first: Floats, second: Floats) -> float:
    """Return the share of rows about whose better class two concepts disagree, were all features normal.

    Example:
        >>> concept_distance(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
        0.5
    """
    cosine = float(first @ second) / float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.arccos(np.clip(cosine, -1, 1)) / np.pi)


def design_matrix(frame: pd.DataFrame) -> Floats:
    """Return the z-scored features of the rows, as concepts read them: six numbers, three contrasts."""
    region = pd.Categorical(frame["region"], categories=list(REGIONS)).codes
    return np.hstack([frame[list(NUMERIC)].to_numpy(np.float64), _CONTRASTS[region]])


def _even_times(count: int, rows: int) -> pd.TimedeltaIndex:
    """Return even times since the start, `rows` a week, in whole microseconds as datetimes hold them."""
    week = int(WEEK.total_seconds()) * 1_000_000
    return pd.to_timedelta(np.arange(count) * week // rows, unit="us")


def _course(name: StreamName, windows: int, rng: np.random.Generator) -> _Course:
    size = len(NUMERIC) + _CONTRASTS.shape[1]
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0].T  # rows at right angles to each other
    now = np.zeros(windows, dtype=np.int64)
    following, share, noise = now, np.zeros(windows), np.zeros(windows)
    concepts, poisoned = basis[:1], np.zeros(windows, dtype=np.bool_)
    if name == "slow":
        now = following = np.arange(windows)
        angle = _SLOW_TURN * now[:, None]
        concepts = np.cos(angle) * basis[0] + np.sin(angle) * basis[1]
    elif name in {"sudden", "recurring", "gradual"}:
        starts = _starts(windows, *_REGIME[name], rng)
        order = np.arange(len(starts) + 1)
        order = order % 2 if name == "recurring" else order
        concepts = basis[:2] if name == "recurring" else _chain(len(order), size, rng)
        now = order[np.searchsorted(starts, np.arange(windows), side="right")]
        following = now
        if name == "gradual":
            now, following, share = _blend(starts, windows)
    elif name == "poison":
        starts = _starts(windows, *_REGIME[name], rng)
        poisoned = np.isin(np.arange(windows), [start + k for start in starts for k in range(_POISONED)])
    elif name == "moving noise":
        noise = _NOISE / 2 * (1 - np.cos(2 * np.pi * np.arange(windows) / _NOISE_PERIOD))
    return _Course(concepts, now, following, share, noise, poisoned)


def _starts(windows: int, shortest: int, longest: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the windows in which something changes: stretches of drawn length, the first after training."""
    lengths = rng.integers(shortest, longest + 1, size=windows)
    starts: NDArray[np.int64] = TRAINING_WINDOWS + np.cumsum(lengths) - shortest
    return starts[starts < windows]


def _chain(count: int, size: int, rng: np.random.Generator) -> Floats:
    """Return unit vectors, each at right angles to the one before it."""
    chain = [rng.normal(size=size)]
    for _ in range(count - 1):
        last, drawn = chain[-1], rng.normal(size=size)
        chain.append(drawn - (drawn @ last) / (last @ last) * last)
    return np.array([vector / np.linalg.norm(vector) for vector in chain])


def _blend(starts: NDArray[np.int64], windows: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return concept, next concept and its share of rows per window of a gradual change."""
    index = np.arange(windows)
    now, share = np.zeros(windows, dtype=np.int64), np.zeros(windows)
    for number, start in enumerate(starts):
        inside = index >= start
        now[inside] = number
        share[inside] = np.clip((index[inside] - start + 1) / (_TRANSITION + 1), 0, 1)
    return now, np.minimum(now + 1, len(starts)), share


def _draw(
    course: _Course, window: int, rows: int, rng: np.random.Generator, task: str
) -> tuple[pd.DataFrame, pd.Series[Any], pd.Series[Any], float]:
    """Return the rows of a window, the best predictions, the clean labels and the best expected score."""
    frame = pd.DataFrame(rng.normal(size=(rows, len(NUMERIC))), columns=list(NUMERIC))
    frame["region"] = rng.choice(REGIONS, rows)
    luck, noise, lost = rng.random(rows), rng.normal(size=rows), rng.random(rows)
    features, concepts, share = design_matrix(frame), course.concepts, course.share[window]
    now, following = (concepts[part[window]] for part in (course.now, course.following))
    if task == "regression":
        best = pd.Series(SLOPE * (features @ now))
        frame[LABEL] = best + SPREAD * noise
        return frame, best, frame[LABEL], -SPREAD * float(np.sqrt(2 / np.pi))
    chance = (1 - share) * expit(STEEPNESS * (features @ now)) + share * expit(
        STEEPNESS * (features @ following)
    )
    chance = chance + course.noise[window] * (1 - 2 * chance)
    best, clean = pd.Series((chance > 0.5).astype(np.int64)), pd.Series((luck < chance).astype(np.int64))
    frame[LABEL] = clean.where(~(course.poisoned[window] & (lost < _LOST)), 0)
    return frame, best, clean, float(np.maximum(chance, 1 - chance).mean())


def _realised(best: pd.Series[Any], clean: pd.Series[Any], task: str) -> float:
    return float((best == clean).mean() if task == "classification" else -(best - clean).abs().mean())
