"""What being out of date has cost since the last training, and when that calls for a retraining.

Nothing is fitted to measure it: every champion that is kept scores each newly labelled window, and what the
older ones lose beside the newer ones on the same rows says how fast a model of this data goes stale.

    slope = relative loss gained per window of age, from champions of different age on the same windows
    level = what a fresh model loses: the champion's loss in the last windows, freed of its age
    debt  = sum since the last training of belief * slope * age + (1 - belief) * (loss / level - 1)

The first part is what the history of ages expects, the second what this window showed; each counts half. A
retraining is due when the debt has reached its price, at the latest when the model is `age_limit` old. Debt
and price are in windows of a fresh model's loss, or money where the spec says what outcomes are worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration, utc

MEMORY = 20
"""Training windows of history that are looked at; older ones would count less than a thousandth."""
FRESH = 0.5
"""Age in windows below which a model owes nothing: it has learnt all that there was, so what it loses is what
a fresh model loses, however hard the window was."""


@dataclass(frozen=True)
class StalenessRule:
    """The constants of the rule; times are in check windows.

    Attributes:
        price: Debt at which a retraining pays, in windows of a fresh model's loss.
        training: Length of the training window.
        age_limit: Age at which a retraining is due whatever the debt is; infinite for none.
        every: Plain calendar: a retraining is due at this age, and the debt decides nothing; None: none.
        belief: Share of the debt that comes from the slope; the rest comes from the window's own loss. A half
            is our choice: the slope alone misses sudden changes, and the losses alone are mostly chance.
        prior: Relative loss gained in one training window, before anything is known. Our choice: at the
            default price a model without a history is then renewed after about one training window.
        prior_windows: How many windows with two champions, one training window apart in age, the prior counts
            as much as.
    """

    price: float = 0.4
    training: float = 8.0
    age_limit: float = 8.0
    every: float | None = None
    belief: float = 0.5
    prior: float = 0.2
    prior_windows: float = 2.0


@dataclass(frozen=True)
class VersionLoss:
    """What one champion lost on one window.

    `age` is in windows, from the end of what it learnt to the start of the window: 0 for a fresh model.
    """

    version: int
    loss: float
    age: float


@dataclass(frozen=True)
class WindowLosses:
    """The losses of the champions on one labelled window that none of them had learnt.

    Attributes:
        window: When the rows happened.
        at: When the losses were measured.
        champion: The newest of the versions: the one that served alone or with a partner.
        losses: Loss per version, the champion's among them.
        money: What the champion's answers cost over the window beside perfect ones; None where the spec names
            no values.
    """

    window: Window
    at: datetime
    champion: int
    losses: tuple[VersionLoss, ...]
    money: float | None = None

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the losses as JSON values."""
        return {
            "at": utc(self.at).isoformat(),
            "champion": self.champion,
            "losses": [asdict(loss) for loss in self.losses],
            "money": self.money,
        }

    @classmethod
    def from_summary(cls, window: Window, raw: Mapping[str, Any]) -> WindowLosses:  # Any: JSON
        """Return the losses written by `summary`."""
        return cls(
            window=window,
            at=datetime.fromisoformat(raw["at"]),
            champion=int(raw["champion"]),
            losses=tuple(VersionLoss(int(v["version"]), v["loss"], v["age"]) for v in raw["losses"]),
            money=raw["money"],
        )


@dataclass(frozen=True)
class Staleness:
    """How stale the champion is.

    Attributes:
        debt: Loss since the last training beyond a fresh model's, in windows of a fresh model's loss.
        price: Debt at which a retraining is due.
        level: Loss of a fresh model on a window; NaN where no window has been judged.
        slope: Relative loss gained per window of age.
        age: Windows since the last training.
        age_limit: Age at which a retraining is due.
        due: Which of the two calls for a retraining, or the calendar; empty for none.
        currency_price: The price in money, where there is one.
        windows: Judged windows that the estimate rests on.
    """

    debt: float
    price: float
    level: float
    slope: float
    age: float
    age_limit: float
    due: Literal["", "debt", "age", "calendar"] = ""
    currency_price: float | None = None
    windows: int = 0

    def sentence(self) -> str:
        """Return in one sentence what calls for a retraining, or how far away it is."""
        debt = f"being out of date has cost {self.debt:.2g} windows of a fresh model's loss"
        price = f"{self.price:.2g}" + (f" ({self.currency_price:g} in money)" if self.currency_price else "")
        if self.due == "debt":
            return f"{debt}, a retraining costs {price}"
        if self.due == "calendar":
            return f"the calendar asks for a retraining every {self.age_limit:g} windows"
        if self.due == "age":
            return f"the champion is {self.age:.3g} windows old, its limit is {self.age_limit:g}"
        return f"{debt} of {price}, and it is {self.age:.3g} of at most {self.age_limit:g} windows old"

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the estimate as JSON values; None for what is not a finite number."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def rule_of(spec: ModelSpec) -> StalenessRule:
    """Return the constants that follow from a spec."""
    check, retrain = parse_duration(spec.window.check), spec.retrain
    training = parse_duration(spec.window.training) / check
    limit = training if retrain.max_age is None else math.inf
    if retrain.max_age not in (None, "never"):
        limit = parse_duration(str(retrain.max_age)) / check
    every = parse_duration(retrain.every) / check if retrain.every else None
    return StalenessRule(price=retrain.price, training=training, age_limit=limit, every=every)


