"""The challenger on frozen trusted rows: what neither slow erosion nor a poisoned window can move."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.core.evaluation.evidence import AnchorEvidence
from tasks.core.evaluation.margins import margin_of, share_words
from tasks.core.evaluation.paired.compare import compare
from tasks.core.evaluation.scoring import Scored, all_labels, statistic
from tasks.core.evaluation.verdicts import NAN, AnchorResult, Verdict
from tasks.core.evaluation.weighing import effective_rows
from tasks.core.spec_gate import Gate


def judge_anchor(
    anchor: AnchorEvidence | None,
    gate: Gate,
    metric: str,
    *,
    positive: Any,  # Any: labels may be of any type
    seed: int,
    resamples: int,
) -> AnchorResult | None:
    """Return how the challenger does on the trusted rows beside the version that has been best there.

    `worse` is a loss that is shown at `gate.confidence` and larger than `gate.anchor.tolerance` (default:
    `gate.margin`), of a regression's error that share of the keeper's. Fewer effective rows than
    `gate.min_rows` cannot tell. The keeper, not the champion, is the measure: each of many promotions may
    lose less than the tolerance to the champion before it, but not to the best of them all. None without an
    anchor.
    """
    if anchor is None or anchor.challenger is None:
        return None
    tolerance = gate.margin if gate.anchor.tolerance is None else gate.anchor.tolerance
    rows = len(anchor.challenger.y_true)
    if anchor.keeper is None:
        own = _score(anchor.challenger, metric, positive)
        outcome: Verdict = "ok" if np.isfinite(own) else "undecided"
        spread = (own, NAN, NAN, NAN, NAN)
    else:
        found = compare(
            anchor.challenger,
            anchor.keeper,
            metric,
            confidence=gate.confidence,
            seed=seed,
            positive=positive,
            resamples=resamples,
            weights=anchor.weights,
        )
        gap = found.difference
        spread = (found.mine.value, found.theirs.value, gap.value, gap.low, gap.high)
        tolerance = margin_of(tolerance, metric, found.theirs.value)
        outcome = "worse" if gap.high < 0 and gap.value < -tolerance else "ok"
        is_told = found.is_known and effective_rows(anchor.weights, rows) >= gate.min_rows
        outcome = outcome if is_told else "undecided"
    score, keeper_score, difference, low, high = spread
    return AnchorResult(
        outcome,
        rows,
        score,
        keeper_score,
        anchor.keeper_version,
        difference,
        low,
        high,
        tolerance,
        anchor.fixed_at,
        anchor.sha256,
    )


def anchor_words(found: AnchorResult, metric: str = "") -> str:
    """Return the anchor's verdict with its numbers, and what to do about it; empty when nothing is wrong."""
    rows = f"{found.rows:,} trusted rows of the anchor"
    if found.outcome == "ok":
        return ""
    if found.outcome == "undecided":
        return f"the {rows} cannot tell (one class there, or too few rows that count)"
    share = (
        share_words(found.tolerance / abs(found.keeper_score), metric, "its") if found.keeper_score else ""
    )
    than = "the best version so far" if found.keeper_version is None else f"version {found.keeper_version}"
    return (
        f"worse than {than} on the {rows}: {found.difference:.4g} ({found.low:.4g} to {found.high:.4g}), "
        f"tolerance {found.tolerance:.4g}{share and f' ({share})'}; look for wrong or planted labels in the "
        "newest rows; approve, or renew the anchor, only if the world itself has changed"
    )


def _score(scored: Scored, metric: str, positive: Any) -> float:  # Any: labels may be of any type
    return statistic(scored, metric, positive=positive, labels=all_labels([scored]))(None)
