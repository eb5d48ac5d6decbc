"""What people are told: the text of a message, the same on every channel."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Literal

Tier = Literal["critical", "warning", "info"]

LONGEST = 1000
"""Most characters of what is told; what to do and the link come on top and are never cut."""
_TODO = {
    "data": "look at the validation report; mend the source, or the contract where the change is wanted."
    " Nothing is retrained until then",
    "training data": "look at the validation report of the training rows; mend the source or the contract,"
    " then run retrain again. The champion keeps serving",
    "labels": "compare the newest labels with where they come from; nothing is retrained on them until then",
    "decay": "look at the performance report; a retraining starts by itself where the policy allows one",
    "drift": "nothing; the report shows which features moved, and the policy decides on a retraining",
    "harm": "look at which features moved and whether they should have; a retraining starts by itself where"
    " the policy allows one, and labels will show whether the score fell",
    "staleness": "nothing; being out of date has cost as much as a retraining, or the champion is old",
    "first": "nothing; the model has no champion yet and gets its first one",
    "futility": "retraining did not help on this cause: look for a change of the data or of its meaning,"
    " or for features that are missing",
    "retraining": "look at the failed run and run retrain again; the champion keeps serving",
    "approval": "look at the waiting version with the flow promote, then approve or reject it with a reason",
    "decided": "nothing; it is done, and the ledger has it",
    "launch": "look at the worker and its queue: a retraining was asked for and did not start",
    "automatic rollback": "look at what the version before does, and at why this one failed",
    "canary": "look at the challenger's answers; it gets no more live rows, and the champion answers all",
    "service": "look at the app's log and at the board: requests fail, or are answered late",
    "predictions": "look at what is predicted now against then; labels will show whether it is right",
    "slices": "look at the groups of rows that do worse than the promise; the whole may still be fine",
    "budget": "hold back changes that are not urgent: the error budget of this period is nearly spent",
    "stale": "look at what did not run, or at the source that brings no rows",
    "new_labels": "nothing; enough new labels arrived for a retraining",
}
_TODO_ELSE = "look at the run"


@dataclass(frozen=True)
class Message:
    """One message to people.

    `key` names the incident it is about: a pager opens and closes its own incident under it. `ends` says that
    the incident is over.
    """

    model: str
    cause: str
    tier: Tier
    subject: str
    body: str
    key: str
    link: str = ""
    ends: bool = False

    def to_dict(self) -> dict[str, Any]:  # Any: JSON
        """Return the message as it is kept."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Message:
        """Return the message that was kept; fields that this code does not know are left out."""
        return cls(**{name: value for name, value in raw.items() if name in cls.__dataclass_fields__})


def opening(model: str, cause: str, tier: Tier, text: str, *, key: str, link: str = "") -> Message:
    """Return the message that an incident began: what happened, what to do, and where to look.

    Example:
        >>> message = opening("demo", "data", "critical", "column x is gone", key="k1")
        >>> message.subject
        '[critical] demo: data'
        >>> message.body.splitlines()[0]
        'column x is gone'
    """
    said = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    body = f"{said}\nTo do: {_todo(cause)}."
    return Message(model, cause, tier, f"[{tier}] {model}: {cause}", _linked(body, link), key, link)


def louder_again(opened: Message, tier: Tier, why: str, *, key: str, link: str = "") -> Message:
    """Return the message that what began as `opened` is now told in a louder tier.

    Example:
        >>> first = opening("demo", "decay", "warning", "score fell", key="k1")
        >>> louder_again(first, "critical", "open for 2 days", key="k1").subject
        '[critical] demo: decay, was a warning'
    """
    said = opened.body.splitlines()[0]
    again = opening(opened.model, opened.cause, tier, f"{why}: {said}", key=key, link=link)
    was = {"warning": "a warning", "info": "for information"}.get(opened.tier, opened.tier)
    return replace(again, subject=f"{again.subject}, was {was}")


def resolution(opened: Message, *, link: str = "", lasted: timedelta = timedelta(0)) -> Message:
    """Return the message that the incident of `opened` is over, and how long it lasted where that is known.

    Example:
        >>> opened = opening("demo", "data", "critical", "column x is gone", key="k1")
        >>> resolution(opened, lasted=timedelta(hours=26, minutes=5)).body
        'data is over after 1 day 2 hours; it was: column x is gone'
    """
    after = f" after {in_words(lasted)}" if lasted > timedelta(0) else ""
    body = f"{opened.cause} is over{after}; it was: {opened.body.splitlines()[0]}"
    return Message(
        opened.model, opened.cause, opened.tier, f"[resolved] {opened.model}: {opened.cause}",
        _linked(body, link), opened.key, link, ends=True,
    )  # fmt: skip


def in_words(length: timedelta) -> str:
    """Return a length of time in its two largest units.

    Example:
        >>> in_words(timedelta(minutes=200)), in_words(timedelta(days=9)), in_words(timedelta(seconds=20))
        ('3 hours 20 minutes', '9 days', 'less than a minute')
    """
    minutes = int(length.total_seconds() // 60)
    counts = {"day": minutes // 1440, "hour": minutes // 60 % 24, "minute": minutes % 60}
    units = list(counts)
    first = next((unit for unit in units if counts[unit]), None)
    if first is None:
        return "less than a minute"
    shown = units[units.index(first) : units.index(first) + 2]
    return " ".join(f"{counts[one]} {one}{'s' * (counts[one] > 1)}" for one in shown if counts[one])


def _todo(cause: str) -> str:
    # Each version that waits is an incident of its own, "approval v7"; what to do is the same.
    kind = next((kind for kind in _TODO if cause == kind or cause.startswith((f"{kind} ", f"{kind}:"))), "")
    return _TODO.get(kind, _TODO_ELSE)


def _linked(body: str, link: str) -> str:
    return f"{body}\n{link}" if link else body
