"""What people are told: the text of a message, the same on every channel."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    "age": "nothing; the champion is due for a retraining by its age",
    "first": "nothing; the model has no champion yet and gets its first one",
    "futility": "retraining did not help on this cause: look for a change of the data or of its meaning,"
    " or for features that are missing",
    "retraining": "look at the failed run and run retrain again; the champion keeps serving",
    "approval": "look at the waiting version with the flow promote, then approve or reject it with a reason",
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


def resolution(opened: Message, *, link: str = "") -> Message:
    """Return the message that the incident of `opened` is over.

    Example:
        >>> resolution(opening("demo", "data", "critical", "column x is gone", key="k1")).body
        'data is over; it was: column x is gone'
    """
    body = f"{opened.cause} is over; it was: {opened.body.splitlines()[0]}"
    return Message(
        opened.model, opened.cause, opened.tier, f"[resolved] {opened.model}: {opened.cause}",
        _linked(body, link), opened.key, link, ends=True,
    )  # fmt: skip


def _todo(cause: str) -> str:
    # Each version that waits is an incident of its own, "approval v7"; what to do is the same.
    return _TODO.get("approval" if cause.startswith("approval") else cause, _TODO_ELSE)


def _linked(body: str, link: str) -> str:
    return f"{body}\n{link}" if link else body
