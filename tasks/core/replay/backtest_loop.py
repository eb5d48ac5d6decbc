"""The two policies of a backtest that measure before they retrain: on decay, and the whole loop.

The loop takes evidence, debt, partner, decision, gate and probation from the same pure functions as the live
flows, in the order of a night: `monitor` compares the champions and decides, then `detect_drift` checks the
inputs and decides.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.drift import verdict as drift
from tasks.core.drift.past.calendar import choose
from tasks.core.drift.profile import Reference, build_reference, profile_frame
from tasks.core.evaluation import performance
from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.champions import SecondOpinion
from tasks.core.evaluation.clusters import clustered_interval
from tasks.core.evaluation.comparison import FormerChampion, compare_champions, row_clusters, shown_better
from tasks.core.evaluation.gate import GateEvidence, PairedScores, decide_promotion
from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.model.guess import guessed, learn_guess
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import Predictions, predict
from tasks.core.model.refit import check_refit
from tasks.core.model.second_opinion import combine
from tasks.core.model.split import Split, all_rows, split_rows
from tasks.core.model.weighting import row_weights
from tasks.core.policy.decision import CheckOutcome, Decision, Evidence, decide, wanted_cause
from tasks.core.policy.label_fault import (
    LabelledWindow,
    SuspectWindow,
    suspect_windows,
    windows_to_look_at,
    without_suspects,
    without_windows,
)
from tasks.core.policy.probation import judge_probation
from tasks.core.policy.staleness import (
    Staleness,
    StalenessRule,
    WindowLosses,
    estimate_staleness,
    rule_of,
)
from tasks.core.replay.history import Fitted, History
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration

_MASK = b"backtest"  # nothing leaves the process, so any key will do
_MEMORY = 200  # drift checks that are remembered, more than any rule looks back
Asks = Literal["nobody", "everybody"]


@dataclass(frozen=True)
class Champion:
    """A version in a backtest: its model, what it promised, what it learnt from and its reference."""

    model: Any  # Any: a fitted pipeline
    promise: Interval
    learnt_until: datetime
    labels: Counter[Any]
    number: int = 1
    trained_at: datetime | None = None
    serves_since: datetime | None = None
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
    fits: int = 0
    fit_seconds: float = 0.0
    _log: _Log = field(init=False)
    _now: Champion = field(init=False)

    def __post_init__(self) -> None:
        self._log = _Log(self.history)
        self._refit(self.begin)

    @property
    def promotions(self) -> int:
        """Retrainings that came to serve: all."""
        return self.retrainings

    @property
    def serving(self) -> tuple[int, int | None]:
        """The version that serves and its partner."""
        return self.retrainings + 1, None

    def answers(self, rows: pd.DataFrame) -> Predictions:
        """Return what serves now answers to these rows."""
        return predict(self._now.model, rows)

    def after(self, window: Window, rows: pd.DataFrame, answers: Predictions) -> None:
        """Judge what is known by the end of the window, and retrain on decay."""
        self._log.add(rows, answers)
        if self._log.judge(window, self._now).outcome == "drift":
            self._refit(window.end)
            self.retrainings += 1

    def _refit(self, as_of: datetime) -> None:
        history, known = self.history, self.history.training_window(as_of)
        rows = history.rows(known)
        split = split_rows(rows, history.spec, known.end)
        trial, final = history.fit(split.train, known.end), history.fit(rows, known.end)
        self.fits += 2
        self.fit_seconds += trial.seconds + final.seconds
        promise = _score(history, split.holdout, predict(trial.model, split.holdout))
        self._now = Champion(final.model, promise, known.end, _counts(history, rows))
        self._log.forget()


@dataclass
class Loop:
    """What the real flows do at the end of each window.

    Args:
        history: The rows; its spec says what the loop does.
        begin: When the first model is trained.
        asks: Who answers when the gate asks a person: nobody (no is the answer) or everybody (yes).
        gate: False promotes every challenger.
        rule: Constants of the staleness estimate; default: those that follow from the spec.
    """

    history: History
    begin: datetime
    asks: Asks = "nobody"
    gate: bool = True
    rule: StalenessRule | None = None
    retrainings: int = 0
    promotions: int = 0
    fits: int = 0
    fit_seconds: float = 0.0
    decisions: list[Decision] = field(default_factory=list)
    gates: list[GateDecision] = field(default_factory=list)
    compared: list[WindowLosses] = field(default_factory=list)
    staleness: Staleness | None = None
    _log: _Log = field(init=False)
    _champions: list[Champion] = field(default_factory=list)
    _partner: int | None = None
    _withdrawn: set[int] = field(default_factory=set)
    _versions: int = 0
    _drift: list[CheckOutcome] = field(default_factory=list)
    _performance: list[CheckOutcome] = field(default_factory=list)
    _trained: list[datetime] = field(default_factory=list)
    _failed: list[tuple[datetime, str]] = field(default_factory=list)
    _breaks: list[datetime] = field(default_factory=list)
    _moves: list[tuple[Window, tuple[bool | None, bool | None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rule = self.rule or rule_of(self.history.spec)
        self._log = _Log(self.history)
        self._train(self.begin, "first")

    @property
    def serving(self) -> tuple[int, int | None]:
        """The version that serves and its partner."""
        return self._now.number, self._partner

    def answers(self, rows: pd.DataFrame) -> Predictions:
        """Return what serves now answers to these rows: the champion alone, or the mean with its partner."""
        champion = predict(self._now.model, rows)
        if self._partner is None or rows.empty:
            return champion
        return combine(champion, predict(self._version(self._partner).model, rows))

    def after(self, window: Window, rows: pd.DataFrame, answers: Predictions) -> None:
        """Do what the flows do at the end of a window: monitor, then detect drift."""
        self._log.add(rows, answers)
        known = self._log.window(window)
        self._performance.append(_outcome(known, self._log.judge(window, self._now)))
        opinion = self._compare(window.end, known)
        decision = self._decide(window, known)
        if not self._went_back(window.end) and opinion is not None and opinion.decided:
            self._partner = opinion.partner
        if decision.kind == "TRAIN":
            self._train(window.end, decision.cause)
        moved = self._drift_of(window, rows)
        self._drift.append(CheckOutcome(window, moved.outcome, moved.reason, strength=moved.strength))
        self._moves = [*self._moves, (window, (moved.scores_moved, moved.inputs_moved))][-_MEMORY:]
        decision = self._decide(window, window)
        if decision.kind == "TRAIN":
            self._train(window.end, decision.cause)

    # What monitor measures.

    def _compare(self, as_of: datetime, known: Window) -> SecondOpinion | None:
        """Score every champion on the newest labelled window; None where the newest has learnt some of it."""
        spec, rows = self.history.spec, self.history.rows(known)
        if self._now.learnt_until > known.start or rows.empty:
            return None
        if any(
            suspect.window.start < known.end and known.start < suspect.window.end
            for suspect in self._suspects(known, as_of)
        ):
            return None
        newest = self._champions[-spec.serving.champions :] if spec.serving.champions else self._champions
        champions = {
            champion.number: FormerChampion(champion.number, champion.model, champion.learnt_until)
            for champion in newest
        }
        found = compare_champions(
            champions, self._now.number, rows, spec, known, as_of=as_of, withdrawn=self._withdrawn
        )
        if found.losses is not None:
            self.compared.append(found.losses)
        return found.opinion

    def _went_back(self, as_of: datetime) -> bool:
        """Let the version before serve again where the champion broke its promise in its first windows."""
        spec, now = self.history.spec, self._now
        if len(self._champions) < 2 or now is not self._champions[-1] or now.serves_since is None:
            return False
        found = judge_probation(self._performance, now.serves_since, spec.gate.probation, spec.drift.windows)
        if found.outcome != "rollback" or found.span is None:
            return False
        rows, before = self.history.rows(found.span), self._champions[-2]
        rows = rows[rows[spec.source.timestamp] >= pd.Timestamp(now.serves_since)]
        earlier, later = (_scored(spec, rows, predict(version.model, rows)) for version in (before, now))
        if len(rows) >= spec.gate.min_rows and not shown_better(
            earlier, later, spec, row_clusters(rows, spec)
        ):
            return False
        self._withdrawn.add(now.number)
        self._champions.pop()
        self._failed.append((as_of, "decay"))
        self._forget()
        return True

    def _drift_of(self, window: Window, rows: pd.DataFrame) -> drift.DriftVerdict:
        answers = predict(self._now.model, rows)
        scores = answers.probabilities if answers.probabilities is not None else _numbers(answers.prediction)
        reference = self._now.reference
        if reference is None:  # never: every champion of the loop is promoted with one
            raise RuntimeError("the champion has no reference")
        profile = profile_frame(rows, reference, scores=scores, key=_MASK)
        spec = self.history.spec
        return drift.judge(reference, profile, spec, against=choose(reference, window, spec))

    # What the policy decides.

    def _decide(self, window: Window, about: Window) -> Decision:
        evidence = self._evidence(window, about)
        decision = decide(replace(evidence, futile=self._futile(evidence)), self.history.spec)
        self.decisions.append(decision)
        return decision

    def _evidence(self, window: Window, about: Window) -> Evidence:
        history, now = self.history, self._now
        known = self._log.window(window)
        last = self._trained[-1] if self._trained else self.begin
        fresh = history.known_until(window.end) - history.known_until(last)
        self.staleness = self._estimate(window.end)
        suspects = self._suspects(known, window.end)
        return Evidence(
            as_of=window.end,
            data_ok=True,
            drift=tuple(self._drift),
            performance=without_suspects(self._performance, suspects),
            label_fault=f"{suspects[-1].window}: {suspects[-1].reason}" if suspects else None,
            new_rows=len(history.rows(Window.ending(known.end, fresh))) if fresh else 0,
            last_training=last,
            retrainings=tuple(self._trained),
            champion_trained=now.trained_at,
            staleness=self.staleness,
            judged_until=self.compared[-1].window.end if self.compared else None,
            window=about,
        )

    def _suspects(self, known: Window, as_of: datetime) -> tuple[SuspectWindow, ...]:
        """Return the windows whose labels are suspect; only labels of answered rows are counted, as live."""
        history = self.history
        spans = windows_to_look_at(known, history.spec, as_of)
        return suspect_windows(
            [LabelledWindow(span, self._labels(span, as_of), *self._moved_in(span)) for span in spans],
            history.spec,
            as_of,
        )

    def _labels(self, span: Window, as_of: datetime) -> Counter[Any]:
        start, end = max(span.start, self.begin), min(span.end, self.history.known_until(as_of))
        if start >= end:
            return Counter()
        return Counter(labels_of(self.history.rows(Window(start, end)), self.history.spec).tolist())

    def _moved_in(self, span: Window) -> tuple[bool | None, bool | None]:
        there = [
            (window, flags)
            for window, flags in self._moves
            if window.start < span.end and span.start < window.end
        ]
        overlaps = [min(window.end, span.end) - max(window.start, span.start) for window, _ in there]
        covered = sum(overlaps, timedelta(0)) >= span.length
        return tuple(_moved([flags[place] for _, flags in there], covered) for place in (0, 1))  # type: ignore[return-value]

    def _estimate(self, as_of: datetime) -> Staleness:
        spec = self.history.spec
        return estimate_staleness(
            self.compared,
            self.rule or rule_of(spec),
            as_of=as_of,
            trained_at=self._now.trained_at or self.begin,
            length=parse_duration(spec.window.check).total_seconds(),
            trainings=(self.begin, *self._trained),
            price=spec.costs.per_retraining or None,
        )

    def _futile(self, evidence: Evidence) -> int:
        """Return how many retrainings for the cause that asks now failed within a training window."""
        spec = self.history.spec
        cause, since = wanted_cause(evidence, spec), evidence.as_of - parse_duration(spec.window.training)
        return sum(at > since and failed == cause for at, failed in self._failed)

    # What a retraining does.

    def _train(self, as_of: datetime, cause: str) -> None:
        history, spec = self.history, self.history.spec
        if cause == "decay":
            self._breaks.append(as_of)
        end = history.known_until(as_of)
        rows = history.learnable(as_of, break_at=self._breaks[-1] if self._breaks else None)
        suspects = self._suspects(self._log.window(Window.ending(as_of, spec.window.check)), as_of)
        rows = without_windows(rows, spec.source.timestamp, [suspect.window for suspect in suspects])
        split = split_rows(rows, spec, end)
        judged = self._fit(split.train, split.cut)
        self._versions += 1
        is_first = not self._champions
        if not is_first:
            self.retrainings += 1
            self._trained.append(as_of)
            if self.gate and not self._passes(judged, split):
                self._failed.append((as_of, cause))
                return
            self.promotions += 1
        self._promote(judged, split, rows, as_of)

    def _fit(self, rows: pd.DataFrame, end: datetime) -> Fitted:
        fitted = self.history.fit(rows, end)
        self.fits += 1
        self.fit_seconds += fitted.seconds
        return fitted

    def _passes(self, judged: Fitted, split: Split) -> bool:
        spec, time = self.history.spec, self.history.spec.source.timestamp
        rows = split.holdout[split.holdout[time] >= pd.Timestamp(self._now.learnt_until)]
        challenger = self._paired(judged.model, rows)
        weights = row_weights(split.train[time], spec, split.cut)
        evidence = GateEvidence(
            metric=spec.metric,
            challenger=challenger,
            champion=self._paired(self._now.model, rows),
            baseline=guessed(spec, learn_guess(spec, split.train, weights), challenger.scored),
            positive=spec.label.positive,
            first_row=rows[time].iloc[0].to_pydatetime() if len(rows) else None,
            champion_train_end=self._now.learnt_until,
            slices={name: rows[name].to_numpy() for name in spec.gate.slices},
            seed=spec.estimator.seed,
            train_labels=labels_of(split.train, spec),
            clusters=row_clusters(rows, spec),
        )
        verdict = decide_promotion(evidence, spec.gate)
        self.gates.append(verdict)
        return verdict.outcome == "promote" or (verdict.outcome == "ask" and self.asks == "everybody")

    def _paired(self, model: Any, rows: pd.DataFrame) -> PairedScores:  # Any: a fitted pipeline
        scored = _scored(self.history.spec, rows, predict(model, rows))
        return PairedScores(rows[self.history.spec.source.key].to_numpy(), scored)

    def _promote(self, judged: Fitted, split: Split, rows: pd.DataFrame, as_of: datetime) -> None:
        """Let the recipe serve, fitted on all rows where that model agrees with the judged one."""
        history, spec, end = self.history, self.history.spec, self.history.known_until(as_of)
        answers = predict(judged.model, split.holdout)
        promise = _score(history, split.holdout, answers)
        model, learnt_until = judged.model, split.cut
        if spec.gate.refit:
            refitted = self._fit(all_rows(rows, spec), end).model
            scored = _scored(spec, split.holdout, answers)
            if not check_refit(
                spec, scored, _scored(spec, split.holdout, predict(refitted, split.holdout)), promise.low
            ).objection:
                model, learnt_until = refitted, end
        recent = rows[rows[spec.source.timestamp] >= pd.Timestamp(history.training_window(as_of).start)]
        scores = answers.probabilities if answers.probabilities is not None else _numbers(answers.prediction)
        times = recent[spec.source.timestamp]
        self._champions.append(
            Champion(
                model=model,
                promise=promise,
                learnt_until=learnt_until,
                labels=_counts(history, recent),
                number=self._versions,
                trained_at=as_of,
                serves_since=as_of,
                reference=build_reference(recent, spec, scores=scores, key=_MASK, times=times),
            )
        )
        self._failed.clear()
        self._forget()

    def _forget(self) -> None:
        """Begin anew with another champion: what was checked before is not about it."""
        self._partner = None
        self._drift.clear()
        self._performance.clear()
        self._log.forget()

    @property
    def _now(self) -> Champion:
        return self._champions[-1]

    def _version(self, number: int) -> Champion:
        return next(champion for champion in self._champions if champion.number == number)


class _Log:
    """What the present champion answered, until its labels are mature."""

    def __init__(self, history: History):
        self._history = history
        self._served: list[tuple[pd.DataFrame, Predictions]] = []

    def add(self, rows: pd.DataFrame, answers: Predictions) -> None:
        """Remember the answers to these rows."""
        self._served = [*self._served, (rows, answers)][-self._span() :]

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
        for rows, answers in self._served:
            times = rows[spec.source.timestamp]
            inside = ((times >= pd.Timestamp(known.start)) & (times < pd.Timestamp(known.end))).to_numpy()
            labels += labels_of(rows[inside], spec).tolist() if inside.any() else []
            predictions += answers.prediction[inside].tolist()
            classes = answers.classes
            if answers.probabilities is not None:
                scores += answers.probabilities[inside].tolist()
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
        """Return how many windows an answer may wait for its label, and be judged afterwards."""
        length, end = self._history.windows[0].length, self._history.windows[0].end
        return int((end - self._history.known_until(end)) / length) + 2


def _moved(flags: list[bool | None], covered: bool) -> bool | None:
    """Return whether something moved in a window: no only where checks of all of it say so."""
    if any(flags):
        return True
    return None if None in flags or not covered else False


def _outcome(window: Window, verdict: PerformanceVerdict) -> CheckOutcome:
    return CheckOutcome(window, verdict.outcome, verdict.reason)


def _scored(spec: ModelSpec, rows: pd.DataFrame, answers: Predictions) -> Scored:
    return Scored(labels_of(rows, spec), answers.prediction, answers.probabilities, answers.classes)


def _score(history: History, rows: pd.DataFrame, answers: Predictions) -> Interval:
    spec = history.spec
    return clustered_interval(
        _scored(spec, rows, answers),
        spec.metric,
        row_clusters(rows, spec),
        confidence=spec.performance.confidence,
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
