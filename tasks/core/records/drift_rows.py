"""What stays on record of every feature of a drift check: one row each, plain enough for any table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.core.drift.shape import loudest
from tasks.core.window import Window

if TYPE_CHECKING:
    from tasks.core.drift.results import DriftVerdict, FeatureVerdict

LONGEST = 300  # characters of a reason that are kept


@dataclass(frozen=True)
class FeatureRow:
    """One feature in one check.

    `measure`, `value`, `threshold` and `n` are those of the measure behind the outcome that stands furthest
    out against its limit, None where none could be told; `n` counts the window's rows behind it. `p_value`
    is the smallest among the feature's tests.
    """

    feature: str
    outcome: str
    measure: str | None
    value: float | None
    threshold: float | None
    p_value: float | None
    n: int | None
    reason: str


@dataclass(frozen=True)
class FeatureCheck:
    """A feature's row with the window it speaks of and the version whose reference it was held against."""

    window: Window
    version: int | None
    row: FeatureRow


@dataclass(frozen=True)
class PastVerdict:
    """What the check of one window came to; `drifted` names the features."""

    window: Window
    version: int | None
    outcome: str
    reason: str = ""
    drifted: tuple[str, ...] = ()


def feature_rows(verdict: DriftVerdict) -> tuple[FeatureRow, ...]:
    """Return one row per feature, in the verdict's order; none where nothing could be judged at all."""
    return tuple(_row(feature) for feature in verdict.features)


def _row(feature: FeatureVerdict) -> FeatureRow:
    found = loudest(feature)
    return FeatureRow(
        feature=_storable(feature.feature),
        outcome=feature.outcome,
        measure=found.measure if found else None,
        value=_finite(found.value) if found else None,
        threshold=_finite(found.threshold) if found else None,
        p_value=min((p for one in feature.measures if (p := _finite(one.p_value)) is not None), default=None),
        n=found.n_current if found else max((one.n_current for one in feature.measures), default=None),
        reason=_storable(feature.reason)[:LONGEST],
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _storable(text: str) -> str:
    """Return the text as every database takes it: without NUL and halves of characters."""
    return text.replace("\x00", "?").encode("utf-8", "replace").decode("utf-8")
