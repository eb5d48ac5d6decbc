"""A simulated year with planted trouble, so that the loop can be watched where the truth is known.

Three things are kept apart, as they are in life: who the customers are (inputs), why they leave (concept),
and what upstream does to the files on their way (arrivals). Inputs move without hurting; concepts change
and hurt; arrivals break. An export writes each file shortly before its window ends; `updated_at` says when.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.core.replay.customers import (
    CATEGORICAL,
    CONCEPTS,
    NUMERIC,
    Floats,
    customers,
    intercepts,
    share,
    with_gaps,
)
from tasks.core.window import Window

START = datetime(2025, 1, 6, tzinfo=UTC)
LENGTH = timedelta(days=14)
HISTORY = 4
KEY, TIME, UPDATED, LABEL = "event_id", "event_time", "updated_at", "churned"
RENAMED = {"customer_age": "cust_age"}


@dataclass(frozen=True)
class Phase:
    """What was planted in windows `first_window` to `last_window`, both included, and whether it hurts."""

    kind: str
    first_window: int
    last_window: int
    harmful: bool
    note: str

    def __contains__(self, window: int) -> bool:
        return self.first_window <= window <= self.last_window


@dataclass(frozen=True)
class Arrival:
    """A file as upstream publishes it: when, under which name, and which earlier file it replaces."""

    at: datetime
    name: str
    frame: pd.DataFrame
    replaces: str | None = None


@dataclass(frozen=True)
class DemoYear:
    """The year: windows, files in order of arrival, what was planted, the model block without `source.url`.

    Windows before `history` only train the first model; the rest are served one by one.
    """

    windows: tuple[Window, ...]
    arrivals: tuple[Arrival, ...]
    truth: tuple[Phase, ...]
    spec: dict[str, Any]  # Any: a YAML tree
    history: int = HISTORY

    def rows(self) -> pd.DataFrame:
        """Return what the year comes to once every correction is in: one right row per key, by time."""
        replaced = {arrival.replaces for arrival in self.arrivals}
        frames = [arrival.frame for arrival in self.arrivals if arrival.name not in replaced]
        rows = pd.concat(frames, ignore_index=True).sort_values([UPDATED, KEY], kind="stable")
        return rows.drop_duplicates(KEY, keep="last").sort_values([TIME, KEY], ignore_index=True)

    def planted(self, window: int) -> list[Phase]:
        """Return the phases that touch this window."""
        return [phase for phase in self.truth if window in phase]


def demo_year(seed: int = 7, rows_per_window: int = 2000, windows: int = 26) -> DemoYear:
    """Return a year of fortnights; the same seed gives the same rows.

    With fewer than 26 windows the year stops early and phases that begin later are left out.
    """
    spans = tuple(Window(START + LENGTH * i, START + LENGTH * (i + 1)) for i in range(windows))
    truth = tuple(
        replace(phase, last_window=min(phase.last_window, windows - 1))
        for phase in PHASES
        if phase.first_window < windows
    )
    constants = intercepts()
    clean = [
        _clean_window(np.random.default_rng([seed, i]), span, i, rows_per_window, constants)
        for i, span in enumerate(spans)
    ]
    arrivals = tuple(_arrivals(clean, spans, np.random.default_rng([seed, 10_000])))
    return DemoYear(spans, arrivals, truth, demo_spec())


def demo_spec() -> dict[str, Any]:  # Any: a YAML tree
    """Return the model block of the demo, ready for YAML; `source.url` is left to the place it runs in."""
    return {
        "name": "demo",
        "task": "classification",
        "source": {"key": KEY, "timestamp": TIME, "updated": UPDATED, "overlap": "1d"},
        "label": {"column": LABEL, "maturity": "2d"},
        "features": {
            "numeric": list(NUMERIC),
            "categorical": list(CATEGORICAL),
            "sensitive": ["customer_age", "region"],
        },
        "contract": {
            "tenure_months": {"ge": 0},
            "monthly_spend": {"ge": 0},
            "customer_age": {"ge": 18, "le": 100},
            "discount_share": {"ge": 0, "le": 1},
            "plan": {"isin": ["basic", "pro", "team"], "nullable": False},
            "region": {"isin": ["north", "south", "east", "west"]},
            LABEL: {"isin": [0, 1], "nullable": False},
            "max_bad_share": 0.01,
        },
        "estimator": {
            "class": "sklearn.ensemble.HistGradientBoostingClassifier",
            "params": {"max_iter": 100, "learning_rate": 0.08, "max_leaf_nodes": 8, "min_samples_leaf": 40},
            "seed": 7,
        },
        "window": {"training": "28d", "check": "14d"},
        "metric": "roc_auc",
        "gate": {"margin": 0.01, "floor": 0.65, "promotion": "auto"},
        "performance": {"band": 0.06},
        "drift": {"detector": "tabular", "false_alarms": 0.01, "windows": [2, 3]},
        "retrain": {"min_new_rows": 1000, "cooldown": "7d", "budget_per_week": 1},
    }


# What is planted, in order. Times between the phases are calm.
PHASES = (
    Phase("calm", 0, 4, False, "a steady start; the first four windows train the first model"),
    Phase("season", 5, 5, False, "the quarter's end: everybody logs in and spends more"),
    Phase("covariate", 7, 9, False, "a campaign brings younger customers through partners"),
    Phase("rename", 10, 10, False, "upstream calls customer_age cust_age; put right a window later"),
    Phase("season", 11, 11, False, "the quarter's end again"),
    Phase(
        "duplicates",
        12,
        12,
        False,
        "one row in eight sent twice, and one in twelve of the window before late",
    ),
    Phase(
        "gradual",
        13,
        15,
        True,
        "a new price list: what people pay decides more and more, not how long they stayed",
    ),
    Phase("season", 17, 17, False, "the quarter's end again"),
    Phase("labels", 18, 18, False, "the labelling job writes nearly only zeros; put right a window later"),
    Phase("sudden", 20, 22, True, "from one day to the next a competitor courts long-standing customers"),
    Phase("season", 23, 23, False, "the quarter's end again"),
)
SEASONS = frozenset(phase.first_window for phase in PHASES if phase.kind == "season")
_BY_KIND = {phase.kind: phase for phase in PHASES if phase.kind != "season"}


def _concept_of(times: pd.Series[pd.Timestamp], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return which concept each row follows: a gradual change takes rows one by one, a sudden one all."""
    gradual, sudden = _BY_KIND["gradual"], _BY_KIND["sudden"]
    begin, end = START + LENGTH * gradual.first_window, START + LENGTH * (gradual.last_window + 1)
    progress = ((times - begin) / (end - begin)).clip(0, 1).to_numpy()
    concept = (rng.random(len(times)) < progress).astype(np.int64)
    concept[(times >= START + LENGTH * sudden.first_window).to_numpy()] = 2
    return concept


