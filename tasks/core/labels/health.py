"""Whether labels still come: how many predictions of a window met theirs, and how long that took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tasks.core.evaluation.intervals import share_interval
from tasks.core.policy.alerting import Look
from tasks.core.policy.evidence import Outcome

LOW = 0.5
"""Coverage that nobody needs to hear of, whatever was usual; our choice."""
FAR_BELOW, BELOW = 0.5, 0.8
"""Shares of the usual coverage below which labels have ceased to come, or come less; our choice."""
LEAST_WINDOWS = 3
"""Earlier windows that tell what is usual, at least."""
_CONFIDENCE = 0.99


@dataclass(frozen=True)
class LabelHealth:
    """How far the predictions of a window are labelled.

    `coverage` and `usual` are shares 0..1, `usual` the median of earlier windows; delays are seconds from the
    event to its first label. NaN: not known. `corrected` predictions had their label told in two ways,
    `unmatched` keys got a label and have no prediction.
    """

    outcome: Outcome
    reason: str
    predictions: int
    labelled: int
    coverage: float
    usual: float
    delay_p50_s: float
    delay_p95_s: float
    corrected: int
    unmatched: int

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """Return the numbers as a check keeps them; null for what is not known."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        known = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        return {"outcome": self.outcome, "reason": self.reason, **known}

    def looks(self) -> tuple[Look, ...]:
        """Return what this says of the incident `label coverage`; nothing where it could not be told."""
        if self.outcome == "undecided":
            return ()
        return (Look("label coverage", "warning", self.outcome == "drift", self.sentence()),)

    def sentence(self) -> str:
        """Return the finding as one line.

        Example:
            >>> judge_labels(400, 380, [86_400.0] * 380, earlier=[0.9, 0.95, 1.0], min_rows=50).sentence()
            'labels ok: 380 of 400 predictions labelled (95 %, usually 95 %), half of them within 1.0 d'
        """
        told = f"labels {self.outcome}: {self.labelled:,} of {self.predictions:,} predictions labelled"
        usual = "" if math.isnan(self.usual) else f", usually {self.usual:.0%}".replace("%", " %")
        if self.predictions:
            told += f" ({self.coverage:.0%}".replace("%", " %") + f"{usual})"
        if not math.isnan(self.delay_p50_s):
            told += f", half of them within {_shown(self.delay_p50_s)}"
        return told + (f"; {self.reason}" if self.outcome != "ok" else "")


_NUMBERS = (
    *("predictions", "labelled", "coverage", "usual"),
    *("delay_p50_s", "delay_p95_s", "corrected", "unmatched"),
)


def judge_labels(
    predictions: int,
    labelled: int,
    delays: ArrayLike,
    *,
    earlier: Sequence[float],
    min_rows: int,
    is_mature: bool = True,
    corrected: int = 0,
    unmatched: int = 0,
) -> LabelHealth:
    """Return how the labels of a window are.

    Labels have ceased to come (`drift`) where coverage is below a half and below half of what is usual, and
    come less (`warn`) below four fifths of it, both beyond chance: the upper end of the exact 99 % interval
    counts. Where what is usual is not known, less than a half is a warning, and nothing at all undecided:
    labels may never have come here.

    Args:
        predictions: Predictions of the window.
        labelled: Those whose label is known.
        delays: Seconds from event to first label, one per labelled prediction.
        earlier: Coverage of earlier windows that were fine.
        min_rows: Fewest predictions that a verdict may rest on.
        is_mature: Whether the labels of the whole window should be known by now.
        corrected: Predictions whose label was told in two ways.
        unmatched: Keys with a label and without a prediction.
    """
    known = [share for share in earlier if not math.isnan(share)]
    usual = float(np.median(known)) if len(known) >= LEAST_WINDOWS else math.nan
    outcome, reason = _outcome(predictions, labelled, usual, min_rows, is_mature)
    waited = np.asarray(delays, dtype=float)
    p50, p95 = np.percentile(waited, [50, 95]).tolist() if len(waited) else (math.nan, math.nan)
    return LabelHealth(
        outcome=outcome,
        reason=reason,
        predictions=predictions,
        labelled=labelled,
        coverage=labelled / predictions if predictions else math.nan,
        usual=usual,
        delay_p50_s=p50,
        delay_p95_s=p95,
        corrected=corrected,
        unmatched=unmatched,
    )


def _outcome(
    predictions: int, labelled: int, usual: float, min_rows: int, is_mature: bool
) -> tuple[Outcome, str]:
    if not is_mature:
        return "undecided", "its labels are not mature yet"
    if predictions < min_rows:
        return "undecided", f"{predictions} predictions, {min_rows} are needed"
    if not labelled and not usual > 0:  # NaN too
        return "undecided", "no label has come, and none before it to compare with"
    return _against(usual, share_interval(labelled, predictions, _CONFIDENCE).high)


def _against(usual: float, at_most: float) -> tuple[Outcome, str]:
    if at_most < LOW and math.isnan(usual):
        return "warn", "less than half of the labels have come; what is usual is not known yet"
    if at_most < min(LOW, FAR_BELOW * usual):
        return "drift", "labels have ceased to come: far fewer than usual"
    if at_most < min(LOW, BELOW * usual):
        return "warn", "fewer labels than usual have come"
    return "ok", ""


def _shown(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
