"""What a window looked like against a reference, as counts that add up.

A profile is a sum: profiles of batches, threads or machines added in any order give exactly the profile of
all rows. A reference is the cells of every feature and the profile of the rows it was made from; it holds
no rows, and travels with the version it belongs to.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.bins import Bins, Counts, category_bins, count, count_absent, numeric_bins
from tasks.core.drift.counting.columns import check_columns
from tasks.core.drift.counting.packed import MOST_NUMBERS
from tasks.core.drift.counting.sample import MOST_ROWS, Sample, pick, sample_codes
from tasks.core.drift.past.history import History, build_history
from tasks.core.errors import DriftError
from tasks.core.window import parse_duration

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.drift.chance.calibration import Calibration
    from tasks.core.drift.counting.values import Column
    from tasks.core.drift.matters.insight import Insight
    from tasks.core.drift.past.calendar import Pattern
    from tasks.core.spec import ModelSpec

SCORE = "__score__"
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
Scores = NDArray[np.floating[Any]]  # Any: numpy's own precision parameter


@dataclass(frozen=True)
class Profile:
    """Counts of some rows, per feature, in the cells of one reference."""

    reference_id: str
    rows: int
    features: dict[str, Counts]
    absent: tuple[str, ...] = ()  # columns that at least one batch did not have

    def __add__(self, other: Profile) -> Profile:
        """Return the profile of both sets of rows.

        Raises:
            DriftError: when they were counted against different references, or only one of them was scored.
        """
        if self.reference_id != other.reference_id:
            raise DriftError(
                "profiles of two references", "profiles counted in the same cells", "profile the rows again"
            )
        if not self.rows or not other.rows:
            return self if self.rows else other
        if self.features.keys() != other.features.keys():
            raise DriftError(
                "one batch with the model's scores and one without", "scores for all rows or for none"
            )
        counts = {name: mine + other.features[name] for name, mine in self.features.items()}
        absent = tuple(sorted({*self.absent, *other.absent}))
        return Profile(self.reference_id, self.rows + other.rows, counts, absent)

    def to_plain(self, reference: Reference) -> dict[str, Any]:  # Any: JSON values
        """Return the profile as compact JSON values, readable by `from_plain`.

        A cell may hold a single row, whose value its sum would tell: of the reference's sensitive numbers
        the sums are what they would be if every value were the reference's mean of its cell.
        """
        from tasks.core.drift.stored import profile_to_plain

        return profile_to_plain(self, reference)

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Profile:  # Any: JSON values
        """Return the profile written by `to_plain`.

        Raises:
            DriftError: when it is something else, incomplete, or was changed.
        """
        from tasks.core.drift.stored import profile_from_plain

        try:
            return profile_from_plain(raw)
        except _UNREADABLE as err:
            raise DriftError(
                "a profile that cannot be read", "one as stored with its check", "profile the window again"
            ) from err


@dataclass(frozen=True)
class Reference:
    """The distribution a champion was made from: cells, and what they held."""

    model: str
    bins: tuple[Bins, ...]
    profile: Profile
    key_check: str | None = None  # tells whether a key is the one that masked the sensitive categories
    # Not compared: references are equal that count alike.
    history: History | None = field(default=None, compare=False)
    calibration: Calibration | None = field(default=None, compare=False)
    insight: Insight | None = field(default=None, compare=False)
    sample: Sample | None = field(default=None, compare=False)

    @cached_property
    def id(self) -> str:
        """Digest of the cells: profiles with the same one may be added and compared."""
        return _bins_id(self.bins)

    @property
    def pattern(self) -> Pattern:
        """How the rows differ by calendar: none, weekday, hour or weekday_hour."""
        from tasks.core.drift.past.calendar import PATTERNS

        learnt = None if self.calibration is None else self.calibration.pattern
        return next((pattern for pattern in PATTERNS if pattern == learnt), "none")

    def to_json(self) -> str:
        """Return the reference as JSON text, readable by `from_json` and, save for its tables, by people."""
        from tasks.core.drift.stored import reference_to_text

        return reference_to_text(self)

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """Return the reference written by `to_json`.

        Raises:
            DriftError: when the text is something else, incomplete, or was changed.
        """
        from tasks.core.drift.stored import FORMAT, reference_from_text

        try:
            return reference_from_text(text)
        except _UNREADABLE as err:
            raise DriftError(
                "a reference that cannot be read",
                f"JSON of format {FORMAT} as written with the version",
                "restore it from the registry, or retrain",
            ) from err


def build_reference(
    frame: pd.DataFrame,
    spec: ModelSpec,
    *,
    scores: Scores | None = None,
    key: bytes | None = None,
    times: pd.Series[Any] | None = None,  # Any: timestamps of any unit
    seed: int = 0,
    deep: bool = True,
) -> Reference:
    """Return the reference made from these rows.

    Args:
        frame: One row per event with all of spec.features; nulls allowed. Rows the model was not fitted on
            are the better reference.
        spec: The model.
        scores: The model's scores of rows it was *not* fitted on (else every later window looks drifted):
            one number per row, or one column per class. Their number may differ from the frame's rows; as
            many are taken to be of the same rows, in the same order.
        key: Secret under which sensitive categories are hashed.
        times: Of each row, aware UTC: the history's blocks are then spans of spec.window.check.
        seed: Of the sample and the calibration.
        deep: Whether to keep a history and a sample, and to learn a calibration.

    Raises:
        DriftError: without rows, without a column, with a column that holds nothing readable, or with
            sensitive categories and no key.
    """
    check_columns(frame, spec, key)
    pseudo = _score_columns(scores)
    bins = [*_input_bins(frame, spec, key), *(numeric_bins(name, column) for name, column in pseudo.items())]
    counts = {
        cell.name: count(cell, pseudo[cell.name] if cell.name in pseudo else frame[cell.name], key=key)
        for cell in bins
    }
    profile = Profile(_bins_id(tuple(bins)), len(frame), counts)
    masked = any(cell.masked and cell.kind == "categorical" for cell in bins)
    reference = Reference(spec.name, tuple(bins), profile, _key_check(key) if key and masked else None)
    if not deep:
        return reference
    aligned = {name: column for name, column in pseudo.items() if len(column) == len(frame)}
    return _deepen(reference, frame, spec, aligned, key=key, times=times, seed=seed)


def _input_bins(frame: pd.DataFrame, spec: ModelSpec, key: bytes | None) -> list[Bins]:
    sensitive = set(spec.features.sensitive)
    return [
        *(numeric_bins(name, frame[name], masked=name in sensitive) for name in spec.features.numeric),
        *(
            category_bins(name, frame[name], key=key if name in sensitive else None)
            for name in spec.features.categorical
        ),
    ]


def _deepen(
    reference: Reference,
    frame: pd.DataFrame,
    spec: ModelSpec,
    scores: dict[str, Column],
    *,
    key: bytes | None,
    times: pd.Series[Any] | None,
    seed: int,
) -> Reference:
    from tasks.core.drift.chance.calibration import calibrate
    from tasks.core.drift.past.calendar import find_pattern

    length = parse_duration(spec.window.check)
    history = build_history(
        frame, reference.bins, reference.id, times=times, length=length, scores=scores, key=key
    )
    inputs = [cell for cell in reference.bins if not cell.name.startswith(SCORE)]
    most = min(MOST_ROWS, MOST_NUMBERS // max(len(inputs), 1))
    sample = sample_codes(frame.iloc[pick(len(frame), most, seed)], inputs, key=key)
    deep = replace(reference, history=history, sample=sample)
    pattern: Pattern = "none"
    why = "no history"
    if history is not None:
        pattern, why = find_pattern(history, reference.bins)
    learnt = calibrate(
        deep, history, budget=spec.drift.false_alarms, pattern=pattern, pattern_reason=why, seed=seed
    )
    return replace(deep, calibration=learnt)


def profile_frame(
    frame: pd.DataFrame, reference: Reference, *, scores: Scores | None = None, key: bytes | None = None
) -> Profile:
    """Return the counts of these rows in the reference's cells; no rows give the zero of `+`.

    A column the frame does not have counts as null in every row and is named in `absent`. Without scores
    the profile says nothing about them.

    Raises:
        DriftError: when the key is not the one that masked the reference, or the scores do not fit.
    """
    if reference.key_check and (key is None or _key_check(key) != reference.key_check):
        raise DriftError(
            "a reference whose sensitive categories were hashed under another key",
            "the key of the place that trained the champion",
            "set EVERGREEN_MASK_KEY to the same value everywhere, or retrain",
            model=reference.model,
        )
    pseudo = _score_columns(scores)
    known = {cell.name for cell in reference.bins if cell.name.startswith(SCORE)}
    if pseudo and known and (pseudo.keys() != known or any(len(c) != len(frame) for c in pseudo.values())):
        raise DriftError(
            f"{len(pseudo)} score columns for {len(frame)} rows",
            f"{len(known)} score columns of as many rows",
            "score the window with the version that the reference belongs to",
            model=reference.model,
        )
    features = {}
    for cell in reference.bins:
        if cell.name in known:
            if pseudo:
                features[cell.name] = count(cell, pseudo[cell.name])
        elif cell.name in frame.columns:
            features[cell.name] = count(cell, frame[cell.name], key=key)
        else:
            features[cell.name] = count_absent(cell, len(frame))
    absent = tuple(sorted(c.name for c in reference.bins if c.name not in {*known, *frame.columns}))
    return Profile(reference.id, len(frame), features, absent)


def _score_columns(scores: Scores | None) -> dict[str, Column]:
    if scores is None:
        return {}
    import pandas as pd

    table = np.asarray(scores, dtype=np.float64)
    if table.ndim == 2 and table.shape[1] == 2:
        table = table[:, 1]  # of two classes the second says it all
    if table.ndim == 1:
        return {SCORE: pd.Series(table)}
    return {f"{SCORE}{place}": pd.Series(table[:, place]) for place in range(table.shape[1])}


def _bins_id(bins: tuple[Bins, ...]) -> str:
    text = json.dumps([asdict(cell) for cell in bins], allow_nan=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _key_check(key: bytes) -> str:
    return hmac.new(key, b"evergreen reference", hashlib.sha256).hexdigest()[:16]
