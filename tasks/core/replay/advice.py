"""What a backtest advises: which policy pays, how sure that is, and the settings that make it so.

A policy's net value is its mean score less the price of its retrainings. The price is `retrain.price`, in
check windows of a fresh model's loss; or money, where `gate.value` says what answers are worth and `costs`
what retraining costs. The present loop is advised unless another policy is likely to be worth more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.evaluation.metrics import greater_is_better
from tasks.core.replay.backtest_result import Backtest, PolicyResult
from tasks.core.replay.blocks import block_interval, block_length, resampled_means
from tasks.core.replay.frontier import calendar_step, line_at, line_weights
from tasks.core.replay.summary import rounded
from tasks.core.spec import ModelSpec
from tasks.core.window import parse_duration

Floats = NDArray[np.float64]
Settings = dict[str, dict[str, Any]]  # Any: a YAML value

LOOP, RESAMPLES, CONFIDENCE = "loop", 2000, 0.95
LIKELY = 0.9  # share of drawn histories in which a policy must beat the loop to be advised instead
_UNKNOWN = Interval(math.nan, math.nan, math.nan)
# What turns the loop into its variant. A policy that no setting makes can be compared, but not advised.
_VARIANTS: dict[str, Settings] = {
    LOOP: {},
    "loop without second opinion": {"serving": {"second_opinion": "off"}},
    "loop without fading": {"window": {"rows": "sliding"}},
    "loop without staleness": {"retrain": {"price": 100.0, "max_age": "never"}},
    "loop without refit": {"gate": {"refit": False}},
}


@dataclass(frozen=True)
class PolicyAdvice:
    """A policy beside the others.

    Attributes:
        name: Its name in the backtest.
        retrainings: Retrainings after the first fit.
        mean_score: Mean window score; None when no window has one.
        line: Score of the line of fixed calendars at as many retrainings; None beyond its ends.
        above: Mean score less the line, with its interval; NaN where the line is unknown, and for the fixed
            calendars, which make the line.
        net: Value per window after the price of retrainings, in the metric or in money; None when unknown.
        behind: Net value of the advised policy less this one's, with its interval.
        best_share: Share of resampled histories in which its net value is the largest of all that can be
            set; None where it cannot be set, or there are too few windows.
    """

    name: str
    retrainings: int
    mean_score: float | None
    line: float | None = None
    above: Interval = _UNKNOWN
    net: float | None = None
    behind: Interval = _UNKNOWN
    best_share: float | None = None

    def to_json(self) -> dict[str, Any]:  # Any: a JSON tree
        """Return this policy's part of the advice in `backtest.json`."""
        return {
            "name": self.name,
            "line": rounded(self.line),
            "above_the_line": _interval_json(self.above),
            "net": rounded(self.net),
            "behind_advised": _interval_json(self.behind),
            "best_share": rounded(self.best_share),
        }


@dataclass(frozen=True)
class Advice:
    """Which policy to follow, and how sure that is.

    Attributes:
        metric: Metric of the scores.
        unit: Unit of net values and of the price: the metric, or a currency.
        price: What one retraining costs, in that unit.
        price_windows: The same in windows of a fresh model's loss; None where the price is money.
        windows: Windows of the history.
        block: Consecutive windows that were resampled together; 0: too few windows to tell anything.
        resamples: How many histories were drawn.
        policies: Every policy, as in the backtest.
        advised: Policy to follow; None where nothing can be compared.
        best: Policy with the largest net value in this history.
        rivals: Policies whose net value is not distinguishable from that of the advised one.
        settings: What to write into the model's block.
    """

    metric: str
    unit: str
    price: float
    price_windows: float | None
    windows: int
    block: int
    resamples: int
    policies: tuple[PolicyAdvice, ...]
    advised: str | None = None
    best: str | None = None
    rivals: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)

    def policy(self, name: str) -> PolicyAdvice | None:
        """Return the policy of this name; None when it was not run."""
        return next((policy for policy in self.policies if policy.name == name), None)

    def yaml(self) -> str:
        """Return the settings as lines of the model's block."""
        return "".join(f"{part}: {{{_pairs(values)}}}\n" for part, values in self.settings.items())

    def to_json(self) -> dict[str, Any]:  # Any: a JSON tree
        """Return the part of `backtest.json` called advice."""
        return {
            "advised": self.advised,
            "best": self.best,
            "not_distinguishable": list(self.rivals),
            "settings": self.settings,
            "unit": self.unit,
            "price_of_retraining": rounded(self.price),
            "price_windows": self.price_windows,
            "block_windows": self.block,
            "resamples": self.resamples,
            "policies": [policy.to_json() for policy in self.policies],
        }


