"""What should happen now: block, skip or train, concluded from evidence and nothing else.

The rules, in order; the first that applies names the cause:

1. bad data blocks: it may not cause a retraining;
2. no champion yet: train the first;
3. decay: realised performance is beyond its band in M of the last N windows and in the newest: train, unless
   the champions' losses show that a fresh model would lose as much;
4. drift in M of N windows and the newest, where no label has shown its effect: train;
5. staleness: being out of date has cost as much as a retraining, or the champion has reached its greatest
   age (or `retrain.every` is a calendar): train;
6. `retrain.min_new_labels` labels have matured that no training has seen: train;
7. otherwise skip, and say how far away a retraining is.

A suspected labelling fault blocks the rows of its windows, not the loop: they are no evidence of decay and stay
out of training. Where nothing else calls for a retraining the decision is to block, and a person is notified.

Decay and drift bring forward what staleness would ask for later: with decay half the price of a retraining is
enough. A promise that is broken while the debt is below that is a hard spell, which no retraining ends. Where
labels have shown what drifted inputs do
to the score, that loss is part of the debt, and drift itself asks for nothing. What drift is estimated to do
without labels changes none of this: an estimate is blind to concept drift, so it may neither clear an alarm
nor raise one. It says in the reasons what to expect, and how severe a notification is (`tiers`).

Every wish to train then passes the guards: new rows, cooldown, budget, and futility, which concerns decay and
drift alone: a retraining that is due by debt or age needs no alarm to have been true.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from tasks.core.policy.accumulation import acts_on
from tasks.core.policy.evidence import CheckOutcome, Evidence, HarmOutcome, Outcome, recorded
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration

__all__ = [
    "Cause",
    "CheckOutcome",
    "Decision",
    "Evidence",
    "Guard",
    "Kind",
    "Outcome",
    "cause_of",
    "decide",
    "decision_id",
    "wanted_cause",
]

Kind = Literal["BLOCK", "SKIP", "TRAIN"]
Cause = Literal["data", "labels", "decay", "drift", "staleness", "new_labels", "first", "none"]
Guard = Literal["new_rows", "cooldown", "budget", "futility"]

FORWARD = 0.5
"""Share of the price that is enough where the champion has also broken its promise; our choice, as two
witnesses need less each."""
_WEEK = timedelta(days=7)
_WORDS = {
    ("score", "ok"): "within its band",
    ("score", "warn"): "below its band, perhaps by chance",
    ("score", "drift"): "below its band",
    ("score", "undecided"): "undecided",
    ("inputs", "ok"): "unmoved",
    ("inputs", "warn"): "moved a little",
    ("inputs", "drift"): "moved",
    ("inputs", "undecided"): "undecided",
}
_EXPECTED: dict[HarmOutcome | None, str] = {
    "harmful": "without labels a loss is expected",
    "harmless": "without labels no loss is expected, which only labels can confirm",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Decision:
    """What the policy concluded, why, and under which id it is claimed and remembered.

    `cause` is what the evidence called for, also where a guard turned the wish to train into a SKIP;
    `guards` names those guards. `escalate` says that the loop cannot help itself and a person must look.
    `harm` is what the drift that is the cause is estimated to do; None where realised performance has spoken.
    """

    kind: Kind
    cause: Cause
    reasons: tuple[str, ...]
    id: str
    escalate: bool = False
    evidence: dict[str, object] = field(default_factory=dict, compare=False)
    guards: tuple[Guard, ...] = ()
    window: Window | None = None
    harm: HarmOutcome | None = None

    def sentence(self) -> str:
        """Return the decision as one line for a log or a run's name."""
        return f"{self.kind} ({self.cause}): " + "; ".join(self.reasons)


def decide(evidence: Evidence, spec: ModelSpec) -> Decision:
    """Return what should happen now.

    The same evidence about the same window always gives the same decision and id, whoever asks and when.

    Example:
        >>> from tasks.core.spec import parse_spec
        >>> spec = parse_spec({"name": "m", "label": {"column": "y"}, "features": {"numeric": ["x"]},
        ...                    "source": {"url": "rows.parquet", "key": "id", "timestamp": "t"}})
        >>> bad = Evidence(datetime(2026, 1, 1, tzinfo=UTC), data_ok=False, data_reason="column x is gone")
        >>> decide(bad, spec).sentence()
        'BLOCK (data): bad data: column x is gone'
    """
    kind, cause, reason = _finding(evidence, spec)
    reasons, guards = [reason], {}
    if kind == "TRAIN":
        guards = _guards(cause, evidence, spec)
        if guards:
            kind = "SKIP"
            reasons += guards.values()
    window = _window(cause, evidence, spec)
    return Decision(
        kind=kind,
        cause=cause,
        reasons=tuple(reasons),
        id=decision_id(spec.name, kind, cause, window),
        escalate="futility" in guards,
        evidence=recorded(evidence),
        guards=tuple(guards),
        window=window,
        harm=_harm(cause, evidence, spec),
    )


