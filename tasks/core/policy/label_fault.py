"""Whether labels look wrongly written rather than the world changed, and which rows that keeps from training.

A labelling fault moves the labels and leaves the rows alone. So a suspicion needs positive knowledge that the
scores, and for a mere jump the inputs too, stayed where they were: a check that is missing or undecided is no
such knowledge. A suspicion concerns the rows of its window, and only for `label.max_block`: by then somebody
has corrected the labels, or the change is taken for the world's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import chi2, fisher_exact

from tasks.core.drift.matters.label_mix import LabelMix, label_mix, label_text
from tasks.core.policy.evidence import CheckOutcome
from tasks.core.window import Window, parse_duration

if TYPE_CHECKING:
    from tasks.core.spec import ModelSpec

Mix = Mapping[Any, int]  # Any: labels may be of any type

JUMP = 0.20
"""Share of rows whose label would have to change to restore the reference mix. Our choice: populations rarely
move by a fifth within one window, and not without the inputs or the scores showing it."""
VANISHED = 0.20
"""A class is as good as gone when it has less than this share of the rows it should have. Our choice: it
catches a rare class going missing, which moves too few rows to count as a jump."""
CHANCE = 1e-4
"""How rarely chance alone may produce the change. Our choice: a block takes rows away and calls a person."""
MIN_ROWS = 30
USUAL = 6
"""Windows before one that tell what is usual. Our choice: their median stands up to two faulty ones."""
RUN = 4
"""Windows after which what is usual has followed a change that lasts: no run of suspects is longer."""


@dataclass(frozen=True)
class LabelSuspicion:
    """Why the labels of a window are suspected to be wrong.

    Attributes:
        kind: `vanished` where a class is as good as gone, `jump` where many rows moved.
        label: The label, or the cell of a number, that moved most.
        before: Its usual share of the rows.
        now: Its share in the window.
        moved: Share of the rows whose label would have to change to restore the usual mix.
        stayed: What is known not to have moved.
    """

    kind: Literal["vanished", "jump"]
    label: str
    before: float
    now: float
    moved: float
    stayed: Literal["inputs and scores", "the scores"]

    @property
    def reason(self) -> str:
        """The suspicion in words, with its numbers."""
        change = f"{'fell' if self.now < self.before else 'rose'} from {self.before:.1%} to {self.now:.1%}"
        return f"label {self.label[:40]!r} {change} of the rows while {self.stayed} did not move"


@dataclass(frozen=True)
class LabelledWindow:
    """A window's labels, as rows per label or number, and whether its rows are known to have moved.

    `scores_moved` and `inputs_moved` are None where no check could tell.
    """

    window: Window
    labels: Mix
    scores_moved: bool | None = None
    inputs_moved: bool | None = None


@dataclass(frozen=True)
class SuspectWindow:
    """A window whose rows stay out of training until `until`, or until its labels are corrected."""

    window: Window
    reason: str
    until: datetime


def suspect(
    reference: Mix,
    current: Mix,
    *,
    scores_moved: bool | None,
    inputs_moved: bool | None,
    numbers: bool = False,
) -> LabelSuspicion | None:
    """Return why the labels of a window are suspected to be wrong, None where there is no such suspicion.

    A jump of the label mix, by much and beyond chance, is suspected where inputs and scores are both known to
    have stayed; a class that all but vanished where the scores, which see only the inputs, are. What is not
    known raises no suspicion. Fewer than 30 labels on either side, or a single class before, say nothing.

    Args:
        reference: Rows per label, or per cell of a number, when labels were good.
        current: The same for the window in question.
        scores_moved: Whether the scores of the window moved; None: not known.
        inputs_moved: Whether any input did; None: not known.
        numbers: Whether these are cells of numbers, of which none is a class that could vanish.

    Example:
        >>> suspicion = suspect({"no": 700, "yes": 300}, {"no": 990, "yes": 10}, scores_moved=False,
        ...                     inputs_moved=False)
        >>> suspicion.reason
        "label 'yes' fell from 30.0% to 1.0% of the rows while inputs and scores did not move"
        >>> suspect({"no": 700, "yes": 300}, {"no": 990, "yes": 10}, scores_moved=None,
        ...         inputs_moved=None) is None
        True
    """
    inputs_stayed = inputs_moved is not None and not inputs_moved
    if scores_moved is None or scores_moved:
        return None
    reference_rows, current_rows = side_by_side(reference, current)
    if min(reference_rows.sum(), current_rows.sum()) < MIN_ROWS or (reference_rows > 0).sum() < 2:
        return None
    before, now = reference_rows / reference_rows.sum(), current_rows / current_rows.sum()
    names = [] if numbers else list(before.index)
    gone = [
        name
        for name in names
        if now[name] < VANISHED * before[name] and _lost(reference_rows, current_rows, name)
    ]
    moved = float(np.abs(now - before).sum() / 2)
    jumped = moved >= JUMP and inputs_stayed and homogeneity(reference_rows, current_rows) < CHANCE
    if not gone and not jumped:
        return None
    name = max(gone or list(before.index), key=lambda label: abs(now[label] - before[label]))
    return LabelSuspicion(
        kind="vanished" if gone else "jump",
        label=name,
        before=float(before[name]),
        now=float(now[name]),
        moved=moved,
        stayed="inputs and scores" if inputs_stayed else "the scores",
    )


def suspect_windows(
    history: Sequence[LabelledWindow], spec: ModelSpec, as_of: datetime
) -> tuple[SuspectWindow, ...]:
    """Return the windows whose rows should stay out of training at `as_of`, oldest first.

    Each window is held against the usual mix of the up to six before it. Only mature labels are judged:
    those that come early are often of one class. A run of suspect windows is one change, and its rows are all
    used again `label.max_block` after the labels of its first window were mature.

    Args:
        history: Consecutive windows, oldest first; those that only tell what is usual among them.
        spec: The model: its task, `label.maturity` and `label.max_block`.
        as_of: Now.
    """
    maturity, numbers = parse_duration(spec.label.maturity), spec.task == "regression"
    suspects: list[SuspectWindow] = []
    until: datetime | None = None
    for place, labelled in enumerate(history):
        mature = labelled.window.end + maturity
        if mature > as_of:
            break
        usual = usual_mix(
            [before.labels for before in history[max(place - USUAL, 0) : place]], numbers=numbers
        )
        suspicion = suspect(
            usual.counts,
            usual.of(Counter(labelled.labels).elements()) if numbers else labelled.labels,
            scores_moved=labelled.scores_moved,
            inputs_moved=labelled.inputs_moved,
            numbers=numbers,
        )
        until = None if suspicion is None else until or mature + max_block(spec)
        if suspicion is not None and until is not None and as_of < until:
            suspects.append(SuspectWindow(labelled.window, suspicion.reason, until))
    return tuple(suspects)


def windows_to_look_at(window: Window, spec: ModelSpec, as_of: datetime) -> tuple[Window, ...]:
    """Return the windows, oldest first, that `suspect_windows` needs to judge those up to `window`.

    A window whose labels are not mature gives way to the newest of its length whose are.
    """
    back = -(-max_block(spec) // window.length) + RUN + USUAL
    immature = max(window.end + parse_duration(spec.label.maturity) - as_of, timedelta(0))
    newest = Window(window.start - immature, window.end - immature)
    return tuple(newest.before(count) for count in range(back, -1, -1))


def max_block(spec: ModelSpec) -> timedelta:
    """Return how long suspect rows stay out of training, at most as long as they would be in it.

    By default the N check windows of `drift.windows`: a change that has stood for as long as any other
    evidence counts, and that nobody has corrected, is the world's.
    """
    asked = spec.label.max_block
    block = parse_duration(asked) if asked else spec.drift.windows[1] * parse_duration(spec.window.check)
    return min(block, parse_duration(spec.window.training))


def usual_mix(windows: Sequence[Mix], *, numbers: bool) -> LabelMix:
    """Return the median share of each label over these windows, as counts of their total.

    Numbers are counted in the tenths of all windows together.
    """
    full: list[Mix] = [mix for mix in windows if sum(mix.values()) > 0]
    if not full:
        return LabelMix({})
    edges: tuple[float, ...] = ()
    if numbers:
        pooled = label_mix((value for mix in full for value in Counter(mix).elements()), numbers=True)
        edges = pooled.edges
        full = [pooled.of(Counter(mix).elements()) for mix in full]
    shares = pd.DataFrame([_named(mix) / sum(mix.values()) for mix in full]).fillna(0.0).median()
    total = sum(sum(mix.values()) for mix in full)
    scaled = shares / shares.sum() * total if shares.sum() > 0 else shares
    return LabelMix({str(label): round(count) for label, count in scaled.items()}, edges)


def without_windows(frame: pd.DataFrame, timestamp: str, windows: Sequence[Window]) -> pd.DataFrame:
    """Return the rows that happened in none of these windows; the frame is not changed.

    Args:
        frame: Rows with a UTC time in the column `timestamp`.
        timestamp: Name of that column.
        windows: Half-open, in any order; none leaves every row.
    """
    inside = np.zeros(len(frame), dtype=bool)
    for window in windows:
        moments = frame[timestamp]
        inside |= ((moments >= pd.Timestamp(window.start)) & (moments < pd.Timestamp(window.end))).to_numpy()
    return frame[~inside]


def without_suspects(
    checks: Sequence[CheckOutcome], suspects: Sequence[SuspectWindow]
) -> tuple[CheckOutcome, ...]:
    """Return performance checks in which a window with suspect labels is undecided, for it proves nothing."""
    return tuple(
        replace(check, outcome="undecided", strength=None, reason=f"labels in doubt: {suspicion.reason}")
        if (suspicion := _overlapping(check.window, suspects))
        else check
        for check in checks
    )


def side_by_side(reference: Mix, current: Mix) -> tuple[pd.Series, pd.Series]:
    """Return both counts over all labels; equal labels of different type (1, 1.0 and "1") are one."""
    both = pd.DataFrame({"reference": _named(reference), "current": _named(current)}).fillna(0)
    both = both[(both > 0).any(axis=1)].astype("int64")
    return both["reference"], both["current"]


def homogeneity(reference: pd.Series, current: pd.Series) -> float:
    """Return the chance of two such different mixes from one population (Pearson's test of homogeneity)."""
    both = np.array([reference, current], dtype=np.float64)
    expected = np.outer(both.sum(axis=1), both.sum(axis=0)) / both.sum()
    return float(chi2.sf(((both - expected) ** 2 / expected).sum(), both.shape[1] - 1))


def _overlapping(window: Window, suspects: Sequence[SuspectWindow]) -> SuspectWindow | None:
    return next(
        (
            suspicion
            for suspicion in suspects
            if suspicion.window.start < window.end and window.start < suspicion.window.end
        ),
        None,
    )


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
