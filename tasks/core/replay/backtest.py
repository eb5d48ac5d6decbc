"""One labelled history under many retraining policies, through the pure rules and in memory.

Every window is scored by what serves it before anything learns from it, and nothing looks at a label before
it is mature. The fixed policies fit on the whole training window, each row counting alike; the loop does what
the real flows do, and so does each "loop without" one of its parts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.errors import SpecError
from tasks.core.model.pipeline import Predictions, predict
from tasks.core.policy.staleness import StalenessRule
from tasks.core.replay.backtest_loop import Asks, Loop, OnDecay
from tasks.core.replay.backtest_result import Backtest, PolicyResult
from tasks.core.replay.history import Fits, Fitted, History
from tasks.core.replay.summary import mean
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration

CALENDARS = (
    "never",
    "every 16 windows",
    "every 8 windows",
    "every 4 windows",
    "every 2 windows",
    "every window",
)
PARTS = ("second opinion", "fading", "staleness", "refit", "gate")
"""Parts of the loop that a backtest can leave out, to show what each is good for."""
POLICIES = (*CALENDARS, "on decay", "loop", *(f"loop without {part}" for part in PARTS))

_WITHOUT: dict[str, dict[str, dict[str, Any]]] = {  # Any: values of a spec
    "second opinion": {"serving": {"second_opinion": "off"}},
    "fading": {"window": {"rows": "sliding"}},
    "staleness": {"retrain": {"price": 100.0, "max_age": "never"}},
    "refit": {"gate": {"refit": False}},
    "gate": {},
}


class Policy(Protocol):
    """What serves, and what happens at the end of a window."""

    retrainings: int
    fits: int
    fit_seconds: float

    @property
    def promotions(self) -> int:
        """Retrainings that came to serve."""
        ...

    @property
    def serving(self) -> tuple[int, int | None]:
        """The version that serves now and its partner."""
        ...

    def answers(self, rows: pd.DataFrame) -> Predictions:
        """Return what serves now answers to these rows."""
        ...

    def after(self, window: Window, rows: pd.DataFrame, answers: Predictions) -> None:
        """Look back on a window that was served, and retrain if this policy wants to."""
        ...


@dataclass
class Fixed:
    """Retrains at the end of every `step`-th window on the whole training window; never when `step` is 0."""

    history: History
    begin: datetime
    step: int
    retrainings: int = 0
    fits: int = 0
    fit_seconds: float = 0.0
    _served: int = 0
    _now: Fitted | None = None

    def __post_init__(self) -> None:
        self._refit(self.begin)

    @property
    def promotions(self) -> int:
        """Retrainings that came to serve: all."""
        return self.retrainings

    @property
    def serving(self) -> tuple[int, int | None]:
        """The version that serves; it has no partner."""
        return self.retrainings + 1, None

    def answers(self, rows: pd.DataFrame) -> Predictions:
        """Return what serves now answers to these rows."""
        if self._now is None:  # never: a model is fitted before the first window
            raise RuntimeError("no model has been fitted")
        return predict(self._now.model, rows)

    def after(self, window: Window, rows: pd.DataFrame, answers: Predictions) -> None:
        """Retrain when it is time."""
        del rows, answers
        self._served += 1
        if self.step and self._served % self.step == 0:
            self._refit(window.end)
            self.retrainings += 1

    def _refit(self, as_of: datetime) -> None:
        known = self.history.training_window(as_of)
        self._now = self.history.fit(self.history.rows(known), known.end)
        self.fits += 1
        self.fit_seconds += self._now.seconds


def run_policies(
    frame: pd.DataFrame,
    spec: ModelSpec,
    *,
    first: timedelta | None = None,
    policies: Sequence[str] = POLICIES,
    asks: Asks = "nobody",
    label_delay: str | None = None,
    rule: StalenessRule | None = None,
    fits: Fits | None = None,
    threads: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Backtest:
    """Return the score every policy held over the same windows, and the retrainings it spent.

    Args:
        frame: Labelled rows, one per key; not changed. Rows without a label are left out.
        spec: The model.
        first: Length of the stretch before the first served window; default: the training window.
        policies: Of "never", "every window", "every <k> windows", "on decay", "loop", "loop without <part>".
        asks: Who answers when the gate asks a person: nobody (the champion stays) or everybody (yes).
        label_delay: How long labels take, instead of `label.maturity`.
        rule: Constants of the staleness estimate; default: those that follow from the spec.
        fits: Fits that were made before, by digest; new ones are added, so that a run can be resumed.
        threads: Threads of a fit.
        progress: Called after each window with the policy's name, how many windows are done, and of how many.

    Raises:
        SpecError: for an unknown policy, or a history too short to serve one window.
    """
    if label_delay is not None:
        spec = spec.model_copy(update={"label": spec.label.model_copy(update={"maturity": label_delay})})
    fits = {} if fits is None else fits
    history, begin = prepare_history(frame, spec, first, threads, fits)
    results, loops = [], []
    for name in policies:
        policy = _policy(name, history, begin, asks, rule)
        results.append(_run(name, policy, history, progress))
        if isinstance(policy, Loop):
            loops.append(policy)
    curve = _staleness_curve(loops[0]) if loops else ()
    starts = tuple(window.start for window in history.windows)
    return Backtest(spec.name, spec.metric, len(starts), tuple(results), curve, starts)


def _run(
    name: str, policy: Policy, history: History, progress: Callable[[str, int, int], None] | None
) -> PolicyResult:
    scores, versions = list[float | None](), list[int]()
    partners, debts = list[int | None](), list[float]()
    for done, window in enumerate(history.windows, start=1):
        rows = history.rows(window)
        answers = policy.answers(rows)
        scores.append(history.score(rows, answers))
        version, partner = policy.serving
        versions.append(version)
        partners.append(partner)
        if done < len(history.windows):  # what is learnt at the very end would serve nobody
            policy.after(window, rows, answers)
            if isinstance(policy, Loop) and policy.staleness is not None:
                debts.append(policy.staleness.debt)
        if progress:
            progress(name, done, len(history.windows))
    return PolicyResult(
        name=name,
        mean_score=mean(scores),
        retrainings=policy.retrainings,
        fit_seconds=policy.fit_seconds,
        scores=tuple(scores),
        promotions=policy.promotions,
        fits=policy.fits,
        versions=tuple(versions),
        partners=tuple(partners),
        debts=tuple(debts),
    )


def _policy(name: str, history: History, begin: datetime, asks: Asks, rule: StalenessRule | None) -> Policy:
    if name == "loop":
        return Loop(history, begin, asks=asks, rule=rule)
    if name.startswith("loop without ") and (part := name.removeprefix("loop without ")) in PARTS:
        spec = _changed(history.spec, _WITHOUT[part])
        constants = rule if part != "staleness" else None
        return Loop(replace(history, spec=spec), begin, asks=asks, gate=part != "gate", rule=constants)
    plain = replace(history, spec=_changed(history.spec, {"window": {"rows": "sliding", "max_rows": None}}))
    if name == "on decay":
        return OnDecay(plain, begin)
    if name in {"never", "every window"}:
        return Fixed(plain, begin, 0 if name == "never" else 1)
    every = re.fullmatch(r"every (\d+) windows", name)
    if every is None or int(every[1]) == 0:
        known = ", ".join([*POLICIES, "every <k> windows"])
        raise SpecError(f"policy {name!r}", f"one of {known}", model=history.spec.name)
    return Fixed(plain, begin, int(every[1]))


def _changed(spec: ModelSpec, parts: dict[str, dict[str, Any]]) -> ModelSpec:  # Any: values of a spec
    update = {name: getattr(spec, name).model_copy(update=values) for name, values in parts.items()}
    return spec.model_copy(update=update)


def _staleness_curve(loop: Loop) -> tuple[tuple[int, float, int], ...]:
    """Return by age, in windows, a champion's mean loss relative to that of the newest on the same rows."""
    ratios: dict[int, list[float]] = defaultdict(list)
    for judged in loop.compared:
        newest = next((loss for loss in judged.losses if loss.version == judged.champion), None)
        if newest is None or not newest.loss > 0:
            continue
        for loss in judged.losses:
            ratios[round(loss.age)].append(loss.loss / newest.loss)
    return tuple((age, float(np.mean(found)), len(found)) for age, found in sorted(ratios.items()))


def prepare_history(
    frame: pd.DataFrame,
    spec: ModelSpec,
    first: timedelta | None = None,
    threads: int = 1,
    fits: Fits | None = None,
) -> tuple[History, datetime]:
    """Return the labelled rows by time with the windows to serve, and when the first model is trained.

    Raises:
        SpecError: when no row has a label, or the history is too short to serve one window.
    """
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
    # The last row's moment is within the history: a last window that ends just after it counts as complete.
    step = _usual_step(times.to_numpy())
    windows = tuple(Window(begin, end + step).split(check))
    return History(ordered, spec, windows, threads, {} if fits is None else fits), begin


def _usual_step(times: NDArray[Any]) -> timedelta:
    """Return the usual time between two rows: a history covers as much after its last row."""
    gaps = np.diff(np.unique(times))
    return timedelta(0) if len(gaps) == 0 else pd.Timedelta(np.median(gaps)).to_pytimedelta()