def wanted_cause(evidence: Evidence, spec: ModelSpec) -> Cause | None:
    """Return the cause for which the evidence asks for training, guards aside; None where it does not.

    Whoever gathers evidence needs it to count the futile retrainings *for that cause*.
    """
    kind, cause, _ = _finding(evidence, spec)
    return cause if kind == "TRAIN" else None


def decision_id(model: str, kind: Kind, cause: Cause, window: Window) -> str:
    """Return the id under which this decision is claimed: equal for equal arguments, else different.

    It starts with kind and cause so that a person can read it; a skipped wish to train and the training
    that follows on the same window once the guard lifts are two decisions.

    Example:
        >>> decision_id("churn", "TRAIN", "decay", Window.ending(datetime(2026, 1, 8, tzinfo=UTC), "7d"))
        'train-decay-fb02626bb69f4985'
    """
    text = json.dumps([model, kind, cause, window.start.isoformat(), window.end.isoformat()])
    return f"{kind.lower()}-{cause}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def cause_of(decision: str) -> str | None:
    """Return the cause written in a decision id of ours, None for any other id (a manual run, say).

    Example:
        >>> cause_of("train-decay-0123456789abcdef"), cause_of("manual-7")
        ('decay', None)
    """
    kind, _, rest = decision.partition("-")
    cause, _, digest = rest.partition("-")
    ours = kind.upper() in get_args(Kind) and cause in get_args(Cause) and len(digest) == 16
    return cause if ours else None


def _finding(evidence: Evidence, spec: ModelSpec) -> tuple[Kind, Cause, str]:
    """Return what the evidence calls for, guards aside: kind, cause and the reason in words."""
    if evidence.data_ok is False:
        return "BLOCK", "data", f"bad data: {evidence.data_reason or 'the contract does not hold'}"
    if not evidence.has_champion:
        return "TRAIN", "first", "no version serves yet"
    kind, cause, reason = (
        _by_checks(evidence, spec)
        or _by_staleness(evidence)
        or _by_labels(evidence, spec)
        or ("SKIP", "none", _calm(evidence, spec))
    )
    if evidence.label_fault is None:
        return kind, cause, reason
    fault = f"suspected labelling fault: {evidence.label_fault or 'see the check'}"
    if kind == "TRAIN":
        return kind, cause, f"{reason}; {fault}: its rows stay out of training"
    return "BLOCK", "labels", fault


def _by_checks(evidence: Evidence, spec: ModelSpec) -> tuple[Kind, Cause, str] | None:
    often = f"in {spec.drift.windows[0]} of {spec.drift.windows[1]} windows and the newest"
    if acts_on(evidence.performance, spec.drift.windows, spec.drift.false_alarms):
        return _by_decay(evidence, f"performance beyond its band {often}{_why(evidence.performance)}")
    if not acts_on(evidence.drift, spec.drift.windows, spec.drift.false_alarms):
        return None
    found = f"inputs drifted {often}{_why(evidence.drift)}"
    newest = evidence.drift[-1]
    if due := _by_staleness(evidence):
        return due
    if _known_fine(evidence, spec):
        feared = ", whatever the estimate feared" if newest.harm == "harmful" else ""
        return "SKIP", "drift", f"{found}; drift does not hurt: performance there is within its band{feared}"
    if evidence.staleness and evidence.judged_until and evidence.judged_until > _recent(evidence, spec):
        cost = evidence.staleness.sentence()
        return "SKIP", "drift", f"{found}; labels there have shown what it costs: {cost}"
    expected = f"; {_EXPECTED[newest.harm]}: {newest.harm_reason}" if newest.harm in _EXPECTED else ""
    return "TRAIN", "drift", f"{found}; performance there is not known to be fine{expected}"


def _by_decay(evidence: Evidence, reason: str) -> tuple[Kind, Cause, str]:
    """Return a retraining, or why none would help, as the losses of champions of every age show."""
    found = evidence.staleness
    if found is None or found.windows < 2:  # a loss that stands alone has no level to be compared with
        return "TRAIN", "decay", reason
    if found.due:
        return "TRAIN", "decay", f"{reason}; {found.sentence()}"
    if found.debt >= FORWARD * found.price:
        return "TRAIN", "decay", f"{reason}; {found.sentence()}, of which {FORWARD:g} is enough with decay"
    return "SKIP", "decay", f"{reason}; a fresh model would lose about as much: {found.sentence()}"


