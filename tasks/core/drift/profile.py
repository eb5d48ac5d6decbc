"""What a window looked like against a reference, as counts that add up.

A profile is a sum: profiles of batches, threads or machines added in any order give exactly the profile of
all rows. A reference is the cells of every feature and the profile of the rows it was made from; it holds
no rows, and travels with the version it belongs to.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.drift.bins import Bins, Counts, category_bins, count, count_absent, numeric_bins
from tasks.core.drift.values import Column, read_labels, read_numbers
from tasks.core.errors import DriftError
from tasks.core.spec import ModelSpec

SCORE = "__score__"
FORMAT = 1
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


@dataclass(frozen=True)
class Reference:
    """The distribution a champion was made from: cells, and what they held."""

    model: str
    bins: tuple[Bins, ...]
    profile: Profile
    key_check: str | None = None  # tells whether a key is the one that masked the sensitive categories

    @cached_property
    def id(self) -> str:
        """Digest of the cells: profiles with the same one may be added and compared."""
        return _bins_id(self.bins)

    def to_json(self) -> str:
        """Return the reference as JSON text, readable by `from_json` and by people."""
        return json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """Return the reference written by `to_json`.

        Raises:
            DriftError: when the text is something else, incomplete, or was changed.
        """
        try:
            return _parse(text)
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise DriftError(
                "a reference that cannot be read",
                f"JSON of format {FORMAT} as written with the version",
                "restore it from the registry, or retrain",
            ) from err


def build_reference(
    frame: pd.DataFrame, spec: ModelSpec, *, scores: Scores | None = None, key: bytes | None = None
) -> Reference:
    """Return the reference made from these rows.

    Args:
        frame: One row per event with all of spec.features; nulls allowed. Rows the model was not fitted on
            are the better reference.
        spec: The model.
        scores: The model's scores of rows it was *not* fitted on (else every later window looks drifted):
            one number per row, or one column per class. Their number may differ from the frame's rows.
        key: Secret under which sensitive categories are hashed.

    Raises:
        DriftError: without rows, without a column, with a column that holds nothing readable, or with
            sensitive categories and no key.
    """
    _check_columns(frame, spec, key)
    sensitive = set(spec.features.sensitive)
    bins = [
        *(numeric_bins(name, frame[name], masked=name in sensitive) for name in spec.features.numeric),
        *(
            category_bins(name, frame[name], key=key if name in sensitive else None)
            for name in spec.features.categorical
        ),
    ]
    pseudo = _score_columns(scores)
    bins += [numeric_bins(name, column) for name, column in pseudo.items()]
    counts = {
        cell.name: count(cell, pseudo[cell.name] if cell.name in pseudo else frame[cell.name], key=key)
        for cell in bins
    }
    profile = Profile(_bins_id(tuple(bins)), len(frame), counts)
    masked = any(cell.masked and cell.kind == "categorical" for cell in bins)
    return Reference(spec.name, tuple(bins), profile, _key_check(key) if key and masked else None)


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
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim == 2 and table.shape[1] == 2:
        table = table[:, 1]  # of two classes the second says it all
    if table.ndim == 1:
        return {SCORE: pd.Series(table)}
    return {f"{SCORE}{place}": pd.Series(table[:, place]) for place in range(table.shape[1])}


def _check_columns(frame: pd.DataFrame, spec: ModelSpec, key: bytes | None) -> None:
    if frame.empty:
        raise DriftError("no rows", "the rows the version was made from", "check the window", model=spec.name)
    missing = [name for name in spec.features.all if name not in frame.columns]
    if missing:
        raise DriftError(f"no column {missing[:5]}", "every feature of the spec", model=spec.name)
    hidden = set(spec.features.sensitive) & set(spec.features.categorical)
    if hidden and not key:
        raise DriftError(
            f"sensitive categories {sorted(hidden)[:5]} and no key to hash them under",
            "a secret key",
            "set EVERGREEN_MASK_KEY",
            model=spec.name,
        )
    for name in spec.features.all:
        numeric = name in spec.features.numeric
        read = read_numbers(frame[name]) if numeric else read_labels(frame[name])
        if read.unreadable and read.unreadable + read.nulls == read.rows:
            raise DriftError(
                f"column {name!r} of {frame[name].dtype} without one readable value",
                "numbers" if numeric else "texts, numbers, booleans or dates",
                "correct the column or its place in the spec",
                model=spec.name,
            )


def _parse(text: str) -> Reference:
    raw = json.loads(text)
    if raw["format"] != FORMAT:
        raise ValueError("another format")
    bins = tuple(Bins(**_tuples(item)) for item in raw["bins"])
    part = raw["profile"]
    counts = {name: Counts(**_tuples(item)) for name, item in part["features"].items()}
    profile = Profile(part["reference_id"], part["rows"], counts, tuple(part["absent"]))
    reference = Reference(raw["model"], bins, profile, raw["key_check"])
    if profile.reference_id != reference.id or {b.name for b in bins} != counts.keys():
        raise ValueError("cells and counts do not belong together")
    if any(len(counts[b.name].cells) != b.cells for b in bins):
        raise ValueError("cells and counts differ in number")
    return reference


def _bins_id(bins: tuple[Bins, ...]) -> str:
    text = json.dumps([asdict(cell) for cell in bins], allow_nan=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _key_check(key: bytes) -> str:
    return hmac.new(key, b"evergreen reference", hashlib.sha256).hexdigest()[:16]


def _tuples(item: dict[str, Any]) -> dict[str, Any]:  # Any: JSON values
    return {name: tuple(value) if isinstance(value, list) else value for name, value in item.items()}