def advise(result: Backtest, spec: ModelSpec, *, seed: int = 0, resamples: int = RESAMPLES) -> Advice:
    """Return what a backtest advises for this model; the same seed gives the same advice.

    The uncertainty is that of the windows: they are drawn again in blocks of consecutive ones, all policies
    together. What each policy did is taken as given, so its retrainings are those of the history.
    """
    scored = [policy for policy in result.policies if policy.mean_score is not None]
    ledger = _accounts(result, scored, spec)
    settable = [policy.name for policy in scored if settings_of(policy.name, spec) is not None]
    training = parse_duration(spec.window.training) / parse_duration(spec.window.check)
    complete = all(len(policy.scores) == result.windows for policy in scored)
    block = block_length(result.windows if complete else 0, training)
    sample = _Sample(ledger, block, resamples, seed)
    advised, best = _choose(sample, settable)
    policies = tuple(_policy_advice(policy, scored, sample, settable, advised) for policy in result.policies)
    rivals = [policy.name for policy in policies if policy.name in settable and policy.name != advised]
    return Advice(
        result.metric,
        ledger.unit,
        ledger.price,
        ledger.price_windows,
        result.windows,
        block,
        resamples,
        policies,
        advised,
        best,
        tuple(name for name in rivals if advised and not sample.lead(advised, name).low > 0),
        (settings_of(advised, spec) or {}) if advised else {},
    )


def settings_of(name: str, spec: ModelSpec) -> Settings | None:
    """Return the part of a model's block that makes it follow this policy; None where no setting does.

    A fixed calendar learns from the training window alone and serves the newest version alone, as in the
    backtest. Everything not named stays as the spec has it.
    """
    step = calendar_step(name)
    alone: Settings = {"window": {"rows": "sliding"}, "serving": {"second_opinion": "off"}}
    if step == 0:
        return {"retrain": {"budget_per_week": 0}, **alone}
    if step is not None:
        return {"retrain": {"every": _times(spec.window.check, step)}, **alone}
    if name not in _VARIANTS:
        return None
    every = spec.retrain.every
    own: Settings = {
        "retrain": {"every": every} if every else {"price": spec.retrain.price},
        "window": {"rows": spec.window.rows},
        "serving": {"second_opinion": spec.serving.second_opinion},
    }
    return {**own, **_VARIANTS[name]}


def fresh_loss(result: Backtest) -> float | None:
    """Return the mean loss of a window under a fresh model: that of the policy with the most retrainings.

    Of an error (neg_*) the loss is the error; of other metrics it is what is missing to 1, at least 0.
    """
    scored = [policy for policy in result.policies if policy.mean_score is not None]
    freshest = max(scored, key=lambda policy: policy.retrainings, default=None)
    if freshest is None or freshest.mean_score is None:
        return None
    perfect = 1.0 if greater_is_better(result.metric) else 0.0
    return max(0.0, perfect - freshest.mean_score)


@dataclass(frozen=True)
class _Accounts:
    """Scores and their worth by window and policy; by policy what its retrainings cost per window."""

    names: tuple[str, ...]
    unit: str
    price: float
    price_windows: float | None
    scores: Floats
    values: Floats
    cost: Floats


def _accounts(result: Backtest, scored: Sequence[PolicyResult], spec: ModelSpec) -> _Accounts:
    names, windows = tuple(policy.name for policy in scored), max(result.windows, 1)
    complete = all(len(policy.scores) == result.windows for policy in scored)
    scores = _matrix([policy.scores if complete else (policy.mean_score,) for policy in scored])
    costs = spec.costs
    if scored and all(len(policy.money) == result.windows for policy in scored) and complete:
        hours = np.array([policy.fit_seconds for policy in scored]) / 3600
        retrainings = np.array([policy.retrainings for policy in scored], dtype=np.float64)
        cost = (costs.per_retraining * retrainings + costs.per_hour * hours) / windows
        values = _matrix([policy.money for policy in scored])
        return _Accounts(names, costs.currency, costs.per_retraining, None, scores, values, cost)
    price = spec.retrain.price * (fresh_loss(result) or 0.0)
    cost = np.array([price * policy.retrainings / windows for policy in scored])
    return _Accounts(names, result.metric, price, spec.retrain.price, scores, scores, cost)