def _by_labels(evidence: Evidence, spec: ModelSpec) -> tuple[Kind, Cause, str] | None:
    wanted, found = spec.retrain.min_new_labels, evidence.new_labels
    if wanted is None or found is None or found < wanted:
        return None
    return "TRAIN", "new_labels", f"{found} labels have matured since the last training, {wanted} are enough"


def _by_staleness(evidence: Evidence) -> tuple[Kind, Cause, str] | None:
    found = evidence.staleness
    return ("TRAIN", "staleness", found.sentence()) if found and found.due else None


def _calm(evidence: Evidence, spec: ModelSpec) -> str:
    """Say what calls for nothing, without taking silence for health."""
    told = []
    for name, checks in (("score", evidence.performance), ("inputs", evidence.drift)):
        told.append(f"{name} {_WORDS[name, checks[-1].outcome]}" if checks else f"{name} not checked")
    least, of = spec.drift.windows
    bad = [
        sum(check.outcome == "drift" for check in checks[-of:])
        for checks in (evidence.performance, evidence.drift)
        if checks and checks[-1].outcome == "drift"
    ]
    few = f"; in {max(bad)} of the {least} windows needed (of the last {of})" if bad else ""
    newest = evidence.drift[-1] if evidence.drift else None
    if newest and newest.outcome == "drift" and newest.harm in _EXPECTED:
        few += f"; {_EXPECTED[newest.harm]}: {newest.harm_reason}"
    stale = evidence.staleness.sentence() if evidence.staleness else "the champion's age is not known"
    return "nothing calls for training: " + ", ".join([*told, stale]) + few


def _why(checks: tuple[CheckOutcome, ...]) -> str:
    return f" ({checks[-1].reason})" if checks[-1].reason else ""


def _harm(cause: Cause, evidence: Evidence, spec: ModelSpec) -> HarmOutcome | None:
    return evidence.drift[-1].harm if cause == "drift" and not _known_fine(evidence, spec) else None


def _known_fine(evidence: Evidence, spec: ModelSpec) -> bool:
    """Whether the newest decided performance check is ok and looked at windows as recent as the drift.

    Labels come later than inputs, so a check up to M - 1 window lengths behind the newest drifted window
    counts; an older one says nothing about the drifted rows. Measured in time, not in the number of
    drift checks: one more healthy check must never make this stricter.
    """
    decided = [check for check in evidence.performance if check.outcome != "undecided"]
    return bool(decided) and decided[-1].outcome == "ok" and decided[-1].window.end > _recent(evidence, spec)


def _recent(evidence: Evidence, spec: ModelSpec) -> datetime:
    """Return the moment after which a labelled window must end to say something about the drifted rows."""
    newest = evidence.drift[-1].window
    return newest.start - (spec.drift.windows[0] - 1) * newest.length


def _guards(cause: Cause, evidence: Evidence, spec: ModelSpec) -> dict[Guard, str]:
    """Return the guards that forbid training now, each with its reason."""
    rules, held = spec.retrain, dict[Guard, str]()
    least = rules.min_new_rows
    if least is not None and evidence.new_rows is not None and evidence.new_rows < least:
        held["new_rows"] = f"{evidence.new_rows} new labelled rows, {least} are needed"
    earlier = [*evidence.retrainings, *([evidence.last_training] if evidence.last_training else [])]
    if earlier and evidence.as_of - max(earlier) < parse_duration(rules.cooldown):
        held["cooldown"] = f"the last retraining was less than {rules.cooldown} ago"
    spent = sum(moment > evidence.as_of - _WEEK for moment in evidence.retrainings)
    if spent >= rules.budget_per_week:
        held["budget"] = f"{spent} retrainings in seven days, the budget is {rules.budget_per_week}"
    if cause in ("decay", "drift") and evidence.futile >= rules.futile_limit:
        held["futility"] = f"{evidence.futile} retrainings for this cause did not help: a person must look"
    return held


def _window(cause: Cause, evidence: Evidence, spec: ModelSpec) -> Window:
    """Return the window a decision is about: that of the check which caused it, where there is one."""
    if cause == "decay":
        return evidence.performance[-1].window
    if cause == "drift":
        return evidence.drift[-1].window
    if evidence.window is not None:
        return evidence.window
    checked = [check.window for check in (*evidence.drift[-1:], *evidence.performance[-1:])]
    if checked and cause not in ("staleness", "new_labels"):
        return max(checked, key=lambda window: window.end)
    length = parse_duration(spec.window.check)
    return Window.ending(_EPOCH + (evidence.as_of - _EPOCH) // length * length, length)
