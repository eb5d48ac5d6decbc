"""How loudly people are told of a decision, under which incident, and which incidents it ends."""

from __future__ import annotations

from tasks.core.messages import Tier
from tasks.core.policy.decision import Cause, Decision

HARM = "harm"
"""The incident of drift that is likely to hurt. It is not that of drift: an open incident is told once, and
who was told of drift that does no harm must be told again when it is likely to."""

_TIERS: dict[Cause, Tier] = {
    "data": "critical",
    "labels": "warning",
    "decay": "warning",
    "drift": "info",
    "new_labels": "info",
    "staleness": "info",
    "first": "info",
}


def incident_of(decision: Decision) -> tuple[str, Tier] | None:
    """Return the incident that this decision opens and its tier; None where there is nothing to tell.

    Drift is for information, whatever an estimate without labels says in its favour, and a warning where a
    loss is to be expected and realised performance does not say otherwise.

    Example:
        >>> incident_of(Decision("TRAIN", "drift", ("inputs drifted",), "train-drift-1", harm="harmful"))
        ('harm', 'warning')
        >>> incident_of(Decision("TRAIN", "drift", ("inputs drifted",), "train-drift-1", harm="harmless"))
        ('drift', 'info')
    """
    if decision.cause == "none":
        return None
    if decision.cause == "drift" and decision.harm == "harmful":
        return HARM, "warning"
    return decision.cause, _TIERS[decision.cause]


def over(decision: Decision) -> set[str]:
    """Return the incidents that cannot be open any more after this decision.

    What its evidence does not know stays open, and so does what only an estimate speaks against.
    """
    known = decision.evidence
    calm = _newest(known.get("drift")) == "ok"
    known_fine = decision.cause == "drift" and decision.kind == "SKIP" and not decision.guards
    ended = {
        "data": known.get("data_ok") is True,
        "labels": known.get("label_fault") is None,
        "decay": _newest(known.get("performance")) == "ok",
        "drift": calm,
        HARM: calm or known_fine,
        "first": known.get("has_champion") is True,
        "new_labels": True,
        "staleness": True,
        "futility": not decision.escalate and (decision.kind == "TRAIN" or decision.cause == "none"),
    }
    opened = incident_of(decision)
    return {cause for cause, is_over in ended.items() if is_over and (opened is None or cause != opened[0])}


def _newest(checks: object) -> str | None:
    return checks[-1]["outcome"] if isinstance(checks, list) and checks else None
