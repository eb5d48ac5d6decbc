"""The advice of a backtest in words: one sentence to act on, and what a reader must know to trust it."""

from __future__ import annotations

import math

from tasks.core.evaluation.bootstrap import Interval
from tasks.core.replay.advice import LOOP, Advice, PolicyAdvice
from tasks.core.replay.frontier import calendar_step
from tasks.core.replay.summary import plural


def advice_sentence(advice: Advice) -> str:
    """Return the advice as one sentence."""
    policy = advice.policy(advice.advised) if advice.advised else None
    if policy is None or policy.mean_score is None:
        return f"No policy held a score in {plural(advice.windows, 'window')}, so there is nothing to advise."
    scale = abs(policy.mean_score)
    held = (
        f"it held a mean {advice.metric} of {amount(policy.mean_score, scale)} with "
        f"{plural(policy.retrainings, 'retraining')} in {plural(advice.windows, 'window')}"
    )
    return f"{_what_to_do(policy.name, len(advice.policies))}: {held}{_against(advice, policy)}."


def advice_details(advice: Advice) -> list[str]:
    """Return the sentences below it: the price, how sure the choice is, and what that rests on."""
    policy = advice.policy(advice.advised) if advice.advised else None
    if policy is None or policy.mean_score is None:
        return []
    return [*_price(advice), *_certainty(advice, policy), *_basis(advice)]


def amount(value: float | None, scale: float) -> str:
    """Return a number with the digits that suit scores of this size; a dash for what could not be told.

    Example:
        >>> amount(0.01234, 0.8), amount(-1.2345, 45.0), amount(None, 1.0)
        ('0.012', '-1.23', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    digits = 3 if scale < 10 else 2 if scale < 100 else 1 if scale < 1000 else 0
    return f"{value:.{digits}f}"


def signed(value: float | None, scale: float) -> str:
    """Return a difference with its sign, in the same digits."""
    text = amount(value, scale)
    return text if text.startswith(("-", "–")) else f"+{text}"


def interval_text(interval: Interval, scale: float) -> str:
    """Return the interval as "low to high"; a dash when it could not be told.

    Example:
        >>> interval_text(Interval(0.01, -0.002, 0.022), 0.8)
        '-0.002 to +0.022'
    """
    if not interval.is_known:
        return "–"
    return f"{signed(interval.low, scale)} to {signed(interval.high, scale)}"


def _what_to_do(name: str, count: int) -> str:
    if name == LOOP:
        return "Keep the loop as it is" if count > 1 else "The loop was the only policy"
    step = calendar_step(name)
    if step == 0:
        return "Do not retrain"
    return f"Retrain {name}, by the calendar" if step else f"Run the {name}"


def _against(advice: Advice, policy: PolicyAdvice) -> str:
    """Return what the advised policy is beside what it is to be measured by."""
    scale = abs(policy.mean_score or 0.0)
    if calendar_step(policy.name) is not None:
        loop = advice.policy(LOOP)
        if loop is None or not loop.behind.is_known:
            return ""
        net_scale = _net_scale(advice, scale)
        gain = f"{amount(loop.behind.value, net_scale)} {_unit(advice)} a window"
        shown = "" if loop.behind.low > 0 else "likely but not shown, "
        sure = f"{shown}95 % interval {interval_text(loop.behind, net_scale)}"
        return f", worth {gain} more than the loop once retrainings are paid for ({sure})"
    above = policy.above
    if not math.isfinite(above.value):
        return ""
    side = "above" if above.value >= 0 else "below"
    distance = f"{amount(abs(above.value), scale)} {side} the line of fixed calendars"
    if not above.is_known:
        return f", {distance}"
    interval = f"95 % interval {interval_text(above, scale)}"
    if above.low > 0 or above.high < 0:
        return f", {distance} ({interval})"
    return f", not distinguishable from fixed calendars with as many ({distance}; {interval})"


def _price(advice: Advice) -> list[str]:
    if advice.price_windows is None:
        return [f"A retraining costs {advice.price:g} {advice.unit} beside its hours."]
    scale = max((abs(policy.mean_score or 0.0) for policy in advice.policies), default=1.0)
    return [
        f"A retraining is priced at {advice.price_windows:g} windows of a fresh model's loss, "
        f"{amount(advice.price, scale)} of {advice.metric}."
    ]


def _certainty(advice: Advice, policy: PolicyAdvice) -> list[str]:
    if policy.best_share is None:
        return [f"With {plural(advice.windows, 'window')} nobody can say how sure this is."]
    sentences = [
        f"After that price it comes out best in {policy.best_share:.0%} of {advice.resamples:,} resampled "
        "histories."
    ]
    best = advice.policy(advice.best) if advice.best else None
    if best is not None and best.name != policy.name and best.best_share is not None:
        sentences.append(
            f"In this history {best.name} came out best ({best.best_share:.0%} of the resampled ones), but "
            "that is too seldom to give up what you have."
        )
    if advice.rivals:
        sentences.append(f"Not distinguishable from it: {', '.join(advice.rivals)}.")
    elif len(advice.policies) > 1:
        sentences.append("Every other policy that can be set is shown to be worth less.")
    return sentences


def _basis(advice: Advice) -> list[str]:
    if not advice.block:
        return []
    return [
        f"Histories are drawn in blocks of {plural(advice.block, 'consecutive window')}; what each policy "
        "did is taken as given."
    ]


def _net_scale(advice: Advice, scale: float) -> float:
    return scale if advice.price_windows is not None else 10.0


def _unit(advice: Advice) -> str:
    return advice.unit if advice.price_windows is None else f"of {advice.metric}"
