"""The two policies of a backtest that look before they retrain: on decay, and the whole loop."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.drift import verdict as drift
from tasks.core.drift.past.calendar import choose
from tasks.core.drift.profile import Reference, build_reference, profile_frame
from tasks.core.evaluation import performance
from tasks.core.evaluation.bootstrap import Interval, score_interval
from tasks.core.evaluation.gate import GateEvidence, PairedScores, decide_promotion
from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import Predictions, predict
from tasks.core.model.split import Split, split_rows
from tasks.core.policy.decision import CheckOutcome, Decision, Evidence, decide, wanted_cause
from tasks.core.policy.label_fault import suspect
from tasks.core.replay.history import Fitted, History
from tasks.core.window import Window, parse_duration

_MASK = b"backtest"  # nothing leaves the process, so any key will do
_PROMOTED = ("promote", "ask")  # whoever would be asked says yes, as with promotion: manual


@dataclass(frozen=True)
class Champion:
    """A version in a backtest: its model, what it promised, what it learnt from and its reference."""

    model: Any  # Any: a fitted pipeline
    promise: Interval
    learnt_until: datetime
    labels: Counter[Any]
    reference: Reference | None = None


@dataclass
class OnDecay:
    """Retrains whenever the newest window breaks the promise, beyond chance: no guards and no gate.

    The promise is the score on the newest rows of a model fitted on the older ones; the model that serves is
    then fitted on all of them. Both fits count.
    """

    history: History
    begin: datetime
    retrainings: int = 0
    fit_seconds: float = 0.0
    _log: _Log = field(init=False)
    _now: Champion = field(init=False)

    def __post_init__(self) -> None:
        self._log = _Log(self.history)
        self._refit(self.begin)

    @property
    def model(self) -> Any:  # Any: a fitted pipeline
        """The model that serves now."""
        return self._now.model

    def after(self, window: Window, rows: pd.DataFrame, said: Predictions) -> None:
        """Judge what is known by the end of the window, and retrain on decay."""
        self._log.add(rows, said)
        if self._log.judge(window, self._now).outcome == "drift":
            self._refit(window.end)
            self.retrainings += 1

    def _refit(self, as_of: datetime) -> None:
        history, known = self.history, self.history.training_window(as_of)
        rows = history.rows(known)
        split = split_rows(rows, history.spec, known.end)
        trial, final = history.fit(split.train, as_of), history.fit(rows, as_of)
        self.fit_seconds += trial.seconds + final.seconds
        promise = _score(history, split.holdout, predict(trial.model, split.holdout))
        self._now = Champion(final.model, promise, known.end, _counts(history, rows))
        self._log.forget()


@dataclass
class Loop:
    """What the real flows do: check performance and drift, decide, train on the older rows, ask the gate."""

    history: History
    begin: datetime
    retrainings: int = 0
    fit_seconds: float = 0.0
    decisions: list[Decision] = field(default_factory=list)
    gates: list[GateDecision] = field(default_factory=list)
    _log: _Log = field(init=False)
    _now: Champion = field(init=False)
    _drift: list[CheckOutcome] = field(default_factory=list)
    _performance: list[CheckOutcome] = field(default_factory=list)
    _trained: list[datetime] = field(default_factory=list)
    _kept: list[tuple[datetime, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._log = _Log(self.history)
        fitted, split = self._challenge(self.begin)
        self._promote(fitted, split)

    @property
    def model(self) -> Any:  # Any: a fitted pipeline
        """The model that serves now."""
        return self._now.model

    def after(self, window: Window, rows: pd.DataFrame, said: Predictions) -> None:
        """Check, decide, and retrain when the decision says so."""
        self._log.add(rows, said)
        spec = self.history.spec
        realised = self._log.judge(window, self._now)
        self._performance.append(_outcome(self._log.window(window), realised))
        moved = self._drift_of(window, rows, said)
        self._drift.append(CheckOutcome(window, moved.outcome, moved.reason))
        evidence = self._evidence(window, moved)
        decision = decide(replace(evidence, futile=self._futile(evidence)), spec)
        self.decisions.append(decision)
        if decision.kind == "TRAIN":
            self._retrain(window.end, decision.cause)

    def _evidence(self, window: Window, moved: drift.DriftVerdict) -> Evidence:
        history, now = self.history, self._now
        known = self._log.window(window)
        last = self._trained[-1] if self._trained else self.begin
        fresh = history.known_until(window.end) - history.known_until(last)
        suspicion = suspect(
            now.labels,
            _counts(history, history.rows(known)),
            scores_moved=moved.scores_moved,
            inputs_moved=moved.inputs_moved,
            numbers=history.spec.task == "regression",
        )
        return Evidence(
            as_of=window.end,
            data_ok=True,
            drift=tuple(self._drift),
            performance=tuple(self._performance),
            label_fault=suspicion.reason if suspicion else None,
            new_rows=len(history.rows(Window.ending(known.end, fresh))),
            last_training=last,
            retrainings=tuple(self._trained),
            champion_trained=now.learnt_until,
            window=window,
        )

    def _futile(self, evidence: Evidence) -> int:
        """Return how many retrainings for the cause that asks now were kept back within a training window."""
        spec = self.history.spec
        cause, since = wanted_cause(evidence, spec), evidence.as_of - parse_duration(spec.window.training)
        return sum(at > since and kept == cause for at, kept in self._kept)

    def _retrain(self, as_of: datetime, cause: str) -> None:
        fitted, split = self._challenge(as_of)
        self.retrainings += 1
        self._trained.append(as_of)
        verdict = self._gate(fitted, split)
        self.gates.append(verdict)
        if verdict.outcome in _PROMOTED:
            self._promote(fitted, split)
        else:
            self._kept.append((as_of, cause))

    def _challenge(self, as_of: datetime) -> tuple[Fitted, Split]:
        known = self.history.training_window(as_of)
        split = split_rows(self.history.rows(known), self.history.spec, known.end)
        fitted = self.history.fit(split.train, as_of)
        self.fit_seconds += fitted.seconds
        return fitted, split

    def _gate(self, fitted: Fitted, split: Split) -> GateDecision:
        spec, time = self.history.spec, self.history.spec.source.timestamp
        rows = split.holdout[split.holdout[time] >= pd.Timestamp(self._now.learnt_until)]
        evidence = GateEvidence(
            metric=spec.metric,
            challenger=self._paired(fitted.model, rows),
            champion=self._paired(self._now.model, rows),
            positive=spec.label.positive,
            first_row=rows[time].iloc[0].to_pydatetime() if len(rows) else None,
            champion_train_end=self._now.learnt_until,
            slices={name: rows[name].to_numpy() for name in spec.gate.slices},
            seed=spec.estimator.seed,
            train_labels=labels_of(split.train, spec),
        )
        return decide_promotion(evidence, spec.gate)

    def _paired(self, model: Any, rows: pd.DataFrame) -> PairedScores:  # Any: a fitted pipeline
        said = predict(model, rows)
        truth = labels_of(rows, self.history.spec)
        scored = Scored(truth, said.prediction, said.probabilities, said.classes)
        return PairedScores(rows[self.history.spec.source.key].to_numpy(), scored)

    def _promote(self, fitted: Fitted, split: Split) -> None:
        history = self.history
        said = predict(fitted.model, split.holdout)
        scores = said.probabilities if said.probabilities is not None else _numbers(said.prediction)
        times = split.train[history.spec.source.timestamp]
        reference = build_reference(split.train, history.spec, scores=scores, key=_MASK, times=times)
        promise = _score(history, split.holdout, said)
        labels = _counts(history, split.train) + _counts(history, split.holdout)
        self._now = Champion(fitted.model, promise, split.cut, labels, reference)
        self._drift.clear()
        self._performance.clear()
        self._kept.clear()
        self._log.forget()

    def _drift_of(self, window: Window, rows: pd.DataFrame, said: Predictions) -> drift.DriftVerdict:
        scores = said.probabilities if said.probabilities is not None else _numbers(said.prediction)
        reference = self._now.reference
        if reference is None:  # never: every champion of the loop is promoted with one
            raise RuntimeError("the champion has no reference")
        profile = profile_frame(rows, reference, scores=scores, key=_MASK)
        spec = self.history.spec
        return drift.judge(reference, profile, spec, against=choose(reference, window, spec))


class _Log:
    """What the present champion answered, until its labels are mature."""

    def __init__(self, history: History):
        self._history = history
        self._served: list[tuple[pd.DataFrame, Predictions]] = []

    def add(self, rows: pd.DataFrame, said: Predictions) -> None:
        """Remember the answers to these rows."""
        self._served = [*self._served, (rows, said)][-self._span() :]

    def forget(self) -> None:
        """Forget the answers of a model that no longer serves."""
        self._served = []

    def window(self, window: Window) -> Window:
        """Return the newest window of this length whose labels are known when `window` ends."""
        return Window.ending(self._history.known_until(window.end), window.length)

    def judge(self, window: Window, champion: Champion) -> PerformanceVerdict:
        """Return whether the answers whose labels have become known by the window's end keep the promise."""
        spec, known = self._history.spec, self.window(window)
        labels: list[Any] = []
        predictions: list[Any] = []
        scores: list[Any] = []
        classes: tuple[Any, ...] | None = None
        for rows, said in self._served:
            times = rows[spec.source.timestamp]
            inside = ((times >= pd.Timestamp(known.start)) & (times < pd.Timestamp(known.end))).to_numpy()
            labels += labels_of(rows[inside], spec).tolist() if inside.any() else []
            predictions += said.prediction[inside].tolist()
            classes = said.classes
            if said.probabilities is not None:
                scores += said.probabilities[inside].tolist()
        return performance.judge(
            labels,
            predictions,
            scores or None,
            classes,
            spec,
            champion.promise.value,
            promise_low=champion.promise.low,
        )

    def _span(self) -> int:
        """Return how many windows an answer may wait for its label, and be looked at afterwards."""
        length, end = self._history.windows[0].length, self._history.windows[0].end
        return int((end - self._history.known_until(end)) / length) + 2


def _outcome(window: Window, verdict: PerformanceVerdict) -> CheckOutcome:
    return CheckOutcome(window, verdict.outcome, verdict.reason)


def _score(history: History, rows: pd.DataFrame, said: Predictions) -> Interval:
    spec = history.spec
    return score_interval(
        Scored(labels_of(rows, spec), said.prediction, said.probabilities, said.classes),
        spec.metric,
        confidence=spec.gate.confidence,
        seed=spec.estimator.seed,
        positive=spec.label.positive,
    )


def _counts(history: History, rows: pd.DataFrame) -> Counter[Any]:
    """Return rows per label; of numbers, rows per tenth of the whole history's range of labels."""
    if rows.empty:
        return Counter()
    labels = labels_of(rows, history.spec)
    if history.spec.task == "classification":
        return Counter(labels.tolist())
    every = labels_of(history.frame, history.spec)
    edges = np.quantile(every, np.linspace(0.1, 0.9, 9))
    return Counter(np.searchsorted(edges, labels).tolist())


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