def _clean_window(
    rng: np.random.Generator, span: Window, index: int, rows: int, constants: Floats
) -> pd.DataFrame:
    """Return the rows of one window as they should have arrived, by time."""
    seconds = np.sort(rng.integers(0, int(span.length.total_seconds()) - 3600, rows))
    times = pd.Series(pd.Timestamp(span.start) + pd.to_timedelta(seconds, unit="s"))
    people = customers(rng, rows, season=index in SEASONS, campaign=index in _BY_KIND["covariate"])
    concept = _concept_of(times, rng)
    odds = np.choose(
        concept, [rule(people) + constant for rule, constant in zip(CONCEPTS, constants, strict=True)]
    )
    left = (rng.random(rows) < share(odds)).astype(np.int64)
    keys = [f"c{index:02d}-{i:06d}" for i in range(rows)]
    frame = pd.DataFrame({KEY: keys, TIME: times})
    frame[UPDATED] = pd.Timestamp(_export_time(span))
    return pd.concat([frame, with_gaps(people, rng)], axis=1).assign(**{LABEL: left})


def _export_time(span: Window) -> datetime:
    return span.end - timedelta(minutes=10)


def _arrivals(
    clean: list[pd.DataFrame], spans: tuple[Window, ...], rng: np.random.Generator
) -> Iterator[Arrival]:
    """Yield the files in order of arrival, with what upstream did to some of them."""
    for index, (frame, span) in enumerate(zip(clean, spans, strict=True)):
        at, name, sent = _export_time(span), _file_name(span), frame
        if index in _BY_KIND["rename"]:
            sent = frame.rename(columns=RENAMED)
        if index in _BY_KIND["labels"]:
            sent = frame.assign(**{LABEL: (rng.random(len(frame)) < 0.02).astype(np.int64)})
        if index + 1 in _BY_KIND["duplicates"] and index + 1 < len(clean):
            sent = frame[~_late(frame)]
        if index in _BY_KIND["duplicates"]:
            doubled = frame.sample(frac=1 / 8, random_state=rng)
            late = clean[index - 1][_late(clean[index - 1])].assign(**{UPDATED: pd.Timestamp(at)})
            sent = pd.concat([frame, doubled, late], ignore_index=True)
        yield Arrival(at, name, sent.reset_index(drop=True))
        yield from _corrections(index, clean, spans, at)


def _corrections(
    index: int, clean: list[pd.DataFrame], spans: tuple[Window, ...], at: datetime
) -> Iterator[Arrival]:
    """Yield what upstream puts right with this window: the renamed file anew, the wrong labels by key."""
    if index == 0:
        return
    right, name = clean[index - 1].assign(**{UPDATED: pd.Timestamp(at)}), _file_name(spans[index - 1])
    if index - 1 in _BY_KIND["rename"]:
        yield Arrival(at, name.replace(".parquet", "-again.parquet"), right, replaces=name)
    if index - 1 in _BY_KIND["labels"]:
        yield Arrival(at, name.replace(".parquet", "-corrected.parquet"), right)


def _late(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which rows of a window come late: one in twelve, by place, so that both files agree."""
    return np.asarray(np.arange(len(frame)) % 12 == 5)


def _file_name(span: Window) -> str:
    return f"customers-{span.start:%Y-%m-%d}.parquet"
