"""What is wrong with a model, told from its score, its inputs, its predictions and its labels together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.core.policy.label_shift import LabelShift

Kind = Literal[
    "healthy",
    "input drift without harm",
    "decay with drift",
    "decay without drift",
    "suspected labels",
    "cannot tell",
]


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, in a word and in a sentence."""

    kind: Kind
    why: str

    def sentence(self) -> str:
        """Return the diagnosis in one sentence."""
        return f"{self.kind}: {self.why}"


def diagnose(
    performance: str,
    *,
    inputs_moved: bool | None,
    predictions_moved: bool | None,
    labels: LabelShift | None = None,
) -> Diagnosis:
    """Return what the checks of one window say together.

    Args:
        performance: Outcome of the realised score: ok, warn, drift or undecided.
        inputs_moved: Whether the inputs drifted; None: not checked.
        predictions_moved: Whether the model's own answers did; None: not checked.
        labels: How far the labels moved from those of training; None: not looked at.

    Example:
        >>> diagnose("drift", inputs_moved=False, predictions_moved=False).kind
        'decay without drift'
    """
    if labels is not None and labels.branch == "fault":
        return Diagnosis(
            "suspected labels", "the labels moved and nothing else did: have them looked at first"
        )
    if performance == "undecided":
        return _unlabelled(inputs_moved, predictions_moved)
    moved = bool(inputs_moved) or bool(predictions_moved)
    if performance == "drift":
        return _decay(inputs_moved, predictions_moved, labels)
    doubt = ", though it lies below its limit, by chance perhaps" if performance == "warn" else ""
    if moved:
        what = _what(inputs_moved, predictions_moved)
        return Diagnosis("input drift without harm", f"{what} moved and the score keeps its promise{doubt}")
    seen = "" if inputs_moved is False else "; inputs were not checked"
    return Diagnosis("healthy", f"the score keeps its promise{doubt}{seen}")


def _decay(inputs: bool | None, predictions: bool | None, labels: LabelShift | None) -> Diagnosis:
    if inputs or predictions:
        what = _what(inputs, predictions)
        return Diagnosis(
            "decay with drift", f"the score fell and {what} moved: newer rows should help a retraining"
        )
    if inputs is None:
        return Diagnosis("cannot tell", "the score fell, and whether the inputs moved was not checked")
    mix = ", and the labels are spread otherwise" if labels is not None and labels.outcome == "drift" else ""
    return Diagnosis(
        "decay without drift",
        f"the score fell while inputs and predictions stayed{mix}: the same rows now mean something else "
        "(concept drift), or something the model does not see has changed",
    )


def _unlabelled(inputs: bool | None, predictions: bool | None) -> Diagnosis:
    if inputs or predictions:
        what = _what(inputs, predictions)
        return Diagnosis("cannot tell", f"{what} moved, and too few labels are known to say whether it hurts")
    stayed = "nothing moved" if inputs is False else "inputs were not checked"
    return Diagnosis("cannot tell", f"too few labels are known; {stayed}")


def _what(inputs: bool | None, predictions: bool | None) -> str:
    if inputs and predictions:
        return "inputs and predictions"
    return "the inputs" if inputs else "the predictions"
