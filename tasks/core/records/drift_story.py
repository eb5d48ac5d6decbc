"""The first paragraph of a drift report, for somebody who has never seen a p-value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.core.drift.profile import SCORE
from tasks.core.drift.results import JOINT, DriftVerdict
from tasks.core.drift.shape import worst_first
from tasks.core.policy.accumulation import acts_on
from tasks.core.policy.evidence import CheckOutcome
from tasks.core.records.drift_rows import PastVerdict
from tasks.core.records.drift_words import changes_of, inputs_of, told, when
from tasks.core.records.text import number
from tasks.core.spec import ModelSpec
from tasks.core.window import Window

if TYPE_CHECKING:
    from tasks.core.drift.matters.harm import Harm

_NAMED = 3  # features that the paragraph tells of; the tables have them all
_HURTS = {
    "harmful": "It is expected to hurt",
    "harmless": "It is not expected to hurt",
    "unknown": "Whether it hurts is not known",
}


def drift_story(
    spec: ModelSpec,
    verdict: DriftVerdict,
    window: Window | None = None,
    *,
    past: Sequence[PastVerdict] | None = None,
) -> tuple[str, ...]:
    """Return the paragraph's sentences: what was compared, what came of it, what changed, harm, what is next.

    Args:
        spec: The model, of which `drift.windows` says when the loop acts.
        verdict: Of this window.
        window: The window, where it is known.
        past: Verdicts of earlier windows against the same version, oldest first; None where nobody looked.
    """
    sentences = [_compared(verdict, window), _concluded(verdict), *_changed(verdict)]
    if verdict.harm is not None and verdict.outcome != "undecided":
        sentences.append(_hurts(verdict.harm))
    elif verdict.outcome in {"drift", "warn"}:
        sentences.append("Whether it hurts was not estimated.")
    return (*sentences, _next(spec, verdict, window, past))


def apart(past: Sequence[PastVerdict], window: Window) -> list[PastVerdict]:
    """Return the windows before this one that overlap neither it nor each other, oldest first.

    The newest is chosen first, as the policy does: rows in two windows count once.
    """
    chosen: list[PastVerdict] = []
    edge = window.start
    for one in sorted(past, key=lambda item: item.window.end, reverse=True):
        if one.window.end <= edge:
            chosen.append(one)
            edge = one.window.start
    return chosen[::-1]


def _compared(verdict: DriftVerdict, window: Window | None) -> str:
    mine = _rows(verdict.rows) + (f" of {when(window)}" if window else "")
    if not verdict.features:
        return f"{mine} were to be held against {verdict.against}."
    return f"{mine} were compared with {_rows(verdict.reference_rows)}: {verdict.against}."


def _concluded(verdict: DriftVerdict) -> str:
    if verdict.outcome == "undecided":
        return f"There is no verdict: {told(verdict.reason)}."
    inputs = inputs_of(verdict)
    if verdict.outcome == "ok":
        looked = [_count(len(inputs), "feature"), *_besides(verdict, {"ok", "undecided"})]
        return (
            f"They did not drift: whatever differs in {' and '.join(looked)} may be chance "
            "or is too small to matter."
        )
    found = sum(f.outcome == verdict.outcome for f in inputs)
    besides = _besides(verdict, {verdict.outcome})
    also = f"; so did {' and '.join(besides)}" if besides else ""
    of = f"{found} of {_count(len(inputs), 'feature')}"
    if verdict.outcome == "drift":
        return f"They drifted: {of} changed by more than chance explains and enough to matter{also}."
    return f"They are not quite the same: {of} changed, not yet enough to count as drift{also}."


def _besides(verdict: DriftVerdict, outcomes: set[str]) -> list[str]:
    """Return what else has one of these outcomes: the model's scores, and rows as a whole."""
    names = [f.feature for f in verdict.features if f.outcome in outcomes]
    scores = ["the model's own scores"] if any(name.startswith(SCORE) for name in names) else []
    return scores + (["how the columns hang together"] if JOINT in names else [])


def _changed(verdict: DriftVerdict) -> list[str]:
    sentences = []
    changes = changes_of(verdict)
    moved = [f.feature for f in worst_first(verdict) if f.outcome in {"drift", "warn"}]
    moved = [name for name in moved if not name.startswith((SCORE, JOINT))]
    if moved:
        told_of = [f"{name} {changes[name]}" if name in changes else name for name in moved[:_NAMED]]
        more = f"; and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
        sentences.append(f"What changed most: {'; '.join(told_of)}{more}.")
    silent = [f for f in inputs_of(verdict) if f.outcome == "undecided"]
    if silent and verdict.outcome != "undecided":
        needed = max((f.needed for f in silent if f.needed and f.resolvable), default=None)
        enough = f"; it would take {_rows(needed)}" if needed and needed > verdict.rows else ""
        sentences.append(f"Of {_count(len(silent), 'feature')} nothing can be said{enough}.")
    return sentences


def _hurts(harm: Harm) -> str:
    said = _HURTS[harm.outcome]
    if harm.expected is None:
        return f"{said}: {harm.reason.removeprefix('cannot be estimated: ')}."
    promised = f", {number(harm.promised)} was promised" if harm.promised is not None else ""
    interval = f" ({number(harm.low)} to {number(harm.high)})" if harm.low is not None else ""
    return (
        f"{said}: without labels {harm.metric} is estimated at {number(harm.expected)}{interval}{promised}."
    )


def _next(
    spec: ModelSpec, verdict: DriftVerdict, window: Window | None, past: Sequence[PastVerdict] | None
) -> str:
    least, of = spec.drift.windows
    rule = f"the loop acts when {least} of the last {of} windows drift and the newest is one of them"
    if verdict.outcome != "drift":
        return f"Nothing is retrained for this window: {rule}."
    if window is None or past is None:
        return f"What happens next: {rule}."
    seen = [CheckOutcome(one.window, one.outcome) for one in apart(past, window)]  # type: ignore[arg-type]  # checked when it is made
    last = (*seen, CheckOutcome(window, verdict.outcome))[-of:]
    count = sum(one.outcome == "drift" for one in last)
    if acts_on(last, spec.drift.windows, spec.drift.false_alarms):
        return (
            f"What happens next: {count} of the last {_count(len(last), 'window')} drifted, so the policy "
            "decides now whether to retrain; the decision stands on the run's page."
        )
    return f"What happens next: {rule}; so far {count} of {len(last)} did, so it waits."


def _count(number_of: int, thing: str) -> str:
    return f"{number_of:,} {thing}{'' if number_of == 1 else 's'}"


def _rows(number_of: int) -> str:
    return _count(number_of, "row")
