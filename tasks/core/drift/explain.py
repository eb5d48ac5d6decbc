"""A drift verdict in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.core.drift.profile import SCORE
from tasks.core.drift.results import JOINT, FeatureVerdict

if TYPE_CHECKING:
    from tasks.core.drift.chance.calibration import Calibration

_SAYS = {"drift": "drifted", "warn": "changed", "undecided": "could not be judged"}


def explain(features: Sequence[FeatureVerdict], absent: Sequence[str]) -> str:
    """Return the verdict's reason: what drifted, changed or could not be judged, at most three each."""
    parts = []
    inputs = [f for f in features if not f.feature.startswith((SCORE, JOINT))]
    for outcome, says in _SAYS.items():
        found = [f for f in inputs if f.outcome == outcome]
        if found:
            named = "; ".join(f"{f.feature}: {f.reason}" for f in found[:3])
            more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
            parts.append(f"{len(found)} of {len(inputs)} features {says} ({named}{more})")
    scores = [f for f in features if f.feature.startswith(SCORE) and f.outcome in _SAYS]
    parts += [f"the model's score {_SAYS[f.outcome]} ({f.reason})" for f in scores[:1]]
    joint = [f for f in features if f.feature == JOINT and f.outcome in {"drift", "warn"}]
    parts += [f"whole rows {_SAYS[f.outcome]} ({f.reason})" for f in joint]
    if absent:
        parts.append(f"columns absent from the window: {', '.join(absent[:5])}")
    return ". ".join(parts) or f"none of {len(inputs)} features differs by more than chance and matters"


def explain_level(calibration: Calibration | None, level: float, budget: float, rows: int) -> str:
    """Return, in one sentence, where the level comes from."""
    if calibration is None:
        return f"Level {level:.3g}, the budget itself: nothing was learnt from this reference."
    how = f"{calibration.resamples} checks without drift"
    blocks = ", each block of its history left out once among them" if calibration.blockwise else ""
    less = " as budgeted" if level >= budget else f", below the budget of {budget:g}"
    return (
        f"Level {level:.3g}{less} at {rows:,} rows, learnt from {how} resampled from the reference{blocks}."
    )
