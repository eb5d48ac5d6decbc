"""One labelled history under many retraining policies, through the pure rules and in memory.

Every window is scored by the model that serves it before anything learns from it, and nothing looks at a
label before it is mature. The fixed policies fit on the whole training window; the loop does what the real
flows do: it fits on the older rows, checks, decides, and asks the gate on the rows kept unseen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.errors import SpecError
from tasks.core.model.pipeline import Predictions, predict
from tasks.core.replay.backtest_loop import Loop, OnDecay
from tasks.core.replay.backtest_result import Backtest, PolicyResult
from tasks.core.replay.history import Fitted, History
from tasks.core.replay.summary import mean
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration

POLICIES = ("never", "every 4 windows", "every window", "on decay", "loop")


class Policy(Protocol):
    """What serves, and what happens at the end of a window."""

    retrainings: int
    fit_seconds: float

    @property
    def model(self) -> Any:  # Any: a fitted pipeline
        """The model that serves now."""
        ...

    def after(self, window: Window, rows: pd.DataFrame, said: Predictions) -> None:
        """Look at a window that was served, and retrain if this policy wants to."""
        ...


@dataclass
class Fixed:
    """Retrains at the end of every `step`-th window on the whole training window; never when `step` is 0."""

    history: History
    begin: datetime
    step: int
    retrainings: int = 0
    fit_seconds: float = 0.0
    _served: int = 0
    _now: Fitted = field(init=False)

    def __post_init__(self) -> None:
        self._refit(self.begin)

    @property
    def model(self) -> Any:  # Any: a fitted pipeline
        """The model that serves now."""
        return self._now.model

    def after(self, window: Window, rows: pd.DataFrame, said: Predictions) -> None:
        """Retrain when it is time."""
        del rows, said
        self._served += 1
        if self.step and self._served % self.step == 0:
            self._refit(window.end)
            self.retrainings += 1

    def _refit(self, as_of: datetime) -> None:
        self._now = self.history.fit(self.history.rows(self.history.training_window(as_of)), as_of)
        self.fit_seconds += self._now.seconds


def run_policies(
    frame: pd.DataFrame,
    spec: ModelSpec,
    *,
    first: timedelta | None = None,
    policies: Sequence[str] = POLICIES,
    threads: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Backtest:
    """Return the score every policy held over the same windows, and the retrainings it spent.

    Args:
        frame: Labelled rows, one per key; not changed. Rows without a label are left out.
        spec: The model.
        first: Length of the stretch before the first served window; default: the training window.
        policies: Of "never", "every window", "every <k> windows", "on decay" and "loop".
        threads: Threads of a fit.
        progress: Called after each window with the policy's name, how many windows are done, and of how many.

    Raises:
        SpecError: for an unknown policy, or a history too short to serve one window.
    """
    history, begin = _history(frame, spec, first, threads)
    results = [_run(name, history, begin, progress) for name in policies]
    return Backtest(spec.name, spec.metric, len(history.windows), tuple(results))


def _run(
    name: str, history: History, begin: datetime, progress: Callable[[str, int, int], None] | None
) -> PolicyResult:
    policy, scores = _policy(name, history, begin), list[float | None]()
    for done, window in enumerate(history.windows, start=1):
        rows = history.rows(window)
        said = predict(policy.model, rows)
        scores.append(history.score(rows, said))
        if done < len(history.windows):  # what is learnt at the very end would serve nobody
            policy.after(window, rows, said)
        if progress:
            progress(name, done, len(history.windows))
    return PolicyResult(name, mean(scores), policy.retrainings, policy.fit_seconds, tuple(scores))


def _policy(name: str, history: History, begin: datetime) -> Policy:
    if name == "loop":
        return Loop(history, begin)
    if name == "on decay":
        return OnDecay(history, begin)
    if name in {"never", "every window"}:
        return Fixed(history, begin, 0 if name == "never" else 1)
    every = re.fullmatch(r"every (\d+) windows", name)
    if every is None or int(every[1]) == 0:
        known = ", ".join(["never", "every window", "every <k> windows", "on decay", "loop"])
        raise SpecError(f"policy {name!r}", f"one of {known}", model=history.spec.name)
    return Fixed(history, begin, int(every[1]))


def _history(
    frame: pd.DataFrame, spec: ModelSpec, first: timedelta | None, threads: int
) -> tuple[History, datetime]:
    time_column = spec.source.timestamp
    labelled = frame[frame[spec.label.column].notna()]
    ordered = labelled.sort_values([time_column, spec.source.key], kind="stable", ignore_index=True)
    if ordered.empty:
        raise SpecError("a history without a labelled row", "labelled rows", model=spec.name)
    check = parse_duration(spec.window.check)
    times = ordered[time_column]
    start, end = times.iloc[0].to_pydatetime(), times.iloc[-1].to_pydatetime() + timedelta(microseconds=1)
    begin = start + (first or parse_duration(spec.window.training))
    if begin + check > end:
        raise SpecError(
            f"a history of {(end - start).days} days",
            f"more than {(begin - start).days} days to begin with and one window of {spec.window.check}",
            "take a longer history, or shorten window.training",
            model=spec.name,
        )
    # The last row's moment is within the history: a last window that ends just after it counts as whole.
    step = _usual_step(times.to_numpy())
    windows = tuple(Window(begin, end + step).split(check))
    return History(ordered, spec, windows, threads), begin


def _usual_step(times: NDArray[Any]) -> timedelta:
    """Return the usual time between two rows: a history covers as much after its last row."""
    gaps = np.diff(np.unique(times))
    return timedelta(0) if len(gaps) == 0 else pd.Timedelta(np.median(gaps)).to_pytimedelta()