class _Sample:
    """The accounts of the history, and of histories drawn from it; none are drawn when `block` is 0."""

    def __init__(self, accounts: _Accounts, block: int, resamples: int, seed: int):
        self._windows, self._block = len(accounts.scores), block
        self._place = {name: place for place, name in enumerate(accounts.names)}
        self._net = _means(accounts.values) - accounts.cost
        self._score = _means(accounts.scores)
        self._drawn_scores = self._drawn_nets = np.empty((0, len(accounts.names)))
        if block and accounts.names:
            draw = {"resamples": resamples, "seed": seed}
            self._drawn_scores = resampled_means(accounts.scores, block, **draw)
            self._drawn_nets = resampled_means(accounts.values, block, **draw) - accounts.cost

    def net(self, name: str) -> float:
        """Return the net value of a policy, per window."""
        return float(self._net[self._place[name]])

    def lead(self, name: str, other: str, confidence: float = CONFIDENCE) -> Interval:
        """Return by how much the first policy's net value exceeds the other's."""
        weights = {name: 1.0, other: -1.0} if name != other else {}
        return self._interval(self._net, self._drawn_nets, weights, confidence)

    def share_ahead(self, name: str, other: str) -> float:
        """Return the share of drawn histories in which the first policy's net value is the larger; else 0."""
        nets = self._drawn_nets[:, [self._place[name], self._place[other]]]
        return float((nets[:, 0] > nets[:, 1]).mean()) if len(nets) else 0.0

    def above(self, name: str, line: dict[str, float]) -> Interval:
        """Return by how much a policy's score exceeds the weighted mean of calendars."""
        weights = {calendar: -weight for calendar, weight in line.items()}
        weights[name] = weights.get(name, 0.0) + 1.0
        return self._interval(self._score, self._drawn_scores, weights, CONFIDENCE)

    def best_share(self, name: str, among: Sequence[str]) -> float | None:
        """Return the share of drawn histories in which the policy has the largest net value of these."""
        if name not in among or not len(self._drawn_nets):
            return None
        nets = np.nan_to_num(self._drawn_nets[:, [self._place[other] for other in among]], nan=-np.inf)
        is_best = nets == nets.max(axis=1, keepdims=True)
        return float((is_best / is_best.sum(axis=1, keepdims=True))[:, list(among).index(name)].mean())

    def _interval(
        self, values: Floats, drawn: Floats, weights: dict[str, float], confidence: float
    ) -> Interval:
        column = np.zeros(len(values))
        for name, weight in weights.items():
            column[self._place[name]] = weight
        return block_interval(
            float(values @ column),
            drawn @ column,
            windows=self._windows,
            block=self._block,
            confidence=confidence,
        )


def _choose(sample: _Sample, settable: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the policy to follow, and the one of the largest net value.

    The loop is followed unless that other is worth more in nine of ten drawn histories. Our choice: a switch
    costs little, and a bar of 95 % for the best of several would keep short histories from ever advising one;
    whether it is also shown is said beside it.
    """
    best = max(settable, key=sample.net, default=None)
    if best is None or LOOP not in settable or best == LOOP:
        return best, best
    return (best if sample.share_ahead(best, LOOP) >= LIKELY else LOOP), best


def _policy_advice(
    policy: PolicyResult,
    scored: Sequence[PolicyResult],
    sample: _Sample,
    settable: Sequence[str],
    advised: str | None,
) -> PolicyAdvice:
    if policy.mean_score is None:
        return PolicyAdvice(policy.name, policy.retrainings, None)
    line = line_weights(scored, policy.retrainings)
    return PolicyAdvice(
        policy.name,
        policy.retrainings,
        policy.mean_score,
        line_at(scored, policy.retrainings),
        sample.above(policy.name, line) if line and calendar_step(policy.name) is None else _UNKNOWN,
        sample.net(policy.name),
        sample.lead(advised, policy.name) if advised else _UNKNOWN,
        sample.best_share(policy.name, settable),
    )


def _matrix(columns: Sequence[Sequence[float | None]]) -> Floats:
    """Return windows by policies, NaN for what could not be told."""
    return np.array(columns, dtype=np.float64).T if columns else np.empty((0, 0))


def _means(values: Floats) -> Floats:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):  # a policy without any value has no mean
        means: Floats = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return means


def _times(duration: str, count: int) -> str:
    return f"{int(duration[:-1]) * count}{duration[-1]}"


def _pairs(values: dict[str, Any]) -> str:  # Any: a YAML value
    return ", ".join(f"{key}: {_scalar(value)}" for key, value in values.items())


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # YAML 1.1 reads a bare off as false; the fields of a block are text.
    return f'"{value}"' if value in {"off", "on", "yes", "no"} else f"{value}"


def _interval_json(interval: Interval) -> dict[str, float | None]:
    return {name: rounded(getattr(interval, name)) for name in ("value", "low", "high")}