def estimate_staleness(
    history: Sequence[WindowLosses],
    rule: StalenessRule,
    *,
    as_of: datetime,
    trained_at: datetime,
    length: float,
    trainings: Sequence[datetime] = (),
    price: float | None = None,
) -> Staleness:
    """Return the debt of the champion at `as_of` and whether a retraining is due.

    Args:
        history: Judged windows, oldest first; windows judged after `as_of` must not be among them.
        rule: The constants.
        as_of: The moment to decide at.
        trained_at: When the champion was trained. Its age counts from here, so that labels which are slow to
            mature do not make a model old at birth.
        length: Seconds of a check window.
        trainings: When trainings were attempted, whatever came of them: each sets the debt back to nothing.
        price: Price of a retraining in money; used where windows say what their loss costs.
    """
    since = max([utc(trained_at), *[utc(moment) for moment in trainings]])
    age = (utc(as_of) - since).total_seconds() / length
    recent = list(history)[-int(MEMORY * max(rule.training, 1)) :]
    debt, slope, level = _accumulate(recent, rule, trainings)
    unit = _money_level(recent[-_level_windows(rule) :], level) if price else 0.0
    limit, due = price / unit if price and unit > 0 else rule.price, ""
    if rule.every is not None:
        due = "calendar" if _reached(age, rule.every) else ""
    elif recent and debt >= limit:
        due = "debt"
    elif _reached(age, rule.age_limit):
        due = "age"
    return Staleness(
        debt=debt,
        price=limit,
        level=level,
        slope=slope,
        age=age,
        age_limit=rule.age_limit if rule.every is None else rule.every,
        due=due,  # type: ignore[arg-type]  # one of the four, by construction
        currency_price=price if unit > 0 else None,
        windows=len(recent),
    )


def _accumulate(
    history: Sequence[WindowLosses], rule: StalenessRule, trainings: Sequence[datetime]
) -> tuple[float, float, float]:
    """Return debt, slope and level after the last window; zero, the prior and NaN before the first."""
    fading = 0.5 ** (1 / max(2 * rule.training, 1))
    weight = rule.prior_windows * rule.training**2  # that of champions one training window apart
    start = rule.prior / rule.training
    products = squares = debt = 0.0
    slope, level = start, math.nan
    resets = sorted(utc(moment) for moment in trainings)
    for place, judged in enumerate(history):
        if place and any(history[place - 1].at <= moment < judged.at for moment in resets):
            debt = 0.0
        product, square = _slope_terms(judged)
        products, squares = fading * products + product, fading * squares + square
        slope = max(0.0, (products + weight * start) / (squares + weight))
        level = _level(history[max(0, place + 1 - _level_windows(rule)) : place + 1], slope)
        champion = _of_champion(judged)
        if champion is None or not level > 0 or champion.age < FRESH:
            continue
        surprise = champion.loss / level - 1
        debt = max(0.0, debt + rule.belief * slope * champion.age + (1 - rule.belief) * surprise)
    return debt, slope, level


def _slope_terms(judged: WindowLosses) -> tuple[float, float]:
    """Return the terms of a least-squares slope, through the origin, of relative loss on difference in age.

    Each earlier champion is compared with the newest on the same rows, so a hard window is no sign of age.
    """
    newest = _of_champion(judged)
    if newest is None or not newest.loss > 0:
        return 0.0, 0.0
    earlier = [loss for loss in judged.losses if loss.version != newest.version and math.isfinite(loss.loss)]
    older = np.array([loss.age - newest.age for loss in earlier])
    extra = np.array([loss.loss / newest.loss - 1 for loss in earlier])
    return float(older @ extra), float(older @ older)


def _level(history: Sequence[WindowLosses], slope: float) -> float:
    """Return the mean loss of the champions of these windows, each freed of its age; NaN without any."""
    champions = [_of_champion(judged) for judged in history]
    fresh = [loss.loss / (1 + slope * loss.age) for loss in champions if loss is not None]
    return float(np.mean(fresh)) if fresh else math.nan


def _money_level(history: Sequence[WindowLosses], level: float) -> float:
    """Return what a fresh model's answers cost in a window, in money; 0 where that is not known."""
    pairs = [(judged.money, _of_champion(judged)) for judged in history]
    known = [(money, loss.loss) for money, loss in pairs if money is not None and loss is not None]
    lost = sum(loss for _, loss in known)
    return sum(money for money, _ in known) / lost * level if known and lost > 0 else 0.0


def _of_champion(judged: WindowLosses) -> VersionLoss | None:
    found = next((loss for loss in judged.losses if loss.version == judged.champion), None)
    return found if found is not None and math.isfinite(found.loss) else None


def _level_windows(rule: StalenessRule) -> int:
    return max(1, round(rule.training))


def _reached(age: float, limit: float) -> bool:
    """Return whether the age has reached the limit; a millionth short counts: 4w is every fourth week."""
    return age >= limit - 1e-6
