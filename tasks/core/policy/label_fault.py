"""Whether labels look wrongly written, rather than the world changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import chi2, fisher_exact

from tasks.core.drift.matters.label_mix import label_text

Mix = Mapping[Hashable, int]

JUMP = 0.20
"""Share of rows whose label would have to change to restore the reference mix. Our choice: populations rarely
move by a fifth within one window, and not without the inputs or the scores showing it."""
VANISHED = 0.20
"""A class is as good as gone when it has less than this share of the rows it should have. Our choice: it
catches a rare class going missing, which moves too few rows to count as a jump."""
CHANCE = 1e-4
"""How rarely chance alone may produce the change. Our choice: a block stops the loop and calls a person."""
MIN_ROWS = 30


def suspect(
    label_counts_reference: Mix,
    label_counts_current: Mix,
    score_drifted: bool,
    inputs_drifted: bool,
) -> str | None:
    """Return why the labels of a window are suspected to be wrong, None where there is no such suspicion.

    A labelling fault moves the labels and leaves the rows alone. So a suspicion needs a label mix that
    jumped, by much and beyond chance, while the model's scores, which see only the inputs, stayed. Where the
    inputs moved too, only a class that all but vanished is suspected. Fewer than 30 labels on either side, or
    a single class before, say nothing.

    Args:
        label_counts_reference: Rows per label (or per bin of a number) when labels were good.
        label_counts_current: The same for the window in question.
        score_drifted: Whether the scores of the window moved.
        inputs_drifted: Whether any input of the window moved.

    Example:
        >>> suspect({"no": 700, "yes": 300}, {"no": 990, "yes": 10}, False, False)
        "label 'yes' fell from 30.0% to 1.0% of the rows while inputs and scores did not move"
        >>> suspect({"no": 700, "yes": 300}, {"no": 990, "yes": 10}, True, True) is None
        True
    """
    reference, current = side_by_side(label_counts_reference, label_counts_current)
    if score_drifted or min(reference.sum(), current.sum()) < MIN_ROWS or (reference > 0).sum() < 2:
        return None
    before, now = reference / reference.sum(), current / current.sum()
    names = list(reference.index)
    gone = [name for name in names if now[name] < VANISHED * before[name] and _lost(reference, current, name)]
    moved = float(np.abs(now - before).sum() / 2)
    jumped = moved >= JUMP and not inputs_drifted and homogeneity(reference, current) < CHANCE
    if not gone and not jumped:
        return None
    name = max(gone or names, key=lambda label: abs(now[label] - before[label]))
    change = f"{'fell' if now[name] < before[name] else 'rose'} from {before[name]:.1%} to {now[name]:.1%}"
    stayed = "the scores" if inputs_drifted else "inputs and scores"
    return f"label {name[:40]!r} {change} of the rows while {stayed} did not move"


def side_by_side(reference: Mix, current: Mix) -> tuple[pd.Series, pd.Series]:
    """Return both counts over all labels; equal labels of different type (1, 1.0 and "1") are one."""
    both = pd.DataFrame({"reference": _named(reference), "current": _named(current)}).fillna(0)
    both = both[(both > 0).any(axis=1)].astype("int64")
    return both["reference"], both["current"]


def _named(counts: Mix) -> pd.Series:
    """Return the counts by the label's text."""
    named: Counter[str] = Counter()
    for label, rows in counts.items():
        named[label_text(label)] += int(rows)
    return pd.Series(named, dtype="int64")


def _lost(reference: pd.Series, current: pd.Series, name: str) -> bool:
    """Whether losing this class is beyond chance, exactly, and even if every class had been tried."""
    had, has = int(reference[name]), int(current[name])
    table = np.array([[had, int(reference.sum()) - had], [has, int(current.sum()) - has]])
    return bool(fisher_exact(table, alternative="greater").pvalue * len(reference) < CHANCE)


def homogeneity(reference: pd.Series, current: pd.Series) -> float:
    """Return the chance of two such different mixes from one population (Pearson's test of homogeneity)."""
    both = np.array([reference, current], dtype=np.float64)
    expected = np.outer(both.sum(axis=1), both.sum(axis=0)) / both.sum()
    return float(chi2.sf(((both - expected) ** 2 / expected).sum(), both.shape[1] - 1))
